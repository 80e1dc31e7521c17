"""Complaints together and relaxations compared: the rule fixed before the runs, and the tables."""

import duckdb
import pytest

from experiments import relaxed_twice, results, tables_together, twenty_complaints

RULE = {"better": 0.01, "ahead": 10}


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([0.02] * 12, "better"),
        ([0.02] * 10 + [-0.01] * 2, "better"),
        ([0.02] * 9 + [0.0] * 3, "no difference"),
        ([0.005] * 12, "no difference"),
        ([-0.02] * 12, "worse"),
    ],
)
def test_the_verdict_follows_the_rule(gains, expected):
    assert tables_together.verdict(gains, RULE) == expected


def test_the_rule_and_the_cases_are_those_of_the_script():
    body = results.load("relaxed_twice")
    assert (body["settings"]["better"], body["settings"]["ahead"]) == (0.01, 10)
    assert tuple(body["settings"]["linear"]) == relaxed_twice.LINEAR
    found = {(run["query"], run["rate"], run["seed"]) for run in body["runs"]}
    assert len(found) == len(body["runs"]) == 12 * len(relaxed_twice.QUERIES)


def test_nothing_used_twice_gives_the_same_ranking():
    runs = [run for run in results.load("relaxed_twice")["runs"] if run["query"] == "count"]
    assert all(run["exact_auc_r"] == run["rain_auc_r"] for run in runs)


class Opened:
    """A database with three labelled images in two batches."""

    def __init__(self):
        self.connection = duckdb.connect()
        self.connection.execute(
            "CREATE TABLE digits AS SELECT * FROM "
            "(VALUES (0, 1, 0, 0), (1, 7, 0, 1), (2, 7, 1, 1)) t(image, label, batch, pair)"
        )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("count", {0: 1}),
        ("or", {0: 2}),
        ("pairs", {0: 5}),
        ("all pairs", {0: 5}),
        ("having", {0: 1}),
        ("averages", {0: 1.0, 1: 1.0}),
    ],
)
def test_true_answers_take_labels_for_predictions(query, expected):
    assert relaxed_twice.true_answers(Opened(), relaxed_twice.QUERIES[query]) == expected


def test_every_set_of_complaints_is_compared_with_its_own():
    def run(asked, auc):
        return {"rate": 0.5, "seed": 0, "asked": asked, "auc_r": auc}

    runs = [run(["Q6"], 0.6), run(["Q7"], 0.5), run(["Q6", "Q7"], 0.65)]
    assert tables_together._gain(runs, ("Q6", "Q7"), ("Q6", "Q7")) == "+0.050"
    assert tables_together._gain(runs, ("Q6", "Q7"), {"Q7"}) == "+0.150"
    assert tables_together._gain(runs, ("Q6",), ("Q6",)) == ""


def test_twenty_complaints_are_different():
    asked = {tuple(sorted(set(classes))) for classes in twenty_complaints.COMPLAINTS}
    assert len(asked) == len(twenty_complaints.COMPLAINTS) == 20
