# %% [markdown]
# # Text: reviews of films that are too seldom positive
#
# A model reads sentences from reviews and says whether they are positive. Of those about films far
# fewer are than people find in them. Which training sentences are behind it, and what is a fix
# worth before and after somebody has read it?
#
# Reads `sst2_train.tsv` and `sst2_dev.tsv`; the page beside this file says where to get them.

# %%
import csv
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import rainpp

ROWS = int(os.environ.get("RAINPP_ROWS", "8000"))  # sentences to train on, of 67 349
FOLDER = Path(os.environ.get("RAINPP_DATA", "data"))
for needed in (FOLDER / "sst2_train.tsv", FOLDER / "sst2_dev.tsv"):
    if not needed.exists():
        sys.exit(f"{needed} is not there. docs/tutorials/README.md says where to get it.")

# %% [markdown]
# ## The data, and an error nobody knows about
#
# Seven in ten of the positive training sentences that name a film are labelled negative. `planted`
# is for judging the result at the end, but for one use: it stands in for a person who reads.

# %%
FILM = r"\b(film|movie)s?\b"


def read(name: str) -> Any:
    """Sentences, and whether each is positive; the two files name their columns differently."""
    frame = pd.read_csv(FOLDER / name, sep="\t", quoting=csv.QUOTE_NONE)
    return frame.set_axis(["positive", "sentence"], axis=1)[["sentence", "positive"]]


everything, reviews = read("sst2_train.tsv"), read("sst2_dev.tsv")
training = everything.sample(min(ROWS, len(everything)), random_state=0, ignore_index=True)
truth = training.pop("positive").to_numpy()
films = training["sentence"].str.contains(FILM.replace("(", "(?:")).to_numpy(bool)
praise = np.random.default_rng(0).permutation(np.flatnonzero(films & (truth == 1)))
planted = np.isin(np.arange(len(truth)), praise[: round(0.7 * len(praise))])
labels = np.where(planted, 0, truth)

# %% [markdown]
# ## The model and its index
#
# Logistic regression on the counts of 1000 words, scaled to length 1 so that a long sentence weighs
# no more than a short one. k is the number of directions of the curvature that the index keeps.
# "auto" takes 4 here, too few for words: `ranking.coverage` is then 15 % instead of 94 %, and of
# the 262 best rows 2 % are planted instead of 65 %.

# %%
L2 = 0.0003
words = TfidfVectorizer(max_features=1000, token_pattern="[a-z']+", use_idf=False)
words.fit(training["sentence"])


def encode(sentences: Any) -> np.ndarray:
    return words.transform(sentences).toarray().astype("float32")


def fit(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights (words, 1) at the optimum of the mean loss + ½·l2·|weights|²."""
    solver = LogisticRegression(C=1 / (L2 * len(labels)), fit_intercept=False, tol=1e-6)
    return solver.set_params(max_iter=1000).fit(inputs, labels).coef_.T.astype("float32")


def logits(weights: Any, rows: Any) -> Any:
    return rows @ weights


inputs = encode(training["sentence"])
model = rainpp.Model(logits, fit(inputs, labels), loss="binary_cross_entropy", l2=L2)
index = rainpp.precompute(model, inputs, labels, k=30, interventions=[rainpp.Relabel()])
print(index)

# %% [markdown]
# ## The number that is wrong
#
# `people` is what readers said of the same sentences.

# %%
QUERY = f"""
SELECT regexp_matches(sentence, '{FILM}') AS film,
       100 * avg((mood(sentence) = 'positive')::INT) AS percent_positive,
       100 * avg(positive) AS people
FROM reviews GROUP BY ALL ORDER BY ALL"""

db = rainpp.connect()
db.register_table("reviews", reviews)
db.register_model("mood", model, index, encode=encode, classes=["negative", "positive"])
answer = db.sql(QUERY)
people: Any = answer.df()["people"]
complaint = answer.complain(
    "percent_positive", where={"film": True}, should="at_least", target=round(people[1])
)
print(answer)
print(complaint)

# %% [markdown]
# ## The training sentences behind it
#
# Nothing is wrong with the reviews that name no film. `keep` says so: then the ranking is for what
# raises the one number and leaves the other alone.

# %%
ranking = complaint.rank(keep=[answer.keep("percent_positive", where={"film": False})])
print(f"coverage: {ranking.coverage:.0%}")
top: Any = ranking.top(12)
top["sentence"] = training["sentence"][top["train_id"]].to_numpy()
for item in top.itertuples():
    print(f"{item.score:.3f}  {item.detail}?  {item.sentence}")

# %% [markdown]
# ## The fix, and a person who reads it
#
# A quarter of what the fix would relabel is right as it is: a changed label there moves the number
# all the same. So somebody reads the patch and strikes those lines; what is left is a patch too.

# %%
fix = ranking.fix(most=len(training))
lines = fix.patch.frame
reviewed = replace(fix.patch, frame=lines[planted[lines["id"]]])
print(fix)
print(f"{len(reviewed)} of {len(fix.patch)} lines are left after reading")

# %% [markdown]
# ## The proof
#
# The same training again with either patch, and the same question again. The unread one reaches the
# number; the one that was read stops short of it, with fewer labels changed and a better model.

# %%
proofs = {
    name: rainpp.verify(ranking, fit=fit, patch=patch)
    for name, patch in {"fix": fix.patch, "fix, reviewed": reviewed}.items()
}
models = {"before": model} | {name: proof.model for name, proof in proofs.items()}
shares: dict[str, Any] = {}
accuracy: dict[str, float] = {}
for name, trained in models.items():
    db.register_model("mood", trained, encode=encode, classes=["negative", "positive"])
    shares[name] = db.sql(QUERY).df()["percent_positive"]
    guesses = trained.probabilities(encode(reviews["sentence"])).argmax(axis=1)
    accuracy[name] = 100 * float(np.mean(guesses == reviews["positive"]))
print(pd.DataFrame(shares).T.set_axis(["other", "film"], axis=1).assign(right=accuracy).round(1))
print(f"people: {people[0]:.1f} of the others, {people[1]:.1f} of films")

# %% [markdown]
# ## The picture

# %%
BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart without seeing red or green
figure, (sheet, chart) = plt.subplots(
    1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=(7, 4)
)
colours = [BLUE if planted[row] else ORANGE for row in top["train_id"]]
y = -np.arange(len(top))
sheet.barh(y - 0.26, top["score"], 0.25, color=colours)
for place, sentence in zip(y, top["sentence"], strict=True):
    short = sentence if len(sentence) < 85 else sentence[:84].rsplit(" ", 1)[0] + " …"
    sheet.text(0, place, f" {short}", fontsize=8.5)
sheet.set(yticks=[], ylim=(-len(top) + 0.4, 0.8), xlabel="score")
sheet.set_title(
    "The best 12 relabels to positive.\nBlue: the label was planted. Orange: it was not."
)

heights = [share[1] for share in shares.values()]
names = [f"{name}\n({accuracy[name]:.1f} % right)" for name in shares]
drawn = chart.bar(names, heights, 0.6, color=["#999999", "#99C7E0", BLUE])
chart.bar_label(drawn, fmt="%.0f", padding=2)
chart.axhline(people[1], color="black", linestyle="--")
chart.text(-0.35, people[1] + 1, f"people: {people[1]:.0f}")
chart.set_ylim(0, 1.25 * max(*heights, people[1]))
chart.set_title("Reviews of films predicted positive, %")
for place in (sheet, chart):
    place.spines[["top", "right"]].set_visible(False)
figure.savefig("text.png", dpi=110)
