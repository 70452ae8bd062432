from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from many_slices import write_slices
from test_comparing import case

from delineate.errors import InputError, UnreadableImage
from delineate.evaluation.bands import NOT_RECORDED
from delineate.formats.deidentification.pseudonyms import load_or_make_key
from delineate.formats.dicom.acquisition import read_acquisition
from delineate.settings import Settings, detect
from delineate.workflow.group_tables import GroupOptions, part_cases
from delineate.workflow.header_groups import header_table
from delineate.workflow.import_records import ImportRecord, write_import

FACTS = {
    0: {"PatientSex": "F", "PatientAge": "017Y", "SliceThickness": "1.50", "ContrastBolusAgent": "some agent"},
    1: {"PatientSex": "M", "PatientAge": "071Y", "SliceThickness": "5", "ManufacturerModelName": "Model 5"},
}


def here(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, cache=tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two series that say who was scanned on what."""
    for number, facts in FACTS.items():
        folder = tmp_path / "tree" / f"s{number}"
        write_slices(folder, series=number, slices=3)
        for path in folder.iterdir():
            dataset = pydicom.dcmread(path)
            for keyword, value in facts.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)
    return tmp_path / "tree"


def series_uid(tree: Path, number: int) -> str:
    return str(pydicom.dcmread(next((tree / f"s{number}").iterdir())).SeriesInstanceUID)


def imported(folder: Path, **series: str) -> Path:
    """References of a dataset whose cases came from these series."""
    matrix = np.eye(4).tolist()
    for name, uid in series.items():
        record = ImportRecord(
            recipe="", case=name, patient=name, site=None, series=[uid], notes=[], acquired_affine=matrix,
            affine=matrix, labels_from=[], names={}, unmapped=[], voxels={},
        )  # fmt: skip
        write_import(folder, record)
    (folder / "labelsTr").mkdir(exist_ok=True)
    return folder / "labelsTr"


def test_headers_say_who_was_scanned_on_what(tree: Path, tmp_path: Path) -> None:
    references = imported(tmp_path / "d", a=series_uid(tree, 0), b=series_uid(tree, 1))
    table = header_table(references, ("a", "b"), tree, settings=here(tmp_path))
    parted = part_cases(
        [case(name, {"liver": 0.9}) for name in "abc"], GroupOptions(), np.random.default_rng(0), headers=table
    )
    first, second, third = (one.groups for one in parted.cases)
    assert (first["sex"], first["age"], first["slice_thickness"], first["contrast"]) == (
        "F", "below 18", "1.5", "with contrast",
    )  # fmt: skip
    assert (second["age"], second["slice_thickness"], second["scanner"]) == ("60–79", "5", "Model 5")
    assert "contrast" not in second
    assert third == {}
    assert "tree says nothing of 1 cases, which are not recorded: c." in parted.remarks
    assert {one.group for one in parted.scores if one.grouping == "sex"} == {"F", "M", NOT_RECORDED}


def test_series_that_were_given_other_uids_are_found_by_the_key(tree: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key.json"
    references = imported(tmp_path / "d", a=load_or_make_key(key_file).uid(series_uid(tree, 1)))
    table = header_table(references, ("a",), tree, key_file=key_file, settings=here(tmp_path))
    assert table.rows["a"]["sex"] == "M"
    with pytest.raises(InputError, match="none of the cases' series is in the tree"):
        header_table(references, ("a",), tree, settings=here(tmp_path))


def test_a_dataset_that_was_not_imported_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing says which DICOM series"):
        header_table(tmp_path, ("a",), tree, settings=here(tmp_path))


def test_a_key_that_is_not_there_is_not_made(tree: Path, tmp_path: Path) -> None:
    references = imported(tmp_path / "d", a="1.2")
    with pytest.raises(InputError, match="there is no key"):
        header_table(references, ("a",), tree, key_file=tmp_path / "none", settings=here(tmp_path))
    assert not (tmp_path / "none").exists()


def test_what_is_no_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(UnreadableImage, match="the header cannot be read"):
        read_acquisition(tmp_path / "x")
