"""Sentences of a page about repairs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from rainpp.complaint import Complaint
from rainpp.fix import Fix
from rainpp.intervention import Intervention
from rainpp.ranking import Ranking
from rainpp.report.words import number
from rainpp.verification import Verification


def aim_of(complaints: Sequence[Complaint], name: str) -> str:
    """What an improvement does, as in "raise n of 1"; `name` is that of the first number."""
    if len(complaints) != 1:
        return "improve the complaints together"
    return f"{'raise' if complaints[0].direction > 0 else 'lower'} {name}"


def proven(verification: Verification, name: str) -> str:
    """What training again gave, in a sentence."""
    first = verification.outcomes[0]
    held = "as asked" if first.resolved else "not yet as asked"
    return (
        f"With {len(verification.applied):,} training rows changed and the model trained again, "
        f"{name} is {number(first.after)} instead of {number(first.before)}: {held}."
    )


def titled(ranking: Ranking) -> str:
    """What the complaint says, as a title."""
    first, *others = (str(each).replace("`", "") for each in ranking.complaints)
    return f"Repairs: {first}" + (f", and {len(others)} more" if others else "")


def promise(fix: Fix, aim: str) -> str:
    """What a fix should do, in a sentence."""
    found = fix.together
    start = "The smallest fix is" if fix.resolves else "No fix was found that does; the best is"
    return (
        f"{start} {len(fix.interventions):,} rows, predicted together to {aim} by "
        f"{number(fix.reached)} where {number(fix.needed)} is asked for, and its expected value by "
        f"{number(found.effect)} ({number(found.low)} to {number(found.high)})."
    )


def by_kind(items: Sequence[Intervention] | None) -> str:
    """How many rows each kind of change is for."""
    names = [str(i.detail) if i.kind == "replace" else i.kind for i in items or ()]
    counts = pd.Series(names, dtype=object).value_counts()
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"By kind: {listed}."
