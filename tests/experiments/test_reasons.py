"""What the page says of missed targets follows from the control runs in the records."""

from __future__ import annotations

import pytest

from experiments.paper.reasons import reasons
from tests.experiments.test_tables_paper import query, record

EVERY = {"corrupted_rows": 20, "train_rows": 100, "accuracy_clean": 0.5}


def why(*runs, points=()):
    return reasons([EVERY | run for run in runs], [EVERY | point for point in points])


def point(data, network, peak):
    return record(data=data, network=network, corrections={"peak": peak}, accuracy_clean=0.46)


def test_nothing_is_said_where_nothing_is_missed():
    assert why(record(), points=[point("cifar10", "wrn10", 0.86)]) == []


def test_a_curve_that_still_rises_is_told_from_one_that_does_not():
    rising = record(network="mlp", queries=[query("Q3", [0.2, 0.3, 0.4], [0.5])])
    ended = record(network="cnn", queries=[query("Q3", [0.4, 0.3, 0.2], [0.5])])
    (said,) = why(rising, ended, record())
    assert said.startswith("Fig. 4: 2 complaints of which Rain finds something")
    assert "1, of MNIST mlp, find most with one of the last of the 3 pairs" in said


def test_what_a_random_order_finds_of_spoilt_images_stands_beside_rain():
    (said,) = why(record(corruption="blur all", queries=[query("Q3", [0.1], [0.25])]))
    assert "1 are about images" in said
    assert "Rain has 0.25 to 0.25, a random order 0.20 to 0.20" in said


@pytest.mark.parametrize(("rain", "also"), [(0.97, 1), (0.98, 0)])
def test_rain_is_the_control_of_two_kinds_of_errors(rain, also):
    peaks = {"Q3-1": 0.69, "Q3-4": 0.7, "Q3-7": 0.78, "Q3-9": 0.7, "Q2-(1,4)": 0.98}
    asked = [query(name, [peak]) for name, peak in peaks.items()]
    asked.append(query("Q2-(7,9)", [0.979], [rain]))
    (said,) = why(record(network="cnn", corruption="two flips", rate=0.1, queries=asked))
    assert said.startswith(f"Table 5: in {also} of the 1 cells short of it Rain's own peak")


def test_another_network_is_the_control_of_single_predictions():
    (said,) = why(points=[point("cifar10", "wrn10", 0.663), point("mnist", "mlp", 0.99)])
    assert "CIFAR-10 wrn10, right about 46% of the test set" in said
    assert said.endswith("0.663; MNIST mlp, right about 46% of the test set after training on "
                         "clean data, 0.990.")  # fmt: skip


def test_the_solved_system_is_the_control_of_adult():
    asked = [query("Q4", [0.9, 0.9]), query("Q5", [0.7, 0.788], [0.81, 0.789])]
    run = record(data="adult", corruption="men", rate=0.5, queries=asked)
    (said,) = why(run)
    assert said.endswith("has Q5 50% 0.789.")


def test_missed_complaints_with_large_errors_are_counted_by_network():
    missed = ["count of 1", 0.1, -0.3, 0.95, 0.2]
    found = ["count of 2", 0.1, 0.3, 0.95, 0.2]
    (said,) = why(record(complaints=[missed, found]))
    assert said.endswith("1 of 2 are missed: 1 of MNIST logistic.")
