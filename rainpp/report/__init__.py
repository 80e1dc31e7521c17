"""One debugging session as a page to read, print and send: a single HTML file."""

from rainpp.report.page import render_report, write_report
from rainpp.report.repairs import Repairs, write_rounds
from rainpp.report.story import (
    AnswerRow,
    Change,
    Cumulative,
    Example,
    Finding,
    Recall,
    Spectrum,
    Story,
)

__all__ = [
    "AnswerRow",
    "Change",
    "Cumulative",
    "Example",
    "Finding",
    "Recall",
    "Repairs",
    "Spectrum",
    "Story",
    "render_report",
    "write_report",
    "write_rounds",
]
