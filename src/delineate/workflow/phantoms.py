"""`delineate phantom --kind`: datasets of synthetic patients, like a public dataset of that kind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from delineate import formats
from delineate.dataset import Case, Dataset, write_dataset_json
from delineate.errors import InputError
from delineate.phantom import KINDS, make_synthetic
from delineate.volume import Volume
from delineate.workflow.progress import Watch, nobody

_SEED = 1000  # the first patient's, when no other is given


@dataclass(frozen=True, slots=True)
class Cohort:
    """Which patients: `patients` of a kind, with the seeds from `seed` on; all from `site`, or from sites by chance.

    `coarse`: voxels so many times as large as usual, and the files so much smaller.
    """

    kind: str
    patients: int = 10
    seed: int = 0
    site: str | None = None
    coarse: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("no such kind of patients", expected=f"one of {', '.join(KINDS)}", got=self.kind)
        sites = KINDS[self.kind].sites
        if self.site is not None and self.site not in sites:
            raise InputError(f"no such site for {self.kind}", expected=f"one of {', '.join(sites)}", got=self.site)
        if self.patients < 1 or not self.coarse > 0:
            raise InputError("patients and coarse must be positive", got=(self.patients, self.coarse))


def write_synthetic(folder: Path, cohort: Cohort, *, processes: int = 2, watch: Watch = nobody) -> Dataset:
    """Write a dataset in nnU-Net's layout, a file a channel; what is there under these names is written over.

    The same cohort gives the same files' contents. Sites and phases are the cases' groups. `processes`: that make
    patients at a time; 1 makes them in this one.
    """
    cases = tuple(_made(folder, cohort, processes, watch))
    kind = KINDS[cohort.kind]
    dataset = Dataset(kind.title, kind.channels, kind.labels, cases)
    write_dataset_json(folder, dataset)
    return dataset


def _made(folder: Path, cohort: Cohort, processes: int, watch: Watch) -> Iterator[Case]:
    jobs = [(folder, cohort, _SEED + cohort.seed + n) for n in range(cohort.patients)]
    if processes == 1:
        for done, job in enumerate(jobs, start=1):
            yield _write_case(job)
            watch("Making patients", done, len(jobs), "")
        return
    # Spawned, not forked: a fork of a process that has run threads may hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done, case in enumerate(pool.map(_write_case, jobs), start=1):
            watch("Making patients", done, len(jobs), case.id)
            yield case


def _write_case(job: tuple[Path, Cohort, int]) -> Case:
    folder, cohort, seed = job
    patient = make_synthetic(cohort.kind, seed, site=cohort.site, coarse=cohort.coarse)
    images = []
    for channel in range(patient.image.array.shape[0]):
        path = folder / "imagesTr" / f"{patient.id}_{channel:04d}.nii.gz"
        one = patient.image.array[channel : channel + 1]
        formats.write_volume(path, Volume(one, patient.image.grid, patient.image.kind))
        images.append(path)
    reference = folder / "labelsTr" / f"{patient.id}.nii.gz"
    formats.write_segmentation(reference, patient.reference)
    groups = (("phase", patient.phase),)
    return Case(patient.id, patient.id, tuple(images), reference, site=patient.scanner, groups=groups)
