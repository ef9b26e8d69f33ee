"""What does a little of the edge in pretraining buy?

Overlap is the share of pretraining problems that came from the edge cells: none, a thousandth, a
hundredth, a tenth. The paper of the edge (2510.15990) says that GRPO gains out of distribution only
where pretraining had some overlap with it. If so, more overlap buys more edge mass in the base, and
more gain from GRPO on the edge.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Slope, within a seed, of
the base's edge mass and of the edge gain after GRPO on edge, over the doses taken as equal steps:
supported if both intervals over seeds lie above 0, refuted if one lies below.
"""
import math

import numpy as np

from cli import probability
from lab import draw
from lab.jobs import chain, on, oracle, pretraining, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, cells, decide, every, group, n_seeds
from lab.judge import over_seeds, pm
from tasks import AXES, families

ORDER = 1
CLAIM = "Overlap buys mass"
ARMS = ("base", "grpo-id", "grpo-edge")
TASKS = families("both")   # a family of one's own is for a question of one's own
OVERLAPS = (0.0, 0.1, 0.01, 0.001)   # in this order: the contrast first, then what lies between


def jobs(args):
    found = []
    for overlap in args.overlaps or OVERLAPS:
        for seed in seeds(args):
            for task in TASKS:
                for axis in AXES[task]:
                    base = pretraining(args, seed, task, axis, overlap)
                    arms = on(args, base, "id", "edge", "mix")
                    sft = ["--method", "sft", "--train-on", "edge"]
                    arms.append(tuning(args, base, "sft", sft))
                    arms.append(oracle(args, base))
                    found += chain(args, base, arms)
    return found


def verdicts(runs):
    return [overlap_buys_mass(runs), before_and_after(runs), grid(runs), after_each_arm(runs)]


# ---------------------------------------------------------------------------------------- the claim

def overlap_buys_mass(runs):
    mass, gain = slopes(runs, base_mass), slopes(runs, edge_gain)
    if not mass:
        return Verdict(CLAIM, "not run")
    table = [["cell", "base mass: slope", "base mass: half the effect at", "gain: slope",
              "gain: half the effect at", "seeds"]]
    for place, these in group(runs, lambda r: r.place).items():
        table.append([place, pm(slopes(these, base_mass)), half_of(these, base_mass),
                      pm(slopes(these, edge_gain)), half_of(these, edge_gain),
                      str(n_seeds(these))])
    words = [decide(values, yes=above(0), no=below(0)) for values in (mass, gain)]
    return Verdict(CLAIM, every(words), f"base mass {pm(mass)} per step of dose, "
                   f"gain {pm(gain)} per step of dose", table, len(mass))


def base_mass(run):
    return run.reach("base", "edge")


def edge_gain(run):
    return run.gain("grpo-edge", "edge")


def curves(runs, value):
    """[(seed, doses, values)] of every place and seed with three doses or more."""
    found = []
    for (_, seed), these in group(runs, lambda r: (r.place, r.seed)).items():
        points = sorted((r.overlap, value(r)) for r in these if not math.isnan(value(r)))
        if len(points) >= 3:
            found.append((seed, [dose for dose, _ in points], [y for _, y in points]))
    return found


def slopes(runs, value):
    """[one per seed]: the slope per step of dose, averaged over places."""
    return by_seed(curves(runs, value), slope, seed=lambda curve: curve[0])


def slope(curve):
    _, doses, values = curve
    return float(np.polyfit(range(len(doses)), values, 1)[0])


def half_of(runs, value):
    """The dose of half the effect as text, with its interval over seeds (on a log scale)."""
    logs = by_seed(curves(runs, value), lambda c: math.log10(half_dose(c[1], c[2])),
                   seed=lambda curve: curve[0])
    if not logs:
        return "-"
    mean, width = over_seeds(logs)
    if width is None:
        return f"{10 ** mean:.2g}"
    return f"{10 ** mean:.2g} [{10 ** (mean - width):.1g}, {10 ** (mean + width):.1g}]"


def half_dose(doses, effects, least=0.02):
    """The dose at which the effect is halfway between its values at the first and last dose; nan
    if that range is below least. Linear between dose 0 and the next, log-linear after.

    >>> round(half_dose([0, 0.001, 0.01, 0.1], [0, 0, 0.5, 1]), 4)
    0.01
    >>> round(half_dose([0, 0.001, 0.01, 0.1], [0, 1, 1, 1]), 4)
    0.0005
    >>> round(half_dose([0, 0.001, 0.01, 0.1], [0, 0, 0, 1]), 4)
    0.0316
    """
    if effects[-1] - effects[0] < least:
        return math.nan
    half = (effects[0] + effects[-1]) / 2
    for i in range(len(doses) - 1):
        low, high = effects[i], effects[i + 1]
        if low < half <= high:
            part = (half - low) / (high - low)
            if doses[i] == 0:
                return doses[i + 1] * part
            return doses[i] * (doses[i + 1] / doses[i]) ** part
    return math.nan


# ---------------------------------------------------------------------------------- the whole grid

def before_and_after(runs):
    """Exact mass on the edge, the base's and after GRPO on it: mean [lowest, highest seed]."""
    claim = "Mass on edge before and after GRPO on edge"
    doses = sorted({r.overlap for r in runs})
    table = [["edge of", *(f"overlap {dose:g}: base → GRPO" for dose in doses)]]
    for place in places():
        row = [place]
        for dose in doses:
            these = [r for r in runs if (r.place, r.overlap) == (place, dose)
                     and r.has("base", "grpo-edge", split="edge")]
            row.append(arrow(these) if these else "not run")
        table.append(row)
    return as_table(claim, table, runs, "Mean over seeds [lowest, highest].")


def arrow(runs):
    texts = []
    for arm in ("base", "grpo-edge"):
        values = by_seed(runs, lambda r: r.reach(arm, "edge"))
        texts.append(f"{probability(np.mean(values))} [{probability(min(values))}, "
                     f"{probability(max(values))}]")
    return " → ".join(texts) + (" ⚠" if runs[0].trips else "")


def grid(runs):
    """What ran, with the base's mass on id and what the oracle reaches."""
    doses = sorted({r.overlap for r in runs} | set(OVERLAPS))
    table = [["cell", *(f"overlap {dose:g}" for dose in doses), "oracle on edge"]]
    for place in places():
        here, row = [r for r in runs if r.place == place], [place]
        for dose in doses:
            these = [r for r in here if r.overlap == dose]
            row.append(ran(these) if these else "not run")
        oracle = by_seed(here, lambda r: r.reach("oracle", "edge"))
        table.append([*row, pm(oracle, "p") if oracle else "not run"])
    return as_table("Seeds, and the base's mass on id", table, runs)


def ran(runs):
    plural = "s" if len(runs) > 1 else ""
    warning = f" ⚠ {runs[0].trips}" if runs[0].trips else ""
    mass = np.mean([r.reach("base", "id") for r in runs])
    return f"{len(runs)} seed{plural}, id {mass:.2f}{warning}"


def after_each_arm(runs):
    arms = ("base", "grpo-id", "grpo-edge", "grpo-mix", "sft", "oracle")
    table = [["cell", *(f"{arm}: id, edge" for arm in arms), "seeds"]]
    for label, these in cells(runs).items():
        row = [label]
        for arm in arms:
            row.append(", ".join(pm(by_seed(these, lambda r: r.reach(arm, split)), "p")
                                 for split in ("id", "edge")))
        table.append([*row, str(n_seeds(these))])
    return as_table("Exact mass after each arm", table, runs)


def places():
    return [f"{task} {axis}" for task in TASKS for axis in AXES[task]]


def as_table(claim, table, runs, note=""):
    if not runs:
        return Verdict(claim, "not run")
    return Verdict(claim, "a table", table=table, n_seeds=n_seeds(runs), note=note)


def figure(runs):
    """Mass on edge by overlap: the base's, and after GRPO on id and on edge."""
    places = group([r for r in runs if r.has("base", split="edge")], lambda r: r.place)
    if not places:
        return None
    columns = min(4, len(places))
    fig, axes = draw.panels(-(-len(places) // columns), columns, sharey=True)
    doses = sorted({r.overlap for these in places.values() for r in these})
    for ax, (place, these) in zip(axes.flat, places.items()):
        for i, arm in enumerate(ARMS):
            values = [by_seed([r for r in these if r.overlap == d], lambda r: r.reach(arm, "edge"))
                      for d in doses]
            draw.bars(ax, np.arange(len(doses)) + 0.12 * (i - 1), values, draw.LOOK[arm],
                      limits=(0, 1))
        warning = " ⚠" if any(r.trips for r in these) else ""
        ax.set(title=place + warning, ylim=(-0.03, 1.03), xticks=range(len(doses)),
               xticklabels=[f"{d:g}" for d in doses])
    for ax in axes.flat[len(places):]:
        ax.set_axis_off()
    axes[0, 0].legend()
    fig.supxlabel("overlap: share of pretraining problems from the edge cells")
    fig.supylabel("exact mass on edge")
    fig.suptitle("What GRPO makes of what pretraining put on the edge (± 95 % over seeds)")
    return fig
