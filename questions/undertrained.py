"""Does a base that stopped early gain like one that learned from noise?

A base can be imperfect in two ways. One that learned from noisy demonstrations is right greedily
and wrong by chance, so that cold sampling mends it. One that stopped pretraining early is wrong
greedily too. If only the mass of right answers counts, as the theory of GRPO has it, both lose the
same share of their failures, c = (Q* - Q0) / (1 - Q0), from the same mass.

Rule, fixed 2026-11-21; judged on seeds 3 to 7; 480 steps of GRPO on id, without a KL. c of an
undertrained base (noise 0, fewer steps) minus that of a noisy base of the same mass (same seed and
depth, interpolated), mean over bases and depths: supported if the interval lies inside ±0.15,
refuted if outside. Masses that lie beyond those of the noisy bases are left out.
"""
import math

import numpy as np

from lab.judge import Verdict, by_seed, decide, group, inside, n_seeds, outside, pm
from questions.saturation import (LEVEL, arm_of, gain_of_cold_sampling, is_undertrained, jobs, mass,
                                  share_mended, tuned_runs)

ORDER = 6
CLAIM = "Undertrained bases gain like noisy ones of the same mass"


def verdicts(runs):
    runs = tuned_runs(runs)
    noisy = [r for r in runs if not is_undertrained(r)]
    short = [r for r in runs if is_undertrained(r)]

    def more(these):
        return by_seed(these, lambda r: difference(r, noisy))

    if not more(short):
        return [Verdict(CLAIM, "not run")]
    table = [["pretraining steps, noise 0", "base Q0", "gain",
              "c minus that of a noisy base of the same Q0",
              "gain of the base alone, sampled at its best temperature", "seeds"]]
    for steps, these in group(short, lambda r: r.pretrain_steps).items():
        table.append([f"{steps:g}", pm(by_seed(these, lambda r: r.reach("base", "id")), "p"),
                      pm(by_seed(these, lambda r: r.gain(arm_of(r), "id"))), pm(more(these)),
                      pm(by_seed(these, gain_of_cold_sampling)), str(n_seeds(these))])
    word = decide(more(short), yes=inside(LEVEL), no=outside(LEVEL))
    return [Verdict(CLAIM, word, f"difference of c {pm(more(short))}", table, len(more(short)))]


def difference(run, noisy):
    """c of an undertrained base minus that of the noisy bases of its seed, at its mass; the mean
    over the cells where its mass lies between theirs, nan if there is none."""
    found = []
    for cell in run.masses["base", "id"]:
        line = sorted((mass(r, cell, "base"), share_mended(r, cell)) for r in noisy
                      if (r.seed, r.place) == (run.seed, run.place))
        start = mass(run, cell, "base")
        if line and line[0][0] <= start <= line[-1][0]:
            found.append(share_mended(run, cell) - np.interp(start, *zip(*line)))
    return float(np.mean(found)) if found else math.nan


def figure(runs):
    """None: the picture of saturation.py shows both kinds of base."""
    return None
