import numpy as np
import numpy.typing as npt
import pytest
from anatomy import oblique_grid

from delineate.geometry import Grid, Triple, reshape_grid
from delineate.resampling import AxisMatrices, Interpolation, apply_matrices, axis_matrices
from delineate.resampling.streams import Slabs, reduce_to_classes, reduce_to_regions, shared_planes

Logits = npt.NDArray[np.float32]

SOURCE = oblique_grid((13, 9, 11))
SHAPES: tuple[Triple, ...] = ((29, 14, 31), (6, 5, 4), (13, 17, 5), (13, 9, 11))


def smooth_logits(classes: int, seed: int = 0, shape: Triple = SOURCE.shape) -> Logits:
    """Noise with structures in it: classes meet, and some are nowhere the largest."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1, (classes, 3)) * shape
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    distances = np.linalg.norm(index[None] - centres[:, None, None, None], axis=-1)
    return np.asarray(4 - distances + rng.normal(0, 0.7, (classes, *shape)), dtype=np.float32)


def slabs_of(logits: Logits, axis: int, planes: int, shared: int) -> Slabs:
    size = logits.shape[1 + axis]
    for start in range(0, size, planes):
        part = slice(max(0, start - shared), min(start + planes, size))
        yield part, np.moveaxis(np.moveaxis(logits, 1 + axis, 0)[part], 0, 1 + axis)


def matrices_to(shape: Triple, interpolation: Interpolation = Interpolation.LINEAR) -> AxisMatrices:
    return axis_matrices(SOURCE, reshape_grid(SOURCE, shape), interpolation=interpolation, anti_alias=False)


def classes_in_slabs(logits: Logits, matrices: AxisMatrices, axis: int, planes: int) -> npt.NDArray[np.uint8]:
    out = np.full(tuple(matrix.rows for matrix in matrices), 99, dtype=np.uint8)
    reduce_to_classes(
        slabs_of(logits, axis, planes, shared_planes(matrices[axis])), matrices, axis=axis, out=out
    )  # fmt: skip
    return out


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_slabs_give_what_interpolating_every_class_and_taking_the_largest_gives(shape: Triple, axis: int) -> None:
    logits, matrices = smooth_logits(12), matrices_to(shape)
    expected = apply_matrices(logits, matrices).argmax(axis=0)
    np.testing.assert_array_equal(classes_in_slabs(logits, matrices, axis, 3), expected)


@pytest.mark.parametrize("planes", [1, 2, 5, 50])
def test_the_thickness_of_slabs_changes_nothing(planes: int) -> None:
    logits, matrices = smooth_logits(7, seed=1), matrices_to((29, 14, 31))
    expected = classes_in_slabs(logits, matrices, 2, 11)
    np.testing.assert_array_equal(classes_in_slabs(logits, matrices, 2, planes), expected)


def test_a_class_that_is_second_everywhere_wins_between_the_others() -> None:
    logits = np.full((3, *SOURCE.shape), 0, dtype=np.float32)
    logits[0, ::2], logits[2, 1::2] = 9, 9
    logits[1] = 8
    labels = classes_in_slabs(logits, matrices_to((26, 9, 11)), 0, 4)
    assert (labels[1:-1] != 1).sum() == 0
    logits[1] = 8.9
    assert set(np.unique(classes_in_slabs(logits, matrices_to((39, 9, 11)), 0, 4))) == {0, 1, 2}


def test_slices_may_be_taken_from_the_closest_one() -> None:
    logits, linear = smooth_logits(5, seed=2), matrices_to((29, 14, 31))
    nearest = matrices_to((29, 14, 31), Interpolation.NEAREST)
    mixed = (linear[0], linear[1], nearest[2])
    expected = apply_matrices(logits, mixed).argmax(axis=0)
    for axis in range(3):
        np.testing.assert_array_equal(classes_in_slabs(logits, mixed, axis, 2), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_logits_may_be_rounded_to_half_precision_before_they_are_compared(axis: int) -> None:
    logits, matrices = smooth_logits(12, seed=4).round(1), matrices_to((29, 14, 31))
    rounded = apply_matrices(logits, matrices).astype(np.float16)
    out = np.full(rounded.shape[1:], 99, dtype=np.uint8)
    slabs = slabs_of(logits, axis, 3, shared_planes(matrices[axis]))
    reduce_to_classes(slabs, matrices, axis=axis, out=out, half=True)
    np.testing.assert_array_equal(out, rounded.argmax(axis=0))
    assert (out != classes_in_slabs(logits, matrices, axis, 3)).any()


def test_splines_whose_weights_are_negative_are_refused() -> None:
    logits, cubic = smooth_logits(4, seed=3), matrices_to((29, 14, 31), Interpolation.CUBIC)
    with pytest.raises(ValueError, match="not by splines"):
        classes_in_slabs(logits, cubic, 1, 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("interpolation", [Interpolation.LINEAR, Interpolation.NEAREST])
def test_regions_are_painted_in_their_order(interpolation: Interpolation, axis: int) -> None:
    logits, matrices, paints = smooth_logits(3, seed=4) + 2, matrices_to((20, 14, 23), interpolation), (1, 3, 2)
    whole = apply_matrices(logits, matrices)
    expected = np.zeros(whole.shape[1:], dtype=np.uint8)
    for logit, value in zip(whole, paints, strict=True):
        expected[logit > 0] = value
    out = np.full_like(expected, 99)
    slabs = slabs_of(logits, axis, 4, shared_planes(matrices[axis]))
    reduce_to_regions(slabs, matrices, paints, axis=axis, out=out)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(out, expected)


def test_the_result_may_go_into_a_turned_part_of_a_larger_array() -> None:
    logits, matrices = smooth_logits(12), matrices_to((29, 14, 31))
    whole = np.zeros((40, 30, 20), dtype=np.uint8)
    view = whole.transpose(1, 2, 0)[::-1, :, ::-1][1:30, 3:17, 4:35]
    reduce_to_classes(slabs_of(logits, 1, 4, 1), matrices, axis=1, out=view)
    np.testing.assert_array_equal(view, apply_matrices(logits, matrices).argmax(axis=0))


def test_slabs_that_share_too_little_are_refused() -> None:
    logits, matrices = smooth_logits(3), matrices_to((29, 14, 31))
    with pytest.raises(ValueError, match="starts at plane 4; plane 3 is needed"):
        reduce_to_classes(slabs_of(logits, 0, 4, 0), matrices, axis=0, out=np.zeros((29, 14, 31), np.uint8))


def test_slabs_that_end_early_are_noticed() -> None:
    matrices = matrices_to((29, 14, 31))
    slabs = slabs_of(smooth_logits(3)[:, :8], 0, 4, 1)
    with pytest.raises(ValueError, match="end before plane"):
        reduce_to_classes(slabs, matrices, axis=0, out=np.zeros((29, 14, 31), np.uint8))


def test_a_result_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="the matrices give"):
        reduce_to_classes(iter(()), matrices_to((29, 14, 31)), axis=0, out=np.zeros((3, 3, 3), np.uint8))


def test_more_than_256_classes_need_a_wider_type() -> None:
    grid = Grid((4, 3, 2), np.eye(4))
    logits = np.zeros((300, *grid.shape), dtype=np.float32)
    logits[299, 2], out = 1, np.zeros(grid.shape, dtype=np.uint16)
    reduce_to_classes(slabs_of(logits, 0, 4, 0), axis_matrices(grid, grid), axis=0, out=out)
    assert set(np.unique(out[2])) == {299}
