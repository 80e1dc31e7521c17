"""The demo's report: the story of one run in words and values."""

from __future__ import annotations

from rainpp.demo.session import Session
from rainpp.demo.summary import QUERY, DemoSummary
from rainpp.report import Finding, Story, collect
from rainpp.report.words import share
from rainpp.trust import Trust, Verdict

_SHOWN = 20  # suspects drawn


def tell(session: Session, summary: DemoSummary) -> Story:
    """The story of `session`, ready to be written as a page."""
    few = summary.counts[0]
    data = session.data
    paper = 1 - data.inputs.reshape(-1, 8, 8)  # dark ink on light paper
    expected = {
        row: float((data.table_truth == digit).sum())
        for row, digit in enumerate(session.result.df()["digit"])
    }
    return Story(
        title=f"Why are there so few {few.digit}s?",
        lead=(
            f"A query over a model’s predictions counts {few.before} of the digit {few.digit}; "
            f"somebody counted {few.counted}. The complaint leads to {summary.repaired} training "
            f"labels; with those repaired and the model retrained, the query says {few.after}."
        ),
        findings=_findings(summary),
        facts={
            "training rows": summary.num_train,
            "rows in the table": summary.num_rows,
            "classes": 10,
            "parameters": summary.num_params,
            "eigenpairs kept": summary.k,
            "labels made wrong": summary.planted,
        },
        query=QUERY,
        complaints=tuple(str(item.complaint) for item in session.complaints),
        column="n",
        group="digit",
        answer=collect.answer_rows(
            session.result, session.complaints, session.verification, expected
        ),
        fix=(
            "Every training row is scored for every other label it could have. Rows are repaired "
            "from the top of that ranking, up to the point where the predicted counts come closest "
            f"to the ones counted by hand: {summary.repaired} rows. Which labels were really wrong "
            "is only used to judge the result (✓ and ✗)."
        ),
        examples=collect.examples(
            session.ranking, session.complaints, count=_SHOWN, images=paper, truth=data.truth
        ),
        num_applied=session.repairs,
        cumulative=tuple(
            collect.cumulative(
                session.ranking,
                item,
                shown=round(1.4 * session.repairs),
                applied=session.repairs,
                retrained=count.after_relaxed,
            )
            for item, count in zip(session.complaints, summary.counts, strict=True)
        ),
        recall=collect.recall(session.ranking, data.planted, applied=session.repairs),
        spectrum=collect.spectrum(session.index),
        trust=_opinion(session.ranking.trust),
        coverage=summary.coverage,
        timings=summary.seconds,
        reproduce=('pip install "rainpp[demo]"', "rainpp demo"),
    )


def _findings(summary: DemoSummary) -> tuple[Finding, ...]:
    counts = [
        Finding(
            f"digit {item.digit}",
            item.after,
            item.before,
            f"counted by hand: {item.counted}; a model trained on clean labels says {item.clean}",
        )
        for item in summary.counts
    ]
    return (
        *counts,
        Finding(
            "labels repaired",
            summary.repaired,
            note=f"{share(summary.precision)} of them were really wrong; "
            f"{share(summary.recall)} of the {summary.planted} wrong ones found",
        ),
        Finding(
            "accuracy",
            f"{summary.accuracy['after']:.1%}",
            f"{summary.accuracy['before']:.1%}",
            f"on clean labels {summary.accuracy['clean']:.1%}",
        ),
    )


def _opinion(trust: Trust) -> str:
    """What the labels say about the complaint, where they say anything."""
    return "" if trust.verdict is Verdict.UNKNOWN else trust.sentence
