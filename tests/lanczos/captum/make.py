"""Makes network.json with captum and torch: `python make.py`, nothing else needed.

A tanh network, 4-6-3, trained on 80 rows to a minimum of the mean cross-entropy plus ½·l2·|θ|². The
influence of every row on the loss of each test row, and on the probability of class 1 there, is
captum's `NaiveInfluenceFunction`: the Hessian formed and decomposed, all of its eigenpairs, double
precision. Its Hessian is of the sum over the rows, so `hessian_reg` is n·l2.
"""

import json
from pathlib import Path

import captum
import numpy as np
import torch
from captum.influence import NaiveInfluenceFunction
from torch import nn
from torch.utils.data import TensorDataset

FOLDER = Path(__file__).parent
L2 = 2**-6  # n·l2 = 1.25: captum adds it in single precision
ROWS, TESTS = 80, 6


def main() -> None:
    generator = np.random.default_rng(5)
    rows = np.round(generator.normal(size=(ROWS + TESTS, 4)), 3)
    clean = (rows[:, 0] + np.sin(2 * rows[:, 1]) > 0).astype(int) + (rows[:, 2] > 0.8)
    labels = np.where(generator.random(len(clean)) < 0.1, (clean + 1) % 3, clean)
    inputs, targets = torch.tensor(rows), torch.tensor(labels)
    network = trained(inputs[:ROWS], targets[:ROWS])
    body = {
        "captum": captum.__version__,
        "torch": torch.__version__,
        "l2": L2,
        "weights": {name: leaf.tolist() for name, leaf in network.named_parameters()},
        "inputs": rows[:ROWS].tolist(),
        "labels": labels[:ROWS].tolist(),
        "test_inputs": rows[ROWS:].tolist(),
        "test_labels": labels[ROWS:].tolist(),
        "on_loss": influence(network, inputs, targets, None),
        "on_probability": influence(network, inputs, targets, probability),
    }
    (FOLDER / "network.json").write_text(json.dumps(body) + "\n")


def trained(inputs: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """The network at a minimum: L-BFGS from a fixed start until the gradient is rounding error."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    optimiser = torch.optim.LBFGS(
        network.parameters(), max_iter=5000, tolerance_grad=1e-14, tolerance_change=0,
        history_size=60, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> torch.Tensor:
        optimiser.zero_grad()
        squares = sum((leaf**2).sum() for leaf in network.parameters())
        value = nn.functional.cross_entropy(network(inputs), labels) + 0.5 * L2 * squares
        value.backward()
        return value

    optimiser.step(objective)
    objective()
    slope = torch.cat([leaf.grad.flatten() for leaf in network.parameters()]).norm()
    assert slope < 1e-8, slope
    return network


def probability(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of class 1; the labels play no part."""
    return outputs.softmax(dim=-1)[:, 1] + 0 * labels


def influence(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, test) -> list:
    """(TESTS, ROWS)."""
    explainer = NaiveInfluenceFunction(
        network,
        TensorDataset(inputs[:ROWS], labels[:ROWS]),
        checkpoint="",
        checkpoints_load_func=lambda *_: 1.0,  # the weights are in the network
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        test_loss_fn=test,
        batch_size=ROWS,
        projection_dim=sum(leaf.numel() for leaf in network.parameters()),
        hessian_reg=ROWS * L2,
        hessian_inverse_tol=0.0,
    )
    assert explainer.R.shape[0] == explainer.R.shape[1], "the Hessian is not positive definite"
    return explainer.influence((inputs[ROWS:], labels[ROWS:])).tolist()


if __name__ == "__main__":
    main()
