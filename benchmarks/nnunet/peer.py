"""nnU-Net's side of the comparison. Run by the Python that nnU-Net is installed in; delineate is never imported.

    .venv-nnunet/bin/python benchmarks/nnunet/peer.py train [MODEL ...]
    .venv-nnunet/bin/python benchmarks/nnunet/peer.py predict [MODEL ...] [--mirror] [--float32] [--limit N]

and what `measure.py` and `../time_to_dice.py` start and time: `random-model`, `batch`, `case`, `export`,
`prepare-timed`, `train-timed`, `step`; each prints its seconds as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from models import FOLDER, MODELS, PREPROCESSED, RAW, RESULTS, by_name

os.environ.setdefault("nnUNet_raw", str(RAW))
os.environ.setdefault("nnUNet_preprocessed", str(PREPROCESSED))
os.environ.setdefault("nnUNet_results", str(RESULTS))
os.environ.setdefault("nnUNet_n_proc_DA", "0")


def train(arguments: argparse.Namespace) -> None:
    os.environ.setdefault("nnUNet_def_n_proc", "2")  # else eight processes for a validation
    import peer_training

    models = [by_name(name) for name in arguments.models] or list(MODELS)
    for made in peer_training.prepare_data(models):
        print("prepared", made, flush=True)
    for model in models:
        peer_training.train(model)
        print("trained", model.name, flush=True)
    peer_training.export_zips(models)


def predict(arguments: argparse.Namespace) -> None:
    import peer_predicting

    way = peer_predicting.Way(mirrored=arguments.mirror, exact=arguments.float32)
    for model in [by_name(name) for name in arguments.models] or MODELS:
        peer_predicting.predict(model, way, limit=arguments.limit)
        print("predicted", model.name, way.name, flush=True)


def random_model(arguments: argparse.Namespace) -> None:
    import peer_measuring

    peer_measuring.write_random_model(arguments.folder, classes=arguments.classes)


def batch(arguments: argparse.Namespace) -> None:
    import peer_measuring

    print(json.dumps(peer_measuring.batch(by_name(arguments.model), arguments.target)))


def case(arguments: argparse.Namespace) -> None:
    import peer_measuring

    times = peer_measuring.case(
        arguments.folder, arguments.image, arguments.target, mirrored=arguments.mirror, tiles=arguments.tiles
    )
    print(json.dumps(times))


def export(arguments: argparse.Namespace) -> None:
    import peer_measuring

    i, j, k = arguments.shape
    times = peer_measuring.export(arguments.folder, arguments.logits, arguments.target, shape=(i, j, k))
    print(json.dumps(times))


def prepare_timed(arguments: argparse.Namespace) -> None:
    import peer_timed

    split = json.loads(arguments.split.read_text())
    name = peer_timed.prepare(arguments.source, arguments.number, split["training"], split["scored"])
    print(json.dumps({"name": name}))


def train_timed(arguments: argparse.Namespace) -> None:
    import peer_timed

    taken = peer_timed.train(
        arguments.name, arguments.minutes, arguments.target, seed=arguments.seed, mirrored=arguments.mirror
    )
    print(json.dumps(taken))


def step(arguments: argparse.Namespace) -> None:
    import peer_timed

    print(json.dumps(peer_timed.step(arguments.name, steps=arguments.steps, batch=arguments.batch)))


RUNS = (train, predict, random_model, batch, case, export, prepare_timed, train_timed, step)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    root.add_argument("--threads", type=int, default=os.cpu_count())
    add = root.add_subparsers(required=True).add_parser
    commands = {run: add(run.__name__.replace("_", "-")) for run in RUNS}
    for run, command in commands.items():
        command.set_defaults(run=run)
    for run in (train, predict):
        commands[run].add_argument("models", nargs="*", help="all by default")
    commands[predict].add_argument("--float32", action="store_true", help="a control: logits kept in float32")
    commands[predict].add_argument("--limit", type=int, help="so many cases only")
    commands[random_model].add_argument("--classes", type=int, required=True)
    commands[batch].add_argument("model")
    for run in (random_model, case, export):
        commands[run].add_argument("folder", type=Path, help="a trained-model folder")
    commands[prepare_timed].add_argument("source", type=Path, help="a data set in MSD layout")
    commands[prepare_timed].add_argument("number", type=int, help="the data set's number in nnU-Net")
    commands[prepare_timed].add_argument("split", type=Path, help='a JSON file {"training": [...], "scored": [...]}')
    for run in (train_timed, step):
        commands[run].add_argument("name", help="the data set's folder in nnU-Net")
    commands[train_timed].add_argument("minutes", type=float)
    commands[train_timed].add_argument("--seed", type=int, default=0)
    commands[step].add_argument("--steps", type=int, default=8)
    commands[step].add_argument("--batch", type=int)
    for run in (predict, case, train_timed):
        commands[run].add_argument("--mirror", action="store_true")
    commands[case].add_argument("image", type=Path)
    commands[case].add_argument("--tiles", type=int, help="so many windows only, the rest extrapolated")
    commands[export].add_argument("logits", type=Path, help="an .npy file")
    commands[export].add_argument("--shape", type=int, nargs=3, required=True)
    for run in (batch, case, export, train_timed):
        commands[run].add_argument("target", type=Path)
    return root


def main() -> None:
    arguments = parser().parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    FOLDER.mkdir(parents=True, exist_ok=True)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
