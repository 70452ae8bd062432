import math

import msgspec
import pytest
from fingerprints import fingerprint

from delineate.labels import Region
from delineate.planning import Machine, PlanOptions, check_plan, covered_share, make_configurations
from delineate.volume import Kind

CPU = Machine("cpu", 8 * 10**9)
LARGE = fingerprint(Kind.CT, shape=(400, 300, 350), spacing_mm=(0.8, 0.9, 1.1))


def test_small_scans_need_one_network() -> None:
    assert list(make_configurations(fingerprint(), CPU)) == ["3d_fullres"]


def test_large_scans_get_a_coarse_network_and_a_cascade_last() -> None:
    plans = make_configurations(LARGE, CPU)
    assert list(plans) == ["3d_fullres", "3d_lowres", "3d_cascade"]
    assert covered_share(plans["3d_fullres"], LARGE) < 0.25 <= covered_share(plans["3d_lowres"], LARGE)
    assert math.prod(plans["3d_lowres"].spacing_mm) > 2 * math.prod(plans["3d_fullres"].spacing_mm)
    assert plans["3d_cascade"].previous == plans["3d_fullres"].labels
    assert plans["3d_cascade"].spacing_mm == plans["3d_fullres"].spacing_mm


def test_a_coarse_network_that_saves_little_is_left_out() -> None:
    # The patch covers 18 % of 100^3 voxels; a grid of which it covers 25 % has over half as many.
    cube, options = fingerprint(shape=(100, 100, 100)), PlanOptions(patch_size=(56, 56, 56))
    assert covered_share(make_configurations(cube, CPU, options)["3d_fullres"], cube) == pytest.approx(0.175616)
    assert list(make_configurations(cube, CPU, options)) == ["3d_fullres"]
    # 11 %: under half.
    smaller = PlanOptions(patch_size=(48, 48, 48))
    assert "3d_lowres" in make_configurations(cube, CPU, smaller)


def test_structures_that_overlap_get_no_cascade() -> None:
    regions = (Region(name="whole", values=(1, 2), paints=1), Region(name="core", values=(2,), paints=2))
    plans = make_configurations(msgspec.structs.replace(LARGE, regions=regions), CPU)
    assert list(plans) == ["3d_fullres", "3d_lowres"]


def test_thick_slices_get_a_network_of_their_own() -> None:
    thick = fingerprint(shape=(120, 110, 10), spacing_mm=(1.2, 1.1, 9.0))
    plans = make_configurations(thick, CPU)
    assert list(plans) == ["3d_fullres", "2d"]
    assert (plans["2d"].dimensions, plans["3d_fullres"].dimensions) == (2, 3)
    assert "7.5 times" in plans["2d"].reasons[0]  # of 1.2 mm, the longer side of a pixel


def test_slices_can_be_asked_for() -> None:
    assert "2d" in make_configurations(fingerprint(), CPU, PlanOptions(dimensions=2))


def test_every_configuration_is_a_sound_plan_that_says_why() -> None:
    for name, plan in make_configurations(LARGE, CPU, PlanOptions(dimensions=2, minutes=30)).items():
        check_plan(plan)
        assert plan.reasons[0].startswith(name)
