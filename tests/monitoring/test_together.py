"""Several numbers complained about at once, against the query asked of DuckDB again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.errors import ComplaintError
from rainpp.monitoring.together import together
from rainpp.windows import Tumbling
from tests.monitoring import world

SQL = "SELECT region, count(*) AS n FROM people WHERE predict(a, b, c, d) = 1 GROUP BY region"
TWO = (
    "SELECT region, count(*) AS n, sum(amount) AS paid FROM people "
    "WHERE predict(a, b, c, d) = 1 GROUP BY region"
)


@pytest.fixture(scope="module")
def rows():
    return world.make_rows(200, seed=3)


def watched(rows, sql=SQL, **options):
    found = world.watch(sql, window=Tumbling("1m"), keep="inputs", **options)
    with found.batch() as batch:
        batch.predictions(world.arrow(rows))
    return found


def last(monitor, column="n"):
    """The latest change of every cell."""
    found = {}
    for delta in monitor.changes():
        if isinstance(delta, rainpp.Delta) and delta.column == column:
            found[delta.window, tuple(delta.group.values())] = delta
    return list(found.values())


def oracle(rows, deltas, signs):
    """Σ sign · gradient of each cell, asked of DuckDB with the rows of its window."""
    total = np.zeros(world.trained().index.k)
    for delta, sign in zip(deltas, signs, strict=True):
        start, end = delta.window
        inside = rows[(rows.t >= start) & (rows.t < end)]
        gradients = world.answer(inside, SQL)
        total += sign * gradients[tuple(delta.group.values())]["n"][2]
    return total


def test_gradients_of_windows_and_groups_add_up(rows):
    with watched(rows) as monitor:
        cells = last(monitor)[:4]
        assert len({cell.window for cell in cells}) > 1 or len(cells) > 1
        both = together([monitor.context(cell) for cell in cells], "higher")
        expected = oracle(rows, cells, [1] * len(cells))
        assert_allclose(both.vector, expected, rtol=1e-6, atol=1e-9)
        ranked = world.trained().index.rank(expected)
        assert_allclose(both.explain().effects, ranked.effects, rtol=1e-4, atol=1e-7)


def test_each_number_moves_towards_the_target_and_one_that_is_there_does_not_count(rows):
    with watched(rows) as monitor:
        cells = last(monitor)
        target = sorted(cell.value for cell in cells)[len(cells) // 2]
        both = together([monitor.context(cell) for cell in cells], target)
        away = [cell for cell in cells if cell.value != target]
        signs = [np.sign(target - cell.value) for cell in away]
        assert len(set(signs)) == 2
        assert len(both.complaints) == len(away) < len(cells)
        assert_allclose(both.vector, oracle(rows, away, signs), rtol=1e-6, atol=1e-9)


def test_the_query_asked_again_gives_the_same_ranking_and_a_coverage(rows):
    with watched(rows) as monitor:
        both = together([monitor.context(cell) for cell in last(monitor)[:2]], "lower")
        proven = both.rank()
        assert_allclose(proven.effects, both.explain().effects, rtol=1e-4, atol=1e-6)
        assert 0 < proven.coverage <= 1


def test_suggestions_are_about_the_sum_of_the_numbers(rows):
    with watched(rows) as monitor:
        cells = last(monitor)[:3]
        both = together([monitor.context(cell) for cell in cells], "higher")
        (first, *_) = both.suggest(most=5)
        total = sum(cell.value for cell in cells)
        assert first.after == pytest.approx(total + first.effect)
        assert first.effect > 0
        assert not first.resolves
        near = together([monitor.context(cells[0])], cells[0].value + 1e-6)
        assert near.suggest()[0].resolves
        assert near.suggest()[0].rows == 1


def test_where_some_should_rise_and_some_fall_it_is_their_distance_that_shrinks(rows):
    with watched(rows) as monitor:
        cells = last(monitor)
        target = float(np.mean([cell.value for cell in cells])) + 0.25
        both = together([monitor.context(cell) for cell in cells], target)
        distance = sum(abs(target - cell.value) for cell in cells)
        for reaction in both.suggest(most=5):
            assert reaction.effect < 0
            assert reaction.after == pytest.approx(distance + reaction.effect)


def test_a_patch_is_of_the_best_rows_and_can_be_applied(rows):
    with watched(rows) as monitor:
        both = together([monitor.context(last(monitor)[0])], "higher")
        ranking = both.explain()
        patch = both.patch(ranking, 7)
        assert list(patch.frame.id) == list(ranking.top(7).train_id)
        problem = world.trained().problem
        patched = patch.apply(problem.inputs, problem.labels)
        deleted = (patch.frame.intervention == "delete").sum()
        assert patched.num_rows == len(problem.labels) - deleted


def test_an_alarm_says_itself_what_should_become_of_it(rows):
    with watched(rows) as again:
        again.alert("many", "n > 3", target=1)
        with again.batch() as batch:
            more = world.make_rows(50, seed=9)
            batch.predictions(world.arrow(more.assign(id=more.id + 900)))
        alarms = [item for item in again.changes() if isinstance(item, rainpp.Alarm)]
        both = together([again.context(alarms[0])])
        assert_allclose(both.vector, alarms[0].vector)
        assert both.complaints[0].want.target == 1


@pytest.mark.parametrize(
    ("chosen", "wanted", "words"),
    [
        ([], "lower", "choose at least one"),
        (["one"] * 1001, "lower", "too many"),
        (["one", "two"], "lower", "different columns"),
        (["one", "other"], "lower", "different models"),
        (["one"], None, "no complaint"),
        (["one"], "sideways", "'lower' or 'higher'"),
        (["one"], float("inf"), "finite"),
    ],
)
def test_what_does_not_go_together_is_refused(rows, chosen, wanted, words):
    with watched(rows, TWO) as monitor:
        one, two = last(monitor)[0], last(monitor, "paid")[0]
        known = {"one": one, "two": two, "other": replace(one, model="another")}
        contexts = [monitor.context(known[name]) for name in chosen]
        with pytest.raises(ComplaintError, match=words):
            together(contexts, wanted)


def test_numbers_that_are_all_as_wanted_are_no_complaint(rows):
    with watched(rows) as monitor:
        cell = last(monitor)[0]
        with pytest.raises(ComplaintError, match="as wanted"):
            together([monitor.context(cell)], cell.value)


def test_where_a_monitor_is(rows):
    with watched(rows) as monitor:
        found = monitor.overview
        assert (found.groups, found.columns) == (("region",), ("n",))
        assert found.seq == monitor.changes()[-1].seq
        assert found.model == monitor.changes()[-1].model
        assert (found.batches, found.stored) == (1, False)
        assert found.watermark == monitor.watermark
