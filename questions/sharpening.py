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
    words, most = [], 0
    there = cells([r for r in runs if comparable(r, arm, split)])
    table = [["cell", "base pass@1", *(f"pass@{k}" for k in TRIES), "this cell", "seeds"]]
    for label, these in there.items():
        if not alive(these, split):
            continue
        more = [by_seed(these, lambda r: beyond(r, arm, split, k)) for k in TRIES]
        words.append(some([decide(values, yes=above(POINTS), no=below(POINTS))
                           for values in more]))
        most = max(most, len(these))
        table.append([label, pm(by_seed(these, lambda r: r.reach("base", split)), "p"),
                      *map(pm, more), words[-1], str(n_seeds(these))])
    note, left_out = "", len(there) - len(words)
    if left_out:
        note = (f"Left out: {left_out} cells whose base has less than {NO_MASS:g} there, nothing "
                "to sharpen.")
    return Verdict(claim, unanimous(words), tally(words), table if words else [], most, note)


def comparable(run, arm, split):
    """Whether the tuned model and the base at more than one temperature are both there."""
    return run.has("base", arm, split=split) and sum(
        run.has(name, split=split) for name in run.colder()) > 1


def alive(runs, split):
    return np.mean([r.reach("base", split) for r in runs]) >= NO_MASS


def beyond(run, arm, split, k):
    return run.reach(arm, split, k) - run.at_best_temperature(split, k)


def figure(runs):
    """The tuned model minus the base at its best temperature, a line per cell of the grid."""
    if not any(comparable(r, arm, split) for r in runs for arm, split in PAIRS):
        return None
    fig, axes = draw.panels(1, 2, 3.2, sharey=True)
    for ax, (arm, split) in zip(axes[0], PAIRS):
        there = cells([r for r in runs if comparable(r, arm, split)])
        for these in [these for these in there.values() if alive(these, split)]:
            ax.plot(TRIES, [np.mean([beyond(r, arm, split, k) for r in these]) for k in TRIES],
                    color=draw.ORANGE, marker="^", ms=4, lw=0.8)
        ax.axhline(0, color=draw.BLACK, lw=0.8)
        ax.axhspan(-POINTS, POINTS, color=draw.GREY, alpha=0.2, lw=0)
        ax.set_xscale("log", base=2)
        ax.set(title=f"{draw.LOOK[arm].label}, asked about {split}", xlabel="k", xticks=TRIES,
               xticklabels=TRIES)
    axes[0, 0].set_ylabel("pass@k beyond the cold base's")
    fig.suptitle("What GRPO adds to the base at its best temperature (a line per cell, mean over "
                 "seeds; grey: ±2 points)")
    return fig
