"""The kinds of synthetic data there are, each like a public dataset in channels, spacing, structures and difficulty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from delineate.labels import LabelSet, label_set
from delineate.phantom.acquisition import SCANNERS
from delineate.phantom.brain import TUMOUR_CHANNELS, TUMOUR_LABELS, make_tumour_patient
from delineate.phantom.chest import CHEST_CANCER
from delineate.phantom.heart import HEART_CHANNELS, HEART_LABELS, make_heart_patient
from delineate.phantom.hippocampus import HIPPOCAMPUS_CHANNELS, HIPPOCAMPUS_LABELS, make_hippocampus_patient
from delineate.phantom.magnets import MAGNETS
from delineate.phantom.organs import LIVER, LIVER_LESION, SPLEEN
from delineate.phantom.patient import ABDOMEN, Examination, SyntheticPatient, draw_abdomen, make_patient
from delineate.phantom.prostate import PROSTATE_CHANNELS, PROSTATE_LABELS, make_prostate_patient

Make = Callable[[int, str | None, float], SyntheticPatient]


@dataclass(frozen=True, slots=True)
class SyntheticKind:
    """`make(seed, site, coarse)`: one patient, from one of the `sites`, with voxels `coarse` times as large."""

    title: str
    channels: tuple[str, ...]
    labels: LabelSet
    sites: tuple[str, ...]
    make: Make


def _examined(examination: Examination, title: str) -> SyntheticKind:
    def make(seed: int, site: str | None, coarse: float) -> SyntheticPatient:
        return make_patient(seed, scanner=site, spacing_scale=coarse, examination=examination)

    return SyntheticKind(title, ("CT",), examination.labels, tuple(SCANNERS), make)


def _abdominal(name: str, labels: LabelSet, *drawn: int) -> Examination:
    """The abdomen with other labels: the drawn values become 1, 2, ... of `labels`."""
    values = {value: n for n, value in enumerate(drawn, start=1)}
    return Examination(name, draw_abdomen, ABDOMEN.bottom_mm, ABDOMEN.top_mm, labels, values)


def _mr(
    title: str, channels: tuple[str, ...], labels: LabelSet, draw: Callable[..., SyntheticPatient]
) -> SyntheticKind:
    def make(seed: int, site: str | None, coarse: float) -> SyntheticPatient:
        return draw(seed, site=site, coarse=coarse)

    return SyntheticKind(title, channels, labels, tuple(MAGNETS), make)


KINDS = {
    "abdomen": _examined(ABDOMEN, "Synthetic abdomen"),
    "spleen": _examined(_abdominal("spleen", label_set({1: "spleen"}), SPLEEN), "Synthetic spleen"),
    "liver": _examined(
        _abdominal("liver", label_set({1: "liver", 2: "cancer"}), LIVER, LIVER_LESION), "Synthetic liver"
    ),
    "lung": _examined(CHEST_CANCER, "Synthetic lung cancer"),
    "heart": _mr("Synthetic heart", HEART_CHANNELS, HEART_LABELS, make_heart_patient),
    "brain_tumour": _mr("Synthetic brain tumour", TUMOUR_CHANNELS, TUMOUR_LABELS, make_tumour_patient),
    "prostate": _mr("Synthetic prostate", PROSTATE_CHANNELS, PROSTATE_LABELS, make_prostate_patient),
    "hippocampus": _mr("Synthetic hippocampus", HIPPOCAMPUS_CHANNELS, HIPPOCAMPUS_LABELS, make_hippocampus_patient),
}


def make_synthetic(kind: str, seed: int, *, site: str | None = None, coarse: float = 1.0) -> SyntheticPatient:
    """One synthetic patient of a kind, from a site (by chance if None), with voxels `coarse` times as large.

    The seed decides the anatomy, whatever the site. Raises `ValueError` for a kind or site that there is not, and a
    `coarse` that is not positive.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(KINDS)}")
    if coarse <= 0:
        raise ValueError(f"coarse must be positive: {coarse}")
    return KINDS[kind].make(seed, site, coarse)
