"""Near-exact effects: what a refinement reports, one that runs beside the user, and groups."""

from __future__ import annotations

import atexit
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from rainpp.errors import RainError, SettingsError

if TYPE_CHECKING:
    from rainpp.ranking import Ranking

# Called with the step and the relative residual after it; may raise to end the refinement.
StepDone = Callable[[int, float], None]
# A step over the training rows that runs when Python is left may take this long.
_LAST_STEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Refinement:
    """How far a refinement has come.

    Attributes
    ----------
    steps : of conjugate gradients that were taken.
    residuals : ‖∇q − H x‖/‖∇q‖ of the index's own answer, then after every step.
    seconds : from the request to the new effects.
    change : ‖effects − effects halfway‖/‖effects‖ over all interventions: how much the second half
        of the steps still moved them. A small residual alone does not settle effects: what is left
        of it lies where the curvature is small and effects are large.
    stopped : whether a direction without positive curvature ended it early: H is not positive
        definite at this θ*, as it can be for a net that is not at a minimum.
    """

    steps: int
    residuals: tuple[float, ...]
    seconds: float
    change: float = 0.0
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
            f"{self.residuals[-1]:.2g}, effects moved by {self.change:.1%} in the second half"
            f"{ended if self.stopped else ''}"
        )


@dataclass(frozen=True, eq=False)
class Refined:
    """New effects (N,), how they came about, and H⁻¹∇q (d,) behind them."""

    effects: np.ndarray
    refinement: Refinement
    direction: np.ndarray | None = None


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
    _ended: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _gave_up: bool = field(default=False, init=False, repr=False)
    _problem: BaseException | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        # A daemon that is ended at its next step when Python is left: killed inside XLA it takes
        # the process down with it (exit status 134).
        _end_with_python()
        _running.add(self)
        threading.Thread(target=self._run, name="rainpp refine", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether it has ended: finished, cancelled or failed."""
        return self._ended.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to end."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End it after the step that runs; the ranking stays as it is. No harm once it is done."""
        self._cancelled.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; whether it has. Nothing is raised."""
        # Not Thread.join: after Ctrl-C in it, CPython 3.11 takes the thread for ended.
        return self._ended.wait(timeout)

    def wait(self, timeout: float | None = None) -> Ranking:
        """The ranking, refined; unchanged if it was cancelled.

        Raises
        ------
        RainError : it has not ended within `timeout` seconds; it goes on.
        SettingsError : `timeout` is no number of seconds.
        Exception : whatever ended the refinement.
        """
        if not self.join(_checked_timeout(timeout)):
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
            self._gave_up = True
        except BaseException as problem:  # noqa: BLE001 - raised again in `wait`
            self._problem = problem
        finally:
            _running.discard(self)
            self._ended.set()

    def _took(self, step: int, residual: float) -> None:
        self.step, self.residual = step, residual
        if self._cancelled.is_set():
            raise _Cancelled

    def __repr__(self) -> str:
        if self._problem is not None:
            state = "failed: call wait()"
        elif self.done:
            state = "cancelled" if self._gave_up else "done"
        else:
            state = "running"
        return f"Refining({state}, step {self.step} of {self.steps}, residual {self.residual:.2g})"


_running: WeakSet[Refining] = WeakSet()


@functools.cache
def _end_with_python() -> None:
    """Once, when JAX is there: what is registered last is called first."""
    atexit.register(_end_all)


def _end_all() -> None:
    jobs = list(_running)
    for job in jobs:
        job.cancel()
    for job in jobs:
        job.join(_LAST_STEP_SECONDS)


def _checked_timeout(timeout: Any) -> float | None:
    if timeout is None:
        return None
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise SettingsError(
            f"`timeout` is {timeout!r}; it must be a number of seconds >= 0, or None to wait."
        )
    return float(timeout)


def check_steps(steps: object) -> int:
    """`steps` as an int.

    Raises
    ------
    SettingsError : not a whole number >= 0.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or int(steps) < 0:
        raise SettingsError(f"`steps` is {steps!r}; it must be a whole number >= 0.")
    return int(steps)
