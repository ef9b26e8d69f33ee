"""Does a base that stopped early gain like one that learned from noise?

A base can be imperfect in two ways. One that learned from noisy demonstrations is right greedily
and wrong by chance, so that cold sampling mends it. One that stopped pretraining early is wrong
greedily too. If only the mass of right answers counts, as the theory of GRPO with a KL has it, both
gain alike from the same mass.

Rule, fixed before the runs of the first study, 2026-11-21; on all seeds with both kinds of base.
Gain of GRPO on id, without a KL, from an undertrained base (noise 0, fewer steps) minus that from
a noisy base of the same mass (same seed and cell, interpolated): supported if the interval lies
inside ±0.05, refuted if outside (0.05 is ours).
"""
import math

import numpy as np

from lab.judge import NEAR, Verdict, by_seed, decide, group, inside, n_seeds, outside, pm
from questions.saturation import arm_of, dialled_by_noise, gain_of_cold_sampling, jobs, mass
from questions.saturation import undertrained

ORDER = 6
CLAIM = "Undertrained bases gain like noisy ones"


def verdicts(runs):
    noisy = [r for r in dialled_by_noise(runs) if arm_of(r, 0)]
    short = [r for r in undertrained(runs) if arm_of(r, 0)]

    def more(these):
        return by_seed(these, lambda r: difference(r, noisy))

    if not more(short):
        return [Verdict(CLAIM, "not run")]
    table = [["pretraining steps, noise 0", "base Q0", "gain",
              "minus the gain of a noisy base of the same Q0",
              "gain of the base alone, sampled at its best temperature", "seeds"]]
    for steps, these in group(short, lambda r: r.pretrain_steps).items():
        table.append([f"{steps:g}", pm(by_seed(these, lambda r: r.reach("base", "id")), "p"),
                      pm(by_seed(these, lambda r: r.gain(arm_of(r, 0), "id"))), pm(more(these)),
                      pm(by_seed(these, gain_of_cold_sampling)), str(n_seeds(these))])
    word = decide(more(short), yes=inside(NEAR), no=outside(NEAR))
    return [Verdict(CLAIM, word, f"difference {pm(more(short))}", table, len(more(short)))]


def difference(run, noisy):
    """The gain of an undertrained base minus that of the noisy bases of its seed, at its mass; the
    mean over the cells where its mass lies between theirs, nan if there is none."""
    found = []
    for cell in run.masses["base", "id"]:
        line = sorted(mass_and_gain(r, cell) for r in noisy
                      if (r.seed, r.place) == (run.seed, run.place))
        q, gain = mass_and_gain(run, cell)
        if line and line[0][0] <= q <= line[-1][0]:
            masses, gains = zip(*line)
            found.append(gain - np.interp(q, masses, gains))
    return float(np.mean(found)) if found else math.nan


def mass_and_gain(run, cell):
    before, after = mass(run, cell, "base"), mass(run, cell, arm_of(run, 0))
    return before, after - before


def figure(runs):
    """None: the picture of saturation.py shows both kinds of base."""
    return None
