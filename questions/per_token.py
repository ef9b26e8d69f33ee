"""Does the tuned model know when it has gone wrong?

If GRPO with a KL of strength beta in the reward tilts the base (see questions/law.py), it does so
step by step: after a right beginning the next right step is raised, and after a wrong one, which
can no longer end right, everything stays as it was (prediction P10, derived in theory.py). A model
that cannot tell a wrong beginning from a right one must raise both alike. Measured are the
probability of the next right step after a right prefix, and of going on consistently after a
corrupted one.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2; arms with k1 in the
reward. Wrong prefixes: the logit shift of the next step after a corrupted prefix, as a share of
that after a right one (the law says 0; a model that cannot tell them apart, 1): supported if the
interval lies above 1/2, refuted if below (1/2 is ours); undecided unless right prefixes moved up.
Every step: probability of the next step, tuned minus law, per beta, depth, step and prefix:
supported if every interval lies inside ±0.05, refuted if one lies outside (0.05 is ours).
"""
import numpy as np

from lab import draw
from lab.judge import NEAR, Verdict, above, below, by_seed, decide, every, group, inside, outside
from lab.judge import pm, tally
from questions.law import jobs
from theory import logit

ORDER = 10
ALIKE = "The tuned model tilts wrong prefixes as it tilts right ones (against P10)"
LAW = "P10, the per-token law, holds at every step"


def verdicts(runs):
    steps = [step for run in runs for step in run.steps if step["kl"] == "k1_reward"]
    return [wrong_prefixes_tilt_alike(steps), law_holds_at_every_step(steps)]


def wrong_prefixes_tilt_alike(steps):
    at = {(s["beta"], s["depth"], s["step"]) for s in steps if s["prefix"] == "corrupted"}
    steps = [s for s in steps if (s["beta"], s["depth"], s["step"]) in at]
    wrong = tilt_by_seed(s for s in steps if s["prefix"] == "corrupted")
    right = tilt_by_seed(s for s in steps if s["prefix"] == "right")
    shares = [wrong[seed] / right[seed] for seed in wrong if right.get(seed)]
    if not shares:
        return Verdict(ALIKE, "not run")
    word = decide(shares, yes=above(0.5), no=below(0.5))
    if decide(list(right.values()), yes=above(0), no=[]) != "supported":
        word = "undecided"  # a share of nothing
    return Verdict(ALIKE, word, f"share {pm(shares, '.2f')}", n_seeds=len(shares))


def tilt_by_seed(steps):
    """{seed: mean logit shift of the next step's probability}."""
    return {seed: float(np.mean([logit(np.log(s["tuned"])) - logit(np.log(s["base"]))
                                 for s in these]))
            for seed, these in group(steps, lambda s: s["seed"]).items()}


def law_holds_at_every_step(steps):
    words = []
    table = [["beta", "depth", "step", "prefix", "base", "tuned", "law", "tuned - law"]]
    for key, these in group(steps, place_of).items():
        off = seed_means(these, lambda s: s["tuned"] - s["law"])
        words.append(decide(off, yes=inside(NEAR), no=outside(NEAR)))
        values = [pm(seed_means(these, lambda s: s[name]), ".3f")
                  for name in ("base", "tuned", "law")]
        table.append([f"{key[0]:g}", str(key[1]), str(key[2]), key[3], *values, pm(off)])
    if not words:
        return Verdict(LAW, "not run")
    return Verdict(LAW, every(words), tally(words), table, len({s["seed"] for s in steps}))


def place_of(step):
    return step["beta"], step["depth"], step["step"], step["prefix"]


def seed_means(steps, value):
    return by_seed(steps, value, seed=lambda s: s["seed"])


def figure(runs):
    """Base, tuned and law, step by step, after a right and after a corrupted prefix."""
    steps = [s for run in runs for s in run.steps if s["kl"] == "k1_reward"]
    if not steps:
        return None
    depth = max(s["depth"] for s in steps)
    betas = group([s for s in steps if s["depth"] == depth], lambda s: s["beta"])
    fig, axes = draw.panels(len(betas), 2, 1.7, sharex=True, sharey=True)
    for row, (beta, of_beta) in zip(axes, betas.items()):
        for ax, prefix in zip(row, ("right", "corrupted")):
            here = group([s for s in of_beta if s["prefix"] == prefix], lambda s: s["step"])
            for i, name in enumerate(("base", "tuned", "law")):
                values = [seed_means(these, lambda s: s[name]) for these in here.values()]
                draw.bars(ax, [step + 0.1 * (i - 1) for step in here], values, draw.LOOK[name],
                          limits=(0, 1), ls="", size=10 if name == "law" else 5)
            ax.set(title=f"after a {prefix} prefix, β = {beta:g}",
                   xticks=range(1, depth + 1), xlim=(0.6, depth + 0.4))
        row[0].set_ylabel("probability")
    axes[0, 0].legend()
    fig.supxlabel(f"step of the chain (depth {depth})")
    fig.suptitle("The next step's probability: does the tuned model leave wrong prefixes alone, "
                 "as the law says? (± 95 % over seeds)")
    return fig
