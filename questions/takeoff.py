"""How many right samples must GRPO expect to draw before it takes off?

GRPO learns where some completions of a group are right. From a base with mass Q0 on a prompt,
training can expect E = group size x prompts per step x steps x Q0 right samples, if it stays where
it starts. Prediction P12: take-off is a matter of E alone, at about 2, not of Q0, prompts or steps
one by one. Five bases a seed, from a mass of 1e-11 on the edge to 0.01, and three budgets each.

Rule, fixed 2026-11-21; judged on seeds 3 to 7. "Took off": the mean edge mass rose by more than
0.05. Logistic regression of take-off on log10 E, over all runs. Supported if the 95 % interval of
E50, the E at even odds, lies in [0.1, 30]; take-off rises with the budget within bases (more bases
in which only the larger one takes off than the other way round); and none of at least 30 runs takes
off at E < 0.01. Refuted if the interval lies outside [0.1, 30].
"""
import math

import numpy as np

from lab import draw
from lab.jobs import chain, enough, pretraining, seeds, tuning
from lab.judge import Verdict, even_odds, group, n_seeds

ORDER = 2
CLAIM = "P12: take-off needs about two right samples to expect"
BASES = [("arithmetic", "depth", 0.0), ("arithmetic", "depth", 0.01),
         ("arithmetic", "length", 0.0), ("arithmetic", "tokens", 0.01), ("graph", "depth", 0.01)]
PROMPTS = (8, 32, 128)
ROSE, NONE = 0.05, 0.01            # mass; right samples to expect
BORDERS = (0.1, 30)
FEWEST = 30                        # runs below NONE


def jobs(args):
    found = []
    for seed in seeds(args):
        for task, axis, overlap in BASES:
            base = pretraining(args, seed, task, axis, overlap, steps=enough(args, task, axis))
            arms = [tuning(args, base, f"edge-{n}",
                           ["--train-on", "edge", "--prompts-per-step", str(n)]) for n in PROMPTS]
            found += chain(args, base, arms, ["--cold", "--by-mass", "edge"])
    return found


def points(runs):
    """[(run, arm name, E, took off?)] of every GRPO run on edge."""
    found = []
    for run in runs:
        for arm in run.arms_where(method="grpo", train_on="edge"):
            if run.has("base", arm.name, split="edge"):
                expected = run.budget(arm.name) * run.reach("base", "edge")
                found.append((run, arm.name, expected, run.gain(arm.name, "edge") > ROSE))
    return found


def rises(found, place=2):
    """(bases in which only the largest of what stands at this place of a point took off, in which
    only the smallest did); of points [(run, ..., took off?)], by default by E."""
    up = down = 0
    for these in group(found, lambda point: (point[0].chain, point[0].task)).values():
        in_order = sorted(these, key=lambda point: point[place])
        first, last = in_order[0][3], in_order[-1][3]
        up, down = up + (last and not first), down + (first and not last)
    return up, down


def verdicts(runs):
    found = [point for point in points(runs) if point[2] > 0]
    if not found:
        return [Verdict(CLAIM, "not run")]
    where, low, high = even_odds([math.log10(e) for _, _, e, _ in found],
                                 [took for *_, took in found])
    up, down = rises(found)
    hopeless = [took for _, _, e, took in found if e < NONE]
    seeds_run = n_seeds([run for run, *_ in found])
    inside = BORDERS[0] < 10 ** low and 10 ** high < BORDERS[1]
    outside = 10 ** low > BORDERS[1] or 10 ** high < BORDERS[0]
    word = "undecided"
    if seeds_run > 1 and inside and up > down and len(hopeless) >= FEWEST and not any(hopeless):
        word = "supported"
    if seeds_run > 1 and outside:
        word = "refuted"
    at = "nowhere" if math.isnan(where) else f"{10 ** where:.2g}"
    numbers = (f"E50 {at} (95 %: {10 ** low:.2g} to {10 ** high:.2g}), {len(found)} runs; below "
               f"{NONE:g} {sum(hopeless)} of {len(hopeless)} took off; within a base only the "
               f"largest budget took off {up} times, only the smallest {down} times")
    return [Verdict(CLAIM, word, numbers, table_of(found), seeds_run,
                    "E: group size x prompts per step x steps x the base's edge mass. Took off: "
                    f"edge mass up by more than {ROSE:g}.")]


def table_of(found):
    table = [["right samples to expect", "runs", "took off", "share"]]
    for decade, these in group(found, lambda point: math.floor(math.log10(point[2]))).items():
        took = sum(point[3] for point in these)
        table.append([f"1e{decade:+d} to 1e{decade + 1:+d}", str(len(these)), str(took),
                      f"{took / len(these):.2f}"])
    return table


def figure(runs):
    """The gain of every run against the right samples that it could expect to draw."""
    found = [point for point in points(runs) if point[2] > 0]
    if not found:
        return None
    fig, axes = draw.panels(1, 1, 3.4)
    ax = axes[0, 0]
    places = group(found, lambda point: f"{point[0].place}, overlap {point[0].overlap:g}")
    for (place, these), mark in zip(places.items(), draw.MARKS * 9):
        ax.plot([max(e, 1e-9) for _, _, e, _ in these],
                [run.gain(arm, "edge") for run, arm, *_ in these], mark, ms=5, label=place)
    where, low, high = even_odds([math.log10(e) for _, _, e, _ in found],
                                 [took for *_, took in found])
    left, right = ax.get_xlim()
    ax.axvspan(max(10 ** low, left), min(10 ** high, right), color=draw.GREY, alpha=0.2, lw=0,
               label="even odds (95 %)")
    ax.axhline(ROSE, color=draw.BLACK, lw=0.6, ls=":")
    ax.set(xscale="log", xlabel="right samples to expect, at 1e-9 if fewer (one point per run)",
           ylabel="gain of mass on edge", xlim=(1e-10, np.max([e for _, _, e, _ in found]) * 3))
    ax.legend(fontsize=7)
    fig.suptitle("Does GRPO take off where it can expect to see a right sample?")
    return fig
