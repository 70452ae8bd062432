"""Scans that lack a channel: planned, prepared, trained on, segmented; or refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from anatomy import LABELS, blob_case, tiny_plan

from delineate import formats
from delineate.dataset import Dataset, check_files, digest, from_csv, open_dataset, write_dataset_json
from delineate.errors import DatasetError, InputError
from delineate.fingerprint import measure_case
from delineate.planning import AugmentationPlan, ClipZScore, Plan, Window
from delineate.preprocessing import blank_values, find_box, prepare
from delineate.settings import Settings, detect
from delineate.volume import Kind, Volume, with_absent
from delineate.workflow.predicting import predict
from delineate.workflow.preparing import plan_dataset, prepare_cases
from delineate.workflow.structures import read_image
from delineate.workflow.training import Budget, Division, train


def two_channels(dropout: float) -> Plan:
    one = tiny_plan()
    return tiny_plan(
        channels=("T1", "T2"),
        kinds=(Kind.MR, Kind.MR),
        normalisation=one.normalisation * 2,
        augmentation=AugmentationPlan(channel_dropout=dropout),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, cache=tmp_path / "cache")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Four patients with T1 and T2; the second has no T2, the third no T1."""
    folder = tmp_path / "data"
    for seed in range(4):
        volume, reference = blob_case(seed)
        inverted = replace(volume, array=400 - volume.array)
        for channel, image in enumerate((volume, inverted)):
            if (seed, channel) not in ((1, 1), (2, 0)):
                formats.write_volume(folder / "imagesTr" / f"p{seed}_{channel:04d}.nii.gz", image)
        formats.write_segmentation(folder / "labelsTr" / f"p{seed}.nii.gz", reference)
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "core": 1, "rim": 2},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return open_dataset(folder)


def test_files_that_are_not_there_are_absent_channels_and_named(data: Dataset) -> None:
    assert [case.absent for case in data.cases] == [(), (1,), (0,), ()]
    assert [len(case.images) for case in data.cases] == [2, 1, 1, 2]
    found = [(p.case, p.severity, p.what) for p in check_files(data)]
    assert found == [("p1", "warning", "channel T2 is not there"), ("p2", "warning", "channel T1 is not there")]


def test_dataset_json_keeps_them(data: Dataset, tmp_path: Path) -> None:
    write_dataset_json(tmp_path / "data", data)
    again = open_dataset(tmp_path / "data")
    assert again.cases == data.cases
    assert digest(again) == digest(data)


def test_an_empty_cell_of_a_table_is_an_absent_channel(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,image2,label\n,b1.nii,l.nii\na2.nii,b2.nii,m.nii\n")
    cases = from_csv(tmp_path / "t.csv", LABELS, channels=("T1", "T2")).cases
    assert [(case.absent, [path.name for path in case.images]) for case in cases] == [
        ((0,), ["b1.nii"]),
        ((), ["a2.nii", "b2.nii"]),
    ]


def test_a_channel_keeps_its_place_when_the_one_before_is_absent(data: Dataset) -> None:
    image, alone = read_image(data.cases[2], data.kinds), blob_case(2)[0]
    assert (image.channels, image.absent) == (2, (0,))
    assert not image.array[0].any()
    np.testing.assert_allclose(image.array[1], 400 - alone.array[0], atol=0.1)


def test_what_is_absent_says_nothing_of_where_the_patient_is() -> None:
    """An absent CT must not read as 0 HU, which is tissue."""
    array = np.zeros((2, 6, 5, 4), np.float32)
    array[1, 2:4, 1:3, 1:] = 9
    volume, _ = blob_case(0, shape=(6, 5, 4))
    volume = Volume(array, volume.grid, absent=(0,))
    plan = msgspec.structs.replace(two_channels(0.2), kinds=(Kind.CT, Kind.PET))
    assert find_box(volume, plan).start == (2, 1, 1)
    measured = measure_case("a", volume, None, plan.kinds)
    assert np.isnan(measured.samples[0]).all()
    assert (measured.samples[1] == 9).all()
    assert measured.fingerprint.foreground_shape != volume.grid.shape


def test_it_is_filled_with_the_mean_or_the_windows_end() -> None:
    hounsfield = ClipZScore(lower=-900, upper=300, mean=40, std=60)
    plan = two_channels(0.2)
    plan = msgspec.structs.replace(plan, normalisation=(hounsfield, Window(lower=-57, upper=164, to_lower=-1)))
    assert blank_values(plan) == (0, -1)
    volume, reference = blob_case(1)
    for absent, blank in ((0, 0), (1, -1)):
        prepared = prepare("a", with_absent(volume, (absent,)), reference, plan)
        assert (prepared.image[absent] == blank).all()
        assert prepared.image[1 - absent].std() > 0


def test_training_refuses_cases_that_lack_a_channel_unless_channels_are_dropped(
    data: Dataset, settings: Settings
) -> None:
    with pytest.raises(DatasetError, match=r"(?s)2 of 4 cases.*got no T2.*case p1.*--channel-dropout.*case p2"):
        prepare_cases(data.cases, LABELS, two_channels(0.0), settings)
    images = [case.image for case in prepare_cases(data.cases, LABELS, two_channels(0.3), settings)]
    assert [bool(image[1].any()) for image in images] == [True, False, True, True]
    with pytest.raises(DatasetError, match="2 of 4 cases"):  # though they lie in the cache now
        prepare_cases(data.cases, LABELS, two_channels(0.0), settings)


def test_a_dataset_with_absent_channels_is_planned(data: Dataset, settings: Settings) -> None:
    assert plan_dataset(data, settings).channels == ("T1", "T2")


def test_scans_without_a_channel_are_segmented_by_a_model_that_was_trained_so(
    data: Dataset, settings: Settings, tmp_path: Path
) -> None:
    model = train(
        data,
        tmp_path / "model",
        budget=Budget(steps=2),
        division=Division(fold=None),
        settings=settings,
        plan=two_channels(0.3),
    )
    assert model is not None
    scans = tmp_path / "scans"
    for channel, case in ((0, "a"), (1, "b")):
        formats.write_volume(scans / f"{case}_{channel:04d}.nii.gz", blob_case(5)[0])
    run = predict(model, scans, tmp_path / "out", settings=settings)
    assert [path.name for path in run.written] == ["a.nii.gz", "b.nii.gz"]
    assert run.warnings[0] == "a: Channel T2 was not there; the model was trained to do without."
    refused = predict(replace(model, plan=two_channels(0.0)), scans, tmp_path / "other", settings=settings)
    assert [failure.case for failure in refused.failures] == ["a", "b"]
    assert "expected T1, T2, got no T1 (case b" in str(refused.failures[1].error)


def test_in_memory_too_a_channel_can_be_absent_only_if_the_plan_drops_channels() -> None:
    volume = with_absent(blob_case(0)[0], (1,))
    with pytest.raises(InputError, match=r"a channel is not there.*expected T1, T2, got no T2 \(case x"):
        prepare("x", volume, None, two_channels(0.0))
