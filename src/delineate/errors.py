"""Every error that delineate raises on purpose.

    DelineateError
    ├── InputError (also ValueError)     what came from outside cannot be used
    │   ├── UnreadableImage              not an image, truncated, corrupt, an unsupported kind of file
    │   ├── InconsistentSeries           DICOM slices that are not one plain, evenly spaced volume
    │   ├── GeometryMismatch             two grids that should agree do not; an affine that is none
    │   ├── LabelError                   values, names or counts of labels that do not fit
    │   └── DatasetError                 a folder that is no dataset, too few cases, broken splits
    ├── PlanError                        a plan that cannot be read, is inconsistent, or does not fit
    ├── ModelError                       a model folder with a piece missing, changed, or not understood
    ├── TrainingError                    a run that cannot go on: a failed case, a loss that is not finite
    ├── ExportError                      a result that cannot be written as asked
    ├── ResourceError                    memory, disk, device or an optional package is not there
    └── StaleRevision, NotAllowed, DamagedStore    of review only, see `review.records`

A programmer's mistake stays a plain `ValueError` or `TypeError`.
"""

from __future__ import annotations

from pathlib import Path


class DelineateError(Exception):
    """What went wrong, with the facts as fields and one sentence for people.

    `problem` is a clause without a full stop; `remedy` says what to do.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        got: object = None,
        path: Path | str | None = None,
        case: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.expected = expected
        self.got = got
        self.path = None if path is None else Path(path)
        self.case = case
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.problem
        if self.expected is not None:
            text += f": expected {self.expected}"
            text += "" if self.got is None else f", got {self.got}"
        elif self.got is not None:
            text += f": got {self.got}"
        where = [f"case {self.case}"] if self.case else []
        where += [str(self.path)] if self.path else []
        if where:
            text += f" ({', '.join(where)})"
        return f"{text}. {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only fields do not survive the default pickling between processes.
        return (_rebuild, (type(self), self.problem, self._facts()))

    def _facts(self) -> dict[str, object]:
        return {
            "expected": self.expected,
            "got": self.got,
            "path": self.path,
            "case": self.case,
            "remedy": self.remedy,
        }

    def in_case(self, case: str) -> DelineateError:
        """The same error, naming the case in which it happened."""
        return _rebuild(type(self), self.problem, {**self._facts(), "case": self.case or case})

    def at(self, path: Path) -> DelineateError:
        """The same error, naming another path."""
        return _rebuild(type(self), self.problem, {**self._facts(), "path": path})


def _rebuild(kind: type[DelineateError], problem: str, facts: dict[str, object]) -> DelineateError:
    return kind(problem, **facts)  # type: ignore[arg-type]


class InputError(DelineateError, ValueError):
    """What came from outside cannot be used."""


class UnreadableImage(InputError):
    """A file that is not an image, is truncated or corrupt, or is of an unsupported kind."""


class InconsistentSeries(InputError):
    """DICOM slices that do not make one plain, evenly spaced volume."""


class GeometryMismatch(InputError):
    """Two grids that should agree do not, or a matrix that is no affine."""


class LabelError(InputError):
    """Values, names or counts of labels that do not fit."""


class DatasetError(InputError):
    """A folder that is no dataset, too few cases, or a split that cannot be made."""


class PlanError(DelineateError):
    """A plan that cannot be read, is inconsistent, or does not fit what it is used on."""


class ModelError(DelineateError):
    """A model folder with a piece missing, changed, or not understood."""


class TrainingError(DelineateError):
    """A training run that cannot go on."""


class ExportError(DelineateError):
    """A result that cannot be written as asked."""


class ResourceError(DelineateError):
    """Memory, disk, a device or an optional package that is not there."""
