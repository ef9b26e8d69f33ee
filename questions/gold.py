"""Does any method with hints buy more reach per token of gold than fine-tuning on it?

A hint is supervision: the beginning of a gold solution, or all of it, shown to the policy. So each
method with hints stands here beside plain fine-tuning (sft) that was shown as many tokens of gold,
from the same bases, which have never seen the edge. A run ends with the step in which its budget of
gold is spent: 500, 2,000 or 8,000 tokens; or after 4 times --grpo-steps, for some methods show
little. Rollouts are free here, and counted in the table.

Every run makes 8 prompts a step. sft makes 4 updates on each batch at a rate of 1e-3, the best of
three rates and two numbers of updates over these budgets on seed 0, so that it updates about as
often as the others; they run at their own defaults. ExPO and Critique-GRPO need a base that was
told answers in pretraining: they have one of their own, and sft beside them.

Rule, fixed 2026-11-22, before its runs; seeds 3 to 7. Reach: log10 of the mean exact pass@1024 on
edge (at least 1e-9). Two cells, in which the base's pass@1024 is below 0.9: depth and length of
arithmetic, overlap 0. For every method with hints, base and budget at which sft's mean pass@1024 is
below 0.9: its reach minus that of sft at the same budget, a number per seed. Supported if one of
these has a mean above +0.1 and a p-value (one-sided, t test) below 0.05 after Holm's correction for
all of them; refuted if the interval of every one lies below +0.1. (0.1: a quarter more.)

Beside it partial credit, which shows no gold, but the truth of steps, the form or the route: each
method and GRPO with the same reward and no further rule, at GRPO's rollouts, on the depth of
arithmetic. A table without a claim, whose intervals are not corrected for their number. And what
the architecture can learn if it is shown all that it asks for: the oracle.
"""
import math

import numpy as np

from lab import draw
from lab.jobs import chain, enough, oracle, pretraining, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, decide, group, holm, n_seeds
from lab.judge import over_seeds, p_value, pm

ORDER = 14
CLAIM = "Some method with hints reaches further than fine-tuning on as much gold"
GOLD = "Reach and gold, every method"
PARTIAL = "Each partial reward beside GRPO with the same reward"
PLACES = (("arithmetic", "depth"), ("arithmetic", "length"))
CREDIT = ("arithmetic", "depth")   # where partial credit is tried, and answers are told
BUDGETS = (500, 2000, 8000)      # tokens of gold
WHOLE = {"acnchor": "ACNCHOR", "rlmec": "RLMEC"}       # these show whole solutions,
BEGINNINGS = {"ghpo": "GHPO", "guide": "Guide-GRPO", "nurl": "NuRL", "rgr": "RGR-GRPO",
              "scaf": "Scaf-GRPO", "start": "START"}   # these how one begins,
TOLD = {"critique": "Critique-GRPO", "expo": "ExPO"}   # these the answer, to a base that knows that
METHODS = {**WHOLE, **BEGINNINGS, **TOLD}
LABELS = {"sft": "fine-tuning on gold", **METHODS}
SFT = ["--lr", "1e-3", "--epochs", "4"]
REACHED = 0.9                    # of the edge by pass@1024: no more is to be had
FURTHER = 0.1                    # decades of pass@1024
LEAST = 1e-9                     # what is less counts as this
TRIES = (1, 1024, 2 ** 20)       # k

# What has the same reward and no further rule, by the name of its arm.
CONTROLS = {"trace": ["grpo"], "answer": ["grpo", "--reward", "answer"],
            "process": ["grpo", "--reward", "process"],
            "no-gate": ["posterior", "--no-posterior"], "soft": ["tw_grpo", "--token-weight", "1"],
            "mean-cost": ["hc_rlhf", "--pessimism", "0", "--multiplier-lr", "0"],
            "no-region": ["grit", "--grounding", "0"], "weighted-sum": ["multi_objective"]}
# method: (its flags, its control)
CREDITED = {"rank": ([], "process"), "tp_grpo": ([], "process"), "pref": ([], "process"),
            "cgpo": ([], "process"), "e_grpo": ([], "process"),
            "job_application": ([], "process"), "posterior": ([], "no-gate"),
            "multi_objective": (["--normalise-by", "each"], "weighted-sum"),
            "tw_grpo": ([], "soft"), "veripo": ([], "trace"), "verif": ([], "answer"),
            "hc_rlhf": ([], "mean-cost"), "grit": ([], "no-region")}


def jobs(args):
    found = []
    for seed in seeds(args):
        for task, axis in PLACES:
            base = pretraining(args, seed, task, axis, steps=enough(args, task, axis))
            arms = shown(args, base, ["sft", *sorted({**WHOLE, **BEGINNINGS})])
            if (task, axis) == CREDIT:
                arms += [credited(args, base, name, flags) for name, flags in CONTROLS.items()]
                arms += [credited(args, base, method, [method, *flags])
                         for method, (flags, _) in CREDITED.items()]
            found += chain(args, base, [*arms, oracle(args, base)], ["--cold"])
        told = pretraining(args, seed, *CREDIT, steps=enough(args, *CREDIT), setting="told=0.3",
                           flags=["--refine", "0.3"])
        found += chain(args, told, shown(args, told, ["sft", *TOLD]), ["--cold"])
    return found


def shown(args, base, methods):
    """Arms of these methods, each of which ends when it was shown so much gold."""
    arms = []
    for method in methods:
        own = SFT if method == "sft" else []
        flags = ["--method", method, *own, "--train-on", "edge", "--prompts-per-step", "8"]
        arms += [tuning(args, base, gold_arm(method, budget),
                        [*flags, "--budget-gold", str(budget)], 4 * args.grpo_steps)
                 for budget in BUDGETS]
    return arms


def gold_arm(method, budget):
    return f"{method}-gold{budget}"


def credited(args, base, name, flags):
    """An arm with partial credit, or its control; as many rollouts as plain GRPO."""
    method, *others = flags
    return tuning(args, base, credit_arm(name),
                  ["--method", method, *others, "--train-on", "edge"])


def credit_arm(name):
    return f"credit-{name}"


def verdicts(runs):
    runs = [run for run in runs if run.reach("base", "edge", 1024) < REACHED]
    return [further(runs), gold_table(runs), partial_table(runs)]


# --------------------------------------------------------------------------------------- the claim

def bases(runs):
    """{label: runs}: one for every kind of base."""
    return group(runs, lambda run: f"{run.place}, answers told" if run.setting else run.place)


def at_least(value):
    return max(value, LEAST)   # a nan stays one


def reach(run, arm):
    """log10 of the mean exact pass@1024 on edge; nan if there is no such arm."""
    return math.log10(at_least(run.reach(arm, "edge", 1024)))


def beyond(runs, arm, other):
    """[reach of an arm minus that of another, a number per seed]"""
    return by_seed(runs, lambda run: reach(run, arm) - reach(run, other))


def comparisons(runs):
    """{(where, budget, method): [more reach than sft, one per seed]}, where sft leaves room."""
    found = {}
    for where, these in bases(runs).items():
        for budget in BUDGETS:
            control = gold_arm("sft", budget)
            reached = by_seed(these, lambda run: run.reach(control, "edge", 1024))
            if not reached or np.mean(reached) >= REACHED:
                continue
            for method in METHODS:
                values = beyond(these, gold_arm(method, budget), control)
                if values:
                    found[where, budget, method] = values
    return found


def chance(values):
    """One-sided p-value of the t test that a mean over seeds is no more than FURTHER.

    >>> round(chance([0.1, 0.2, 0.3]), 3), round(chance([-0.1, 0.0, 0.1]), 3), chance([9.0])
    (0.113, 0.887, 1.0)
    """
    if len(values) < 2:
        return 1.0
    two_sided = p_value(values, FURTHER)
    return two_sided / 2 if np.mean(values) > FURTHER else 1 - two_sided / 2


def further(runs):
    found = comparisons(runs)
    if not found:
        return Verdict(CLAIM, "not run")
    p = dict(zip(found, holm([chance(values) for values in found.values()])))
    words = {key: decide(values, yes=above(FURTHER), no=below(FURTHER))
             for key, values in found.items()}
    word = "undecided"
    if set(words.values()) == {"refuted"}:
        word = "refuted"
    if any(np.mean(values) > FURTHER and p[key] < 0.05 for key, values in found.items()):
        word = "supported"
    best = max(found, key=lambda key: np.mean(found[key]))
    less = sum(decide(values, yes=below(0), no=[]) == "supported" for values in found.values())
    numbers = (f"{len(found)} comparisons, {list(words.values()).count('refuted')} intervals below "
               f"+{FURTHER:g} decades, {less} below 0; the largest: {about(best)}, "
               f"{pm(found[best], '+.2f')}, p {p[best]:.3f}")
    table = [["where", "gold", "method", "decades of pass@1024 beyond sft", "p (Holm)",
              "above +0.1?"]]
    for key, values in found.items():
        where, budget, method = key
        table.append([where, f"{budget:,}", LABELS[method], pm(values, "+.2f"), f"{p[key]:.3f}",
                      words[key]])
    return Verdict(CLAIM, word, numbers, table, n_seeds(runs),
                   "Where sft has reached 0.9 already, nothing is compared.")


def about(key):
    where, budget, method = key
    return f"{LABELS[method]}, {where}, {budget:,} tokens"


# -------------------------------------------------------------------------------------- the tables

def passes(runs, arm):
    """Three texts: pass@k on edge at each k of TRIES."""
    return [pm(by_seed(runs, lambda run: run.reach(arm, "edge", k)), "p") for k in TRIES]


def spent(runs, arm, what):
    """The mean of what these runs of an arm have spent ("gold", "rollouts"), as text."""
    values = [getattr(run.arms[arm], what) for run in runs if arm in run.arms]
    values = [value for value in values if value is not None]
    return f"{np.mean(values):,.0f}" if values else ""


def gold_table(runs):
    table = [["where", "method", "budget", "gold", "rollouts", "pass@1", "pass@1024",
              "pass@2^20"]]
    paid = [(label, gold_arm(method, budget), f"{budget:,}")
            for method, label in LABELS.items() for budget in BUDGETS]
    if not any(arm in run.arms for run in runs for _, arm, _ in paid):
        return Verdict(GOLD, "not run")
    for where, these in bases(runs).items():
        for label, arm, budget in [("base", "base", ""), ("oracle", "oracle", ""), *paid]:
            if any(run.has(arm, split="edge") for run in these):
                table.append([where, label, budget, spent(these, arm, "gold"),
                              spent(these, arm, "rollouts"), *passes(these, arm)])
    return Verdict(GOLD, "a table", f"{len(table) - 1} rows", table, n_seeds(runs),
                   "Exact pass@k on edge, ± over seeds. A run ends with the step in which its "
                   "budget is spent; one that has shown less has ended by --steps.")


def partial_table(runs):
    table = [["where", "method", "GRPO with its reward", "pass@1", "pass@1024", "pass@2^20",
              "its control's pass@1024", "decades beyond it", "rollouts"]]
    more = {}
    for where, these in bases(runs).items():
        for name in ("trace", "answer", "process"):   # the rewards as they are
            if any(run.has(credit_arm(name), split="edge") for run in these):
                table.append([where, f"GRPO, --reward {name}", "", *passes(these, credit_arm(name)),
                              "", "", spent(these, credit_arm(name), "rollouts")])
        for method, (_, control) in CREDITED.items():
            values = beyond(these, credit_arm(method), credit_arm(control))
            if values:
                more[where, method] = values
                table.append([where, method, " ".join(CONTROLS[control]),
                              *passes(these, credit_arm(method)),
                              passes(these, credit_arm(control))[1], pm(values, "+.2f"),
                              spent(these, credit_arm(method), "rollouts")])
    if not more:
        return Verdict(PARTIAL, "not run")
    words = [decide(values, yes=above(FURTHER), no=below(-FURTHER)) for values in more.values()]
    numbers = (f"{len(more)} comparisons; intervals of log10 pass@1024 above +{FURTHER:g}: "
               f"{words.count('supported')}, below -{FURTHER:g}: {words.count('refuted')}")
    return Verdict(PARTIAL, "a table", numbers, table, n_seeds(runs),
                   "No gold is shown; steps, form or route are judged. Not corrected for the "
                   "number of comparisons.")


# -------------------------------------------------------------------------------------- the picture

def figure(runs):
    """pass@k against the gold that was shown: a row for each kind of base, a column for each k."""
    runs = [run for run in runs if run.reach("base", "edge", 1024) < REACHED]
    if gold_table(runs).verdict == "not run":
        return None
    there = bases(runs)
    fig, axes = draw.panels(len(there), len(TRIES), 2.0, sharex=True, sharey=True)
    named = {}   # {label: what stands for it in the legend}
    for row, (where, these) in zip(axes, there.items()):
        for ax, k in zip(row, TRIES):
            curves(ax, these, k)
            handles, labels = ax.get_legend_handles_labels()
            named.update(zip(labels, handles))
        row[0].set_ylabel(where.replace(", ", ",\n"))
    for ax, title in zip(axes[0], ("1 try", "1,024 tries", "a million tries")):
        ax.set_title(f"solved in {title}")
    for ax in axes[-1]:
        ax.set_xlabel("tokens of gold shown")
    fig.legend(named.values(), named, loc="outside lower center", ncols=5, fontsize=8)
    fig.suptitle("What gold buys on edge: fine-tuning on it, and methods with hints")
    return fig


def looks():
    """{method: its Look}: the colour says what it is shown, the marker which one it is."""
    found = {"sft": draw.Look(draw.ORANGE, "^", "-", LABELS["sft"])}
    for methods, color in ((BEGINNINGS, draw.BLUE), (WHOLE, draw.GREEN), (TOLD, draw.PURPLE)):
        for method, mark in zip(methods, ("o", "s", "D", "v", "P", "X")):
            found[method] = draw.Look(color, mark, "-", LABELS[method])
    return found


def curves(ax, runs, k):
    """One kind of base and k: a curve for sft and for each method with hints; base and oracle as
    lines."""
    for method, look in looks().items():
        values = [reached(runs, gold_arm(method, budget), k) for budget in BUDGETS]
        wide = {"lw": 3, "zorder": 5, "size": 7} if method == "sft" else {"lw": 1}
        draw.bars(ax, BUDGETS, values, look, limits=(LEAST, 1), **wide)
    for arm, line in (("base", ":"), ("oracle", "--")):
        values = reached(runs, arm, k)
        if values:
            ax.axhline(over_seeds(values)[0], color=draw.BLACK, ls=line, lw=1, label=arm)
    ax.set(xscale="log", yscale="log", ylim=(1e-6, 1.6), xticks=BUDGETS,
           xticklabels=[f"{budget:,}" for budget in BUDGETS])
    ax.minorticks_off()


def reached(runs, arm, k):
    """[pass@k on edge, a number per seed]"""
    return by_seed(runs, lambda run: at_least(run.reach(arm, "edge", k)))
