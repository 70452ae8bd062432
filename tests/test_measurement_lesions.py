from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from delineate.errors import GeometryMismatch, LabelError
from delineate.geometry import Grid, compose_affine, index_to_world
from delineate.labels import Code, LabelSet, label_set
from delineate.measurement.lesions import Lesion, LesionOptions, LesionReport, lesion_labels, measure_lesions
from delineate.measurement.quantities import CONTACT_SHARE, DISTANCE, LONG_AXIS, MARGIN, MEAN, ORGAN_SHARE, VOLUME
from delineate.volume import Kind, Segmentation, Volume, reorient

Mask = npt.NDArray[np.bool_]
NAMES = {1: "liver", 2: "tumour", 3: "aorta", 4: "spleen"}
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
GRID = Grid((80, 64, 36), compose_affine(TURN * (1.5, 1.5, 4.0), (-20.0, 30, -40)))
LIVER_MM, FIRST_MM, SECOND_MM, AORTA_MM = (60.0, 48.0, 72.0), (75.0, 48.0, 72.0), (45.0, 48.0, 80.0), (100.0, 20.0)


def ball(centre_mm: tuple[float, ...], radius_mm: float) -> Mask:
    return np.asarray(np.linalg.norm(places_mm() - centre_mm, axis=-1) < radius_mm)


def places_mm() -> npt.NDArray[np.floating]:
    """Millimetres along the grid's axes, from its first voxel."""
    return np.moveaxis(np.indices(GRID.shape), 0, -1) * GRID.spacing_mm


def patient(**tumours: Mask) -> Segmentation:
    """A liver of 30 mm radius, an aorta of 8 mm, a spleen far off, and two tumours in the liver of 10 and 5 mm."""
    array = np.zeros(GRID.shape, dtype=np.uint8)
    array[ball(LIVER_MM, 30.0)] = 1
    array[np.linalg.norm(places_mm()[..., :2] - AORTA_MM, axis=-1) < 8.0] = 3
    array[ball((15.0, 80.0, 120.0), 10.0)] = 4
    for tumour in tumours.values() if tumours else (ball(FIRST_MM, 10.0), ball(SECOND_MM, 5.0)):
        array[tumour] = 2
    return Segmentation(array, GRID, label_set(NAMES))


def report(segmentation: Segmentation, **options: object) -> LesionReport:
    return measure_lesions(segmentation, options=replace(LesionOptions(), **options))  # type: ignore[arg-type]


def values(found: LesionReport, quantity: Code) -> list[float]:
    return [one.value for one in found.findings if one.quantity == quantity]


def only(found: LesionReport) -> Lesion:
    assert len(found.lesions) == 1
    return found.lesions[0]


def test_lesions_are_numbered_from_the_largest_and_measured_each_by_itself() -> None:
    found = report(patient())
    assert [lesion.name for lesion in found.lesions] == ["tumour 1", "tumour 2"]
    assert values(found, VOLUME) == pytest.approx([4 / 3 * math.pi, 4 / 3 * math.pi / 8], rel=0.1)
    assert values(found, LONG_AXIS) == pytest.approx([20.0, 10.0], abs=1.5)


def test_a_lesion_lies_in_the_organ_around_it() -> None:
    found = report(patient())
    assert [lesion.host and lesion.host.label.name for lesion in found.lesions] == ["liver", "liver"]
    assert values(found, CONTACT_SHARE) == pytest.approx([100.0, 100.0])
    assert values(found, ORGAN_SHARE) == pytest.approx([100 / 27, 100 / 216], rel=0.1)


def test_the_margin_is_to_the_surface_of_organ_and_lesions_together() -> None:
    found = report(patient())
    assert values(found, MARGIN) == pytest.approx([5.0, 30 - 5 - math.hypot(15, 8)], abs=1.5)
    assert all(one.points_mm for one in found.findings if one.quantity == MARGIN)


def test_a_lesion_on_the_surface_has_no_margin_and_only_part_of_it_is_in_contact() -> None:
    lesion = only(report(patient(one=ball((88.0, 48.0, 72.0), 10.0))))
    assert lesion.margin is not None
    assert lesion.margin.value_mm == 0.0
    assert lesion.host is not None
    assert 0.2 < lesion.host.share < 0.8


def test_a_vessel_inside_an_organ_is_not_its_surface() -> None:
    segmentation = patient(one=ball(FIRST_MM, 10.0))
    array = segmentation.array.copy()
    array[ball((60.0, 48.0, 72.0), 3.0)] = 4
    lesion = only(report(replace(segmentation, array=array)))
    assert lesion.margin is not None
    assert lesion.margin.value_mm == pytest.approx(5.0, abs=1.5)


def test_distances_are_to_every_other_structure_but_the_organ_itself() -> None:
    found = report(patient(one=ball(FIRST_MM, 10.0)))
    distances = {one.other.name: one.value for one in found.findings if one.quantity == DISTANCE and one.other}
    assert distances["aorta"] == pytest.approx(math.hypot(25, 28) - 8 - 10, abs=1.0)
    assert distances["spleen"] == pytest.approx(math.dist(FIRST_MM, (15, 80, 120)) - 20, abs=2.0)
    assert set(distances) == {"aorta", "spleen"}


def test_distances_can_be_asked_for_by_name() -> None:
    found = report(patient(one=ball(FIRST_MM, 10.0)), to=("aorta",))
    assert [one.other and one.other.name for one in found.findings if one.quantity == DISTANCE] == ["aorta"]
    with pytest.raises(LabelError, match="no such label"):
        report(patient(), to=("vena cava",))


@pytest.mark.parametrize("orientation", ["RAS", "SLA", "PIR"])
def test_the_order_of_axes_does_not_matter(orientation: str) -> None:
    expected, found = report(patient()), report(reorient(patient(), orientation))
    assert [one.quantity for one in found.findings] == [one.quantity for one in expected.findings]
    assert [one.value for one in found.findings] == pytest.approx([one.value for one in expected.findings])


def test_specks_are_counted_and_not_listed() -> None:
    array = patient().array.copy()
    array[5, 30, 20] = array[7, 40, 10] = 2
    found = report(Segmentation(array, GRID, label_set(NAMES)))
    assert len(found.lesions) == 2
    assert found.remarks[0] == "tumour: 2 parts of less than 0.05 ml, 0.018 ml together, not listed"


def test_a_cut_or_coarse_lesion_says_so() -> None:
    lesion = only(report(patient(one=ball((60.0, 48.0, 0.0), 5.0))))
    assert [remark.split(":")[0] for remark in lesion.remarks] == ["touches the scan's border (foot)", "only 46 voxels"]
    lesion = only(report(patient(one=ball((61.0, 48.0, 72.0), 2.5))))
    assert lesion.remarks[1] == "voxels of 4 mm are more than half as long as the lesion"


def test_masks_that_overlap_hold_their_lesions() -> None:
    liver, tumour = ball(LIVER_MM, 30.0), ball(FIRST_MM, 10.0)
    body = np.ones(GRID.shape, dtype=bool)
    lobe = liver & (places_mm()[..., 0] > 72)
    labels = LabelSet(label_set({1: "body", 2: "liver", 3: "right lobe", 4: "tumour"}).labels, overlaps=True)
    lesion = only(report(Segmentation(np.stack([body, liver, lobe, tumour]), GRID, labels)))
    assert lesion.host is not None
    assert (lesion.host.label.name, lesion.host.share) == ("liver", 1.0)
    assert {one.label.name: one.gap.value_mm for one in lesion.neighbours} == {"right lobe": 0.0}


def test_a_core_inside_a_rim_lies_in_the_organ_around_both() -> None:
    array = patient().array.copy()
    array[ball(FIRST_MM, 5.0)] = 5
    found = report(Segmentation(array, GRID, label_set({**NAMES, 5: "necrosis"})))
    assert {lesion.name: lesion.host and lesion.host.label.name for lesion in found.lesions} == {
        "tumour 1": "liver",
        "tumour 2": "liver",
        "necrosis 1": "liver",
    }


def test_a_lesion_in_the_open_lies_nowhere() -> None:
    lesion = only(report(patient(one=ball((20.0, 20.0, 20.0), 8.0))))
    assert (lesion.host, lesion.margin, lesion.organ_share) == (None, None, None)


def test_an_organ_that_is_only_touched_is_a_neighbour() -> None:
    lesion = only(report(patient(one=ball((108.0, 48.0, 72.0), 19.0))))
    assert lesion.host is None
    assert {one.label.name: one.gap.value_mm for one in lesion.neighbours}["liver"] == 0.0


def test_names_say_what_is_a_lesion_unless_one_says_otherwise() -> None:
    labels = label_set({1: "liver", 2: "liver_tumour", 3: "kidney cyst", 4: "roi_7"})
    assert [label.name for label in lesion_labels(labels)] == ["liver_tumour", "kidney cyst"]
    assert [label.name for label in lesion_labels(labels, ["roi_7"])] == ["roi_7"]
    with pytest.raises(LabelError, match="no such label"):
        lesion_labels(labels, ["roi_8"])


def test_no_lesions_no_findings() -> None:
    nothing = patient(one=np.zeros(GRID.shape, dtype=bool))
    found = report(nothing)
    assert ([label.name for label in found.labels], found.lesions, found.findings) == (["tumour"], (), ())


def test_what_the_scan_shows_is_of_each_lesion() -> None:
    image = np.where(ball(FIRST_MM, 12.0), 80.0, 40.0)[np.newaxis]
    found = measure_lesions(patient(), Volume(image, GRID, Kind.CT))
    means = {one.component: one.value for one in found.findings if one.derivation == MEAN}
    assert means == {1: 80.0, 2: 40.0}
    with pytest.raises(GeometryMismatch, match="same voxels"):
        measure_lesions(patient(), Volume(image[:, 1:], Grid((79, 64, 36), GRID.affine)))


def test_the_ends_of_distances_lie_where_they_should() -> None:
    found = report(patient(one=ball(FIRST_MM, 10.0)), to=("aorta",))
    (one,) = (one for one in found.findings if one.quantity == DISTANCE)
    centre_mm = index_to_world(GRID, np.divide(FIRST_MM, GRID.spacing_mm))
    assert math.dist(one.points_mm[0], centre_mm) == pytest.approx(10.0, abs=1.0)
    assert math.dist(*one.points_mm) == pytest.approx(one.value)


def test_the_body_around_a_lesion_is_no_neighbour_unless_it_is_asked_for() -> None:
    lesion = ball(FIRST_MM, 10.0)
    masks = np.stack([np.ones(GRID.shape, dtype=bool), ball(LIVER_MM, 30.0) & ~lesion, lesion])
    whole = Segmentation(masks, GRID, label_set({1: "body", 2: "liver", 3: "tumour"}, overlaps=True))
    assert only(report(whole)).neighbours == ()
    assert [one.label.name for one in only(report(whole, to=("body",))).neighbours] == ["body"]
