"""Does another method reach what GRPO does not?

Every method from shared bases that never saw the edge (overlap 0), trained on id and edge in equal
parts, at as many rollouts as GRPO's. The paper of the crossover (2504.13837) found that all
RL methods it tried are alike, that none reaches beyond the base, and that distillation does. All
three can be asked exactly here. Methods of RL are all but sft, rft and distill.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2; 2 points are ours.
Reach: exact pass@k on edge after each RL method minus the base's, k = 1024 and 2^20: supported if
for some method in some cell the interval lies above +2 points at one of them; refuted if everywhere
it lies below +2. Difference: mass on id; seeds share their base, so the labels of the methods are
permuted within a seed (2000 times); a cell supports if p < 0.05 and the methods' means spread (std)
more than a method's seeds do, refutes if p > 0.05 and they spread less; the verdict is what all
cells that decide agree on. Distillation: exact pass@1024 on edge after distillation minus that of
the best RL method on the same base: a cell supports if the interval lies above +2 points, refutes
if below, with the same agreement; cells where the base's pass@1024 is above 0.9 are left out, since
there is nothing to expand.
"""
import math

import numpy as np

from cli import show_k
from lab import draw
from lab.jobs import chain, pretraining, seeds, tuning
from lab.judge import POINTS, Verdict, above, below, by_seed, decide, group, n_seeds, pm, some
from lab.judge import tally, unanimous

ORDER = 13
REACH = "Some RL method reaches what the base does not (overlap 0)"
DIFFER = "RL methods differ by more than seeds do"
DISTILL = "Distillation expands what RL does not"
NOT_RL = ("sft", "rft", "distill")
TRIES = [2 ** i for i in range(21)]  # k, in the figure
METHODS = ("grpo", "dr_grpo", "rloo", "remax", "reinforce_pp", "reinforce_pp_baseline", "dapo",
           "gspo", "cispo", "ppo", "w_reinforce", "passk", "rft")
PLACES = (("arithmetic", "depth"), ("arithmetic", "composition"), ("graph", "length"))


def jobs(args):
    found = []
    budget = ["--budget-rollouts", str(args.grpo_steps * 32 * 16)]
    longest = 4 * args.grpo_steps   # the budget ends every run before this
    for seed in seeds(args):
        for task, axis in PLACES:
            base = pretraining(args, seed, task, axis)
            # distillation's teacher is clean, and saw the edge as often as the id cells
            teacher = pretraining(args, seed, task, axis, overlap=0.5, noise=0.0)
            arms = []
            for method in METHODS:
                flags = ["--method", method, "--train-on", "mix", *budget]
                arms.append(tuning(args, base, f"rival-{method}", flags, longest))
            flags = ["--method", "distill", "--teacher", teacher.out, "--train-on", "mix", *budget]
            arms.append(tuning(args, base, "rival-distill", flags, longest, needs=[teacher]))
            flags = ["--method", "sft", "--train-on", "mix"]   # as many problems as GRPO's prompts
            arms.append(tuning(args, base, "rival-sft", flags))
            found += [teacher, *chain(args, base, arms)]
    return found


def verdicts(runs):
    return [reach_beyond_the_base(runs), methods_differ(runs), distillation_expands(runs),
            everything(runs)]


def methods(runs, rl=False):
    """{method: arm}, in the order in which they were recorded; rl: without NOT_RL."""
    found = {arm.method: arm.name for r in runs for arm in r.arms.values()
             if arm.method != "pretrain"}
    return {method: arm for method, arm in found.items() if not (rl and method in NOT_RL)}


def reach_beyond_the_base(runs):
    words, numbers, most = [], [], 0
    table = [["cell", "k", "base", "method with the largest gain", "gain",
              "verdicts of the methods"]]
    for place, these in group(runs, lambda r: r.place).items():
        for k in (1024, 2 ** 20):
            gains = {method: by_seed(these, lambda r: r.gain(arm, "edge", k))
                     for method, arm in methods(these, rl=True).items()}
            if not gains:
                continue
            here = [decide(values, yes=above(POINTS), no=below(POINTS))
                    for values in gains.values()]
            best = max(gains, key=lambda method: np.mean(gains[method]))
            base = by_seed(these, lambda r: r.reach("base", "edge", k))
            words += here
            most = max(most, len(gains[best]))
            numbers.append(f"{place}, k {show_k(k)}: at most {pm(gains[best])}")
            table.append([place, show_k(k), pm(base, "p"), best, pm(gains[best]), tally(here)])
    return Verdict(REACH, some(words), "; ".join(numbers), table if words else [], most)


def methods_differ(runs):
    words, numbers, most = [], [], 0
    table = [["cell", "std of the methods' means", "std over seeds of a method, mean",
              "p (permutation)", "this cell"]]
    for place, these in group(runs, lambda r: r.place).items():
        arms = methods(these, rl=True).values()
        complete = [r for r in these if r.has(*arms, split="id")]
        if len(arms) < 2 or not complete:
            continue
        x = np.array([[r.reach(arm, "id") for arm in arms] for r in complete])  # [seeds, methods]
        between, within, p = spread(x)
        words.append(differ(len(x), between, within, p))
        most = max(most, len(x))
        numbers.append(f"{place}: {between:.3f} between methods, {within:.3f} between seeds")
        table.append([place, f"{between:.3f}", f"{within:.3f}", f"{p:.3f}", words[-1]])
    return Verdict(DIFFER, unanimous(words), "; ".join(numbers), table if words else [], most)


def spread(x, draws=2000):
    """(std of the methods' means, mean std of a method's seeds, permutation p) of x [seeds,
    methods]: how often do labels shuffled within each seed spread the means as much?"""
    rng = np.random.default_rng(0)
    between = x.mean(0).std(ddof=1)
    shuffled = [rng.permuted(x, axis=1).mean(0).std(ddof=1) for _ in range(draws)]
    p = (1 + sum(np.array(shuffled) >= between)) / (1 + draws)
    within = x.std(0, ddof=1).mean() if len(x) > 1 else math.nan
    return between, within, p


def differ(n, between, within, p):
    if n > 1 and p < 0.05 and between > within:
        return "supported"
    if n > 1 and p > 0.05 and between < within:
        return "refuted"
    return "undecided"


def distillation_expands(runs):
    words, numbers, most = [], [], 0
    table = [["cell", "base", "best RL method", "distill", "seeds"]]
    for place, these in group(runs, lambda r: r.place).items():
        base = by_seed(these, lambda r: r.reach("base", "edge", 1024))
        arms = methods(these)
        if "distill" not in arms or not methods(these, rl=True) or np.mean(base) > 0.9:
            continue
        best = by_seed(these, best_of_rl)
        distilled = by_seed(these, lambda r: r.reach(arms["distill"], "edge", 1024))
        more = by_seed(these, lambda r: r.reach(arms["distill"], "edge", 1024) - best_of_rl(r))
        words.append(decide(more, yes=above(POINTS), no=below(POINTS)))
        most = max(most, len(more))
        numbers.append(f"{place}: {pm(more)}")
        table.append([place, pm(base, "p"), pm(best, "p"), pm(distilled, "p"),
                      str(n_seeds(these))])
    return Verdict(DISTILL, unanimous(words), "; ".join(numbers), table if words else [], most)


def best_of_rl(run):
    return max(run.reach(arm, "edge", 1024) for arm in methods([run], rl=True).values())


def everything(runs):
    """The table of 2504.13837: pass@1, pass@256, and what a perfect sharpener would still win."""
    table = [["cell", "method", "rollouts", "id pass@1", "id pass@256", "id gap", "edge pass@1",
              "edge pass@256", "edge pass@2^20"]]
    for place, these in group(runs, lambda r: r.place).items():
        for method, arm in {"base": "base", **methods(these)}.items():
            spent = [r.arms[arm].rollouts for r in these if arm in r.arms]
            spent = [rollouts for rollouts in spent if rollouts is not None]

            def reach(split, k):
                return pm(by_seed(these, lambda r: r.reach(arm, split, k)), "p")

            gap = by_seed(these, lambda r: r.reach("base", "id", 256) - r.reach(arm, "id"))
            table.append([place, method, f"{np.mean(spent):,.0f}" if spent else "",
                          reach("id", 1), reach("id", 256), pm(gap, "p"),
                          reach("edge", 1), reach("edge", 256), reach("edge", 2 ** 20)])
    if len(table) == 1:
        return Verdict("Every method from the same bases", "not run")
    return Verdict("Every method from the same bases", "a table", f"{len(methods(runs))} methods",
                   table, n_seeds(runs),
                   "Gap: the base's pass@256 minus the method's pass@1, on id.")


def figure(runs):
    """pass@k of every method on id and on edge."""
    places = group([r for r in runs if r.has("base", split="edge")], lambda r: r.place)
    if not methods(runs):
        return None
    special = {"distill": draw.Look(draw.GREEN, "", "-", "distill"),
               "sft": draw.Look(draw.PURPLE, "", "--", "sft"),
               "rft": draw.Look(draw.BLUE, "", ":", "rft")}
    fig, axes = draw.panels(2, len(places), sharex=True, sharey=True)
    for column, (place, these) in enumerate(places.items()):
        for ax, split in zip(axes[:, column], ("id", "edge")):
            look = draw.Look(draw.ORANGE, "", "-", "RL methods")
            for arm in methods(these, rl=True).values():
                curve(ax, these, arm, split, look)
                look = look._replace(label=None)  # once in the legend
            curve(ax, these, "base", split, draw.LOOK["base"], 1.8)
            for method, arm in methods(these).items():
                if method in special:
                    curve(ax, these, arm, split, special[method], 1.6)
            draw.tries(ax, TRIES)
            ax.set_title(f"{place}: {split}")
    axes[0, 0].legend(loc="lower right")
    fig.supxlabel("k")
    fig.supylabel("exact pass@k")
    fig.suptitle("Every method from the same bases, which never saw the edge, at equal rollouts "
                 "(mean over seeds)")
    return fig


def curve(ax, runs, arm, split, look, width=0.7):
    there = [r.reach(arm, split, TRIES) for r in runs if r.has(arm, split=split)]
    if there:
        ax.plot(TRIES, np.mean(there, axis=0), color=look.color, ls=look.line, lw=width,
                label=look.label)
