"""Everything rainpp raises or warns about, and nothing else.

::

    RainError
    ├── ComplaintError        (ValueError)          names no cell, several, or asks for nothing
    ├── QueryError            (ValueError)          SQL that does not parse or names what is missing
    ├── UnsupportedQueryError (NotImplementedError) valid SQL for which no relaxation is known
    ├── ModelError            (ValueError)          a model, its outputs or parameters are unusable
    ├── DataError             (ValueError)          training or inference data are unusable
    ├── ShapeError            (ValueError)          arrays that do not fit together
    ├── ArtifactError         (ValueError)          an index or checkpoint is damaged or foreign
    ├── SettingsError         (ValueError)          an option or a line of rainpp.toml is wrong
    ├── SignatureError        (ValueError)          not signed by whom it should be, or old
    ├── MemoryBudgetError     (MemoryError)         one row needs more memory than is allowed
    └── NotConverged          (RuntimeError)        an iteration ended before its tolerance
    RainWarning (UserWarning)
    ├── NotAtOptimumWarning                       influence assumes an optimum
    ├── ConflictWarning                           complaints of which one undoes the other
    ├── StaleCurvatureWarning                     many rows came after the curvature was computed
    └── SaturatedWarning                          predictions too certain for a gradient

Each class also inherits the built-in a caller would expect, so ``except ValueError`` works.
"""

from __future__ import annotations


class RainError(Exception):
    """Base of every error rainpp raises on purpose."""


class ComplaintError(RainError, ValueError):
    """The complaint names no cell, several cells, or asks for what already holds."""


class QueryError(RainError, ValueError):
    """The SQL does not parse, or it names a table, column, row or class that is not there."""


class UnsupportedQueryError(RainError, NotImplementedError):
    """Valid SQL that rainpp will not relax, rather than relax wrongly.

    Attributes
    ----------
    fragment : the SQL that is in the way, as the user wrote it.
    why : what is wrong with it.
    instead : the way out.
    """

    def __init__(self, fragment: str, *, why: str, instead: str) -> None:
        self.fragment, self.why, self.instead = fragment, why, instead
        super().__init__(f"cannot relax `{fragment}`: {why}. {instead}")


class ModelError(RainError, ValueError):
    """The model, its outputs or its parameters cannot be used."""


class DataError(RainError, ValueError):
    """Training or inference rows cannot be used: NaN, NULL, empty, labels out of range."""


class ShapeError(RainError, ValueError):
    """Arrays that do not fit together."""


class ArtifactError(RainError, ValueError):
    """An index or checkpoint on disk is damaged, or belongs to other weights or data."""


class SettingsError(RainError, ValueError):
    """An option, or a line of rainpp.toml, is missing or wrong."""


class SignatureError(RainError, ValueError):
    """A message is not signed by whom it should be, is too old, or comes from the future."""


class MemoryBudgetError(RainError, MemoryError):
    """What is asked for needs more memory than is allowed, or than there is."""


class NotConverged(RainError, RuntimeError):
    """An iteration ended before it reached its tolerance."""


class RainWarning(UserWarning):
    """Base of every warning rainpp gives."""


class NotAtOptimumWarning(RainWarning):
    """The gradient of the training objective is not small; influence assumes it is zero."""


class ConflictWarning(RainWarning):
    """Two complaints ranked together fight: what helps one harms the other."""


class StaleCurvatureWarning(RainWarning):
    """A large share of the training rows was appended after the curvature was computed."""


class SaturatedWarning(RainWarning):
    """Every prediction a complaint depends on is certain, so its gradient vanishes."""


def one_line(problem: BaseException) -> str:
    """What an exception says, its line breaks taken out."""
    return " ".join(str(problem).split())


def named(problem: BaseException) -> str:
    """An exception as its class and what it says, in one line."""
    return f"{type(problem).__name__}: {one_line(problem)}"
