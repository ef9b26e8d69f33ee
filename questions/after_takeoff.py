"""How little gold starts the climb, if plain GRPO goes on from the first right samples?

GRPO needs right samples to begin with; then it climbs by itself. So the cheapest use of gold may be
to show as little as brings the first of them: a warm start by fine-tuning on a few solutions, then
plain GRPO on edge, from bases that have never seen it. Prediction P12: as much gold is needed as
makes E = group size x prompts per step x steps x Q0, the right samples to expect from the exact
mass of the warm start, about 1. Amounts from none on: 8 to 128 solutions of arithmetic, 1 to 8 of
graph (seed 0 showed that it takes so much less).

Rule, fixed 2026-11-22, before its runs; seeds 3 to 7, depth of arithmetic and of graph, overlap 0.
"Took off": the mean edge mass rose by more than 0.05 from where the warm start had brought it. Warm
starts that are above 0.5 already are left out. Logistic regression of take-off on log10 E, over all
runs. Supported if the 95 % interval of E50, the E at even odds, lies in [0.1, 30], and take-off
rises with gold within bases (more bases in which only the largest amount takes off than only the
smallest). Refuted if the interval lies outside [0.1, 30].

Beside it, as a table, methods whose hints end for good once 2 % of a step's prompts are solved
without (--hint-until), or never, at as many steps of as many prompts.
"""
import math

import numpy as np

from lab import draw
from lab.jobs import chain, enough, pretraining, seeds, tuning
from lab.judge import Verdict, by_seed, cells, even_odds, group, n_seeds, over_seeds, pm
from questions.takeoff import rises

ORDER = 15
CLAIM = "P12: the climb needs as much gold as makes right samples to be expected"
TABLE = "A warm start and hints that end: gold, and where they came to"
GOLD = {("arithmetic", "depth"): (160, 640, 1280, 2560),   # tokens of gold before GRPO
        ("graph", "depth"): (13, 26, 52, 104)}
WARM = ["--method", "sft", "--prompts-per-step", "1", "--lr", "3e-4", "--epochs", "2"]
SHORTEST = 10                         # tokens: no solution on edge has fewer
HINTS = {"ghpo": "GHPO", "guide": "Guide-GRPO"}
UNTIL = (0.02, 1)                     # share of prompts solved without; 1: hints never end
ROSE, HIGH = 0.05, 0.5                # mass
BORDERS = (0.1, 30)                   # right samples to expect
GOLD_SHOWN = 1                        # its place in a point


def jobs(args):
    found = []
    for seed in seeds(args):
        for (task, axis), amounts in GOLD.items():
            base = pretraining(args, seed, task, axis, steps=enough(args, task, axis))
            arms = [tuning(args, base, climb(0), ["--train-on", "edge"])]
            for gold in amounts:
                flags = [*WARM, "--train-on", "edge", "--budget-gold", str(gold)]
                start = tuning(args, base, warm(gold), flags, max(1, gold // SHORTEST))
                arms += [start, tuning(args, base, climb(gold), ["--train-on", "edge"], init=start)]
            for method in HINTS:
                for until in UNTIL:
                    flags = ["--method", method, "--hint-until", f"{until:g}"]
                    arms.append(tuning(args, base, hinted(method, until),
                                       [*flags, "--train-on", "edge"]))
            found += chain(args, base, arms, ["--cold"])
    return found


def warm(gold):
    """The name of the arm that was shown so much; without gold it is the base."""
    return f"warm{gold}" if gold else "base"


def climb(gold):
    return f"climb{gold}"


def hinted(method, until):
    return f"{method}-until{until:g}"


def amounts(run):
    """The amounts of gold before GRPO in a run's cell."""
    return (0, *GOLD.get((run.task, run.axis), ()))


def points(runs):
    """[(run, gold, E, took off?)] of every GRPO run from a warm start, or from the base."""
    found = []
    for run in runs:
        for gold in amounts(run):
            start, end = warm(gold), climb(gold)
            if run.has(start, end, split="edge") and run.reach(start, "edge") < HIGH:
                expected = run.budget(end) * run.reach(start, "edge")
                took = run.reach(end, "edge") - run.reach(start, "edge") > ROSE
                found.append((run, gold, expected, took))
    return [point for point in found if point[2] > 0]


def borders(found):
    """(E at even odds, its interval's ends)"""
    log_e = [math.log10(expected) for _, _, expected, _ in found]
    return [10 ** x for x in even_odds(log_e, [took for *_, took in found])]


# -------------------------------------------------------------------------------------- the verdict

def verdicts(runs):
    return [enough_to_expect(runs), gold_table(runs)]


def enough_to_expect(runs):
    found = points(runs)
    if not found:
        return Verdict(CLAIM, "not run")
    where, low, high = borders(found)
    up, down = rises(found, GOLD_SHOWN)
    seeds_run = n_seeds([run for run, *_ in found])
    word = "undecided"
    if seeds_run > 1 and BORDERS[0] < low and high < BORDERS[1] and up > down:
        word = "supported"
    if seeds_run > 1 and (low > BORDERS[1] or high < BORDERS[0]):
        word = "refuted"
    at = "nowhere" if math.isnan(where) else f"{where:.2g}"
    least = [f"{place}: {least_gold(these)}"
             for place, these in group(found, lambda point: point[0].place).items()]
    numbers = (f"E50 {at} (95 %: {low:.2g} to {high:.2g}), {len(found)} runs; within a base only "
               f"the largest amount took off {up} times, only the smallest {down} times; least "
               f"gold of most seeds: {', '.join(least)}")
    return Verdict(CLAIM, word, numbers, table_of(found), seeds_run,
                   "E: group size x prompts per step x steps x the edge mass of the warm start. "
                   f"Took off: edge mass up by more than {ROSE:g}.")


def least_gold(found):
    """The least amount of gold from which more than half of the runs took off, as text."""
    for gold, these in group(found, lambda point: point[1]).items():
        if np.mean([took for *_, took in these]) > 0.5:
            return f"{gold:,} tokens"
    return "none"


def table_of(found):
    table = [["where", "gold", "E, geometric mean", "runs", "took off", "mass of the warm start",
              "mass after GRPO"]]
    for (place, gold), these in group(found, lambda p: (p[0].place, p[1])).items():
        expected = math.exp(np.mean([math.log(e) for _, _, e, _ in these]))
        runs = [run for run, *_ in these]
        table.append([place, f"{gold:,}", f"{expected:.2g}", str(len(these)),
                      str(sum(took for *_, took in these)),
                      *(pm(by_seed(runs, lambda run: run.reach(arm, "edge")), "p")
                        for arm in (warm(gold), climb(gold)))])
    return table


def rows(runs):
    """[(label, arm, tokens of gold: one number per seed)] of what was run: warm starts, hints."""
    arms = [("GRPO alone" if gold == 0 else "warm start, then GRPO", climb(gold), warm(gold))
            for gold in amounts(runs[0])]
    for method, label in HINTS.items():
        arms += [(f"{label}, {ending(until)}", hinted(method, until), hinted(method, until))
                 for until in UNTIL]
    return [(label, arm, by_seed([run for run in runs if run.has(arm, paid, split="edge")],
                                 lambda run: float(run.arms[paid].gold or 0)))
            for label, arm, paid in arms if any(run.has(arm, paid, split="edge") for run in runs)]


def ending(until):
    return "hints to the end" if until == 1 else f"hints until {until:.0%} are solved"


def gold_table(runs):
    table = [["where", "method", "gold", "rollouts in RL", "pass@1", "pass@1024"]]
    for place, these in cells(runs).items():
        for label, arm, gold in rows(these):
            drawn = np.mean([run.arms[arm].rollouts or 0 for run in these if arm in run.arms])
            table.append([place, label, f"{np.mean(gold):,.0f}", f"{drawn:,.0f}",
                          *(pm(by_seed(these, lambda run: run.reach(arm, "edge", k)), "p")
                            for k in (1, 1024))])
    if len(table) == 1:
        return Verdict(TABLE, "not run")
    return Verdict(TABLE, "a table", f"{len(table) - 1} rows", table, n_seeds(runs),
                   "Exact pass@k on edge, ± over seeds.")


# -------------------------------------------------------------------------------------- the picture

def figure(runs):
    """The mass at the end against the gold that was shown, a panel for each cell; and the gain of
    GRPO against the right samples that it could expect."""
    found = points(runs)
    if not found:
        return None
    places = cells(runs)
    fig, axes = draw.panels(1, len(places) + 1, 2.9)
    for ax, (place, these) in zip(axes[0], places.items()):
        against_gold(ax, these)
        ax.set_title(place)
    axes[0, 0].set_ylabel("mass on edge at the end")
    ax = axes[0, -1]
    for (place, these), mark in zip(group(found, lambda p: p[0].place).items(), draw.MARKS):
        ax.plot([max(e, 1e-9) for _, _, e, _ in these],
                [run.gain(climb(gold), "edge") for run, gold, *_ in these], mark, ms=5, label=place)
    _, low, high = borders(found)
    left, right = ax.get_xlim()
    ax.axvspan(max(low, left), min(high, right), color=draw.GREY, alpha=0.2, lw=0,
               label="even odds (95 %)")
    ax.axvline(1, color=draw.BLACK, lw=0.8, ls=":", label="one right sample")
    ax.set(xscale="log", xlabel="right samples to expect", ylabel="gain of mass on edge",
           title="the same warm starts")
    ax.legend(fontsize=7)
    fig.suptitle("How little gold starts the climb?")
    return fig


def against_gold(ax, runs):
    """Curves of the warm start, before and after GRPO; a point for each method with hints."""
    def masses(arms):
        return [by_seed(runs, lambda run: run.reach(arm, "edge")) for arm in arms]

    gold = amounts(runs[0])[1:]
    before = draw.Look(draw.BLACK, "o", ":", "fine-tuned on gold")
    after = draw.Look(draw.ORANGE, "^", "-", "then plain GRPO")
    for name, look in ((warm, before), (climb, after)):
        draw.bars(ax, gold, masses(map(name, gold)), look, limits=(0, 1))
    for (method, label), mark in zip(HINTS.items(), ("s", "D", "v")):
        arms = [hinted(method, until) for until in UNTIL]
        draw.bars(ax, [mean_gold(runs, arm) for arm in arms], masses(arms),
                  draw.Look(draw.BLUE, mark, "", label), limits=(0, 1))
    ticks = [gold[0], 10 * gold[0], 100 * gold[0]]
    ax.set(xscale="log", xlabel="tokens of gold shown", ylim=(-0.03, 1.03), xticks=ticks,
           xticklabels=[f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=7)


def mean_gold(runs, arm):
    shown = [run.arms[arm].gold or 0 for run in runs if arm in run.arms]
    return over_seeds(shown)[0] if shown else math.nan
