"""Batches of scans: what is written, what its record says, what ends one case and what ends nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from anatomy import LABELS, blob_case, tiny_plan
from test_model import PROVENANCE, tiny_model

from delineate import formats, inference
from delineate.errors import DelineateError, InputError, PlanError, ResourceError
from delineate.files import temporary_name
from delineate.labels import LabelSet, label_set
from delineate.model import Model, with_tiling
from delineate.planning import Region
from delineate.settings import Settings, detect
from delineate.training import start
from delineate.workflow import scratch
from delineate.workflow.batches import CaseReport, Phase
from delineate.workflow.casework import in_case
from delineate.workflow.choosing import Scan, absent_channels
from delineate.workflow.evaluating import evaluate
from delineate.workflow.predicting import Batch, PredictionOptions, predict
from delineate.workflow.results import ResultRecord, read_record, read_result

REGIONS = (Region(name="all", values=(1, 2), paints=1), Region(name="core", values=(2,), paints=2))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, memory_gb=4, cache=tmp_path / "cache")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.nii.gz", "b.nii", "c.nii.gz")):
        volume = blob_case(number)[0]
        formats.write_volume(tmp_path / "scans" / name, replace(volume, array=volume.array.astype(np.int16)))
    return tmp_path / "scans"


def region_model() -> Model:
    plan = tiny_plan(labels=("all", "core"), regions=REGIONS)
    labels = LabelSet(label_set({1: "all", 2: "core"}).labels, overlaps=True)
    return Model(start(plan).average, plan, labels, PROVENANCE)


def record_of(path: Path) -> ResultRecord:
    record = read_record(path)
    assert record is not None
    return record


def test_results_are_those_of_the_scans_one_by_one(scans: Path, tmp_path: Path, settings: Settings) -> None:
    model = tiny_model()
    run = predict(model, scans, tmp_path / "out", settings=settings)
    assert [path.name for path in run.written] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    for path, source in zip(run.written, sorted(scans.iterdir()), strict=True):
        alone = inference.segment(model, formats.read_volume(source)).segmentation
        np.testing.assert_array_equal(formats.read_segmentation(path, LABELS).array, alone.array)


def test_the_record_says_what_made_the_result(scans: Path, tmp_path: Path, settings: Settings) -> None:
    options = PredictionOptions(precision="bfloat16", engine="torch")
    predict(tiny_model(), scans / "a.nii.gz", tmp_path / "out", settings=settings, options=options)
    record = record_of(tmp_path / "out" / "a.nii.gz")
    assert (record.engine, record.precision, record.device) == ("torch", "bfloat16", "cpu")
    assert record.windows is not None
    assert record.windows[0] > 1
    assert {"read", "segment", "network", "write"} <= record.stages.keys()
    assert record.stages["network"] <= record.stages["segment"] <= record.seconds
    assert record.memory_estimate is not None
    assert record.memory_peak is not None
    assert 0.5 < record.memory_peak / record.memory_estimate < 2


def test_mapped_arrays_change_nothing(
    scans: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(tiny_model(), scans, tmp_path / "plain", settings=settings)
    monkeypatch.setattr(scratch, "_SHARE", settings.memory_bytes // 1000)
    predict(tiny_model(), scans, tmp_path / "mapped", settings=settings)
    for path in (tmp_path / "plain").glob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "mapped" / path.name).read_bytes()
    assert list(settings.scratch.iterdir()) == []


def test_scans_that_are_prepared_ahead_give_the_same(scans: Path, settings: Settings) -> None:
    model, volume = tiny_model(), formats.read_volume(scans / "a.nii.gz")
    scan = inference.prepare_scan(model, volume, inference.InferenceOptions())
    found, expected = (inference.segment(model, one).label_map for one in (scan, volume))
    np.testing.assert_array_equal(found, expected)


def test_regions_are_painted_in_the_map_and_overlap_elsewhere(scans: Path, tmp_path: Path, settings: Settings) -> None:
    model = region_model()
    options = PredictionOptions(exports=("nrrd",))
    predict(model, scans / "a.nii.gz", tmp_path / "out", settings=settings, options=options)
    path = tmp_path / "out" / "a.nii.gz"
    record = record_of(path)
    assert record.regions == {"all": [1, 2], "core": [2]}
    painted = formats.read_label_values(path)[0]
    found = read_result(path, record)
    np.testing.assert_array_equal(found.mask("all"), painted > 0)
    np.testing.assert_array_equal(found.mask("core"), painted == 2)
    assert record.volumes_ml["all"] == pytest.approx((painted > 0).sum() * found.grid.voxel_volume_ml, abs=1e-3)
    assert (tmp_path / "out" / "a.seg.nrrd").exists()


def test_regions_are_scored_as_regions(scans: Path, tmp_path: Path, settings: Settings) -> None:
    predict(region_model(), scans / "a.nii.gz", tmp_path / "out", settings=settings)
    shutil.copy(tmp_path / "out" / "a.nii.gz", tmp_path / "a.nii.gz")
    scored = evaluate(tmp_path / "a.nii.gz", tmp_path / "out" / "a.nii.gz", settings=settings)
    found = {row.name: row.dice for row in scored.rows}
    assert set(found) == {"all", "core"}
    assert {dice for dice in found.values() if not np.isnan(dice)} == {1.0}


def test_memory_that_does_not_suffice_ends_the_case_before_anything_is_run(
    scans: Path, tmp_path: Path, settings: Settings
) -> None:
    run = predict(tiny_model(), scans, tmp_path / "out", settings=replace(settings, memory_bytes=10_000_000))
    assert run.written == ()
    assert [failure.case for failure in run.failures] == ["a", "b", "c"]
    assert re.search(r"needs more memory than may be used.*--memory-gb", str(run.failures[0].error))


def test_what_a_scan_needs_is_told_before_it_is_run(scans: Path, tmp_path: Path, settings: Settings) -> None:
    heard: list[CaseReport] = []
    Batch(tiny_model(), settings, PredictionOptions(), hear=heard.append).run(scans, tmp_path / "out")
    phases = [report.phase for report in heard if report.case == "b"]
    assert phases == [Phase.READING, Phase.SEGMENTING, Phase.WRITING, Phase.WRITTEN]
    needs = [report.needs for report in heard if report.phase is Phase.SEGMENTING]
    assert len(needs) == 3
    assert all(re.fullmatch(r"torch float32 \(.+\); needs about \d\.\d GB of 4\.0 GB", str(one)) for one in needs)


def test_doubts_are_warnings_and_stay_in_the_record(tmp_path: Path, settings: Settings) -> None:
    volume = blob_case(0)[0]
    formats.write_volume(tmp_path / "flat.nii.gz", replace(volume, array=np.full_like(volume.array, 7)))
    run = predict(tiny_model(), tmp_path / "flat.nii.gz", tmp_path / "out", settings=settings)
    assert run.warnings[0] == "flat: Channel MR holds nothing but the value 7."
    assert record_of(run.written[0]).doubts[0] == "Channel MR holds nothing but the value 7."


def test_what_a_killed_run_was_doing_is_told_and_swept(scans: Path, tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "out").mkdir()
    mine = temporary_name(tmp_path / "out" / "cases.journal")
    dead = mine.with_name(re.sub(r"-\d+\.partial", "-1000000000.partial", mine.name))
    dead.write_bytes(msgspec.json.encode(("b", Phase.SEGMENTING)) + b"\n")
    run = predict(tiny_model(), scans, tmp_path / "out", settings=settings)
    assert run.cut_off == ("b was being segmented when the last run was cut off",)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_is_known_before_the_network_runs(
    scans: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    heard: list[CaseReport] = []
    run = Batch(tiny_model(), settings, PredictionOptions(), hear=heard.append).run(scans, tmp_path / "out")
    assert len(run.failures) == 3
    assert "the disk has no room for the result" in str(run.failures[0].error)
    assert Phase.SEGMENTING not in {report.phase for report in heard}


def test_an_engine_that_is_not_there_is_refused_before_scans_are_read(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ResourceError, match="no such engine"):
        predict(
            tiny_model(), tmp_path / "nothing", tmp_path, settings=settings, options=PredictionOptions(engine="abacus")
        )


def test_a_look_without_anything_to_look_with_is_refused_before_scans_are_read(
    tmp_path: Path, settings: Settings
) -> None:
    options = PredictionOptions(locate=inference.Locate())
    with pytest.raises(PlanError, match="no first stage to look with"):
        predict(tiny_model(), tmp_path / "nothing", tmp_path, settings=settings, options=options)


def test_channels_that_the_model_does_not_have_are_no_further_cases(tmp_path: Path, settings: Settings) -> None:
    for name in ("p_0000", "p_0001"):
        formats.write_volume(tmp_path / "scans" / f"{name}.nii.gz", blob_case(0)[0])
    run = predict(tiny_model(), tmp_path / "scans", tmp_path / "out", settings=settings)
    assert [failure.case for failure in run.failures] == ["p"]
    assert "expected _0000 (MR), got p_0000.nii.gz, p_0001.nii.gz (case p" in str(run.failures[0].error)


def test_missing_channels_are_named_before_anything_is_read(tmp_path: Path) -> None:
    scan = Scan("p", (tmp_path / "p_0000.nii.gz", tmp_path / "p_0002.nii.gz"))
    with pytest.raises(InputError, match=r"expected _0000 \(CT\), _0001 \(PET\), got p_0000.nii.gz, p_0002.nii.gz"):
        absent_channels(scan, ("CT", "PET"))
    assert absent_channels(Scan("p_0003", (tmp_path / "p_0003.nii.gz",)), ("CT",)) == ()
    assert absent_channels(Scan("p", (tmp_path / "p_0001.nii.gz",)), ("CT", "PET", "MR")) == (0, 2)


def fail(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        with in_case("a"):
            raise error

    return raise_it


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (MemoryError(), r"not enough memory \(case a\)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "not enough memory",
        ),
        (OSError(5, "Input/output error", "/net/a.nii"), r"refused: Input/output error \(case a, /net/a.nii\)"),
    ],
)
def test_what_the_system_refuses_ends_a_case(error: Exception, match: str) -> None:
    with pytest.raises(DelineateError, match=match):
        fail(error)()


def test_mistakes_of_the_program_are_passed_on() -> None:
    with pytest.raises(RuntimeError, match="shape mismatch"):
        fail(RuntimeError("shape mismatch"))()


def test_tiling_is_that_of_all_stages() -> None:
    model = replace(tiny_model(), previous=tiny_model(), overlays=(tiny_model(),))
    tiled = with_tiling(model, overlap=0.25)
    assert {stage.plan.tiling.overlap for stage in (tiled, *tiled.stages.values())} == {0.25}
