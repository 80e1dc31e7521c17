"""Which kind of change resolves a complaint: the right one first, on errors that were planted."""

import duckdb
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import rainpp
from rainpp.errors import RainError
from rainpp.families import COLUMNS
from rainpp.intervention import tables
from rainpp.out_of_place import flat, out_of_place
from tests import oracles

ROWS, UNIT = 600, 10.0
QUERY = "SELECT count(*) AS n FROM people WHERE predict(a, b, c) = 1"


def people(count, seed):
    """Two classes three numbers apart by class, the first of them never below 2."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    inputs = rng.normal(size=(count, 3)) + 1.2 * labels[:, None]
    inputs[:, 0] = np.exp(0.3 * inputs[:, 0]) + 3
    return inputs, labels


def ranked(inputs, labels, *, target):
    """A complaint that there are not `target` of class 1, on clean rows."""
    plain = rainpp.Model(lambda w, x: x @ w, np.zeros((3, 2)), l2=1e-3)
    model = plain.with_params(oracles.solve(plain, inputs, labels).params)
    kinds = [
        rainpp.Delete(),
        rainpp.Relabel(),
        tables.rescale([0], UNIT, outside=(2, 1e9), name="times ten"),
        rainpp.Replace("mirror", lambda x: x * [1, -1, 1]),
    ]
    index = rainpp.precompute(model, inputs, labels, interventions=kinds, k=6)
    connection = duckdb.connect()
    connection.execute("CREATE TABLE people(a DOUBLE, b DOUBLE, c DOUBLE)")
    connection.executemany("INSERT INTO people VALUES (?, ?, ?)", people(300, 1)[0].tolist())
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    result = database.sql(QUERY)
    wanted = float(result.df()["n"][0]) + target
    return result.complain("n", should="at_least", target=wanted).rank()


@pytest.fixture(scope="module")
def unit_error():
    inputs, labels = people(ROWS, 0)
    wrong = np.flatnonzero(labels == 1)[::2]
    inputs[wrong, 0] /= UNIT
    return ranked(inputs, labels, target=15), wrong


def test_wrong_inputs_are_to_be_repaired(unit_error):
    ranking, wrong = unit_error
    found = ranking.families(wrong.size)
    assert list(found.columns) == list(COLUMNS)
    first = found.iloc[0]
    assert first["family"] == "times ten"
    assert first["share"] == 1
    assert first["credible"] > 0.8
    assert first["control"] < 0.2
    # Deletions do as much, but what they claim of the rows holds no better than the other way.
    (deletions,) = found[found["family"] == "delete"].to_dict(orient="records")
    assert deletions["share"] == 1
    assert deletions["credible"] - deletions["control"] < 0.4


def test_wrong_labels_are_to_be_changed():
    inputs, labels = people(ROWS, 0)
    wrong = np.flatnonzero(labels == 1)[::3]
    labels[wrong] = 0
    ranking = ranked(inputs, labels, target=10)
    found = ranking.families(wrong.size)
    assert set(found["family"][:2]) == {"delete", "relabel"}
    assert (found["credible"][:2] > 0.6).all()
    mirrored = found[found["family"] == "mirror"].iloc[0]
    assert mirrored["credible"] < 0.2


def test_a_share_is_of_the_number_itself(unit_error):
    ranking, _ = unit_error
    table = ranking.families(5).set_index("family")
    fix = ranking.fix(kinds=["times ten"], most=5)
    assert len(fix.interventions) <= 5
    assert table.loc["times ten", "share"] == pytest.approx(min(fix.tried[-1][1] / 15, 1), abs=0.1)


def test_without_a_target_the_largest_effect_comes_first(unit_error):
    ranking, _ = unit_error
    result = ranking.backing.complaints[0].result
    found = result.complain("n", should="increase").rank().families(20)
    assert found["share"].isna().all()
    assert found["together"].is_monotonic_decreasing


def test_rows_out_of_place_are_told_from_those_of_the_query():
    rng = np.random.default_rng(0)
    training, inference = rng.normal(size=(2, 500, 4))
    wrong = np.arange(0, 500, 10)
    training[wrong, 2] += 9
    mended = training.copy()
    mended[wrong, 2] -= 9
    found = out_of_place(training, inference, np.arange(500), mended)
    assert found[wrong].mean() > 0.6
    assert np.delete(found, wrong).max() < 1e-9  # the repair left them as they were
    unharmed = out_of_place(training, inference, np.arange(1, 500, 10), mended[1::10] + 0.01)
    assert unharmed.mean() < 0.1


def test_inputs_of_any_structure_are_one_table():
    found = flat({"a": np.ones((3, 2, 2)), "b": np.zeros(3)})
    assert_array_equal(found, [[1, 1, 1, 1, 0]] * 3)


def test_without_scikit_learn_it_says_what_to_install(unit_error, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(RainError, match=r"needs scikit-learn.*rainpp\[explain\]"):
        unit_error[0].families(5)
