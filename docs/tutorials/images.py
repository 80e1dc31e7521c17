# %% [markdown]
# # Images: a digit that is counted too low
#
# A model reads scanned digits and SQL counts them. Somebody counts the 1s by hand and finds more.
# Which training images are to blame, and what happens once their labels are put right?
#
# Reads `mnist.npz`; the page beside this file says where to get it.

# %%
import os
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

import rainpp

ROWS = int(os.environ.get("RAINPP_ROWS", "10000"))  # images to train on, and scans to count
FILE = Path(os.environ.get("RAINPP_DATA", "data")) / "mnist.npz"
if not FILE.exists():
    sys.exit(f"{FILE} is not there. docs/tutorials/README.md says where to get it.")


# %% [markdown]
# ## The data, and an error nobody knows about
#
# Four in ten of the training 1s are labelled 7. `planted` is for judging the result at the end and
# is shown to nobody before.


# %%
def shrink(pictures: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels in [0, 1], a row for each picture: a quarter of the weights to train."""
    blocks = pictures.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    return (blocks.reshape(-1, 196) / 255).astype("float32")


with np.load(FILE, allow_pickle=False) as archive:
    names = ("x_train", "y_train", "x_test", "y_test")  # the file that Keras downloads
    if "x_train" not in archive:
        names = ("train_image", "train_label", "test_image", "test_label")
    pictures, truth, scans, by_hand = (archive[name][:ROWS] for name in names)

ones = np.random.default_rng(0).permutation(np.flatnonzero(truth == 1))
planted = np.isin(np.arange(len(truth)), ones[: round(0.4 * len(ones))])
labels = np.where(planted, 7, truth).astype(int)
inputs = shrink(pictures)

# %% [markdown]
# ## The model and its index
#
# `rainpp` needs the model as a function, its parameters at the optimum, and the objective they were
# trained on: the mean loss + ½·l2·|weights|². scikit-learn takes the sum of the losses, hence C.

# %%
L2 = 0.01


def fit(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights (196, 10) of a logistic regression."""
    solver = LogisticRegression(C=1 / (L2 * len(labels)), fit_intercept=False, tol=1e-6)
    return solver.set_params(max_iter=1000).fit(inputs, labels).coef_.T.astype("float32")


model = rainpp.Model(lambda weights, rows: rows @ weights, fit(inputs, labels), l2=L2)
index = rainpp.precompute(model, inputs, labels, interventions=[rainpp.Relabel()])
print(index)

# %% [markdown]
# ## The number that is wrong

# %%
pixels = pa.FixedSizeListArray.from_arrays(pa.array(shrink(scans).ravel()), 196)
db = rainpp.connect()
db.register_table("scans", pa.table({"image": pixels}))
db.register_model("read", model, index)

counts = db.sql("SELECT read(image) AS digit, count(*) AS n FROM scans GROUP BY 1 ORDER BY 1")
counted = int((by_hand == 1).sum())
complaint = counts.complain("n", where={"digit": 1}, should="at_least", target=counted)
print(counts)
print(complaint)

# %% [markdown]
# ## The training rows behind it
#
# Every row is scored by what another label of it would do to this number, times how plausible the
# model finds that label.

# %%
ranking = complaint.rank()
print(ranking.top(10).to_string())

# %% [markdown]
# ## The fix
#
# The smallest number of relabels, best first, that is predicted to bring the count to its target.
# It is a list to review, and nothing is changed by making it.

# %%
fix = ranking.fix(kinds=["relabel"])
print(fix)
print(fix.patch.frame.head(5).to_string())

# %% [markdown]
# ## The proof
#
# The same training again, on a copy with the fix applied, and the same question again. The rest of
# the wrong labels stays: nothing was asked for beyond the count.

# %%
proof = rainpp.verify(ranking, fit=fit, patch=fix.patch)
promised = proof.before + fix.reached
correct = planted[[change.row for change in fix.interventions]].mean()
print(f"1s counted: {proof.before:.0f}; by hand {counted}")
print(f"promised: {promised:.0f}; after training again {proof.after:.0f}")
print(
    f"{len(fix.interventions)} of {len(labels)} labels changed; {correct:.0%} were planted errors"
)

# %% [markdown]
# ## The picture

# %%
BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart without seeing red or green
figure = plt.figure(figsize=(10, 3.8), layout="constrained")
panels: Any = figure.subfigures(1, 2, width_ratios=(7, 3))
sheet, chart = panels

sheet.suptitle("The best 24 relabels. Blue: the label was planted. Orange: it was not.")
for place, change in zip(sheet.subplots(3, 8).flat, ranking.best(24), strict=True):
    place.imshow(pictures[change.row], cmap="gray_r")
    place.set_title(f"{labels[change.row]} → {change.detail}", fontsize=10)
    place.set(xticks=[], yticks=[])
    place.spines[:].set(color=BLUE if planted[change.row] else ORANGE, linewidth=3)

bars = chart.subplots()
heights = [proof.before, promised, proof.after]
drawn = bars.bar(
    ["before", "promised", "trained\nagain"], heights, color=["#999999", "#99C7E0", BLUE]
)
bars.bar_label(drawn, fmt="%.0f", padding=2)
bars.axhline(counted, color="black", linestyle="--")
bars.set_ylim(0, 1.25 * counted)
bars.text(-0.4, 1.1 * counted, f"- - -  by hand: {counted}", va="bottom")
bars.set_title("1s counted")
bars.spines[["top", "right"]].set_visible(False)
figure.savefig("images.png", dpi=110)
