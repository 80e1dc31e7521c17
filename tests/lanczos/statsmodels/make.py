"""Makes linear.json and logistic.json with statsmodels: `python make.py`, nothing else needed.

linear: ordinary least squares on 30 rows; the change of the parameters when each row is deleted
(exact, `OLSInfluence.dfbeta`). logistic: a binary logit without penalty on 60 rows; its one-step
change of the parameters (`GLMInfluence.d_params`).
"""

import json
from pathlib import Path

import numpy as np
import statsmodels
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import OLSInfluence

FOLDER = Path(__file__).parent


def main() -> None:
    generator = np.random.default_rng(11)
    rows = np.round(generator.normal(size=(30, 3)), 3)
    values = np.round(rows @ [1.0, -2.0, 0.5] + 0.3 * generator.normal(size=30), 3)
    fit = sm.OLS(values, rows).fit()
    _save("linear", rows, values, fit.params, OLSInfluence(fit).dfbeta)
    rows = np.round(generator.normal(size=(60, 3)), 3)
    chance = 1 / (1 + np.exp(-rows @ [1.0, -1.0, 0.5]))
    labels = (generator.random(60) < chance).astype(int)
    fit = sm.GLM(labels, rows, family=sm.families.Binomial()).fit(tol=1e-14, maxiter=200)
    _save("logistic", rows, labels, fit.params, fit.get_influence(observed=True).d_params)


def _save(name: str, rows, labels, params, changes) -> None:
    body = {
        "statsmodels": statsmodels.__version__,
        "inputs": rows.tolist(),
        "labels": labels.tolist(),
        "params": np.asarray(params).tolist(),
        "changes": np.asarray(changes).tolist(),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(body) + "\n")


if __name__ == "__main__":
    main()
