"""Whether live rows still look like the training rows: evidence beside a standing query's alarms.

Three views of the same features. The K-S distance of each window says how far a feature has moved;
a test of exchangeability says, at any time and over the whole stream, whether that is chance; a
classifier that tells live rows from training rows sees what moves together (Shankar & Parameswaran,
"Towards observability for production machine learning pipelines", section 3.3.3).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import ArtifactError, DataError, SettingsError
from rainpp.stream.adversarial import Adversary, Tally
from rainpp.stream.evidence import Alarm as Accused
from rainpp.stream.evidence import ExchangeabilityTest
from rainpp.stream.kolmogorov import Reference

Index = NDArray[np.int64]
Values = NDArray[np.floating[Any]]
# Distance and evidence are of every row; the classifier keeps this many training rows at most.
_ADVERSARY_ROWS = 10_000


class Drift:
    """Live rows against training rows, for numeric columns and columns of arrays."""

    def __init__(
        self, columns: Mapping[str, int], reference: Reference, test: Any, adversary: Adversary
    ) -> None:
        """`columns` are widths by name: 0 for a column of numbers, else of its arrays."""
        self._columns = dict(columns)
        self._reference, self._test, self._adversary = reference, test, adversary
        self._counts: dict[int, NDArray[np.int64]] = {}
        self._tallies: dict[int, Tally] = {}
        self._begin = self._test.to_arrays(), self._adversary.to_arrays()

    def reset(self) -> None:
        """As if no live row had been seen."""
        self._test = ExchangeabilityTest.from_arrays(self._begin[0])
        self._adversary = Adversary.from_arrays(self._begin[1])
        self._counts, self._tallies = {}, {}

    @staticmethod
    def of(reference: Any, *, alpha: float = 0.05, seed: int = 0) -> Drift:
        """From the training features the model saw, all of them or a uniform sample.

        Parameters
        ----------
        reference : columns by name, (n,) or (n, ...), as the stream has them.
        alpha : chance of ever accusing any feature wrongly, over the whole stream.

        Raises
        ------
        SettingsError, DataError : no columns, no numbers, or of unequal lengths.
        """
        if isinstance(reference, pd.DataFrame):
            reference = {str(name): reference[name].to_numpy() for name in reference.columns}
        if not isinstance(reference, Mapping) or not reference:
            raise SettingsError(
                f"`reference` is a {type(reference).__name__}; give the training columns by name: "
                "{'age': ages, 'image': images}."
            )
        arrays = {str(name): np.asarray(values) for name, values in reference.items()}
        columns = {name: _width(name, values) for name, values in arrays.items()}
        rows = np.concatenate([_flat(values) for values in arrays.values()], axis=1)
        names = _names(columns)
        chosen = np.random.default_rng(seed).permutation(len(rows))[:_ADVERSARY_ROWS]
        return Drift(
            columns,
            Reference.of({name: rows[:, at] for at, name in enumerate(names)}),
            ExchangeabilityTest.start(rows, names, seed=seed, alpha=alpha),
            Adversary.start(rows[np.sort(chosen)], names, seed=seed),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the stream that are compared."""
        return tuple(self._columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Features: columns, and elements of columns of arrays."""
        return _names(self._columns)

    def take(self, rows: pa.Table, panes: Index) -> tuple[list[Accused], Callable[[], None]]:
        """Take in live rows; features that are accused by them for the first time, and the undo.

        Raises
        ------
        DataError : a column is missing, or of another shape than the training column.
        """
        live = self._features(rows)
        before = (self._test.to_arrays(), self._adversary.to_arrays())
        kept = dict(self._counts), dict(self._tallies)
        known = {found.name for found in self._test.alarms()}

        def undo() -> None:
            self._test = ExchangeabilityTest.from_arrays(before[0])
            self._adversary = Adversary.from_arrays(before[1])
            self._counts, self._tallies = kept

        for pane in np.unique(panes).tolist():
            inside = live[panes == pane]
            counts = self._reference.count(dict(zip(self.names, inside.T, strict=True)))
            self._counts[pane] = self._counts.get(pane, 0) + counts
            self._adversary.update(inside)
            tally = self._adversary.take()
            self._tallies[pane] = self._tallies[pane] + tally if pane in self._tallies else tally
        self._test.update(live)
        return [found for found in self._test.alarms() if found.name not in known], undo

    @property
    def accused(self) -> list[Accused]:
        """Features that have left the training distribution, the first ones first."""
        return self._test.alarms()

    def panes(self) -> list[int]:
        """Panes with rows."""
        return list(self._counts)

    def report(self, panes: Iterable[int]) -> pd.DataFrame:
        """Features by how far they have moved in some panes.

        Columns: `feature`, `distance` (K-S, 0 to 1), `missing` (share), `evidence` (log10 of the
        e-value of the whole stream), `accused` (whether it ever reached the threshold).
        """
        chosen = [self._counts[pane] for pane in panes if pane in self._counts]
        if not chosen:
            raise DataError("there are no rows in this window.")
        counts = np.sum(chosen, axis=0)
        accused = {found.name for found in self._test.alarms()}
        frame = pd.DataFrame(
            {
                "feature": self.names,
                "distance": self._reference.distance(counts),
                "missing": self._reference.missing(counts),
                "evidence": self._test.log_evidence / np.log(10),
                "accused": [name in accused for name in self.names],
            }
        )
        return frame.sort_values("distance", ascending=False, ignore_index=True)

    def separable(self, panes: Iterable[int]) -> tuple[float, float]:
        """How well live rows can be told from training rows: (AUC, log loss in nats)."""
        chosen = [self._tallies[pane] for pane in panes if pane in self._tallies]
        total = Tally.empty()
        for tally in chosen:
            total = total + tally
        return (total.auc, total.log_loss) if chosen else (float("nan"), float("nan"))

    def expire(self, before_pane: int) -> None:
        """Forget panes; what the whole stream has shown stays."""
        self._counts = {pane: c for pane, c in self._counts.items() if pane >= before_pane}
        self._tallies = {pane: t for pane, t in self._tallies.items() if pane >= before_pane}

    def save(self, next_row: int) -> bytes:
        """Everything but the training rows, to go on bit for bit where this one was."""
        adversary = self._adversary.to_arrays()
        held = {"reference", "metric"}
        arrays: dict[str, Any] = {"next_row": np.array(next_row)}
        arrays |= {f"test.{name}": value for name, value in self._test.to_arrays().items()}
        arrays |= {f"adv.{name}": value for name, value in adversary.items() if name not in held}
        arrays |= {f"pane.{pane}": counts for pane, counts in self._counts.items()}
        arrays |= {f"tally.{pane}": tally.sums for pane, tally in self._tallies.items()}
        out = io.BytesIO()
        np.savez(out, **arrays)
        return out.getvalue()

    def restore(self, data: bytes) -> int:
        """The inverse of `save`; the number of the first row that it has not seen.

        Raises
        ------
        ArtifactError : it is damaged.
        SettingsError : the features are others.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                arrays = dict(found)
            test = {n.removeprefix("test."): v for n, v in arrays.items() if n.startswith("test.")}
            adv = {n.removeprefix("adv."): v for n, v in arrays.items() if n.startswith("adv.")}
            if tuple(test["names"].tolist()) != self.names:
                raise SettingsError(
                    "`reference` has other features than the state file; give the same columns, or "
                    "a new file."
                )
            self._test = ExchangeabilityTest.from_arrays(test)
            self._adversary = Adversary.from_arrays({**self._adversary.to_arrays(), **adv})
            self._counts = _by_pane(arrays, "pane.")
            self._tallies = {at: Tally(sums) for at, sums in _by_pane(arrays, "tally.").items()}
            return int(arrays["next_row"])
        except (KeyError, ValueError, OSError) as problem:
            if isinstance(problem, SettingsError):
                raise
            raise ArtifactError(f"the drift in the state file is damaged: {problem}.") from None

    def _features(self, rows: pa.Table) -> Values:
        parts: list[Values] = []
        for name, width in self._columns.items():
            if name not in rows.column_names:
                raise DataError(f"the rows have no column {name!r}, which `reference` has.")
            found = _values(rows.column(name), name)
            if found.shape[1] != max(width, 1):
                raise DataError(
                    f"`{name}` has {found.shape[1]} numbers a row, `reference` has {max(width, 1)}."
                )
            parts.append(found)
        return np.concatenate(parts, axis=1)


def _by_pane(arrays: Mapping[str, Any], prefix: str) -> dict[int, Any]:
    chosen = {name: value for name, value in arrays.items() if name.startswith(prefix)}
    return {int(name.removeprefix(prefix)): value for name, value in chosen.items()}


def _width(name: str, values: NDArray[Any]) -> int:
    if values.dtype.kind not in "biuf":
        raise SettingsError(
            f"`reference` holds {name!r}, which are no numbers ({values.dtype}); encode them, or "
            "leave the column out."
        )
    return 0 if values.ndim == 1 else int(np.prod(values.shape[1:]))


def _flat(values: NDArray[Any]) -> Values:
    return values.reshape(len(values), -1).astype(np.float64)


def _names(columns: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(
        f"{name}[{at}]" if width else name
        for name, width in columns.items()
        for at in range(max(width, 1))
    )


def _values(column: pa.ChunkedArray, name: str) -> Values:
    """Numbers of a column (b, width); NULL as NaN."""
    whole: Any = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    rows = len(whole)
    while pa.types.is_nested(whole.type):
        whole = whole.flatten()
    try:
        found = whole.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as problem:
        raise DataError(f"`{name}` holds no numbers: {problem}.") from None
    return found.reshape(rows, -1)
