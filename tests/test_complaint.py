"""What may be complained about, and which way each complaint pulls."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainpp.complaint import Cell, Complaint, Should, Want
from rainpp.errors import ComplaintError

TARGETED = ["equal", "at_least", "at_most"]
FREE = ["increase", "decrease"]
CELL = Cell("n", 0, {"region": "EU"})


def complaint(should, target=None, *, hard, relaxed=0.0):
    return Complaint("SELECT ...", CELL, Want.of(should, target), hard, relaxed)


# The whole table: hard value below, at and above a target of 3.
DIRECTIONS = {
    "increase": (1, 1, 1),
    "decrease": (-1, -1, -1),
    "equal": (1, 0, -1),
    "at_least": (1, 0, 0),
    "at_most": (0, 0, -1),
}


@pytest.mark.parametrize("should", sorted(DIRECTIONS))
@pytest.mark.parametrize(("hard", "column"), [(2, 0), (2.999, 0), (3, 1), (3.001, 2), (4, 2)])
def test_direction(should, hard, column):
    want = Want.of(should, 3 if should in TARGETED else None)
    assert want.direction(hard) == DIRECTIONS[should][column]


def test_the_table_covers_every_word():
    assert set(DIRECTIONS) == {word.value for word in Should}


@given(
    should=st.sampled_from(sorted(DIRECTIONS)),
    hard=st.floats(-1e6, 1e6) | st.integers(-3, 3),
    target=st.floats(-1e6, 1e6) | st.integers(-3, 3),
)
def test_moving_along_the_direction_reaches_the_want(should, hard, target):
    want = Want.of(should, target if should in TARGETED else None)
    satisfied = {
        "equal": hard == target,
        "at_least": hard >= target,
        "at_most": hard <= target,
    }.get(should, False)
    direction = want.direction(hard)
    assert (direction == 0) == satisfied
    if should in TARGETED and not satisfied:
        assert direction == math.copysign(1, target - hard)


@pytest.mark.parametrize("should", TARGETED)
@pytest.mark.parametrize("target", [None, math.nan, math.inf, -math.inf])
def test_a_target_is_needed_and_finite(should, target):
    with pytest.raises(
        ComplaintError, match=f"should='{should}' needs a finite `target`"
    ) as caught:
        Want.of(should, target)
    assert str(target) in str(caught.value)


@pytest.mark.parametrize("should", FREE)
def test_a_direction_takes_no_target(should):
    with pytest.raises(ComplaintError, match=f"should='{should}' takes no `target`; got 0.0"):
        Want.of(should, 0)


@pytest.mark.parametrize("should", ["rise", "", "INCREASE", None, 3])
def test_an_unknown_word_is_refused_with_the_known_ones(should):
    with pytest.raises(ComplaintError) as caught:
        Want.of(should)
    assert f"`should` is {should!r}" in str(caught.value)
    assert all(word in str(caught.value) for word in DIRECTIONS)


@pytest.mark.parametrize(
    ("should", "target", "hard"),
    [
        ("equal", 3, 3.0),
        ("at_least", 3, 3),
        ("at_least", 3, 5),
        ("at_most", 3, 3),
        ("at_most", 3, 1),
    ],
)
def test_a_complaint_that_already_holds_is_refused_with_value_and_target(should, target, hard):
    with pytest.raises(ComplaintError, match="already holds") as caught:
        complaint(should, target, hard=hard)
    message = str(caught.value)
    assert "`n` where region='EU'" in message
    assert f"is {hard:g}" in message
    assert f"{should.replace('_', ' ')} {target}" in message


def test_the_hard_value_decides_not_the_relaxed_one():
    # relaxation.md, 1.5: hard 25, target 24, relaxed 23.3.
    assert complaint("equal", 24, hard=25, relaxed=23.3).direction == -1


@pytest.mark.parametrize("should", FREE)
def test_null_is_no_number_to_complain_about(should):
    with pytest.raises(ComplaintError, match="NULL"):
        complaint(should, hard=math.nan)


def test_complaints_and_cells_read_as_sentences():
    assert (
        str(complaint("at_least", 7, hard=3))
        == "`n` where region='EU' is 3 and should be at least 7"
    )
    assert str(complaint("increase", hard=3)) == "`n` where region='EU' is 3 and should increase"
    assert str(Cell("n", 0, {})) == "`n`"
    assert str(Cell("n", 0, {"a": 1, "b": None})) == "`n` where a=1, b=None"


def test_a_complaint_cannot_be_edited():
    with pytest.raises(AttributeError):
        complaint("increase", hard=3).hard = 4
