"""Digits whose 1s are half labelled 7, a quickly trained model of them, and monitors of both."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.linear_model import LogisticRegression

import rainpp
from rainpp.demo.digits import load_images, plant_errors
from rainpp.windows import Tumbling

_QUERY = (
    "SELECT source, count(*) AS {name} FROM scans WHERE predict(image) = {digit} GROUP BY source"
)
L2 = 1e-2


@cache
def planted():
    """The digits of the demo."""
    return plant_errors(*load_images(), seed=0)


def apply(weights, inputs):
    """Logits."""
    return inputs @ weights


@cache
def trained():
    """A model and its index."""
    data = planted()
    solver = LogisticRegression(C=1 / (L2 * len(data.labels)), fit_intercept=False, tol=1e-8)
    fitted = solver.fit(data.inputs.astype(np.float64), data.labels)
    weights = np.ascontiguousarray(fitted.coef_.T, np.float32)
    model = rainpp.Model(apply, weights, loss="cross_entropy", l2=L2)
    kinds = [rainpp.Delete(), rainpp.Relabel()]
    return model, rainpp.precompute(model, data.inputs, data.labels, k=12, interventions=kinds)


def watched_digits():
    """Monitors of the 1s and the 7s of each minute and scanner; one of them has an alarm."""
    model, index = trained()
    found = [
        rainpp.monitor(
            name,
            _QUERY.format(name=name, digit=digit),
            model=model,
            index=index,
            time="at",
            id="id",
            window=Tumbling("1m"),
            keep="inputs",
            ahead="5200w",
        )
        for name, digit in (("ones", 1), ("sevens", 7))
    ]
    found[0].alert("too few 1s", "ones < 14", target=16)
    return found
