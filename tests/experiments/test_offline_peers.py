"""What the comparison with other libraries does around them; none of them is needed here."""

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from experiments import offline_peers, tables_peers
from experiments.offline_peers import PeerCall

OWN = {
    "model": "logistic", "rows": 60_000, "parameters": 7850, "library": "rainpp",
    "versions": ["rainpp 0.1.0"], "method": "precompute", "offline_seconds": 9.9,
    "first_seconds": 0.1, "second_seconds": 0.001, "auc_r": 0.985,
    "cores": 1.7,
}  # fmt: skip


@pytest.fixture
def case_module(monkeypatch):
    """`case`, which the peers' scripts import from their own folder."""
    path = offline_peers.SCRIPTS / "case.py"
    spec = importlib.util.spec_from_file_location("case", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "case", module)  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def case(tmp_path):
    path = tmp_path / "case.npz"
    np.savez(path, counted=[1, 7], labels=[1, 0, 1])
    return path


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder where `script(body)` becomes the library `fake`."""
    monkeypatch.setattr(offline_peers, "SCRIPTS", tmp_path)

    def script(body):
        start = f"""\
            import sys
            sys.path.insert(0, {str(Path(offline_peers.__file__).parent / "peers")!r})
            import numpy as np
            from case import read, run
            """
        lines = textwrap.dedent(start) + textwrap.dedent(body)
        (tmp_path / "fake_scores.py").write_text(lines)

    return script


FAKE = """
    def offline(call):
        assert call.method == "exact" and call.settings == {"damping": None, "batch": 3}
        return lambda counted: call.data["labels"] * float(*counted)

    run(read(sys.argv[1:]), offline, libraries=("numpy",))
"""


def call():
    return PeerCall("fake", "exact", {"damping": None, "batch": 3})


def test_a_call_survives_the_command_line(case, case_module, tmp_path):
    written = [str(case), str(tmp_path / "out.npz"), *str(call()).split()]
    found = case_module.read(written)
    assert (found.method, found.settings) == ("exact", {"damping": None, "batch": 3})
    assert found.data["labels"].tolist() == [1, 0, 1]


def test_every_call_survives_the_command_line(case, case_module):
    for model in ("logistic", "mlp"):
        for peer in offline_peers.calls(model):
            found = case_module.read([str(case), "out.npz", *str(peer).split()])
            assert (found.method, found.settings) == (peer.method, peer.settings)
            assert (offline_peers.SCRIPTS / f"{peer.library}_scores.py").exists()


def test_scores_are_those_of_the_first_complaint(case, scripts):
    scripts(FAKE)
    found = offline_peers.peer_run(case, Path(sys.executable), call())
    assert found["scores"].tolist() == [1, 0, 1]
    assert found["versions"] == [f"numpy {np.__version__}"]
    assert {"offline_seconds", "first_seconds", "second_seconds", "peak_gb", "cores"} <= set(found)
    assert found["complaint_seconds"] == [found["first_seconds"], found["second_seconds"]]
    assert found["disk_mb"] == 0


def test_what_a_library_leaves_on_disk_is_counted(case, scripts):
    leave = "call.out.with_name('kept').write_bytes(bytes(50_000))\n        assert call.method"
    scripts(FAKE.replace("assert call.method", leave))
    assert offline_peers.peer_run(case, Path(sys.executable), call())["disk_mb"] == 0.05


def test_the_first_complaint_is_kept_when_the_second_does_not_end(case, scripts):
    scripts(FAKE.replace("* float(*counted)", "* (1 if counted == [1] else sys.exit(0))"))
    found = offline_peers.peer_run(case, Path(sys.executable), call())
    assert found["scores"].tolist() == [1, 0, 1]
    assert "second_seconds" not in found


def test_a_library_that_fails_ends_the_run(case, scripts, capsys):
    scripts(FAKE.replace('== "exact"', '== "other"'))
    with pytest.raises(subprocess.CalledProcessError):
        offline_peers.peer_run(case, Path(sys.executable), call())
    assert "AssertionError" in capsys.readouterr().out


def test_a_library_that_ends_nothing_in_time_has_no_numbers(case, scripts, monkeypatch, capsys):
    monkeypatch.setattr(offline_peers, "LIMIT_SECONDS", 0.1)
    scripts(FAKE)
    found = offline_peers.peer_run(case, Path(sys.executable), call())
    assert found == {
        "library": "fake",
        "method": "exact damping=null batch=3",
        "script": "fake_scores.py",
    }
    assert offline_peers.judged(found, OWN, np.array([True])) == found
    assert "ended after 0.1 s" in capsys.readouterr().out


def test_times_are_multiples_of_ours_and_the_sign_is_the_better_one():
    """From nothing: (15 + 5) / (9.9 + 0.1) = 2; a complaint: 5 and 4 s against 1 ms."""
    found = {
        "library": "fake", "method": "exact", "offline_seconds": 15.0, "first_seconds": 5.0,
        "second_seconds": 4.0, "scores": np.array([-3.0, -2.0, -1.0, 0.0]),
    }  # fmt: skip
    record = offline_peers.judged(found, OWN, np.array([True, True, False, False]))
    assert record["auc_r"] == 1.0
    assert record["times_from_nothing"] == 2.0
    assert (record["times_first"], record["times_second"]) == (5000, 4000)
    assert "scores" not in record


def body(*peers):
    common = {"model": "logistic", "rows": 60_000, "parameters": 7850, "script": "fake_scores.py"}
    settings = {"rate": 0.3, "threads": 2, "limit_seconds": 1200}
    return {"settings": settings, "runs": [OWN, *(common | peer for peer in peers)]}


def test_the_table_has_a_row_for_every_call():
    done = {
        "library": "fake", "method": "exact batch=3", "versions": ["fake 1.2"],
        "offline_seconds": 15.0, "first_seconds": 5.0, "second_seconds": 4.0, "auc_r": 0.97,
        "times_from_nothing": 2.0, "times_first": 5000, "times_second": 4000, "cores": 0.4,
    }  # fmt: skip
    page = tables_peers.peers(body(done))
    assert "Logistic regression, 60,000 rows, 7,850 parameters" in page
    assert "| rainpp | `precompute` | 9.9 | 0.1 |  | 0.001 |  |  | 0.9850 |" in page
    assert "| fake | `exact batch=3` | 15.0 | 5.0 | 2 | 4.0 | 5,000 | 4,000 | 0.9700 |" in page
    assert "fake 1.2, rainpp 0.1.0.\nProcessor time over wall time: 0.4 to 1.7" in page
    assert "Two-layer" not in page


def test_the_table_says_what_did_not_finish():
    nothing = {"library": "slow", "method": "cg"}
    first = {
        "library": "slow", "method": "arnoldi", "versions": ["slow 1"], "offline_seconds": 0.0,
        "first_seconds": 900.0, "auc_r": 0.9, "times_from_nothing": 90.0, "times_first": 900_000,
    }  # fmt: skip
    page = tables_peers.peers(body(nothing, first))
    assert "| slow | `cg` |  | not within 1,200 s |  |  |  |  |  |" in page
    assert "| `arnoldi` | 0 | 900.0 | 90 | not within 1,200 s | 900,000 |  | 0.9000 |" in page
