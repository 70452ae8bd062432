from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import InputError, LabelError
from delineate.geometry import Grid, compose_affine, index_to_world
from delineate.labels import Code, LabelSet, label_set
from delineate.measurement.lesions import LesionOptions, measure_lesions
from delineate.measurement.quantities import (
    BODY_SURFACE_AREA,
    ESTIMATED_VOLUME,
    FUNCTIONAL_VOLUME,
    REMNANT_SHARE,
    REMNANT_VOLUME,
    STANDARDISED_REMNANT,
)
from delineate.measurement.resection import BodySize, Plane, RemnantReport, Resection, measure_remnant
from delineate.volume import Segmentation

Mask = npt.NDArray[np.bool_]
NAMES = {1: "liver", 2: "tumour", 3: "spleen"}
RADIUS_MM, TUMOUR_MM = 40.0, 10.0


def turned(shape: tuple[int, int, int], spacing_mm: tuple[float, ...], *, shear: float = 0.0) -> Grid:
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    slant = np.eye(3)
    slant[0, 2] = shear
    return Grid(shape, compose_affine(turn @ slant * spacing_mm, (10.0, -30, 5)))


def phantom(
    grid: Grid, at_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> tuple[Segmentation, npt.NDArray[np.float64]]:
    """A liver, a ball of 40 mm around the grid's middle, with a tumour of 10 mm; and where that middle is."""
    middle = index_to_world(grid, (np.array(grid.shape) - 1) / 2)
    far = index_to_world(grid, np.moveaxis(np.indices(grid.shape), 0, -1)) - middle
    array = (np.linalg.norm(far, axis=-1) < RADIUS_MM).astype(np.uint8)
    array[np.linalg.norm(far - at_mm, axis=-1) < TUMOUR_MM] = 2
    return Segmentation(array, grid, label_set(NAMES)), middle


GRID = turned((64, 64, 34), (1.4, 1.4, 2.7))


def remnant(segmentation: Segmentation, resection: Resection, **more: object) -> RemnantReport:
    lesions = measure_lesions(segmentation, options=LesionOptions())
    return measure_remnant(segmentation, ("liver",), resection, lesions, **more)  # type: ignore[arg-type]


def value(found: RemnantReport, quantity: Code) -> float:
    return next(one.value for one in found.findings if one.quantity == quantity)


def ball_ml(radius_mm: float) -> float:
    return 4 / 3 * math.pi * radius_mm**3 / 1000


def cap_ml(radius_mm: float, height_mm: float) -> float:
    return math.pi * height_mm**2 * (radius_mm - height_mm / 3) / 1000


@given(offset=st.floats(-25, 25), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_plane_leaves_a_cap_of_a_ball(offset: float, seed: int) -> None:
    segmentation, middle = phantom(GRID, at_mm=(100.0, 0, 0))
    normal = np.random.default_rng(seed).normal(size=3)
    point = middle + offset * normal / np.linalg.norm(normal)
    found = remnant(segmentation, Resection(Plane(tuple(point), tuple(normal))))
    expected_ml = cap_ml(RADIUS_MM, RADIUS_MM - offset)
    assert value(found, REMNANT_VOLUME) == pytest.approx(expected_ml, abs=0.01 * ball_ml(RADIUS_MM))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_along_the_grid_cuts_voxels_in_part(axis: int) -> None:
    grid = turned((6, 8, 5), (1.0, 2.0, 6.0))
    segmentation = Segmentation(np.ones(grid.shape, np.uint8), grid, label_set({1: "liver"}))
    index = (np.array(grid.shape) - 1) / 2
    index[axis] = 1.8  # 0.3 of the voxels 2 lie before it
    plane = Plane(tuple(index_to_world(grid, index)), tuple(-grid.direction[:, axis]))
    share = (2 + 0.3) / grid.shape[axis]
    assert value(remnant(segmentation, Resection(plane)), REMNANT_SHARE) == pytest.approx(100 * share, rel=1e-5)


@pytest.mark.parametrize("shear", [0.0, 0.3])
@pytest.mark.parametrize("margin_mm", [0.0, 5.0, 12.0])
def test_a_margin_takes_a_larger_ball(margin_mm: float, shear: float) -> None:
    grid = turned((72, 64, 34), (1.4, 1.4, 2.7), shear=shear)
    segmentation, _ = phantom(grid, at_mm=(5.0, 3.0, -2.0))
    found = remnant(segmentation, Resection(margin_mm=margin_mm))
    taken_ml = value(found, FUNCTIONAL_VOLUME) - value(found, REMNANT_VOLUME)
    shell_ml = ball_ml(TUMOUR_MM + margin_mm) - ball_ml(TUMOUR_MM)
    within_mm = 0.2  # of the margin's end
    area_mm2 = 4 * math.pi * (TUMOUR_MM + margin_mm) ** 2
    assert taken_ml == pytest.approx(shell_ml, abs=1e-9 if not margin_mm else within_mm * area_mm2 / 1000)


def test_the_functional_volume_is_without_lesions() -> None:
    segmentation, middle = phantom(GRID)
    found = remnant(segmentation, Resection(Plane(tuple(middle), (0.0, 0, 1))))
    assert value(found, FUNCTIONAL_VOLUME) == pytest.approx(ball_ml(RADIUS_MM) - ball_ml(TUMOUR_MM), rel=0.01)
    assert value(found, REMNANT_SHARE) == pytest.approx(50.0, abs=0.5)


def test_lesions_in_an_organ_that_holds_them_do_not_count_either() -> None:
    segmentation, middle = phantom(GRID)
    labels = LabelSet(label_set({1: "liver", 2: "tumour"}).labels, overlaps=True)
    masks = np.stack([segmentation.array > 0, segmentation.array == 2])
    plane = Resection(Plane(tuple(middle), (0.0, 0, 1)))
    expected, found = remnant(segmentation, plane), remnant(Segmentation(masks, GRID, labels), plane)
    assert [one.value for one in found.findings] == pytest.approx([one.value for one in expected.findings])


def test_segments_make_up_an_organ_and_are_removed_from_it() -> None:
    array = np.zeros((10, 6, 4), np.uint8)
    array[:2], array[2:5], array[5:] = 1, 2, 3
    segmentation = Segmentation(array, Grid(array.shape, np.diag((5.0, 5, 10, 1))), label_set({1: "a", 2: "b", 3: "c"}))
    lesions = measure_lesions(segmentation)
    found = measure_remnant(segmentation, ("a", "b", "c"), Resection(removed=("a", "b")), lesions)
    assert {one.label.name for one in found.findings} == {"a + b + c"}
    assert value(found, FUNCTIONAL_VOLUME) == pytest.approx(60.0)
    assert value(found, REMNANT_SHARE) == pytest.approx(50.0)
    with pytest.raises(InputError, match="no part of the organ"):
        measure_remnant(segmentation, ("a", "b"), Resection(removed=("c",)), lesions)


def test_what_an_adult_of_the_size_has_comes_from_the_published_formulas() -> None:
    segmentation, middle = phantom(GRID, at_mm=(100.0, 0, 0))
    found = remnant(segmentation, Resection(Plane(tuple(middle), (1.0, 0, 0))), body=BodySize(180.0, 80.0))
    assert value(found, BODY_SURFACE_AREA) == pytest.approx(2.0)
    assert value(found, ESTIMATED_VOLUME) == pytest.approx(1740.15)
    assert value(found, STANDARDISED_REMNANT) == pytest.approx(100 * value(found, REMNANT_VOLUME) / 1740.15)
    assert "Vauthey" in found.findings[-1].note


def test_a_lesion_that_stays_is_said() -> None:
    segmentation, middle = phantom(GRID, at_mm=(20.0, 0, 0))
    kept = remnant(segmentation, Resection(Plane(tuple(middle), (1.0, 0, 0))))
    gone = remnant(segmentation, Resection(Plane(tuple(middle), (-1.0, 0, 0))))
    assert kept.remarks == ("liver: the resection leaves tumour 1",)
    assert gone.remarks == ()


def test_parts_too_small_for_a_margin_are_said() -> None:
    segmentation, _ = phantom(GRID)
    array = segmentation.array.copy()
    array[32, 50, 17] = 2
    found = remnant(replace(segmentation, array=array), Resection(margin_mm=5.0))
    assert found.remarks == ("liver: no margin is taken around parts of lesions that are not listed (1)",)


def test_a_plan_that_does_nothing_is_said() -> None:
    segmentation, middle = phantom(GRID, at_mm=(100.0, 0, 0))
    beside = remnant(segmentation, Resection(Plane(tuple(middle - np.array([90, 0, 0])), (1.0, 0, 0))))
    assert beside.remarks == ("liver: the resection takes nothing of it away",)
    around = remnant(segmentation, Resection(margin_mm=10.0))
    assert around.remarks[0] == "liver: there is no lesion to take a margin around"
    all_ = remnant(segmentation, Resection(Plane(tuple(middle + np.array([90, 0, 0])), (1.0, 0, 0))))
    assert all_.remarks == ("liver: the resection leaves nothing of it",)


def test_nothing_to_resect() -> None:
    segmentation, _ = phantom(GRID)
    found = measure_remnant(segmentation, ("spleen",), Resection(margin_mm=1), measure_lesions(segmentation))
    assert (found.findings, found.remarks) == ((), ("spleen: no voxels, no remnant",))


def test_plans_that_are_none_are_refused() -> None:
    segmentation, _ = phantom(GRID)
    with pytest.raises(InputError, match="takes nothing away"):
        Resection()
    with pytest.raises(InputError, match="not a margin"):
        Resection(margin_mm=-1.0)
    with pytest.raises(InputError, match="not a plane"):
        Plane((0.0, 0, 0), (0.0, 0, 0))
    with pytest.raises(InputError, match="no adult's height"):
        BodySize(1.80, 80)
    with pytest.raises(LabelError, match="no such label"):
        measure_remnant(segmentation, ("lung",), Resection(margin_mm=1), measure_lesions(segmentation))
    with pytest.raises(InputError, match="known for livers only"):
        measure_remnant(
            segmentation, ("spleen",), Resection(margin_mm=1), measure_lesions(segmentation), body=BodySize(180, 80)
        )
