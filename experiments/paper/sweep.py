"""AUC_R of every complaint about every cell, by eigenpairs kept and by conjugate-gradient steps.

What Figures 2 to 5, 12, 13 and 15 and Table 5 are drawn from. Every cell is saved once it is done,
so that a run that was interrupted goes on where it was.

    python -m experiments.paper.sweep [--size small|full] [--only mnist cnn] [--again]
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import asdict, dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from experiments import commands, results
from experiments.paper.blemishes import denoised
from experiments.paper.cells import SIZES, Cell, Size, named
from experiments.paper.kept import keep_programs
from experiments.paper.queries import Answers, Query, queries, swept
from experiments.paper.tasks import Task, task
from rainpp.errors import DataError
from rainpp.lanczos.choose_k import choose_k, is_determined
from rainpp.lanczos.conjugate_gradient import iterate
from rainpp.lanczos.curvature import Curvature
from rainpp.lanczos.eigenpairs import Eigenpairs, find_eigenpairs
from rainpp.lanczos.projection import gradient_of_probabilities, project_inference, project_training
from rainpp.lanczos.sample import Strata
from rainpp.metrics import auc_r
from rainpp.training_set import TrainingSet

Floats = NDArray[np.float64]
Record = dict[str, Any]
_JOINS = 20


@dataclass(frozen=True)
class Effort:
    """How far curves go.

    Attributes
    ----------
    most : the largest k.
    steps : of conjugate gradients.
    rows : whose curvature is used, by both; None is all of them.
    """

    most: int = 30
    steps: int = 20
    rows: int | None = 4096


_SMALL = {
    "cnn": Effort(most=20, steps=10, rows=1024),
    "lstm": Effort(most=20, steps=10, rows=1024),
    "wrn10": Effort(most=24, steps=5, rows=512),
}


def effort(cell: Cell) -> Effort:
    """How far the curves of a cell go."""
    if cell.network == "logistic":
        return Effort(rows=None)
    if cell.size == "full":
        return Effort(most=40, steps=30, rows=10_000)
    return _SMALL.get(cell.network, Effort())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        help="words of the names of cells; with cnn or wrn10 also those that take long",
    )
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    asked = parser.parse_args()
    wanted = named(asked.size, asked.only)
    known = results.known(f"paper_{asked.size}", "cell")
    saved = sum(cell.name in known for cell in wanted)
    if saved and not asked.again:
        print(
            f"{saved} of {len(wanted)} cells saved before; `--again` measures them too", flush=True
        )
    measure_all(wanted, asked.size, again=asked.again)


def measure_all(wanted: list[Cell], size: Size, *, again: bool = False) -> list[Record]:
    """Records of cells, measured where they are not saved yet; with `again`, all of them.

    Records of other cells stay. Cells whose data are not there are left out, and said to be.
    """
    results.check_place()
    name = f"paper_{size}"
    for cell in wanted:
        if not again and cell.name in results.known(name, "cell"):
            continue
        try:
            record = measure(cell)
        except DataError as problem:
            print(f"{cell.name}: left out, {problem}", flush=True)
            continue
        print(record["summary"], flush=True)
        with results.joined(name, record, by="cell") as runs:
            _save(size, runs)
    known = results.known(name, "cell")
    return [known[cell.name] for cell in wanted if cell.name in known]


def _save(size: Size, runs: list[Record]) -> None:
    command = f"python -m experiments.paper.sweep --size {size}"
    settings = {"size": size, "seeds": sorted({run["seed"] for run in runs})}
    results.save(f"paper_{size}", command=command, settings=settings, runs=runs)


def measure(cell: Cell) -> Record:
    """Everything the figures need of one cell."""
    began = time.perf_counter()
    made, far = task(cell), effort(cell)
    trained = time.perf_counter() - began
    answers = answers_of(made)
    asked = queries(cell, made.pool, answers)
    curvature = curvature_of(made, far)
    pairs = pairs_of(made, curvature, far)
    gradients = [gradient_of(made, query.weights) for query in asked]
    solutions = [solutions_by_step(curvature, gradient, far.steps) for gradient in gradients]
    # One pass over the training rows for all of them.
    stops = np.cumsum([len(part) for part in (pairs.vectors, *solutions)])
    together = projected(made, made.training, np.concatenate([pairs.vectors, *solutions]))
    along_rows, *along_steps = np.split(together, stops[:-1], axis=1)
    repair = _repaired(made, pairs.vectors, along_rows)
    found = []
    for query, gradient, steps in zip(asked, gradients, along_steps, strict=True):
        along = pairs.vectors.astype(np.float64) @ gradient
        curve = by_k(along_rows, along, pairs, made.corrupted)
        rain = [_auc_r(row, made.corrupted) for row in steps.T]
        entry = _about(query) | {"k": curve, "steps": rain}
        if repair is not None:
            entry["denoised"] = by_k(along_rows - repair, along, pairs, made.corrupted)
        found.append(entry)
    record: Record = asdict(cell) | {
        "cell": cell.name,
        "parameters": made.model.num_params,
        "train_rows": made.training.num_rows,
        "inference_rows": len(answers.truth),
        "corrupted_rows": int(made.corrupted.sum()),
        "curvature_rows": far.rows or made.training.num_rows,
        "form": made.pool.form,
        "accuracy": round(float((answers.predicted == answers.truth).mean()), 4),
        "accuracy_clean": round(float((answers.clean == answers.truth).mean()), 4),
        "eigenvalues": [float(f"{value:.4g}") for value in pairs.values],
        "chosen_k": chosen_k(made, pairs),
        "queries": found,
        "complaints": _complaints(made, answers, pairs, along_rows),
        "train_seconds": round(trained, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }
    return record | {"summary": _summary(record)}


def answers_of(made: Task) -> Answers:
    """Probabilities and classes of the inference rows."""
    found, clean = (
        np.asarray(model.probabilities(made.pool.inference, batch_size=2 * made.batch), np.float64)
        for model in (made.model, made.clean)
    )
    return Answers(found, clean, made.pool.truth.astype(np.int64))


def curvature_of(made: Task, far: Effort) -> Curvature:
    """Of all training rows, or of a sample with the same classes."""
    sample = None
    if far.rows is not None and far.rows < made.training.num_rows:
        strata = Strata(made.training.labels, seed=0)
        sample = strata.half(far.rows // 2, 0).joined(strata.half(far.rows // 2, 1))
    return Curvature.of(made.model, made.training, sample=sample, batch_size=made.batch)


def pairs_of(made: Task, curvature: Curvature, far: Effort) -> Eigenpairs:
    """As many as the curves need."""
    most = min(far.most, made.model.num_params)
    return find_eigenpairs(curvature, most, num_classes=_classes(made), tolerance=1e-3)


def _classes(made: Task) -> int:
    return int(made.pool.labels.max()) + 1


def chosen_k(made: Task, pairs: Eigenpairs) -> int:
    """What the library takes."""
    many = is_determined(made.training.num_rows, made.model.num_params)
    return choose_k(pairs.values, _classes(made), many=many) or len(pairs.values)


def projected(made: Task, training: TrainingSet, vectors: Any) -> Floats:
    """⟨∇ℓ(z), v⟩ (n, k)."""
    found = project_training(made.model, training, vectors, batch_size=made.batch)
    return found.gradients.astype(np.float64)


def _repaired(made: Task, vectors: Any, before: Floats) -> Floats | None:
    """⟨∇ℓ(z'), v⟩ (n, k) of images that were filtered; None where there is no salt and pepper."""
    if not made.cell.corruption.startswith("salt"):
        return None
    assert made.images is not None
    inputs = made.pool.of_images(denoised(made.images))
    found = projected(made, TrainingSet.checked(made.model, inputs, made.training.labels), vectors)
    assert found.shape == before.shape
    return found


def gradient_of(made: Task, weights: Floats) -> Floats:
    """∇q (d,) for ∂q/∂P (V, R)."""
    found = gradient_of_probabilities(
        made.model, made.pool.inference, weights, batch_size=2 * made.batch
    )
    return np.asarray(found, np.float64)


def by_k(
    rows: Floats, along: Floats, pairs: Eigenpairs, corrupted: NDArray[np.bool_]
) -> list[float]:
    """AUC_R with 1, 2, ... eigenpairs."""
    scores = np.cumsum(rows * (along / pairs.values), axis=1).T
    return [_auc_r(row, corrupted) for row in scores]


def _auc_r(scores: Floats, corrupted: NDArray[np.bool_]) -> float:
    return round(float(auc_r(scores, corrupted)), 4)


def solutions_by_step(curvature: Curvature, gradient: Floats, steps: int) -> Floats:
    """Rain's H⁻¹∇q after 1, 2, ... conjugate-gradient steps (steps, d).

    Fewer where the curvature turns negative, which ends them.
    """
    right = jnp.asarray(gradient, curvature.dtype)
    states = itertools.islice(iterate(curvature.hvp, right), 1, steps + 1)
    found = [np.asarray(state.solution) for state in states]
    return np.stack(found) if found else np.empty((0, curvature.dimension), curvature.dtype)


def _complaints(made: Task, answers: Answers, pairs: Eigenpairs, rows: Floats) -> list[Record]:
    """Figure 13, of label errors: what `fig13.Point` has.

    *Opposite* is the peak of the opposite complaint; the errors' signs tell which of the two asks
    for the clean model's answer.
    """
    if made.cell.corruption != "flip" or made.cell.data not in ("mnist", "cifar10"):
        return []
    tangents = project_inference(
        made.model, made.pool.inference, pairs.vectors, batch_size=2 * made.batch
    )[1]
    found: list[Record] = []
    for query in swept(answers, joins=_JOINS, seed=made.cell.seed):
        along = np.einsum("vr,vrk->k", query.weights, tangents)
        peak, opposite = (max(by_k(rows, s * along, pairs, made.corrupted)) for s in (1, -1))
        found.append(
            {
                "query": query.name,
                "error": round(query.signed_error, 4),
                "relaxed_error": round(query.relaxed_error, 4),
                "peak": peak,
                "opposite": opposite,
            }
        )
    return found


def _about(query: Query) -> Record:
    return {
        "query": query.name,
        "value": round(query.value, 4),
        "correct": round(query.correct, 4),
        "truth": round(query.truth, 4),
    }


def _summary(record: Record) -> str:
    peaks = [
        f"{found['query']} {max(found['k']):.3f} (k={record['chosen_k']}: "
        f"{found['k'][min(record['chosen_k'], len(found['k'])) - 1]:.3f}, "
        f"Rain {max(found['steps'], default=float('nan')):.3f})"
        for found in record["queries"]
    ]
    return f"{record['cell']}: {', '.join(peaks)}; {record['seconds']} s"


if __name__ == "__main__":
    keep_programs()
    commands.run(main)
