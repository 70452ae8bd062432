"""How good and how fast a mask is that is proposed for a click, three clicks, a box or a scribble, without a network.

    python benchmarks/prompts.py dice DATASET --cases 6 --write FILE.jsonl
    python benchmarks/prompts.py seconds --write FILE.jsonl

`dice`: somebody points at each structure of each case as a person would (seeded), and what is proposed is compared with
the reference. The first click is well inside, two more go to the middle of the largest mistake; a box is off by up to
a tenth of the structure on each side; a scribble is a line in the middle slice. `seconds`: a region of 128^3, beside
scikit-image's random walker. Seconds are the processor's, in one thread: what else the machine does, does not matter.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from delineate.dataset import open_dataset
from delineate.editing.distances import distance_to
from delineate.editing.prompts.pointing import Pointing, Proposal
from delineate.editing.prompts.proposing import Method, propose
from delineate.formats import read_segmentation, read_volume
from delineate.geometry import TripleMM, foreground_box

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]
METHODS: tuple[Method, ...] = ("geodesic", "random_walker")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dice", "seconds"))
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    rows = (
        list(score(arguments.data, arguments.cases, arguments.methods)) if arguments.what == "dice" else list(clock())
    )
    if arguments.write:
        arguments.write.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if arguments.what == "dice":
        tell(rows)


def score(data: Path, cases: int, methods: Sequence[Method]) -> Iterator[dict[str, object]]:
    dataset = open_dataset(data)
    for case in dataset.cases[:cases]:
        volume = read_volume(case.images[0])
        assert case.reference is not None, case.id
        reference = read_segmentation(case.reference, dataset.labels)
        for label in dataset.labels.labels:
            mask = reference.mask(label.name)
            if mask.sum() < 50:
                continue
            for method in methods:
                for prompt, point in PROMPTS.items():
                    rng = np.random.default_rng([label.value, len(prompt)])
                    start = time.process_time()
                    clicks = point(volume.array[0], mask, volume.grid.spacing_mm, rng, method)
                    yield {
                        "case": case.id,
                        "structure": label.name,
                        "prompt": prompt,
                        "method": method,
                        "dice": round(dice(clicks, mask), 4),
                        "seconds": round(time.process_time() - start, 3),
                    }


def tell(rows: list[dict[str, object]]) -> None:
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[str(row["structure"]), str(row["method"])][str(row["prompt"])].append(float(str(row["dice"])))
        groups["ALL", str(row["method"])][str(row["prompt"])].append(float(str(row["dice"])))
    for (structure, method), scores in sorted(groups.items()):
        print(f"{structure:24}{method:16}", *(f"{prompt} {np.mean(x):.2f}  " for prompt, x in scores.items()))
    seconds = [float(str(row["seconds"])) for row in rows]
    print(f"seconds: median {np.median(seconds):.2f}, largest {max(seconds):.2f}")


def dice(proposal: Proposal, mask: Mask) -> float:
    hit = (proposal.mask & mask[proposal.box.slices]).sum()
    return float(2 * hit / (proposal.mask.sum() + mask.sum()))


def click(mask: Mask, spacing_mm: TripleMM, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(1, 3): well inside, not in the very middle."""
    depth = distance_to(~np.pad(mask, 1), spacing_mm)[1:-1, 1:-1, 1:-1]
    able = np.argwhere(depth >= rng.uniform(0.5, 1.0) * depth.max())
    return able[[rng.integers(len(able))]].astype(np.float64)


def one_click(image: Image, mask: Mask, spacing: TripleMM, rng: np.random.Generator, method: Method) -> Proposal:
    return propose(image, Pointing(click(mask, spacing, rng)), spacing_mm=spacing, method=method)


def three_clicks(image: Image, mask: Mask, spacing: TripleMM, rng: np.random.Generator, method: Method) -> Proposal:
    pointing = Pointing(click(mask, spacing, rng))
    proposal = propose(image, pointing, spacing_mm=spacing, method=method)
    for _ in range(2):
        found = np.zeros_like(mask)
        found[proposal.box.slices] = proposal.mask
        missed, added = mask & ~found, found & ~mask
        depths = [float(distance_to(~np.pad(one, 1), spacing).max()) if one.any() else 0.0 for one in (missed, added)]
        if max(depths) == 0:
            break
        if depths[0] >= depths[1]:
            more = np.concatenate([pointing.positive, click(missed, spacing, rng)])
            pointing = Pointing(more, pointing.negative)
        else:
            more = np.concatenate([pointing.negative, click(added, spacing, rng)])
            pointing = Pointing(pointing.positive, more)
        proposal = propose(image, pointing, spacing_mm=spacing, method=method)
    return proposal


def box(image: Image, mask: Mask, spacing: TripleMM, rng: np.random.Generator, method: Method) -> Proposal:
    return propose(image, Pointing(box=box_about(mask, rng)), spacing_mm=spacing, method=method)


def box_about(mask: Mask, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    around = foreground_box(mask)
    assert around is not None
    size = np.array(around.shape)
    low = np.array(around.start) + rng.uniform(-0.1, 0.1, 3) * size
    high = np.array(around.stop) - 1 + rng.uniform(-0.1, 0.1, 3) * size
    return np.array([low, high])


def box_and_click(image: Image, mask: Mask, spacing: TripleMM, rng: np.random.Generator, method: Method) -> Proposal:
    pointing = Pointing(click(mask, spacing, rng), box=box_about(mask, rng))
    return propose(image, pointing, spacing_mm=spacing, method=method)


def scribble(image: Image, mask: Mask, spacing: TripleMM, rng: np.random.Generator, method: Method) -> Proposal:
    """A line through the middle slice of the structure, and one around it a little way off."""
    counts = mask.sum(axis=(0, 1))
    k = int(np.flatnonzero(counts >= 0.8 * counts.max())[0])
    plane = mask[:, :, k]
    places = np.argwhere(distance_to(~np.pad(plane, 1), spacing[:2])[1:-1, 1:-1] > 0.99 * min(spacing[:2]))
    centred = places - places.mean(axis=0)
    along = np.linalg.svd(centred, full_matrices=False)[2][0]
    ends = [places[int(np.argmin(centred @ along))], places[int(np.argmax(centred @ along))]]
    line = np.rint(np.linspace(ends[0], ends[1], int(np.abs(ends[1] - ends[0]).max()) + 1)).astype(int)
    inside = line[plane[tuple(line.T)]]
    away = distance_to(plane, spacing[:2])
    ring = np.argwhere((away > 2 * max(spacing[:2])) & (away <= 3.2 * max(spacing[:2])))[::2]
    of = [np.column_stack([points, np.full(len(points), k)]).astype(np.float64) for points in (inside, ring)]
    return propose(image, Pointing(of[0], of[1]), spacing_mm=spacing, method=method)


PROMPTS: dict[str, Callable[..., Proposal]] = {
    "one click": one_click,
    "three clicks": three_clicks,
    "box": box,
    "box and click": box_and_click,
    "scribbles": scribble,
}


def clock() -> Iterator[dict[str, object]]:
    """An ellipsoid of about 80 voxels across in noise."""
    rng = np.random.default_rng(0)
    i, j, k = np.ogrid[:128, :128, :128]
    mask = ((i - 64) / 44) ** 2 + ((j - 60) / 38) ** 2 + ((k - 66) / 50) ** 2 <= 1
    image = (np.where(mask, 60, 0) + rng.normal(0, 20, mask.shape)).astype(np.float32)
    pointing = {
        "a click": Pointing(np.array([[64.0, 60, 66]])),
        "a box": Pointing(box=np.array([[20.0, 22, 16], [108, 98, 116]])),
    }
    for method in METHODS:
        for prompt, pointed in pointing.items():
            propose(image, pointed, spacing_mm=(1, 1, 1), method=method)  # compiles
            start = time.process_time()
            proposal = propose(image, pointed, spacing_mm=(1, 1, 1), method=method)
            row = {"method": method, "prompt": prompt, "seconds": round(time.process_time() - start, 2)}
            row["dice"] = round(dice(proposal, mask), 3)
            print(row, flush=True)
            yield row
    from skimage.segmentation import random_walker

    seeds = np.where(distance_to(~mask, (1, 1, 1)) > 20, 1, np.where(distance_to(mask, (1, 1, 1)) > 10, 2, 0))
    for mode in ("cg_j", "cg_mg") if find_spec("pyamg") else ("cg_j",):
        start = time.process_time()
        found = random_walker(image, seeds, mode=mode, tol=1e-3) == 1
        row = {"method": f"scikit-image {mode}", "prompt": "seeds", "seconds": round(time.process_time() - start, 2)}
        row["dice"] = round(float(2 * (found & mask).sum() / (found.sum() + mask.sum())), 3)
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()
