"""A model that nnU-Net 2.8.1 trained, and nnU-Net's own masks: delineate gives the same ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from delineate import formats
from delineate.engines import EngineChoice
from delineate.exchange import read_nnunet
from delineate.inference import Runners, open_stage_runners, segment
from delineate.model import Model, with_tiling
from delineate.planning import Sums

DATA = (Path(__file__).parents[2] / "shared" / "data").resolve()
TRAINED, IMAGES = DATA / "nnunet", DATA / "hippocampus" / "imagesTr"
pytestmark = pytest.mark.skipif(not TRAINED.is_dir(), reason="shared/data/nnunet is not there")

CASES = ("hippocampus_001", "hippocampus_003", "hippocampus_004")
# nnU-Net rounds logits to float16, where delineate keeps float32 if it is not told otherwise: of about 50 000 voxels a
# case, a few are so close to the boundary that this decides.
MOST_DIFFERING = 5


@cache
def model() -> Model:
    return read_nnunet(TRAINED / "hippocampus_3d_fullres")


@cache
def runners() -> Runners:
    return open_stage_runners(model(), EngineChoice("torch", "float32"))


def masks(
    case: str, *, mirrored: bool, sums: Sums = "float32"
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """delineate's and nnU-Net's label map of a case."""
    asked = with_tiling(model(), overlap=0.5, mirror=mirrored, sums=sums)
    volume = formats.read_volume(IMAGES / f"{case}.nii.gz", kind=asked.plan.kinds[0])
    folder = TRAINED / ("masks_mirrored" if mirrored else "masks_plain")
    theirs = formats.read_segmentation(folder / f"{case}.nii.gz", asked.labels)
    return segment(asked, volume, runners=runners()).label_map, theirs.array


@pytest.mark.parametrize("case", CASES)
def test_gives_nnunets_masks(case: str) -> None:
    ours, theirs = masks(case, mirrored=False)
    assert ours.shape == theirs.shape
    assert set(np.unique(theirs)) == {0, 1, 2}
    assert np.count_nonzero(ours != theirs) <= MOST_DIFFERING


def test_gives_nnunets_masks_averaged_over_mirrored_images() -> None:
    ours, theirs = masks(CASES[0], mirrored=True)
    plain, _ = masks(CASES[0], mirrored=False)
    assert np.count_nonzero(plain != theirs) > 10 * MOST_DIFFERING
    assert np.count_nonzero(ours != theirs) <= MOST_DIFFERING


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("path", sorted((TRAINED / "masks_plain").glob("*.nii.gz")), ids=lambda path: path.name[:-7])
def test_gives_nnunets_masks_voxel_by_voxel_with_nnunets_sums(path: Path, mirrored: bool) -> None:
    ours, theirs = masks(path.name.removesuffix(".nii.gz"), mirrored=mirrored, sums="nnunet")
    assert np.array_equal(ours, theirs)
