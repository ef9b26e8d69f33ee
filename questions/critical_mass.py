"""Is there a mass below which GRPO with a KL never takes off, and are there two ends?

A policy that cannot tell a right beginning from a wrong one must tilt both, and pays its KL on
both. Then the place where it stops obeys another law than P1's: P11, the blind law (theory.py),
which has a critical mass. A base that is below it stays near where it is, however many samples it
is given, though P1 would have it rise; and a policy that already was far above comes to rest there,
at another end, with the same base, reference and loss. The prediction is each base's own: from its
probabilities of single right tokens, before any training, without a free parameter.

Rule, fixed 2026-11-21; judged on seeds 3 to 7. Bases across Q0 0.005 to 0.2 (depth 3, two symbols
corrupted at once), beta 0.3 and 0.2, KL k1 in the reward, constant rate. Each base is predicted to
take off from below (to end above 1/e, which lies between the two ends), or not. Those whose beta is
within 5 % of their own border are left out. Supported if 9 of 10 predictions are right, with at
least 10 bases on either side, and at least three bases that are predicted to have two ends keep
them after twice the steps: more than 2 logits apart, each within half a logit of its prediction.
Refuted if fewer than 7 of 10 are right. P1 predicts neither.
"""
import math
from typing import NamedTuple

import numpy as np

from lab import draw
from lab.jobs import chain, enough, pretraining, seeds, tuning
from lab.judge import Verdict, group
from theory import blind, blind_betas, blind_shifts, logit, moved, tilted

ORDER = 1
CLAIM = "P11: below a critical mass GRPO with a KL stays down, and the same base has two ends"
CELL = "d3 l4"
NOISES = (0.3, 0.5, 0.6, 0.7)        # of two symbols: depth 3 from about 0.15 down to 0.007
BETAS = (0.3, 0.2)
FROM_ABOVE = {0.2: (0.7,)}           # beta: noises whose bases should have two ends there
TRAIN = ["--depths", "3", "--scale", "none"]
STEPS, FREE_STEPS = 400, 300         # at --law-steps 240
MIDDLE = 1 / math.e                  # between the lower ends and the upper ones, at any beta
APART, NEAR, CLOSE = 2.0, 0.5, 0.05  # logits, logits, share of beta


def jobs(args):
    return [job for seed in seeds(args) for noise in NOISES for job in of_base(args, seed, noise)]


def of_base(args, seed, noise):
    """A base, GRPO from it at each beta, and where two ends are expected from above too."""
    steps, free_steps = (max(1, round(n * args.law_steps / 240)) for n in (STEPS, FREE_STEPS))
    base = pretraining(args, seed, noise=noise, steps=enough(args),
                       setting="symbols=2", flags=["--noise-symbols", "2"])
    arms = []

    def pulled(name, beta, init=None):
        flags = [*TRAIN, "--kl", "k1_reward", "--beta", f"{beta:g}"]
        if init:
            flags += ["--reference", base.out]
        needs = [base] if init else []
        arms.append(tuning(args, base, f"{name}-b{beta:g}", flags, steps, init, needs))
        return arms[-1]

    below = {beta: pulled("below", beta) for beta in BETAS}
    for beta in (beta for beta in BETAS if noise in FROM_ABOVE.get(beta, ())):
        free = tuning(args, base, "free", [*TRAIN, "--kl", "none"], free_steps)
        arms.append(free)
        pulled("below-twice", beta, below[beta])
        pulled("above-twice", beta, pulled("above", beta, free))
    return chain(args, base, arms, ["--cold", "--per-token", "id", "--by-mass", "id"])


# ---------------------------------------------------------------- what is predicted, and what came

class End(NamedTuple):
    """One base and beta: the mean masses at CELL that P11 predicts (ends, the lower first), that
    GRPO reached from below and from above (nan if it was not run), and after twice the steps."""
    seed: int
    noise: float
    beta: float
    start: float
    ends: list
    border: float      # the beta below which it takes off; 0 if it has none
    below: float
    above: float
    below_twice: float
    above_twice: float

    @property
    def near_border(self):
        return abs(self.beta / self.border - 1) < CLOSE if self.border else False

    @property
    def is_right(self):
        return (self.ends[0] > MIDDLE) == (self.below > MIDDLE)

    @property
    def keeps_both(self):
        """Whether both ends were kept, each near its prediction."""
        low, high = self.below_twice, self.above_twice
        if len(self.ends) < 2 or math.isnan(low) or math.isnan(high):
            return False
        off = [abs(logit_of(end) - logit_of(want)) for end, want in zip((low, high), self.ends)]
        return logit_of(high) - logit_of(low) > APART and max(off) < NEAR


def logit_of(mass):
    return float(logit(math.log(mass)))


def ends(runs):
    """[End] of every base and beta that was run from below."""
    found = []
    for run in runs:
        if CELL not in run.tokens.get("id", {}):
            continue
        log_p, betas = run.tokens["id"][CELL], blind_betas(run.tokens["id"][CELL])
        for arm in run.arms_where(kl="k1_reward", init="base"):
            predicted = [mean_mass(moved(log_p, s)) for s in blind_shifts(log_p, arm.beta)]
            above = arm_from(run, arm.beta, "free")
            reached = [mass_of(run, name) for name in (
                arm.name, above, arm_from(run, arm.beta, arm.name),
                arm_from(run, arm.beta, above))]
            found.append(End(run.seed, run.noise, arm.beta, mass_of(run, "base"), predicted,
                             float(betas[0]) if betas else 0.0, *reached))
    return found


def arm_from(run, beta, init):
    """The name of the arm with this beta that started from the arm `init`; "" if there is none."""
    return next((arm.name for arm in run.arms_where(kl="k1_reward", beta=beta, init=init)), "")


def mass_of(run, arm):
    masses = run.masses.get((arm, "id"), {})
    return mean_mass(masses[CELL]) if CELL in masses else math.nan


def mean_mass(log_masses):
    return float(np.exp(log_masses).mean())


# -------------------------------------------------------------------------------------- the verdict

def verdicts(runs):
    found = ends(runs)
    if not found:
        return [Verdict(CLAIM, "not run")]
    judged = [end for end in found if not end.near_border]
    off = [end for end in judged if end.ends[0] > MIDDLE]
    right = sum(end.is_right for end in judged)
    both, two = sum(end.keeps_both for end in found), sum(two_ends_run(end) for end in found)
    n_seeds = len({end.seed for end in found})
    word = "undecided"
    if n_seeds > 1 and min(len(off), len(judged) - len(off)) >= 10:
        if right >= 0.9 * len(judged) and both >= 3:
            word = "supported"
        if right < 0.7 * len(judged):
            word = "refuted"
    numbers = (f"{right} of {len(judged)} predictions right ({len(off)} to take off, "
               f"{len(judged) - len(off)} not; {len(found) - len(judged)} near their border left "
               f"out); two ends kept by {both} of {two} bases")
    return [Verdict(CLAIM, word, numbers, table_of(found), n_seeds,
                    "Predicted: the stable ends of the base, by P11 in its common-shift form; P1 "
                    "beside it for the base's mean mass. The last columns are after twice the "
                    "steps.")]


def two_ends_run(end):
    return len(end.ends) == 2 and not math.isnan(end.above_twice)


def table_of(found):
    table = [["beta", "noise", "seed", "base", "P11", "P1", "from below", "from above",
              "below, twice", "above, twice"]]
    for end in sorted(found, key=lambda end: (-end.beta, end.noise, end.seed)):
        p1 = float(tilted(math.log(end.start), end.beta))
        predicted = " or ".join(f"{q:.3f}" for q in end.ends) + " (near)" * end.near_border
        reached = [end.below, end.above, end.below_twice, end.above_twice]
        table.append([f"{end.beta:g}", f"{end.noise:g}", str(end.seed), f"{end.start:.4f}",
                      predicted, f"{p1:.3f}",
                      *("-" if math.isnan(q) else f"{q:.3f}" for q in reached)])
    return table


def figure(runs):
    """Where GRPO ended against where it began, from below and from above, beside the two laws."""
    found = ends(runs)
    if not found:
        return None
    betas = group(found, lambda end: end.beta)
    fig, axes = draw.panels(1, len(betas), 3.4, sharey=True)
    starts = np.geomspace(min(end.start for end in found) / 2, 0.5, 300)
    for ax, (beta, these) in zip(axes[0], betas.items()):
        states = [(q0, q) for q0 in starts for q in blind(math.log(q0), beta, n=12)]
        ax.plot(*zip(*states), ".", ms=2, color=draw.GREEN, label="blind law (P11)")
        ax.plot(starts, tilted(np.log(starts), beta), color=draw.GREY, ls="--",
                label="tilting (P1)")
        ax.plot([e.start for e in these], [e.below for e in these], "^", color=draw.ORANGE,
                label="GRPO from the base")
        above = [e for e in these if not math.isnan(e.above)]
        if above:
            ax.plot([e.start for e in above], [e.above for e in above], "v", color=draw.BLUE,
                    label="GRPO from above")
        ax.plot(starts, starts, color=draw.BLACK, ls=":", label="no change")
        ax.set(xscale="log", title=f"β = {beta:g}", ylim=(-0.03, 1.03),
               xlabel="mass of the base")
    axes[0, 0].set_ylabel("mass where training ended")
    axes[0, 0].legend(fontsize=7)
    fig.suptitle("A critical mass: below it GRPO with a KL does not take off")
    return fig
