"""The promised recognition of wrong complaints is in the results, and measured as it is said."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments import results, tables_online, wrong_complaints


def test_the_area_is_that_of_the_roc_curve():
    rng = np.random.default_rng(0)
    right, wrong = rng.integers(0, 6, 20) + 1, rng.integers(0, 6, 50)
    truth = np.repeat([1, 0], [20, 50])
    expected = roc_auc_score(truth, np.concatenate([right, wrong]))
    assert wrong_complaints.area(list(right), list(wrong)) == pytest.approx(expected)


def runs(**wanted):
    found = results.load("wrong_complaints")["runs"]
    return [run for run in found if all(run[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize("use", ["fit", "held out"])
@pytest.mark.parametrize("scope", list(wrong_complaints.SCOPES))
def test_right_complaints_are_told_from_wrong_ones(use, scope):
    chosen = [run for run in runs(use=use, scope=scope) if run["model"] != "adult"]
    right, wrong = tables_online._scores(chosen, "score")
    assert min(len(right), len(wrong)) >= 6
    assert wrong_complaints.area(right, wrong) >= 0.9


def test_every_kind_was_planted_and_what_holds_is_refused():
    kinds = {item["kind"] for run in runs() for item in run["complaints"]}
    assert kinds == set(tables_online._KINDS)
    assert all(run["refused"]["refused"] == run["refused"]["of"] for run in runs())
    assert sum(run["refused"]["of"] for run in runs()) >= 300


def test_hardly_a_wrong_complaint_is_called_right_and_no_right_one_misdirected():
    items = [item for run in runs() for item in run["complaints"]]
    wrong = [item["verdict"] for item in items if item["kind"] != "right"]
    right = [item["verdict"] for item in items if item["kind"] == "right"]
    assert wrong.count("right") <= 0.005 * len(wrong)
    assert "misdirected" not in right


def test_two_classes_get_no_verdict():
    items = [item for run in runs(model="adult") for item in run["complaints"]]
    assert {item["verdict"] for item in items} == {"unknown"}
