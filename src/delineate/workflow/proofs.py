"""What is kept beside exports: STEM.proof.json says of each file what it held when it was read back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from delineate.files import write_text


class StructureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was meant and what was read back of one structure; the shift is None where one of the two is empty.

    `found_ml` is what the voxels, or for surfaces what the surface, of the file comes to; `dice` is None in reports.
    """

    structure: str
    volume_ml: float
    found_ml: float
    dice: float | None = None
    centroid_mm: tuple[float, float, float] | None = None
    centroid_shift_mm: float | None = None


class ProofRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The proof of one export: reading it back gave this, and at least `least_dice` was asked for.

    `sha256`: of the file, or of the names and digests of a folder's files; it says which content was proven.
    """

    file: str
    format: str
    sha256: str
    most_volume_error: float
    structures: list[StructureRecord]
    least_dice: float | None = None


def read_proofs(stem: Path) -> tuple[ProofRecord, ...]:
    """The proofs of the exports of a segmentation; none if nothing readable is there."""
    try:
        return msgspec.json.decode(_proof_path(stem).read_bytes(), type=tuple[ProofRecord, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def standing_proofs(stem: Path) -> dict[str, ProofRecord]:
    """By file name, the proofs of files that are there and still have the content that was proven."""
    return {proof.file: proof for proof in read_proofs(stem) if _holds(proof, stem.with_name(proof.file))}


def write_proofs(stem: Path, proofs: Iterable[ProofRecord]) -> None:
    """Write them as STEM.proof.json, replacing what was there."""
    encoded = msgspec.json.format(msgspec.json.encode(list(proofs)), indent=1).decode()
    write_text(_proof_path(stem), f"{encoded}\n")


def content_digest(path: Path) -> str:
    """The SHA-256 of a file's content, or of the names and digests of the files in a folder, hexadecimal."""
    if path.is_dir():
        lines = (f"{content_digest(file)}  {file.name}\n" for file in sorted(path.iterdir()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _holds(proof: ProofRecord, path: Path) -> bool:
    try:
        return content_digest(path) == proof.sha256
    except OSError:
        return False


def _proof_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.proof.json")
