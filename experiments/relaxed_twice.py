"""Exact expectation against Rain's product rules where a query uses a prediction twice.

Where every prediction is used once the two relaxations are one number. Where one is used twice
Rain's rules multiply an event with itself: P(7 or 9) loses P(7)·P(9), and an image equals itself
with probability Σ P². Whether that harms the ranking of planted errors nobody has reported. What
follows was written down, and committed, before the first run.

Hypothesis: in `or`, `pairs`, `having` and `averages` exact rankings find the planted errors better.
In `all pairs`, where an image meets itself in one pair of 10 000, and in `count`, where nothing is
used twice, there is no difference.

Cases: MNIST, logistic regression on 10 000 rows, 10 to 40 % of the 1s labelled 7, seeds 0 to 2, so
12 runs of each query. The queries read the 10 000 test images. `pairs` are two images of one true
digit each, as of one thing photographed twice; a batch is 20 random images. Both relaxations get
the same model, index and complaints. A complaint asks for the change towards the answer that the
true labels give; a query whose answer is right is left out of that run. `averages` complains of the
first 50 batches that have a false 7, all with the same weight; the rest of one cell.

Measure: AUC_R of deletions with k chosen by the library, exact minus Rain's, in pairs of the same
run. Better means: on average higher by 0.01 or more, and ahead in at least 10 of 12 runs (a sign
test at 4 %). Worse is the same with the roles exchanged; anything else is no difference.

    python -m experiments.relaxed_twice [--rows 10000] [--rates 0.1 0.2 0.3 0.4] [--seeds 0 1 2]
"""

from __future__ import annotations

_TWICE = "SELECT count(*) AS n FROM digits a JOIN digits b ON"
QUERIES = {
    "count": "SELECT count(*) AS n FROM digits WHERE predict(image) = 1",
    "or": "SELECT count(*) AS n FROM digits WHERE predict(image) = 7 OR predict(image) = 9",
    "pairs": f"{_TWICE} a.pair = b.pair WHERE predict(a.image) = predict(b.image)",
    "all pairs": f"{_TWICE} predict(a.image) = predict(b.image)",
    "having": "SELECT count(*) AS n FROM (SELECT batch FROM digits GROUP BY batch HAVING "
    "sum(CASE WHEN predict(image) = 1 THEN 1 ELSE 0 END) >= "
    "sum(CASE WHEN predict(image) = 7 THEN 1 ELSE 0 END))",
    "averages": "SELECT batch, avg(CASE WHEN label = 7 THEN 1.0 ELSE 0.0 END) AS n FROM digits "
    "WHERE predict(image) = 7 GROUP BY batch ORDER BY batch",
}
LINEAR = ("count", "all pairs")
BETTER, AHEAD = 0.01, 10
