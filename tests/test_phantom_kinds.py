"""Synthetic data of every kind: complete, deterministic, anatomical, different from site to site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from delineate import formats
from delineate.dataset import check_files, open_dataset
from delineate.errors import InputError, UnreadableImage
from delineate.geometry import FloatArray, index_to_world
from delineate.phantom import KINDS, SyntheticPatient, make_synthetic
from delineate.volume import Kind
from delineate.workflow.choosing import Scan, absent_channels
from delineate.workflow.phantoms import Cohort, write_synthetic

COARSE = {"abdomen": 3.0, "spleen": 3.0, "liver": 3.0, "lung": 2.5}
SEEDS = range(1005, 1009)


def made(kind: str, seed: int, *, site: str | None = None) -> SyntheticPatient:
    return make_synthetic(kind, seed, site=site, coarse=COARSE.get(kind, 1.6))


def centre_mm(patient: SyntheticPatient, name: str) -> FloatArray:
    return index_to_world(patient.reference.grid, np.argwhere(patient.reference.mask(name)).mean(axis=0))


def volume_ml(patient: SyntheticPatient, name: str) -> float:
    return float(patient.reference.mask(name).sum()) * patient.reference.grid.voxel_volume_ml


@pytest.mark.parametrize("kind", KINDS)
def test_a_patient_has_the_channels_and_labels_of_its_kind(kind: str) -> None:
    patient = made(kind, 3)
    assert patient.image.array.shape == (len(KINDS[kind].channels), *patient.reference.array.shape)
    assert patient.image.grid == patient.reference.grid
    assert patient.image.kind is (Kind.CT if KINDS[kind].channels == ("CT",) else Kind.MR)
    assert set(np.unique(patient.reference.array)) <= {0, *KINDS[kind].labels.values}
    assert patient.scanner in KINDS[kind].sites


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_patient_and_another_another(kind: str) -> None:
    first, again, other = made(kind, 5), made(kind, 5), made(kind, 6)
    assert np.array_equal(first.image.array, again.image.array)
    assert np.array_equal(first.reference.array, again.reference.array)
    assert first.image.grid != other.image.grid


@pytest.mark.parametrize("kind", ["heart", "brain_tumour", "prostate", "hippocampus", "lung"])
def test_sites_differ_in_voxels_and_intensities_and_not_in_anatomy(kind: str) -> None:
    a, b = made(kind, 1005, site="A"), made(kind, 1005, site="B")
    name = KINDS[kind].labels.names[0]
    assert a.image.grid.spacing_mm != b.image.grid.spacing_mm
    assert volume_ml(a, name) == pytest.approx(volume_ml(b, name), rel=0.5)
    assert np.linalg.norm(centre_mm(a, name) - centre_mm(b, name)) < max(a.image.grid.spacing_mm)


def test_parts_of_a_brain_tumour_lie_in_one_another_and_some_do_not_enhance() -> None:
    rims = 0
    for seed in range(1000, 1012):
        patient = made("brain_tumour", seed)
        edema, core, rim = (patient.reference.mask(name) for name in KINDS["brain_tumour"].labels.names)
        assert edema.sum() > 100
        assert (core | rim).sum() > 0
        if rim.any():
            rims += 1
            # The rim shields the necrosis from the edema; at the brain's surface alone it may be cut.
            assert (core & _grown(edema)).sum() <= 0.4 * core.sum()
    assert 7 <= rims < 12


def _grown(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask))


def test_gadolinium_shows_the_rim_and_flair_the_edema() -> None:
    patient = made("brain_tumour", 1005, site="A")
    flair, t1, t1gd, _ = patient.image.array
    rim, edema = patient.reference.mask("enhancing_tumour"), patient.reference.mask("edema")
    brain = (t1 > 0) & (patient.reference.array == 0)
    assert t1gd[rim].mean() / np.median(t1gd[brain]) > 1.2 > t1[rim].mean() / np.median(t1[brain])
    assert flair[edema].mean() > 1.3 * np.median(flair[brain])
    assert (patient.image.array[:, 0, 0] == 0).all()  # no skull, no noise outside


def test_the_left_atrium_is_no_brighter_than_other_blood() -> None:
    patient = made("heart", 1005, site="A")
    atrium = patient.reference.mask("left_atrium")
    signal = patient.image.array[0]
    alike = (signal > np.percentile(signal[atrium], 20)) & ~atrium
    assert alike.sum() > atrium.sum()
    assert 35 < volume_ml(patient, "left_atrium") < 180


def test_the_peripheral_zone_lies_behind_and_diffuses_faster() -> None:
    for seed in SEEDS:
        patient = made("prostate", seed)
        outer, inner = (patient.reference.mask(name) for name in ("peripheral_zone", "transition_zone"))
        assert centre_mm(patient, "peripheral_zone")[1] > centre_mm(patient, "transition_zone")[1]
        adc = patient.image.array[1]
        assert adc[outer].mean() > adc[inner].mean() + 100
        spacing = patient.image.grid.spacing_mm
        assert spacing[2] > 1.5 * spacing[0]


def test_the_front_of_the_hippocampus_lies_in_front_on_either_side() -> None:
    patients = [made("hippocampus", seed) for seed in range(8)]
    for patient in patients:
        front, back = centre_mm(patient, "anterior"), centre_mm(patient, "posterior")
        assert front[1] < back[1] - 8
        assert (front[0] > 0) == (patient.phase == "left")
    assert {patient.phase for patient in patients} == {"left", "right"}


def test_lung_tumours_are_small_and_dense_in_air() -> None:
    for seed in SEEDS:
        patient = made("lung", seed)
        share = patient.reference.mask("cancer").mean()
        assert 0 < share < 0.01
        assert patient.image.array[0][patient.reference.mask("cancer")].mean() > -500


def test_liver_tumours_are_cut_from_the_liver() -> None:
    liver, whole = made("liver", 1001), made("abdomen", 1001)
    assert np.array_equal(liver.reference.array > 0, whole.reference.mask("liver"))
    assert np.array_equal(liver.image.array, whole.image.array)


def test_a_cohort_is_a_dataset_without_problems(tmp_path: Path) -> None:
    written = write_synthetic(tmp_path, Cohort("prostate", patients=2, site="C", coarse=2), processes=1)
    opened = open_dataset(tmp_path)
    assert opened == written
    assert check_files(opened, tmp_path) == []
    assert [case.site for case in opened.cases] == ["C", "C"]
    assert formats.read_channels(opened.cases[0].images).array.shape[0] == 2


def test_channels_in_one_file_are_read_as_well(tmp_path: Path) -> None:
    """As the Medical Segmentation Decathlon has them."""
    written = write_synthetic(tmp_path, Cohort("brain_tumour", patients=1, coarse=3), processes=1)
    (case,) = written.cases
    apart = formats.read_channels(case.images)
    parts: list[Any] = [nibabel.load(path) for path in case.images]
    joined: Any = nibabel.Nifti1Image
    path = tmp_path / "joined.nii.gz"
    joined(np.stack([part.get_fdata() for part in parts], axis=-1).astype(np.float32), parts[0].affine).to_filename(
        path
    )
    together = formats.read_channels((path,))
    assert np.array_equal(together.array, apart.array)
    assert together.grid == apart.grid
    assert formats.count_channels(path) == 4
    assert absent_channels(Scan("joined", (path,)), written.channels) == ()
    with pytest.raises(InputError, match="not the channels that the model was made for"):
        absent_channels(Scan("joined", (path,)), written.channels[:3])
    with pytest.raises(UnreadableImage, match="not one 3D image"):
        formats.read_volume(path)


def test_wrong_kinds_sites_and_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"no such kind of patients: expected one of abdomen, .*, got knee"):
        Cohort("knee")
    with pytest.raises(InputError, match=r"no such site for heart: expected one of A, B, C, got D"):
        Cohort("heart", site="D")
    with pytest.raises(InputError, match="must be positive"):
        Cohort("heart", coarse=0)
    with pytest.raises(ValueError, match="unknown kind 'knee'"):
        make_synthetic("knee", 1)
    with pytest.raises(ValueError, match="unknown site 'D'"):
        make_synthetic("heart", 1, site="D")
