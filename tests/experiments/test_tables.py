"""The page of results and the JSON behind it agree."""

import json

import pytest

from experiments import results, tables


def test_the_page_is_the_one_the_results_make():
    assert tables.PAGE.read_text() == tables.render()


@pytest.mark.parametrize("path", sorted(results.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_says_where_it_comes_from(path):
    body = json.loads(path.read_text())
    assert {"experiment", "command", "environment", "settings", "runs"} <= set(body)
    assert {"device", "cores", "python", "versions"} <= set(body["environment"])
    assert body["command"].startswith("python -m experiments.")
    assert body["runs"]


def test_the_promised_quality_is_in_the_results():
    """AUC_R of logistic regression on all 60 000 rows, and the right relabels (mean and worst)."""
    runs = results.load("mnist_flips")["runs"]
    assert {run["train_rows"] for run in runs} == {60_000}
    for (query, rate), group in tables._groups(runs, "query", "rate"):
        target = tables._MNIST_TARGETS[query][rate]
        assert len(group) == 3
        assert min(run["auc_r"] for run in group) >= target
        assert min(run["relabel_right"] for run in group) >= 0.95
