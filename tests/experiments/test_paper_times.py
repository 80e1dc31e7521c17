"""What the page says about the paper's figures of time, and which results it says it from."""

from __future__ import annotations

import itertools

import pytest

from experiments import drawing, plots_paper_times, results, tables, tables_paper_times
from experiments.paper import fig8, timing
from rainpp.errors import DataError

ABOUT = {
    "data": "mnist",
    "network": "logistic",
    "parameters": 7850,
    "train_rows": 10_000,
    "inference_rows": 1_000,
    "form": "original",
    "device": "cpu: cpu",
    "load": 0.4,
}
PARTS = {
    "query_gradient_s": 0.1,
    "cg_step_s": 0.3,
    "cg_steps_s": [0.3, 0.3, 0.4],
    "rain_score_s": 0.2,
    "rain_steps": 2,
    "rainpp_score_s": {"1": 0.001, "20": 0.025},
}
HEADLINE = {"rain_s": 0.9, "rain_steps": 2, "steps_done": 2, "p50_ms": 0.45, "p95_ms": 1.5}
HEADLINE |= {"again_p50_ms": 0.25, "rain_first_call_s": 3.0}
STORED = {"unoptimised_s": 0.1, "stored_s": {"5": 0.0005, "20": 0.001}}
OFFLINE = {
    "training_s": {"5": 1.0, "20": 2.0},
    "inference_s": {"5": 0.5, "20": 0.75},
    "eigenpairs_s": 1.25,
    "curvature_rows": 512,
    "first_call_s": {"5": 1.5, "20": 2.5},
}
OF_NETWORKS = {
    "fig1": HEADLINE | {"ratio": 2000.0},
    "fig6": PARTS,
    "fig7": STORED | {"forward_s": 0.1, "backward_s": 1.2},
    "fig10": OFFLINE,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return tmp_path


def network(figure, part="mnist logistic", size="small", **other):
    return OF_NETWORKS[figure] | ABOUT | {"part": part, "size": size} | other


def interventions(k, count, milliseconds, table="host"):
    times = {"p50_ms": milliseconds, "rank_ms": milliseconds / 2, "score_ms": milliseconds / 4}
    told = {"k": k, "interventions": count, "table": table, "device": "cpu: cpu", "load": 0.4}
    return {"part": f"k={k} {count} {table}"} | told | times


def save(figure, size, *runs):
    command = f"python -m experiments.paper.{figure}"
    results.save(f"paper_{figure}_{size}", command=command, settings={}, runs=list(runs))


def rows(page):
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def section(figure):
    ((page, bodies),) = tables_paper_times.sections()
    assert f"results/paper_{figure}.svg" in page
    return page, bodies


def test_nothing_is_said_of_what_has_not_been_measured():
    assert list(tables_paper_times.sections()) == []
    assert "Figure" not in tables.render()


def test_a_full_record_stands_for_the_small_one_of_the_same_network():
    mlp = network("fig1", "mnist mlp")
    save("fig1", "small", mlp, network("fig1"))
    save("fig1", "full", network("fig1", size="full", device="gpu: NVIDIA H200", rain_s=0.04))
    page, bodies = section("fig1")
    first, second = rows(page)
    assert first[0] == "LogReg"
    assert first[2] == "0.04"
    assert first[-1] == "full: 10,000 rows, 1,000 inferences; NVIDIA H200"
    assert second[0] == "FeedForw"
    assert second[-1].startswith("small: 10,000 rows")
    assert len(bodies) == 2
    assert page in tables.render()


def test_the_headline_says_where_steps_ended_early_and_where_the_machine_was_busy():
    save("fig1", "small", network("fig1", steps_done=1, load=2.5, form="JPEG"))
    (row,) = rows(section("fig1")[0])
    assert row[2] == "0.90 (1 of 2 steps: curvature turned negative)"
    assert row[3:8] == ["0.45 / 1.50", "0.25", "2,000", "3.0", "0.61"]
    assert row[-1] == (
        "small: 10,000 rows, 1,000 inferences, JPEG; cpu, busy (2.5 processes a core)"
    )


def test_table_4_adds_the_parts_up_beside_the_papers():
    save("fig6", "small", network("fig6"))
    (row,) = rows(section("fig6")[0])
    assert row[1:6] == [
        "0.02 / 0.100", "0.23 / 0.300", "0.16 / 0.200", "0.61 / 0.900", "0.02 / 0.125",
    ]  # fmt: skip
    assert row[6:8] == ["30 / 7", "25.00"]
    by_step = tables_paper_times.rain_by_step(network("fig6"))
    assert by_step == pytest.approx([0.6, 0.9, 1.3])


def test_the_query_gradient_is_compared_with_backpropagation():
    save("fig7", "small", network("fig7"))
    (row,) = rows(section("fig7")[0])
    assert row[1:6] == ["100.0", "0.50", "1.00", "100", "12.0"]


def test_interventions_stand_in_columns_and_their_speed_is_of_the_most():
    runs = [interventions(k, n, n / 1e4) for k in (5, 20) for n in (10_000, 600_000)]
    save("fig8", "full", *runs, interventions(20, 600_000, 2.0, "device"))
    five, twenty, device = rows(section("fig8")[0])
    assert five[:3] == ["5", "1.00", "60.00"]
    assert twenty[3:6] == ["10", "20", "40"]  # millions a second
    assert device[:4] == ["20", "", "2.00", "300"]
    assert device[-1] == "table on the device; cpu"


def test_offline_times_stand_by_k():
    few = {"training_s": {"5": 1.0}, "inference_s": {"5": 0.5}}
    save("fig10", "small", network("fig10"), network("fig10", "cifar10 wrn26", **few))
    first, second = rows(section("fig10")[0])
    assert first[1:6] == ["1.00 / 0.50", "2.00 / 0.75", "1.25", "512", "2.5"]
    assert second[2] == ""
    assert second[6] == "20 minutes at k = 20"


def test_every_figure_that_has_been_measured_is_drawn(folder, capsys):
    for figure in OF_NETWORKS:
        save(figure, "small", network(figure), network(figure, "mnist cnn"))
    places = ("device", "host")
    save("fig8", "full", *[interventions(5, n, 1.0, place) for n in (10, 100) for place in places])
    plots_paper_times.main()
    figures = ("fig1", "fig6", "fig7", "fig8", "fig10")
    assert capsys.readouterr().out.split() == [
        str(folder / f"paper_{figure}.svg") for figure in figures
    ]
    path = drawing.path_of("paper_fig6")
    before = path.read_text()
    assert "LogReg (small)" in before
    plots_paper_times.fig6(tables_paper_times.measured("fig6")[0])
    assert path.read_text() == before


def test_a_part_that_is_saved_is_not_measured_again_unless_asked(capsys):
    counter = itertools.count()

    def part():
        return {"value": next(counter)}

    def absent():
        raise DataError("no such file")

    def measured(*, again=False):
        saved = timing.Saved("figX", "small", {})
        return saved.measure({"one": part, "two": absent}, again=again)

    assert [run["value"] for run in measured()] == [0]
    assert [run["value"] for run in measured()] == [0]
    assert [run["value"] for run in measured(again=True)] == [1]
    assert "two: left out, no such file" in capsys.readouterr().out
    assert results.load("paper_figX_small")["settings"]["size"] == "small"


def test_calls_are_repeated_until_they_took_long_enough(monkeypatch):
    def lasting(duration, **given):
        monkeypatch.setattr(timing, "seconds_of", lambda _: duration)
        return len(timing.timings(lambda: None, **given))

    assert lasting(0.5) == 3
    assert lasting(0.1, seconds=0.95) == 10
    assert lasting(0.0) == 30
    assert lasting(6.0) == 2
    assert lasting(50.0) == 1


def test_a_made_up_index_ranks_ten_interventions_of_every_row():
    record = fig8.measure(5, 100, "host", 0.0)
    assert record["interventions"] == 100
    index = fig8.made_up_index(100, 5)
    found = index.rank([1.0] * 5)
    assert len(found) == 100
    assert len(found.top(100)) == index.num_train == 10  # a row's best intervention stands for it
