"""How a standing query is kept up to date, in words."""

from __future__ import annotations

from rainpp.monitoring.setup import Setup
from rainpp.monitoring.spec import Spec
from rainpp.stream.window import shown_duration


def plan_lines(spec: Spec, setup: Setup) -> list[str]:
    """One sentence a line."""
    query = setup.query
    lines: list[str] = []
    if query is None:
        lines.append(
            "recomputed from the rows of a window whenever one comes or goes: " + setup.reason
        )
    elif len(query.sides) == 2:
        names = " and ".join(table.name for table in setup.tables)
        lines.append(f"kept by additions: sums for each join key of {names}, multiplied")
    else:
        lines.append("kept by additions: a batch costs the same however much came before")
    if query is not None and any(term.kind == "AVG" for term in query.terms):
        lines.append("AVG relaxed is the expected sum over the expected count")
    lines.append(
        f"{spec.window}; rows up to {shown_duration(spec.lateness)} late are in time, and are "
        f"counted up to {shown_duration(spec.retention)} after that"
    )
    kept = {
        "inputs": "the model's inputs of every row, so that it can be taken back",
        "gradients": f"{setup.passes.k} numbers for each class that can count, of every row, "
        "so that it can be taken back",
        "nothing": "nothing of a row: it cannot be taken back",
    }
    lines.append(f"keeps {kept[setup.keep]}")
    if query is not None:
        backward = [g for g in range(1, setup.passes.k) if setup.passes.backward_is_cheaper(g)]
        lines.append(
            "gradients: k forward passes"
            if setup.keep == "gradients" or not backward
            else f"gradients: a backward pass for each group a batch touches, up to "
            f"{backward[-1]} groups; k = {setup.passes.k} forward passes beyond"
        )
    return lines
