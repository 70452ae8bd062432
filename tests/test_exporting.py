"""Exports: every format comes back as it was meant, and one that does not leaves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from anatomy import blob_case

from delineate import formats
from delineate.errors import ExportError
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.exporters import EXPORTERS, ExportOptions
from delineate.geometry import Grid
from delineate.labels import LabelSet
from delineate.volume import Segmentation, align, reorient
from delineate.workflow.exporting import export

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

    def flipped(path: Path, expected: Segmentation) -> Segmentation:
        found = honest.read(path, expected)
        return replace(found, array=np.flip(found.array, -1))

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

    def shifted(path: Path, expected: Segmentation) -> Segmentation:
        found = honest.read(path, expected)
        affine = found.grid.affine.copy()
        affine[0, 3] += 0.05
        return replace(found, grid=Grid(found.grid.shape, affine))

    monkeypatch.setitem(EXPORTERS, "nrrd", replace(honest, read=shifted))
    with pytest.raises(ExportError, match=r"Dice 1\.0000, .* centroid 0\.05 mm off"):
        export(series[0], tmp_path / "r", ["nrrd"])
