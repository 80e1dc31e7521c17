"""Rankings against plain stable sorting, and the table a user sees."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from rainpp.errors import RainError, SettingsError
from rainpp.intervention import InterventionTable
from rainpp.ranking import Ranking, leading
from rainpp.refinement import Refined, Refinement

BLOCK = 512  # the largest block
COLUMNS = ["train_id", "intervention", "detail", "score", "effect", "plausibility"]
KINDS = [("delete",), ("relabel",), ("delete", "relabel")]


def stable_descending(values):
    """Positions by descending value, ties by position, without any library's sort order."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


# --- leading


@st.composite
def scores_of_every_size(draw):
    """Scores with few different values; sizes below, at and around multiples of the block."""
    size = draw(
        st.integers(0, 40)
        | st.builds(
            lambda blocks, extra: max(blocks * BLOCK + extra, 0),
            st.integers(1, 9),
            st.integers(-2, 2),
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000, 10**9]))
    values = rng.integers(-levels, levels + 1, size).astype(draw(st.sampled_from(["f4", "f8"])))
    if size and draw(st.booleans()):
        values[rng.integers(0, size, 3)] = [np.inf, -np.inf, np.inf]
    if draw(st.booleans()):
        values.sort()  # the largest together in the last block
    return values


@given(scores=scores_of_every_size(), count=st.integers(0, 12) | st.integers(0, 6000))
def test_leading_is_the_beginning_of_a_full_stable_sort(scores, count):
    assert_array_equal(leading(scores, count), stable_descending(scores)[:count])


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_leading_finds_a_winner_in_every_place(extra, count):
    size = 4 * BLOCK + extra
    for place in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, size - 2, size - 1]:
        scores = np.zeros(size)
        scores[place] = 1.0
        expected = [place, *[i for i in range(count + 1) if i != place]][:count]
        assert_array_equal(leading(scores, count), expected)


def test_leading_of_more_than_there_is_gives_all():
    assert_array_equal(leading(np.array([1.0, 3.0, 2.0]), 10), [1, 2, 0])
    assert leading(np.zeros(0), 3).shape == (0,)


# --- top


@st.composite
def rankings(draw):
    """Rankings whose scores tie often, of every kind of table."""
    num_classes = draw(st.sampled_from([2, 3, 10]))
    labels = draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=12))
    kinds = draw(st.sampled_from(KINDS))
    ids = np.arange(len(labels)) * 10 + 7
    table = InterventionTable(kinds, ids, np.array(labels, np.int32), num_classes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    effects = rng.integers(-2, 3, len(table)).astype(np.float64)
    plausibility = rng.choice([0.25, 0.5, 1.0], len(table))
    return Ranking(table, effects, plausibility)


def brute_top(ranking, count, values, *, repeat_rows):
    """Rows of `top`, one intervention at a time."""
    items, seen, lines, total = list(ranking.interventions), set(), [], 0.0
    for position in stable_descending(values):
        item = items[position]
        if len(lines) == count:
            break
        if item.row in seen and not repeat_rows:
            continue
        seen.add(item.row)
        effect, plausible = ranking.effects[position], ranking.plausibility[position]
        total += effect
        lines.append(
            (item.train_id, item.kind, item.detail, effect * plausible, effect, plausible, total)
        )
    return lines


@given(
    ranking=rankings(),
    count=st.integers(0, 40),
    by=st.sampled_from(["score", "effect", "plausibility"]),
    repeat_rows=st.booleans(),
)
def test_top_is_the_list_made_one_at_a_time(ranking, count, by, repeat_rows):
    values = {
        "score": ranking.effects * ranking.plausibility,
        "effect": ranking.effects,
        "plausibility": ranking.plausibility,
    }[by]
    frame = ranking.top(count, by=by, repeat_rows=repeat_rows)
    expected = brute_top(ranking, count, values, repeat_rows=repeat_rows)
    assert [tuple(line) for line in frame.itertuples(index=False)] == expected
    if not repeat_rows:
        assert frame["train_id"].is_unique
        assert len(frame) == min(count, ranking.interventions.num_rows)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_top_looks_on_when_a_few_rows_hold_all_the_best(count):
    # 9 relabels of each of rows 0 .. 4 beat everything there is about the other 45 rows.
    table = InterventionTable(("delete", "relabel"), np.arange(50), np.zeros(50, np.int32), 10)
    effects = np.zeros(500)
    effects[50:95] = np.arange(100, 55, -1)
    ranking = Ranking(table, effects, np.ones(500))
    assert ranking.top(count)["train_id"].tolist() == list(range(count))


@given(ranking=rankings(), count=st.integers(0, 20))
def test_best_and_positions_are_the_rows_of_top(ranking, count):
    frame, best = ranking.top(count), ranking.best(count)
    assert [item.train_id for item in best] == frame["train_id"].tolist()
    assert [item.kind for item in best] == frame["intervention"].tolist()
    assert [item.detail for item in best] == frame["detail"].tolist()
    assert [ranking.interventions[int(i)] for i in ranking.positions(count)] == best


@given(ranking=rankings())
def test_row_scores_are_the_best_of_each_row(ranking):
    best = [-np.inf] * ranking.interventions.num_rows
    for item, score in zip(ranking.interventions, ranking.scores, strict=True):
        best[item.row] = max(best[item.row], score)
    assert_array_equal(ranking.row_scores(), best)


def make_ranking(**options):
    table = InterventionTable(
        ("delete", "relabel"), np.array([5, 6, 7]), np.array([0, 1, 2], np.int32), 3
    )
    effects = np.array([3.0, -1.0, 2.0, 4.0, 0.0, 1.0, 5.0, 2.0, 2.0], np.float32)
    plausibility = np.array([1, 1, 1, 0.5, 0.5, 0.25, 0.75, 0.9, 0.1], np.float32)
    return Ranking(table, effects, plausibility, **options)


def test_columns_and_types_are_those_of_the_contract():
    for count in (0, 3):
        frame = make_ranking().top(count)
        assert list(frame.columns) == [*COLUMNS, "cumulative_effect"]
        numbers = ["score", "effect", "plausibility", "cumulative_effect"]
        assert [frame[name].dtype for name in numbers] == [np.float64] * 4
        assert frame["train_id"].dtype == np.int64
        assert frame["detail"].dtype == object
        assert frame.index.tolist() == list(range(count))


def test_a_worked_example():
    # Scores: deletions 3, -1, 2; relabels 5->1: 2, 5->2: 0, 6->2: .25, 6->0: 3.75, 7->0: 1.8,
    # 7->1: .2. Row 6 leads by its relabel; rows 5 and 7 follow by deletion.
    frame = make_ranking().top(3)
    assert frame["train_id"].tolist() == [6, 5, 7]
    assert frame["intervention"].tolist() == ["relabel", "delete", "delete"]
    assert frame["detail"].tolist() == [0, None, None]
    assert_allclose(frame["score"], [3.75, 3, 2])
    assert_allclose(frame["effect"], [5, 3, 2])
    assert_allclose(frame["plausibility"], [0.75, 1, 1])
    assert_allclose(frame["cumulative_effect"], [5, 8, 10])


def test_details_are_the_values_sql_knows_the_classes_by():
    frame = make_ranking(classes=("cat", "dog", 9)).top(9, repeat_rows=True)
    relabels = frame[frame["intervention"] == "relabel"]
    expected = {(5, "dog"), (5, 9), (6, 9), (6, "cat"), (7, "cat"), (7, "dog")}
    assert set(zip(relabels["train_id"], relabels["detail"], strict=True)) == expected
    assert frame.loc[frame["intervention"] == "delete", "detail"].tolist() == [None] * 3


def test_asking_again_gives_the_same_and_changes_nothing():
    ranking = make_ranking()
    effects = ranking.effects.copy()
    first = ranking.top(5)
    assert first.equals(ranking.top(5))
    assert ranking.top(2).equals(first.head(2))
    assert_array_equal(ranking.effects, effects)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: r.top(-1), "`count` is -1.*>= 0"),
        (lambda r: r.top(2, by="loss"), "`by` is 'loss'; it must be one of score, effect, plausib"),
        (lambda r: r.refine(-1), "`steps` is -1.*>= 0"),
    ],
)
def test_wrong_settings_are_refused(call, words):
    with pytest.raises(SettingsError, match=words):
        call(make_ranking())


def test_without_a_model_there_is_no_coverage_and_nothing_to_refine():
    assert np.isnan(make_ranking().coverage)
    with pytest.raises(RainError, match="k numbers alone"):
        make_ranking().refine()


class Doubling:
    """A backing that doubles the effects with every step and counts how often it is asked."""

    def __init__(self, effects):
        self.effects, self.asked = effects, 0

    def coverage(self):
        self.asked += 1
        return 0.25

    def check_refinable(self):
        pass

    def refined(self, steps, step_done):
        residuals = tuple(0.5 ** (step + 1) for step in range(steps + 1))
        for step, residual in enumerate(residuals):
            step_done(step, residual)
        return Refined(self.effects * 2.0**steps, Refinement(steps, residuals, 0.01))


def test_refining_replaces_effects_and_leaves_the_order_of_suspects():
    ranking = make_ranking()
    effects, before = ranking.effects.copy(), ranking.top(9)
    ranking.backing = Doubling(-ranking.effects)  # what was best is worst by refined effect
    assert ranking.refine(3) is ranking
    assert_allclose(ranking.effects, -8 * effects)
    after = ranking.top(9)
    assert_allclose(after["effect"], -8 * before["effect"])
    same = ["train_id", "intervention", "score", "plausibility"]
    assert after[same].equals(before[same])
    assert ranking.refined_steps == 3
    assert "refined 3 steps" in repr(ranking)
    assert ranking.coverage == pytest.approx(1 - 0.0625**2)


def test_a_refinement_in_the_background_ends_with_the_same_ranking():
    ranking = make_ranking()
    ranking.backing = Doubling(ranking.effects)
    job = ranking.refine_in_background(3)
    assert job.wait(10) is ranking
    assert (job.done, job.step, job.residual, ranking.refined_steps) == (True, 3, 0.0625, 3)
    assert repr(job) == "Refining(done, step 3 of 3, residual 0.062)"


class Waiting(Doubling):
    """Takes its second step only when told to."""

    def __init__(self, effects):
        super().__init__(effects)
        self.begun, self.go = threading.Event(), threading.Event()

    def refined(self, steps, step_done):
        step_done(0, 1.0)
        step_done(1, 0.5)
        self.begun.set()
        assert self.go.wait(10)
        return super().refined(steps, step_done)


def test_a_cancelled_refinement_changes_nothing():
    ranking = make_ranking()
    effects = ranking.effects.copy()
    ranking.backing = Waiting(ranking.effects)
    job = ranking.refine_in_background(3)
    assert ranking.backing.begun.wait(10)
    with pytest.raises(RainError, match=r"at step 1 of 3 after 0 s more; wait\(\) again"):
        job.wait(0)
    assert not job.done
    job.cancel()
    ranking.backing.go.set()
    assert job.wait(10) is ranking
    assert ranking.refinement is None
    assert_array_equal(ranking.effects, effects)
    assert "cancelled" in repr(job)


def test_what_ends_a_background_refinement_reaches_who_waits():
    class Failing(Doubling):
        def refined(self, *_):
            raise RainError("no rows")

    ranking = make_ranking(backing=Failing(np.zeros(9)))
    job = ranking.refine_in_background()
    with pytest.raises(RainError, match="no rows"):
        job.wait(10)
    assert "failed" in repr(job)


def test_an_interrupted_refinement_changes_nothing():
    ranking = make_ranking()
    effects = ranking.effects.copy()
    ranking.backing = Doubling(ranking.effects)

    def interrupted(step, residual):
        del residual
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ranking.refine(3, step_done=interrupted)
    assert_array_equal(ranking.effects, effects)
    assert ranking.refinement is None


def test_coverage_is_worked_out_once():
    backing = Doubling(np.zeros(9))
    ranking = make_ranking(backing=backing)
    assert (ranking.coverage, ranking.coverage, backing.asked) == (0.25, 0.25, 1)


def test_representations_are_short_and_safe():
    ranking = make_ranking(classes=("<b>", "dog", "eel"))
    assert repr(ranking) == "Ranking of 9 interventions for: a vector (from the index)"
    assert len(ranking) == 9
    html = ranking._repr_html_()
    assert "<table" in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


LEFT_RUNNING = """
import numpy as np, rainpp
rows = np.random.default_rng(0).normal(size=(20_000, 40)).astype("float32")
labels = (rows[:, 0] > 0).astype(int)
model = rainpp.Model(lambda w, x: x @ w, np.zeros((40, 2), "float32"), l2=0.1)
import warnings; warnings.simplefilter("ignore")
index = rainpp.precompute(model, rows, labels, k=3, interventions=[rainpp.Delete()])
import duckdb
con = duckdb.connect()
con.execute("CREATE TABLE t(x FLOAT[40])")
con.execute("INSERT INTO t VALUES (?)", [rows[0].tolist()])
db = rainpp.connect(con)
db.register_model("predict", model, index)
answer = db.sql("SELECT count(*) AS n FROM t WHERE predict(x) = 1")
job = answer.complain("n", should="increase" if answer.df()["n"][0] < 1 else "decrease").rank()
job = job.refine_in_background(10**5)
while job.step < 2 and not job.done: pass
print("left at", job.step)
"""


def test_python_can_be_left_while_a_refinement_runs():
    """Killed inside XLA, its thread once took the process down with exit status 134."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT_RUNNING], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout[:7]) == (0, "left at"), done.stderr


@pytest.mark.parametrize("timeout", ["x", -1, float("nan"), True])
def test_seconds_to_wait_are_checked(timeout):
    ranking = make_ranking()
    ranking.backing = Doubling(ranking.effects)
    job = ranking.refine_in_background(1)
    with pytest.raises(SettingsError, match="`timeout` is"):
        job.wait(timeout)
    job.wait()
