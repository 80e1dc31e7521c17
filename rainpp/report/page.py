"""The page itself: sections in reading order, one file, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from rainpp.report.answer import answer_table
from rainpp.report.examples import example_list
from rainpp.report.families import family_table
from rainpp.report.plots import cumulative_chart, recall_chart, rounds_chart, spectrum_chart
from rainpp.report.predicates import predicate_table
from rainpp.report.rounds import rounds_table
from rainpp.report.sql import highlight
from rainpp.report.story import Finding, Story
from rainpp.report.styles import COLOURS, PAGE, read_style
from rainpp.report.words import coverage_sentence, duration, number, share
from rainpp.report.writing import write_text


def write_report(path: str | Path, story: Story) -> Path:
    """Write `story` to `path` as one HTML file without scripts or links; returns the path.

    Raises
    ------
    DataError : the folder is missing or cannot be written to.
    """
    return write_text(path, render_report(story))


def render_report(story: Story) -> str:
    """The HTML of `write_report`."""
    from rainpp import __version__

    style = read_style(COLOURS) + read_style(PAGE)
    sections = "".join(section(story) for section in _SECTIONS)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(story.title)}</title><style>{style}</style></head>\n"
        f"<body><main>{sections}<footer>Made by rainpp {__version__}.</footer></main></body>"
        "</html>\n"
    )


def _opening(story: Story) -> str:
    lead = f'<p class="lead">{escape(story.lead)}</p>' if story.lead else ""
    items = "".join(_finding(finding) for finding in story.findings)
    findings = f'<ul class="findings">{items}</ul>' if items else ""
    return f"<header><h1>{escape(story.title)}</h1>{lead}{findings}</header>"


def _finding(finding: Finding) -> str:
    value = f'<span class="new">{escape(number(finding.after))}</span>'
    if finding.before is not None:
        old = escape(number(finding.before))
        value = f'<span class="old">{old}</span><span class="arrow">→</span>{value}'
    note = f'<span class="note">{escape(finding.note)}</span>' if finding.note else ""
    return (
        f'<li><span class="label">{escape(finding.label)}</span>'
        f'<span class="value">{value}</span>{note}</li>'
    )


def _question(story: Story) -> str:
    complaints = "".join(f"<li>{_code_spans(text)}</li>" for text in story.complaints)
    trust = f'<p class="note">{_code_spans(story.trust)}</p>' if story.trust else ""
    return _section(
        "The question, and the complaint",
        f"<pre><code>{highlight(story.query)}</code></pre>"
        f'<ul class="complaints">{complaints}</ul>{trust}',
    )


def _code_spans(text: str) -> str:
    """Text in which `backticks` mark names."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _answer(story: Story) -> str:
    note = ""
    if any(row.before_relaxed is not None for row in story.answer):
        note = (
            '<p class="note">The relaxed value is the expected answer under the model’s '
            "probabilities: the effect of a repair is predicted, and checked, on it.</p>"
        )
    repaired = any(row.after is not None for row in story.answer)
    title = "The answer, before and after" if repaired else "The answer"
    return _section(title, answer_table(story) + note)


def _examples(story: Story) -> str:
    if not story.examples:
        return ""
    shown, total = len(story.examples), max(story.num_applied, len(story.examples))
    fix = f"<p>{escape(story.fix)}</p>" if story.fix else ""
    part = f"The first {shown:,} of {total:,}, best first." if shown < total else "Best first."
    if any(example.kind == "relabel" for example in story.examples):
        part += (
            " “Plausible” is the model’s own probability of the suggested label; a row’s score is "
            "its effect times that."
        )
    note = f'<p class="note">{part}</p>'
    return _section("The training rows behind it", fix + example_list(story.examples) + note)


def _families(story: Story) -> str:
    if story.families is None:
        return ""
    return _section("Which kind of change helps", family_table(story.families))


def _predicates(story: Story) -> str:
    if story.predicates is None:
        return ""
    return _section("Which rows these are", predicate_table(story.predicates))


def _rounds(story: Story) -> str:
    if story.rounds is None:
        return ""
    caption = (
        "Every round changes rows, trains again and asks again. Promises are of the relaxed value."
    )
    chart = _figure("Round by round", rounds_chart(story.rounds), caption)
    verdict = f"<p>{escape(story.rounds.verdict)}</p>"
    return _section("Every round", f"{verdict}{rounds_table(story.rounds)}{chart}")


def _evidence(story: Story) -> str:
    figures = [
        _figure(
            f"Predicted and retrained: {line.cell}",
            cumulative_chart(line),
            "The line is the prediction from the index, the dot the same number after retraining.",
        )
        for line in story.cumulative
    ]
    if story.recall is not None:
        recall = story.recall
        caption = f"AUC_R {recall.auc_r:.3f}; 1 is a perfect order."
        if recall.precision == recall.precision:
            caption += f" {share(recall.precision)} of the rows changed were real errors."
        figures.append(_figure("How fast the errors are found", recall_chart(recall), caption))
    if not figures:
        return ""
    return _section("Does it hold?", f'<div class="charts">{"".join(figures)}</div>')


def _inside(story: Story) -> str:
    body = "" if story.coverage is None else f"<p>{coverage_sentence(story.coverage)}</p>"
    parts: list[str] = []
    if story.spectrum is not None:
        caption = f"k = {story.spectrum.k}: {story.spectrum.rule}."
        chart = spectrum_chart(story.spectrum)
        parts.append(_figure("Curvature of the training objective", chart, caption))
    facts = {name: number(value) for name, value in story.facts.items()}
    times = {name: duration(value) for name, value in story.timings.items()}
    lists = [("Model and data", facts), ("Time", times)]
    tables = "".join(_facts(title, values) for title, values in lists if values)
    if tables:
        parts.append(f"<div>{tables}</div>")
    if not body and not parts:
        return ""
    return _section("Behind the numbers", f'{body}<div class="charts">{"".join(parts)}</div>')


def _facts(title: str, values: dict[str, str]) -> str:
    pairs = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items())
    return f'<h3>{title}</h3><dl class="facts">{pairs}</dl><br>'


def _reproduce(story: Story) -> str:
    if not story.reproduce:
        return ""
    return _section(
        "Do it again", f"<pre><code>{escape(chr(10).join(story.reproduce))}</code></pre>"
    )


def _figure(title: str, chart: str, caption: str) -> str:
    body = f"<h3>{escape(title)}</h3>{chart}<figcaption>{escape(caption)}</figcaption>"
    return f"<figure>{body}</figure>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


_SECTIONS: tuple[Callable[[Story], str], ...] = (
    _opening,
    _question,
    _answer,
    _families,
    _predicates,
    _examples,
    _rounds,
    _evidence,
    _inside,
    _reproduce,
)
