"""Where things live on disk: prepared cases in a cache, and a training run beside its model.

CACHE/prepared/KEY/    image.npy, target.npy, trace.json      shared by all runs, made again if removed;
                       target_2.npy, ...                      of further readers
MODEL/                 plan.json, labels.json, weights.safetensors, model.json
MODEL/training/        state.safetensors, plan.json, split.json, history.csv, curves.png, tensorboard/, incidents/
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from delineate.dataset import Case, Split, fingerprint_file, split_from_json, split_to_json
from delineate.errors import DatasetError, ModelError
from delineate.files import atomic_path, exclusive, sweep, write_text
from delineate.geometry import AxisChange, Box, Grid, Triple
from delineate.labels import LabelSet
from delineate.planning import Plan, plan_from_json, plan_to_json
from delineate.preprocessing import PreparedCase, Trace
from delineate.training import Facts, Profile, Refusal, TrainingState, pack, unpack

_PREPARATION_VERSION = 1  # raise it when preparing gives other numbers than before


class _TraceRecord(msgspec.Struct, frozen=True, kw_only=True):
    original_shape: Triple
    original_affine: list[list[float]]
    frame_of_reference_uid: str | None
    order: Triple
    flips: tuple[bool, bool, bool]
    crop: tuple[Triple, Triple]
    whole_shape: Triple
    whole_affine: list[list[float]]
    part: tuple[Triple, Triple]
    box: tuple[Triple, Triple]


@dataclass(frozen=True, slots=True)
class PreparedCache:
    """Prepared cases on disk, found again by what they were made from: the plan's preparation and the files' bytes."""

    folder: Path

    def key(self, case: Case, plan: Plan, labels: LabelSet | None = None, *, previous: Path | None = None) -> str:
        """`labels`: what the reference's values mean. `previous`: the label map that a cascade's stage before made.

        Raises `DatasetError` if a file of the case is missing.
        """
        recipe = [_PREPARATION_VERSION, plan.orientation, plan.spacing_mm, plan.resize_to, plan.crop_foreground]
        recipe += [[kind.value for kind in plan.kinds], msgspec.to_builtins(plan.normalisation), plan.labels]
        recipe += [msgspec.to_builtins(plan.preparation), plan.previous]
        recipe += [msgspec.to_builtins(plan.regions)] if plan.regions else []
        if labels is not None:
            known = [[label.value, label.name] for label in labels]
            recipe += [known, msgspec.to_builtins(labels.regions), labels.ignore]
        recipe += [["absent", *case.absent]] if case.absent else []
        files = [*case.images, *case.references[:1]]
        if plan.training.annotators != "first" and case.others:
            recipe += [plan.training.annotators]
            files += case.others
        if previous is not None:
            recipe += ["after"]
            files.append(previous)
        try:
            recipe += [fingerprint_file(path) for path in files]
        except FileNotFoundError as error:
            raise DatasetError("a file of the case is missing", case=case.id, path=error.filename) from error
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]

    def sweep(self) -> None:
        """Remove what processes that were killed left half-written."""
        sweep(self.folder / "prepared")

    def save(self, key: str, prepared: PreparedCase) -> None:
        """Write one case; it appears whole or not at all."""
        with atomic_path(self._folder(key)) as temporary:
            temporary.mkdir()
            np.save(temporary / "image.npy", prepared.image)
            if prepared.target is not None:
                np.save(temporary / "target.npy", prepared.target)
            for n, other in enumerate(prepared.others, start=2):
                np.save(temporary / f"target_{n}.npy", other)
            (temporary / "trace.json").write_bytes(msgspec.json.encode(_trace_record(prepared.trace)))

    def load(self, key: str, case_id: str) -> PreparedCase | None:
        """The case, memory-mapped; None if it is not there (or damaged: then it is to be made again)."""
        folder = self._folder(key)
        try:
            trace = _trace(msgspec.json.decode((folder / "trace.json").read_bytes(), type=_TraceRecord))
            image = np.load(folder / "image.npy", mmap_mode="r")
            target = np.load(folder / "target.npy", mmap_mode="r") if (folder / "target.npy").exists() else None
            # As many as were written: of a folder that appeared whole.
            readers = range(2, 2 + len(list(folder.glob("target_*.npy"))))
            others = tuple(np.load(folder / f"target_{n}.npy", mmap_mode="r") for n in readers)
        except (OSError, ValueError, msgspec.DecodeError):
            return None
        return PreparedCase(case_id, image, target, trace, others)

    def _folder(self, key: str) -> Path:
        return self.folder / "prepared" / key


def _trace_record(trace: Trace) -> _TraceRecord:
    return _TraceRecord(
        original_shape=trace.original.shape,
        original_affine=trace.original.affine.tolist(),
        frame_of_reference_uid=trace.original.frame_of_reference_uid,
        order=trace.change.order,
        flips=trace.change.flips,
        crop=(trace.crop.start, trace.crop.stop),
        whole_shape=trace.whole.shape,
        whole_affine=trace.whole.affine.tolist(),
        part=(trace.part.start, trace.part.stop),
        box=(trace.box.start, trace.box.stop),
    )


def _trace(record: _TraceRecord) -> Trace:
    uid = record.frame_of_reference_uid
    return Trace(
        original=Grid(record.original_shape, np.array(record.original_affine), uid),
        change=AxisChange(record.order, record.flips),
        crop=Box(*record.crop),
        whole=Grid(record.whole_shape, np.array(record.whole_affine), uid),
        part=Box(*record.part),
        box=Box(*record.box),
    )


def _save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None) -> None:
    """Raises `ResourceError` if the disk does not take them."""
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            # It comes from the system, but does not say so in its type.
            raise OSError(int(number.group(1)), os.strerror(int(number.group(1))), str(path)) from error


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The `training` folder of a model: what is needed to go on with the run, and what people look at."""

    model: Path

    @property
    def folder(self) -> Path:
        return self.model / "training"

    @property
    def exists(self) -> bool:
        return (self.folder / "plan.json").is_file()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The folder for one run alone; what a killed one left half-written is removed.

        Raises `ResourceError` if another run goes on there.
        """
        with exclusive(self.folder):
            for folder in (self.model, self.folder, self.folder / "incidents"):
                sweep(folder)
            yield

    def start(self, plan: Plan, split: Split) -> None:
        """Write down what the run will do, before it does it."""
        write_text(self.folder / "split.json", split_to_json(split))
        self.write_plan(plan)

    def write_plan(self, plan: Plan) -> None:
        """What the run goes on with."""
        write_text(self.folder / "plan.json", plan_to_json(plan))

    def plan(self) -> Plan:
        """The plan of the run. Raises `ModelError` if there is none, `PlanError` if it cannot be read."""
        return plan_from_json(self._read("plan.json"))

    def split(self) -> Split:
        """The split of the run. Raises `ModelError` if there is none."""
        return split_from_json(self._read("split.json"))

    def save_state(self, state: TrainingState) -> None:
        """Tensors and facts in one file, so that they always belong together."""
        facts = msgspec.json.encode(state.facts).decode()
        _save_tensors(self.folder / "state.safetensors", pack(state), {"facts": facts})

    def save_refusal(self, refusal: Refusal) -> Path:
        """The batch of a step that was not taken, and beside it what is known of it; gives the batch's path."""
        batch, path = refusal.batch, self.folder / "incidents" / f"step_{refusal.incident.step}.safetensors"
        tensors = {"images": batch.images, "targets": batch.targets}
        if batch.annotated is not None:
            tensors["annotated"] = batch.annotated
        _save_tensors(path, {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, None)
        # JSON has no NaN.
        record = msgspec.structs.asdict(refusal.incident) | {"loss": str(refusal.loss)}
        write_text(
            path.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n"
        )
        return path

    def save_profile(self, profile: Profile) -> None:
        """Where the time of the run's last part went."""
        write_text(self.folder / "profile.json", msgspec.json.format(msgspec.json.encode(profile), indent=2).decode())

    def profile(self) -> Profile | None:
        """What `save_profile` wrote; None if nothing was. Raises `ModelError` for a damaged file."""
        path = self.folder / "profile.json"
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Profile)
        except msgspec.DecodeError as error:
            raise ModelError("the profile cannot be read", got=str(error), path=path, remedy="Remove it.") from error

    def load_state(self, plan: Plan, *, device: str) -> TrainingState | None:
        """The run as last saved; None if nothing was. Raises `ModelError` for a damaged or foreign file."""
        path = self.folder / "state.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as stream:
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
                facts = msgspec.json.decode(stream.metadata()["facts"], type=Facts)
        except (SafetensorError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise ModelError(
                "the checkpoint cannot be read", got=str(error), path=path, remedy="Remove it to start the run again."
            ) from error
        return unpack(tensors, facts, plan, device=device)

    def facts(self) -> Facts | None:
        """What is known of the run as last saved, without its tensors; None if nothing was saved.

        Raises `ModelError` for a damaged or foreign file.
        """
        path = self.folder / "state.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as stream:
                return msgspec.json.decode(stream.metadata()["facts"], type=Facts)
        except (SafetensorError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise ModelError("the checkpoint cannot be read", got=str(error), path=path) from error

    def write_history(self, facts: Facts, labels: Sequence[str]) -> None:
        """history.csv: one row a record, one Dice column a structure."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = ["step", "epoch", "seconds", "loss", "learning_rate", "validation_dice"]
        writer.writerow([*columns, *(f"validation_dice_{name}" for name in labels)])
        for row in facts.history:
            dice = row.validation_dice or (None,) * len(labels)
            known = [value for value in dice if value is not None]
            mean = sum(known) / len(known) if known else None
            values = [row.step, row.epoch, row.seconds, row.loss, row.learning_rate, mean, *dice]
            writer.writerow(["" if value is None else f"{value:.6g}" for value in values])
        write_text(self.folder / "history.csv", text.getvalue())

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise ModelError(f"no {name} of a training run", got=error.strerror, path=self.folder) from error
