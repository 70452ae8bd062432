"""Exports: every format comes back as it was meant, and one that does not leaves nothing."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from anatomy import blob_case

from delineate import formats
from delineate.errors import ExportError, LabelError, UnreadableImage
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.exporters import EXPORTERS, ExportOptions, ReadBack, file_names
from delineate.geometry import Grid
from delineate.labels import LabelSet, label_set
from delineate.volume import Segmentation, align, reorient
from delineate.workflow.exporting import compared, export, export_file
from delineate.workflow.proofs import read_proofs

VOLUME, BLOBS = blob_case(5)


@pytest.fixture
def series(tmp_path: Path) -> tuple[Segmentation, ExportOptions]:
    """A segmentation on the grid of a series on disk, and that series."""
    formats.write_dicom_series(tmp_path / "mr", VOLUME, patient_id="SECRET", patient_name="Secret^Patient", seed="x")
    stack = formats.stack_at(tmp_path / "mr")
    return align(BLOBS, stack.grid), ExportOptions(sources=tuple(slice_.path for slice_ in stack.slices))


@pytest.mark.parametrize("kind", EXPORTERS)
@pytest.mark.parametrize("orientation", ["LPS", "IRA"])
def test_every_format_proves_itself(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str, orientation: str
) -> None:
    segmentation, options = series
    (path,) = export(reorient(segmentation, orientation), tmp_path / "out" / "r", [kind], options=options)
    (proof,) = json.loads((tmp_path / "out" / "r.proof.json").read_text())
    assert (proof["file"], proof["format"]) == (path.name, kind)
    assert [one["structure"] for one in proof["structures"]] == ["core", "rim"]
    assert min(one["dice"] for one in proof["structures"]) >= 0.999


@pytest.mark.parametrize("kind", EXPORTERS)
def test_an_empty_structure_is_no_failure(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str
) -> None:
    segmentation, options = series
    array = np.where(segmentation.array == 2, segmentation.array, 0).astype(np.uint8)
    export(replace(segmentation, array=array), tmp_path / "r", [kind], options=options)
    (proof,) = json.loads((tmp_path / "r.proof.json").read_text())
    assert [one["found_ml"] > 0 for one in proof["structures"]] == [False, True]


@pytest.mark.parametrize("kind", sorted(EXPORTERS))
def test_what_comes_back_otherwise_is_deleted(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation, options = series
    honest = EXPORTERS[kind]

    def flipped(path: Path, expected: Segmentation) -> ReadBack:
        found = honest.read(path, expected).segmentation
        assert found is not None
        return ReadBack(replace(found, array=np.flip(found.array, -1)), found.grid)

    monkeypatch.setitem(EXPORTERS, kind, replace(honest, read=flipped))
    with pytest.raises(ExportError, match=r"(core|rim) did not come back as it was written: .*centroid"):
        export(segmentation, tmp_path / "out" / "r", [kind], options=options)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", ["seg", "rtstruct", "stl"])
def test_overlapping_structures_are_exported(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str
) -> None:
    segmentation, options = series
    masks = np.stack([segmentation.array == 1, segmentation.array > 0])
    overlapping = replace(segmentation, array=masks, labels=LabelSet(segmentation.labels.labels, overlaps=True))
    export(overlapping, tmp_path / "r", [kind], options=options)
    (proof,) = json.loads((tmp_path / "r.proof.json").read_text())
    assert proof["structures"][1]["volume_ml"] > proof["structures"][0]["volume_ml"]


def test_smoothed_surfaces_keep_their_volume(tmp_path: Path, series: tuple[Segmentation, ExportOptions]) -> None:
    segmentation, _ = series
    export(segmentation, tmp_path / "r", ["glb"], options=ExportOptions(smooth=15, simplify=0.5))
    (proof,) = json.loads((tmp_path / "r.proof.json").read_text())
    assert proof["most_volume_error"] == 0.01


@pytest.mark.parametrize(
    ("kinds", "match"),
    [
        (["docx"], "unknown format: expected one of nifti, nrrd"),
        (["seg"], "seg needs the DICOM series"),
    ],
)
def test_what_cannot_be_exported_is_said_first(tmp_path: Path, kinds: list[str], match: str) -> None:
    with pytest.raises(ExportError, match=match):
        export(BLOBS, tmp_path / "r", kinds)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_a_key_makes_exports_pseudonymous(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str
) -> None:
    segmentation, options = series
    key = PseudonymKey(bytes(range(32)))
    (path,) = export(segmentation, tmp_path / "r", [kind], options=options, key=key)
    dataset, source = pydicom.dcmread(path), pydicom.dcmread(options.sources[0])
    assert str(dataset.PatientName) == dataset.PatientID != "SECRET"
    assert dataset.StudyInstanceUID == key.uid(source.StudyInstanceUID)
    content = path.read_bytes()
    assert source.SOPInstanceUID.encode() not in content
    assert key.uid(source.SeriesInstanceUID).encode() in content
    assert b"SECRET" not in content.upper()


def test_a_report_repeats_the_volumes(tmp_path: Path, series: tuple[Segmentation, ExportOptions]) -> None:
    segmentation, options = series
    files = export(segmentation, tmp_path / "r", ["seg", "sr"], options=options)
    assert [path.name for path in files] == ["r.seg.dcm", "r.sr.dcm"]
    proof = json.loads((tmp_path / "r.proof.json").read_text())[1]
    voxels = np.count_nonzero(segmentation.array == 1)
    assert proof["structures"][0]["found_ml"] == pytest.approx(voxels * 0.9 * 1.2 * 2.5 / 1000)


def test_a_report_needs_its_segments(tmp_path: Path, series: tuple[Segmentation, ExportOptions]) -> None:
    segmentation, options = series
    with pytest.raises(ExportError, match="expected seg before sr, got sr"):
        export(segmentation, tmp_path / "r", ["sr"], options=options)


def test_a_shift_below_a_voxel_is_noticed(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = EXPORTERS["nrrd"]

    def shifted(path: Path, expected: Segmentation) -> ReadBack:
        found = honest.read(path, expected).segmentation
        assert found is not None
        affine = found.grid.affine.copy()
        affine[0, 3] += 0.05
        grid = Grid(found.grid.shape, affine)
        return ReadBack(replace(found, grid=grid), grid)

    monkeypatch.setitem(EXPORTERS, "nrrd", replace(honest, read=shifted))
    with pytest.raises(ExportError, match=r"Dice 1\.0000, .* centroid 0\.05 mm off"):
        export(series[0], tmp_path / "r", ["nrrd"])


ALL_KINDS = (*EXPORTERS, "sr")


@pytest.mark.parametrize("kind", EXPORTERS)
@pytest.mark.parametrize(
    "names", [("a b", "a_b"), ("a/b", "a:b"), ("Liver", "liver"), ("x  y", "x y_2"), ("Ödem, <&>", "肝\u3000腫瘍")]
)
def test_names_that_files_hold_alike_stay_apart(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str, names: tuple[str, str]
) -> None:
    segmentation, options = series
    export(replace(segmentation, labels=label_set(dict(enumerate(names, 1)))), tmp_path / "r", [kind], options=options)
    (proof,) = read_proofs(tmp_path / "r")
    assert [(one.structure, one.dice) for one in proof.structures] == [(name, 1.0) for name in names]


def test_file_names_are_short_plain_and_different_in_any_case() -> None:
    names = ["../x", "..", "Leber", "leber", "a\u0308", "ä", "b" * 300, "b" * 301]
    found = file_names(names)
    assert len({stem.casefold() for stem in found.values()}) == len(names)
    assert all(len(stem.encode()) <= 130 and not stem.startswith(".") and "/" not in stem for stem in found.values())


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb"])
def test_names_that_nothing_can_hold_are_refused_first(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str, name: str
) -> None:
    segmentation, options = series
    kinds = ["nifti", "seg", kind]
    with pytest.raises(ExportError, match=r"a (structure's )?name that .* cannot hold"):
        export(replace(segmentation, labels=label_set({1: "core", 2: name})), tmp_path / "r", kinds, options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["mr"]


@pytest.mark.parametrize("kind", [kind for kind in EXPORTERS if not EXPORTERS[kind].is_dicom])
def test_only_dicom_minds_long_names(tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str) -> None:
    segmentation, options = series
    named = replace(segmentation, labels=label_set({1: "x" * 300, 2: "x" * 299}))
    export(named, tmp_path / "r", [kind], options=options)
    with pytest.raises(ExportError, match="a name that DICOM cannot hold: expected 1 to 64"):
        export(named, tmp_path / "s", [kind, "rtstruct"], options=options)
    assert not list(tmp_path.glob("s*"))


@pytest.mark.parametrize("kind", EXPORTERS)
def test_finding_nothing_is_a_result(tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str) -> None:
    segmentation, options = series
    nothing = replace(segmentation, array=np.zeros_like(segmentation.array))
    (path,) = export(nothing, tmp_path / "r", [kind], options=options)
    assert path.exists()
    assert [one.found_ml for one in read_proofs(tmp_path / "r")[0].structures] == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["masks", "nrrd", "seg", "rtstruct", "obj"])
def test_voxels_far_apart_in_overlapping_masks(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str
) -> None:
    segmentation, options = series
    masks = np.zeros((3, *segmentation.grid.shape), dtype=bool)
    masks[0] = True
    masks[1, 0, 0, 0] = masks[1, -1, -1, -1] = masks[1, 7, 3, 5] = True
    labels = label_set({1: "all", 2: "corners", 300: "empty"}, overlaps=True)
    export(replace(segmentation, array=masks, labels=labels), tmp_path / "r", [kind], options=options)
    assert read_proofs(tmp_path / "r")[0].structures[1].found_ml == pytest.approx(3 * 0.0027, rel=1e-4)


def test_overlap_and_unlabelled_voxels_are_said_first(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions]
) -> None:
    segmentation, options = series
    labels = LabelSet(segmentation.labels.labels, overlaps=True)
    masks = np.stack([segmentation.array > 0, segmentation.array == 1])
    with pytest.raises(ExportError, match=r"nifti: overlapping .* Export masks, seg"):
        export(replace(segmentation, array=masks, labels=labels), tmp_path / "r", ["seg", "nifti"], options=options)
    with pytest.raises(LabelError, match=r"values that have no label: .* got 2 \(\d+ voxels\)"):
        export(replace(segmentation, labels=label_set({1: "core"})), tmp_path / "r", ["seg"], options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["mr"]


@pytest.mark.parametrize("kind", ["stl", "obj", "glb", "3mf"])
def test_surfaces_are_measured_as_surfaces(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation, options = series
    scattered = np.uint8(1) * (np.random.default_rng(0).random(segmentation.grid.shape) < 0.5)
    export(replace(segmentation, array=scattered), tmp_path / "r", [kind], options=replace(options, smooth=10))
    honest = EXPORTERS[kind]

    def swollen(path: Path, expected: Segmentation) -> ReadBack:
        found = honest.read(path, expected)
        return replace(found, volumes_ml={name: 1.02 * ml for name, ml in found.volumes_ml.items()})

    monkeypatch.setitem(EXPORTERS, kind, replace(honest, read=swollen))
    with pytest.raises(ExportError, match=r"core did not come back.* got Dice 1\.0000"):
        export(segmentation, tmp_path / "s", [kind], options=options)


def test_proofs_stand_for_the_files_that_are_there(tmp_path: Path, series: tuple[Segmentation, ExportOptions]) -> None:
    segmentation, options = series
    export(segmentation, tmp_path / "r", ["seg", "stl", "nrrd", "nifti"], options=options)
    (tmp_path / "r.nii.gz").unlink()
    (tmp_path / "r_stl" / "rim.stl").unlink()
    before = {proof.format: proof.sha256 for proof in read_proofs(tmp_path / "r")}
    export(segmentation, tmp_path / "r", ["seg", "seg"], options=options)
    after = {proof.format: proof.sha256 for proof in read_proofs(tmp_path / "r")}
    assert sorted(after) == ["nrrd", "seg"]
    assert after["nrrd"] == before["nrrd"]
    assert after["seg"] != before["seg"]


def test_what_was_proven_stays_when_a_later_format_fails(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
        path.write_bytes(b"half")
        raise ExportError("no more ink", path=path)

    segmentation, options = series
    export(segmentation, tmp_path / "r", ["glb"], options=options)
    monkeypatch.setitem(EXPORTERS, "glb", replace(EXPORTERS["glb"], write=fails))
    with pytest.raises(ExportError, match=r"no more ink \(.*/r\.glb\)"):
        export(segmentation, tmp_path / "r", ["nrrd", "glb"], options=options)
    assert [proof.file for proof in read_proofs(tmp_path / "r")] == ["r.glb", "r.seg.nrrd"]
    assert sorted(path.name for path in tmp_path.glob("*r*")) == ["mr", "r.glb", "r.proof.json", "r.seg.nrrd"]


def test_a_report_does_not_lose_its_segments(tmp_path: Path, series: tuple[Segmentation, ExportOptions]) -> None:
    segmentation, options = series
    export(segmentation, tmp_path / "r", ["seg", "sr"], options=options)
    before = (tmp_path / "r.seg.dcm").read_bytes()
    with pytest.raises(ExportError, match=r"an older report refers to the segments .*r\.sr\.dcm\)\. Export sr as well"):
        export(segmentation, tmp_path / "r", ["seg"], options=options)
    assert (tmp_path / "r.seg.dcm").read_bytes() == before
    export(segmentation, tmp_path / "r", ["seg", "sr"], options=options)
    report, seg = (pydicom.dcmread(tmp_path / f"r.{kind}.dcm") for kind in ("sr", "seg"))
    assert seg.SOPInstanceUID in str(report)


@pytest.mark.parametrize("pseudonymous", [False, True])
def test_series_that_moved_away_are_named(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], pseudonymous: bool
) -> None:
    segmentation, options = series
    key = PseudonymKey(bytes(range(32))) if pseudonymous else None
    (tmp_path / "mr").rename(tmp_path / "elsewhere")
    with pytest.raises(UnreadableImage, match=r"there is no such file \(.*/mr/slice_0001\.dcm\)"):
        export(segmentation, tmp_path / "r", ["seg"], options=options, key=key)


def test_objects_of_one_series_are_different_and_dated(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions]
) -> None:
    segmentation, options = series
    kinds = ["seg", "labelmap-seg", "rtstruct", "sr"]
    files = [path for name in "rs" for path in export(segmentation, tmp_path / name, kinds, options=options)]
    objects = [pydicom.dcmread(path) for path in files]
    assert len({dataset.SOPInstanceUID for dataset in objects}) == len({d.SeriesInstanceUID for d in objects}) == 8
    assert {dataset.StudyInstanceUID for dataset in objects} == {pydicom.dcmread(options.sources[0]).StudyInstanceUID}
    days = {dataset.get("StructureSetDate") or dataset.ContentDate for dataset in objects}
    assert all(datetime.now() - datetime.strptime(day, "%Y%m%d") < timedelta(days=2) for day in days)
    assert all(dataset.SeriesNumber > 1000 and dataset.InstanceNumber == 1 for dataset in objects)


@pytest.fixture
def today(series: tuple[Segmentation, ExportOptions]) -> tuple[Segmentation, ExportOptions]:
    """As `series`, taken today, of a patient whose name is a word of the standard's as well."""
    for path in series[1].sources:
        dataset = pydicom.dcmread(path)
        dataset.StudyDate, dataset.PatientName = datetime.now().strftime("%Y%m%d"), "Image^Geheim"
        dataset.save_as(path)
    return series


def test_a_scan_of_today_is_pseudonymous_without_dates(
    tmp_path: Path, today: tuple[Segmentation, ExportOptions]
) -> None:
    segmentation, options = today
    key = PseudonymKey(bytes(range(32)))
    kinds = ["seg", "labelmap-seg", "rtstruct", "sr"]
    for path in export(segmentation, tmp_path / "r", kinds, options=options, key=key):
        assert datetime.now().strftime("%Y%m%d").encode() not in path.read_bytes()
        assert pydicom.dcmread(path).InstanceCreationDate == "19000101"


def test_names_that_give_the_patient_away_are_refused(
    tmp_path: Path, today: tuple[Segmentation, ExportOptions]
) -> None:
    segmentation, options = today
    key = PseudonymKey(bytes(range(32)))
    named = replace(segmentation, labels=label_set({1: "core", 2: "tumor geheim"}))
    with pytest.raises(ExportError, match="the name of structure 2 gives the patient away: got text of PatientName"):
        export(named, tmp_path / "r", ["nifti"], options=options, key=key)
    with pytest.raises(ExportError, match="the name of the files gives the patient away: got text of PatientID"):
        export(segmentation, tmp_path / "secret", ["nifti"], options=options, key=key)
    assert [path.name for path in tmp_path.iterdir()] == ["mr"]


@pytest.mark.parametrize("kind", ["seg", "rtstruct", "sr"])
def test_an_identifier_in_an_object_fails_its_export(
    tmp_path: Path, today: tuple[Segmentation, ExportOptions], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation, options = today
    writer = "write_sr" if kind == "sr" else f"write_{kind}"
    module = "delineate.workflow.exporting" if kind == "sr" else "delineate.formats.exporters"
    monkeypatch.setattr(f"{module}.{writer}", leaking(getattr(importlib.import_module(module), writer)))
    with pytest.raises(ExportError, match=rf"identifying text .* PatientName in StationName .*/r\.{kind}\.dcm"):
        export(segmentation, tmp_path / "r", ["seg", kind], options=options, key=PseudonymKey(bytes(range(32))))
    assert not (tmp_path / f"r.{kind}.dcm").exists()


def leaking(write: Callable[..., None]) -> Callable[..., None]:
    def leaks(path: Path, *arguments: object, **options: object) -> None:
        write(path, *arguments, **options)
        dataset = pydicom.dcmread(path)
        dataset.StationName = "of geheim"
        dataset.save_as(path)

    return leaks


@pytest.mark.parametrize("kind", ["masks", "stl", "obj", "glb", "3mf"])
def test_overlapping_masks_are_read_one_by_one(
    tmp_path: Path, series: tuple[Segmentation, ExportOptions], kind: str
) -> None:
    segmentation, options = series
    masks = np.stack([segmentation.array == 1, segmentation.array > 0, segmentation.array > 9])
    labels = label_set({1: "core", 2: "both", 3: "none"}, overlaps=True)
    overlapping = replace(segmentation, array=masks, labels=labels)
    EXPORTERS[kind].write(tmp_path / f"r{EXPORTERS[kind].suffix}", overlapping, options)
    found = EXPORTERS[kind].read(tmp_path / f"r{EXPORTERS[kind].suffix}", overlapping)
    assert found.segmentation is None
    assert all(np.array_equal(mask, overlapping.mask(name)) for name, mask in found.masks())
    assert [proof.dice for proof in compared(overlapping, found)] == [1.0, 1.0, 1.0]


def test_an_interpolated_series_gets_its_segmentation(tmp_path: Path) -> None:
    files = formats.write_dicom_series(tmp_path / "mr", VOLUME, seed="x")
    files[4].unlink()
    stack = formats.stack_at(tmp_path / "mr", repair=formats.Repair.INTERPOLATE)
    formats.write_segmentation(tmp_path / "p.nii.gz", align(BLOBS, stack.grid))
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "MR"}, "labels": {"core": 1, "rim": 2}}')
    options: Any = {"label_file": tmp_path / "dataset.json", "repair": "interpolate"}
    (path,) = export_file(tmp_path / "p.nii.gz", tmp_path / "mr", tmp_path / "out", ["seg"], **options)
    assert np.count_nonzero(read_seg(path).segmentation.array) == np.count_nonzero(BLOBS.array)
