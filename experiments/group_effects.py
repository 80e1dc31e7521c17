"""What a group of training rows does together: predicted, and after training again.

Two convex models with planted label errors: MNIST with 30 % of the 1s labelled 7 (10 000 rows,
complaints Q3 and Q1) and ADULT with half of the low earners among private-sector men labelled high
(32 561 rows, complaint Q4). Groups of 1 to 10 % of the rows: those at the top of the ranking, with
their deletion or new label, and rows drawn at random, deleted. Each is applied, the model trained
again, and the change of the relaxed cell compared with the sum of single effects and with
`ranking.group_effect`, which takes Newton steps of the edited objective.

    python -m experiments.group_effects [--rows 10000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import rainpp
from experiments import adult, data, mnist_flips, models, results, train
from experiments.corrupt import flip_classes, flip_private_men
from rainpp.backing import RetrainableBacking
from rainpp.group_effect import predict_group
from rainpp.intervention.applying import apply_interventions

SHARES = (0.01, 0.02, 0.05, 0.1)
# ‖∇J‖ of the models compared; a hundredth of what `train` asks for otherwise.
TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Case:
    """A ranking for one complaint, and the training that made its model."""

    name: str
    ranking: rainpp.Ranking
    backing: RetrainableBacking
    fit: Callable[[Any, Any], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000, help="Training rows of MNIST.")
    rows = parser.parse_args().rows
    runs = [record for case in (*mnist(rows), *people()) for record in measure(case)]
    settings = {"shares": SHARES, "l2": train.L2, "tolerance": TOLERANCE, "seeds": [0]}
    command = "python -m experiments.group_effects"
    print(results.save("group_effects", command=command, settings=settings, runs=runs))


def mnist(rows: int) -> Iterator[Case]:
    """Logistic regression on digits, asked for the count of 1s and for the join."""
    digits = data.mnist()
    chosen = np.sort(np.random.default_rng(0).permutation(60_000)[:rows])
    inputs, clean = digits.train_inputs[chosen], digits.train_labels[chosen]
    planted = flip_classes(clean, [(1, 7)], rate=0.3, seed=0)
    network = models.softmax_regression()
    fit = _fit(network.apply, "cross_entropy", network.init(jax.random.key(0)))
    model = rainpp.Model(network.apply, fit(inputs, planted.labels), l2=train.L2)
    index = rainpp.precompute(model, inputs, planted.labels)
    database = mnist_flips.open_database(digits, model, index)
    for query, sql in mnist_flips.QUERIES.items():
        complaint = database.sql(sql).complain("n", should=mnist_flips.SHOULD[query])
        yield _case(f"MNIST {query}", complaint, _fit(network.apply, "cross_entropy", model.params))


def people() -> Iterator[Case]:
    """Logistic regression on people, asked for the share of high earners."""
    rows = data.adult()
    planted = flip_private_men(rows, rate=0.5, seed=0)
    network = models.binary_regression(num_inputs=rows.train_inputs.shape[1])
    fit = _fit(network.apply, "binary_cross_entropy", network.init(jax.random.key(0)))
    model = rainpp.Model(
        network.apply,
        fit(rows.train_inputs, planted.labels),
        loss="binary_cross_entropy",
        l2=train.L2,
    )
    index = rainpp.precompute(model, rows.train_inputs, planted.labels)
    database = adult.open_database(rows, model, index)
    complaint = database.sql(adult.QUERIES["Q4"]).complain("share", should="decrease")
    yield _case("ADULT Q4", complaint, _fit(network.apply, "binary_cross_entropy", model.params))


def _fit(apply: Any, loss: str, start: Any) -> Callable[[Any, Any], Any]:
    def fit(inputs: Any, labels: Any) -> Any:
        params, _ = train.fit_convex(
            apply, start, inputs, labels, loss=loss, tolerance=TOLERANCE, max_steps=20_000
        )
        return params

    return fit


def _case(name: str, complaint: Any, fit: Callable[[Any, Any], Any]) -> Case:
    ranking = complaint.rank()
    assert isinstance(ranking.backing, RetrainableBacking)
    return Case(name, ranking, ranking.backing, fit)


def measure(case: Case) -> Iterator[dict[str, Any]]:
    """Every group of one complaint; refined effects once, for the groups from the top."""
    table = case.ranking.interventions
    generator = np.random.default_rng(0)
    groups: list[tuple[str, float, np.ndarray]] = []
    for share in SHARES:
        count = round(share * table.num_rows)
        groups.append(("top", share, case.ranking.positions(count)))
        drawn = np.sort(generator.choice(table.num_rows, count, replace=False))
        groups.append(("random", share, drawn))
    unrefined = case.ranking.effects.copy()
    case.ranking.refine(8)
    for kind, share, positions in groups:
        began = time.perf_counter()
        found, _ = predict_group(
            case.backing, positions, singles=_sum(unrefined, positions), newton_steps=None
        )
        predicted = time.perf_counter() - began
        began = time.perf_counter()
        actual = _retrained(case, positions)
        record = {
            "case": case.name,
            "group": kind,
            "share": share,
            "rows": int(positions.size),
            "retrained": actual,
            "singles": _sum(unrefined, positions),
            "refined_singles": _sum(case.ranking.effects, positions),
            "together": found.effect,
            "low": found.low,
            "high": found.high,
            "newton_steps": found.newton_steps,
            "converged": found.converged,
            "seconds": round(predicted, 2),
            "retraining_seconds": round(time.perf_counter() - began, 2),
        }
        print(record, flush=True)
        yield record


def _sum(effects: np.ndarray, positions: np.ndarray) -> float:
    return float(effects[positions].astype(np.float64).sum())


def _retrained(case: Case, positions: np.ndarray) -> float:
    """Improvement of the complaint by the model trained on the edited rows."""
    table, model = case.ranking.interventions, case.backing.model
    edited = apply_interventions(case.backing.training, [table[int(p)] for p in positions])
    again = model.with_params(case.fit(edited.inputs, edited.labels))
    return case.backing.improvement(again) - case.backing.improvement(model)


if __name__ == "__main__":
    main()
