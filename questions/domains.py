"""Does GRPO favour the domain that pretraining favoured?

Two families in one base, in three proportions (share is that of arithmetic), and the same GRPO on
id of both. If GRPO amplifies what pretraining put there, the favoured domain gains first. How soon
a family gains is also its own affair; but a family is favoured in one base and the other one in
another, so that what is its own cancels.

Rule, fixed 2026-11-21; judged on seeds 3 to 7. Half of the difference, between the bases with share
0.9 and 0.1, of (arithmetic's logit shift on id minus graph's) after a quarter of the steps: what
being favoured is worth. Supported if the interval over seeds lies above 0, refuted if below. The
same after all steps, with the same rule: does the other one catch up?
"""
import math

from lab import draw
from lab.jobs import chain, pretraining, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, decide, group, n_seeds, pm
from questions.alignment import logit_shift

ORDER = 25
CLAIMS = {"early": "The favoured domain gains first", "late": "It is still ahead in the end"}
SHARES = (0.9, 0.5, 0.1)   # of arithmetic; the rest is graph
FAMILIES = ("arithmetic", "graph")


def jobs(args):
    found, early = [], max(1, round(args.grpo_steps / 4))
    for seed in seeds(args):
        for share in SHARES:
            base = pretraining(args, seed, "both", "depth", steps=2 * args.pretrain_steps,
                               setting=f"share={share}", flags=["--share", str(share)])
            arms = [tuning(args, base, "early", [], early), tuning(args, base, "late", [])]
            found += chain(args, base, arms, ["--cold"])
    return found


def favour(runs, arm):
    """[one per seed]: what being favoured is worth, in logits, once the family's own is gone."""
    shifts = {(r.seed, r.setting, r.task): logit_shift(r, arm, "id") for r in runs}

    def ahead(seed, share):
        first, second = (shifts.get((seed, f"share={share}", task), math.nan)
                         for task in FAMILIES)
        return first - second

    worth = [(ahead(seed, 0.9) - ahead(seed, 0.1)) / 2 for seed in sorted({r.seed for r in runs})]
    return [value for value in worth if not math.isnan(value)]


def verdicts(runs):
    found = []
    for arm, claim in CLAIMS.items():
        values = favour(runs, arm)
        if not values:
            found.append(Verdict(claim, "not run"))
            continue
        word = decide(values, yes=above(0), no=below(0))
        table = shifts_table(runs, arm)
        found.append(Verdict(claim, word, f"being favoured is worth {pm(values, '+.2f')} logits",
                             table, len(values)))
    return found


def shifts_table(runs, arm):
    table = [["family", "its share", "id: base", "id: logit shift", "id: change of mass",
              "seeds"]]
    for (task, share), these in group(runs, lambda r: (r.task, own_share(r))).items():
        if not any(r.has("base", arm, split="id") for r in these):
            continue
        table.append([task, f"{share:g}", pm(by_seed(these, lambda r: r.reach("base", "id")), "p"),
                      pm(by_seed(these, lambda r: logit_shift(r, arm, "id")), "+.2f"),
                      pm(by_seed(these, lambda r: r.gain(arm, "id"))), str(n_seeds(these))])
    return table


def figure(runs):
    """The logit shift of either family by its share of pretraining, early and late."""
    arms = [arm for arm in CLAIMS if any(r.has("base", arm, split="id") for r in runs)]
    if not arms:
        return None
    fig, axes = draw.panels(1, len(arms), 3.0, sharey=True)
    looks = {"arithmetic": draw.Look(draw.ORANGE, "o", "-", "arithmetic"),
             "graph": draw.Look(draw.BLUE, "s", "--", "graph")}
    titles = {"early": "after a quarter of the steps", "late": "after all steps"}
    for ax, arm in zip(axes[0], arms):
        for task, look in looks.items():
            here = group([r for r in runs if r.task == task], own_share)
            draw.bars(ax, list(here), [by_seed(these, lambda r: logit_shift(r, arm, "id"))
                                       for these in here.values()], look)
        ax.axhline(0, color=draw.BLACK, lw=0.6)
        ax.set(title=titles[arm], xlabel="the family's share of pretraining",
               xticks=sorted(SHARES))
    axes[0, 0].set_ylabel("logit shift on id")
    axes[0, 0].legend()
    fig.suptitle("How far GRPO on both lifts each family (± 95 % over seeds)")
    return fig


def own_share(run):
    """The share of pretraining that the run's family had."""
    of_arithmetic = next(share for share in SHARES if run.setting == f"share={share}")
    return of_arithmetic if run.task == FAMILIES[0] else round(1 - of_arithmetic, 6)
