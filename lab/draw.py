"""lab/draw.py: what the questions' figures share. Optional: needs matplotlib, imported where used.

A figure is a matplotlib Figure, 900 pixels wide, such as a README can show. The base is black and
the tuned model orange in every one of them; a second tuned arm is blue, a law green. These are
Okabe and Ito's colours, which colour-blind readers can tell apart, and marker or line style says
the same again. Intervals are the Student t intervals over seeds that lab/judge.py judges by.
"""
import importlib.util
import os
from typing import NamedTuple

import numpy as np

from lab.judge import by_seed, over_seeds

BLACK, ORANGE, BLUE, GREEN = "#000000", "#D55E00", "#0072B2", "#009E73"
PURPLE, GREY = "#CC79A7", "#888888"
MARKS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {"font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False,
         "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8e8e8",
         "legend.frameon": False, "axes.axisbelow": True}


class Look(NamedTuple):
    color: str
    marker: str
    line: str
    label: str


LOOK = {"base": Look(BLACK, "o", "-", "base"),
        "tuned": Look(ORANGE, "^", "-.", "tuned"),
        "grpo-edge": Look(ORANGE, "^", "-.", "after GRPO on edge"),
        "grpo-id": Look(BLUE, "s", "--", "after GRPO on id"),
        "law": Look(GREEN, "_", ":", "the law")}


def can_draw():
    return importlib.util.find_spec("matplotlib") is not None


def save(make, runs, path):
    """Write make(runs), a function that returns a Figure or None, to path; whether it was drawn."""
    import matplotlib
    with matplotlib.rc_context(STYLE):
        figure = make(runs)
        if figure is not None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            figure.savefig(path)
    return figure is not None


def panels(rows, columns, height=2.4, **options):
    """A Figure 900 pixels wide, and its axes [rows, columns]."""
    from matplotlib.figure import Figure  # not pyplot: files need no display
    figure = Figure(figsize=(9, 0.7 + height * rows), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def interval(values, limits=(-np.inf, np.inf)):
    """(mean, distance down, distance up) of one number per seed; what is a probability ends at
    limits (0, 1).

    >>> mean, down, up = interval([0.9, 1.0, 0.95], limits=(0, 1))
    >>> round(mean, 3), round(down, 3), round(up, 3)
    (0.95, 0.124, 0.05)
    """
    mean, half = over_seeds(values)
    half = half or 0.0
    return mean, mean - max(mean - half, limits[0]), min(mean + half, limits[1]) - mean


def bars(ax, x, values, look, limits=(-np.inf, np.inf), size=5, **options):
    """One point with its interval for each list of per-seed values; an empty list leaves a gap."""
    points = [(a, *interval(v, limits)) for a, v in zip(x, values) if v]
    if not points:
        return
    x, mean, down, up = zip(*points)
    options = {"ls": look.line, "label": look.label, "lw": 1.2, **options}
    ax.errorbar(x, mean, [down, up], color=look.color, marker=look.marker, ms=size, capsize=2,
                **options)


def band(ax, x, curves, look):
    """Mean over seeds and 95 % band of probabilities: curves [seeds, len(x)]."""
    mean, down, up = np.array([interval(list(at), (0, 1)) for at in np.transpose(curves)]).T
    ax.plot(x, mean, color=look.color, ls=look.line, lw=1.4, label=look.label)
    ax.fill_between(x, mean - down, mean + up, color=look.color, alpha=0.15, lw=0)


def tries(ax, k):
    """An axis of pass@k against k."""
    ax.set_xscale("log", base=2)
    ax.set(ylim=(-0.03, 1.03), xticks=[1, 2 ** 10, k[-1]])


def changes(arms, title):
    """What each arm of [(label, arm, runs)] does to the mass on id and on edge; None if nothing
    ran. The picture beside lab.judge.change_table."""
    arms = [(label, arm, runs) for label, arm, runs in arms if runs]
    if not arms:
        return None
    figure, axes = panels(1, 2, 0.6 + 0.3 * len(arms), sharey=True)
    rows = -np.arange(len(arms))
    for ax, split in zip(axes[0], ("id", "edge")):
        for y, (_, arm, runs) in zip(rows, arms):
            change = by_seed(runs, lambda r: r.gain(arm, split))
            if change:
                mean, down, up = interval(change, (-1, 1))
                ax.errorbar([mean], [y], xerr=[[down], [up]], color=ORANGE, marker="^", ms=5,
                            capsize=2)
        ax.axvline(0, color=BLACK, lw=0.8)
        low, high = ax.get_xlim()  # 5 points or wider: dust must not look like a change
        ax.set(title=f"change of mass on {split}", yticks=rows, ylim=(rows[-1] - 0.5, 0.5),
               xlim=(min(low, -0.05), max(high, 0.05)))
    axes[0, 0].set_yticklabels([label for label, _, _ in arms])
    figure.suptitle(f"{title} (± 95 % over seeds)")
    return figure
