"""Does a base that notices its errors obey the tilting law, where a blind one does not?

GRPO with a KL ends where the blind law (P11, theory.py) has it, because the tuned model shifts the
next step after an error as much as after none: it cannot tell them apart. If that is the reason,
then a base that can tell should obey P1 and P10. Such a base can be made: pretraining on
demonstrations whose errors are marked (the wrong digit and every later state in the shadow
alphabet), with the same right answers, length and vocabulary, and as much noise as gives the same
mass. This is the positive control, without which "blind" is only a name. Depth 3, KL k1 in the
reward, beta 1, where P1 lies above P11, and 0.3, where it lies below.

Rule, fixed 2026-11-21; judged on seeds 3 to 7. With marks: the logit shift of the next step after
a marked error is less than half of that after a right prefix, and the end point, mean mass, is
nearer P1 than P11 in the logit. Supported if both intervals over seeds lie on that side (share
below 1/2; distance to P1 minus distance to P11 below 0), refuted if one lies on the other side.
Without marks the same the other way round. Undecided unless right prefixes moved up (a share of
nothing). Left out: pairs of bases whose masses differ by more than half a logit, because they are
not to differ in anything but the marks, and end points for which the two laws lie within 0.3 of
each other.
"""
import math
from typing import NamedTuple

import numpy as np

from lab import draw
from lab.jobs import chain, enough, pretraining, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, decide, group, pm
from theory import blind_shifts, logit, moved, tilted

ORDER = 2
CLAIMS = {True: "A base that marks its errors leaves them alone, and ends where P1 has it",
          False: "A base that does not mark them shifts both alike, and ends where P11 has it"}
CELL, DEPTH = "d3 l4", 3
MARKS = "kind=marked"
NOISE = {True: 0.575, False: 0.7}    # marked or not: the same mass at depth 3, on seed 0
BETAS = (1, 0.3)
TRAIN = ["--depths", str(DEPTH), "--scale", "none", "--kl", "k1_reward"]
STEPS = 400                          # at --law-steps 240
SAME, APART = 0.5, 0.3               # logits: of two masses that count as one; of two laws


def jobs(args):
    found, steps = [], max(1, round(STEPS * args.law_steps / 240))
    for seed in seeds(args):
        bases = [pretraining(args, seed, noise=NOISE[False], steps=enough(args)),
                 pretraining(args, seed, noise=NOISE[True], steps=enough(args), setting=MARKS,
                             flags=["--noise-kind", "marked"])]
        for base in bases:
            arms = [tuning(args, base, f"deep-b{beta:g}", [*TRAIN, "--beta", f"{beta:g}"], steps)
                    for beta in BETAS]
            found += chain(args, base, arms, ["--cold", "--per-step", "--per-token", "id"])
    return found


# ----------------------------------------------------------------------------------------- numbers

class End(NamedTuple):
    """One base and beta: mean masses at CELL, and logit shifts of single steps."""
    seed: int
    marked: bool
    beta: float
    start: float       # the base's mass
    mass: float        # where training ended
    p1: float
    p11: float         # its lower state, if there are two: training began below
    right: float       # mean logit shift of a step after right ones
    share: float       # of that: the shift of a step after an error

    @property
    def apart(self):
        return abs(logit_of(self.p1) - logit_of(self.p11))

    @property
    def nearer(self):
        """Distance to P1 minus distance to P11, in logits; nan where they are too close."""
        if self.apart < APART:
            return math.nan
        to_p1, to_p11 = (abs(logit_of(self.mass) - logit_of(law)) for law in (self.p1, self.p11))
        return to_p1 - to_p11


def logit_of(mass):
    return float(logit(math.log(mass)))


def mean_mass(log_masses):
    return float(np.exp(log_masses).mean())


def ends(runs):
    """[End] of every base and beta that was run, without the pairs that are no pairs."""
    found = []
    for run in runs:
        if CELL not in run.tokens.get("id", {}):
            continue
        log_p, base = run.tokens["id"][CELL], run.masses["base", "id"][CELL]
        for arm in run.arms_where(method="grpo", kl="k1_reward", init="base"):
            right, wrong = (step_shift(run, arm.name, prefix) for prefix in ("right", "corrupted"))
            state = blind_shifts(log_p, arm.beta)[0]
            found.append(End(run.seed, run.setting == MARKS, arm.beta, mean_mass(base),
                             mean_mass(run.masses[arm.name, "id"][CELL]),
                             float(tilted(base, arm.beta).mean()),
                             mean_mass(moved(log_p, state)), right, wrong / right))
    return found


def step_shift(run, arm, prefix):
    """Mean logit shift of the steps that can follow an error, of chains as deep as CELL."""
    shifts = [logit_of(step["tuned"]) - logit_of(step["base"]) for step in run.steps
              if (step["arm"], step["depth"], step["prefix"]) == (arm, DEPTH, prefix)
              and step["step"] > 1]
    return float(np.mean(shifts)) if shifts else math.nan


def paired(found):
    """The Ends of seeds that have both kinds of base, with the same mass."""
    kept = []
    for these in group(found, lambda end: end.seed).values():
        starts = {end.marked: logit_of(end.start) for end in these}
        if len(starts) == 2 and abs(starts[True] - starts[False]) <= SAME:
            kept += these
    return kept


# ------------------------------------------------------------------------------------- the verdicts

def verdicts(runs):
    found = ends(runs)
    left_out = len({end.seed for end in found}) - len({end.seed for end in paired(found)})
    return [of_kind(found, marked, left_out) for marked in CLAIMS]


def of_kind(found, marked, left_out):
    these = [end for end in paired(found) if end.marked == marked]
    share, near = (by_seed(these, lambda end: getattr(end, name)) for name in ("share", "nearer"))
    if not share or not near:
        return Verdict(CLAIMS[marked], "not run")
    at, other = (below, above) if marked else (above, below)
    words = {decide(share, yes=at(0.5), no=other(0.5)), decide(near, yes=at(0), no=other(0))}
    word = "refuted" if "refuted" in words else "undecided"
    if words == {"supported"}:
        word = "supported"
    right = by_seed(these, lambda end: end.right)
    if decide(right, yes=above(0), no=[]) != "supported":
        word = "undecided"
    numbers = (f"share after an error {pm(share, '.2f')}; distance to P1 minus distance to P11 "
               f"{pm(near, '+.2f')} logits")
    if left_out:
        numbers += f"; {left_out} seeds left out, without a pair of one mass"
    return Verdict(CLAIMS[marked], word, numbers, table_of(these), len(share),
                   "Means of the masses at depth 3. P1 and P11 from the base's own masses and "
                   "probabilities, without a free parameter.")


def table_of(found):
    table = [["beta", "base Q0", "Q*", "P1", "P11", "shift after a right prefix",
              "share of it after an error", "seeds"]]
    for beta, these in group(found, lambda end: -end.beta).items():
        masses = [pm(by_seed(these, lambda end: getattr(end, name)), ".3f")
                  for name in ("start", "mass", "p1", "p11")]
        table.append([f"{-beta:g}", *masses, pm(by_seed(these, lambda end: end.right), "+.2f"),
                      pm(by_seed(these, lambda end: end.share), ".2f"), str(len(these))])
    return table


def figure(runs):
    """Where training ended, beside the two laws, and how much it moved what follows an error."""
    found = paired(ends(runs))
    if not found:
        return None
    fig, axes = draw.panels(1, 2, 3.2)
    masses, shares = axes[0]
    groups = group(found, lambda end: (not end.marked, -end.beta))
    looks = {"start": draw.LOOK["base"], "mass": draw.LOOK["tuned"],
             "p1": draw.LOOK["law"]._replace(color=draw.GREY, label="P1: tilting"),
             "p11": draw.LOOK["law"]._replace(label="P11: the blind law")}
    for name, look in looks.items():
        values = [by_seed(these, lambda end: getattr(end, name)) for these in groups.values()]
        size = 16 if name in ("p1", "p11") else 6
        draw.bars(masses, range(len(groups)), values, look, (0, 1), size, ls="")
    draw.bars(shares, range(len(groups)), [by_seed(these, lambda end: end.share)
                                           for these in groups.values()],
              draw.LOOK["tuned"], ls="")
    names = [f"{'not ' * unmarked}marked\nβ = {-beta:g}" for unmarked, beta in groups]
    for ax in axes[0]:
        ax.set(xticks=range(len(groups)), xticklabels=names, xlim=(-0.5, len(groups) - 0.5))
    masses.set(ylabel="mass at depth 3", ylim=(-0.03, 1.03))
    masses.legend(fontsize=8)
    shares.axhline(0.5, color=draw.BLACK, lw=0.6, ls=":")
    shares.set(ylabel="shift after an error, as a share of that after none")
    fig.suptitle("A base that marks its errors, and one that does not (± 95 % over seeds)")
    return fig
