"""Trained models with planted label errors and complaints about them, without SQL.

A complaint is the gradient of its query with respect to the inference probabilities, signed so that
a larger value is better: what `experiments.mnist_flips` and `experiments.adult` get from DuckDB.
Here it is written out, so that studies of the offline stage need nothing else.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import rainpp
from experiments import data, models, train
from experiments.corrupt import Corruption, flip_classes, flip_private_men
from rainpp.errors import DataError, one_line
from rainpp.lanczos.projection import gradient_of_probabilities
from rainpp.training_set import TrainingSet

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """A model, the rows it was trained on, which of them are wrong, and complaints.

    Attributes
    ----------
    inference : rows that the queries read.
    complaints : ∂q/∂P (V, R) by query.
    batch : rows at a time that suit the model.
    """

    name: str
    model: rainpp.Model
    training: TrainingSet
    corrupted: NDArray[np.bool_]
    inference: Any
    complaints: dict[str, Floats]
    batch: int = 1024

    @property
    def num_classes(self) -> int:
        """R."""
        return self.model.criterion.num_classes(self.model.output_width(self.inference))

    def gradients(self) -> dict[str, Any]:
        """∇q (d,) by query."""
        return {
            query: gradient_of_probabilities(
                self.model, self.inference, weights, batch_size=2 * self.batch
            )
            for query, weights in self.complaints.items()
        }


def mnist_case(kind: str, rate: float, *, rows: int, seed: int = 0) -> Case:
    """MNIST with the share `rate` of the 1s labelled 7; Q3 and Q1 of the paper.

    Parameters
    ----------
    kind : "logistic" or "mlp".
    """
    digits = data.mnist()
    chosen = np.sort(np.random.default_rng(seed).permutation(60_000)[:rows])
    inputs = digits.train_inputs[chosen]
    planted = flip_classes(digits.train_labels[chosen], [(1, 7)], rate=rate, seed=seed)
    model = fit_digits(kind, inputs, planted.labels, seed=seed)
    probabilities = model.probabilities(digits.test_inputs)
    complaints = {
        "Q3": count_of(1, probabilities.shape),
        "Q1": join_of(probabilities, digits.test_labels < 5),
    }
    name = f"MNIST {kind} {rate:.0%}"
    return _case(name, model, (inputs, planted), digits.test_inputs, complaints)


def fit_digits(
    kind: str, inputs: data.Floats, labels: data.Labels, *, seed: int = 0
) -> rainpp.Model:
    """A softmax regression at its optimum, or an MLP of 0.27M parameters near one."""
    key = jax.random.key(seed)
    if kind == "logistic":
        network = models.softmax_regression()
        params, _ = train.fit_convex(network.apply, network.init(key), inputs, labels)
    else:
        network = models.mlp()
        params, _ = train.fit_sgd(
            network.apply, network.init(key), inputs, labels, epochs=30, seed=seed
        )
    return rainpp.Model(network.apply, params, loss=network.loss, l2=train.L2)


def adult_case(rate: float, *, seed: int = 0) -> Case:
    """ADULT with low earners among private-sector men labelled high; Q4 to Q7 of the paper."""
    people = data.adult()
    planted = flip_private_men(people, rate=rate, seed=seed)
    network = models.binary_regression(num_inputs=people.train_inputs.shape[1])
    model = _fit_binary(network, people.train_inputs, planted.labels)
    private = (people.test_frame["workclass"] == "Private").to_numpy()
    men = (people.test_frame["sex"] == "Male").to_numpy()
    everybody = np.ones_like(men)
    groups = {"Q4": private & men, "Q5": private, "Q6": men, "Q7": everybody}
    complaints = {query: -share_of(1, rows) for query, rows in groups.items()}
    planted_rows = (people.train_inputs, planted)
    return _case(f"ADULT {rate:.0%}", model, planted_rows, people.test_inputs, complaints)


def sst2_case(*, rows: int = 8000, words: int = 500, rate: float = 0.5, seed: int = 0) -> Case:
    """SST-2 as counts of words: positive phrases about a film are labelled negative.

    The complaints: too few positive sentences among those about a film, and among all.
    """
    rng = np.random.default_rng(seed)
    training, tested = sentences()
    training = training.sample(rows, random_state=seed)
    names = _frequent(training["sentence"].tolist(), words)
    inputs, inference = (_counts(frame["sentence"].tolist(), names) for frame in (training, tested))
    labels = training["label"].to_numpy(np.int32)
    wrong = np.flatnonzero(_about_film(training) & (labels == 1))
    wrong = rng.permutation(wrong)[: round(rate * wrong.size)]
    corrupted = np.isin(np.arange(rows), wrong)
    planted = Corruption(np.where(corrupted, 0, labels).astype(np.int32), corrupted)
    model = _fit_binary(models.binary_regression(num_inputs=words), inputs, planted.labels)
    film = _about_film(tested)
    complaints = {"film": share_of(1, film), "all": share_of(1, np.ones_like(film))}
    return _case(f"SST-2 {rate:.0%}", model, (inputs, planted), inference, complaints)


def word_counts(
    rows: int, words: int, *, seed: int
) -> tuple[data.Floats, data.Labels, data.Floats, list[str]]:
    """Counts of frequent words in some of SST-2, labels, those of the other part, and the words."""
    training, tested = sentences()
    training = training.sample(rows, random_state=seed)
    names = _frequent(training["sentence"].tolist(), words)
    inputs, inference = (_counts(frame["sentence"].tolist(), names) for frame in (training, tested))
    return inputs, training["label"].to_numpy(np.int32), inference, list(names)


def count_of(label: int, shape: tuple[int, ...]) -> Floats:
    """∂q/∂P of the number of rows predicted as `label`, which is too low."""
    weights = np.zeros(shape)
    weights[:, label] = 1.0
    return weights


def join_of(probabilities: NDArray[Any], left: NDArray[np.bool_]) -> Floats:
    """∂q/∂P of the pairs of a row in `left` and one outside with equal predictions: too many."""
    others = np.where(left[:, None], probabilities[~left].sum(0), probabilities[left].sum(0))
    return -others.astype(np.float64)


def share_of(label: int, rows: NDArray[np.bool_], width: int = 2) -> Floats:
    """∂q/∂P of the share of `rows` predicted as `label`."""
    weights = np.zeros((rows.size, width))
    weights[rows, label] = 1 / rows.sum()
    return weights


def _fit_binary(
    network: models.Architecture, inputs: data.Floats, labels: data.Labels
) -> rainpp.Model:
    start = network.init(jax.random.key(0))
    params, _ = train.fit_convex(network.apply, start, inputs, labels, loss=network.loss)
    return rainpp.Model(network.apply, params, loss=network.loss, l2=train.L2)


def _case(
    name: str,
    model: rainpp.Model,
    planted: tuple[data.Floats, Corruption],
    inference: data.Floats,
    complaints: dict[str, Floats],
) -> Case:
    inputs, errors = planted
    training = TrainingSet.checked(model, inputs, errors.labels)
    return Case(name, model, training, errors.corrupted, inference, complaints)


def sentences() -> tuple[pd.DataFrame, pd.DataFrame]:
    """SST-2's training and development rows, `label` and `sentence` each.

    Raises
    ------
    DataError : `sst2_train.tsv` or `sst2_dev.tsv` is missing in the data folder, or damaged.
    """
    train, dev = (_sentences(f"sst2_{part}.tsv") for part in ("train", "dev"))
    return train, dev


def _sentences(name: str) -> pd.DataFrame:
    path = data.data_folder() / name
    if not path.exists():
        raise DataError(
            f"no {name} in {path.parent}. Get SST-2 of https://gluebenchmark.com/tasks as tables "
            "of a label and a sentence with a header line, put them there, or name another folder "
            "in the environment variable RAINPP_DATA."
        )
    try:
        frame = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, na_filter=False)
    except (ValueError, OSError) as problem:
        why = one_line(problem)
        raise DataError(f"{path} is not a table of a label and a text: {why}.") from problem
    if "label" not in frame or frame.shape[1] != 2 or frame.empty:
        raise DataError(
            f"{path} has the columns {list(frame)} and {len(frame)} rows; `label` and a text are "
            "needed."
        )
    text = frame.columns.drop("label")[0]  # the dev file calls it "content"
    known = frame["label"].astype(str).isin(["0", "1"]).to_numpy(bool)
    wrong = np.flatnonzero(~known | (frame[text].to_numpy() == ""))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(
            f"{path} line {row + 2} has the label {str(frame['label'][row])!r} and the text "
            f"{str(frame[text][row])!r}; 0 or 1 and a sentence are needed."
        )
    return pd.DataFrame({"label": frame["label"].astype(int), "sentence": frame[text]})


def _about_film(frame: pd.DataFrame) -> NDArray[np.bool_]:
    return frame["sentence"].str.contains(r"\b(?:film|movie)s?\b").to_numpy(bool)


def _frequent(sentences: list[str], count: int) -> dict[str, int]:
    found = Counter(word for sentence in sentences for word in _words(sentence))
    return {word: place for place, (word, _) in enumerate(found.most_common(count))}


def _counts(sentences: list[str], names: dict[str, int]) -> data.Floats:
    table = np.zeros((len(sentences), len(names)), np.float32)
    for row, sentence in enumerate(sentences):
        for word in _words(sentence):
            if word in names:
                table[row, names[word]] += 1
    return table


def _words(sentence: str) -> list[str]:
    return re.findall(r"[a-z']+", sentence.lower())
