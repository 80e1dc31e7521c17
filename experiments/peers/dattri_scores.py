"""Scores of dattri's influence functions for one complaint; runs in the peers' environment.

python dattri_scores.py CASE.npz OUT.npz METHOD [key=value ...]

CASE.npz, written by `experiments.offline_peers`: training rows and labels, the rows the query
counts, the class it counts, l2, and the layers' weights and biases. OUT.npz: scores (n,), signed so
that deleting a row of positive score raises the count, and seconds. dattri's training loss here is
the mean cross-entropy plus the same l2 term, so that both libraries take the curvature of one
objective.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dattri.algorithm.influence_function import IFAttributorArnoldi, IFAttributorCG
from dattri.task import AttributionTask
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

METHODS = {"arnoldi": IFAttributorArnoldi, "cg": IFAttributorCG}


def main() -> None:
    case, out, method, *pairs = sys.argv[1:]
    torch.set_num_threads(2)
    settings = {name: json.loads(value) for name, value in (pair.split("=") for pair in pairs)}
    rows_at_a_time = settings.pop("batch", 512)
    with np.load(Path(case)) as archive:
        data = {name: archive[name] for name in archive.files}
    network = network_of(data)
    task = AttributionTask(
        loss_func=loss_of(network, float(data["l2"])),
        model=network,
        checkpoints=network.state_dict(),
        target_func=count_of(network, int(data["counted"])),
    )
    inputs, labels = torch.tensor(data["inputs"]), torch.tensor(data["labels"]).long()
    everything = DataLoader(TensorDataset(inputs, labels), batch_size=len(labels))
    rows = DataLoader(TensorDataset(inputs, labels), batch_size=rows_at_a_time)
    complaint = DataLoader(TensorDataset(torch.tensor(data["asked"])[None]), batch_size=1)

    began = time.perf_counter()
    attributor = METHODS[method](task=task, **settings)
    attributor.cache(everything)
    cached = time.perf_counter()
    with torch.no_grad():
        found = attributor.attribute(rows, complaint)
    ended = time.perf_counter()
    np.savez(
        out,
        scores=found.numpy()[:, 0],
        cache_seconds=cached - began,
        attribute_seconds=ended - cached,
        versions=np.array([f"{name} {version(name)}" for name in ("dattri", "torch", "numpy")]),
    )


def network_of(data: dict[str, np.ndarray]) -> nn.Sequential:
    """The trained feed-forward network; layers are called weights0, bias0, weights1, ..."""
    depth = sum(name.startswith("weights") for name in data)
    layers: list[nn.Module] = []
    for number in range(depth):
        weights = data[f"weights{number}"]
        layer = nn.Linear(*weights.shape)
        layer.weight.data = torch.tensor(weights.T.copy())
        layer.bias.data = torch.tensor(data[f"bias{number}"])
        layers += [layer] if number == depth - 1 else [layer, nn.ReLU()]
    return nn.Sequential(*layers)


def loss_of(network: nn.Module, l2: float) -> Any:
    """The training objective over a batch; a single row may come without its batch axis."""

    def loss(params: Any, data: Any) -> torch.Tensor:
        inputs, labels = data
        outputs = torch.func.functional_call(network, params, inputs.reshape(-1, inputs.shape[-1]))
        squares = sum((leaf**2).sum() for leaf in params.values())
        return nn.functional.cross_entropy(outputs, labels.reshape(-1)) + 0.5 * l2 * squares

    return loss


def count_of(network: nn.Module, counted: int) -> Any:
    """The relaxed count of one class over the rows asked about, negated: what dattri removes."""

    def count(params: Any, data: Any) -> torch.Tensor:
        (rows,) = data
        outputs = torch.func.functional_call(network, params, rows.reshape(-1, rows.shape[-1]))
        return outputs.softmax(dim=-1)[:, counted].sum()

    return count


if __name__ == "__main__":
    main()
