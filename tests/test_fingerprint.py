from dataclasses import replace

import numpy as np
import pytest
from anatomy import blob_case

from delineate.errors import DatasetError
from delineate.fingerprint import foreground_mask, measure_case, summarise
from delineate.volume import Kind, reorient


def test_shapes_and_spacings_are_given_in_ras_whatever_the_scan() -> None:
    volume, reference = blob_case(0)
    plain = measure_case("a", volume, reference, [Kind.MR]).fingerprint
    turned = measure_case("a", reorient(volume, "SRA"), reorient(reference, "SRA"), [Kind.MR]).fingerprint
    assert plain == turned
    assert plain.shape == (20, 16, 12)
    np.testing.assert_allclose(plain.spacing_mm, (0.9, 1.2, 2.5))


def test_label_voxels_are_counted_in_the_labels_order() -> None:
    volume, reference = blob_case(1)
    counted = measure_case("a", volume, reference, [Kind.MR]).fingerprint.label_voxels
    assert counted == (int(reference.mask("core").sum()), int(reference.mask("rim").sum()))


def test_intensities_are_those_inside_the_structures() -> None:
    volume, reference = blob_case(2)
    pooled = summarise("d", [measure_case("a", volume, reference, [Kind.MR])], channels=["MR"], labels=["core", "rim"])
    inside = volume.array[0][reference.array > 0]
    assert pooled.intensities[0].mean == pytest.approx(float(inside.mean()), abs=0.5)
    assert pooled.intensities[0].minimum > 120
    low, middle, high = np.percentile(inside, [0.5, 50, 99.5])
    found = pooled.intensities[0]
    assert (found.percentile_00_5, found.median, found.percentile_99_5) == pytest.approx((low, middle, high), abs=1)
    assert found.minimum < found.percentile_00_5
    assert found.percentile_99_5 < found.maximum


def test_foreground_of_ct_is_the_body() -> None:
    array = np.array([-1000.0, -900.0, -100.0, 40.0]).reshape(1, 4, 1, 1)
    assert foreground_mask(array, [Kind.CT]).ravel().tolist() == [False, False, True, True]


def test_no_case_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no case to learn from"):
        summarise("d", [], channels=["CT"], labels=["a"])


def test_a_peak_is_measured_in_distances_of_nearly_all_others() -> None:
    volume, reference = blob_case(3)
    plain = measure_case("a", volume, reference, [Kind.MR]).fingerprint.peaks[0]
    array = volume.array.copy()
    array[0, 5, 4, 3] = 90_000
    huge = measure_case("a", replace(volume, array=array), reference, [Kind.MR]).fingerprint.peaks[0]
    assert plain < 2
    assert huge > 100


def test_bright_structures_are_no_outliers() -> None:
    volume, reference = blob_case(3)
    array = np.where(reference.array == 1, 50_000, volume.array).astype(np.float32)
    assert measure_case("a", replace(volume, array=array), reference, [Kind.MR]).fingerprint.peaks[0] < 2
