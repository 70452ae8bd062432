"""SUV by hand: 74 kg, 370 MBq of F-18, an hour before the scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hard_series import header, intensity, item, planes, store, write_series
from pydicom import Dataset

from delineate.formats.dicom.series import find_series, one_volume, read_series
from delineate.formats.dicom.suv import uptake_of
from delineate.volume import Kind

HALF_LIFE = 6586.2
PLANES = planes(4, size=(5, 6))
INJECTED = 74_000 / 370e6  # SUVbw a Bq/ml where the dose is not decayed
AFTER_AN_HOUR = INJECTED * 2 ** (3600 / HALF_LIFE)

Edit = Callable[[Dataset], None]


def pet(**changes: object) -> Dataset:
    """A PET header; a change to None removes the element."""
    dataset = header(PLANES[0], modality="PT", number=1)
    values: dict[str, object] = {
        "Units": "BQML",
        "CorrectedImage": ["DECY", "ATTN", "SCAT"],
        "DecayCorrection": "START",
        "PatientWeight": "74",
        "SeriesDate": "20240305",
        "SeriesTime": "140000",
        "AcquisitionDate": "20240305",
        "AcquisitionTime": "140000",
        "RadiopharmaceuticalInformationSequence": [drug()],
    }
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def drug(**changes: object) -> Dataset:
    values: dict[str, object] = {
        "RadionuclideTotalDose": "370000000",
        "RadionuclideHalfLife": str(HALF_LIFE),
        "RadiopharmaceuticalStartTime": "130000.00",
    }
    return item(**{keyword: value for keyword, value in (values | changes).items() if value is not None})


def test_an_hour_of_decay() -> None:
    found = uptake_of(pet())
    assert found.factor == pytest.approx(AFTER_AN_HOUR, rel=1e-9)
    assert found.how == "SUVbw = 0.000292127 x value (74 kg, 370 MBq)"


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    "changes",
    [
        {"SeriesTime": "14"},
        {"SeriesTime": "1400"},
        {"SeriesTime": "140000.123456"},
        {"SeriesTime": "14:00:00", "SeriesDate": "2024.03.05"},
        {"AcquisitionTime": "141500"},  # a later bed
        {"SeriesTime": "183000", "SeriesDate": "20240305"},  # written again after processing
        {"SeriesDate": "20240306", "SeriesTime": "090000"},
        {"AcquisitionDate": None, "AcquisitionTime": None},
    ],
)
def test_when_the_scan_started(changes: dict[str, object]) -> None:
    drugs = drug(RadiopharmaceuticalStartDateTime="20240305130000.00")
    found = uptake_of(pet(**changes, RadiopharmaceuticalInformationSequence=[drugs]))
    assert found.factor == pytest.approx(AFTER_AN_HOUR, rel=1e-9)


def test_half_an_hour_is_no_minute_or_second() -> None:
    found = uptake_of(pet(SeriesTime="1430", AcquisitionTime="1430"))
    assert found.factor == pytest.approx(INJECTED * 2 ** (5400 / HALF_LIFE), rel=1e-9)


def test_an_injection_before_midnight() -> None:
    late = pet(
        SeriesTime="003000",
        AcquisitionTime="003000",
        RadiopharmaceuticalInformationSequence=[drug(RadiopharmaceuticalStartTime="233000")],
    )
    assert uptake_of(late).factor == pytest.approx(AFTER_AN_HOUR, rel=1e-9)


def test_decay_corrected_to_the_injection() -> None:
    assert uptake_of(pet(DecayCorrection="ADMIN", SeriesTime=None)).factor == pytest.approx(INJECTED)


@pytest.mark.parametrize("kind", [None, "BW"])
def test_suv_as_stored(kind: str | None) -> None:
    assert uptake_of(pet(Units="GML", SUVType=kind)).factor == 1.0


def philips(tag: tuple[int, int], creator: str = "Philips PET Private Group") -> Dataset:
    dataset = pet(Units="CNTS")
    dataset.add_new((0x7053, 0x0010), "LO", creator)
    dataset.add_new(tag, "DS", "0.25")
    return dataset


def test_philips_counts() -> None:
    assert uptake_of(philips((0x7053, 0x1000))).factor == 0.25
    assert uptake_of(philips((0x7053, 0x1009))).factor == pytest.approx(0.25 * AFTER_AN_HOUR, rel=1e-9)
    assert uptake_of(philips((0x7053, 0x1000), "SOMEONE ELSE")).factor is None


NO_SUV: list[tuple[dict[str, object], str]] = [
    ({"Units": None}, "no SUV: Units are missing"),
    ({"Units": "PROPCPS"}, "no SUV: Units are PROPCPS"),
    ({"Units": "CNTS"}, "no SUV: counts without a Philips factor"),
    ({"Units": "GML", "SUVType": "LBM"}, "SUV by LBM as stored"),
    ({"PatientWeight": None}, "no SUV: without PatientWeight"),
    ({"PatientWeight": "0"}, "no SUV: without PatientWeight"),
    ({"PatientWeight": "-74"}, "no SUV: without positive weight"),
    ({"CorrectedImage": ["DECY"]}, "no SUV: without attenuation correction"),
    ({"CorrectedImage": ["ATTN"]}, "no SUV: without decay correction"),
    ({"CorrectedImage": None}, "no SUV: without attenuation correction, decay correction"),
    ({"RadiopharmaceuticalInformationSequence": None}, "no SUV: without RadionuclideTotalDose, RadionuclideHalfLife"),
    ({"DecayCorrection": "NONE"}, "no SUV: the time from injection to scan is not known"),
    ({"DecayCorrection": None}, "no SUV: the time from injection to scan is not known"),
    ({"SeriesTime": None, "AcquisitionTime": None}, "no SUV: the time from injection to scan is not known"),
    ({"SeriesTime": "1", "AcquisitionTime": None}, "no SUV: the time from injection to scan is not known"),
    ({"SeriesTime": "99", "AcquisitionTime": None}, "no SUV: the time from injection to scan is not known"),
    ({"PatientWeight": "74000"}, "no SUV: a dose of 3.7e+08 Bq for 74000 kg cannot be"),
    ({"DecayFactor": "1.11163", "ActualFrameDuration": "180000"}, "no SUV: DecayFactor contradicts"),  # moved series
    (
        {"AcquisitionTime": "141516", "DecayFactor": "1.0095", "ActualFrameDuration": "180000"},  # each bed's own start
        "no SUV: DecayFactor contradicts",
    ),
]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("changes", "how"), NO_SUV)
def test_without_what_it_takes_there_is_no_suv(changes: dict[str, object], how: str) -> None:
    found = uptake_of(pet(**changes))
    assert found.factor is None
    assert how in found.how


def test_a_dose_in_mbq_makes_no_suv() -> None:
    found = uptake_of(pet(RadiopharmaceuticalInformationSequence=[drug(RadionuclideTotalDose="370")]))
    assert (found.factor, found.how) == (None, "no SUV: a dose of 370 Bq for 74 kg cannot be")


@pytest.mark.parametrize(("clock", "factor"), [("140000", "1.00951"), ("141516", "1.11163"), ("141516", "1")])
def test_decay_factors_that_fit_the_times(clock: str, factor: str) -> None:
    found = uptake_of(pet(AcquisitionTime=clock, DecayFactor=factor, ActualFrameDuration="180000"))
    assert found.factor == pytest.approx(AFTER_AN_HOUR, rel=1e-9)


@pytest.mark.parametrize(
    ("injected", "here", "clock"),
    [
        ("20240305110000.00+0000", "+0200", None),
        ("20240305073000-0530", "+0000", None),
        ("20240305110000+0000", None, "130000"),  # whatever the zone is, the time of day is local
        ("20240305130000", "+0200", None),
    ],
)
def test_injections_in_other_time_zones(injected: str, here: str | None, clock: str | None) -> None:
    drugs = drug(RadiopharmaceuticalStartDateTime=injected, RadiopharmaceuticalStartTime=clock)
    found = uptake_of(pet(TimezoneOffsetFromUTC=here, RadiopharmaceuticalInformationSequence=[drugs]))
    assert found.factor == pytest.approx(AFTER_AN_HOUR, rel=1e-9)


def test_an_injection_in_an_unknown_time_zone_is_not_known() -> None:
    drugs = drug(RadiopharmaceuticalStartDateTime="20240305110000+0000", RadiopharmaceuticalStartTime=None)
    assert uptake_of(pet(RadiopharmaceuticalInformationSequence=[drugs])).factor is None


@pytest.mark.parametrize("start", ["20240301130000", "20240305150000"])
def test_an_injection_days_before_or_after_the_scan_is_none(start: str) -> None:
    drugs = drug(RadiopharmaceuticalStartDateTime=start)
    assert uptake_of(pet(RadiopharmaceuticalInformationSequence=[drugs])).factor is None


def written(folder: Path, edit: Callable[[Dataset, int], None] = lambda *_: None) -> list[Path]:
    """A PET series with a slope for each slice."""

    def fill(dataset: Dataset, n: int) -> None:
        store(dataset, np.round(intensity(PLANES[n].points_mm) + 500), slope=n + 0.5)
        for element in pet():
            if element.keyword not in dataset:
                dataset.add(element)
        edit(dataset, n)

    return write_series(folder, PLANES, modality="PT", edit=fill)


def test_a_series_becomes_suv_slice_by_slice(tmp_path: Path) -> None:
    volume = read_series(written(tmp_path))
    assert volume.kind is Kind.PET
    for n, plane in enumerate(PLANES):
        expected = np.round(intensity(plane.points_mm) + 500) * (n + 0.5) * AFTER_AN_HOUR
        np.testing.assert_allclose(volume.array[0, :, :, n].T, expected, rtol=1e-5)


def test_decay_counts_from_the_first_bed_where_the_series_time_is_that_of_processing(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        dataset.SeriesTime, dataset.AcquisitionTime = "180000", f"14{(3 - n) // 2 * 5:02d}00"

    stack = one_volume(written(tmp_path, edit))
    assert f"SUVbw = {AFTER_AN_HOUR:.6g} x value (74 kg, 370 MBq)" in stack.notes
    volume = read_series(stack)
    expected = np.round(intensity(PLANES[3].points_mm) + 500) * 3.5 * AFTER_AN_HOUR
    np.testing.assert_allclose(volume.array[0, :, :, 3].T, expected, rtol=1e-5)


def test_philips_factors_are_each_images_own(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        dataset.Units = "CNTS"
        dataset.add_new((0x7053, 0x0010), "LO", "Philips PET Private Group")
        dataset.add_new((0x7053, 0x1000), "DS", f"{0.25 * (n + 1):g}")

    volume = read_series(written(tmp_path, edit))
    expected = np.round(intensity(PLANES[3].points_mm) + 500) * 3.5 * 1.0
    np.testing.assert_allclose(volume.array[0, :, :, 3].T, expected, rtol=1e-5)


def test_one_slice_without_weight_is_no_part_of_an_suv_volume(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        if n == 1:
            del dataset.PatientWeight

    written(tmp_path, edit)
    assert not [stack for stack in find_series(tmp_path) if stack.is_scan]
