"""What the page says of the paper's figures follows from the records."""

from __future__ import annotations

import pytest

from experiments import results, tables_paper
from experiments.paper import fig11, records
from experiments.paper.targets import targets


def record(**changes):
    """A small MNIST cell with one complaint, Q3: too few, found at once."""
    run = {
        "data": "mnist",
        "network": "logistic",
        "corruption": "flip",
        "rate": 0.4,
        "seed": 0,
        "size": "small",
        "parameters": 7850,
        "train_rows": 100,
        "form": "original",
        "eigenvalues": [1.0 / (i + 1) for i in range(12)],
        "chosen_k": 2,
        "queries": [query("Q3"), query("Q1")],
        "complaints": [],
    } | changes
    name = f"{run['data']} {run['network']}, {run['corruption']} {run['rate']:.0%}"
    return run | {"cell": f"{name}, seed {run['seed']}"}


def query(name, curve=(0.5, 0.9, 0.8), steps=(0.9, 0.7), **changes):
    answers = {"value": 80.0, "correct": 100.0, "truth": 101.0}
    return {"query": name, "k": list(curve), "steps": list(steps)} | answers | changes


def complaint(*values):
    names = ("query", "error", "relaxed_error", "peak", "opposite")
    return dict(zip(names, values, strict=True))


def row(figure, runs, points=(), *, place=0):
    return [t.row for t in targets(runs, list(points)) if t.figure == figure][place]


def test_rain_plus_plus_keeps_up_in_nine_of_ten():
    asked = "Rain++ >= Rain - 0.02, peaks, in 90% of the complaints"
    near = [record(rate=i / 10, queries=[query("Q3", steps=[0.92])]) for i in range(9)]
    far = record(network="mlp", queries=[query("Q3", steps=[0.93])])
    told = "mnist mlp, flip 40%, seed 0, Q3: 0.900, Rain 0.930"
    assert row("Fig. 4", [*near, far]) == ["Fig. 4", asked, "9 of 10", "met", told]
    assert row("Fig. 4", [*near[:8], far]) == ["Fig. 4", asked, "8 of 9", "**not met**", told]


def test_a_complaint_in_which_neither_finds_anything_is_counted_apart():
    nothing = record(network="mlp", queries=[query("Q3", [0.01], [0.1])])
    found = record(queries=[query("Q3", [0.05], [0.11])])
    assert row("Fig. 4", [record(), nothing])[2:4] == ["2 of 3", "**not met**"]
    assert row("Fig. 4", [record(), nothing], place=1)[2:4] == ["2 of 2", "met"]
    assert row("Fig. 4", [record(), found], place=1)[2:4] == ["2 of 3", "**not met**"]


def test_every_cell_of_the_table_is_compared_with_the_papers():
    asked = "every cell of the CNN at least the paper's"
    peaks = {"Q3-1": 0.69, "Q3-4": 0.7, "Q3-7": 0.78, "Q3-9": 0.7, "Q2-(1,4)": 0.98}

    def cell(last):
        queries = [query(name, [peak]) for name, peak in (peaks | {"Q2-(7,9)": last}).items()]
        return record(network="cnn", corruption="two flips", rate=0.1, queries=queries)

    assert row("Table 5", [cell(0.98)]) == ["Table 5", asked, "6 of 6", "met", ""]
    told = "Q2-(7,9) 10%: 0.979, paper 0.98"
    assert row("Table 5", [cell(0.979)]) == ["Table 5", asked, "5 of 6", "**not met**", told]
    assert row("Table 5", [record()]) == ["Table 5", asked, "", "not measured", ""]


def test_the_k_of_the_library_is_compared_with_the_best_k_of_a_network():
    asked = "the library's k has 98% of the best k of a network"
    assert row("Fig. 5", [record()]) == ["Fig. 5", asked, "1 of 1", "met", ""]
    told = "MNIST logistic: 0.889 of k = 2"
    wrong = record(chosen_k=3)
    assert row("Fig. 5", [wrong]) == ["Fig. 5", asked, "0 of 1", "**not met**", told]
    nothing = record(queries=[query("Q3", [0.1, 0.0])], network="mlp")  # nothing to find
    assert row("Fig. 5", [record(), nothing])[2] == "1 of 1"


def test_the_k_of_the_library_is_compared_with_the_peak_of_every_complaint():
    early = query("Q1", [1.0, 0.5, 0.25])  # its own best k is 1, that of both together 2
    found = row("Fig. 5", [record(queries=[query("Q3"), early])], place=1)
    asked = "the library's k has 98% of each complaint's own peak, mean"
    assert found == ["Fig. 5", asked, "0 of 1", "**not met**", "MNIST logistic: 0.750"]


@pytest.mark.parametrize(
    ("auc", "met", "told"), [(0.87, "met", ""), (0.869, "**not met**", "50%: 0.869")]
)
def test_adult_is_judged_at_the_k_of_the_library(auc, met, told):
    queries = [query("Q4", [0.99, auc]), query("Q5", [0.0, 0.9])]
    run = record(data="adult", corruption="men", rate=0.5, queries=queries)
    reached = "1 of 1" if met == "met" else "0 of 1"
    asked = "Q4 >= 0.87 at the library's k, mean"
    assert row("Fig. 12", [run]) == ["Fig. 12", asked, reached, met, told]
    assert row("Fig. 12", [run], place=1)[2:4] == ["1 of 1", "met"]


def test_large_errors_are_found_by_every_reading():
    complaints = [
        complaint("count of 1", 0.26, -0.3, 0.95, 0.0),
        complaint("join of 1 and 2", -0.5, 0.2, 0.1, 0.95),
        complaint("join of 2 and 1", -0.5, 0.2, 0.1, 0.95),
        complaint("count of 2", 0.25, 0.0, 0.0, 0.0),
    ]
    found = [record(complaints=complaints)]
    rows = [row("Fig. 13", found, place=place) for place in range(4)]
    about = "AUC_R > 0.9 in 90% of relative errors over 25%; joins ask for "
    missed = "mnist logistic, flip 40%, seed 0, {}"
    told = missed.format("join of 2 and 1: 0.100")
    assert rows == [
        ["Fig. 13", f"{about}fewer pairs", "1 of 2", "**not met**", told],
        ["Fig. 13", f"{about}the clean model's", "2 of 2", "met", ""],
        ["Fig. 13", f"{about}fewer pairs, errors of relaxed answers", "1 of 1", "met", ""],
        [
            "Fig. 13",
            f"{about[:-14]}all ask for the clean model's, relaxed answers",
            "0 of 1",
            "**not met**",
            missed.format("count of 1: 0.000"),
        ],
    ]


def test_the_filter_rises_and_deletion_finds_nothing():
    def cell(rate, filtered, deleted):
        queries = [query("Q3", [deleted], denoised=[filtered])]
        return record(corruption="salt class", rate=rate, queries=queries)

    good = [cell(1.0, 0.9, 0.1), cell(0.7, 0.65, 0.2)]
    assert [row("Fig. 15", good, place=i)[2:] for i in range(3)] == [
        ["2 of 2", "met", ""],
        ["1 of 1", "met", ""],
        ["2 of 2", "met", ""],
    ]
    bad = [cell(1.0, 0.6, 0.1), cell(0.7, 0.65, 0.21)]
    assert [row("Fig. 15", bad, place=i)[2:] for i in range(3)] == [
        ["1 of 2", "**not met**", "MNIST logistic Q3 100%: 0.600"],
        ["0 of 1", "**not met**", "MNIST logistic Q3: 0.650 to 0.600"],
        ["1 of 2", "**not met**", "MNIST logistic Q3 70%: 0.210"],
    ]


def test_corrections_are_compared_on_cifar():
    points = [{"data": "cifar10", "network": "wrn10", "corrections": {"peak": 0.86}}]
    assert row("§6.8.1", [], points)[2:] == ["1 of 1", "met", ""]
    points[0]["corrections"] = {"peak": 0.855}
    assert row("§6.8.1", [], points)[2:] == ["0 of 1", "**not met**", "CIFAR-10 wrn10: 0.855"]
    assert row("§6.8.1", [], [points[0] | {"data": "mnist"}])[3] == "not measured"


def test_a_full_record_stands_for_the_small_ones_of_its_cell():
    small, other, full = record(), record(rate=0.1), record(size="full", seed=1)
    assert records.preferred([small, other, full]) == [other, full]


def test_the_page_has_a_row_for_what_was_measured_and_says_how(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    runs = [
        record(form="JPEG, 16x16", data="cifar10", network="wrn10", seed=seed) for seed in (0, 1)
    ]
    results.save("paper_small", command="", settings={}, runs=runs)
    page = tables_paper.quality(results.load("paper_small"))
    how = "small; 100 rows; seeds 0, 1; JPEG, 16x16"
    assert (
        "| CIFAR-10 | wrn10 | flip | Q3 | 40% | 0.900 / 0.900 | 0.900 / 0.900 | 0.900 / 0.900 | "
        f"2 of 2 | {how} |" in page
    )
    assert "### Fig. 15" not in page
    assert ".svg" not in page  # nothing has been drawn
    (tmp_path / "paper_fig4.svg").touch()
    assert "(results/paper_fig4.svg)" in tables_paper.quality(results.load("paper_small"))


def test_point_complaints_have_a_row_for_each_number_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    points = [
        {"count": 1, "draw": draw, "ratio": ratio, "peak": auc, "chosen": auc - 0.2}
        for ratio in fig11.RATIOS
        for draw, auc in enumerate((0.8, 0.9))
    ]
    about = {"relevant": 1, "adversarial": 4, "apart": 7, "accuracy": 0.5, "accuracy_clean": 0.6}
    run = record(corrections={"peak": 0.7, "chosen": 0.6}, points=points, **about)
    results.save("paper_fig11_small", command="", settings={}, runs=[run])
    page = tables_paper.point_complaints(results.load("paper_fig11_small"))
    assert f"| MNIST | logistic | 1 + 1 |{' 0.850 / 0.650 |' * len(fig11.RATIOS)}" in page
    assert (
        "- MNIST logistic: 7 rows differ, peak 0.700, at the library's k 0.600; 1 relevant and 4 "
        "adversarial rows; accuracy 0.500, of the clean model 0.600; small; 100 rows; seed 0."
        in page
    )
