"""Scores of cleanlab, which looks for wrong labels and needs no complaint; the peers' environment.

python cleanlab_scores.py CASE.npz OUT.npz self_confidence|find_label_issues source="held_out"

`source` names the array of CASE.npz with the probabilities (n, R) of the training rows: `in_sample`
are those of the trained model, `held_out` of models that have not seen the row, which cleanlab's
documentation asks for and which `experiments.twenty_complaints` trains, on the clock.
`self_confidence` ranks by the probability of the given label, `find_label_issues` puts the rows
that confident learning calls wrong first, in the same order. Any complaint gets the same answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from case import Call, read, run
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores


def offline(call: Call) -> Callable[[list[int]], np.ndarray]:
    """Nothing is kept but the probabilities; every answer is the whole of cleanlab's work."""
    source = call.settings["source"]
    labels, probabilities = call.data["labels"], call.data[source].astype(np.float64)

    def answer(counted: list[int]) -> np.ndarray:
        del counted  # it knows of no query
        scores = 1 - get_label_quality_scores(labels, probabilities, method="self_confidence")
        if call.method == "find_label_issues":
            scores = scores + find_label_issues(labels, probabilities, n_jobs=1)
        return scores

    return answer


if __name__ == "__main__":
    run(read(sys.argv[1:]), offline, libraries=("cleanlab", "scikit-learn"))
