"""Numbers as a person writes them."""

from __future__ import annotations

import math


def number(value: float | str) -> str:
    """About three significant digits, thousands separated; text as it is.

    Examples
    --------
    >>> [number(v) for v in (62.0, 61.98, 1234567, 0.0421, -0.5, "all")]
    ['62', '62.0', '1,234,567', '0.042', '−0.50', 'all']
    """
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if float(value).is_integer() and size < 1e15:
        text = f"{value:,.0f}"
    elif size < 1e-4 or size >= 1e15:
        text = f"{value:.2e}"
    else:
        text = f"{value:,.{_decimals(size)}f}"
    return text.replace("-", "−")


def _decimals(size: float) -> int:
    if size >= 1000:
        return 0
    if size >= 10:
        return 1
    return 2 if size >= 0.1 else 3


def share(value: float) -> str:
    """A share in [0, 1] as a percentage that never rounds up to 100 or down to 0.

    Examples
    --------
    >>> [share(v) for v in (1.0, 0.9996, 0.5, 0.0001, 0.0)]
    ['100%', '>99.9%', '50%', '<0.1%', '0%']
    """
    if not math.isfinite(value):
        return "–"
    if 0.9995 <= value < 1:
        return ">99.9%"
    if 0 < value < 0.001:
        return "<0.1%"
    percent = 100 * value
    return f"{percent:.1f}%" if 0 < value < 0.1 or 0.99 <= value < 1 else f"{percent:.0f}%"


def movement(cell: str, amount: float) -> str:
    """A predicted change in words.

    Examples
    --------
    >>> movement("n of 1", 0.42), movement("n of 7", -0.4)
    ('raises n of 1 by 0.42', 'lowers n of 7 by 0.40')
    """
    if amount == 0:
        return f"leaves {cell} as it is"
    return f"{'raises' if amount > 0 else 'lowers'} {cell} by {number(abs(amount))}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    Examples
    --------
    >>> [duration(v) for v in (0.0042, 0.5, 3.21, 75)]
    ['4.2 ms', '500 ms', '3.2 s', '1 min 15 s']
    """
    if seconds < 0.01:
        return f"{1000 * seconds:.1f} ms"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def coverage_sentence(value: float) -> str:
    """What the coverage means for the reader, with a warning when it is low.

    The bounds 0.8 and 0.5 are an aid to reading, not a measurement: what the index misses lies
    along flat directions, where a small gradient can still have a large effect.
    """
    if not math.isfinite(value):
        return "How much of this complaint the index captures was not measured."
    known = f"The index captures {share(value)} of this complaint’s gradient"
    if value >= 0.8:
        return f"{known}, so little of it goes unseen. Retraining remains the proof."
    if value >= 0.5:
        return f"{known}: read predicted effects as rough sizes; ranking.refine() sharpens them."
    return (
        f"{known}, which is low: trust the order of the suspects more than the predicted sizes, "
        "which are likely too small. ranking.refine() corrects them."
    )
