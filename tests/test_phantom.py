"""Synthetic patients: deterministic, complete, anatomically on the right side, and inside the field of view."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.geometry import FloatArray, Grid, Triple, compose_affine, index_to_world
from delineate.phantom import (
    MR_LABELS,
    PATIENT_LABELS,
    PHASES,
    SCANNERS,
    SyntheticPatient,
    make_cohort,
    make_mr_patient,
    make_patient,
)
from delineate.phantom.rendering import Build, Structure, render
from delineate.phantom.shapes import Points, Shape, as_field, chain, common, ellipsoid, grow, prism, union, without
from delineate.volume import Kind

TINY: Triple = (40, 32, 24)
SEEDS = range(12)


@pytest.fixture(scope="module")
def patients() -> list[SyntheticPatient]:
    return list(make_cohort(len(SEEDS), matrix=(48, 44, 32)))


def centre_mm(patient: SyntheticPatient, name: str) -> FloatArray:
    """World position of a structure's centre of mass."""
    return index_to_world(patient.reference.grid, np.argwhere(patient.reference.mask(name)).mean(axis=0))


def test_the_same_seed_gives_the_same_patient() -> None:
    first, second = make_patient(5, matrix=TINY), make_patient(5, matrix=TINY)
    assert np.array_equal(first.image.array, second.image.array)
    assert np.array_equal(first.reference.array, second.reference.array)
    assert first.image.grid == second.image.grid
    assert (first.id, first.scanner, first.phase) == (second.id, second.scanner, second.phase)


def test_another_seed_gives_another_patient() -> None:
    first, second = make_patient(5, matrix=TINY), make_patient(6, matrix=TINY)
    assert not np.array_equal(first.reference.array, second.reference.array)
    assert first.image.grid != second.image.grid


def test_a_patient_is_a_ct_with_a_reference_on_the_same_grid() -> None:
    patient = make_patient(1, matrix=TINY)
    assert patient.image.kind is Kind.CT
    assert patient.image.array.dtype == np.int16
    assert patient.image.array.shape == (1, *TINY)
    assert patient.reference.grid == patient.image.grid
    assert patient.reference.labels == PATIENT_LABELS
    assert patient.image.array.min() < -900


def test_every_structure_is_there(patients: list[SyntheticPatient]) -> None:
    for patient in patients:
        sizes = {name: patient.reference.mask(name).sum() for name in PATIENT_LABELS.names}
        assert min(sizes.values()) > 40, (patient.id, sizes)


def test_organs_have_plausible_volumes(patients: list[SyntheticPatient]) -> None:
    limits = {"liver": (500, 1800), "spleen": (40, 350), "left_kidney": (50, 300), "stomach": (100, 600)}
    for patient in patients:
        for name, (low, high) in limits.items():
            volume_ml = patient.reference.mask(name).sum() * patient.image.grid.voxel_volume_ml
            assert low < volume_ml < high, (patient.id, name, volume_ml)


def test_left_and_right_are_the_patients(patients: list[SyntheticPatient]) -> None:
    for patient in patients:
        x = {name: centre_mm(patient, name)[0] for name in PATIENT_LABELS.names}
        spine = x["spine"]
        assert x["liver"] < spine - 20
        assert x["right_kidney"] < spine - 30
        assert x["left_kidney"] > spine + 30
        assert x["spleen"] > x["stomach"] > spine
    assert ("left_kidney", "right_kidney") in PATIENT_LABELS.pairs


def test_front_and_back_and_up_and_down_are_anatomical(patients: list[SyntheticPatient]) -> None:
    for patient in patients:
        centre = {name: centre_mm(patient, name) for name in PATIENT_LABELS.names}
        assert centre["stomach"][1] < centre["aorta"][1] < centre["spine"][1]
        assert centre["right_kidney"][2] < centre["liver"][2] < centre["lungs"][2]


def test_gas_floats_to_the_front_of_the_stomach(patients: list[SyntheticPatient]) -> None:
    for patient in patients:
        stomach, hu = patient.reference.mask("stomach"), patient.image.array[0]
        gas, fluid = (index_to_world(patient.image.grid, np.argwhere(stomach & part)) for part in (hu < -500, hu > -60))
        assert len(gas) > 10
        assert gas[:, 1].mean() < fluid[:, 1].mean() - 8


def test_the_body_lies_in_the_field_of_view(patients: list[SyntheticPatient]) -> None:
    for patient in patients:
        dense = patient.image.array[0] > -400
        front = slice(0, dense.shape[1] // 2)  # the table reaches the border behind the patient
        assert not dense[0, front].any(), patient.id
        assert not dense[-1, front].any(), patient.id
        assert not dense[:, 0].any(), patient.id


def test_the_patient_lies_oblique_on_a_right_angled_grid() -> None:
    grid = make_patient(3, matrix=TINY).image.grid
    assert grid.orientation == "LPS"
    assert np.allclose(grid.direction.T @ grid.direction, np.eye(3))
    assert np.linalg.det(grid.direction) == pytest.approx(1)
    assert np.abs(grid.direction - np.eye(3)).max() > 0.01


def test_without_tilt_the_grid_is_straight() -> None:
    assert np.allclose(make_patient(3, matrix=TINY, tilt_degrees=0).image.grid.direction, np.eye(3))


def test_a_coarser_patient_covers_the_same_field_of_view() -> None:
    fine, coarse = make_patient(2, spacing_scale=2).image.grid, make_patient(2, spacing_scale=4).image.grid
    assert np.allclose(fine.extent_mm, coarse.extent_mm)
    assert max(coarse.shape) * 2 == max(fine.shape)


def test_the_matrix_does_not_change_the_anatomy() -> None:
    coarse, fine = make_patient(4, matrix=TINY), make_patient(4, matrix=(56, 60, 44))
    for name in ("liver", "spleen", "right_kidney", "stomach"):
        assert np.linalg.norm(centre_mm(coarse, name) - centre_mm(fine, name)) < 4


def test_the_phase_changes_intensities_and_not_the_anatomy() -> None:
    native, arterial = (make_patient(7, matrix=TINY, scanner="A", phase=phase) for phase in ("native", "arterial"))
    aorta = native.reference.mask("aorta")
    assert np.array_equal(native.reference.array, arterial.reference.array)
    assert arterial.image.array[0][aorta].mean() > native.image.array[0][aorta].mean() + 100


def test_native_organs_cannot_be_told_apart_by_threshold() -> None:
    patient = make_patient(8, spacing_scale=2, scanner="A", phase="native")
    liver, spleen = (patient.image.array[0][patient.reference.mask(name)] for name in ("liver", "spleen"))
    assert abs(float(np.median(liver)) - float(np.median(spleen))) < liver.std()


def test_scanners_differ_in_noise() -> None:
    noise = {}
    for scanner in SCANNERS:
        patient = make_patient(9, matrix=(48, 48, 30), scanner=scanner, phase="native")
        # Quartiles, because vessels and the organ's edge are no noise.
        low, high = np.percentile(patient.image.array[0][patient.reference.mask("liver")], (25, 75))
        noise[scanner] = high - low
    assert noise["C"] > 1.5 * noise["B"]


def test_a_cohort_has_distinct_ids_and_several_scanners_and_phases(patients: list[SyntheticPatient]) -> None:
    assert len({patient.id for patient in patients}) == len(patients)
    assert {patient.scanner for patient in patients} == set(SCANNERS)
    assert {patient.phase for patient in patients} == set(PHASES)


def test_a_cohort_is_made_from_consecutive_seeds_and_may_be_empty() -> None:
    assert [patient.seed for patient in make_cohort(2, 30, matrix=(8, 9, 7))] == [30, 31]
    assert list(make_cohort(0)) == []


@pytest.mark.parametrize(
    ("choice", "message"),
    [({"scanner": "Z"}, "unknown scanner 'Z'"), ({"phase": "late"}, "unknown phase 'late'")],
)
def test_unknown_scanners_and_phases_are_refused(choice: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_patient(0, matrix=TINY, scanner=choice.get("scanner"), phase=choice.get("phase"))


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="out of range: spacing_scale=0"):
        make_patient(0, spacing_scale=0)
    with pytest.raises(ValueError, match="matrix=\\(2, 8, 8\\)"):
        make_patient(0, matrix=(2, 8, 8))


def test_mr_has_the_channels_asked_for_on_an_oblique_sagittal_grid() -> None:
    patient = make_mr_patient(2, channels=3)
    assert patient.image.array.shape == (3, 56, 64, 40)
    assert patient.image.array.dtype == np.float32
    assert patient.image.kind is Kind.MR
    assert patient.image.grid.orientation == "PIR"
    assert patient.phase == "T1+T2+FLAIR"


def test_mr_has_every_structure_on_its_side() -> None:
    for seed in range(4):
        patient = make_mr_patient(seed)
        assert all(patient.reference.mask(name).sum() > 40 for name in MR_LABELS.names)
        for name in ("hippocampus", "ventricle"):
            assert centre_mm(patient, f"left_{name}")[0] > centre_mm(patient, f"right_{name}")[0] + 8


def test_mr_scale_is_arbitrary_and_the_same_seed_gives_the_same_scan() -> None:
    first, again, other = (make_mr_patient(seed, channels=1).image.array for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert abs(first.mean() / other.mean() - 1) > 0.1


def test_mr_fluid_is_dark_in_t1_and_bright_in_t2() -> None:
    patient = make_mr_patient(6)
    fluid, tissue = patient.reference.mask("left_ventricle"), patient.reference.mask("brainstem")
    t1, t2 = patient.image.array
    assert t1[fluid].mean() < t1[tissue].mean()
    assert t2[fluid].mean() > t2[tissue].mean()


def test_mr_with_other_numbers_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="channels must be 1, 2 or 3: 4"):
        make_mr_patient(0, channels=4)


def at(shape: Shape, x: float, y: float, z: float) -> float:
    points = Points(*(np.array([c], np.float32) for c in (x, y, z)))
    return float(shape.field(points)[0])


@pytest.mark.parametrize(
    "shape",
    [
        ellipsoid((1, 2, 3), (5, 7, 11), axis=(0.3, -0.4, 1)),
        chain([(-4, 0, 0), (6, 3, 2), (9, 9, 9)], [2, 4, 3], blend_mm=2),
        union(ellipsoid((0, 0, 0), (4, 5, 6)), ellipsoid((7, 0, 0), (4, 3, 3)), blend_mm=5),
        common(prism((0, 0), (6, 4), power=2.4), ellipsoid((0, 0, 5), (9, 9, 9))),
    ],
)
def test_nothing_of_a_shape_lies_outside_its_box(shape: Shape) -> None:
    axis = np.linspace(-25, 25, 41, dtype=np.float32)
    points = Points(*np.meshgrid(axis, axis, axis, indexing="ij"))
    inside = shape.field(points) < 0
    assert inside.any()
    for c, low, high in zip(points, shape.low, shape.high, strict=True):
        assert c[inside].min() >= low - 1e-4
        assert c[inside].max() <= high + 1e-4


@given(st.floats(0, np.pi), st.floats(0, 2 * np.pi), st.floats(-0.5, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_field_of_an_ellipsoid_is_nearly_a_distance_at_its_surface(theta: float, phi: float, depth: float) -> None:
    radii, centre = np.array([20.0, 30.0, 25.0]), np.array([3.0, -4.0, 5.0])
    unit = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    normal = unit / radii / np.linalg.norm(unit / radii)
    x, y, z = centre + radii * unit + depth * normal
    assert at(ellipsoid((3, -4, 5), (20, 30, 25)), x, y, z) == pytest.approx(depth, abs=0.05)


def test_a_tube_between_two_points_at_one_place_is_a_ball() -> None:
    ball = chain([(1, 2, 3), (1, 2, 3)], [4, 4])
    assert at(ball, 1, 2, 9) == pytest.approx(2)
    assert at(ball, 1, 2, 3) == pytest.approx(-4)


def test_shapes_grow_and_are_cut() -> None:
    ball = ellipsoid((0, 0, 0), (10, 10, 10))
    assert at(ball, 0, 0, 0) < 0
    assert at(grow(ball, 3), 12, 0, 0) == pytest.approx(-1, abs=1e-3)
    assert at(without(ball, ellipsoid((10, 0, 0), (4, 4, 4))), 8, 0, 0) > 0
    assert at(without(ball, ellipsoid((10, 0, 0), (4, 4, 4))), -8, 0, 0) < 0


def test_a_voxel_cut_by_a_surface_gets_its_share_of_both_tissues() -> None:
    grid = Grid((12, 10, 8), compose_affine(np.diag([2.0, 3.0, 4.0]), (-11.0, 0.0, 0.0)))
    wall = Shape(lambda p: as_field(p.x - 0.5), np.full(3, -np.inf), np.full(3, np.inf))
    image, labels = render([Structure(wall, 100.0, 4)], grid, straight(), outside=-100)
    # The voxel centred on x = 1 reaches from 0 to 2; a quarter of it lies in the structure.
    assert np.allclose(image[:5], 100)
    assert np.allclose(image[6], -50)
    assert np.allclose(image[7:], -100)
    assert np.array_equal(np.flatnonzero(labels[:, 0, 0]), np.arange(6))


def test_a_structure_without_a_label_keeps_the_label_below() -> None:
    grid = Grid((9, 10, 11), compose_affine(np.eye(3), (0.0, 0.0, 0.0)))
    organ, lesion = ellipsoid((4, 5, 5), (3, 4, 4)), ellipsoid((4, 5, 5), (1.5, 1.5, 1.5))
    image, labels = render([Structure(organ, 50.0, 3), Structure(lesion, 10.0, None)], grid, straight(), outside=0)
    assert labels[4, 5, 5] == 3
    assert image[4, 5, 5] == pytest.approx(10)


def straight() -> Build:
    """A person exactly like the atlas."""

    def flat(p: Points) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.zeros_like(p.x)

    return Build((1.0, 1.0, 1.0), (flat, flat, flat), (0.0, 0.0, 0.0))
