from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from delineate.formats.dicom import records as dicom_records
from delineate.formats.dicom.instances import read_instance
from delineate.formats.dicom.records import Record, State, kind_of, pack, read_record, read_records, schema, unpack
from delineate.formats.dicom.slices import Instance, SeriesFacts
from delineate.formats.dicom.writing import write_dicom_series
from delineate.geometry import Grid, compose_affine
from delineate.volume import Kind, Volume

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom is not there")

ROTATION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
GRID = Grid((3, 4, 5), compose_affine(ROTATION @ np.diag([0.8, 0.9, 2.5]), (-90.25, 120.5, -33.125)), "1.2.3.4")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    values = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)
    return write_dicom_series(tmp_path_factory.mktemp("series") / "ct", Volume(values, GRID, Kind.CT), seed="records")


def died_of(path: Path) -> Record:
    """A reader that some files are the end of."""
    if "killer" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return Record(path, State.OTHER, "read")


def test_an_instance_comes_back_as_it_was(series: tuple[Path, ...]) -> None:
    instance = read_instance(series[2])
    assert unpack(pack(instance)) == instance
    assert unpack(read_record(series[2]).data) == instance


@needs_data
def test_instances_of_all_makers_come_back_as_they_were() -> None:
    kinds = set()
    for path in sorted(path for path in DATA.rglob("*") if path.is_file()):
        record = read_record(path)
        kinds.add(record.state)
        if record.state is State.DICOM:
            assert unpack(record.data) == read_instance(path)
    assert kinds == {State.DICOM, State.OTHER}


@pytest.mark.parametrize("place", [0, 3, 4, 40, -1])
def test_a_changed_record_is_not_believed(series: tuple[Path, ...], place: int) -> None:
    data = bytearray(read_record(series[0]).data)
    data[place] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        unpack(bytes(data))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_is_kept(series: tuple[Path, ...], tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xffIM1"))
    shutil.copy(series[0], path)
    assert unpack(read_record(path).data).slices[0].path == path
    dataset = pydicom.dcmread(path)
    del dataset.PixelSpacing
    dataset.save_as(path)
    assert "\\xffIM1" in str(unpack(read_record(path).data).problem)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", ".txt"),
        ("scan.NII.GZ", ".nii.gz"),
        ("IM1", "without suffix"),
        ("1.2.840.113619", "without suffix"),
        (".hidden", "without suffix"),
        ("dicomdir", "DICOMDIR"),
        ("a.\x1b[2J", "without suffix"),
        ("a.this is a sentence", "without suffix"),
    ],
)
def test_other_files_are_counted_by_kind(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"no DICOM")
    assert read_record(tmp_path / name) == Record(tmp_path / name, State.OTHER, kind)
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize(("data", "what"), [(b"", "is empty"), (b"<html>", "is not DICOM")])
def test_a_file_named_like_dicom_that_is_none_is_unreadable(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "IM1.DCM").write_bytes(data)
    record = read_record(tmp_path / "IM1.DCM")
    assert (record.state, record.note) == (State.UNREADABLE, f"named like a DICOM file, but {what}")


def test_a_header_cut_off_still_says_its_series(series: tuple[Path, ...], tmp_path: Path) -> None:
    data = series[1].read_bytes()
    (tmp_path / "cut").write_bytes(data[: data.index(b"\x28\x00\x10\x00")])
    record = read_record(tmp_path / "cut")
    assert record.state is State.UNREADABLE
    assert "cut off" in record.note
    instance = unpack(record.data)
    assert instance.facts.series_uid == read_instance(series[1]).facts.series_uid
    assert (instance.slices, instance.expected) == ((), False)


def test_every_cut_of_a_file_gives_a_record(series: tuple[Path, ...], tmp_path: Path) -> None:
    data, path = series[1].read_bytes(), tmp_path / "cut.dcm"
    for n in range(0, len(data), 5):
        path.write_bytes(data[:n])
        assert read_record(path).state in (State.UNREADABLE, State.DICOM)


def test_a_file_that_vanished_or_is_shut_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_record(tmp_path / "gone").note.endswith("No such file or directory")

    def refusing(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(dicom_records, "is_dicom", refusing)
    assert read_record(tmp_path / "shut").note == "Permission denied"


def test_an_unforeseen_error_is_the_files_own(series: tuple[Path, ...]) -> None:
    def broken(path: Path) -> Instance:
        raise RecursionError("too deep")

    record = read_record(series[0], broken)
    assert (record.state, record.note) == (State.UNREADABLE, "RecursionError: too deep")


@pytest.mark.parametrize("processes", [1, 2])
def test_records_come_in_order(series: tuple[Path, ...], processes: int) -> None:
    paths = list(series) * 30
    records = [record for some in read_records(paths, processes=processes) for record in some]
    assert [record.path for record in records] == paths
    assert records[7] == read_record(paths[7])


def test_a_file_that_kills_its_reader_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}{' killer' if n in (3, 700) else ''}" for n in range(800)]
    records = [record for some in read_records(paths, processes=2, read=died_of) for record in some]
    assert [record.path for record in records] == paths
    bad = [record for record in records if record.state is State.UNREADABLE]
    assert [record.path.name for record in bad] == ["3 killer", "700 killer"]
    assert "ended the process" in bad[0].note


def test_processes_that_cannot_start_are_an_error_and_no_bad_files() -> None:
    # A program that does not guard its start begins anew in each process.
    code = (
        "from pathlib import Path; from delineate.formats.dicom.records import read_records\n"
        "print(list(read_records([Path('a')], processes=2)))"
    )
    done = run_script(code)
    assert done.returncode == 1
    assert "ResourceError: the processes that read headers cannot be started" in done.stderr


def run_script(code: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(code)
        return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)


def test_stopping_early_ends_the_processes(series: tuple[Path, ...]) -> None:
    reading = read_records(list(series) * 500, processes=2)
    next(reading)
    assert len(multiprocessing.active_children()) == 2
    reading.close()
    assert multiprocessing.active_children() == []


def test_the_schema_changes_with_what_an_instance_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema()
    assert schema() == before
    monkeypatch.setattr(dicom_records, "Instance", SeriesFacts)
    assert schema() != before
