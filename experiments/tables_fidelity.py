"""The sections of the page of results that set predicted effects beside retrained ones."""

from __future__ import annotations

from typing import Any

from experiments.markdown import table

Run = dict[str, Any]

_MODELS = {"logistic": "Logistic regression", "mlp": "Network 784-32-10, tanh", "cnn": "CNN, tanh"}
_WIDTHS = ("whole class", "5 % of the rows", "20 rows", "one prediction")
_WANTED = 0.2


def fidelity(body: Run) -> str:
    """LDS and size of single effects by how they were solved for."""
    settings = body["settings"]
    parts = [
        "## Single effects against retraining\n",
        f"MNIST; {settings['subsets']} random subsets of {settings['removed']:.0%} of the rows "
        "are removed and the model is trained again in double\nprecision. *LDS* is the rank "
        "correlation of the summed single effects with what retraining gave, mean over\nthe "
        "complaints; in brackets the ratio of their norms: first-order sums are too small for "
        "groups, see the\nnext section. A complaint is the relaxed count of a class over all test "
        "rows, 5 % of them, 20, or one row.\n*Then n steps* is `ranking.refine(n)`.\n",
    ]
    for model, title in _MODELS.items():
        runs = [run for run in body["runs"] if run["model"] == model]
        if runs:
            about = runs[0]
            count = settings["complaints"][model]
            parts += [
                f"{title}, {about['parameters']:,} parameters, {about['train_rows']:,} rows, l2 "
                f"{about['l2']:g}, {count} complaints of each kind:\n",
                table(
                    ["effects by", *_WIDTHS],
                    [
                        [run["solution"], *(_cell(run["by_width"][width]) for width in _WIDTHS)]
                        for run in runs
                    ],
                ),
                "",
            ]
    return "\n".join(parts)


def _cell(found: dict[str, float]) -> str:
    return f"{found['lds']:.3f} ({found['size']:.2f})"


def group_effects(body: Run) -> str:
    """Groups of 1 to 10 %: sums of singles and Newton steps beside retraining."""
    runs = body["runs"]
    inside = sum(run["low"] <= run["retrained"] <= run["high"] for run in runs)
    errors = {
        name: sum(abs(_ratio(run, name) - 1) <= _WANTED for run in runs)
        for name in ("singles", "refined_singles", "together")
    }
    return (
        "## Effects of groups against retraining\n\n"
        "Two convex models; groups from the top of a ranking (deletions and relabels) and random "
        "deletions. *Together*\nis `ranking.group_effect`, *singles* the sum of single effects, "
        "*refined* that after `refine(8)`; in brackets the\nratio to what retraining gave. Within "
        f"20 % of it: singles {errors['singles']} of {len(runs)}, refined "
        f"{errors['refined_singles']}, together {errors['together']}; in the interval of "
        f"`group_effect`: {inside}.\n\n"
        "![Predicted against retrained effects of groups](results/group_effects.svg)\n\n"
        + table(
            ["complaint", "group", "rows", "retrained", "singles", "refined", "together",
             "interval", "Newton steps", "s", "retraining s"],
            [_group(run) for run in runs],
        )
        + "\n"
    )  # fmt: skip


def _group(run: Run) -> list[str]:
    return [
        run["case"],
        f"{run['group']} {run['share']:.0%}",
        f"{run['rows']:,}",
        f"{run['retrained']:.4g}",
        *(
            f"{run[name]:.4g} ({_ratio(run, name):.2f})"
            for name in ("singles", "refined_singles", "together")
        ),
        f"{run['low']:.4g} to {run['high']:.4g}",
        str(run["newton_steps"]),
        f"{run['seconds']:.1f}",
        f"{run['retraining_seconds']:.1f}",
    ]


def _ratio(run: Run, name: str) -> float:
    return float(run[name] / run["retrained"])
