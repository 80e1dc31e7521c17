"""One core against two processes: what is started where, and what the page says of it."""

from __future__ import annotations

from experiments import offline_processes, tables_processes
from experiments.offline_processes import SETUPS, _Clock, _environment


def test_two_processes_have_a_core_and_a_thread_each_and_find_each_other():
    cores = SETUPS["two processes, one core each"]
    told = [_environment(mine, (number, 2, 1234)) for number, mine in enumerate(cores)]
    assert [one["JAX_PROCESS_ID"] for one in told] == ["0", "1"]
    assert {one["JAX_COORDINATOR_ADDRESS"] for one in told} == {"127.0.0.1:1234"}
    assert all("intra_op_parallelism_threads=1" in one["XLA_FLAGS"] for one in told)
    alone = _environment((0,), (0, 1, 1234))
    assert "JAX_NUM_PROCESSES" not in alone
    assert alone["OMP_NUM_THREADS"] == "1"


def test_seconds_are_counted_for_the_stage_that_reports_them():
    clock = _Clock()
    clock("eigenpairs, both", 1, 3)
    clock("eigenpairs, all", 2, 3, "a remark")
    clock("projections", 3, 3)
    clock.stop()
    assert list(clock.stages) == ["eigenpairs", "projections", "checks and writing"]
    assert sum(clock.stages.values()) <= clock.seconds
    assert clock.share >= 0


def run(setup, seconds, speedup):
    return {
        "model": "mlp",
        "rows": 60_000,
        "curvature_rows": "all",
        "setup": setup,
        "parameters": 270_310,
        "used_rows": 60_000,
        "seconds": seconds,
        "stages": {"eigenpairs": 7.0, "projections": 1.0},
        "speedup": speedup,
        "load_before": 0.4,
    }


def test_the_page_shows_what_a_second_process_gains():
    runs = [run("one process, one core", 10.0, 1.0), run("two processes", 5.5, 1.82)]
    page = tables_processes.processes({"settings": {"k": 10, "repeats": 3}, "runs": runs})
    assert (
        "| two-layer network | 270,310 | 60,000 | two processes | 5.50 | 7.00 | 1.00 | 1.82 |"
        in page
    )
    assert "0.4 at most" in page
    assert offline_processes.K == 10


def test_the_page_sets_bfloat16_beside_float32():
    runs = [
        {"case": "ADULT", "query": "Q4", "k": 30, "matmul": kind, "product_error": error,
         "residual": 1e-2, "auc_r": 0.8915, "spearman": 0.9912}
        for kind, error in (("float32", 1e-7), ("bfloat16", 3e-3))
    ]  # fmt: skip
    page = tables_processes.matmul({"settings": {}, "runs": runs})
    assert "| ADULT | Q4 | 30 | bfloat16 | 3.0e-03 | 1.0e-02 | 0.891 | 0.9912 |" in page
