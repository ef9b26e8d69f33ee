"""Does GRPO without a KL mend the same share of failures, however good the base was?

On the distribution that pretraining showed, without a KL, nothing holds the policy back. The first
study saw a constant share of the failures go, c = (Q* - Q0) / (1 - Q0), about 0.9 in 240 steps
whatever the base's mass (prediction P13): the gain is c (1 - Q0), and if more steps bring c to 1,
it is all that is left, 1 - Q0. Mass is dialled in two ways: by noise in the demonstrations, and by
stopping early on clean ones, as many bases of one kind as of the other, and the same for each seed.

Rule, fixed 2026-11-21; judged on seeds 3 to 7; depths 1, 2 and 3 each for itself, 480 steps, mean
masses. Constant: the slope of c on Q0, within a seed, over all of its bases: supported if every
depth's interval lies inside ±0.15, refuted if one lies outside. All that is left: c, mean over
bases: supported if every depth's interval lies above 0.95, refuted if one lies below.
"""
import math

import numpy as np

from lab import draw
from lab.jobs import SETTLED, chain, enough, pretraining, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, decide, every, group, inside, n_seeds
from lab.judge import outside, pm

ORDER = 5
CONSTANT = "P13: without KL, the same share of the failures goes, whatever the base's mass"
ALL = "In 480 steps without KL all failures go: the gain is 1 - Q0"
NOISES = (0.1, 0.4, 0.7)
SHARES = (0.2, 0.25, 0.3)   # of --pretrain-steps, at noise 0: about the same masses (seed 0)
STEPS = 480                 # at --law-steps 240
LEVEL, NEARLY_ALL = 0.15, 0.95
LEAST = 3                   # bases that a slope takes


def jobs(args):
    found = []
    for seed in seeds(args):
        for base in bases(args, seed):
            steps = max(1, round(STEPS * args.law_steps / 240))
            found += chain(args, base, [tuning(args, base, "free", ["--kl", "none", *SETTLED],
                                               steps)])
    return found


def bases(args, seed):
    noisy = [pretraining(args, seed, noise=noise, steps=enough(args)) for noise in NOISES]
    short = [pretraining(args, seed, noise=0.0, steps=max(1, round(share * args.pretrain_steps)))
             for share in SHARES]
    return noisy + short


# ----------------------------------------------------------------------------------------- numbers

def arm_of(run):
    """The name of the arm without a KL; "" if there is none."""
    arms = [arm.name for arm in run.arms_where(method="grpo", kl="none")
            if run.has("base", arm.name, split="id")]
    return arms[0] if arms else ""


def tuned_runs(runs):
    return [run for run in runs if arm_of(run)]


def is_undertrained(run):
    """A base without noise, which was stopped early; the others learned from noise."""
    return run.noise == 0


def mass(run, cell, arm):
    return float(np.exp(run.masses[arm, "id"][cell]).mean())


def share_mended(run, cell):
    """c: the share of the base's failures that went."""
    start, end = mass(run, cell, "base"), mass(run, cell, arm_of(run))
    return (end - start) / (1 - start)


def slope(runs, cell):
    """Of c on Q0 over bases: nan if they are too few."""
    if len(runs) < LEAST:
        return math.nan
    start = [mass(run, cell, "base") for run in runs]
    return float(np.polyfit(start, [share_mended(run, cell) for run in runs], 1)[0])


def gain_of_cold_sampling(run):
    return run.at_best_temperature("id") - run.reach("base", "id")


# ------------------------------------------------------------------------------------- the verdicts

def verdicts(runs):
    runs = tuned_runs(runs)
    return [constant(runs), all_that_is_left(runs)]


def constant(runs):
    of_seeds, words, numbers = group(runs, lambda r: r.seed), [], []
    for cell in cells_of(runs):
        slopes = [slope(these, cell) for these in of_seeds.values()]
        slopes = [value for value in slopes if not math.isnan(value)]
        words.append(decide(slopes, yes=inside(LEVEL), no=outside(LEVEL)))
        if slopes:
            numbers.append(f"{cell}: slope {pm(slopes, '+.2f')}")
    if not numbers:
        return Verdict(CONSTANT, "not run")
    enough_bases = [these for these in of_seeds.values() if len(these) >= LEAST]
    return Verdict(CONSTANT, every(words), "; ".join(numbers), table_of(runs), len(enough_bases),
                   "c is the share of the base's failures that went.")


def all_that_is_left(runs):
    words, numbers = [], []
    for cell in cells_of(runs):
        mended = by_seed(runs, lambda r: share_mended(r, cell))
        words.append(decide(mended, yes=above(NEARLY_ALL), no=below(NEARLY_ALL)))
        numbers.append(f"{cell}: c {pm(mended, '.3f')}")
    if not numbers:
        return Verdict(ALL, "not run")
    return Verdict(ALL, every(words), "; ".join(numbers), n_seeds=n_seeds(runs))


def cells_of(runs):
    return list(runs[0].masses["base", "id"]) if runs else []


def table_of(runs):
    cells = cells_of(runs)
    table = [["base", *(f"{cell}: Q0, c" for cell in cells),
              "id: gain", "gain of the base alone, sampled at its best temperature", "seeds"]]
    for key, these in group(runs, kind_of).items():
        row = [", ".join((pm(by_seed(these, lambda r: mass(r, cell, "base")), "p"),
                          pm(by_seed(these, lambda r: share_mended(r, cell)), ".2f")))
               for cell in cells]
        table.append([key[1], *row, pm(by_seed(these, lambda r: r.gain(arm_of(r), "id"))),
                      pm(by_seed(these, gain_of_cold_sampling)), str(n_seeds(these))])
    return table


def kind_of(run):
    """What tells bases apart, to sort by and to read."""
    if is_undertrained(run):
        return True, f"{run.pretrain_steps} steps, no noise"
    return False, f"noise {run.noise:g}"


def figure(runs):
    """The gain against the base's mass: of noisy bases, of undertrained ones, and of cold sampling
    alone, beside all that was left to gain."""
    runs = tuned_runs(runs)
    if not runs:
        return None
    cells = cells_of(runs)
    fig, axes = draw.panels(1, len(cells), 3.0, sharex=True, sharey=True)
    looks = {False: draw.LOOK["tuned"]._replace(line="", label="GRPO, noisy bases"),
             True: draw.Look(draw.BLUE, "s", "", "GRPO, undertrained bases")}
    cold = draw.Look(draw.BLACK, "x", "", "the base at its best temperature")
    for ax, cell in zip(axes[0], cells):
        ax.plot([0, 1], [1, 0], color=draw.GREEN, ls=":", lw=2, label="all that is left: 1 - Q0")
        for kind, look in looks.items():
            these = [r for r in runs if is_undertrained(r) == kind]
            points(ax, these, cell, lambda r: [arm_of(r)], look)
        points(ax, runs, cell, lambda r: r.colder(), cold)
        ax.set(title=cell, xlabel="base mass Q0")
    axes[0, 0].set_ylabel("gain of mass")
    axes[0, 0].legend(fontsize=7)
    fig.suptitle("What GRPO without a KL gains, by how good the base was (± 95 % over seeds)")
    return fig


def points(ax, runs, cell, arms, look):
    """For each kind of base: its mass in the cell, and what the best of arms(run) gains there."""
    starts, gains = [], []
    for these in group(runs, kind_of).values():
        starts.append(np.mean([mass(r, cell, "base") for r in these]))
        gains.append(by_seed(these, lambda r: max(mass(r, cell, arm) for arm in arms(r))
                             - mass(r, cell, "base")))
    draw.bars(ax, starts, gains, look, limits=(-1, 1))
