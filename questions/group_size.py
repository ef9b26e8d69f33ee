"""What does the size of a group buy, at as many rollouts?

512 completions a step can be 128 prompts in groups of 4, 32 in groups of 16, or 8 in groups of 64.
A group without a right sample teaches nothing. Where right samples are rare (group size x Q0 below
1), the signal of a step is expected to be about Q0 sqrt(G - 1) (prediction P6): at as many right
samples, larger groups learn more from each. Where they are common, it does not depend on G, and
fewer prompts are all that is lost.

Rule, fixed 2026-11-21; judged on seeds 3 to 7. Rare: arithmetic depth with overlap 0.01 and 0.03,
GRPO on edge; the slope of the edge's logit shift (mean over prompts) on log4 G, mean over the two
bases: supported if the interval lies above 0, refuted if below. Common: the same bases, GRPO on id;
the mass on id with G 4, and with G 64, minus that with G 16: supported if both intervals lie inside
±2 points, refuted if one lies outside.
"""
import math

import numpy as np

from lab import draw
from lab.jobs import chain, enough, on, pretraining, seeds, tuning
from lab.judge import POINTS, Verdict, above, below, by_seed, decide, every, group, inside
from lab.judge import n_seeds, outside, pm
from questions.alignment import logit_shift

ORDER = 26
RARE = "Where right samples are rare, larger groups gain more at as many rollouts"
COMMON = "Where they are common, the size of a group makes no difference"
OVERLAPS = (0.01, 0.03)
ROLLOUTS = 512              # a step: group size x prompts
SIZES = (4, 16, 64)
SPLITS = ("edge", "id")     # that an arm trains on, and is asked about


def jobs(args):
    found = []
    for seed in seeds(args):
        for base in bases(args, seed):
            arms = on(args, base, "id", "edge")   # in groups of 16: the default
            arms += [sized(args, base, split, size) for split in SPLITS for size in (4, 64)]
            found += chain(args, base, arms, ["--cold", "--by-mass", "edge"])
    return found


def bases(args, seed):
    return [pretraining(args, seed, overlap=overlap, steps=enough(args)) for overlap in OVERLAPS]


def sized(args, base, split, size):
    flags = ["--train-on", split, "--group-size", str(size),
             "--prompts-per-step", str(ROLLOUTS // size)]
    return tuning(args, base, f"{split}-groups-of-{size}", flags)


def of_size(run, split, size):
    """The name of the arm with groups of this size on a split; "" if there is none."""
    arms = run.arms_where(method="grpo", train_on=split, group_size=size,
                          prompts_per_step=ROLLOUTS // size)
    return arms[0].name if arms else ""


def shift(run, split, size):
    return logit_shift(run, of_size(run, split, size), split)


# ------------------------------------------------------------------------------------- the verdicts

def verdicts(runs):
    return [rare(runs), common(runs)]


def rare(runs):
    slopes = by_seed(runs, lambda r: slope([shift(r, "edge", size) for size in SIZES]))
    if not slopes:
        return Verdict(RARE, "not run")
    return Verdict(RARE, decide(slopes, yes=above(0), no=below(0)),
                   f"{pm(slopes, '+.2f')} logits for four times the group", table_of(runs, "edge"),
                   len(slopes))


def slope(values):
    """By how much values rise from one to the next: nan if one is missing."""
    if any(math.isnan(value) for value in values):
        return math.nan
    return float(np.polyfit(range(len(values)), values, 1)[0])


def common(runs):
    more = {size: by_seed(runs, lambda r: difference(r, size)) for size in (4, 64)}
    if not all(more.values()):
        return Verdict(COMMON, "not run")
    word = every([decide(values, yes=inside(POINTS), no=outside(POINTS))
                  for values in more.values()])
    numbers = "; ".join(f"G {size} minus G 16: {pm(values)}" for size, values in more.items())
    return Verdict(COMMON, word, numbers, table_of(runs, "id"), len(more[4]))


def difference(run, size):
    """The mass on id after GRPO in groups of this size, minus that in groups of 16."""
    return run.reach(of_size(run, "id", size), "id") - run.reach(of_size(run, "id", 16), "id")


def table_of(runs, split):
    table = [["overlap", "group size x prompts", f"{split}: base", f"{split}: after",
              "logit shift", "seeds"]]
    for overlap, these in group(runs, lambda r: r.overlap).items():
        for size in SIZES:
            there = [r for r in these if of_size(r, split, size)]
            if not there:
                continue
            base = by_seed(there, lambda r: r.reach("base", split))
            after = by_seed(there, lambda r: r.reach(of_size(r, split, size), split))
            shifts = by_seed(there, lambda r: shift(r, split, size))
            table.append([f"{overlap:g}", f"{size} x {ROLLOUTS // size}", pm(base, "p"),
                          pm(after, "p"), pm(shifts, "+.2f"), str(n_seeds(there))])
    return table


def figure(runs):
    """Logit shift against the size of a group, rare and common."""
    if not any(of_size(r, split, 4) for r in runs for split in SPLITS):
        return None
    fig, axes = draw.panels(1, 2, 3.0, sharey=True)
    looks = (draw.LOOK["grpo-edge"], draw.LOOK["grpo-id"])
    titles = ("right samples are rare: edge", "right samples are common: id")
    for ax, split, title, look in zip(axes[0], SPLITS, titles, looks):
        for (overlap, these), line in zip(group(runs, lambda r: r.overlap).items(), "-:"):
            draw.bars(ax, SIZES, [by_seed(these, lambda r: shift(r, split, size))
                                  for size in SIZES],
                      look._replace(line=line, label=f"overlap {overlap:g}"))
        ax.set(xscale="log", title=title, xlabel="group size, at 512 rollouts a step",
               xticks=SIZES, xticklabels=map(str, SIZES))
        ax.minorticks_off()
        ax.legend()
    axes[0, 0].set_ylabel("logit shift by GRPO")
    fig.suptitle("What larger groups buy at as many rollouts (± 95 % over seeds)")
    return fig
