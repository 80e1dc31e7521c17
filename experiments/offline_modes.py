"""Gradients on eigenvectors in forward and in reverse mode, side by side.

    python -m experiments.offline modes

Networks with convolutions and without, the same rows, the same random vectors, compiled before.
*Forward*: k tangents share one pass. *Reverse*: gradients of a few rows at a time, multiplied by
the vectors. The first mode is the paper's; `project_training` takes what is faster on a CPU.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

import rainpp
from experiments import commands, models, nets, nets_text, results
from experiments.paper.timing import median_of, rounded
from rainpp.lanczos import projection
from rainpp.training_set import TrainingSet

ROWS = 512
KS = (1, 2, 3, 5, 10, 20, 40)
MODES: tuple[projection.Mode, ...] = ("forward", "reverse")
Floats = np.ndarray


def main() -> None:
    commands.no_options(__doc__)
    runs = [measure(name, *make()) for name, make in NETWORKS.items()]
    command = "python -m experiments.offline modes"
    settings = {"rows": ROWS, "ks": KS, "seeds": [0]}
    print(results.save("offline_modes", command=command, settings=settings, runs=runs))


def measure(name: str, model: rainpp.Model, inputs: Any) -> dict[str, Any]:
    """Milliseconds of both by k, and how far they are apart."""
    labels = np.random.default_rng(0).integers(0, 2, ROWS).astype(np.int32)
    training = TrainingSet.checked(model, inputs, labels)
    found: dict[str, Any] = {"network": name, "parameters": model.num_params}
    found |= {"forward_ms": {}, "reverse_ms": {}, "apart": 0.0}
    for k in KS:
        vectors = jax.random.normal(jax.random.key(k), (k, model.num_params), model.theta.dtype)
        values: list[Floats] = []
        for mode in MODES:
            run = partial(_projected, mode, model, training, vectors)
            values.append(run())
            found[f"{mode}_ms"][str(k)] = rounded(1e3 * median_of(run))
        apart = np.abs(values[0] - values[1]).max() / np.abs(values[0]).max()
        found["apart"] = max(found["apart"], float(f"{apart:.2g}"))
    print(found, flush=True)
    return found


def _projected(
    mode: projection.Mode, model: rainpp.Model, training: TrainingSet, vectors: jax.Array
) -> Floats:
    return projection.project_training(model, training, vectors, mode=mode).gradients


# --- networks at random weights -----------------------------------------------------------------


def _images(side: int, channels: int) -> Floats:
    return np.random.default_rng(1).random((ROWS, side, side, channels)).astype(np.float32)


def _flax(network: nnx.Module) -> rainpp.Model:
    network.eval()
    return rainpp.Model.from_flax(network, loss="cross_entropy")


def _cnn() -> tuple[rainpp.Model, Any]:
    shape = nets.CnnShape(channels=(8, 16), pools=(2, 2), hidden=64)
    return _flax(nets.Cnn(shape, rngs=nnx.Rngs(0))), _images(28, 1)


def _wrn() -> tuple[rainpp.Model, Any]:
    shape = nets.WideResNetShape(nets.PAPER_BLOCKS[10], width=1)
    return _flax(nets.WideResNet(shape, rngs=nnx.Rngs(0))), _images(16, 3)


def _mlp() -> tuple[rainpp.Model, Any]:
    made = models.mlp(num_inputs=784, hidden=(64,))
    return rainpp.Model(made.apply, made.init(jax.random.key(0)), loss=made.loss), (
        _images(28, 1).reshape(ROWS, 784)
    )


def _lstm() -> tuple[rainpp.Model, Any]:
    network = nets_text.LstmClassifier(nets_text.LstmShape(5_000, 32, 32), rngs=nnx.Rngs(0))
    tokens = np.random.default_rng(1).integers(0, 5_000, (ROWS, 16))
    return _flax(network), {"tokens": tokens, "mask": np.ones(tokens.shape, bool)}


NETWORKS = {"CNN": _cnn, "WRN-10, width 1": _wrn, "MLP": _mlp, "LSTM": _lstm}

if __name__ == "__main__":
    main()
