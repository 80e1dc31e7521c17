"""Buckets of the feature space, and accuracy without labels: reference rates × live mass.

Within a bucket a prediction is taken to be right as often as it was on the reference rows (training
or validation data with labels); only how many live rows fall into each bucket has changed. Then

    accuracy = Σ_b (live rows in b / live rows) · (reference accuracy of b)

(Shankar & Parameswaran, "Towards observability for production machine learning pipelines",
§3.2.2). What that cannot know is said: live rows in no bucket are counted as `unseen`, and their
rate may be anything; and if the rates themselves have changed, only labels can tell (`blend`).
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainpp.errors import DataError, SettingsError

__all__ = ["Buckets", "Weighted", "combine"]

# Cuts tried per numeric column and bucket: quantiles of the reference.
_CUTS = 31
# A value further outside the reference's range than this share of its width is unseen.
_MARGIN = 0.1
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Weighted:
    """A metric of the live rows, estimated without their labels.

    `value` is the estimate over the rows in known buckets; [low, high] holds 95 % of what the
    reference leaves open, and everything that the share `unseen` of the live rows could make of
    it.
    """

    value: float
    standard_error: float  # of `value`: reference rows are finitely many
    low: float
    high: float
    unseen: float


@dataclass(frozen=True, slots=True)
class Buckets:
    """A fixed partition of the feature space, with the reference's rate in every bucket.

    Built by `fit` or `by`. Letters: B buckets, n rows.
    """

    counts: NDArray[np.int64]  # (B,) reference rows
    sums: NDArray[np.float64]  # (B,) of their metric
    squares: NDArray[np.float64]  # (B,) of their metric's squares
    span: tuple[float, float]  # smallest and largest value the metric can take
    min_support: int
    columns: tuple[dict[str, Any], ...]
    nodes: tuple[dict[str, Any], ...] = field(repr=False)

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Any],
        correct: Any,
        *,
        max_buckets: int = 64,
        min_support: int = 30,
        categories: Collection[str] = (),
    ) -> Buckets:
        """Buckets that differ in `correct`, by greedy splits, the most telling first.

        A split is a number against a threshold or a category against a set; it has to lower the
        squared error by more than chance would (the largest of m cuts does by about 2 ln m
        variances when there is nothing to find). NULL and NaN of a number go to a branch of their
        own; where they are fewer than `min_support`, they are in no bucket.

        Parameters
        ----------
        columns : name -> (n,). Floats and integers are numbers; strings, booleans and objects
            are categories, of which None is one.
        correct : (n,) booleans, or any finite metric per row.
        max_buckets : buckets at most: the memory of every pane.
        min_support : reference rows in every bucket, at least.
        categories : columns of integers that are categories all the same.

        Raises
        ------
        DataError : no rows, no columns, unequal lengths, or a metric that is not finite.
        SettingsError : `max_buckets` or `min_support` is below 1.
        """
        _at_least_one(max_buckets=max_buckets, min_support=min_support)
        outcome, span = _outcome(correct)
        specs = tuple(
            _spec(name, values, outcome.size, category=name in categories)
            for name, values in columns.items()
        )
        if not specs:
            raise DataError("`columns` is empty; give at least one column to split on.")
        codes = [_codes(spec, columns[spec["name"]]) for spec in specs]
        nodes, leaves = _grow(specs, codes, outcome, max_buckets, min_support)
        return cls._measured(specs, nodes, leaves, outcome, span, min_support)

    @classmethod
    def by(
        cls,
        columns: Mapping[str, Any],
        name: str,
        correct: Any,
        *,
        max_buckets: int = 1024,
        min_support: int = 30,
    ) -> Buckets:
        """One bucket per value of the category `name`.

        A bucket with fewer than `min_support` rows borrows the rest at the overall rate.

        Raises
        ------
        DataError : there is no such column, or it has more than `max_buckets` values.
        """
        _at_least_one(max_buckets=max_buckets, min_support=min_support)
        if name not in columns:
            raise DataError(f"`name` is {name!r}; columns are {sorted(columns)}.")
        outcome, span = _outcome(correct)
        spec = _spec(name, columns[name], outcome.size, category=True)
        size = len(spec["values"])
        if size > max_buckets:
            raise DataError(
                f"`{name}` has {size} values, `max_buckets` is {max_buckets}; raise it, or let "
                "Buckets.fit join values."
            )
        root: dict[str, Any] = {"column": 0, "sets": [[code] for code in range(size)]}
        root["children"] = list(range(1, size + 1))
        nodes = [root, *({"leaf": b} for b in range(size))]
        codes = _codes(spec, columns[name])
        leaves = [np.flatnonzero(codes == b) for b in range(size)]
        return cls._measured((spec,), nodes, leaves, outcome, span, min_support)

    @classmethod
    def _measured(
        cls,
        specs: tuple[dict[str, Any], ...],
        nodes: list[dict[str, Any]],
        leaves: Sequence[NDArray[np.int64]],
        outcome: NDArray[np.float64],
        span: tuple[float, float],
        min_support: int,
    ) -> Buckets:
        return cls(
            counts=np.array([rows.size for rows in leaves], np.int64),
            sums=np.array([outcome[rows].sum() for rows in leaves]),
            squares=np.array([(outcome[rows] ** 2).sum() for rows in leaves]),
            span=span,
            min_support=min_support,
            columns=specs,
            nodes=tuple(nodes),
        )

    def __len__(self) -> int:
        return self.counts.size

    @property
    def rates(self) -> NDArray[np.float64]:
        """Reference rate of every bucket (B,), short ones filled up at the overall rate."""
        missing = np.maximum(self.min_support - self.counts, 0)
        return (self.sums + missing * self._overall) / (self.counts + missing)

    @property
    def _overall(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    @property
    def variances(self) -> NDArray[np.float64]:
        """Squared standard errors of `rates` (B,).

        Two pseudo-rows at the ends of the span keep a bucket without a failure from looking
        certain; a bucket that borrowed rows answers for how far rates differ between buckets.
        """
        low, high = self.span
        rows = self.counts + 2
        mean = (self.sums + low + high) / rows
        within = np.maximum((self.squares + low**2 + high**2) / rows - mean**2, 0)
        missing = np.maximum(self.min_support - self.counts, 0)
        raw = self.sums / np.maximum(self.counts, 1)
        between = np.average((raw - self._overall) ** 2, weights=self.counts)
        filled = self.counts + missing
        return (self.counts * within + missing**2 * between) / filled**2

    def measured(self, columns: Mapping[str, Any], correct: Any) -> Buckets:
        """The same buckets with the rates of other rows.

        Rates of the rows the splits were chosen on differ a little too much between buckets; rows
        set aside (or newly labelled ones) give rates without that.

        Raises
        ------
        DataError : the rows cannot be used, or none is in a bucket.
        """
        outcome, span = _outcome(correct)
        numbers = self.assign(columns)
        if numbers.shape != outcome.shape:
            raise DataError(f"`correct` has {outcome.size} rows; columns have {numbers.size}.")
        if (numbers < 0).all():
            raise DataError("`columns` holds no row of any bucket; give rows like the reference.")
        leaves = [np.flatnonzero(numbers == b) for b in range(len(self))]
        span = min(span[0], self.span[0]), max(span[1], self.span[1])
        nodes = list(self.nodes)
        return self._measured(self.columns, nodes, leaves, outcome, span, self.min_support)

    def assign(self, columns: Mapping[str, Any]) -> NDArray[np.int64]:
        """Number of every row's bucket (n,); -1 if it is unlike the reference in any column.

        Unlike are: a category the reference does not have, a number beyond its range by more than
        a tenth of that range, NULL or NaN where the reference has (next to) none.

        Raises
        ------
        DataError : a column is missing, of another kind, or of another length.
        """
        values = [self._column(spec, columns) for spec in self.columns]
        size = values[0].size
        known = np.ones(size, bool)
        for spec, column in zip(self.columns, values, strict=True):
            if column.size != size:
                raise DataError(
                    f"`columns[{spec['name']!r}]` has {column.size} rows, "
                    f"`{self.columns[0]['name']}` has {size}; give columns of one length."
                )
            known &= _familiar(spec, column)
        numbers = np.full(size, -1, np.int64)
        waiting = [(0, np.flatnonzero(known))]
        while waiting:
            place, rows = waiting.pop()
            node = self.nodes[place]
            if "leaf" in node:
                numbers[rows] = node["leaf"]
            elif rows.size:
                branch = _branch(node, values[node["column"]][rows])
                waiting += [
                    (child, rows[branch == turn])
                    for turn, child in enumerate(node["children"])
                    if child >= 0
                ]
        return numbers

    @staticmethod
    def _column(spec: dict[str, Any], columns: Mapping[str, Any]) -> NDArray[Any]:
        if spec["name"] not in columns:
            raise DataError(
                f"`columns` lacks {spec['name']!r}, which the buckets split on; it has "
                f"{sorted(columns)}."
            )
        values = columns[spec["name"]]
        return _codes(spec, values) if spec["kind"] == "category" else _number(spec, values)

    def count(self, numbers: Any) -> NDArray[np.int64]:
        """Live rows per bucket (B + 1,), the last for unseen ones.

        Counts of panes add up to those of a window, and are subtracted on expiry or retraction.

        Raises
        ------
        DataError : a number is neither -1 nor that of a bucket.
        """
        places = np.asarray(numbers, np.int64)
        if places.size and (places.min() < -1 or places.max() >= len(self)):
            raise DataError(f"`numbers` must be -1, or below {len(self)}, the number of buckets.")
        return np.bincount(np.where(places < 0, len(self), places), minlength=len(self) + 1)

    def estimate(self, live: Any) -> Weighted:
        """The metric over live rows without labels: Σ live mass × reference rate.

        Parameters
        ----------
        live : (B + 1,) as from `count`: rows per bucket, the last in none.

        Raises
        ------
        DataError : wrong length, a negative count, or no rows.

        Examples
        --------
        The example of the paper:

        >>> place = np.repeat(["FiDi", "Midtown"], 1000)
        >>> right = np.repeat([True, False, True, False], [800, 200, 500, 500])
        >>> buckets = Buckets.by({"place": place}, "place", right)
        >>> print(round(buckets.estimate([100, 500, 0]).value, 12))
        0.55
        """
        mass = np.asarray(live, np.float64)
        if mass.shape != (len(self) + 1,) or not (mass >= 0).all() or mass.sum() == 0:
            raise DataError(
                f"`live` must hold {len(self) + 1} counts >= 0, not all 0: one per bucket, and "
                "the unseen rows."
            )
        unseen = float(mass[-1] / mass.sum())
        seen = mass[:-1].sum()
        bottom, top = self.span
        if seen == 0:
            return Weighted((bottom + top) / 2, float("inf"), bottom, top, 1.0)
        share = mass[:-1] / seen
        value, error = float(share @ self.rates), float(np.sqrt(share**2 @ self.variances))
        low, high = max(value - _Z * error, bottom), min(value + _Z * error, top)
        low, high = (1 - unseen) * low + unseen * bottom, (1 - unseen) * high + unseen * top
        return Weighted(value, error, low, high, unseen)

    def words(self, bucket: int) -> str:
        """The predicate of a bucket, as SQL would have it.

        Raises
        ------
        SettingsError : there is no such bucket.
        """
        if bucket == -1:
            return "unlike the reference"
        leaf = next((i for i, node in enumerate(self.nodes) if node.get("leaf") == bucket), None)
        if leaf is None:
            raise SettingsError(f"`bucket` is {bucket!r}; buckets are -1 to {len(self) - 1}.")
        path, place = list[tuple[dict[str, Any], int]](), leaf
        while place:
            place, node, turn = next(
                (i, node, node["children"].index(place))
                for i, node in enumerate(self.nodes)
                if place in node.get("children", ())
            )
            path.append((node, turn))
        terms = list[str]()
        for number, spec in enumerate(self.columns):
            steps = [(node, turn) for node, turn in path if node["column"] == number]
            if steps:
                terms.append(_words(spec, steps))
        return " AND ".join(terms) or "TRUE"

    def to_dict(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        return {
            "counts": self.counts.tolist(),
            "sums": self.sums.tolist(),
            "squares": self.squares.tolist(),
            "span": list(self.span),
            "min_support": self.min_support,
            "columns": list(self.columns),
            "nodes": list(self.nodes),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Buckets:
        """The buckets `to_dict` was asked of.

        Raises
        ------
        DataError : a part is missing.
        """
        try:
            return cls(
                counts=np.array(saved["counts"], np.int64),
                sums=np.array(saved["sums"], np.float64),
                squares=np.array(saved["squares"], np.float64),
                span=(saved["span"][0], saved["span"][1]),
                min_support=saved["min_support"],
                columns=tuple(saved["columns"]),
                nodes=tuple(saved["nodes"]),
            )
        except KeyError as problem:
            raise DataError(f"saved buckets lack {problem}; save them with to_dict().") from None


def combine(estimates: Sequence[Weighted]) -> Weighted:
    """One estimate from several bucketings of the same rows, weighted by inverse variance.

    All stand on the same reference, so errors are taken to go together: bounds and standard errors
    are averaged, never shrunk, and the interval holds every value that was combined. (Shankar &
    Parameswaran, §3.2.2: merge the estimates of different bucketings.)

    Raises
    ------
    DataError : there is nothing to combine.
    """
    if not estimates:
        raise DataError("`estimates` is empty; give at least one.")
    error = np.array([max(e.standard_error, 1e-9) for e in estimates])
    if np.isinf(error).all():
        error = np.ones(len(estimates))
    weight = error**-2 / (error**-2).sum()
    value, low, high, unseen = (
        weight @ np.array([[e.value, e.low, e.high, e.unseen] for e in estimates])
    ).tolist()
    spread = [e.value for e in estimates if np.isfinite(e.standard_error)] or [value]
    error = float(weight @ np.where(np.isinf(error), 0, error))
    return Weighted(value, error, min(low, *spread), max(high, *spread), unseen)


def _grow(
    specs: Sequence[dict[str, Any]],
    codes: Sequence[NDArray[np.int64]],
    outcome: NDArray[np.float64],
    max_buckets: int,
    min_support: int,
) -> tuple[list[dict[str, Any]], list[NDArray[np.int64]]]:
    """Split the leaf that gains most until nothing gains or `max_buckets` are there."""
    edges = [_edges(spec, column) for spec, column in zip(specs, codes, strict=True)]
    bins = [
        column.astype(np.int64) if cuts is None else _binned(column, cuts)
        for column, cuts in zip(codes, edges, strict=True)
    ]
    sizes = [
        len(spec["values"]) if cuts is None else cuts.size + 2
        for spec, cuts in zip(specs, edges, strict=True)
    ]
    nodes: list[dict[str, Any]] = [{}]
    members = {0: np.arange(outcome.size)}
    queue: list[tuple[float, int, int, Any]] = []

    def consider(place: int) -> None:
        rows = members[place]
        for j, cuts in enumerate(edges):
            gain, split = _best(bins[j][rows], outcome[rows], sizes[j], cuts, min_support)
            if split is not None:
                heapq.heappush(queue, (-gain, place, j, split))

    consider(0)
    while queue:
        _, place, j, parts = heapq.heappop(queue)
        extra = sum(bool(len(part)) for part in parts) - 1
        if place not in members or len(members) + extra > max_buckets:
            continue
        rows = members.pop(place)
        nodes[place] = _node(j, edges[j], parts)
        for part in parts:
            if not len(part):
                nodes[place]["children"].append(-1)
                continue
            nodes[place]["children"].append(len(nodes))
            members[len(nodes)] = rows[np.isin(bins[j][rows], part)]
            nodes.append({})
            consider(len(nodes) - 1)
    for number, place in enumerate(members):
        nodes[place] = {"leaf": number}
    return nodes, list(members.values())


def _best(
    bins: NDArray[np.int64],
    outcome: NDArray[np.float64],
    size: int,
    cuts: NDArray[np.float64] | None,
    min_support: int,
) -> tuple[float, list[list[int]] | None]:
    """Gain in squared error over what chance would give, and the bins of every branch.

    The best split of a category into two sets is a cut in the order of its rates (Breiman et al.
    1984, theorem 4.5).
    """
    n = np.bincount(bins, minlength=size)
    s = np.bincount(bins, outcome, minlength=size)
    lost = n[-1] if cuts is not None else 0
    apart = lost >= min_support  # missing numbers become a branch
    if cuts is None:
        order = np.flatnonzero(n)
        order = order[np.argsort(s[order] / n[order], kind="stable")]
    else:
        order = np.arange(size - 1)
    left, total = np.cumsum(n[order]), n[order].sum()
    sums, whole = np.cumsum(s[order]), s[order].sum()
    right = total - left
    fine = (left >= min_support) & ((right >= min_support) | ((right == 0) & apart))
    if not fine.any():
        return 0.0, None
    gain = sums**2 / np.maximum(left, 1) + (whole - sums) ** 2 / np.maximum(right, 1)
    if apart:
        gain = gain + s[-1] ** 2 / lost - (whole + s[-1]) ** 2 / (total + lost)
    else:
        gain = gain - whole**2 / total
    gain = np.where(fine, gain, -1)
    place = int(gain.argmax())
    chance = float(outcome.var()) * (2 * np.log(fine.sum()) + 4)
    # Where all rows are alike, what is gained is rounding.
    if gain[place] <= chance + 1e-9 * float((outcome**2).sum()):
        return 0.0, None
    parts = [order[: place + 1].tolist(), order[place + 1 :][n[order[place + 1 :]] > 0].tolist()]
    if cuts is not None:
        parts.append([size - 1] if apart else [])
    return float(gain[place] - chance), parts


def _node(column: int, cuts: NDArray[np.float64] | None, parts: list[list[int]]) -> dict[str, Any]:
    node: dict[str, Any] = {"column": column, "children": []}
    if cuts is None:
        return node | {"sets": parts}
    last = parts[0][-1]
    return node | {"at": float(cuts[last]) if last < cuts.size and parts[1] else None}


def _branch(node: dict[str, Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """Which child every row goes to; none (-1) for a category the bucket has never had."""
    if "sets" in node:
        branch = np.full(max(map(max, node["sets"])) + 1, -1)
        for turn, codes in enumerate(node["sets"]):
            branch[codes] = turn
        return np.where(values < branch.size, branch[np.minimum(values, branch.size - 1)], -1)
    right = False if node["at"] is None else values > node["at"]
    return np.where(np.isnan(values), 2, np.where(right, 1, 0))


def _words(spec: dict[str, Any], steps: Sequence[tuple[dict[str, Any], int]]) -> str:
    """What a path of splits says about one column."""
    name = spec["name"]
    if spec["kind"] == "category":
        codes = set.intersection(*(set(node["sets"][turn]) for node, turn in steps))
        values = [spec["values"][code] for code in sorted(codes)]
        some = [_literal(value) for value in values if value is not None]
        terms = [f"{name} = {some[0]}" if len(some) == 1 else f"{name} IN ({', '.join(some)})"]
        terms = (terms if some else []) + ([f"{name} IS NULL"] if None in values else [])
        return terms[0] if len(terms) == 1 else f"({' OR '.join(terms)})"
    if any(turn == 2 for _, turn in steps):
        return f"{name} IS NULL"
    above = [node["at"] for node, turn in steps if turn == 1]
    below = [node["at"] for node, turn in steps if turn == 0 and node["at"] is not None]
    terms = [f"{name} > {_literal(max(above))}"] if above else []
    terms += [f"{name} <= {_literal(min(below))}"] if below else []
    return " AND ".join(terms) or f"{name} IS NOT NULL"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).upper() if isinstance(value, bool) else str(value).removesuffix(".0")


def _spec(name: str, values: Any, rows: int, *, category: bool) -> dict[str, Any]:
    """What the reference has in one column."""
    array = np.asarray(values)
    if array.shape != (rows,):
        raise DataError(
            f"`columns[{name!r}]` has shape {array.shape}; it must be ({rows},), as `correct`."
        )
    if category or array.dtype.kind in "USOb":
        different = dict.fromkeys(_plain(name, array))
        values = sorted(different, key=lambda value: (value is None, str(value)))
        return {"name": name, "kind": "category", "values": values}
    spec: dict[str, Any] = {"name": name, "kind": "number"}
    numbers = _number(spec, array)
    finite = numbers[~np.isnan(numbers)]
    if np.isinf(finite).any():
        raise DataError(f"`columns[{name!r}]` holds infinity; replace it by NULL or a number.")
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    margin = _MARGIN * (high - low)
    return spec | {"low": low - margin, "high": high + margin, "missing": finite.size < rows}


def _codes(spec: dict[str, Any], values: Any) -> NDArray[Any]:
    """A category's place among the reference's (-1: none of them); numbers as they are."""
    if spec["kind"] == "number":
        return _number(spec, values)
    place = {value: code for code, value in enumerate(spec["values"])}
    plain = _plain(spec["name"], np.asarray(values))
    return np.fromiter((place.get(value, -1) for value in plain), np.int64, len(plain))


def _familiar(spec: dict[str, Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    if spec["kind"] == "category":
        return values >= 0
    inside = (values >= spec["low"]) & (values <= spec["high"])
    return inside | np.isnan(values) if spec["missing"] else inside


def _plain(name: str, values: NDArray[Any]) -> list[Any]:
    """Values as str, int, float, bool or None, NaN among the last."""
    if values.ndim != 1:
        raise DataError(f"`columns[{name!r}]` has shape {values.shape}; it must be (n,).")
    plain = values.tolist()
    if values.dtype.kind in "fO":
        plain = [None if value is None or value != value else value for value in plain]
    odd = next((v for v in plain if not isinstance(v, str | int | float | None)), None)
    if odd is not None:
        raise DataError(
            f"`columns[{name!r}]` holds a {type(odd).__name__}; categories are strings, numbers, "
            "booleans or None. Convert it to a string or a number."
        )
    return plain


def _number(spec: dict[str, Any], values: Any) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iufO" or array.ndim != 1:
        raise DataError(
            f"`columns[{spec['name']!r}]` has dtype {array.dtype} and shape {array.shape}; it "
            "must be (n,) numbers, with NaN or None where one is missing."
        )
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"`columns[{spec['name']!r}]` holds something that is no number.") from None


def _edges(spec: dict[str, Any], values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Thresholds to try, none of them the maximum; None for a category."""
    if spec["kind"] == "category":
        return None
    finite = values[~np.isnan(values)]
    if not finite.size:
        return np.zeros(0)
    shares = np.arange(1, _CUTS + 1) / (_CUTS + 1)
    values = np.unique(finite)
    places = np.searchsorted(values, np.unique(np.quantile(finite, shares, method="lower")))
    places = places[places < values.size - 1]
    gaps = zip(values[places].tolist(), values[places + 1].tolist(), strict=True)
    return np.array([_shortest(low, high) for low, high in gaps], np.float64)


def _shortest(low: float, high: float) -> float:
    """The number in [low, high) with the fewest digits: words name thresholds to the last one."""
    for digits in range(1, 17):
        for value in (low, (low + high) / 2):
            short = float(f"{value:.{digits}g}")
            if low <= short < high:
                return short
    return low


def _binned(values: NDArray[Any], cuts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin i holds cuts[i - 1] < x <= cuts[i]; the last one what is missing."""
    bins = np.searchsorted(cuts, values)
    return np.where(np.isnan(values), cuts.size + 1, bins)


def _outcome(correct: Any) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The metric per row, and the smallest and largest value it can take."""
    array = np.asarray(correct)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "biuf":
        raise DataError(
            f"`correct` has shape {array.shape} and dtype {array.dtype}; it must be (n,) booleans "
            "or numbers, n > 0."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("`correct` holds NaN or infinity; leave rows without a label out.")
    low, high = float(values.min()), float(values.max())
    return values, ((0.0, 1.0) if low >= 0 and high <= 1 else (low, high))


def _at_least_one(**settings: int) -> None:
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingsError(f"`{name}` is {value!r}; it must be a whole number >= 1.")
