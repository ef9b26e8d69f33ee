"""Is what GRPO gains more than the base shows when it is sampled colder?

A base that is right greedily gets better when its samples are drawn at a lower temperature; nobody
calls that learning. So the tuned model is held against the base at whichever temperature (1, 0.7,
0.5, 0.3, greedy) makes the base's pass@k highest, k by k.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Tuned exact pass@k minus
the base's at its best temperature for that k, k = 1, 16, 64, 1024: a cell supports if at some k
the interval lies above +2 points, and refutes if it lies below at every k; the verdict is what all
cells that decide agree on (2 points are ours). Cells whose base has less than 1e-4 are left out.
"""
import numpy as np

from lab import draw
from lab.judge import NO_MASS, POINTS, Verdict, above, below, by_seed, cells, decide, n_seeds, pm
from lab.judge import some, tally, unanimous
from questions.dose import jobs

ORDER = 8
TRIES = (1, 16, 64, 1024)  # k
PAIRS = (("grpo-id", "id"), ("grpo-edge", "edge"))


def verdicts(runs):
    return [more_than_sharpening(runs, arm, split) for arm, split in PAIRS]


def more_than_sharpening(runs, arm, split):
    claim = f"More than sharpening: {arm} on {split}"
    words, left_out, seeds = [], 0, 0
    table = [["cell", "base pass@1", *(f"pass@{k}" for k in TRIES), "this cell", "seeds"]]
    for label, these in cells([r for r in runs if comparable(r, arm, split)]).items():
        if np.mean([r.reach("base", split) for r in these]) < NO_MASS:
            left_out += 1
            continue
        more = [by_seed(these, lambda r: beyond(r, arm, split, k)) for k in TRIES]
        words.append(some([decide(values, yes=above(POINTS), no=below(POINTS))
                           for values in more]))
        seeds = max(seeds, len(these))
        table.append([label, pm(by_seed(these, lambda r: r.reach("base", split)), "p"),
                      *map(pm, more), words[-1], str(n_seeds(these))])
    note = ""
    if left_out:
        note = (f"Left out: {left_out} cells whose base has less than {NO_MASS:g} there, nothing "
                "to sharpen.")
    return Verdict(claim, unanimous(words), tally(words), table if words else [], seeds, note)


def comparable(run, arm, split):
    """Whether the tuned model and the base at more than one temperature are both there."""
    return run.has("base", arm, split=split) and sum(
        run.has(name, split=split) for name in run.colder()) > 1


def beyond(run, arm, split, k):
    return run.reach(arm, split, k) - run.at_best_temperature(split, k)


def figure(runs):
    """The tuned model minus the base at its best temperature, a line per cell of the grid."""
    fig, axes = draw.panels(1, 2, 3.2, sharey=True)
    drawn = 0
    for ax, (arm, split) in zip(axes[0], PAIRS):
        there = [r for r in runs if comparable(r, arm, split)
                 and r.reach("base", split) >= NO_MASS]
        for these in cells(there).values():
            ax.plot(TRIES, [np.mean([beyond(r, arm, split, k) for r in these]) for k in TRIES],
                    color=draw.ORANGE, marker="^", ms=4, lw=0.8)
            drawn += 1
        ax.axhline(0, color=draw.BLACK, lw=0.8)
        ax.axhspan(-POINTS, POINTS, color=draw.GREY, alpha=0.2, lw=0)
        ax.set_xscale("log", base=2)
        ax.set(title=f"{draw.LOOK[arm].label}, asked about {split}", xlabel="k", xticks=TRIES,
               xticklabels=TRIES)
    if not drawn:
        return None
    axes[0, 0].set_ylabel("pass@k beyond the cold base's")
    fig.suptitle("What GRPO adds to the base at its best temperature (a line per cell, mean over "
                 "seeds; grey: ±2 points)")
    return fig
