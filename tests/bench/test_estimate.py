"""Predicted against actual time of an index; the ratio is printed.

python -m pytest -m bench -s tests/bench/test_estimate.py
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.bench

SETUP = {
    "demo": """
from rainpp.demo.digits import load_images, plant_errors
from rainpp.demo.training import L2, apply, make_fit
data = plant_errors(*load_images(), seed=0)
model = rainpp.Model(apply, make_fit()(data.inputs, data.labels), l2=L2)
inputs, labels = data.inputs, data.labels
""",
    "mnist": """
from experiments import data, train
from experiments.mnist_flips import Case, fit
digits = data.mnist()
inputs, labels = digits.train_inputs, digits.train_labels
model = fit(Case("logistic", 0.0, 0, 60_000), inputs, labels)[0]
""",
}
# The estimate is made after the model was trained and before anything of rainpp was compiled, as
# in `rainpp precompute --dry-run`; building in the same process would find kernels compiled.
TIMED = """
import json, sys, time, tempfile, rainpp
{setup}
if {dry}:
    began = time.perf_counter()
    found = rainpp.estimate(model, inputs, labels).as_dict()
    print(json.dumps({{**found, "took": time.perf_counter() - began}}))
else:
    began = time.perf_counter()
    index = rainpp.precompute(model, inputs, labels, path=tempfile.mkdtemp() + "/x.rain")
    took = time.perf_counter() - began
    print(json.dumps({{"seconds": took, "k": index.k}}))
"""


def timed(name, *, dry):
    code = TIMED.format(setup=SETUP[name], dry=dry)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SETUP)
def test_predicted_time_is_near_the_actual_one(name, capsys):
    predicted, actual = timed(name, dry=True), timed(name, dry=False)
    ratio = predicted["seconds"] / actual["seconds"]
    with capsys.disabled():
        line = f"{name}: predicted {predicted['seconds']:.1f} s, actual {actual['seconds']:.1f} s"
        print(f"\n{line}, ratio {ratio:.2f}; the dry run took {predicted['took']:.1f} s")  # noqa: T201
    assert 1 / 3 <= ratio <= 3
