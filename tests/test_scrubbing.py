"""What records and results may not say of the patient."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_dicom_series import edited, setting, written
from test_importing import Import, run, write_patient

from delineate.workflow.scrubbing import scrubber

__all__ = ["run"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dropped MUELLER.CT.0003.IMA: a copy", "dropped ***.CT.0003.IMA: a copy"),
        ("MuellerAnna_7.dcm", "******_7.dcm"),
        ("Tumour of Anna, HQ-4711", "Tumour of ***, ***"),
        ("born 19511224 or 1951-12-24", "***"),
        ("liver, 12 slices", "liver, 12 slices"),
    ],
)
def test_names_numbers_and_birth_dates_are_hidden(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path)[0]
    for keyword, value in (("PatientName", "Mueller^Anna"), ("PatientID", "HQ-4711"), ("PatientBirthDate", "19511224")):
        edited(path, setting(keyword, value))
    assert scrubber(path)(text) == expected


def test_names_of_files_and_regions_do_not_reach_a_dataset(tmp_path: Path, run: Import) -> None:
    stack = write_patient(tmp_path / "tree", "p")
    for path in (*stack.files, tmp_path / "tree" / "labels.dcm"):
        edited(path, setting("PatientName", "Quastenbrink^Hildegard"))
        path.rename(path.with_name(f"Quastenbrink.{path.name}"))
    structures = tmp_path / "tree" / "Quastenbrink.labels.dcm"

    def renamed(dataset: object) -> None:
        dataset.StructureSetROISequence[0].ROIName = "tumour hildegard"  # type: ignore[attr-defined]

    edited(structures, renamed)
    result = run()
    assert result.dataset is not None
    assert result.dataset.labels.names == ("rim",)
    assert dict(result.unmapped) == {"tumour ***": 1}
    for path in (tmp_path / "data").rglob("*"):
        text = path.name.encode() + (b"" if path.is_dir() else path.read_bytes())
        assert b"quastenbrink" not in text.lower()
        assert b"hildegard" not in text.lower()


def test_a_file_that_is_no_object_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    assert scrubber(tmp_path / "a")("liver") == "liver"
