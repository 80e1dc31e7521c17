"""The trained model as a PyTorch network, from the arrays of a case."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


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
