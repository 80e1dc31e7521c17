"""Every table and figure of the paper, one after the other, and the page of results.

What is done is kept: a run that was interrupted goes on where it was, and a second one has nothing
to do. `--again` measures everything anew. A step that fails is told at the end, and the others run.

    python -m experiments.all [--size small|full] [--only fig4 table5] [--again]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass

from experiments import commands, results
from experiments.paper.cells import SIZES


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes
    ----------
    module : in `experiments`.
    shows : what it measures.
    beyond : no part of the paper; at full size only.
    drawn : from what `paper.sweep` has measured; not measured again by `--again`.
    within : another step does it; run alone when it is named.
    resumes : goes on where it was, and takes `--again`; as all of the paper's that are not drawn.
    """

    module: str
    shows: str
    beyond: bool = False
    drawn: bool = False
    within: bool = False
    resumes: bool = False


STEPS = (
    Step("paper.sweep", "AUC_R by eigenpairs and by conjugate-gradient steps, every cell"),
    Step("paper.times", "Figures 1, 6, 7, 8 and 10, and Table 4"),
    Step("paper.fig1", "the headline: one complaint, by parameters", within=True),
    Step("paper.fig2", "spectra", drawn=True),
    Step("paper.fig3", "AUC_R by eigenpairs and steps", drawn=True),
    Step("paper.fig4", "peak AUC_R, Rain against Rain++", drawn=True),
    Step("paper.fig5", "share of the peak by k", drawn=True),
    Step("paper.fig6", "online time, and Table 4", within=True),
    Step("paper.fig7", "query gradients", within=True),
    Step("paper.fig8", "time by interventions", within=True),
    Step("paper.fig9", "streams"),
    Step("paper.fig10", "offline time", within=True),
    Step("paper.fig11", "relevant and adversarial point complaints"),
    Step("paper.table5", "two kinds of errors", drawn=True),
    Step("paper.fig12", "ADULT", drawn=True),
    Step("paper.fig13", "relative error against AUC_R", drawn=True),
    Step("paper.fig15", "interventions", drawn=True),
    Step("paper.train_rank_fix", "train, rank, delete, train again"),
    Step(
        "mnist_flips", "one-shot ranking of flipped digits, through SQL", beyond=True, resumes=True
    ),
    Step("adult", "ADULT through SQL", beyond=True, resumes=True),
    Step("fidelity", "single effects against retraining", beyond=True),
    Step("group_effects", "effects of groups against retraining", beyond=True),
    Step("choose_k", "the choice of k", beyond=True),
    Step("relaxation", "exact and Rain's relaxation", beyond=True),
    Step("repair_loop", "repairs until the complaint is resolved", beyond=True),
    Step("fix_families", "which kind of repair", beyond=True),
    Step("plausibility", "which label", beyond=True),
    Step("wrong_complaints", "complaints that are wrong", beyond=True),
    Step("relaxed_twice", "both relaxations where a prediction is used twice", beyond=True),
    Step("adult_together", "complaints together", beyond=True),
    Step("latency", "complaint to ranking", beyond=True),
    Step("streams", "monitors", beyond=True),
)
# Modules that take a size and, unless they draw, `--again`.
_PAPER = "paper."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", nargs="+", metavar="STEP", choices=[_short(s) for s in STEPS])
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    asked = parser.parse_args()
    began, failed = time.monotonic(), list[str]()
    for step in chosen(asked.size, asked.only):
        if not run(step, asked.size, again=asked.again):
            failed.append(_short(step))
    for last in ("plots", "tables"):
        if subprocess.run([sys.executable, "-m", f"experiments.{last}"], check=False).returncode:
            failed.append(last)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the other steps are done and kept.")


def chosen(size: str, only: list[str] | None) -> list[Step]:
    """The steps that are asked for: those named, otherwise the paper's and, at full size, all."""
    if only:
        return [step for step in STEPS if _short(step) in only]
    return [step for step in STEPS if not step.within and (size == "full" or not step.beyond)]


def run(step: Step, size: str, *, again: bool) -> bool:
    """One step, in a process of its own; whether it succeeded."""
    began = time.monotonic()
    print(f"{_short(step)}: {step.shows}", flush=True)
    if (
        step.beyond
        and not step.resumes
        and not again
        and (results.FOLDER / f"{step.module}.json").exists()
    ):
        print(f"{_short(step)}: saved before")  # the other steps say themselves what they have
        return True
    done = subprocess.run(command(step, size, again=again), check=False)
    print(f"{_short(step)}: {time.monotonic() - began:.0f} s", flush=True)
    return done.returncode == 0


def command(step: Step, size: str, *, again: bool) -> list[str]:
    """The command line of a step."""
    found = [sys.executable, "-m", f"experiments.{step.module}"]
    if step.module.startswith(_PAPER):
        found += ["--size", size]
    if again and (step.resumes or step.module.startswith(_PAPER)) and not step.drawn:
        found.append("--again")
    return found


def _short(step: Step) -> str:
    return step.module.removeprefix(_PAPER)


if __name__ == "__main__":
    commands.run(main)
