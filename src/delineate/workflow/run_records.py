"""What a training writes down about itself for people who ask later: on whose scans, on what machine."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import psutil

from delineate.dataset import Case, Dataset, Split
from delineate.model import Population
from delineate.reports.documents import NOT_RECORDED
from delineate.settings import Settings
from delineate.workflow.clock import peak_bytes

_PACKAGES = ("delineate", "torch", "monai", "numpy", "scipy")
_MOST_VALUES = 12  # a group with more is a name or a date rather than a group


def populations(dataset: Dataset, split: Split) -> dict[str, Population]:
    """Whose scans each side of a split holds; a side without cases is left out."""
    sides = {"training": split.training, "validation": split.validation, "held_out": split.held_out}
    known = {case.id: case for case in dataset.cases}
    found = {side: [known[case_id] for case_id in ids if case_id in known] for side, ids in sides.items()}
    return {side: population(cases) for side, cases in found.items() if cases}


def population(cases: Sequence[Case]) -> Population:
    """Of some cases: how many, of how many patients, and from where. Cases without a site or group are counted, too."""
    names = dict.fromkeys(name for case in cases for name, _ in case.groups)
    counts = {name: Counter(dict(case.groups).get(name) or NOT_RECORDED for case in cases) for name in names}
    return Population(
        cases=len(cases),
        patients=len({case.patient_id for case in cases}),
        sites=dict(Counter(case.site or NOT_RECORDED for case in cases)),
        groups={name: dict(count) for name, count in counts.items() if len(count) <= _MOST_VALUES},
    )


def environment(settings: Settings) -> dict[str, str]:
    """The machine and the software that run this, in words."""
    found = {
        "device": _device(settings.device),
        "processor": f"{_processor()}, {psutil.cpu_count() or 1} CPUs, {settings.threads} threads used",
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB, {settings.memory_bytes / 1e9:.1f} GB planned for",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    peak = peak_bytes()
    if peak is not None:
        found["peak memory"] = f"{peak / 1e9:.1f} GB of the process, so far"
    return found | {name: known for name in _PACKAGES if (known := _version(name))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    return platform.processor() or platform.machine()


def _device(name: str) -> str:
    if not name.startswith("cuda"):
        return name
    import torch

    return f"{name}: {torch.cuda.get_device_name(name)}"
