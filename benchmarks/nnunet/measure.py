"""Time and memory of nnU-Net and delineate: the same weights, the same scan, one after the other, each alone.

    python benchmarks/nnunet/measure.py network | batch | case | phantom | export

network: the network alone over a scan of 192 x 160 x 160 voxels that needs no resampling, in each precision
batch:   40 small MR (hippocampus), from files to files, with whatever processes the programs start by themselves
case:    one head-and-neck CT, from file to file
phantom: a CT of 512 x 512 x 200, a network at 1.5 mm, with 2 and with 25 classes; of nnU-Net some windows only
export:  from logits to a saved label map of 512 x 512 x 400 with 117 classes; of nnU-Net 4 and 8 classes only

Both get all cores. Where delineate chooses its engine, the choosing is part of its time, as at a first use.
nnU-Net's Python is named by NNUNET_PYTHON; `peer.py train` must have run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models import FOLDER, INPUTS, ROOT, by_name
from processes import Taken, run_alone

HERE = Path(__file__).parent
PEER = [os.environ.get("NNUNET_PYTHON", str(ROOT / ".venv-nnunet/bin/python")), str(HERE / "peer.py")]
OURS = [sys.executable, str(HERE / "ours.py")]
DELINEATE = [str(Path(sys.executable).with_name("delineate"))]
SCRATCH = FOLDER / "measured"
NETWORKS = (("torch", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"), ("openvino", "int8"))
WINDOWS, MANY = 12, 117
EXPORTED = (400, 512, 512)  # nnU-Net's order of axes
EXPORTED_MM, LOGITS_MM = 0.8, 1.5


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; `seconds` None: it failed, and the note says how."""

    who: str
    seconds: float | None
    peak_gb: float
    note: str = ""


def row(who: str, taken: Taken, *, of: str | None = None, note: str = "") -> Row:
    """`of`: the entry of the command's report that counts; the whole command's wall time by default."""
    if taken.report is None:
        return Row(who, None, taken.peak_gb, taken.words.replace("\n", " ")[-200:])
    seconds = taken.seconds if of is None else float(taken.report[of])
    return Row(who, seconds, taken.peak_gb, note.format(**taken.report))


def network() -> Iterator[Row]:
    folder, model = random_model(2)
    image = SCRATCH / "volume_0000.nii.gz"
    must([*OURS, "volume", str(image)])
    note = "all {windows} windows"
    yield row("nnU-Net", run_alone([*PEER, "case", str(folder), str(image), scratch("a")]), of="network", note=note)
    for engine, precision in NETWORKS:
        command = [*OURS, "network", str(model), str(image), "--engine", engine, "--precision", precision]
        yield row(f"delineate, {engine} {precision}", run_alone(command), of="network", note=note)


def batch() -> Iterator[Row]:
    trained = by_name("hippocampus_3d")
    model = imported(trained.folder, trained.name)
    images = INPUTS / trained.data.folder / "images"
    yield row("nnU-Net", run_alone([*PEER, "batch", trained.name, scratch("a")]), note="{cases} cases")
    for words, options in (("delineate", []), ("delineate, float32", ["--engine", "torch", "--precision", "float32"])):
        command = [*DELINEATE, "predict", str(model), str(images), scratch("b"), "--mirror", "--again", *options]
        yield row(words, run_alone(command))


def case() -> Iterator[Row]:
    trained = by_name("headneck_3d")
    image = min((INPUTS / trained.data.folder / "images").iterdir())
    model = imported(trained.folder, trained.name)
    yield from one_scan(trained.folder, model, image, ["--mirror"], [])


def phantom() -> Iterator[Row]:
    image = SCRATCH / "phantom_0000.nii.gz"
    must([*OURS, "phantom", str(image)])
    for classes in (2, 25):
        folder, model = random_model(classes)
        for found in one_scan(folder, model, image, [], ["--tiles", str(WINDOWS)]):
            yield Row(f"{classes} classes: {found.who}", found.seconds, found.peak_gb, found.note)


def one_scan(folder: Path, model: Path, image: Path, mirror: list[str], tiles: list[str]) -> Iterator[Row]:
    """From file to file; nnU-Net's time is put together from its parts, its imports left out."""
    taken = run_alone([*PEER, "case", str(folder), str(image), scratch("a"), *mirror, *tiles])
    parts = (
        "{preparing:.0f} preparing + {network:.0f} network + {writing:.0f} writing; {windows_run} of {windows} windows"
    )
    yield row("nnU-Net", taken, of="seconds", note=parts)
    for words, options in (("delineate", []), ("delineate, float32", ["--engine", "torch", "--precision", "float32"])):
        way = mirror or ["--no-mirror"]
        command = [*DELINEATE, "predict", str(model), str(image), scratch("b.nii.gz"), "--again", *way, *options]
        yield row(words, run_alone(command))


def export() -> Iterator[Row]:
    seconds = {}
    for classes in (4, 8):
        folder, _ = random_model(classes)
        logits = written_logits(classes)
        shape = [str(n) for n in EXPORTED]
        taken = run_alone([*PEER, "export", str(folder), str(logits), scratch("a"), "--shape", *shape])
        found = row(f"nnU-Net, {classes} classes", taken, of="seconds")
        seconds[classes] = found.seconds
        yield found
    if seconds[4] is not None and seconds[8] is not None:
        each = (seconds[8] - seconds[4]) / 4
        note = f"extrapolated: {each:.1f} s a class, its memory would be a multiple of the above"
        yield Row(f"nnU-Net, {MANY} classes", seconds[4] + (MANY - 4) * each, 0.0, note)
    command = [*OURS, "export", str(written_logits(MANY)), scratch("c.nii.gz"), "--shape", *map(str, EXPORTED)]
    yield row(f"delineate, {MANY} classes", run_alone(command), of="seconds")


def random_model(classes: int) -> tuple[Path, Path]:
    """nnU-Net's folder of a network with random weights, and delineate's model of it."""
    folder = SCRATCH / f"random_{classes}"
    if not (folder / "fold_all" / "checkpoint_final.pth").exists():
        must([*PEER, "random-model", str(folder), "--classes", str(classes)])
    return folder, imported(folder, folder.name)


def imported(folder: Path, name: str) -> Path:
    model = SCRATCH / "models" / name
    if not (model / "model.json").exists():
        must([*DELINEATE, "import-model", str(folder), str(model)])
    return model


def written_logits(classes: int) -> Path:
    path = SCRATCH / f"logits_{classes}.npy"
    if not path.exists():
        shape = [str(round(n * EXPORTED_MM / LOGITS_MM)) for n in EXPORTED]
        must([*OURS, "logits", str(path), "--classes", str(classes), "--shape", *shape])
    return path


def scratch(name: str) -> str:
    """A place for results, free of what an earlier run left."""
    path = SCRATCH / "results" / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)


def must(command: Sequence[str]) -> None:
    taken = run_alone(command)
    if taken.report is None:
        raise RuntimeError(f"{' '.join(command)}\n{taken.words}")


TABLES: dict[str, Callable[[], Iterator[Row]]] = {run.__name__: run for run in (network, batch, case, phantom, export)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=list(TABLES))
    what = parser.parse_args().what
    SCRATCH.mkdir(parents=True, exist_ok=True)
    print(f"\n| {what} | seconds | nnU-Net's by it | peak GB | |\n|---|---|---|---|---|")
    base, failed = None, False
    for found in TABLES[what]():
        if found.who.rpartition(": ")[2].startswith("nnU-Net"):
            base = found.seconds
        failed |= found.seconds is None
        seconds = "failed" if found.seconds is None else f"{found.seconds:.1f}"
        ratio = f"{base / found.seconds:.1f} x" if base and found.seconds else ""
        memory = f"{found.peak_gb:.2f}" if found.peak_gb else ""
        print(f"| {found.who} | {seconds} | {ratio} | {memory} | {found.note} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
