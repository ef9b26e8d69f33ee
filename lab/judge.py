"""lab/judge.py: from numbers to a word. A question asks for one number per seed and names a border.

    supported    the 95 % interval over seeds lies inside the range that the rule names
    refuted      it lies inside the opposite range
    undecided    it reaches across the border, or there is one seed: one seed is never an interval
    not run      there is nothing to judge by

Intervals are Student t over seed means: bootstrapping three seeds covers 74 %, not 95. Several
bases of one seed (other tasks, axes, overlaps) are averaged first, because they share their luck.
No verdict is typed anywhere: other numbers give other words.

>>> decide([0.010, 0.012, 0.011], yes=inside(0.02), no=outside(0.02))
'supported'
>>> decide([0.50, 0.52, 0.51], yes=inside(0.02), no=outside(0.02))
'refuted'
>>> decide([0.01], yes=inside(0.02), no=outside(0.02))
'undecided'
"""
import math
from dataclasses import dataclass, field

import numpy as np

from cli import probability

INF = math.inf
POINTS = 0.02   # 2 points: a gain smaller than this is no gain to speak of
NEAR = 0.05     # a mass that is this close to a law lies on it
NO_MASS = 1e-4  # a base with less than this on a split has nothing there to learn from

# The 97.5 % point of Student's t for 1, 2, ... 20 degrees of freedom. With more, the last one is a
# little too wide.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
         2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)


@dataclass
class Verdict:
    """What a question answers: a claim, one of the four words ("a table" where nothing is claimed),
    and the numbers behind it."""
    claim: str
    verdict: str
    numbers: str = ""                          # in one line
    table: list = field(default_factory=list)  # rows of text, the header first
    n_seeds: int = 0
    note: str = ""                             # what a reader of the table must know


# -------------------------------------------------------------------------------- one number a seed

def group(items, key):
    """{key(item): [items]}, sorted by key."""
    found = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return dict(sorted(found.items()))


def by_seed(items, value, seed=lambda item: item.seed):
    """[one number per seed]: the mean of value(item) over that seed's items; nan is absent."""
    means = []
    for these in group(items, seed).values():
        values = [v for v in map(value, these) if not math.isnan(v)]
        if values:
            means.append(float(np.mean(values)))
    return means


def over_seeds(values):
    """(mean, half-width of the 95 % Student t interval) of one number per seed. One seed has no
    interval: the half-width is None.

    >>> mean, half = over_seeds([1.0, 2.0, 3.0])
    >>> mean, round(half, 3)
    (2.0, 2.484)
    """
    n = len(values)
    if n < 2:
        return float(np.mean(values)), None
    t = T_975[min(n - 1, 20) - 1]
    return float(np.mean(values)), float(t * np.std(values, ddof=1) / n ** 0.5)


def pm(values, form="+.3f"):
    """Mean ± half-width as text. Form "p" is a probability, which can be tiny."""
    if not values:
        return "-"
    mean, half = over_seeds(values)
    write = probability if form == "p" else lambda x: format(x, form)
    if half is None:
        return write(mean)
    return write(mean) + " ±" + write(half).lstrip("+")


# ------------------------------------------------------------------------------------ the decisions

def above(border):
    return [(border, INF)]


def below(border):
    return [(-INF, border)]


def inside(margin):
    return [(-margin, margin)]


def outside(margin):
    return [(-INF, -margin), (margin, INF)]


def decide(values, yes, no):
    """The verdict on one number per seed: does its interval lie in a range of yes, or of no?"""
    if not values:
        return "not run"
    mean, half = over_seeds(values)
    if half is None:
        return "undecided"
    if any(low < mean - half and mean + half < high for low, high in yes):
        return "supported"
    if any(low < mean - half and mean + half < high for low, high in no):
        return "refuted"
    return "undecided"


def every(words):
    """The verdict on "all of them": one refutation refutes; what has not run does not count."""
    ran = set(words) - {"not run"}
    if not ran:
        return "not run"
    if "refuted" in ran:
        return "refuted"
    return "supported" if ran == {"supported"} else "undecided"


def some(words):
    """The verdict on "at least one of them": one that is supported supports."""
    ran = set(words) - {"not run"}
    if not ran:
        return "not run"
    if "supported" in ran:
        return "supported"
    return "refuted" if ran == {"refuted"} else "undecided"


def unanimous(words):
    """The verdict of those that reached one: what all of them say, else undecided."""
    ran = set(words) - {"not run"}
    if not ran:
        return "not run"
    reached = ran - {"undecided"}
    return reached.pop() if len(reached) == 1 else "undecided"


def tally(words):
    """
    >>> tally(["supported", "undecided", "supported"])
    'supported in 2, refuted in 0, undecided in 1'
    """
    if not words:
        return ""
    return ", ".join(f"{word} in {words.count(word)}"
                     for word in ("supported", "refuted", "undecided"))


# ------------------------------------------------------------------------------------------- ranks

def ranks(x):
    """Ranks [n], ties sharing their mean rank.

    >>> ranks([5, 1, 5])
    array([2.5, 1. , 2.5])
    """
    _, at, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]


def spearman(x, y):
    """Rank correlation; nan if one of the two does not vary."""
    x, y = ranks(x), ranks(y)
    if x.std() == 0 or y.std() == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


# --------------------------------------------------------------------------------- rows for tables

def n_seeds(runs):
    return len({run.seed for run in runs})


def cells(runs):
    """{label: runs}: the cells of the grid (task, axis, overlap). A label with ⚠ has tripped a
    wire: its base, or the oracle, is not what the study needs (see "What was run")."""
    found = {}
    for these in group(runs, lambda r: (r.task, r.axis, r.overlap)).values():
        warning = " ⚠" if these[0].trips else ""
        found[f"{these[0].place}, overlap {these[0].overlap:g}{warning}"] = these
    return found


# ------------------------------------------- for questions that vary one thing and claim nothing

def arms_by(runs, column):
    """[(value, arm, runs)]: the arms of these runs, called by the column in which they differ."""
    values = {arm.name: getattr(arm, column) for run in runs for arm in run.arms.values()
              if arm.method != "pretrain"}
    return [(value, name, [r for r in runs if name in r.arms]) for name, value in values.items()]


def arms_by_setting(runs, default):
    """[(setting and arm, arm, runs)]: where it is the bases that differ; default names the setting
    of a base that has none."""
    return [(f"{setting}: {arm}", arm, these)
            for setting, in_setting in group(runs, lambda r: r.setting or default).items()
            for _, arm, these in arms_by(in_setting, "name")]


def compared(claim, first, arms):
    """A Verdict without a claim: what each arm of [(label, arm, runs)] does to the mass."""
    arms = [(label, arm, runs) for label, arm, runs in arms if runs]
    if not arms:
        return Verdict(claim, "not run")
    numbers = "; ".join(f"{label}: id {pm(by_seed(runs, lambda r: r.gain(arm, 'id')))}, "
                        f"edge {pm(by_seed(runs, lambda r: r.gain(arm, 'edge')))}"
                        for label, arm, runs in arms)
    seeds = max(n_seeds(runs) for _, _, runs in arms)
    return Verdict(claim, "a table", numbers, change_table(first, arms), seeds)


def change_table(first, arms):
    """Rows of text for arms [(label, arm, runs)]: the base's mass and its change on each split, in
    each place where the arm ran."""
    table = [[first, "where", "id: base, change", "edge: base, change", "hard: base, change",
              "seeds"]]
    for label, arm, runs in arms:
        for place, these in group(runs, lambda r: f"{r.place}, overlap {r.overlap:g}").items():
            row = [str(label), place]
            for split in ("id", "edge", "hard"):
                base = by_seed(these, lambda r: r.reach("base", split))
                change = by_seed(these, lambda r: r.gain(arm, split))
                row.append(f"{probability(np.mean(base))}, {pm(change)}" if change else "-")
            table.append([*row, str(n_seeds(these))])
    return table
