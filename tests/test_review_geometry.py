"""What is drawn and measured on the page lies where the scan's own file says, however the scan is stored."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from review_landmarks import (
    AGAINST,
    ALONG,
    BODY_HU,
    BRIGHT_HU,
    FLIPS,
    LISTEN,
    SHOWN_MM,
    Landmark,
    Reader,
    Seen,
    result_labels,
    write_scans,
)
from review_tabs import Tab, chromium, missing, serving

from delineate.review.keeping import Sources, add_found, open_review
from delineate.review.places import places_in
from delineate.review.serving import Address, ReviewRequest, app_of
from delineate.review.store import Store

pytestmark = pytest.mark.skipif(missing() != "", reason=f"needs {missing()}")
CASES = [*(f"flip_{name}" for name in FLIPS), "series"]
PLANES = ("axial", "coronal", "sagittal")


class Review:
    """A served review of the scans, and a browser to look at them."""

    def __init__(self, store: Store, address: str, browser: Any, landmarks: dict[str, Landmark]) -> None:
        self.store, self.landmarks = store, landmarks
        self._address, self._browser = address, browser

    def open(self, key: str) -> Reader:
        (local,) = self.store.people()
        tab = Tab(self._browser, self.store, self._address, name=local.name, viewport={"width": 1100, "height": 700})
        tab.page.add_init_script(LISTEN)
        return Reader(tab, key)

    def saved(self, reader: Reader, key: str, folder: Path) -> Any:
        """What the server exports of the case once it is signed, read by nibabel alone."""
        reader.page.locator(".saving", has_text="All saved").wait_for()
        asked, at = reader.tab.context.request, f"{self._address}api/cases/{key}"
        session = asked.get(f"{self._address}api/session").json()
        headers = {"X-CSRF-Token": session["csrf"]}
        case = asked.get(at).json()
        signed = {"verdict": "approve", "structure": None, "reason": "", "signature": session["person"]["fullName"]}
        signed |= {"revision": case["revision"], "seen": case["seen"]}
        answer = asked.post(f"{at}/decisions", data=signed, headers=headers)
        assert answer.ok, answer.text()
        answer = asked.post(f"{at}/exports", data={"formats": ["nifti"]}, headers=headers)
        assert answer.ok, answer.text()
        (file,) = (each for each in answer.json()["files"] if each["name"].endswith(".nii.gz"))
        path = folder / "saved.nii.gz"
        path.write_bytes(asked.get(f"{at}/exports/{file['name']}").body())
        return nibabel.load(path)


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Review]:
    folder = tmp_path_factory.mktemp("geometry")
    scans, results = folder / "scans", folder / "results"
    landmarks = write_scans(scans, results)
    places, sources = places_in(results), Sources(None, scans, results)
    store = open_review(places)
    assert add_found(store, sources) == []
    request = ReviewRequest(sources, places, Address(), memory_bytes=1 << 28, full_name="Rita Reader")
    with serving(app_of(request, store)) as address, chromium("--disable-3d-apis") as browser:
        yield Review(store, address, browser, landmarks)
    store.close()


@pytest.fixture
def reader(review: Review, request: pytest.FixtureRequest) -> Iterator[Reader]:
    opened = review.open(request.param)
    yield opened
    opened.tab.context.close()
    assert opened.tab.problems == []


def points_of(mask: Any, affine: Any, *, but: Any = None) -> Any:
    """The world's place of each voxel of a mask, RAS mm, in order; without those of other points."""
    found = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    if but is not None:
        apart = np.abs(found[:, None] - but).max(axis=2)
        found = found[apart.min(axis=1) > 0.01]
    return found[np.lexsort(np.round(found, 3).T)]


def check_directions(seen: Seen, letters: dict[str, str], landmark: Landmark, plane: str) -> None:
    """The patient's right is on the left; the longer arms of the cross point where the array's axes run to."""
    level, upright = {"axial": ("RL", "AP"), "coronal": ("RL", "SI"), "sagittal": ("AP", "SI")}[plane]
    assert (letters["left"][0], letters["right"][0]) == tuple(level)
    assert (letters["top"][0], letters["bottom"][0]) == tuple(upright)
    longer = "right" if seen.right - seen.x > seen.x - seen.left else "left"
    lower = "bottom" if seen.bottom - seen.y > seen.y - seen.top else "top"
    assert letters[longer][0] in landmark.codes
    assert letters[lower][0] in landmark.codes


@pytest.mark.parametrize(("reader", "key"), [(key, key) for key in CASES], indirect=["reader"], ids=CASES)
def test_a_cross_is_saved_where_the_file_has_the_world_point_that_it_was_drawn_at(
    review: Review, reader: Reader, key: str, tmp_path: Path
) -> None:
    landmark = review.landmarks[key]
    for plane in PLANES:
        reader.go_to(landmark, plane)
        check_directions(reader.see(plane), reader.letters(plane), landmark, plane)
    middle = landmark.affine[:3, :3] @ landmark.voxel + landmark.affine[:3, 3]
    assert np.abs(reader.told("sagittal") - middle).max() < SHOWN_MM

    reader.page.keyboard.press("b")
    reader.page.get_by_role("slider", name="Radius").fill("0.5")
    for plane in PLANES[:2]:
        box = reader.show(plane).bounding_box()
        reader.trace(plane)
        assert reader.picture(plane).bounding_box() == box, "the picture moved under the brush"
    saved = review.saved(reader, key, tmp_path)
    before = points_of(result_labels(), landmark.affine)
    added = points_of(np.asarray(saved.dataobj), saved.affine, but=before)
    np.testing.assert_allclose(added, points_of(landmark.scan() == BRIGHT_HU, landmark.affine), atol=0.01)
    inverse = np.linalg.inv(saved.affine)
    indices = np.rint(added @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    crossing = [np.bincount(along).argmax() for along in indices.T]
    assert np.abs(crossing - (inverse[:3, :3] @ landmark.point + inverse[:3, 3])).max() < 0.5


def in_picture(landmark: Landmark, plane: str) -> tuple[float, float]:
    """Spacing in mm across and down a plane's picture."""
    across, down = {"axial": ("RL", "AP"), "coronal": ("RL", "IS"), "sagittal": ("AP", "IS")}[plane]
    axes = [next(axis for axis, code in enumerate(landmark.codes) if code in way) for way in (across, down)]
    return landmark.spacing_mm[axes[0]], landmark.spacing_mm[axes[1]]


def press(reader: Reader, plane: str, keys: str) -> None:
    for key in keys.split():
        reader.picture(plane).press(key)


@pytest.mark.parametrize(("reader", "key"), [("flip_npn", "flip_npn"), ("series", "series")], indirect=["reader"])
def test_lengths_are_those_of_the_file_in_every_plane(review: Review, reader: Reader, key: str) -> None:
    landmark = review.landmarks[key]
    expected = []
    for plane in PLANES:
        reader.go_to(landmark, plane)
        across, down = in_picture(landmark, plane)
        press(reader, plane, "m d ArrowLeft ArrowLeft ArrowLeft d")
        press(reader, plane, "d ArrowRight ArrowRight ArrowRight ArrowDown ArrowDown d")
        expected += [f"{3 * across:.1f} mm", f"{np.hypot(3 * across, 2 * down):.1f} mm"]
        press(reader, plane, "ArrowUp ArrowUp v")
    assert reader.measured() == expected


@pytest.mark.parametrize("reader", ["flip_pnn"], indirect=True)
def test_a_line_along_what_is_seen_is_as_long_as_that(review: Review, reader: Reader) -> None:
    landmark = review.landmarks["flip_pnn"]
    reader.go_to(landmark, "coronal")
    reader.page.keyboard.press("m")
    reader.trace("coronal")
    across, down = (float(text.removesuffix(" mm")) for text in reader.measured())
    spacing = in_picture(landmark, "coronal")
    assert across == pytest.approx((AGAINST + ALONG) * spacing[0], abs=0.3 * spacing[0])
    assert down == pytest.approx((AGAINST + ALONG) * spacing[1], abs=0.3 * spacing[1])


@pytest.mark.parametrize("reader", ["series"], indirect=True)
def test_intensities_are_those_of_the_file(review: Review, reader: Reader) -> None:
    landmark = review.landmarks["series"]
    reader.go_to(landmark, "axial")
    # To the middle of the cross from all three planes; then an ellipse 5 voxels wide and 3 high, one voxel aside.
    reader.go_to(landmark, "coronal")
    reader.go_to(landmark, "sagittal")
    reader.show("axial")
    press(reader, "axial", "i d d ArrowUp ArrowLeft d")
    press(reader, "axial", "ArrowDown ArrowDown ArrowRight ArrowRight ArrowRight ArrowRight d")
    # It holds 5 voxels of the level arm, and one above and one below it that lie beside the upright one.
    values = np.array([BRIGHT_HU] * 5 + [BODY_HU] * 2)
    width, height = in_picture(landmark, "axial")
    area_cm2 = np.pi * 2 * width * height / 100
    point, ellipse = reader.measured()
    assert point == f"{BRIGHT_HU} HU"
    assert ellipse == f"{values.mean():.1f} ± {values.std(ddof=1):.1f} HU, {area_cm2:.2f} cm²"
