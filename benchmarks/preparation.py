"""Reading and preparing a dataset: delineate against MONAI's transforms, and nnU-Net's where it is installed.

    python benchmarks/preparation.py [DATASET[:CASES] ...]

Without a dataset, synthetic patients are made in a temporary folder. Both sides read NIfTI, orient to RAS, crop to the
foreground, resample image and label to one spacing, and normalise; none writes to disk. MONAI interpolates linearly, as
its tutorials do; delineate with cubic splines. One process each, with as many threads as it wants.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from timing import median_seconds, print_table

from delineate.dataset import Dataset, open_dataset
from delineate.fingerprint import FOREGROUND_ABOVE
from delineate.planning import ClipZScore, Plan
from delineate.preprocessing import prepare
from delineate.settings import detect
from delineate.workflow.demo import write_cohort
from delineate.workflow.preparing import plan_dataset, use_threads
from delineate.workflow.structures import read_case


def main() -> None:
    settings = detect("cpu")
    use_threads(settings)
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) == 1:
            write_cohort(Path(folder), patients=10, with_dicom=False)
        for word in sys.argv[1:] or [folder]:
            path, _, count = word.partition(":")
            dataset = open_dataset(Path(path))
            dataset = replace(dataset, cases=dataset.cases[: int(count) if count else None])
            plan = plan_dataset(dataset, settings)
            rows = [("delineate", median_seconds(lambda d=dataset, p=plan: _ours(d, p), repeats=3))]  # type: ignore[misc]
            rows.append(("MONAI", median_seconds(_monai(dataset, plan), repeats=3)))
            nnunet = _nnunet(dataset, plan)
            if nnunet is not None:
                rows.append(("nnU-Net", median_seconds(nnunet, repeats=1)))
            print_table(f"Preparing {len(dataset.cases)} cases of {dataset.name}", rows, reference="delineate")


def _ours(dataset: Dataset, plan: Plan) -> None:
    for case in dataset.cases:
        image, reference = read_case(case, dataset.labels, dataset.kinds)
        prepare(case.id, image, reference, plan)


def _monai(dataset: Dataset, plan: Plan) -> Callable[[], None]:
    t: Any = import_module("monai.transforms")
    above = FOREGROUND_ABOVE[plan.kinds[0]]
    how = plan.normalisation[0]
    if isinstance(how, ClipZScore):
        low, high = ((v - how.mean) / how.std for v in (how.lower, how.upper))
        scale = t.ScaleIntensityRanged("image", how.lower, how.upper, low, high, clip=True)
    else:
        scale = t.NormalizeIntensityd("image")
    keys = ["image", "label"]
    steps = t.Compose(
        [
            t.LoadImaged(keys, image_only=True),
            t.EnsureChannelFirstd(keys),
            t.Orientationd(keys, axcodes=plan.orientation, labels=None),
            t.CropForegroundd(keys, source_key="image", select_fn=lambda x: x > above, allow_smaller=True),
            t.Spacingd(keys, pixdim=plan.spacing_mm, mode=("bilinear", "nearest")),
            scale,
        ]
    )
    files = [{"image": case.images[0], "label": case.reference} for case in dataset.cases]

    def run() -> None:
        for pair in files:
            steps(pair)

    return run


def _nnunet(dataset: Dataset, plan: Plan) -> Callable[[], None] | None:
    """nnU-Net's own steps with its default resampling (cubic, skimage), if it is installed."""
    try:
        from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
        from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
        from nnunetv2.preprocessing.resampling.default_resampling import (
            compute_new_shape,
            resample_data_or_seg_to_shape,
        )
    except ImportError:
        return None

    def run() -> None:
        reader, target = SimpleITKIO(), plan.spacing_mm[::-1]
        for case in dataset.cases:
            image, facts = reader.read_images([str(case.images[0])])
            label, _ = reader.read_seg(str(case.reference))
            image, label, _ = crop_to_nonzero(image.astype(np.float32), label)
            image = (image - image.mean()) / image.std()
            shape = compute_new_shape(image.shape[1:], facts["spacing"], target)
            resample_data_or_seg_to_shape(image, shape, facts["spacing"], target, is_seg=False, order=3)
            resample_data_or_seg_to_shape(label, shape, facts["spacing"], target, is_seg=True, order=1)

    return run


if __name__ == "__main__":
    main()
