from __future__ import annotations

import os
import shutil
import signal
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from many_slices import slice_bytes, write_many, write_slices
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import UID, Comprehensive3DSRStorage, ExplicitVRLittleEndian, RTStructureSetStorage
from test_dicom_files import dicomdir

from delineate.errors import InputError, ResourceError
from delineate.formats import Action, Repair, read_series
from delineate.formats.dicom.index import open_index
from delineate.settings import Settings
from delineate.workflow.scan_reports import ScanRecord, ScanReport, report_to_json
from delineate.workflow.scanning import default_index, scan

DATA = Path(__file__).parents[2] / "shared" / "data"
SERIES = "1.2.100000000.2"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings("cpu", 1, 2**30, tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_slices(tmp_path / "tree" / "ct", slices=5)
    return tmp_path / "tree"


class Heard:
    """A watch that remembers how many headers were read in each scan."""

    def __init__(self) -> None:
        self.headers = 0

    def __call__(self, stage: str, done: float, total: float, note: str) -> None:
        if stage == "Reading headers":
            self.headers = int(done)


def structure_set(path: Path, *series: str) -> None:
    dataset, dataset.file_meta = Dataset(), FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("1.9.1")
    dataset.Modality, dataset.PatientID = "RTSTRUCT", "P100000000"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.100000000.1", "1.9.2"
    frame, study = Dataset(), Dataset()
    study.RTReferencedSeriesSequence = [Dataset() for _ in series]
    for item, uid in zip(study.RTReferencedSeriesSequence, series, strict=True):
        item.SeriesInstanceUID = uid
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.save_as(path, enforce_file_format=True)


def zipped(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, path.relative_to(folder))


def actions(report: ScanReport) -> list[str]:
    return [row.action for row in report.rows]


def test_a_volume_is_described_as_it_will_be_read(tree: Path, settings: Settings) -> None:
    report = scan(tree, settings=settings)
    (row,) = report.rows
    (stack,) = report.stacks()
    volume = read_series(stack)
    assert (row.patient_id, row.study_date, row.modality, row.series_number) == ("P100000000", "20200131", "CT", 3)
    assert (row.slices, row.size, row.orientation) == (5, (3, 4), volume.grid.orientation)
    assert row.spacing_mm == pytest.approx((0.8, 0.9, 2.5))
    assert (row.action, row.problem, row.files[4]) == ("read", "", "ct/IM0004")
    assert report.sound
    assert report.summary == "1 volume(s) can be read, 0 refused, 0 skipped; 0 file(s) are no DICOM, 0 unreadable"


def test_the_same_tree_again_reads_nothing_and_says_the_same(tree: Path, settings: Settings) -> None:
    first, heard = scan(tree, settings=settings), Heard()
    assert scan(tree, settings=settings, watch=heard) == first
    assert heard.headers == 0


def test_only_what_changed_is_read(tree: Path, settings: Settings) -> None:
    scan(tree, settings=settings)
    (tree / "ct" / "IM0004").unlink()
    (tree / "ct" / "IM0005").write_bytes(slice_bytes(0, 5))
    heard = Heard()
    report = scan(tree, settings=settings, watch=heard)
    assert heard.headers == 1
    assert "missing" in report.rows[0].problem
    assert not report.sound


def test_a_stopped_scan_goes_on_where_it_was(tree: Path, settings: Settings) -> None:
    write_many(tree, 400)
    shutil.rmtree(tree / "ct")

    def impatient(stage: str, done: float, total: float, note: str) -> None:
        if stage == "Reading headers" and done >= 100:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = scan(tree, settings=settings, watch=impatient)
    assert (stopped.stopped, stopped.rows) == (True, ())
    heard = Heard()
    report = scan(tree, settings=settings, watch=heard)
    assert 0 < heard.headers <= 300
    assert report.files.read == report.files.total == 400


def test_processes_say_what_one_says(tree: Path, settings: Settings, tmp_path: Path) -> None:
    write_many(tree / "more", 600)
    alone = scan(tree, settings=settings)
    several = scan(tree, settings=replace(settings, threads=2), index=tmp_path / "i")
    assert several.rows == alone.rows
    assert several.files == alone.files


@pytest.mark.parametrize("name", ["dicom", "sarcoma"])
def test_every_file_of_real_trees_is_counted_once(name: str, settings: Settings) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"shared/data/{name} is not there")
    report = scan(DATA / name, settings=settings)
    there = [path for path in (DATA / name).rglob("*") if path.is_file()]
    assert report.files.total == len(there)
    assert sum(count for _, count in report.kinds) == report.files.not_dicom
    listed = {file for row in report.rows for file in (*row.files, *row.copies)}
    assert len(listed) + report.files.not_dicom == len(there)
    assert {(DATA / name / file).is_file() for file in listed} == {True}


def test_json_says_the_same(tree: Path, settings: Settings) -> None:
    (tree / "notes.txt").write_text("no DICOM")
    report = scan(tree, settings=settings)
    record = msgspec.json.decode(report_to_json(report), type=ScanRecord)
    assert record == report.record
    assert (record.files.read, record.files.not_dicom, record.kinds) == (5, 1, {".txt": 1})
    assert (record.volumes, record.series[0].series_uid) == ({"read": 1}, SERIES)


def test_a_slice_cut_off_refuses_its_series_only(tree: Path, settings: Settings) -> None:
    write_slices(tree / "ct", series=1, slices=0)
    for k in range(5):
        (tree / "ct" / f"other{k}").write_bytes(slice_bytes(1, k))
    whole = (tree / "ct" / "IM0004").read_bytes()
    (tree / "ct" / "IM0004").write_bytes(whole[: whole.index(b"\x28\x00\x10\x00")])
    report = scan(tree, settings=settings)
    assert actions(report) == ["refuse", "read"]
    assert "a file of the series cannot be read" in report.rows[0].problem
    assert [file.name for file in report.unreadable] == ["ct/IM0004"]
    assert (report.files.refuse, report.files.unreadable, report.files.read) == (4, 1, 5)


def test_a_broken_file_of_no_known_series_is_said_beside_the_volumes_of_its_folder(
    tree: Path, settings: Settings
) -> None:
    (tree / "ct" / "IM0005.dcm").write_bytes(b"")
    report = scan(tree, settings=settings)
    assert report.rows[0].notes == ("a slice may be missing: IM0005.dcm in its folder cannot be read",)
    assert [stack.notes for stack in report.stacks()] == [report.rows[0].notes]
    assert report.problems == ("unreadable: ct/IM0005.dcm: named like a DICOM file, but is empty",)
    assert not report.sound


def test_one_series_of_two_patients_is_refused(tree: Path, settings: Settings) -> None:
    (tree / "ct" / "IM0004").write_bytes(slice_bytes(0, 4).replace(b"P100000000", b"P100000001"))
    report = scan(tree, settings=settings)
    assert actions(report) == ["refuse"]
    assert "several patients" in report.rows[0].problem
    assert [stack.action for stack in report.stacks()] == [Action.REFUSE]


def test_copies_are_counted_and_named(tree: Path, settings: Settings) -> None:
    shutil.copytree(tree / "ct", tree / "again")
    report = scan(tree, settings=settings)
    assert (report.files.read, report.files.copies, actions(report)) == (5, 5, ["read"])
    assert report.rows[0].copies == tuple(f"ct/IM000{k}" for k in range(5))


def test_an_image_whose_copy_has_no_pixels_is_refused_not_a_crash(tree: Path, settings: Settings) -> None:
    (tree / "ct" / "again").write_bytes(slice_bytes(0, 2)[:-20])
    report = scan(tree, settings=settings)
    assert actions(report) == ["refuse"]
    assert report.files.refuse == 6


def test_repair_decides(tree: Path, settings: Settings) -> None:
    for path in (tree / "ct").iterdir():
        k = int(path.name[-1])
        path.write_bytes(path.read_bytes().replace(b"-20.5", b"%05.1f" % (0.3 * k - 21)))
    tilted = scan(tree, settings=settings)
    assert actions(tilted) == ["straighten"]
    assert tilted.rows[0].tilt_degrees == pytest.approx(6.84, abs=0.01)
    refused = scan(tree, settings=settings, repair=Repair.NONE)
    assert (actions(refused), refused.rows[0].spacing_mm) == (["refuse"], None)
    (tree / "ct" / "IM0002").unlink()
    assert actions(scan(tree, settings=settings, repair=Repair.INTERPOLATE)) == ["interpolate"]


def test_objects_say_whether_their_series_is_here(tree: Path, settings: Settings) -> None:
    structure_set(tree / "rs", SERIES, "1.2.3.4")
    report = scan(tree, settings=settings)
    row = report.rows[1]
    assert (row.modality, row.action) == ("RTSTRUCT", "skip")
    assert [(reference.series_uid, reference.found) for reference in row.refers_to] == [
        (SERIES, True),
        ("1.2.3.4", False),
    ]
    (study,) = report.studies()
    (found,) = report.objects(study)
    assert (found.path, found.refers_to) == (tree / "rs", (SERIES, "1.2.3.4"))
    assert list(report.objects(modalities=("SEG",))) == []


def test_a_report_says_which_series_it_is_about(tree: Path, settings: Settings) -> None:
    structure_set(tree / "sr")
    dataset = dcmread(tree / "sr")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = Comprehensive3DSRStorage
    dataset.Modality, evidence, series = "SR", Dataset(), Dataset()
    series.SeriesInstanceUID = SERIES
    evidence.ReferencedSeriesSequence = [series]
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence]
    dataset.save_as(tree / "sr")
    (report,) = (row for row in scan(tree, settings=settings).rows if row.modality == "SR")
    assert [(reference.series_uid, reference.found) for reference in report.refers_to] == [(SERIES, True)]


def test_studies_hold_their_own_volumes(tmp_path: Path, settings: Settings) -> None:
    write_many(tmp_path / "tree", 60)
    report = scan(tmp_path / "tree", settings=settings)
    studies = list(report.studies())
    assert [study.patient_id for study in studies] == ["P100000000", "P100000001", "P100000002"]
    (stack,) = report.stacks(studies[1])
    assert (stack.facts.patient_id, len(stack.slices)) == ("P100000001", 20)


def test_a_study_is_one_though_some_of_its_objects_have_no_date(tree: Path, settings: Settings) -> None:
    structure_set(tree / "rs", SERIES)
    earlier = slice_bytes(1, 0).replace(b"P100000001", b"P100000000").replace(b"20200131", b"20190131")
    (tree / "earlier").write_bytes(earlier)
    studies = list(scan(tree, settings=settings).studies())
    assert [(study.study_date, len(study.series)) for study in studies] == [("20190131", 1), ("20200131", 2)]


def test_an_archive_holds_what_its_folder_holds(tree: Path, settings: Settings) -> None:
    plain = scan(tree, settings=settings)
    zipped(tree / "ct", tree / "scan.zip")
    shutil.rmtree(tree / "ct")
    report = scan(tree, settings=settings)
    assert [row.files for row in report.rows] == [tuple(f"scan.zip/IM000{k}" for k in range(5))]
    assert [row.spacing_mm for row in report.rows] == [row.spacing_mm for row in plain.rows]
    assert (report.files.read, report.files.archives, report.files.total) == (5, 1, 6)
    assert (
        read_series(next(report.stacks())).array
        == read_series(next(scan(tree / "scan.zip", settings=settings).stacks())).array
    ).all()


def test_an_archive_is_unpacked_once_and_removed_with_its_source(tree: Path, settings: Settings) -> None:
    zipped(tree / "ct", tree / "scan.zip")
    heard = Heard()
    unpacked = scan(tree, settings=settings).index.with_name(f"{default_index(tree, settings).name}.archives")
    (folder,) = unpacked.iterdir()
    inode = folder.stat().st_ino
    scan(tree, settings=settings, watch=heard)
    assert (folder.stat().st_ino, heard.headers) == (inode, 0)
    (folder / "IM0003").unlink()
    assert scan(tree, settings=settings).files.copies == 5
    (unpacked / "kept by somebody").mkdir()
    (tree / "scan.zip").unlink()
    assert scan(tree, settings=settings).files.total == 5
    assert [path.name for path in unpacked.iterdir()] == ["kept by somebody"]


def test_an_evil_archive_is_listed_and_the_rest_is_read(tree: Path, settings: Settings) -> None:
    with zipfile.ZipFile(tree / "evil.zip", "w") as archive:
        archive.writestr("../../IM1", b"1")
    (tree / "empty.zip").touch()
    report = scan(tree, settings=settings)
    assert [file.name for file in report.unreadable] == ["empty.zip", "evil.zip"]
    assert "would leave the folder" in report.unreadable[1].reason
    assert (actions(report), report.files.unreadable) == (["read"], 2)


def test_archives_in_archives_stay_closed_and_are_said(tree: Path, settings: Settings) -> None:
    zipped(tree / "ct", tree / "ct" / "inner.zip")
    zipped(tree / "ct", tree / "outer.zip")
    (tree / "ct" / "inner.zip").unlink()
    report = scan(tree, settings=settings)
    assert report.warnings == ("outer.zip/inner.zip: an archive within an archive, left closed",)
    assert report.kinds == ((".zip", 1),)


def test_a_dicomdir_is_followed_and_its_gaps_are_listed(tree: Path, settings: Settings) -> None:
    path = dicomdir(tree, *(["CT", f"IM000{k}"] for k in (0, 1, 2, 7)))
    report = scan(path, settings=settings)
    assert (report.rows[0].slices, report.files.total) == (3, 4)
    assert report.missing == ("DICOMDIR: CT/IM0007",)
    whole = scan(tree, settings=settings)
    assert (whole.rows[0].slices, whole.missing, whole.sound) == (5, ("DICOMDIR: CT/IM0007",), False)


def test_one_file_is_a_tree_too(tree: Path, settings: Settings) -> None:
    report = scan(tree / "ct" / "IM0000", settings=settings)
    assert (actions(report), report.rows[0].files, report.files.skip) == (["skip"], ("IM0000",), 1)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX")
def test_pipes_and_dangling_links_are_counted_not_opened(tree: Path, settings: Settings) -> None:
    os.mkfifo(tree / "pipe")
    (tree / "link").symlink_to("nowhere")
    report = scan(tree, settings=settings)
    assert dict(report.kinds) == {"pipe": 1, "link to nothing": 1}
    assert scan(tree, settings=settings) == report


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_reach_table_and_json(tree: Path, settings: Settings) -> None:
    os.rename(tree / "ct", os.fsencode(tree) + b"/\xff\x1b[2J")  # noqa: PTH104 - a name that is no text
    report = scan(tree, settings=settings)
    assert report.rows[0].files[0] == "\\xff\x1b[2J/IM0000"
    assert msgspec.json.decode(report_to_json(report), type=ScanRecord).series == report.rows


def test_a_folder_that_cannot_be_listed_is_said(
    tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "shut").mkdir()
    listing = os.scandir
    monkeypatch.setattr(os, "scandir", _refusing(listing))
    report = scan(tree, settings=settings)
    assert report.problems == ("unreadable: shut: a folder that cannot be listed: Permission denied",)
    assert (report.sound, report.files.total) == (False, 5)


def _refusing(listing: Callable[[Path], object]) -> Callable[[Path], object]:
    def scandir(path: Path) -> object:
        if path.name == "shut":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    return scandir


def test_an_index_in_the_tree_is_no_part_of_it(tree: Path, settings: Settings) -> None:
    zipped(tree / "ct", tree / "scan.zip")
    first = scan(tree, settings=settings, index=tree / "index")
    assert first.files.total == 11
    assert scan(tree, settings=settings, index=tree / "index") == first


def test_a_damaged_index_costs_time_only(tree: Path, settings: Settings) -> None:
    first = scan(tree, settings=settings)
    data = first.index.read_bytes()
    for damaged in (b"garbage", data.replace(b"a series of", b"another one"), data[: len(data) // 2]):
        first.index.write_bytes(damaged)
        heard = Heard()
        assert scan(tree, settings=settings, watch=heard) == first
        assert heard.headers == 5


def test_what_is_not_there_is_refused_and_leaves_no_index(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to scan: got No such file"):
        scan(tmp_path / "nowhere", settings=settings)
    assert list(tmp_path.iterdir()) == []


def test_places_that_are_shut_are_named(tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(path: Path, **how: bool) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refusing)
    with pytest.raises(InputError, match="nothing to scan: got Permission denied"):
        scan(tree, settings=settings)
    with pytest.raises(ResourceError, match="index cannot be written: got Permission denied"), open_index(tree, tree):
        pass


def test_memory_does_not_grow_with_the_slices(tmp_path: Path, settings: Settings) -> None:
    def peak(files: int) -> int:
        write_many(tmp_path / str(files), files)
        tracemalloc.start()
        report = scan(tmp_path / str(files), settings=settings)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert report.files.read == files
        return most

    peak(20)
    # A row keeps its files' names, a hundred bytes each; a header in memory would be several thousand.
    assert peak(400) - peak(200) < 200 * 500
