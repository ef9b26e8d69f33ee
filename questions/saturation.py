"""Is there less to gain, the better the base already was?

On the distribution that pretraining showed, mass is dialled by noise in the demonstrations. With a
KL of strength beta in the reward, theory (2510.15990) says that the logit of every prompt's mass
moves by 1 / beta, so the gain is an inverted U in the base's mass. Without a KL nothing holds the
policy back: it should reach mass 1, and the gain is 1 minus the base's mass. The last column says
what the base alone gains when it is merely sampled colder.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 and 1. Mean, over noises and id
cells, of |gain - gain by the law|: supported if its interval lies below 0.05, refuted if above
(0.05 is ours).
"""
import numpy as np

from lab import draw
from lab.jobs import chain, pretraining, seeds, settled
from lab.judge import NEAR, Verdict, above, below, by_seed, decide, group, n_seeds, pm
from theory import tilted

ORDER = 5
WITH_KL = "ID gains saturate: with KL, beta 1, as P1's inverted U"
WITHOUT_KL = "ID gains saturate: without KL, as 1 - Q0"
NOISES = (0.0, 0.1, 0.3, 0.5, 0.7)
SHARES = (0.15, 0.2, 0.25, 0.3, 0.4)   # of --pretrain-steps, at noise 0


def jobs(args):
    found = []
    for seed in seeds(args):
        bases = [pretraining(args, seed, noise=noise) for noise in NOISES]
        for share in SHARES:
            steps = max(1, round(share * args.pretrain_steps))
            bases.append(pretraining(args, seed, noise=0.0, steps=steps))
        for base in bases:
            arms = [settled(args, base, "none"), settled(args, base, "k1-b1", "k1_reward", 1)]
            found += chain(args, base, arms)
    return found


def verdicts(runs):
    return [gains_saturate(runs, 1, WITH_KL), gains_saturate(runs, 0, WITHOUT_KL)]


def gains_saturate(runs, beta, claim):
    runs = [r for r in dialled_by_noise(runs) if arm_of(r, beta)]
    far = by_seed(runs, lambda r: departure(r, beta))
    if not far:
        return Verdict(claim, "not run")
    table = [["noise", "base Q0", "gain", "gain by the law", "mean absolute departure",
              "gain of the base alone, sampled at its best temperature", "seeds"]]
    for noise, these in group(runs, lambda r: r.noise).items():
        table.append([f"{noise:g}",
                      pm(by_seed(these, lambda r: r.reach("base", "id")), "p"),
                      pm(by_seed(these, lambda r: gains(r, beta)[0].mean())),
                      pm(by_seed(these, lambda r: gains(r, beta)[1].mean())),
                      pm(by_seed(these, lambda r: departure(r, beta)), ".3f"),
                      pm(by_seed(these, gain_of_cold_sampling)), str(n_seeds(these))])
    return Verdict(claim, decide(far, yes=below(NEAR), no=above(NEAR)),
                   f"mean absolute departure {pm(far, '.3f')} ({arm_of(runs[0], beta)})", table,
                   len(far))


def dialled_by_noise(runs):
    """The bases of full training, which differ in their noise only."""
    longest = max((r.pretrain_steps for r in runs), default=0)
    return [r for r in runs if r.noise > 0 or r.pretrain_steps == longest]


def undertrained(runs):
    """The bases without noise that were stopped early."""
    noisy = dialled_by_noise(runs)
    return [r for r in runs if r not in noisy]


def arm_of(run, beta):
    """The name of the arm with this strength of k1 in the reward (0: no KL); "" if there is none.
    """
    columns = {"kl": "k1_reward", "beta": beta} if beta else {"kl": "none"}
    arms = [arm.name for arm in run.arms_where(method="grpo", **columns)
            if run.has("base", arm.name, split="id")]
    return arms[0] if arms else ""


def gains(run, beta):
    """(measured, by the law): arrays over the id cells."""
    measured, by_law = [], []
    for cell, base in run.masses["base", "id"].items():
        after = run.masses[arm_of(run, beta), "id"][cell]
        measured.append((np.exp(after) - np.exp(base)).mean())
        by_law.append((tilted(base, beta) - np.exp(base)).mean())
    return np.array(measured), np.array(by_law)


def departure(run, beta):
    measured, by_law = gains(run, beta)
    return float(np.abs(measured - by_law).mean())


def gain_of_cold_sampling(run):
    return run.at_best_temperature("id") - run.reach("base", "id")


def figure(runs):
    """Gain against the base's mass: with a KL, without one, and of cold sampling alone."""
    noisy, short = dialled_by_noise(runs), undertrained(runs)
    if not any(arm_of(r, beta) for r in noisy for beta in (0, 1)):
        return None
    fig, axes = draw.panels(1, 2, 3.0, sharex=True, sharey=True)
    q = np.linspace(1e-6, 1 - 1e-6, 200)
    laws = {1: "1 / beta on the logit: an inverted U", 0: "all that is left: 1 - Q0"}
    for ax, beta in zip(axes[0], laws):
        ax.plot(q, tilted(np.log(q), beta) - q, color=draw.GREEN, ls=":", lw=2, label=laws[beta])
        points(ax, noisy, lambda r: r.noise, lambda r: [arm_of(r, beta)],
               draw.LOOK["tuned"]._replace(line="", label="GRPO, noisy bases"))
        points(ax, short, lambda r: r.pretrain_steps, lambda r: [arm_of(r, beta)],
               draw.Look(draw.BLUE, "s", "", "GRPO, undertrained bases"))
        points(ax, noisy, lambda r: r.noise, lambda r: r.colder(),
               draw.Look(draw.BLACK, "x", "", "noisy base, sampled at its best temperature"))
        ax.axhline(0, color=draw.BLACK, lw=0.6)
        ax.set(title=f"with KL, β = {beta}" if beta else "without KL",
               xlabel="base mass Q0 on id, one point per cell and base")
        ax.legend(fontsize=8)
    axes[0, 0].set_ylabel("gain of mass")
    fig.suptitle("What is left to gain, by how good the base was (± 95 % over seeds)")
    return fig


def points(ax, runs, key, arms, look):
    """For each cell of the bases that share key(run): the base's mass, and what the best of
    arms(run) gains there."""
    items = [(r, cell) for r in runs if any(arms(r)) for cell in r.masses["base", "id"]]
    for these in group(items, lambda item: (key(item[0]), item[1])).values():
        base = [mass(r, cell, "base") for r, cell in these]
        gain = by_seed(these, lambda item: max(mass(*item, a) for a in arms(item[0]))
                       - mass(*item, "base"), seed=lambda item: item[0].seed)
        draw.bars(ax, [np.mean(base)], [gain], look, limits=(-1, 1))
        look = look._replace(label=None)  # once in the legend


def mass(run, cell, arm):
    return float(np.exp(run.masses[arm, "id"][cell]).mean())
