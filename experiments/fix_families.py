"""Which kind of change resolves a complaint: corrupted inputs, deletion against repairs (Fig. 15).

A share of the rows of one class has its inputs corrupted, training rows only; the complaint is that
the count of that class among the test rows should be that of a model trained on the clean rows.
AUC_R of every family's own scores, and what `ranking.families` says of the families, without being
told which is right.

salt      MNIST: 30 % of the pixels of the 1s are black or white. Right: the median filter.
unit      ADULT: the hours per week of high earners are hours per day. Right: times five.
missing   ADULT: the years of education of high earners are missing, written as 0. Right: imputing.
spelling  SST-2 as counts of words: words of praise in positive sentences have a typing error.
          Right: respelling.
labels    MNIST: 1s are labelled 7, their inputs are as they were. Right: other labels.

    python -m experiments.fix_families [--cases salt unit] [--rates 0.7 0.8 0.9 1.0] [--seeds 0 1 2]

`labels` has a rate of 0.3. Cases that are not named keep the results they have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import jax
import numpy as np
import pyarrow as pa

import rainpp
from experiments import data, models, results, train
from experiments.cases import word_counts
from rainpp.intervention import images, tables, text

NAME = "fix_families"
PIXELS, SHAPE = 0.3, (28, 28)
DIGITS, SENTENCES, WORDS, PRAISE = 10_000, 8_000, 500, 60
# Columns of ADULT that stay as people write them.
YEARS, HOURS = (
    data.ADULT_FEATURES.index("education_num"),
    data.ADULT_FEATURES.index("hours_per_week"),
)
NUMBERS = ("together", "share", "credible", "control")
QUERY = "SELECT count(*) AS n FROM rows WHERE predict(features) = 1"


@dataclass(frozen=True, eq=False)
class Study:
    """Clean rows of which those labelled 1 can be corrupted, and repairs.

    Attributes
    ----------
    damage : (inputs of some rows, generator) -> the same, corrupted; None: they are labelled 7.
    right : the family that undoes it.
    can : (n,) rows that can be corrupted.
    """

    network: models.Architecture
    inputs: np.ndarray
    labels: np.ndarray
    inference: np.ndarray
    damage: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None
    repairs: list[rainpp.Replace]
    right: str
    can: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.7, 0.8, 0.9, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    for case in asked.cases:
        rates = [0.3] if case == "labels" else asked.rates
        runs = [run for rate in rates for seed in asked.seeds for run in measure(case, rate, seed)]
        save(case, runs, asked.seeds)


def save(case: str, runs: list[dict[str, Any]], seeds: list[int]) -> None:
    """Put the records of one case in the place of those it had."""
    path = results.FOLDER / f"{NAME}.json"
    before = results.load(NAME)["runs"] if path.exists() else []
    others = [run for run in before if run["case"] != case]
    settings = {"rows": DIGITS, "seeds": seeds, "pixels": PIXELS, "l2": train.L2}
    command = "python -m experiments.fix_families"
    print(results.save(NAME, command=command, settings=settings, runs=[*others, *runs]))


def measure(case: str, rate: float, seed: int) -> list[dict[str, Any]]:
    """A record for every family."""
    study = CASES[case](seed)
    generator = np.random.default_rng(seed)
    rows = np.flatnonzero(study.can & (study.labels == 1))
    rows = np.sort(generator.choice(rows, round(rate * rows.size), replace=False))
    inputs, labels = study.inputs.copy(), study.labels.copy()
    if study.damage is None:
        labels[rows] = 7
    else:
        inputs[rows] = study.damage(inputs[rows], generator)
    corrupted = np.isin(np.arange(len(inputs)), rows)
    clean = _fit(study, study.inputs, study.labels)
    wanted = float((clean.probabilities(study.inference).argmax(1) == 1).sum())
    model = _fit(study, inputs, labels)
    kinds = [rainpp.Delete(), rainpp.Relabel(), *study.repairs]
    index = rainpp.precompute(model, inputs, labels, interventions=kinds)
    answer = _open(study.inference, model, index).sql(QUERY)
    ranking = answer.complain("n", should="equal", target=wanted).rank()
    compared = ranking.families(rows.size).to_dict(orient="records")
    about = {
        "case": case,
        "rate": rate,
        "seed": seed,
        "right": study.right,
        "count": ranking.complaints[0].hard,
        "clean_count": wanted,
        "corrupted": int(rows.size),
        "k": index.k,
    }
    found = [
        about
        | {
            "family": each["family"],
            "place": place,
            "auc_r": round(_auc_r(ranking, str(each["family"]), corrupted), 4),
            **{name: round(float(each[name]), 3) for name in NUMBERS},
        }
        for place, each in enumerate(compared, start=1)
    ]
    print(*found, sep="\n", flush=True)
    return found


def _auc_r(ranking: rainpp.Ranking, family: str, corrupted: np.ndarray) -> float:
    scores = ranking.scores[ranking.interventions.of(family)]
    return rainpp.metrics.auc_r(scores.reshape(corrupted.size, -1).max(axis=1), corrupted)


def _fit(study: Study, inputs: np.ndarray, labels: np.ndarray) -> rainpp.Model:
    network = study.network
    start = network.init(jax.random.key(0))
    params, _ = train.fit_convex(network.apply, start, inputs, labels, loss=network.loss)
    return rainpp.Model(network.apply, params, loss=network.loss, l2=train.L2)


def _open(inputs: np.ndarray, model: rainpp.Model, index: rainpp.Index) -> rainpp.Database:
    features = pa.FixedSizeListArray.from_arrays(pa.array(inputs.ravel()), inputs.shape[1])
    connection = duckdb.connect()
    connection.register("given", pa.table({"features": features}))
    connection.execute("CREATE TABLE rows AS SELECT * FROM given")
    connection.unregister("given")
    database = rainpp.connect(connection)
    database.register_model("predict", model, index)
    database.materialize("predict", table="rows", args=["features"])
    return database


def salt(seed: int) -> Study:
    """MNIST, some rows."""
    digits = data.mnist()
    chosen = np.sort(np.random.default_rng(seed).permutation(60_000)[:DIGITS])
    return Study(
        models.softmax_regression(),
        digits.train_inputs[chosen],
        digits.train_labels[chosen],
        digits.test_inputs,
        salt_and_pepper,
        [
            images.median_filter(shape=SHAPE),
            images.gaussian_filter(sigma=1.0, shape=SHAPE),
            images.unsharp_mask(shape=SHAPE),
        ],
        "median filter",
        np.ones(DIGITS, bool),
    )


def labels(seed: int) -> Study:
    """MNIST as it is, to be labelled wrong."""
    return replace(salt(seed), damage=None, right="relabel")


def salt_and_pepper(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Images with a share of their pixels black or white."""
    found = pixels.copy()
    where = generator.random(pixels.shape) < PIXELS
    found[where] = generator.integers(0, 2, int(where.sum())).astype(pixels.dtype)
    return found


def unit(seed: int) -> Study:
    """ADULT; hours per day instead of per week."""
    del seed
    return _people(HOURS, lambda hours: hours / 5, right=0)


def missing(seed: int) -> Study:
    """ADULT; years of education that are not known."""
    del seed
    return _people(YEARS, np.zeros_like, right=1)


def _people(column: int, damage: Callable[[np.ndarray], np.ndarray], *, right: int) -> Study:
    people = data.adult()
    given = [
        _as_written(inputs, frame)
        for inputs, frame in (
            (people.train_inputs, people.train_frame),
            (people.test_inputs, people.test_frame),
        )
    ]
    mean, deviation = (np.zeros(given[0].shape[1]), np.ones(given[0].shape[1]))
    for known in (YEARS, HOURS):
        mean[known], deviation[known] = given[0][:, known].mean(), given[0][:, known].std()
    centre, scale = mean.astype(np.float32), deviation.astype(np.float32)
    plain = models.binary_regression(num_inputs=given[0].shape[1])

    def apply(params: Any, inputs: Any) -> Any:
        return plain.apply(params, (inputs - centre) / scale)

    def damaged(inputs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        del generator
        found = inputs.copy()
        found[:, column] = damage(found[:, column])
        return found

    repairs = [
        tables.rescale([HOURS], 5, outside=(20, 1e9), name="hours times 5"),
        tables.impute(given[0], [YEARS], missing=0, name="impute years"),
    ]
    return Study(
        models.Architecture(plain.init, apply, plain.loss),
        given[0],
        people.train_labels,
        given[1],
        damaged,
        repairs,
        repairs[right].name,
        np.ones(len(given[0]), bool),
    )


def _as_written(inputs: np.ndarray, frame: Any) -> np.ndarray:
    """The inputs with years and hours as numbers of years and hours."""
    found = inputs.copy()
    found[:, YEARS], found[:, HOURS] = frame["education_num"], frame["hours_per_week"]
    return found


def spelling(seed: int) -> Study:
    """SST-2 as counts of words; every word of praise has a misspelt form."""
    counts, labels, inference, words = word_counts(SENTENCES, WORDS, seed=seed)
    praise = _praise(counts, labels, words)
    wrong = [f"{words[place]}{words[place][-1]}x" for place in praise]
    names = [*words, *wrong]
    wide = np.zeros((len(counts), len(wrong)), np.float32)
    inputs = np.hstack([counts, wide])
    unseen = np.hstack([inference, np.zeros((len(inference), len(wrong)), np.float32)])

    def typed(rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        del generator
        found = rows.copy()
        found[:, WORDS:] = rows[:, praise]
        found[:, praise] = 0
        return found

    swap = {int(place): (int(place) + 1) % WORDS for place in praise}
    return Study(
        models.binary_regression(num_inputs=len(names)),
        inputs,
        labels,
        unseen,
        typed,
        [
            text.respell(names, words, cutoff=0.7, counts=True),
            text.substitute(swap, counts=True, name="neighbours"),
        ],
        "spelling",
        counts[:, praise].sum(axis=1) > 0,
    )


def _praise(counts: np.ndarray, labels: np.ndarray, words: list[str]) -> np.ndarray:
    """Words that positive sentences have more often than others, the most telling first."""
    share = [(counts[labels == label] > 0).mean(axis=0) for label in (0, 1)]
    order = np.argsort(share[0] - share[1], kind="stable")
    return np.array([place for place in order if len(words[place]) > 3][:PRAISE])


CASES: dict[str, Callable[[int], Study]] = {
    "salt": salt,
    "unit": unit,
    "missing": missing,
    "spelling": spelling,
    "labels": labels,
}


if __name__ == "__main__":
    main()
