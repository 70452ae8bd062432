"""A model that delineate trained, exported to nnU-Net: does nnU-Net's own predictor find the same voxels?

    python benchmarks/nnunet/export_check.py MODEL DATASET [--limit N] [--mirror]

The cases are those that the model was not trained on. nnU-Net runs in the Python that NNUNET_PYTHON names, twice: as it
is, rounding logits to float16, and with logits in float32, which says what the rounding does to its own masks.
delineate runs twice, too: rounding as nnU-Net does (`predict --as-nnunet`, of models trained --like nnunet), and as it
is. Both compute the network in float32. Exits with 1 where masks rounded alike are below `compare.py`'s bar.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

NNUNET_PYTHON = os.environ.get("NNUNET_PYTHON", ".venv-nnunet/bin/python")


def predict_as_peer(arguments: argparse.Namespace) -> None:
    """In nnU-Net's Python: every case of a folder, by nnU-Net's predictor."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, str(arguments.target))
    import peer_predicting
    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.float32:
        peer_predicting.keep_logits_in_float32()
    predictor = peer_predicting.predictor_of(arguments.model, (0,), mirrored=arguments.mirror)
    for image in sorted(arguments.data.glob("*_0000.nii.gz")):
        peer_predicting.predict_case(predictor, image, arguments.target)


def check(arguments: argparse.Namespace) -> int:
    from compare import agreement, pairs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported, scans, ours, usual, exact = (
            folder / part for part in ("exported", "scans", "ours", "usual", "exact")
        )
        for place in (scans, usual, exact):
            place.mkdir()
        cases = predict_ourselves(arguments, exported, scans, ours)
        for target, options in ((usual, []), (exact, ["--float32"])):
            command = [NNUNET_PYTHON, __file__, "--peer", *map(str, (exported, scans, target)), *options]
            command += ["--threads", str(arguments.threads), *["--mirror"] * arguments.mirror]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rounded, precise = ours / "nnunet", ours / "float32"
        rows = {
            "delineate --as-nnunet, nnU-Net": (rounded, usual),
            "delineate, nnU-Net in float32": (precise, exact),
            "delineate, nnU-Net": (precise, usual),
            "nnU-Net, nnU-Net in float32": (usual, exact),
        }
        found = {what: agreement(pairs(*folders, cases)) for what, folders in rows.items() if folders[0].exists()}
    print(f"| {len(cases)} cases | equal voxels, lowest Dice | least equal case |\n|---|---|---|")
    for what, agreed in found.items():
        print(f"| {what} | {agreed.words} | {agreed.worst[0]:.4%} ({agreed.worst[1]}) |")
    alike = ("delineate --as-nnunet, nnU-Net", "delineate, nnU-Net in float32")
    return 0 if all(found[what].passes for what in alike if what in found) else 1


def predict_ourselves(arguments: argparse.Namespace, exported: Path, scans: Path, ours: Path) -> list[str]:
    """Export the model, link the scans as nnU-Net names them, write delineate's masks into a folder for each way to sum
    that the model has; the cases."""
    import msgspec
    import torch

    from delineate import formats
    from delineate.dataset import open_dataset
    from delineate.inference import segment
    from delineate.model import load_model, with_tiling
    from delineate.planning import Sums
    from delineate.workflow.models import export_model

    torch.set_num_threads(arguments.threads)
    for note in export_model(arguments.model, exported, to="nnunet"):
        print("-", note)
    model = load_model(arguments.model)
    training = msgspec.structs.replace(model.plan.training, precision="float32")
    model = replace(model, plan=msgspec.structs.replace(model.plan, training=training))
    ways: tuple[Sums, ...] = ("nnunet", "float32") if model.plan.tiling.centre == "nnunet" else ("float32",)
    seen = model.provenance.training_cases
    cases = [case for case in open_dataset(arguments.data).cases if case.id not in seen][: arguments.limit]
    for case in cases:
        for channel, image in enumerate(case.images):
            (scans / f"{case.id}_{channel:04d}.nii.gz").symlink_to(image.resolve())
        volume = formats.read_channels(case.images, kind=model.plan.kinds[0])
        for sums in ways:
            summed = with_tiling(model, mirror=arguments.mirror, sums=sums)
            (ours / sums).mkdir(parents=True, exist_ok=True)
            formats.write_segmentation(ours / sums / f"{case.id}.nii.gz", segment(summed, volume).segmentation)
    return [case.id for case in cases]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, metavar="dataset")
    parser.add_argument("target", type=Path, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, help="so many cases only")
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--float32", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.peer:
        predict_as_peer(arguments)
        return 0
    return check(arguments)


if __name__ == "__main__":
    sys.exit(main())
