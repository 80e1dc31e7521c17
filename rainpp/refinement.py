"""Near-exact effects: what a refinement reports, one that runs beside the user, and groups."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rainpp.errors import RainError, SettingsError

if TYPE_CHECKING:
    from rainpp.ranking import Ranking

# Called with the step and the relative residual after it; may raise to end the refinement.
StepDone = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Refinement:
    """How far a refinement has come.

    Attributes
    ----------
    steps : of conjugate gradients that were taken.
    residuals : ‖∇q − H x‖/‖∇q‖ of the index's own answer, then after every step.
    seconds : from the request to the new effects.
    stopped : whether a direction without positive curvature ended it early: H is not positive
        definite at this θ*, as it can be for a net that is not at a minimum.
    """

    steps: int
    residuals: tuple[float, ...]
    seconds: float
    stopped: bool = False

    @property
    def coverage(self) -> float:
        """Share of the complaint's gradient that the effects account for, 1 − residual², in [0, 1].

        For the index's own answer from the curvature of all rows it is `ranking.coverage`.
        """
        return float(np.clip(1 - self.residuals[-1] ** 2, 0.0, 1.0))

    def __str__(self) -> str:
        ended = ", ended early: no positive curvature along the next direction"
        return (
            f"{self.steps} steps in {self.seconds:.2g} s, residual {self.residuals[0]:.2g} -> "
            f"{self.residuals[-1]:.2g}{ended if self.stopped else ''}"
        )


@dataclass(frozen=True, eq=False)
class Refined:
    """New effects (N,) and how they came about."""

    effects: np.ndarray
    refinement: Refinement


@dataclass(frozen=True)
class GroupEffect:
    """Predicted improvement of a complaint if a group of interventions is applied.

    In units of the query; for several complaints their weighted sum, as `ranking.effects`.

    Attributes
    ----------
    count : interventions in the group.
    effect : after the Newton steps.
    low, high : an interval that should hold the retrained effect: `effect` with what the last
        Newton step changed it by and 1 % of it, less and more.
    first_order : the sum of the single effects.
    newton_steps : steps taken.
    converged : whether the last step was solved for and could be taken as a whole; False where the
        curvature is not positive, as it can be for a net: then the interval is all there is.
    """

    count: int
    effect: float
    low: float
    high: float
    first_order: float
    newton_steps: int
    converged: bool

    def __str__(self) -> str:
        return f"{self.effect:.4g} ({self.low:.4g} to {self.high:.4g}) by {self.count} together"


class _Cancelled(Exception):
    """Ends a refinement between two steps."""


@dataclass(eq=False)
class Refining:
    """A refinement that runs in a thread of its own; the ranking changes when it has ended.

    Attributes
    ----------
    ranking : what is refined.
    steps : how many steps were asked for.
    step : how many have been taken.
    residual : relative, after the last of them; NaN before the first is known.
    """

    ranking: Ranking
    steps: int
    step: int = field(default=0, init=False)
    residual: float = field(default=float("nan"), init=False)
    _cancelled: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _problem: BaseException | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        # A daemon: an interpreter that ends does not wait for it.
        self._thread = threading.Thread(target=self._run, name="rainpp refine", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended: finished, cancelled or failed."""
        return not self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to end."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End it after the step that runs; the ranking stays as it is. No harm once it is done."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> Ranking:
        """The ranking, refined; unchanged if it was cancelled.

        Raises
        ------
        RainError : it has not ended within `timeout` seconds; it goes on.
        Exception : whatever ended the refinement.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise RainError(
                f"the refinement is at step {self.step} of {self.steps} after {timeout:g} s more; "
                "wait() again, or cancel()."
            )
        if self._problem is not None:
            raise self._problem
        return self.ranking

    def _run(self) -> None:
        try:
            self.ranking.refine(self.steps, step_done=self._took)
        except _Cancelled:
            pass
        except BaseException as problem:  # noqa: BLE001 - raised again in `wait`
            self._problem = problem

    def _took(self, step: int, residual: float) -> None:
        self.step, self.residual = step, residual
        if self._cancelled.is_set():
            raise _Cancelled

    def __repr__(self) -> str:
        if self._problem is not None:
            state = "failed: call wait()"
        elif self.done:
            state = "cancelled" if self.cancelled and self.step < self.steps else "done"
        else:
            state = "running"
        return f"Refining({state}, step {self.step} of {self.steps}, residual {self.residual:.2g})"


def check_steps(steps: object) -> int:
    """`steps` as an int.

    Raises
    ------
    SettingsError : not a whole number >= 0.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or int(steps) < 0:
        raise SettingsError(f"`steps` is {steps!r}; it must be a whole number >= 0.")
    return int(steps)
