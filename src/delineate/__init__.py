"""3D medical image segmentation, from the scanner to a result in the scan's own geometry.

    import delineate

    volume = delineate.read("scan.nii.gz")                  # or a folder with a DICOM series
    plan = delineate.plan("Task09_Spleen")
    model = delineate.train("Task09_Spleen", "spleen", budget=delineate.Budget(minutes=60))
    segmentation = delineate.load_model("spleen").segment(volume)
    delineate.export(segmentation, "archive/p1/CT", "results", to=("seg", "rtstruct"))
    findings = delineate.measure(segmentation, volume).findings
    delineate.evaluate("Task09_Spleen", "results")

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delineate.api import (
        Budget,
        Division,
        SegmentationModel,
        evaluate,
        export,
        load_model,
        measure,
        plan,
        read,
        train,
    )

__all__ = [
    "Budget",
    "Division",
    "SegmentationModel",
    "evaluate",
    "export",
    "load_model",
    "measure",
    "plan",
    "read",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from delineate import api

        return getattr(api, name)
    raise AttributeError(f"module 'delineate' has no attribute {name!r}")
