"""From a PET image's numbers to standardised uptake values by body weight.

SUVbw = activity concentration [Bq/ml] * weight [g] / dose at the time that decay is corrected to [Bq], as in the QIBA
FDG-PET/CT profile's calculation and DICOM PS3.3 C.8.9.1: with DecayCorrection START the dose is decayed to the start of
the scan, with ADMIN it is the one injected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from delineate.formats.dicom.headers import (
    PHILIPS_ACTIVITY_FACTOR,
    PHILIPS_SUV_FACTOR,
    first_value,
    is_multi,
    number,
    private_number,
    text,
)

if TYPE_CHECKING:
    from pydicom import Dataset

_DAY = timedelta(days=1)
_DOSES_BQ = (1e4, 1e11)  # from mice to therapy; a dose in MBq is far below
_WEIGHTS_KG = (0.01, 600.0)
_DECAY_TOLERANCE = 0.01
_DATE = re.compile(r"\d{8}")
_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)")
_CLOCK = re.compile(r"(\d\d|\d{4}|\d{6})(?!\d)")


@dataclass(frozen=True, slots=True)
class Uptake:
    """`factor` turns rescaled values into SUVbw; None where the file does not allow it. `how`: in words, either way.

    `timed`: whether it comes from the image's own times, which may be those of one bed of many.
    """

    factor: float | None
    how: str
    timed: bool = False


def uptake_of(dataset: Dataset) -> Uptake:
    """How a PET image becomes SUVbw, by its Units and radiopharmaceutical."""
    units = text(dataset, "Units")
    if units == "GML":
        kind = text(dataset, "SUVType") or "BW"
        return Uptake(1.0 if kind == "BW" else None, f"SUV by {kind} as stored (Units GML)")
    if units == "CNTS":
        return _philips(dataset)
    if units != "BQML":
        return Uptake(None, f"no SUV: Units are {units or 'missing'}")
    return _from_activity(dataset, 1.0)


def _philips(dataset: Dataset) -> Uptake:
    """Philips stores counts; a private factor turns them into SUVbw, or another into Bq/ml."""
    suv = private_number(dataset, PHILIPS_SUV_FACTOR)
    if suv:
        return Uptake(suv, f"SUV by Philips' factor {suv:g}")
    activity = private_number(dataset, PHILIPS_ACTIVITY_FACTOR)
    return _from_activity(dataset, activity) if activity else Uptake(None, "no SUV: counts without a Philips factor")


def _from_activity(dataset: Dataset, to_bqml: float) -> Uptake:
    items = first_value(dataset, "RadiopharmaceuticalInformationSequence")
    drug = items[0] if items else None
    weight_kg = number(dataset, "PatientWeight")
    dose = None if drug is None else number(drug, "RadionuclideTotalDose")
    half_life = None if drug is None else number(drug, "RadionuclideHalfLife")
    corrections = first_value(dataset, "CorrectedImage")
    words = [str(word) for word in corrections] if is_multi(corrections) else [str(corrections)]
    missing = [
        name
        for name, there in (
            ("PatientWeight", weight_kg),
            ("RadionuclideTotalDose", dose),
            ("RadionuclideHalfLife", half_life),
            ("attenuation correction", "ATTN" in words),
            ("decay correction", "DECY" in words),
        )
        if not there
    ]
    if missing or not (weight_kg and dose and half_life) or drug is None or min(weight_kg, dose, half_life) <= 0:
        return Uptake(None, f"no SUV: without {', '.join(missing) or 'positive weight, dose and half-life'}")
    if not (_DOSES_BQ[0] <= dose <= _DOSES_BQ[1] and _WEIGHTS_KG[0] <= weight_kg <= _WEIGHTS_KG[1]):
        return Uptake(None, f"no SUV: a dose of {dose:g} Bq for {weight_kg:g} kg cannot be")
    decay = _decay(dataset, drug, half_life)
    if decay is None:
        return Uptake(None, "no SUV: the time from injection to scan is not known")
    if not _decay_is_said(dataset, half_life):
        return Uptake(None, "no SUV: DecayFactor contradicts the time from the series' start to the image")
    factor = to_bqml * weight_kg * 1000.0 / (dose * decay)
    return Uptake(factor, f"SUVbw = {factor:.6g} x value ({weight_kg:g} kg, {dose / 1e6:.4g} MBq)", timed=True)


def _decay(dataset: Dataset, drug: Dataset, half_life: float) -> float | None:
    """What is left of the dose at the time that the image's decay is corrected to."""
    correction = text(dataset, "DecayCorrection")
    if correction == "ADMIN":
        return 1.0
    if correction != "START":
        return None
    start, injected = _scan_start(dataset), _injection(dataset, drug)
    if start is None or injected is None:
        return None
    seconds = (start - injected).total_seconds()
    return float(2.0 ** (-seconds / half_life)) if 0 <= seconds <= _DAY.total_seconds() else None


def _decay_is_said(dataset: Dataset, half_life: float) -> bool:
    """Whether the factor by which pixels were corrected fits the times, where it is given (PS3.3 C.8.9.4).

    Some scanners correct each bed to its own start, and some archives move the series' time to an image's: either would
    make the dose that is left a tenth wrong. Activity falls during a frame too: the factor is between that of its start
    and that of its end.
    """
    factor, duration_ms = number(dataset, "DecayFactor"), number(dataset, "ActualFrameDuration")
    series = _moment(text(dataset, "SeriesDate"), text(dataset, "SeriesTime"))
    acquired = _moment(text(dataset, "AcquisitionDate"), text(dataset, "AcquisitionTime"))
    # 1 is what is written where nothing is known; a series' time after the image's was rewritten, and is not used.
    if text(dataset, "DecayCorrection") != "START" or factor in (None, 1.0) or duration_ms is None:
        return True
    if series is None or acquired is None or series > acquired or factor is None:
        return True
    waited = (acquired - series).total_seconds()
    start, end = (float(2.0 ** (seconds / half_life)) for seconds in (waited, waited + duration_ms / 1000))
    return start * (1 - _DECAY_TOLERANCE) <= factor <= end * (1 + _DECAY_TOLERANCE)


def _scan_start(dataset: Dataset) -> datetime | None:
    """Series date and time; it may have been rewritten by processing, then the acquisition's, if earlier, counts."""
    series = _moment(text(dataset, "SeriesDate"), text(dataset, "SeriesTime"))
    acquired = _moment(text(dataset, "AcquisitionDate"), text(dataset, "AcquisitionTime"))
    known = [moment for moment in (series, acquired) if moment is not None]
    return min(known) if known else None


def _injection(dataset: Dataset, drug: Dataset) -> datetime | None:
    whole = text(drug, "RadiopharmaceuticalStartDateTime")
    if len(whole) >= 14:
        moment, away, here = _moment(whole[:8], whole[8:]), _offset(whole[8:]), text(dataset, "TimezoneOffsetFromUTC")
        if moment is None or away is None:
            return moment
        # All other times are those of the scanner's place (PS3.3 C.12.1.1); without it the time of day counts, below.
        local = _offset(here)
        if local is not None:
            return moment - away + local
    clock = _moment(text(dataset, "SeriesDate"), text(drug, "RadiopharmaceuticalStartTime"))
    start = _scan_start(dataset)
    # Only a time of day is given: an injection before midnight was the day before.
    return clock - _DAY if clock is not None and start is not None and clock > start else clock


def _offset(clock: str) -> timedelta | None:
    """What a time is ahead of UTC: "&ZZXX" of a date and time (PS3.5 6.2); None where it does not say so."""
    found = _OFFSET.search(clock)
    if found is None:
        return None
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -ahead if found[1] == "-" else ahead


def _moment(date: str, clock: str) -> datetime | None:
    """PS3.5 6.2: YYYYMMDD, and HH, HHMM or HHMMSS, maybe with a fraction; ACR-NEMA's dots and colons go."""
    day, of_day = _DATE.fullmatch(date.replace(".", "")), _CLOCK.match(clock.replace(":", ""))
    if day is None or of_day is None:
        return None
    try:
        return datetime.strptime(day[0] + (of_day[1]).ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
