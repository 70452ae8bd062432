import re
from dataclasses import replace

import numpy as np
import pytest
from anatomy import blob_case, oblique_grid, tiny_plan

from delineate.planning import AugmentationPlan, ClipZScore, Plan, Window, ZScore
from delineate.preprocessing import doubts
from delineate.volume import Kind, Source, Volume

GRID = oblique_grid((40, 30, 20))
CT_SCORE = ClipZScore(lower=-900, upper=1000, mean=40, std=200)


def ct_plan(**changes: object) -> Plan:
    return tiny_plan(**({"channels": ("CT",), "kinds": (Kind.CT,), "normalisation": (CT_SCORE,)} | changes))


def body_ct(*, low: float = -1000, scale: float = 1) -> np.ndarray:
    """Soft tissue in air."""
    array = np.full((1, *GRID.shape), low, np.float32)
    array[:, 8:30, 6:24, 3:] = np.random.default_rng(0).normal(40, 20, (1, 22, 18, 17))
    array[:, 12, 9, 5] = 1200
    return array * scale


def scan(array: np.ndarray, kind: Kind = Kind.CT) -> Volume:
    return Volume(array, GRID, kind)


def test_what_a_model_was_made_for_raises_no_doubt() -> None:
    assert doubts(scan(body_ct()), ct_plan()) == ()
    assert doubts(blob_case(0)[0], tiny_plan()) == ()


@pytest.mark.parametrize(
    ("array", "guess"),
    [
        ((body_ct() + 1000) / 3000, r"scaled to 0\.\.1"),
        (np.clip((body_ct() + 200) / 2, 0, 255), "8-bit pictures"),
        (body_ct() + 1024, "1024 has not been subtracted"),
        (np.abs(body_ct()) / 2, "may be MR"),
    ],
)
def test_a_ct_model_doubts_what_cannot_be_hounsfield_units(array: np.ndarray, guess: str) -> None:
    (sentence,) = doubts(scan(array), ct_plan())
    assert sentence.startswith("Channel CT is not in Hounsfield units")
    assert re.search(guess, sentence)


def test_dicom_is_believed_about_its_units() -> None:
    volume = replace(scan(np.abs(body_ct())), source=Source(series_uid="1.2.3"))
    assert doubts(volume, ct_plan()) == ()


def test_a_model_that_takes_axes_as_stored_doubts_those_of_dicom() -> None:
    file, plan = scan(body_ct()), ct_plan(orientation="stored")
    series = replace(file, source=Source(series_uid="1.2.3"))
    (sentence,) = doubts(series, plan)
    expected = series.grid.orientation
    assert f"taken to {expected}, as ITK does" in sentence
    assert re.search(rf"--orientation {expected[0]}[^{expected[1]}]{expected[2]}", sentence)
    mirrored = ct_plan(orientation="stored", augmentation=AugmentationPlan(flip_axes=(0, 1, 2)))
    assert doubts(file, plan) == doubts(series, mirrored) == doubts(series, ct_plan()) == ()


def test_an_mr_model_doubts_a_ct() -> None:
    (sentence,) = doubts(scan(body_ct(), Kind.OTHER), tiny_plan())
    assert "Channel MR looks like CT" in sentence
    assert "made for MR" in sentence


def test_a_model_for_anything_takes_anything() -> None:
    assert doubts(scan(body_ct(), Kind.OTHER), tiny_plan(kinds=(Kind.OTHER,))) == ()


def test_swapped_channels_are_named() -> None:
    both = np.concatenate([np.abs(body_ct()), body_ct()])
    plan = ct_plan(channels=("CT", "PET"), kinds=(Kind.CT, Kind.PET), normalisation=(CT_SCORE, ZScore()))
    (sentence,) = doubts(scan(both), plan)
    assert "look swapped: PET has values as CT has them, and CT has not" in sentence
    assert doubts(scan(both[::-1]), plan) == ()


def test_colours_beyond_their_range_are_doubted() -> None:
    plan = tiny_plan(channels=("red",), kinds=(Kind.OTHER,), normalisation=(Window(lower=0, upper=255),))
    (sentence,) = doubts(scan(np.abs(body_ct()), Kind.OTHER), plan)
    assert "outside the range that the model expects, 0 to 255" in sentence


def test_a_constant_channel_is_named() -> None:
    (sentence,) = doubts(scan(np.full((1, *GRID.shape), 7, np.int16)), ct_plan())
    assert sentence == "Channel CT holds nothing but the value 7."


def test_voxels_far_too_coarse_are_doubted_in_the_plans_axes() -> None:
    assert doubts(scan(body_ct()), ct_plan(spacing_mm=(0.8, 0.8, 0.7))) == ()
    (sentence,) = doubts(scan(body_ct()), ct_plan(spacing_mm=(0.8, 0.8, 0.5)))
    assert "more than 4 times as coarse as the 0.8 x 0.8 x 0.5 mm" in sentence


def test_a_scan_much_smaller_than_a_window_is_doubted() -> None:
    (sentence,) = doubts(scan(body_ct()), ct_plan(patch_size=(128, 32, 32)))
    assert "only 36 x 36 x 50 mm large; the model looks at 154 x 38.4 x 64 mm" in sentence


def test_other_channels_than_the_plans_are_left_to_preparing() -> None:
    assert doubts(scan(np.concatenate([body_ct()] * 2)), ct_plan()) == ()
