"""Does a transformer end where the theory of its KL says?

GRPO with a KL towards the base has a place to stop, for a policy that is free to put any
probability on any string. With the reverse KL in the reward (k1) it is the tilted base, prediction
P1 (2510.15990): logit Q* = logit Q0 + 1 / beta, where Q0 is the base's mass of right answers on a
prompt and Q* the tuned model's. With k3 used as a loss, as in most public code, it is another one,
the hyperbolic law of P3 (derived in theory.py). Three strengths of each, and no KL at all: there no
law is claimed, and the row is only shown.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Mean Q* minus the law's,
per beta and depth: supported if every interval lies inside ±0.05, refuted if one lies outside
(0.05 is ours).
"""
import numpy as np

from lab import draw
from lab.jobs import chain, pretraining, seeds, settled
from lab.judge import NEAR, Verdict, decide, every, group, inside, outside, pm, tally
from theory import hyperbolic, logit, tilted

ORDER = 9
LAWS = {"k1_reward": tilted, "k3_loss": hyperbolic}
CLAIMS = {"k1_reward": "P1: with the KL in the reward, GRPO tilts the base",
          "k3_loss": "P3: with k3 as a loss, GRPO follows the hyperbolic law"}
BETAS = (1, 0.3, 0.1)


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed)
        arms = []
        for beta in BETAS:
            arms.append(settled(args, base, f"k1-b{beta:g}", "k1_reward", beta))
            arms.append(settled(args, base, f"k3-b{beta:g}", "k3_loss", beta))
        arms.append(settled(args, base, "none"))
        found += chain(args, base, arms, ["--per-step", "--cold"])
    return found


def verdicts(runs):
    return [law_holds(runs, kl) for kl in LAWS]


def law_holds(runs, kl):
    words, distances = [], []
    table = [["beta", "cell", "base Q0", "Q*", "Q* by the law", "difference", "slope (law)",
              "intercept (law)", "seeds"]]
    for (beta, cell), pairs in readings(runs, kl).items():
        by_law = [LAWS[kl](base, beta) for base, _ in pairs]
        off = [float(np.exp(after).mean() - law.mean()) for (_, after), law in zip(pairs, by_law)]
        words.append(decide(off, yes=inside(NEAR), no=outside(NEAR)))
        distances.append((abs(np.mean(off)), f"{pm(off)} (beta {beta:g}, {cell})"))
        table.append([f"{beta:g}", cell, *row(pairs, by_law, off)])
    if not words:
        return Verdict(CLAIMS[kl], "not run")
    most = max(len(pairs) for pairs in readings(runs, kl).values())
    if kl == "k1_reward":
        for (_, cell), pairs in readings(runs, "none").items():
            by_law = [tilted(base, 0) for base, _ in pairs]
            off = [float(np.exp(after).mean() - 1) for _, after in pairs]
            table.append(["no KL", cell, *row(pairs, by_law, off, law=False)])
    return Verdict(CLAIMS[kl], every(words), f"{tally(words)}; furthest {max(distances)[1]}",
                   table, most, "Slope and intercept are the least squares line of logit Q* on "
                   "logit Q0 over prompts.")


def readings(runs, kl):
    """{(beta, cell): [(log Q0 [n], log Q* [n]) of every seed]} of the arms with this KL."""
    found = []
    for run in runs:
        for arm in run.arms_where(method="grpo", kl=kl):
            for cell, after in run.masses.get((arm.name, "id"), {}).items():
                found.append((arm.beta, cell, run.masses["base", "id"][cell], after))
    return {key: [(base, after) for _, _, base, after in these]
            for key, these in group(found, lambda item: item[:2]).items()}


def row(pairs, by_law, off, law=True):
    """The numbers of one beta and cell as text."""
    base = [float(np.exp(b).mean()) for b, _ in pairs]
    tuned = [float(np.exp(a).mean()) for _, a in pairs]
    lines = [line(b, a) for b, a in pairs]   # [seeds] of (slope, intercept)
    of_law = [line(b, np.log(q)) for (b, _), q in zip(pairs, by_law)]
    texts = [pm(list(values), ".2f") for values in zip(*lines)]
    if law:
        texts = [f"{text} ({np.mean(values):.2f})" for text, values in zip(texts, zip(*of_law))]
    return [pm(base, "p"), pm(tuned, "p"), pm([float(q.mean()) for q in by_law], "p"), pm(off),
            *texts, str(len(pairs))]


def line(base, after):
    """(slope, intercept) of logit Q* on logit Q0, from log masses [n]."""
    return np.polyfit(logit(base), logit(after), 1)


def figure(runs):
    """logit Q* against logit Q0, a point per prompt, beside the law."""
    names = {"k1_reward": "KL in the reward (tilted)", "k3_loss": "k3 as a loss (hyperbolic)"}
    found = {kl: group(readings(runs, kl).items(), lambda item: item[0][0]) for kl in LAWS}
    found = {kl: betas for kl, betas in found.items() if betas}
    if not found:
        return None
    fig, axes = draw.panels(len(found), max(map(len, found.values())), 2.7, sharex=True)
    for ax in axes.flat:
        ax.set_axis_off()
    for row_of_axes, (kl, betas) in zip(axes, found.items()):
        for ax, (beta, of_cells) in zip(row_of_axes, betas.items()):
            ax.set_axis_on()
            ax.set_title(f"{names[kl]}\nβ = {beta:g}")
            points(ax, of_cells)
            everything = np.concatenate([b for _, pairs in of_cells for b, _ in pairs])
            x = np.linspace(*np.percentile(logit(everything), [1, 99]), 100)
            law = LAWS[kl](-np.logaddexp(0, -x), beta)
            ax.plot(x, logit(np.log(law)), color=draw.GREEN, lw=1.6, label="law")
            ax.plot(x, x, color=draw.BLACK, ls=":", label="no change: the base")
        row_of_axes[0].set_ylabel("logit Q* (tuned)")
    axes[0, 0].legend(markerscale=2, fontsize=7)
    fig.supxlabel("logit Q0 (base), one point per prompt")
    fig.suptitle("Where GRPO stops, prompt by prompt, against the law of its KL")
    return fig


def points(ax, of_cells):
    looks = zip((draw.ORANGE, draw.PURPLE, draw.BLUE), draw.MARKS)
    for ((_, cell), pairs), (color, mark) in zip(of_cells, looks):
        before = np.concatenate([logit(base) for base, _ in pairs])
        after = np.concatenate([logit(tuned) for _, tuned in pairs])
        keep = slice(None, None, max(1, len(before) // 300))  # 300 say as much as thousands
        ax.plot(before[keep], after[keep], mark, ms=2.5, alpha=0.5, color=color, label=cell)
