"""What is remembered of engines: how fast they were on this machine, and how well their masks agree."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from delineate.engines.deciding import Agreement, Trial
from delineate.errors import ResourceError
from delineate.files import write_text
from delineate.model import Model
from delineate.settings import Settings

AGREEMENT_FILE = "engines.json"
_PACKAGES = ("torch", "openvino", "nncf", "onnxruntime")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What speed depends on."""

    processor: str
    device: str
    threads: int
    packages: dict[str, str]


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Trials of a model on a machine."""

    model: str
    machine: Machine
    trials: tuple[Trial, ...] = ()

    def known(self, engine: str, precision: str) -> Trial | None:
        return next((trial for trial in self.trials if trial.key == (engine, precision)), None)


class _Agreements(msgspec.Struct, frozen=True, kw_only=True):
    """MODEL/engines.json: by "engine precision", as last compared on any machine."""

    model: str
    agreements: dict[str, Agreement] = {}


def machine_of(settings: Settings) -> Machine:
    """This machine, as far as engines are concerned."""
    return Machine(
        processor=_processor(),
        device=_device(settings.device),
        threads=settings.threads,
        packages={name: found for name in _PACKAGES if (found := _version(name))},
    )


def read_engine_record(model: Model, settings: Settings) -> EngineRecord:
    """What was measured here before; without trials if nothing was, or if it cannot be read."""
    machine = machine_of(settings)
    try:
        record = msgspec.json.decode(_path(model, machine, settings).read_bytes(), type=EngineRecord)
        if record.model == model.digest and record.machine == machine:
            return record
    except (OSError, msgspec.DecodeError):
        pass
    return EngineRecord(model=model.digest, machine=machine)


def write_engine_record(record: EngineRecord, model: Model, settings: Settings, *, folder: Path | None = None) -> None:
    """Remember trials on this machine, and in the model's folder how well masks agree, if it can be written to."""
    with suppress(ResourceError):  # a full disk is no reason not to segment
        write_text(_path(model, record.machine, settings), _readable(record))
    if folder is not None:
        found = {f"{trial.engine} {trial.precision}": trial.agreement for trial in record.trials if trial.agreement}
        before = read_agreements(folder, model)
        kept = {name: agreement for name, agreement in before.items() if agreement.whole}
        merged = before | {name: new for name, new in found.items() if new.whole or name not in kept}
        if merged != before:
            with suppress(ResourceError):
                write_text(folder / AGREEMENT_FILE, _readable(_Agreements(model=model.digest, agreements=merged)))


def read_agreements(folder: Path, model: Model) -> dict[str, Agreement]:
    """How well masks agree, by "engine precision"; nothing if it was not compared with this very model."""
    try:
        read = msgspec.json.decode((folder / AGREEMENT_FILE).read_bytes(), type=_Agreements)
    except (OSError, msgspec.DecodeError):
        return {}
    return dict(read.agreements) if read.model == model.digest else {}


def merged(record: EngineRecord, trials: Iterable[Trial]) -> EngineRecord:
    """The record with new trials in place of the older ones; masks of whole scans outweigh those of windows."""
    by_key = {trial.key: trial for trial in record.trials}
    for trial in trials:
        before = by_key.get(trial.key)
        keep = before is not None and _is_whole(before.agreement) and not _is_whole(trial.agreement)
        by_key[trial.key] = msgspec.structs.replace(trial, agreement=before.agreement) if before and keep else trial
    return msgspec.structs.replace(record, trials=tuple(by_key.values()))


def _is_whole(agreement: Agreement | None) -> bool:
    return agreement is not None and agreement.whole


def _readable(record: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n"


def _path(model: Model, machine: Machine, settings: Settings) -> Path:
    digest = hashlib.sha256(msgspec.json.encode(machine, order="sorted")).hexdigest()
    return settings.cache / "engines" / f"{model.digest[:16]}-{digest[:8]}.json"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _device(name: str) -> str:
    if not name.startswith("cuda"):
        return name
    import torch

    return str(torch.cuda.get_device_name(name)) if torch.cuda.is_available() else name


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
