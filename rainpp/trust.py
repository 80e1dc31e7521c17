"""What a ranking says about itself, and whether the complaint behind it looks right.

A complaint that points the wrong way, or at a number no training error has moved, is ranked like
any other: some row is always first. What differs is how the evidence is spread. Take for every
training row the relabel that helps most, effect x P(new label | x), and the one that harms most.
Both add up to nearly the same over all rows, because the gradient of the objective is zero at its
optimum. But labels that are wrong and contradicted by the model make *few large* scores, and labels
that are merely ambiguous many small ones. So the two sides are compared by the sum of the cubes of
their scores, and the result is weighted by how much of it belongs to one kind of mistake, the
commonest (label -> new label): systematic errors are of one kind, natural ambiguity of many.

    score = log(Σ helping³ / Σ harming³) · share of the commonest pair on the larger side

It is 0 when both sides weigh the same, changes sign with the direction of the complaint, and does
not depend on the units of the query. A sum carried by m rows is known to a share of about 1/√m, so
the score has an interval, and a few odd rows decide nothing. `experiments/wrong_complaints.py`
measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from rainpp.complaint import Above, Complaint, Want
from rainpp.complaint.want import number
from rainpp.types import ClassValue, FloatArray

if TYPE_CHECKING:
    from rainpp.intervention import InterventionTable
    from rainpp.ranking import Ranking

# Between the largest score of an irrelevant complaint, 0.23, and the smallest of a right one, 0.81,
# with 10, 20 and 30 % of the 1s of MNIST labelled 7. Other errors and models are held out:
# experiments/README.md.
DECISIVE = 0.4
# Where classes overlap this much, wrong labels and rare but right ones look alike. Mean probability
# of labels other than a row's own: at most 0.14 on MNIST with planted errors (AUC 0.96 to 1), 0.21
# on ADULT without any and 0.25 to 0.31 with them (AUC 0.88 with 10 % of a group wrong, 0.27 with
# 50 %).
MUCH_DOUBT = 0.2
# AUC over logistic regression on MNIST by the power of the scores: 1: 0.50, 2: 0.978, 3: 0.999,
# 4: 0.995; of the sums over the top 200 rows 0.993.
_POWER = 3
# A side with less than this share of the other is taken to have it: the score stays finite.
_LEAST_SHARE = 1e-6
_NORMAL = 1.96
# A complaint whose opponents weigh more than this many times as much finds little (Flokas et al.
# 2022, section 6.8.2, Fig. 11).
OUTWEIGHED = 5.0


class Verdict(StrEnum):
    """What the training labels say about a complaint."""

    RIGHT = "right"
    MISDIRECTED = "misdirected"
    NO_ERRORS = "no errors found"
    SATISFIED = "already satisfied"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Side:
    """What the best relabel of every row does in one direction.

    Attributes
    ----------
    weight : Σ score³, relative to the larger side: in [0, 1].
    rows : how many rows carry that, (Σ score³)² / Σ score⁶.
    improvement : summed score of that many top rows, in the units of the query.
    label, new_label : the commonest change among them, by weight.
    share : its share of the weight.
    plausibility : P(new label | x), averaged by weight.
    """

    weight: float
    rows: float
    improvement: float
    label: ClassValue | None
    new_label: ClassValue | None
    share: float
    plausibility: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """The two directions of a complaint side by side.

    Attributes
    ----------
    score : see the top of this file; error : half width of its 95 % interval.
    doubt : probability the model gives to other labels than a training row has, averaged.
    """

    asked: Side
    reversed: Side
    score: float
    error: float
    doubt: float

    @property
    def decided(self) -> int:
        """+1 if the labels speak for the complaint, -1 if against it, 0 if they do neither."""
        if abs(self.score) < max(DECISIVE, self.error):
            return 0
        return 1 if self.score > 0 else -1


@dataclass(frozen=True, slots=True)
class Conflict:
    """A complaint among several, and those that pull against it (cosine below -0.2).

    Attributes
    ----------
    weight_ratio : their weight over its own; each weighs its factor times the norm of its
        projected gradient under the inverse Hessian.
    """

    complaint: str
    against: tuple[str, ...]
    weight_ratio: float

    @property
    def outweighed(self) -> bool:
        """Whether what it asks for is drowned by the others."""
        return self.weight_ratio > OUTWEIGHED


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the scores; None where nothing is.

    Attributes
    ----------
    method : how the relaxed answer was computed; error : half width of a 95 % interval around the
        number complained about, 0 where it is exact.
    at_optimum : whether the gradient of the training objective was small when the index was built,
        and gradient : how large, relative to the gradient of one row.
    satisfied : what holds already, a sentence per complaint; empty unless all of them do.
    conflicts : complaints that others pull against.
    """

    method: str | None = None
    error: float | None = None
    at_optimum: bool | None = None
    gradient: float | None = None
    satisfied: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True)
class Trust:
    """How far a ranking can be trusted.

    Attributes
    ----------
    verdict : on the complaint itself; sentence : the same for a person.
    evidence : the numbers behind it; None where the index scores no relabels.
    coverage : share of the complaint's gradient behind the effects; NaN when unknown.
    refined_steps : of conjugate gradients; 0 for effects of the index.
    """

    verdict: Verdict
    sentence: str
    evidence: Evidence | None
    coverage: float
    refined_steps: int
    circumstances: Circumstances

    @property
    def score(self) -> float | None:
        """> 0 when the training labels speak for the complaint, < 0 when against it."""
        return self.evidence.score if self.evidence else None

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for everything else a reader should know; none when all is well."""
        known = self.circumstances
        found = [*known.satisfied] if self.verdict is not Verdict.SATISFIED else []
        found += [_outweighed(item) for item in known.conflicts if item.outweighed]
        if known.at_optimum is False:
            found.append(
                f"The model was not at an optimum (gradient {known.gradient:.2g} of one row's), "
                "which influence assumes."
            )
        if known.error:
            found.append(
                f"The number was sampled: it is known to ±{known.error:.3g} ({known.method})."
            )
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "notes": list(self.notes),
            "score": self.score,
            "evidence": asdict(self.evidence) if self.evidence else None,
            "coverage": self.coverage,
            "refined_steps": self.refined_steps,
            **asdict(self.circumstances),
        }

    def __repr__(self) -> str:
        score = "" if self.score is None else f", score {self.score:+.2f}"
        seen = "unknown" if math.isnan(self.coverage) else f"{self.coverage:.0%}"
        return f"Trust({self.verdict}{score}, coverage {seen})"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"<p>{escape(self.sentence)}</p>" + (f"<ul>{notes}</ul>" if notes else "")


def trust_of(ranking: Ranking) -> Trust:
    """What `ranking.trust` gives: one pass over the scores, and one for the coverage."""
    known = ranking.circumstances() if ranking.circumstances else Circumstances()
    evidence = weigh(ranking.scores, ranking)
    verdict, sentence = judge(evidence, ranking.interventions, known)
    steps = ranking.refined_steps
    return Trust(verdict, sentence, evidence, ranking.coverage, steps, known)


def weigh(scores: FloatArray, ranking: Ranking) -> Evidence | None:
    """Both sides of a complaint; None when no relabels were scored or every score is zero."""
    table = ranking.interventions
    if "relabel" not in table.kinds or table.num_rows == 0:
        return None
    by_row = np.asarray(scores[table.relabels]).reshape(table.num_rows, -1)
    largest = float(np.abs(by_row).max())
    if not (math.isfinite(largest) and largest > 0):
        return None
    best, worst = by_row.argmax(axis=1), by_row.argmin(axis=1)
    rows = np.arange(table.num_rows)
    # Cubes of what is left after dividing by the largest neither overflow nor vanish.
    helping = np.maximum(by_row[rows, best], 0).astype(np.float64) / largest
    harming = np.maximum(-by_row[rows, worst], 0).astype(np.float64) / largest
    sides = [(helping, best), (harming, worst)]
    whole = max(float((found**_POWER).sum()) for found, _ in sides)
    asked, other = (_side(ranking, found, which, (largest, whole)) for found, which in sides)
    ratio = max(asked.weight, _LEAST_SHARE) / max(other.weight, _LEAST_SHARE)
    share = (asked if ratio >= 1 else other).share
    spread = math.sqrt(sum(1 / side.rows for side in (asked, other) if side.rows))
    doubt = ranking.plausibility[table.relabels].sum(dtype=np.float64) / table.num_rows
    return Evidence(
        asked, other, share * math.log(ratio), share * _NORMAL * spread, doubt=float(doubt)
    )


def _side(
    ranking: Ranking, scores: FloatArray, which: np.ndarray, scale: tuple[float, float]
) -> Side:
    """One direction: `scores` (n,) of the chosen relabel `which` (n,) of every row."""
    table, (largest, whole) = ranking.interventions, scale
    weights = scores**_POWER
    total = float(weights.sum())
    if total == 0:
        return Side(0.0, 0.0, 0.0, None, None, 0.0, 0.0)
    positions = table.num_deletions + np.arange(table.num_rows) * (table.num_classes - 1) + which
    pairs = table.labels * table.num_classes + table.new_labels(positions)
    by_pair = np.bincount(pairs, weights=weights)
    commonest = int(by_pair.argmax())
    carried = total**2 / float((weights**2).sum())
    top = np.partition(scores, -round(carried))[-round(carried) :]
    label, new_label = divmod(commonest, table.num_classes)
    names = ranking.classes or range(table.num_classes)
    return Side(
        weight=total / whole,
        rows=carried,
        improvement=float(top.sum()) * largest,
        label=names[label],
        new_label=names[new_label],
        share=float(by_pair[commonest]) / total,
        plausibility=float(weights @ ranking.plausibility[positions]) / total,
    )


def judge(
    evidence: Evidence | None, table: InterventionTable, known: Circumstances
) -> tuple[Verdict, str]:
    """The verdict, and the sentence that says it."""
    satisfied = " ".join(known.satisfied)
    if evidence is None or table.num_classes == 2 or evidence.doubt > MUCH_DOUBT:
        if satisfied:
            return Verdict.SATISFIED, satisfied
        return Verdict.UNKNOWN, _unknown(table, evidence)
    if evidence.decided > 0:
        return Verdict.RIGHT, (
            f"The training labels speak for this complaint: {_change(evidence.asked)} moves the "
            "number as asked, and little that looks wrong moves it the other way."
        )
    if evidence.decided < 0:
        return Verdict.MISDIRECTED, (
            "This complaint probably points the wrong way: what looks wrong in the training "
            f"labels, and would be repaired by {_change(evidence.reversed)}, moves the number the "
            "other way."
        )
    if satisfied:
        return Verdict.SATISFIED, satisfied
    if abs(evidence.score) >= DECISIVE:
        return Verdict.UNKNOWN, (
            "No opinion on whether this complaint is right: too few training labels bear on it "
            f"(about {evidence.asked.rows + evidence.reversed.rows:,.0f}). That says nothing "
            "against the ranking."
        )
    return Verdict.NO_ERRORS, (
        "No training errors seem to move this number: labels that look wrong move it up and down "
        "about as much."
    )


def met_in_expectation(complaint: Complaint) -> str:
    """A sentence where the relaxed number is as asked while the plain one is not; else empty.

    A complaint whose plain number is as asked cannot be made at all.
    """
    want = complaint.want
    if not isinstance(want, Want | Above):
        return ""
    if want.direction(complaint.relaxed) == complaint.direction:
        return ""
    return (
        f"The number is already as asked under the model's own probabilities ({complaint}; "
        f"expected {number(complaint.relaxed)}), so there may be nothing to fix."
    )


def _unknown(table: InterventionTable, evidence: Evidence | None) -> str:
    start = "No opinion on whether this complaint is right, which says nothing against it: "
    if table.num_classes < 2:
        return start + "the model is a regression, and no other labels were scored."
    if "relabel" not in table.kinds:
        return start + "the index scores deletions only; build it with rainpp.Relabel() too."
    if table.num_classes == 2:
        return start + "with two classes, wrong labels and overlapping classes look alike."
    if evidence is not None:
        return start + (
            f"the model gives other labels {evidence.doubt:.0%} of the probability, and where "
            "classes overlap so much, wrong labels do not stand out."
        )
    return start + "no relabel of any row moves this number."


def _change(side: Side) -> str:
    return (
        f"relabelling {side.label!r} as {side.new_label!r} "
        f"(about {side.rows:,.0f} rows, {side.share:.0%} of the evidence)"
    )


def _outweighed(item: Conflict) -> str:
    others = "; ".join(item.against)
    return (
        f"The complaint that {item.complaint} is outweighed {item.weight_ratio:.1f} times by what "
        f"it conflicts with ({others}): the ranking hardly serves it. Rank it alone, or give it "
        "more weight."
    )


def conflicts(
    names: Sequence[str], cosines: FloatArray, weights: FloatArray, *, fighting: float
) -> tuple[Conflict, ...]:
    """Every complaint with others whose cosine with it is below `fighting`.

    Parameters
    ----------
    cosines : (m, m); weights : (m,), how much each counts in the combination.
    """
    found: list[Conflict] = []
    for place, name in enumerate(names):
        against = np.flatnonzero(cosines[place] < fighting)
        if against.size:
            theirs, own = float(weights[against].sum()), float(weights[place])
            ratio = theirs / own if own > 0 else math.inf
            found.append(Conflict(name, tuple(names[int(other)] for other in against), ratio))
    return tuple(found)
