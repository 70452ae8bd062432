"""Imports into a dataset that is there: what is kept, what is done again, and what is left alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_dicom_series import edited, setting
from test_importing import case, renaming, write_channel, write_patient

from delineate import formats
from delineate.dataset import open_dataset
from delineate.errors import DatasetError, InputError, LabelError
from delineate.files import exclusive
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.settings import detect
from delineate.volume import Kind, Segmentation, align
from delineate.workflow.exporting import files_of
from delineate.workflow.import_options import import_options
from delineate.workflow.import_records import read_import
from delineate.workflow.importing import ImportRun, import_tree, patients_of
from delineate.workflow.scanning import scan

Import = Callable[..., ImportRun]


@pytest.fixture
def run(tmp_path: Path) -> Import:
    """Import tmp_path/TREE ("tree") into tmp_path/data, with the scan's repair as in the options."""

    def run(tree: str = "tree", **words: object) -> ImportRun:
        options = import_options(**words)  # type: ignore[arg-type]
        settings = detect("cpu", threads=1, cache=tmp_path / "cache")
        report = scan(tmp_path / tree, settings=settings, repair=options.repair)
        return import_tree(patients_of(report), tmp_path / "data", options)

    return run


def values_of(tmp_path: Path, name: str) -> Segmentation:
    """The only case's label map; `name` is one of its labels."""
    dataset = open_dataset(tmp_path / "data")
    (one,) = dataset.cases
    assert one.reference is not None
    assert name in dataset.labels.names
    return formats.read_segmentation(one.reference, dataset.labels)


@pytest.mark.parametrize("words", [{"labels": ("rim", "core")}, {"labels": ("rim",)}, {"labels": ("rim", "x=core")}])
def test_other_labels_make_cases_anew(tmp_path: Path, run: Import, words: dict[str, object]) -> None:
    write_patient(tmp_path / "tree", "p")
    run()
    assert run(**words).kept == 0
    expected = case()[1]
    found = values_of(tmp_path, "rim")
    truth = align(expected, found.grid)
    assert np.array_equal(found.mask("rim"), truth.mask("rim"))
    assert np.count_nonzero(found.array) == np.count_nonzero(
        truth.array if len(found.labels) > 1 else truth.mask("rim")
    )


def test_an_edited_table_makes_cases_anew(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    run(labels=("tumour", "organ=rim"))
    table = tmp_path / "data" / "names.csv"
    table.write_text(table.read_text() + "tumour,exact,core\n")
    result = run(labels=("tumour", "organ"), table=table)
    assert (result.kept, dict(result.unmapped)) == (0, {})
    assert values_of(tmp_path, "tumour").mask("tumour").any()


def test_rows_of_other_labels_map_nothing_and_stay_in_the_table(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    run()
    table = tmp_path / "data" / "names.csv"
    before = table.read_text()
    result = run(labels=("rim",), table=table)
    assert dict(result.unmapped) == {"core": 1}
    assert table.read_text() == before
    with pytest.raises(LabelError, match="no region of any case"):
        run(labels=("liver",), table=table)


def test_a_table_that_was_edited_is_never_lost(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    run()
    table = tmp_path / "data" / "names.csv"
    table.write_text(table.read_text() + "core,exact,kernel\n")
    with pytest.raises(InputError, match=r"names.csv was edited.*--names"):
        run()
    assert "kernel" in table.read_text()


def test_a_table_that_a_spreadsheet_saved_again_counts_as_the_same(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    run()
    table = tmp_path / "data" / "names.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert run().kept == 1


def test_changed_labels_make_a_case_anew(tmp_path: Path, run: Import) -> None:
    stack = write_patient(tmp_path / "tree", "p")
    run()
    labels = case()[1]
    changed = Segmentation(np.where(labels.array == 1, 2, labels.array).astype(np.uint8), labels.grid, labels.labels)
    write_rtstruct(tmp_path / "tree" / "labels.dcm", align(changed, stack.grid), files_of(stack))
    run(labels=("rim",))
    assert np.array_equal(values_of(tmp_path, "rim").array > 0, align(changed, stack.grid).array > 0)


def test_a_slice_that_is_gone_makes_a_case_anew(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p").files[-1].unlink()
    first = run()
    assert first.dataset is not None
    shutil.rmtree(tmp_path / "tree")
    stack = write_patient(tmp_path / "tree", "p")
    assert run().kept == 0
    assert values_of(tmp_path, "rim").grid.shape == stack.grid.shape


def test_another_repair_or_channel_makes_cases_anew(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    write_channel(tmp_path / "tree" / "mr", Kind.MR)
    run()
    assert run(repair="interpolate").kept == 0
    assert run(repair="interpolate").kept == 1
    assert run(channels=("CT", "MR")).kept == 0
    assert len(list((tmp_path / "data" / "imagesTr").iterdir())) == 2
    run(channels=("MR",), labels=("rim",))
    assert not list((tmp_path / "data" / "imagesTr").iterdir())
    assert not (tmp_path / "data" / "dataset.json").exists()
    assert len(list((tmp_path / "data" / "imagesTs").iterdir())) == 1


def test_a_case_that_fails_now_leaves_nothing_of_what_it_was(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree" / "1", "p")
    write_patient(tmp_path / "tree" / "2", "q", seed=2)
    edited(tmp_path / "tree" / "1" / "labels.dcm", renaming("liver", "rim"))
    assert run().labelled == 2
    result = run(labels=("liver",))
    assert result.labelled == 1
    assert not [path for path in (tmp_path / "data").rglob("*") if path.name.startswith(result.failures[0].case)]


def test_labels_that_nothing_is_mapped_onto_undo_nothing(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    with pytest.raises(LabelError, match=r"no region of any case .* 2 names, the most frequent \['core', 'rim'\]"):
        run(labels=("livr",))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before


def test_a_second_scan_of_a_patient_renames_the_first(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree" / "1", "p")
    run()
    formats.write_dicom_series(tmp_path / "tree" / "2", case(2)[0], patient_id="p", description="late", seed="q")
    result = run()
    assert result.dataset is not None
    names = {path.stem for path in (tmp_path / "data" / "imports").glob("*.json")}
    assert names == {one.id for one in result.dataset.cases} | set(result.unlabelled)
    assert all(name[-2:] in ("_1", "_2") for name in names)
    assert len(list((tmp_path / "data" / "imagesTr").iterdir())) == len(result.dataset.cases)


def test_patients_of_another_tree_are_not_dropped_without_a_word(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    write_patient(tmp_path / "other", "q", seed=2)
    run()
    before = (tmp_path / "data" / "dataset.json").read_bytes()
    with pytest.raises(DatasetError, match="cases of an earlier import that this one does not"):
        run("other")
    assert (tmp_path / "data" / "dataset.json").read_bytes() == before


def test_a_folder_with_other_content_is_left_alone(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError, match="holds something else"):
        run()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["dataset.json"]
    assert not (tmp_path / "data.key.json").exists()


def test_two_imports_at_once_do_not_mix(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    with exclusive(tmp_path / "data"), pytest.raises(Exception, match="another run is writing here"):
        run()


def test_labels_of_the_second_channel_serve_where_the_first_has_none(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    write_channel(tmp_path / "tree" / "mr", Kind.MR)
    result = run(channels=("MR", "CT"))
    assert result.dataset is not None
    assert run(channels=("MR",), labels=("rim",)).unused == (tmp_path / "tree" / "labels.dcm",)


def test_labels_of_one_phase_are_not_given_to_another(tmp_path: Path, run: Import) -> None:
    stack = write_patient(tmp_path / "tree", "p")
    for n, path in enumerate(stack.files):
        other = shutil.copy(path, tmp_path / "tree" / "ct" / f"late_{n}.dcm")
        edited(Path(other), setting("SOPInstanceUID", f"1.2.3.4.{n}"))
        for file, phase in ((path, 1), (Path(other), 2)):
            edited(file, setting("AcquisitionNumber", phase))
    result = run()
    assert result.dataset is not None
    assert (len(result.dataset.cases), len(result.unlabelled)) == (1, 1)


def test_an_object_that_is_there_twice_counts_once(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    shutil.copy(tmp_path / "tree" / "labels.dcm", tmp_path / "tree" / "copy.dcm")
    assert run().failures == ()
    stack = formats.stack_at(tmp_path / "tree" / "ct")
    write_rtstruct(tmp_path / "tree" / "revised.dcm", align(case()[1], stack.grid), files_of(stack))
    assert "several objects hold 'core'" in str(run().failures[0].error)
    assert "revised.dcm" in str(run().failures[0].error)


def test_own_names_that_are_compared_as_equal_are_one_label(tmp_path: Path, run: Import) -> None:
    for n, name in enumerate(("Core", "core", "core", "?!")):
        write_patient(tmp_path / "tree" / str(n), f"p{n}", seed=n)
        edited(tmp_path / "tree" / str(n) / "labels.dcm", renaming(name))
    result = run()
    assert result.dataset is not None
    assert result.dataset.labels.names == ("core", "rim")
    assert (result.failures, dict(result.unmapped), result.labelled) == ((), {"?!": 1}, 4)


def test_regions_without_contours_are_no_labels(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")

    def emptied(dataset: object) -> None:
        for contours in dataset.ROIContourSequence:  # type: ignore[attr-defined]
            contours.ContourSequence = []

    edited(tmp_path / "tree" / "labels.dcm", emptied)
    write_patient(tmp_path / "tree" / "2", "q", seed=2)
    result = run(labels=("core",))
    assert "no region is mapped onto a label" in str(result.failures[0].error)


@pytest.mark.parametrize("content", [b"label,how,text\nM\xfcller,exact,x\n", b"label;how;text\n"])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names.csv").write_bytes(content)
    with pytest.raises(LabelError, match=r"names\.csv"):
        import_options(table=tmp_path / "names.csv")
    with pytest.raises(LabelError, match="cannot be read"):
        import_options(table=tmp_path)


def test_a_record_says_what_made_its_case(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    result = run()
    assert result.dataset is not None
    record = read_import(tmp_path / "data", result.dataset.cases[0].id)
    assert record is not None
    assert record.names == {"core": "core", "rim": "rim"}
