"""Does GRPO narrow the variety of right answers, and do methods that aim at it help?

A prompt of route has M = 4 right answers, and the base prefers one by a known dial: demonstrations
show the alphabetically first way 0.5 or 0.9 of the time, else any (--bias). Variety is the entropy
of a right answer, given that it is right: exact, in bits, 2 at most; demonstrations have 1.55 and
0.50. P5 (it follows from P1): tilting multiplies all right answers of a prompt alike, so that their
proportions stay what they were; a plain policy gradient raises most what is sampled most.

Bases: one clean walker a seed that likes all ways alike, shown biased and noisy demonstrations
afterwards; the walker is also the teacher of distillation. It begins as a base of graph, which has
learned to look an edge up: from scratch one walker of two had not, after 2,000 steps. Trained and
judged on id, at GRPO's rollouts or, for sft, as many problems. Two runs of twice --law-steps at a
rate that falls to 0, without KL and with k1 in the reward (beta 0.3, advantages not divided by the
std), are P5's own test; from the end of the former "back" goes on with that KL towards the base. Of
the zoo those whose papers claim variety: passk, unlikely, w_reinforce, and at bias 0.5 xrpo, ngrpo
and hicra too. (seed and gtpo aim at less: smaller steps where answers scatter, less reward for
entropy.)

Rule, fixed 2026-11-22; judged on seeds 5 to 7, which nobody had looked at. (Seed 0 made the long
runs longer and their rate higher; seeds 3 and 4 were run with walkers from scratch, seen, and left
out for that. No rule was changed.) Each claim is judged at each bias: supported if it is at both,
refuted if it is at one (Kept: supported if it is at one, refuted if it is at both). Intervals are
Student t over seeds; means are over id, cells alike. Narrows: bits of GRPO after --grpo-steps minus
the base's: supported if the interval lies below -0.1, refuted if above. P5: distance of a prompt's
proportions from the base's (total variation, half the sum of absolute differences), mean over
prompts, after the long run with k1: supported if its interval lies below 0.1, and that of (distance
without KL minus it) above 0; refuted if its interval lies above 0.1. Comes back: the share of the
bits lost by the long run without KL that "back" regains: supported if the interval lies above 1/2
(P5: 1), refuted if below; undecided if in some seed it lost less than 0.1 bits. Kept: a method of
the zoo has more bits than GRPO (interval above +0.1) and no less mass (interval above -0.05):
supported if some method does both, refuted if for each one of the intervals lies wholly on the
other side. Costs: the last edge of the path that each model likes best leads elsewhere, and three
ways are left; exact pass@k then, GRPO's minus the base's, k = 1, 4, 16, 64: supported if at some k
the interval lies below -0.02, refuted if above that at every k.
"""
import math
from dataclasses import replace

import numpy as np

from lab import draw
from lab.jobs import chain, pretraining, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, decide, every, group, n_seeds, pm, some
from measure import exact_pass_at_k, expected_distinct, right_entropy, total
from theory import tilted

ORDER = 27
NARROWS = "GRPO narrows the variety of right answers"
KEEPS = "P5: with a KL in the reward the proportions of right answers stay what they were"
BACK = "Variety that was lost comes back under a KL towards the base"
KEPT = "A method that aims at variety keeps more of it than GRPO, at no less mass"
COSTS = "Where the favourite way is closed, GRPO has lost pass@k"
AXIS, SHARE = "depth", 0.25          # of the walker; depth 4 is shown too, a quarter of the time
BIASES = (0.5, 0.9)
NOISE = 0.2                          # of the biased demonstrations
BETA = 0.3
ZOO = {0.5: ("passk", "unlikely", "w_reinforce", "xrpo", "ngrpo", "hicra"),
       0.9: ("passk", "unlikely", "w_reinforce")}
SMALL = ["--prompts-per-step", "16"]
LONG = [*SMALL, "--scale", "none", "--lr", "1e-3", "--lr-decay"]
PULL = ["--kl", "k1_reward", "--beta", f"{BETA:g}"]
FEWER, FAR, LESS, POINTS = 0.1, 0.1, 0.05, 0.02   # bits, total variation, mass, pass@k
TRIES = (1, 4, 16, 64)
CALLED = {"base": "base", "grpo-early": "GRPO, the first quarter", "grpo": "GRPO",
          "long": "GRPO to its end", "k1": "GRPO, KL in the reward", "k3": "GRPO, KL as a loss",
          "long-k1": "KL in the reward, to its end", "back": "the same after GRPO's end",
          "passk": "pass@k training", "unlikely": "Rewarding the Unlikely",
          "w_reinforce": "W-REINFORCE", "xrpo": "XRPO", "ngrpo": "NGRPO", "hicra": "HICRA",
          "sft": "shown solutions (SFT)", "distill": "distillation"}


def jobs(args):
    found = []
    for seed in seeds(args):
        reader, start = walker(args, seed)
        found += [reader, start]
        for bias in BIASES:
            found += of_base(args, seed, start, bias)
    return found


def walker(args, seed):
    """[its start, the walker]: a base of graph, which looks edges up; and from it one that is shown
    clean ways without dead ends, all of them alike: it prefers none."""
    reader = pretraining(args, seed, "graph", "depth", noise=0.0)
    start = pretraining(args, seed, "route", AXIS, SHARE, noise=0.0,
                        steps=max(1, round(0.8 * args.pretrain_steps)), setting="walker",
                        flags=["--init", reader.out, "--lr", "0.01", "--decay", "0.5"])
    return [reader, replace(start, needs=(reader.out,))]


def of_base(args, seed, start, bias):
    """A base that prefers the alphabetically first way, and every arm of it."""
    flags = ["--init", start.out, "--bias", f"{bias:g}", "--lr", "2e-3"]
    steps = max(1, round(0.3 * args.pretrain_steps))
    base = pretraining(args, seed, "route", AXIS, SHARE, NOISE, steps, f"bias={bias:g}", flags)
    base = replace(base, needs=(start.out,))
    arms = [tuning(args, base, "grpo-early", SMALL, max(1, round(args.grpo_steps / 4))),
            tuning(args, base, "grpo", SMALL),
            tuning(args, base, "k1", [*SMALL, *PULL]),
            tuning(args, base, "k3", [*SMALL, "--kl", "k3_loss", "--beta", f"{BETA:g}"]),
            tuning(args, base, "sft", ["--method", "sft", *SMALL]),
            tuning(args, base, "distill", ["--method", "distill", "--teacher", start.out,
                                           "--group-size", "16", *SMALL], needs=[start]),
            *(tuning(args, base, method, ["--method", method, *SMALL]) for method in ZOO[bias])]
    longer = 2 * args.law_steps
    free = tuning(args, base, "long", LONG, longer)
    pulled = tuning(args, base, "long-k1", [*LONG, *PULL], longer)
    back = tuning(args, base, "back", [*LONG, *PULL, "--reference", base.out], longer, init=free,
                  needs=[base])
    return chain(args, base, [*arms, free, pulled, back], ["--cold", "--redirect"], ["id"])



# ------------------------------------------------------------------------------ what is measured

def bits(run, arm):
    """Entropy of a right answer, mean over id; nan if there is no such arm."""
    return over_id(run.strings, arm, right_entropy)


def distinct(run, arm, k):
    """Different right answers to expect among k, mean over id."""
    return over_id(run.strings, arm, lambda log_masses: expected_distinct(log_masses, k))


def redirected(run, arm, k):
    """Exact pass@k when the last edge of the arm's own favourite path leads elsewhere."""
    return over_id(run.redirected, arm, lambda log_mass: exact_pass_at_k(log_mass, k))


def distance(run, arm):
    """Total variation between an arm's proportions of right answers and the base's."""
    if (arm, "id") not in run.strings:
        return math.nan
    cells = run.strings["base", "id"]
    return float(np.mean([apart(cells[cell], strings).mean()
                          for cell, strings in run.strings[arm, "id"].items()]))


def apart(log_masses, others):
    """Total variation [n] between the proportions in log masses [n, M] and in others [n, M].

    >>> apart(np.log([[0.2, 0.2], [0.4, 0.1]]), np.log([[0.1, 0.3], [0.8, 0.2]])).round(3)
    array([0.25, 0.  ])
    """
    ours, theirs = (np.exp(x - total(x)[:, None]) for x in (log_masses, others))
    return abs(ours - theirs).sum(1) / 2


def over_id(found, arm, value):
    """Mean of value(log masses) -> [n], over the prompts of id, cells alike; nan without them."""
    cells = found.get((arm, "id"), {}).values()
    return float(np.mean([value(log_masses).mean() for log_masses in cells])) if cells else math.nan


# --------------------------------------------------------------------------------------- verdicts

def verdicts(runs):
    biased = group([run for run in runs if ("base", "id") in run.strings], lambda r: r.setting)
    return [narrows(biased), keeps_proportions(biased), comes_back(biased), kept(biased),
            costs(biased), everything(biased)]


def judged(claim, words, combine, numbers, table, biased, note=""):
    """The Verdict on what was found at each bias."""
    if not set(words) - {"not run"}:
        return Verdict(claim, "not run")
    return Verdict(claim, combine(words), "; ".join(numbers), table, seeds_of(biased), note)


def seeds_of(biased):
    return max((n_seeds(runs) for runs in biased.values()), default=0)


def narrows(biased):
    words, numbers = [], []
    for bias, runs in biased.items():
        change = by_seed(runs, lambda r: bits(r, "grpo") - bits(r, "base"))
        words.append(decide(change, yes=below(-FEWER), no=above(-FEWER)))
        numbers.append(f"{bias}: {pm(change, '+.2f')} bits")
    return judged(NARROWS, words, every, numbers, [], biased)


def keeps_proportions(biased):
    words, numbers = [], []
    table = [["bias", "distance with the KL", "without", "bits: base", "with the KL", "without",
              "mass with the KL", "P1"]]
    for bias, runs in biased.items():
        ours = by_seed(runs, lambda r: distance(r, "long-k1"))
        theirs = by_seed(runs, lambda r: distance(r, "long"))
        more = by_seed(runs, lambda r: distance(r, "long") - distance(r, "long-k1"))
        near = decide(ours, yes=below(FAR), no=above(FAR))
        rival = decide(more, yes=above(0), no=[])
        words.append(near if near != "supported" else every([near, rival]))
        numbers.append(f"{bias}: {pm(ours, '.3f')} with the KL, {pm(theirs, '.3f')} without")
        reached = by_seed(runs, lambda r: r.reach("long-k1", "id"))
        law = by_seed(runs, lambda r: over_id(r.masses, "base", lambda q: tilted(q, BETA)))
        table.append([bias, pm(ours, ".3f"), pm(theirs, ".3f"),
                      *(pm(by_seed(runs, lambda r: bits(r, arm)), ".2f")
                        for arm in ("base", "long-k1", "long")),
                      pm(reached, ".3f"), pm(law, ".3f")])
    return judged(KEEPS, words, every, numbers, table, biased,
                  "Distance: total variation between a prompt's proportions and the base's. "
                  "The last two columns: did the long run with the KL end where P1 says?")


def comes_back(biased):
    words, numbers = [], []
    for bias, runs in biased.items():
        lost = by_seed(runs, lambda r: bits(r, "base") - bits(r, "long"))
        share = by_seed(runs, regained)
        word = decide(share, yes=above(0.5), no=below(0.5))
        if share and min(lost) < FEWER:
            word = "undecided"   # a share of nothing
        words.append(word)
        numbers.append(f"{bias}: {pm(share, '.2f')} of {pm(lost, '.2f')} bits lost")
    return judged(BACK, words, every, numbers, [], biased)


def regained(run):
    """The share of the bits lost by the long run without KL that "back" regains; nan if none."""
    start, low, end = (bits(run, arm) for arm in ("base", "long", "back"))
    return (end - low) / (start - low) if start != low else math.nan


def kept(biased):
    words, numbers = [], []
    table = [["bias", "method", "bits, minus GRPO's", "mass, minus GRPO's", "this method"]]
    for bias, runs in biased.items():
        of_methods = {}
        for method in ZOO[0.5]:
            more = by_seed(runs, lambda r: bits(r, method) - bits(r, "grpo"))
            mass = by_seed(runs, lambda r: r.reach(method, "id") - r.reach("grpo", "id"))
            if more:
                of_methods[method] = every([decide(more, yes=above(FEWER), no=below(FEWER)),
                                            decide(mass, yes=above(-LESS), no=below(-LESS))])
                table.append([bias, CALLED[method], pm(more, "+.2f"), pm(mass),
                              of_methods[method]])
        words.append(some(of_methods.values()))
        best = [CALLED[method] for method, word in of_methods.items() if word == "supported"]
        numbers.append(f"{bias}: {', '.join(best) or 'none shown to'}")
    return judged(KEPT, words, some, numbers, table, biased)


def costs(biased):
    words, numbers = [], []
    table = [["bias", "k", "base", "GRPO", "difference", "this k"]]
    for bias, runs in biased.items():
        at_k, worst = [], []
        for k in TRIES:
            more = by_seed(runs, lambda r: redirected(r, "grpo", k) - redirected(r, "base", k))
            at_k.append(decide(more, yes=below(-POINTS), no=above(-POINTS)))
            if more:
                worst.append((np.mean(more), f"pass@{k} {pm(more)}"))
                base, grpo = (by_seed(runs, lambda r: redirected(r, arm, k))
                              for arm in ("base", "grpo"))
                table.append([bias, str(k), pm(base, "p"), pm(grpo, "p"), pm(more), at_k[-1]])
        words.append(some(at_k))
        if worst:
            numbers.append(f"{bias}: at worst {min(worst)[1]}")
    return judged(COSTS, words, every, numbers, table, biased)


def everything(biased):
    claim = "Every method's mass and variety"
    table = [["bias", "method", "mass", "bits of 2", "distinct in 16", "redirected: pass@1",
              "redirected: pass@16", "rollouts"]]
    for bias, runs in biased.items():
        for arm in (arm for arm in CALLED if any(arm in r.arms for r in runs)):
            spent = [r.arms[arm].rollouts for r in runs if arm in r.arms]
            spent = [rollouts for rollouts in spent if rollouts]
            values = [by_seed(runs, lambda r: value(r, arm)) for value in (
                lambda r, arm: r.reach(arm, "id"), bits, lambda r, arm: distinct(r, arm, 16),
                lambda r, arm: redirected(r, arm, 1), lambda r, arm: redirected(r, arm, 16))]
            table.append([bias, CALLED[arm], *(pm(v, ".2f") for v in values),
                          f"{np.mean(spent):,.0f}" if spent else ""])
    if len(table) == 1:
        return Verdict(claim, "not run")
    return Verdict(claim, "a table", f"{len(table) - 1} rows", table, seeds_of(biased),
                   "Redirected: the last edge of the path that the model likes best leads "
                   "elsewhere, and one way fewer is right.")


# ----------------------------------------------------------------------------------------- figure

def figure(runs):
    """Every method's variety and mass, a row each, at both biases."""
    biased = group([run for run in runs if ("base", "id") in run.strings], lambda r: r.setting)
    if not biased:
        return None
    arms = [arm for arm in CALLED if any(arm in r.arms for rs in biased.values() for r in rs)]
    fig, axes = draw.panels(1, 2, 0.6 + 0.26 * len(arms), sharey=True)
    rows = -np.arange(len(arms))
    looks = (draw.ORANGE, "o", 0.12), (draw.BLUE, "s", -0.12)
    for (bias, these), (color, mark, up) in zip(biased.items(), looks):
        label = f"demonstrations: {bias.partition('=')[2]} the same way"
        for ax, value in zip(axes[0], (bits, lambda r, arm: r.reach(arm, "id"))):
            found = [by_seed(these, lambda r: value(r, arm)) for arm in arms]
            points = [(y + up, *draw.interval(v)) for y, v in zip(rows, found) if v]
            y, mean, *error = zip(*points)
            ax.errorbar(mean, y, xerr=error, color=color, marker=mark, ms=4, capsize=2, ls="",
                        label=label)
            ax.axvline(mean[0], color=color, lw=0.8, ls=":")
    axes[0, 0].set(title="variety of right answers, bits (dotted: the base)", yticks=rows,
                   ylim=(rows[-1] - 0.5, 0.5), xlim=(0, 2.02))
    axes[0, 0].set_yticklabels([CALLED[arm] for arm in arms])
    axes[0, 1].set(title="probability of a right answer", xlim=(0, 1.02))
    axes[0, 1].legend(fontsize=7)
    fig.suptitle("Right more often, in fewer ways? Four answers are right (± 95 % over seeds)")
    return fig
