import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from anatomy import LABELS, blob_case, tiny_plan, write_blobs

import delineate
from delineate import formats
from delineate.dataset import open_dataset
from delineate.errors import DatasetError, InputError
from delineate.settings import Settings, detect
from delineate.volume import Kind
from delineate.workflow.assembling import ChannelWish, parse_channel
from delineate.workflow.choosing import Scan
from delineate.workflow.choosing import find_scans as choose
from delineate.workflow.preparing import prepare_cases
from delineate.workflow.training import Budget, Division, divide, train
from delineate.workspace import RunFolder

ANY = ChannelWish("scan", "")


def find_scans(path: Path, channels: tuple[ChannelWish, ...]) -> tuple[Scan, ...]:
    return choose(path, channels, settings=detect("cpu", threads=1, cache=path.with_name("cache"))).scans


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, cache=tmp_path / "cache")


def test_the_last_cases_are_set_aside_before_anything_else(tmp_path: Path) -> None:
    split = divide(write_blobs(tmp_path, 8), Division(fold=1, folds=3, test=2))
    assert split.held_out == ("blob_6", "blob_7")
    assert sorted((*split.training, *split.validation)) == [f"blob_{n}" for n in range(6)]
    assert "2 last cases set aside" in split.how


def test_fold_none_trains_on_everything(tmp_path: Path) -> None:
    split = divide(write_blobs(tmp_path, 4), Division(fold=None))
    assert (len(split.training), split.validation) == (4, ())


def test_a_fold_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no such fold.*expected 0 to 1, got 2"):
        divide(write_blobs(tmp_path, 4), Division(folds=2, fold=2))


def test_a_budget_is_given_once() -> None:
    with pytest.raises(InputError, match="how long to train once"):
        Budget(steps=3, epochs=2)


def test_the_clock_ends_a_run_of_given_minutes(tmp_path: Path, settings: Settings) -> None:
    """How well it keeps to them is tested with a clock of its own: a busy machine may hang at any moment."""
    data, budget = write_blobs(tmp_path / "data", 3), Budget(minutes=0.05)
    train(data, tmp_path / "m", budget=budget, division=Division(fold=None), settings=settings, plan=tiny_plan())
    facts = RunFolder(tmp_path / "m").facts()
    assert facts is not None
    assert facts.deadline_seconds == pytest.approx(3)
    assert 1 < facts.step == facts.last_step < 10_000  # the first guess
    assert facts.phases[-1].moved is not None


def test_epochs_become_steps(tmp_path: Path, settings: Settings) -> None:
    data = write_blobs(tmp_path / "data", 3)
    division = Division(hold_out=1)
    model = train(data, tmp_path / "m", budget=Budget(epochs=2), division=division, settings=settings, plan=tiny_plan())
    assert model is not None
    assert (tmp_path / "m" / "training" / "history.csv").read_text().splitlines()[-1].startswith("8,2,")


def test_a_dataset_that_changed_is_not_trained_on_further(tmp_path: Path, settings: Settings) -> None:
    data = write_blobs(tmp_path / "data", 3)
    arguments = {"division": Division(hold_out=1), "settings": settings, "plan": tiny_plan()}
    train(data, tmp_path / "m", budget=Budget(steps=2), **arguments)  # type: ignore[arg-type]
    shutil.copy(tmp_path / "data" / "labelsTr" / "blob_1.nii.gz", tmp_path / "data" / "labelsTr" / "blob_0.nii.gz")
    with pytest.raises(DatasetError, match="has changed since this run began"):
        train(data, tmp_path / "m", budget=Budget(steps=4), **arguments)  # type: ignore[arg-type]


def test_every_case_that_cannot_be_prepared_is_named(tmp_path: Path, settings: Settings) -> None:
    data = write_blobs(tmp_path, 4)
    for name in ("blob_1_0000", "blob_3_0000"):
        (tmp_path / "imagesTr" / f"{name}.nii.gz").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"(?s)2 of 4 cases cannot be used.*blob_1.*blob_3"):
        prepare_cases(data.cases, LABELS, tiny_plan(), settings)


def test_an_interrupted_preparation_goes_on_where_it_stopped(tmp_path: Path, settings: Settings) -> None:
    data = write_blobs(tmp_path / "data", 3)
    prepare_cases(data.cases[:2], LABELS, tiny_plan(), settings)
    made = {path.name: path.stat().st_mtime_ns for path in (settings.cache / "prepared").iterdir()}
    prepare_cases(data.cases, LABELS, tiny_plan(), settings)
    after = {path.name: path.stat().st_mtime_ns for path in (settings.cache / "prepared").iterdir()}
    assert len(after) == 3
    assert made.items() <= after.items()


def test_channels_of_one_case_are_found_together(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        (tmp_path / f"{name}.nii.gz").touch()
    scans = find_scans(tmp_path, (ANY, ANY))
    assert [(scan.id, len(scan.paths)) for scan in scans] == [("a", 2), ("b", 2)]


def test_a_file_without_suffix_number_is_a_case_of_its_own(tmp_path: Path) -> None:
    for name in ("liver_12", "spleen_0000", "case_2024"):
        (tmp_path / f"{name}.nii.gz").touch()
    assert [scan.id for scan in find_scans(tmp_path, (ANY,))] == ["case_2024", "liver_12", "spleen"]


def test_series_in_one_folder_get_names_of_their_own(tmp_path: Path) -> None:
    volume, _ = blob_case(0)
    for number in (1, 2):
        formats.write_dicom_series(tmp_path / str(number), volume, description=str(number))
        for file in (tmp_path / str(number)).iterdir():
            file.rename(tmp_path / f"{number}_{file.name}")
    ids = [scan.id for scan in find_scans(tmp_path, (ANY,))]
    assert len(set(ids)) == 2


def test_of_a_patients_series_only_the_models_kind_is_taken(tmp_path: Path) -> None:
    volume, _ = blob_case(0)
    formats.write_dicom_series(tmp_path / "p" / "mr", volume)
    formats.write_dicom_series(tmp_path / "p" / "ct", replace(volume, kind=Kind.CT))
    assert [scan.id for scan in find_scans(tmp_path, (parse_channel("CT"),))] == ["p_ct"]
    with pytest.raises(InputError, match="expected NIfTI files, or a DICOM series or tree with PT"):
        find_scans(tmp_path, (parse_channel("PET"),))


def test_the_python_api_goes_the_whole_way(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 3)
    plan = msgspec.structs.replace(tiny_plan(), training=msgspec.structs.replace(tiny_plan().training, steps=3))
    model = delineate.train(
        tmp_path / "data", tmp_path / "m", plan=plan, division=delineate.Division(hold_out=1), device="cpu"
    )
    volume = delineate.read(tmp_path / "data" / "imagesTr" / "blob_0_0000.nii.gz")
    again = delineate.load_model(tmp_path / "m", device="cpu").segment(volume)
    assert again.grid == volume.grid
    assert (again.array == model.segment(volume).array).all()
    assert delineate.plan(open_dataset(tmp_path / "data"), device="cpu").labels == ("core", "rim")


def test_another_case_of_the_same_patient_stays_on_its_side(tmp_path: Path) -> None:
    data = write_blobs(tmp_path, 6)
    shared = tuple(replace(case, patient_id=f"p{n // 2}") for n, case in enumerate(data.cases))
    split = divide(replace(data, cases=shared), Division(test=1, fold=0, folds=2))
    assert split.held_out == ("blob_4", "blob_5")


def test_the_python_api_exports_onto_a_series(tmp_path: Path) -> None:
    volume, blobs = blob_case(0)
    formats.write_dicom_series(tmp_path / "mr", volume)
    files = delineate.export(blobs, tmp_path / "mr", tmp_path / "out", name="p1", to=("seg", "nrrd"))
    assert [path.name for path in files] == ["p1.seg.dcm", "p1.seg.nrrd"]
    assert (tmp_path / "out" / "p1.proof.json").exists()


def test_the_python_api_scores_and_measures(tmp_path: Path) -> None:
    volume, blobs = blob_case(0)
    formats.write_segmentation(tmp_path / "references" / "p1.nii.gz", blobs)
    result = delineate.evaluate(tmp_path / "references", tmp_path / "references", tmp_path / "scores")
    assert result.case_dice == {"p1": 1.0}
    found = delineate.measure(blobs, volume, lesions=["core"])
    assert [lesion.label.name for lesion in found.lesions] == ["core"]
