"""What the README says is run."""

import re
from pathlib import Path

import duckdb
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import rainpp
from rainpp.metrics import auc_r
from rainpp.ranking import Ranking

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_heals_the_count(capsys):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    names = {}
    exec(compile(code[1], "README.md", "exec"), names)
    count = dict(zip(names["result"].df()["digit"], names["result"].df()["n"], strict=True))[1]
    proof = names["rainpp"].verify(names["ranking"], fit=names["fit"], top=60)
    assert count < 50  # the complaint is justified
    assert abs(proof.after - 60) < abs(count - 60) / 2
    assert "relabel" in capsys.readouterr().out


def test_every_file_and_command_it_names_exists():
    text = README.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (README.parent / link).exists(), link
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_example_is_as_short_as_it_promises():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    lines = [line for line in code[1].splitlines() if line.strip()]
    imports = [line for line in lines if line.startswith(("import", "from"))]
    assert len(lines) - len(imports) <= 20


# --- the numbers of its limits --------------------------------------------------------------------


def retrained_change(complaint, fit, row):
    """Change of the relaxed count when one training row is deleted and the model fitted again."""
    training = complaint.index.training
    keep = np.arange(training.num_rows) != row
    model = complaint.registered.model
    again = model.with_params(fit(training.inputs[keep], training.labels[keep]))
    after = complaint.result.setting.with_model("predict", again).evaluate()
    return after.at({}, "n")[1] - complaint.complaint.relaxed


@pytest.fixture(scope="module")
def example():
    """The README's data, with deletions scored beside relabels, and a fit solved tightly."""
    pixels, digits = load_digits(return_X_y=True)
    images, labels = (pixels[:1200] / 16).astype(np.float64), digits[:1200].copy()
    flipped = np.flatnonzero(labels == 1)[::2]
    labels[flipped] = 7

    def fit(images, labels):
        inverse = 100 / len(labels)
        solver = LogisticRegression(C=inverse, fit_intercept=False, tol=1e-9, max_iter=5000)
        return solver.fit(images, labels).coef_.T

    model = rainpp.Model(lambda w, x: x @ w, fit(images, labels), l2=0.01)
    index = rainpp.precompute(model, images, labels)
    connection = duckdb.connect()
    connection.execute("CREATE TABLE scans (image DOUBLE[64])")
    rows = [[row.tolist()] for row in pixels[1200:] / 16]
    connection.executemany("INSERT INTO scans VALUES (?)", rows)
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    query = "SELECT count(*) AS n FROM scans WHERE predict(image) = 1"
    complaint = database.sql(query).complain("n", should="increase")
    return complaint, fit, np.isin(np.arange(1200), flipped)


def test_refining_corrects_effects_and_leaves_the_order_of_suspects(example):
    """The numbers of the README's limits: what the index misjudges, and who would rank worse."""
    complaint, fit, corrupted = example
    ranking = complaint.rank()
    row = ranking.best(1)[0].row
    true = retrained_change(complaint, fit, row)
    rough, found = ranking.effects[row], auc_r(ranking.row_scores(), corrupted)
    assert ranking.coverage > 0.98
    ranking.refine(4)
    refined, kept = ranking.effects[row], auc_r(ranking.row_scores(), corrupted)
    assert rough > 2.5 * true
    assert refined == pytest.approx(true, rel=0.1)
    assert kept == found
    by_effect = Ranking(ranking.interventions, ranking.effects, ranking.plausibility)
    assert auc_r(by_effect.row_scores(), corrupted) < found - 0.05
