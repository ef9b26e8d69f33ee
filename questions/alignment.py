"""Does GRPO carry over to what pretraining had begun to learn?

The paper of the edge (2510.15990) says that gains out of distribution need a target that aligns
with what pretraining left behind. What pretraining left of a target is known exactly: the base's
mass on it. So the claim is one between bases of the same axis: GRPO on id alone should lift the
edge more, the more mass the base had there. Five axes; the edge is dialled by overlap (0.03, 0.1,
0.3), and where it has mass without any, composition and the length of graph, by noise.

Rule, fixed 2026-11-21; judged on seeds 3 to 7. The slope, within an axis, of the edge's logit shift
after GRPO on id (mean over prompts of logit Q* - logit Q0) on the base's mean log10 Q0 there.
Supported if the interval over seeds of the mean slope lies above 0 and at least 4 of the 5 axes
have a positive one; refuted if the interval lies below 0. Beside it the interval that resamples
axes too, and each axis's transfer ratio: the edge's shift over that of id. One shift for all bases
is no alignment: it has slope 0, though it gains most in the middle.
"""
import math

import numpy as np

from lab import draw
from lab.jobs import chain, enough, on, pretraining, seeds
from lab.judge import Verdict, above, below, by_seed, decide, group, log10_mass, mass_text
from lab.judge import n_seeds, over_seeds_and_axes, pm
from theory import logit

ORDER = 3
CLAIM = "Alignment: the more mass a base has on the edge, the more GRPO on id lifts it"
BY_OVERLAP = (("arithmetic", "depth"), ("arithmetic", "length"), ("graph", "depth"))
BY_NOISE = (("arithmetic", "composition"), ("graph", "length"))   # mass without overlap
OVERLAPS, NOISES = (0.03, 0.1, 0.3), (0.1, 0.3, 0.7)
POSITIVE = 4   # axes of the five
ARM = "grpo-id"


def jobs(args):
    found = []
    for seed in seeds(args):
        for base in bases(args, seed):
            found += chain(args, base, on(args, base, "id"), ["--cold", "--by-mass", "edge"])
    return found


def bases(args, seed):
    by_overlap = [pretraining(args, seed, *place, overlap, steps=enough(args, *place))
                  for place in BY_OVERLAP for overlap in OVERLAPS]
    by_noise = [pretraining(args, seed, *place, noise=noise, steps=enough(args, *place))
                for place in BY_NOISE for noise in NOISES]
    return by_overlap + by_noise


# ----------------------------------------------------------------------------------------- numbers

def logit_shift(run, arm, split):
    """Mean over prompts of logit Q* - logit Q0, cells weighing alike; nan if there is none."""
    if not run.has("base", arm, split=split):
        return math.nan
    cells = run.masses["base", split]
    return float(np.mean([(logit(run.masses[arm, split][cell]) - logit(before)).mean()
                          for cell, before in cells.items()]))


def log10_start(run, split):
    """Mean over prompts of log10 Q0, cells weighing alike."""
    return float(np.mean([log10_mass(before) for before in run.masses["base", split].values()]))


def slopes(runs):
    """{axis: {seed: slope}} of the edge's shift on log10 Q0, over an axis's three bases or more."""
    found = {}
    for (place, seed), these in group(runs, lambda r: (r.place, r.seed)).items():
        if len(these) >= 3:
            start, shift = zip(*((log10_start(r, "edge"), logit_shift(r, ARM, "edge"))
                                 for r in these))
            found.setdefault(place, {})[seed] = float(np.polyfit(start, shift, 1)[0])
    return found


def transfer(run):
    """The edge's shift over that of id; nan where id did not rise."""
    risen = logit_shift(run, ARM, "id")
    return logit_shift(run, ARM, "edge") / risen if risen > 0 else math.nan


# ------------------------------------------------------------------------------------- the verdict

def verdicts(runs):
    runs = [r for r in runs if r.has("base", ARM, split="edge")]
    by_axis = slopes(runs)
    if not by_axis:
        return [Verdict(CLAIM, "not run")]
    values = by_seed([(seed, slope) for of_axis in by_axis.values()
                      for seed, slope in of_axis.items()],
                     lambda item: item[1], seed=lambda item: item[0])
    positive = sum(np.mean(list(of_axis.values())) > 0 for of_axis in by_axis.values())
    word = decide(values, yes=above(0), no=below(0))
    if word == "supported" and positive < POSITIVE:
        word = "undecided"
    numbers = (f"slope {pm(values, '+.2f')} logits per decade, positive on {positive} of "
               f"{len(by_axis)} axes{with_axes(by_axis)}")
    return [Verdict(CLAIM, word, numbers, table_of(runs, by_axis), len(values),
                    "Shifts are means over prompts of logit Q* - logit Q0. Transfer: the edge's "
                    "shift over that of id.")]


def with_axes(by_axis):
    """The second interval as text: of the seeds that all axes have, if there are two of each."""
    common = set.intersection(*(set(of_axis) for of_axis in by_axis.values()))
    if len(common) < 2 or len(by_axis) < 2:
        return ""
    values = [[of_axis[seed] for seed in sorted(common)] for of_axis in by_axis.values()]
    mean, half = over_seeds_and_axes(values)
    return f"; over seeds and axes {mean:+.2f} ±{half:.2f}"


def table_of(runs, by_axis):
    table = [["axis", "base", "edge: base", "edge: logit shift", "id: logit shift", "transfer",
              "slope per decade", "seeds"]]
    for (place, base), these in group(runs, lambda r: (r.place, dial(r))).items():
        masses = np.concatenate([r.log_mass("base", "edge") for r in these])
        of_axis = list(by_axis.get(place, {}).values())
        table.append([place, base, mass_text(masses),
                      *(pm(by_seed(these, lambda r: logit_shift(r, ARM, split)), "+.2f")
                        for split in ("edge", "id")),
                      pm(by_seed(these, transfer), "+.2f"), pm(of_axis, "+.2f"),
                      str(n_seeds(these))])
    return table


def dial(run):
    return f"overlap {run.overlap:g}" if run.overlap else f"noise {run.noise:g}"


def figure(runs):
    """The edge's shift against the base's mass on it, one line per axis."""
    runs = [r for r in runs if r.has("base", ARM, split="edge")]
    if not runs:
        return None
    fig, axes = draw.panels(1, 1, 3.6)
    ax = axes[0, 0]
    colors = (draw.ORANGE, draw.BLUE, draw.GREEN, draw.PURPLE, draw.GREY, draw.BLACK)
    looks = zip(colors, draw.MARKS)
    for (place, these), (color, mark) in zip(group(runs, lambda r: r.place).items(), looks):
        doses = group(these, dial).values()
        x = [np.mean([log10_start(r, "edge") for r in of_dose]) for of_dose in doses]
        y = [by_seed(of_dose, lambda r: logit_shift(r, ARM, "edge")) for of_dose in doses]
        order = np.argsort(x)
        draw.bars(ax, np.array(x)[order], [y[i] for i in order],
                  draw.Look(color, mark, "-", place))
    ax.axhline(0, color=draw.BLACK, lw=0.6)
    ax.set(xlabel="the base's mass on the edge, mean of log10 Q0",
           ylabel="logit shift of the edge")
    ax.legend()
    fig.suptitle("What GRPO on id does to the edge, by what the base had there "
                 "(± 95 % over seeds)")
    return fig
