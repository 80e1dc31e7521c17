"""Scores of dattri's influence functions for a complaint; runs in the peers' environment.

python dattri_scores.py CASE.npz OUT.npz arnoldi|cg [name=value ...]

The training loss is the mean cross-entropy plus the same l2 term, so that both libraries take the
curvature of one objective. The names are those of the attributor's arguments; `batch` is the number
of training rows `attribute` takes at a time. For every batch it makes the batch's gradients, then
the gradient of the complaint, which it solves for again: batches as large as memory allows are the
fastest. The curvature is of all rows at once, as the documentation of `cache` recommends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from case import Call, read, run
from dattri.algorithm.influence_function import IFAttributorArnoldi, IFAttributorCG
from dattri.task import AttributionTask
from network import network_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

METHODS = {"arnoldi": IFAttributorArnoldi, "cg": IFAttributorCG}


def offline(call: Call) -> Callable[[list[int]], np.ndarray]:
    """`cache` over all rows; the answer to a complaint is `attribute`.

    `cache` of Arnoldi only prepares: the eigenpairs are found in the first `attribute` and kept.
    """
    settings = dict(call.settings)
    batch = settings.pop("batch")
    network = network_of(call.data)
    task = AttributionTask(
        loss_func=loss_of(network, float(call.data["l2"])),
        model=network,
        checkpoints=network.state_dict(),
        target_func=count_of(network),
    )
    inputs, labels = torch.tensor(call.data["inputs"]), torch.tensor(call.data["labels"]).long()
    training = TensorDataset(inputs, labels)
    attributor = METHODS[call.method](task=task, **settings)
    attributor.cache(DataLoader(training, batch_size=len(labels)))
    asked = torch.tensor(call.data["asked"])[None]

    def answer(counted: list[int]) -> np.ndarray:
        weights = torch.zeros(1, 10)
        weights[0, counted] = 1.0
        complaint = DataLoader(TensorDataset(asked, weights), batch_size=1)
        with torch.no_grad():
            found = attributor.attribute(DataLoader(training, batch_size=batch), complaint)
        return found.numpy()[:, 0]

    return answer


def loss_of(network: nn.Module, l2: float) -> Any:
    """The training objective over a batch; a single row may come without its batch axis."""

    def loss(params: Any, data: Any) -> torch.Tensor:
        inputs, labels = data
        outputs = torch.func.functional_call(network, params, inputs.reshape(-1, inputs.shape[-1]))
        squares = sum((leaf**2).sum() for leaf in params.values())
        return nn.functional.cross_entropy(outputs, labels.reshape(-1)) + 0.5 * l2 * squares

    return loss


def count_of(network: nn.Module) -> Any:
    """The relaxed count, over the rows asked about, of the classes whose weight is 1."""

    def count(params: Any, data: Any) -> torch.Tensor:
        rows, weights = data
        outputs = torch.func.functional_call(network, params, rows.reshape(-1, rows.shape[-1]))
        return (outputs.softmax(dim=-1) * weights.reshape(1, -1)).sum()

    return count


if __name__ == "__main__":
    run(read(sys.argv[1:]), offline, libraries=("dattri", "torch"))
