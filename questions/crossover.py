"""Does the base overtake the tuned model when both may try k times?

"Does RL Really Incentivize Reasoning Capacity?" (2504.13837) found that tuned models win at pass@1
and lose at large k. The laws of GRPO with a KL say the contrary: no prompt loses mass (prediction
P4), so pass@k falls at no k. Here pass@k is exact up to k = 2^20, on the split that GRPO was
trained on, and on the splits that it was not.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Mean exact pass@k, tuned
minus base, k = 1, 2, 4 ... 2^20: a cell supports if the interval lies above -1 point at every k
and refutes if it lies below at some k; one cell refutes, all that have two seeds or more support
(1 point is ours).
"""
import numpy as np

from lab import draw
from lab.judge import Verdict, above, below, cells, decide, every, group, n_seeds, pm, tally
from cli import show_k
from measure import FELL
from questions.dose import jobs

ORDER = 7
DIP = 0.01                            # a crossover smaller than this is none to speak of
TRIES = [2 ** i for i in range(21)]   # k
TRAINED_ON = [("grpo-id", "id"), ("grpo-edge", "edge")]
NOT_TRAINED_ON = [("grpo-id", "edge"), ("grpo-id", "hard"), ("grpo-edge", "id"),
                  ("grpo-edge", "hard")]


def verdicts(runs):
    return [no_crossover(runs, TRAINED_ON, "No crossover where GRPO was trained (P4)"),
            no_crossover(runs, NOT_TRAINED_ON, "No crossover where it was not trained")]


def no_crossover(runs, pairs, claim):
    words, crossed, seeds = [], 0, 0
    table = [["cell", "share of prompts that fell", "pass@k below the base's from k =",
              "worst difference", "this cell", "seeds"]]
    for label, in_cell in cells(runs).items():
        for arm, split in pairs:
            these = [r for r in in_cell if r.has("base", arm, split=split)]
            if not these:
                continue
            change = np.array([r.gain(arm, split, TRIES) for r in these])  # [seeds, 21]
            fell = [share_that_fell(r, arm, split) for r in these]
            word = every([decide(list(at_k), yes=above(-DIP), no=below(-DIP))
                          for at_k in change.T])
            if len(these) > 1:
                words.append(word)
            first, worst = where_below(change)
            crossed += first != "none"
            seeds = max(seeds, len(these))
            table.append([f"{label}: {arm} on {split}", pm(fell, ".2f"), first, worst, word,
                          str(n_seeds(these))])
    if len(table) == 1:
        return Verdict(claim, "not run")
    numbers = f"the mean is below the base's at some k in {crossed} of {len(table) - 1}"
    if not words:
        return Verdict(claim, "undecided", numbers, table, seeds)
    return Verdict(claim, every(words), f"{tally(words)}; {numbers}", table, seeds)


def share_that_fell(run, arm, split):
    return float((run.log_mass(arm, split) < run.log_mass("base", split) - FELL).mean())


def where_below(change):
    """(the first k at which the mean of change [seeds, 21] is negative, the worst difference)."""
    mean = change.mean(0)
    below_base = np.flatnonzero(mean < -1e-9)
    if len(below_base) == 0:
        return "none", ""
    worst = int(mean.argmin())
    return (show_k(TRIES[below_base[0]]),
            f"{pm(list(change[:, worst]))} at {show_k(TRIES[worst])}")


def figure(runs):
    """pass@k against k at every overlap, in the place with the most seeds."""
    arms = ("base", "grpo-id", "grpo-edge")
    places = group([r for r in runs if r.has(*arms, split="edge")], lambda r: r.place)
    if not places:
        return None
    place = max(places, key=lambda p: (n_seeds(places[p]), p == "arithmetic depth"))
    overlaps = group(places[place], lambda r: r.overlap)
    fig, axes = draw.panels(2, len(overlaps), sharex=True, sharey=True)
    for column, (overlap, these) in enumerate(overlaps.items()):
        for ax, split in zip(axes[:, column], ("id", "edge")):
            for arm in arms:
                draw.band(ax, TRIES, [r.reach(arm, split, TRIES) for r in these], draw.LOOK[arm])
            draw.tries(ax, TRIES)
            ax.set_title(f"{split}, overlap {overlap:g}")
    axes[0, 0].legend(loc="lower right")
    fig.supxlabel("k")
    fig.supylabel("exact pass@k")
    fig.suptitle(f"{place}: does the base catch up, or overtake, when both may try k times? "
                 "(bands: 95 % over seeds)")
    return fig
