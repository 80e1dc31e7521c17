"""The section about Rain's loop says what was reached, and what was not."""

from __future__ import annotations

import pytest

from experiments import tables_paper_loop


@pytest.mark.parametrize(("worse", "verdict"), [(0.96, "met"), (0.90, "**not met**")])
def test_a_loop_is_held_against_rains_own(worse, verdict):
    about = {
        "network": "logistic", "rate": 0.1, "auc_r_once": 0.5, "counts": [9, 12], "count_clean": 13,
        "train_rows": 1000, "rounds": 4,
    }  # fmt: skip
    runs = [about | {"auc_r": 0.94}, about | {"auc_r": worse}]
    line = tables_paper_loop.train_rank_fix({"runs": runs}).splitlines()[-1]
    mean = (0.94 + worse) / 2
    assert line == (
        f"| logistic | 10% | 0.93 | {mean:.3f} / {min(0.94, worse):.3f} | 0.500 | 9, 12, 13 "
        f"| {verdict} | 1,000 rows, 4 rounds, 2 seed(s) |"
    )


def test_updates_stand_by_size_and_by_what_was_seen():
    runs = [
        {"seen": seen, "update": size, "p50_ms": seen / size}
        for seen in (1000, 10)
        for size in (10, 1)
    ]
    lines = tables_paper_loop.fig9({"runs": runs}).splitlines()
    assert lines[-4:] == [
        "| rows of an update | ms, 10 rows seen | ms, 1,000 rows seen |",
        "| --- | --- | --- |",
        "| 1 | 10.0 | 1000.0 |",
        "| 10 | 1.0 | 100.0 |",
    ]
