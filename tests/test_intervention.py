"""The table of interventions against a list that writes every one of them out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from rainpp.errors import SettingsError
from rainpp.intervention import Delete, Intervention, InterventionTable, Relabel
from rainpp.intervention.table import kind_names

KINDS = [("delete",), ("relabel",), ("delete", "relabel")]


def make_table(kinds, labels, num_classes, ids=None):
    labels = np.array(labels, np.int32)
    ids = np.arange(len(labels)) if ids is None else ids
    return InterventionTable(kinds, np.asarray(ids), labels, num_classes)


def written_out(table):
    """Deletions of rows 0 .. n-1, then each row's other classes counting up from its label."""
    items = []
    ids, labels = table.ids.tolist(), table.labels.tolist()
    if "delete" in table.kinds:
        items += [Intervention(row, name, "delete", None) for row, name in enumerate(ids)]
    if "relabel" in table.kinds:
        for row, (name, label) in enumerate(zip(ids, labels, strict=True)):
            for step in range(1, table.num_classes):
                new = (label + step) % table.num_classes
                items.append(Intervention(row, name, "relabel", new))
    return items


@st.composite
def tables(draw):
    num_classes = draw(st.sampled_from([2, 3, 10]))
    labels = draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=12))
    return make_table(draw(st.sampled_from(KINDS)), labels, num_classes)


@given(table=tables())
def test_the_table_is_the_list_written_out(table):
    expected = written_out(table)
    assert len(table) == len(expected)
    assert list(table) == expected
    assert [table[-1 - i] for i in range(len(table))] == expected[::-1]
    assert list(reversed(table)) == expected[::-1]


@given(table=tables(), data=st.data())
def test_rows_and_new_labels_of_any_positions(table, data):
    expected = written_out(table)
    picks = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=20))
    positions = np.array(picks, np.intp)
    assert_array_equal(table.rows(positions), [expected[i].row for i in picks])
    labels = [-1 if expected[i].detail is None else expected[i].detail for i in picks]
    assert_array_equal(table.new_labels(positions), labels)


@given(table=tables())
def test_a_relabel_never_keeps_the_label_and_reaches_every_other_class(table):
    if "relabel" not in table.kinds:
        return
    for row, label in enumerate(table.labels.tolist()):
        new = [item.detail for item in table if item.row == row and item.kind == "relabel"]
        assert sorted(new) == [c for c in range(table.num_classes) if c != label]


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("beyond", [0, 1, 10**9])
def test_a_position_outside_the_table_is_an_index_error(kinds, beyond):
    table = make_table(kinds, [0, 1, 2], 3)
    for index in (len(table) + beyond, -len(table) - 1 - beyond):
        with pytest.raises(IndexError, match=f"{index} of {len(table)}"):
            table[index]


def test_ids_are_given_back_as_plain_values():
    named = make_table(("delete", "relabel"), [0, 1], 2, ids=["a", "b"])
    assert named[0] == Intervention(0, "a", "delete", None)
    assert named[3] == Intervention(1, "b", "relabel", 0)
    numbered = make_table(("delete",), [0, 1], 2, ids=np.array([70, 10]))
    assert type(numbered[0].train_id) is int
    assert [item.train_id for item in numbered] == [70, 10]


def test_a_large_table_is_not_written_out():
    table = make_table(("delete", "relabel"), np.zeros(60_000), 10)
    assert len(table) == 600_000
    assert table[599_999] == Intervention(59_999, 59_999, "relabel", 9)
    assert repr(table) == "InterventionTable(600,000: delete, relabel of 60,000 rows)"


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ([Delete()], ("delete",)),
        ([Relabel()], ("relabel",)),
        ([Delete(), Relabel()], ("delete", "relabel")),
        ([Relabel(), Delete()], ("delete", "relabel")),
    ],
)
def test_kinds_come_in_the_order_of_the_index_however_asked_for(asked, names):
    assert kind_names(asked) == names


@pytest.mark.parametrize("asked", [[], [Delete(), Delete()], [Relabel(), Delete(), Relabel()]])
def test_none_or_one_kind_twice_is_refused(asked):
    with pytest.raises(SettingsError, match="name each kind once, at least one"):
        kind_names(asked)


@pytest.mark.parametrize("foreign", ["delete", Delete, None, 3])
def test_something_that_is_no_intervention_is_refused(foreign):
    with pytest.raises(
        SettingsError, match=r"rainpp\.Delete\(\), rainpp\.Relabel\(\) and rainpp\.Replace"
    ):
        kind_names([Delete(), foreign])
