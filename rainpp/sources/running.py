"""Sources feed monitors until somebody says stop: a thread for each source."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from rainpp.errors import RainError, SettingsError
from rainpp.monitoring.monitor import Monitor
from rainpp.sources.asides import Asides
from rainpp.sources.feeding import Feeding, Stopped
from rainpp.sources.parcel import Source

_log = logging.getLogger(__name__)
_WAIT = 0.2


def run(
    sources: Sequence[Source],
    monitors: Sequence[Monitor],
    *,
    asides: Asides | None = None,
    stop: threading.Event | None = None,
    once: bool = False,
) -> None:
    """Feed the monitors, each source in a thread of its own, until `stop` is set.

    A parcel that is being taken in when it is set is finished. Afterwards, or after a crash, the
    same call goes on where each monitor was.

    Parameters
    ----------
    asides : where records are listed that cannot be taken in.
    once : take what there is, then end.

    Raises
    ------
    RainError : a source cannot go on, or a query does not fit the rows; the others are stopped.
    """
    running = Running(sources, monitors, asides=asides, stop=stop, once=once)
    try:
        running.start()
        running.wait()
    finally:
        running.end()


class Running:
    """Sources at work."""

    def __init__(
        self,
        sources: Sequence[Source],
        monitors: Sequence[Monitor],
        *,
        asides: Asides | None = None,
        stop: threading.Event | None = None,
        once: bool = False,
    ) -> None:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingsError(f"two sources are called {twice[0]!r}; give each its own name.")
        if not monitors:
            raise SettingsError("there is no monitor to feed.")
        self.stop = threading.Event() if stop is None else stop
        self.feeding = Feeding(monitors, asides=asides, stop=self.stop)
        self._sources, self.once = tuple(sources), once
        self._problems: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        offsets, times = self.feeding.offsets(), self.feeding.times()
        for source in self._sources:
            source.start(offsets, times)
            thread = threading.Thread(target=self._feed, args=(source,), name=source.name)
            thread.daemon = True
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Until it is stopped, or all has been taken where it runs once.

        Raises
        ------
        RainError : what ended it.
        """
        while self.alive or not self.once:
            if self.stop.wait(_WAIT):
                break
        self.end()
        self.check()

    @property
    def alive(self) -> bool:
        """Whether a source is at work."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def problems(self) -> list[str]:
        """What sources stand at."""
        found = (getattr(source, "problem", None) for source in self._sources)
        return [problem for problem in found if problem]

    def check(self) -> None:
        """Raise what ended a source, if something did.

        Raises
        ------
        RainError : that.
        """
        for problem in self._problems:
            raise problem

    def end(self) -> None:
        """Stop, once parcels that are being taken in are."""
        self.stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _feed(self, source: Source) -> None:
        try:
            while not self.stop.is_set():
                parcels = source.poll(_WAIT)
                for parcel in parcels:
                    if self.stop.is_set():
                        return
                    self.feeding.give(parcel)
                if not parcels:
                    if self.once and source.caught_up:
                        return
                    self.stop.wait(source.pause)
        except Stopped as problem:
            _log.warning("%s", problem)
        except BaseException as problem:  # noqa: BLE001 - raised by `wait`, in the caller's thread
            self._problems.append(problem)
            self.stop.set()
        finally:
            try:
                source.close()
            except RainError as problem:
                _log.warning("%s", problem)
