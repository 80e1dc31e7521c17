"""What the commands print of an index, a ranking, a proof and a loop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from rainpp.terminal import say, show_checks, show_json, show_pairs, show_table

if TYPE_CHECKING:
    import pandas as pd

    from rainpp.index.artifact import Index
    from rainpp.index.estimate import Estimate
    from rainpp.monitoring.alarm import Alarm
    from rainpp.ranking import Ranking
    from rainpp.repair import RepairLoop, Round
    from rainpp.result import Result
    from rainpp.verification import Outcome, Verification


def show_built(index: Index, *, as_json: bool) -> None:
    """An index that was built just now, and what each family of interventions cost."""
    families = _families(index)
    if as_json:
        show_json({**_about(index), "projecting": families})
        return
    costs = {f"projecting {each['family']}": _cost(each) for each in families}
    show_pairs({**_about(index), **costs})


def show_estimate(found: Estimate, *, as_json: bool) -> None:
    """What an index will cost."""
    if as_json:
        show_json(found.as_dict())
        return
    columns = ["stage", "passes", "rows", "seconds"]
    show_table(columns, [[s.name, s.passes, s.rows, s.seconds] for s in found.stages])
    for line in found.summary():
        typer.echo(line)


def show_index(index: Index, *, as_json: bool) -> None:
    """All there is to know about an index."""
    if as_json:
        spectrum = {"eigenvalues": index.eigenvalues, "manifest": index.manifest}
        show_json({**_about(index), **spectrum})
    else:
        show_pairs({**_about(index), **_spectrum(index), **index.manifest["checks"]})
        show_checks(index.manifest.get("self_checks", []))


def show_ranking(ranking: Ranking, result: Result, top: pd.DataFrame, *, as_json: bool) -> None:
    """The top of a ranking; how it was made and how far to trust it on stderr."""
    complaint = ranking.complaints[0]
    if as_json:
        show_json(
            {
                "complaint": str(complaint),
                "value": complaint.hard,
                "relaxed": complaint.relaxed,
                "method": result.method,
                "coverage": ranking.coverage,
                "refined_steps": ranking.refined_steps,
                "trust": ranking.trust.as_dict(),
                "ranking": top.to_dict(orient="records"),
            }
        )
        return
    if ranking.refinement is None:
        how = f"the index captures {ranking.coverage:.0%} of it"
    else:
        how = f"scores from the index, effects refined: {ranking.refinement}"
    say(f"{complaint}  [{result.method}; {how}]")
    trust = ranking.trust
    for line in (trust.sentence, *trust.notes):
        say(line)
    show_table(list(top.columns), top.to_numpy(dtype=object).tolist())


def show_proof(proof: Verification, *, as_json: bool) -> None:
    """The number before and after training again; on stderr whether the complaint holds."""
    outcome = proof.outcomes[0]
    numbers = {
        "before": outcome.before,
        "predicted": outcome.predicted,
        "after": outcome.after,
        "resolved": outcome.resolved,
        "before_relaxed": outcome.before_relaxed,
        "after_relaxed": outcome.after_relaxed,
    }
    if as_json:
        about = {"complaint": str(outcome.complaint), "interventions": len(proof.applied)}
        show_json({**about, **numbers, "first_order": outcome.first_order})
    else:
        show_table(list(numbers), [list(numbers.values())])
    say(_verdict(outcome, len(proof.applied)))


def _verdict(outcome: Outcome, applied: int) -> str:
    gone = outcome.after != outcome.after
    found = "the row is no longer in the answer" if gone else f"{outcome.after:g}"
    ends = "the complaint holds" if outcome.resolved else "the complaint does NOT hold"
    return (
        f"{ends} after training again with {applied:,} interventions: {outcome.complaint}; "
        f"after: {found} (predicted, relaxed: {outcome.predicted:.4g}, where training again gave "
        f"{outcome.after_relaxed:.4g})"
    )


def say_round(done: Round) -> None:
    """A round of a loop, while the next one runs."""
    say(
        f"round {done.number}: {done.touched:,} rows changed, the number is {done.value:g} "
        f"({done.seconds:.1f} s)"
    )


def show_loop(loop: RepairLoop, *, as_json: bool) -> None:
    """A line for each round; on stderr why it ended."""
    rounds = loop.frame()
    if as_json:
        show_json(
            {
                "complaint": str(loop.complaint),
                "before": loop.before,
                "resolved": loop.resolved,
                "touched": loop.touched,
                "ended": loop.ended,
                "rounds": rounds.to_dict(orient="records"),
            }
        )
    else:
        show_table(list(rounds.columns), rounds.to_numpy(dtype=object).tolist())
    resolved = "resolved" if loop.resolved else "NOT resolved"
    say(f"{resolved} after {len(loop.rounds)} rounds: {loop.ended} ({loop.complaint})")


def _about(index: Index) -> dict[str, Any]:
    manifest = index.manifest
    return {
        "path": index.path,
        "k": index.k,
        "training_rows": index.num_train,
        "parameters": manifest["num_params"],
        "classes": manifest["num_classes"],
        "interventions": ", ".join(manifest["interventions"]) or "none: the half for users",
        "storage": manifest.get("storage", {}).get("kind", "float32"),
        "loss": manifest["loss"],
        "l2": manifest["l2"],
        "tables": ", ".join(entry["table"] for entry in manifest["inference"].values()),
        "at_optimum": manifest["checks"]["at_optimum"],
    }


def _families(index: Index) -> list[dict[str, Any]]:
    """Seconds of projecting; deletions and relabels come of one pass."""
    table = index.interventions
    count = {name: len(range(len(table))[table.of(name)]) for name in table.kinds}
    found: list[dict[str, Any]] = []
    for names, seconds in index.seconds.items():
        number = count.get(names) or sum(count.get(name, 0) for name in names.split(", "))
        each = seconds / number if number else None
        told = {"family": names, "interventions": number}
        found.append({**told, "seconds": seconds, "seconds_each": each})
    return found


def _cost(family: dict[str, Any]) -> str:
    each = family["seconds_each"]
    return f"{family['seconds']:.3g} s" + (f", {1000 * each:.3g} ms each" if each else "")


def _spectrum(index: Index) -> dict[str, Any]:
    return {
        "k_rule": index.manifest["k_rule"],
        "eigenvalues": " ".join(f"{value:.3g}" for value in index.eigenvalues),
        "ratios": " ".join(
            f"{value:.2f}" for value in index.eigenvalues[1:] / index.eigenvalues[:-1]
        ),
        "model_fingerprint": index.manifest["model_fingerprint"],
        "data_fingerprint": index.manifest["data_fingerprint"],
        "written_by": f"rainpp {index.manifest['rainpp']}",
    }


def say_alarm(alarm: Alarm, *, as_json: bool) -> None:
    """An alarm as one line, at once."""
    if as_json:
        body = {name: value for name, value in alarm.body().items() if name != "vector"}
        line = {"monitor": alarm.monitor, "seq": alarm.seq, **body}
        typer.echo(json.dumps(line, ensure_ascii=False))
    else:
        typer.echo(f"{alarm.monitor}: {alarm}")
