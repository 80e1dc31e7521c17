"""Scores of kronfluence for a complaint; runs in the peers' environment.

python kronfluence_scores.py CASE.npz OUT.npz ekfac [name=value ...]

`damping` is the `damping_factor` of the scores: null takes the library's own heuristic. The l2 term
has the curvature l2·I, which a damping of l2 adds, so the training loss has none. `batch` is the
number of training rows at a time; without it the library looks for one itself, on the clock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from case import Call, read, run
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from network import network_of
from torch import nn
from torch.utils.data import TensorDataset


class Count(Task):
    """Trained by cross-entropy, summed as the library asks; measured by a relaxed count.

    Attributes
    ----------
    counted : the classes that are counted.
    """

    counted: Sequence[int] = ()

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Any:
        """Cross-entropy of the given labels, or of labels drawn from the model's own output."""
        inputs, labels = batch
        outputs = model(inputs)
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(outputs.softmax(dim=-1), num_samples=1).flatten()
        return nn.functional.cross_entropy(outputs, labels, reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> Any:
        """The sum of the classes' probability over the rows asked about."""
        (rows,) = batch
        return model(rows).softmax(dim=-1)[:, self.counted].sum()


def offline(call: Call) -> Callable[[list[int]], np.ndarray]:
    """All factors; the answer to a complaint is one query whose gradient is the rows' sum."""
    torch.manual_seed(0)  # labels are sampled for the true Fisher
    task = Count()
    model = prepare_model(network_of(call.data), task)
    folder = call.out.with_suffix(".factors")
    analyzer = Analyzer("case", model, task, cpu=True, disable_tqdm=True, output_dir=str(folder))
    labels = torch.tensor(call.data["labels"]).long()
    training = TensorDataset(torch.tensor(call.data["inputs"]), labels)
    asked = TensorDataset(torch.tensor(call.data["asked"]))
    batch = call.settings.get("batch")
    analyzer.fit_all_factors(
        "factors", training, per_device_batch_size=batch, factor_args=FactorArguments(call.method)
    )
    arguments = ScoreArguments(
        damping_factor=call.settings["damping"], aggregate_query_gradients=True
    )

    def answer(counted: list[int]) -> np.ndarray:
        task.counted = counted
        name = f"count of {counted}"
        analyzer.compute_pairwise_scores(
            name, "factors", asked, training, len(asked),
            per_device_train_batch_size=batch, score_args=arguments,
        )  # fmt: skip
        return analyzer.load_pairwise_scores(name)["all_modules"].numpy()[0]

    return answer


if __name__ == "__main__":
    run(read(sys.argv[1:]), offline, libraries=("kronfluence", "torch"))
