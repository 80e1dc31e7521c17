"""What the page says of missed targets follows from the control runs in the records."""

from __future__ import annotations

import pytest

from experiments.paper.reasons import reasons
from tests.experiments.test_tables_paper import complaint, query, record

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
    assert said.startswith("Fig. 4: 2 complaints are short of it. In 0 Rain, too, finds")
    assert "2 of MNIST cnn, MNIST mlp, of which 1 find most with the last fifth" in said


def test_what_a_random_order_finds_of_spoilt_images_stands_beside_rain():
    found = record(corruption="blur all", queries=[query("Q3", [0.1], [0.25])])
    little = record(corruption="salt all", queries=[query("Q3", [0.0], [0.1])])
    (said,) = why(found, little)
    assert "2 complaints are short of it. In 1 Rain, too, finds at most 0.1." in said
    assert "1 about spoilt images" in said
    assert said.endswith("random order: 0.250 and 0.200.")


@pytest.mark.parametrize(("rain", "also"), [(0.97, 1), (0.98, 0)])
def test_rain_is_the_control_of_two_kinds_of_errors(rain, also):
    peaks = {"Q3-1": 0.69, "Q3-4": 0.7, "Q3-7": 0.78, "Q3-9": 0.7, "Q2-(1,4)": 0.98}
    asked = [query(name, [peak]) for name, peak in peaks.items()]
    asked.append(query("Q2-(7,9)", [0.979, 0.9, 0.9], [rain]))
    (said,) = why(record(network="cnn", corruption="two flips", rate=0.1, queries=asked))
    assert said.startswith("Table 5: of the 1 curves behind the 1 cells short of it, 0 have")
    assert said.endswith(f"short of the paper's in {also} of the cells.")


def test_another_network_is_the_control_of_single_predictions():
    (said,) = why(points=[point("cifar10", "wrn10", 0.663), point("mnist", "mlp", 0.99)])
    assert "CIFAR-10 wrn10, of accuracy 0.46 after training on clean data, 0.663" in said
    assert said.endswith("MNIST mlp, of accuracy 0.46 after training on clean data, 0.990.")


def test_the_best_k_and_rain_are_the_controls_of_adult():
    asked = [query("Q4", [0.9, 0.9]), query("Q5", [0.791, 0.788], [0.81, 0.789])]
    (said,) = why(record(data="adult", corruption="men", rate=0.5, queries=asked))
    assert said.endswith("Q5 50%: the best k has 0.791, Rain after all its steps 0.789.")


def test_another_reading_is_the_control_of_large_errors():
    turned = complaint("join of 1 and 2", -0.5, -0.3, 0.1, 0.95)
    missed = complaint("count of 1", 0.5, 0.3, 0.2, 0.95)
    small = complaint("count of 2", 0.5, 0.1, 0.2, 0.95)
    (said,) = why(record(complaints=[turned, missed, small]))
    assert "3 are short where joins ask for fewer pairs. 2 of them are not" in said
    assert said.endswith("1 are short there.")
