"""Does a prompt's mass before GRPO predict what it gains?

The paper of the edge (2510.15990) holds that GRPO strengthens what pretraining left within reach.
Prompt by prompt, that says: within one cell, prompts that the base answered right a little more
often should gain more. Two readings: *transfer*, GRPO trained on id and asked about edge and hard;
*learning*, GRPO trained on edge itself. Beside each correlation stands that of one uniform logit
shift with the same mean gain, which is what a policy that treats all prompts alike would show.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Rank correlation of the
base's log mass and the change of mass, within a cell of edge or hard, over its prompts with
1e-6 < mass < 0.3 (20 at least): supported if its interval over seeds lies above 0, refuted if
below.
"""
import math

import numpy as np

from lab import draw
from lab.judge import Verdict, above, below, by_seed, cells, decide, group, n_seeds, pm, spearman
from questions.dose import jobs
from theory import shifted

ORDER = 3
BAND = (1e-6, 0.3)  # masses among which ranks mean something: neither dust nor nearly solved
LEAST = 20          # prompts that a rank correlation needs
ARMS = {"grpo-id": "transfer", "grpo-edge": "learning"}


def verdicts(runs):
    return [mass_predicts_gain(runs, arm, f"Mass predicts gain: {name}")
            for arm, name in ARMS.items()]


def mass_predicts_gain(runs, arm, claim):
    found = {r: correlations(r, arm) for r in runs}  # (measured, of a uniform shift)
    runs = [r for r in runs if not math.isnan(found[r][0])]
    if not runs:
        return Verdict(claim, "not run")

    def measured(these):
        return by_seed(these, lambda r: found[r][0])

    def of_shift(these):
        return by_seed(these, lambda r: found[r][1])

    table = [["base", "rank correlation", "of a uniform shift", "this cell", "seeds"]]
    for label, these in cells(runs).items():
        table.append([label, pm(measured(these), "+.2f"), pm(of_shift(these), "+.2f"),
                      judge(measured(these)), str(n_seeds(these))])
    return Verdict(claim, judge(measured(runs)),
                   f"{arm}: {pm(measured(runs), '+.2f')}; one uniform logit shift with the same "
                   f"mean gain would give {pm(of_shift(runs), '+.2f')}", table, n_seeds(runs))


def judge(values):
    return decide(values, yes=above(0), no=below(0))


def correlations(run, arm):
    """(measured, of a uniform shift): means over the cells of edge and hard of the rank
    correlation, over prompts, of the base's log mass and the change of mass; nan if there is none.
    """
    measured, of_shift = [], []
    for split in ("edge", "hard"):
        if not run.has("base", arm, split=split):
            continue
        for cell, base in run.masses["base", split].items():
            use = (np.exp(base) > BAND[0]) & (np.exp(base) < BAND[1])
            if use.sum() < LEAST:
                continue
            base, after = base[use], np.exp(run.masses[arm, split][cell][use])
            measured.append(spearman(base, after - np.exp(base)))
            of_shift.append(spearman(base, shifted(base, after.mean()) - np.exp(base)))
    return mean_of(measured), mean_of(of_shift)


def mean_of(values):
    values = [v for v in values if not math.isnan(v)]
    return float(np.mean(values)) if values else math.nan


def figure(runs):
    """What edge prompts gain, by the mass that the base gave them."""
    runs = [r for r in runs if r.has("base", *ARMS, split="edge")]
    if not runs:
        return None
    fig, axes = draw.panels(1, 2, 3.0, sharey=True)
    edges = np.arange(-12, 0.01, 1.0)  # one bin per power of ten
    for ax, (arm, name) in zip(axes[0], ARMS.items()):
        gains = [[] for _ in edges[1:]]  # [bins][seeds]
        for these in group(runs, lambda r: r.seed).values():
            base = np.concatenate([r.log_mass("base", "edge") for r in these])
            after = np.concatenate([r.log_mass(arm, "edge") for r in these])
            bins = np.digitize(base / np.log(10), edges) - 1
            for i, values in enumerate(gains):
                if (bins == i).sum() >= 5:
                    values.append(float((np.exp(after) - np.exp(base))[bins == i].mean()))
        draw.bars(ax, edges[:-1] + 0.5, gains, draw.LOOK[arm], ls="-")
        seen = np.mean([r.budget(arm) for r in runs])
        ax.axvline(-np.log10(seen), color=draw.GREY, ls=":",
                   label=f"one right sample to expect (1/{seen:,.0f})")
        ax.axhline(0, color=draw.BLACK, lw=0.6)
        ax.set(title=f"{name}: {draw.LOOK[arm].label}",
               xlabel="log10 of the base's mass on the prompt")
        ax.legend(loc="upper left")
    axes[0, 0].set_ylabel("change of mass")
    fig.suptitle("What edge prompts gain, by the mass that the base gave them "
                 "(all bases; ± 95 % over seeds)")
    return fig
