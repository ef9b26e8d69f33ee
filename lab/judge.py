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

TOP_SHARE = 0.1  # of the mass: if one prompt has more of it, its mean is not quoted
LOSS_95 = 4.9   # what twice the log-likelihood may lose within the interval of even_odds: with very
                # many runs 3.84 would do, with 60 that covers 89 to 95 %, and this 93 to 98 %

# The 97.5 % point of Student's t for 1, 2, ... 20 degrees of freedom; for very many it is 1.960.
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
    return float(np.mean(values)), float(t_975(n - 1) * np.std(values, ddof=1) / n ** 0.5)


def t_975(freedom):
    """The 97.5 % point of Student's t for so many degrees of freedom, whole or not, from 1 on.

    >>> round(t_975(4), 3), round(t_975(4.5), 2), round(t_975(60), 2)
    (2.776, 2.66, 2.0)
    """
    return float(np.interp(1 / freedom, 1 / np.array([math.inf, *range(20, 0, -1)]),
                           [1.960, *reversed(T_975)]))


def over_seeds_and_axes(values):
    """(mean, half-width of a 95 % interval) of values [axes, seeds], for a claim about axes in
    general: both are taken to be drawn at random, and a seed to be shared by all axes.

    Two-way random effects: the variance of the mean is (A + S - R) / (axes x seeds), with A, S and
    R the mean squares of axes, of seeds and of the rest; degrees of freedom by Satterthwaite.

    >>> [round(over_seeds_and_axes([[1.0, 2.0, 3.0], [1.0 + x, 2.0 + x, 3.0 + x]])[1], 2)
    ...  for x in (0.0, 1.0)]
    [2.48, 2.5]
    """
    values = np.asarray(values, dtype=float)
    a, s = values.shape
    axes, seeds = values.mean(1), values.mean(0)
    rest = values - axes[:, None] - seeds + values.mean()
    squares = np.array([s * axes.var(ddof=1), a * seeds.var(ddof=1),
                        (rest ** 2).sum() / ((a - 1) * (s - 1))])
    variance = max(squares[0] + squares[1] - squares[2], squares[:2].max())
    spread = (squares ** 2 / [a - 1, s - 1, (a - 1) * (s - 1)]).sum()
    freedom = max(1.0, variance ** 2 / spread) if spread else a * s - 1
    return float(values.mean()), t_975(freedom) * float(variance / (a * s)) ** 0.5


def p_value(values, border=0.0):
    """Two-sided p-value of the t test that the mean over seeds is the border.

    >>> round(p_value([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    n, off, spread = len(values), np.mean(values) - border, np.std(values, ddof=1)
    if spread == 0:
        return float(off == 0)
    # with t = sqrt(n - 1) tan(angle), the density of the angle is cos(angle)^(n - 2)
    rest = math.pi / 2 - math.atan(abs(off) / spread * (n / (n - 1)) ** 0.5)
    middles = (np.arange(1000) + 0.5) / 1000
    beyond, whole = ((np.sin(width * middles) ** (n - 2)).sum() * width
                     for width in (rest, math.pi / 2))
    return float(beyond / whole)


def holm(p_values):
    """p-values of one table, corrected for their number (Holm 1979): the smallest times n, the next
    times n - 1, and never falling.

    >>> [round(p, 3) for p in holm([0.01, 0.5, 0.04])]
    [0.03, 0.5, 0.08]
    """
    p, n = np.asarray(p_values, dtype=float), len(p_values)
    order = np.argsort(p)
    corrected = np.empty(n)
    corrected[order] = np.maximum.accumulate(p[order] * (n - np.arange(n))).clip(max=1)
    return corrected.tolist()


def pm(values, form="+.3f"):
    """Mean ± half-width as text. Form "p" is a probability, which can be tiny."""
    if not values:
        return "-"
    mean, half = over_seeds(values)
    write = probability if form == "p" else lambda x: format(x, form)
    if half is None:
        return write(mean)
    return write(mean) + " ±" + write(half).lstrip("+")


# ------------------------------------------------------------------------------------ small masses
# Seeds whose masses differ by decades: intervals are those of the mean log10 Q.

def log10_mass(log_masses):
    """Mean over prompts of log10 Q, from log masses [n] (natural)."""
    return float(np.mean(log_masses) / math.log(10))


def top_share(log_masses):
    """The share of all mass that lies on the prompt that has most of it, from log masses [n]."""
    return float(1 / np.exp(log_masses - np.max(log_masses)).sum())


def mass_text(log_masses):
    """The mean mass of prompts, from log masses [n]; where one prompt makes more than a tenth of
    it, the mean of log10 Q in its place.

    >>> mass_text(np.log([0.2, 0.3] * 10)), mass_text(np.log([1e-9, 1e-3]))
    ('0.250', '10^-6.0 (100 % of the mass on one prompt)')
    """
    share = top_share(log_masses)
    if share <= TOP_SHARE:
        return probability(float(np.exp(log_masses).mean()))
    return f"10^{log10_mass(log_masses):.1f} ({100 * share:.0f} % of the mass on one prompt)"


# ------------------------------------------------------------------------------- laws and take-off

def rms_by_seed(items, error, seed=lambda item: item.seed):
    """[one number per seed]: the root mean square of error(item) over that seed's items."""
    return [float(np.sqrt(np.mean([error(item) ** 2 for item in these])))
            for these in group(items, seed).values()]


def judge_law(ours, theirs, border=0.25):
    """The verdict on a law, from one RMS error per seed of it and of its rival: supported if its
    interval ends below the border and below where the other's begins; refuted if it begins above
    where the other's ends.

    >>> judge_law([0.10, 0.12, 0.11], [0.5, 0.6, 0.7]), judge_law([0.5, 0.6, 0.7], [0.1, 0.2, 0.1])
    ('supported', 'refuted')
    """
    if not ours or not theirs:
        return "not run"
    (mean, half), (other, its_half) = over_seeds(ours), over_seeds(theirs)
    if half is None or its_half is None:
        return "undecided"
    if mean + half < min(border, other - its_half):
        return "supported"
    return "refuted" if mean - half > other + its_half else "undecided"


def even_odds(x, yes):
    """(where, low, high): the x at which yes and no are equally likely, by logistic regression of
    yes [n] (bool) on x [n], with its 95 % interval of profile likelihood (LOSS_95).

    The chance of yes is taken to rise with x. Data that a border separates are no special case: any
    x in the gap fits, and its middle is reported. A side that the data leave open is infinite, and
    if all or none are yes, where is nan.

    >>> [round(v, 1) for v in even_odds([-3, -2, -1, 1, 2, 3], [False] * 3 + [True] * 3)]
    [0.0, -2.1, 2.1]
    """
    x, sign = np.asarray(x, dtype=float), np.where(yes, 1.0, -1.0)
    reach = np.ptp(x) + 1
    borders = np.linspace(x.min() - reach, x.max() + reach, 401)
    above = sign * (x - borders[:, None])   # [borders, n]
    low, high = np.full((401, 1), -2.0), np.full((401, 1), 3.0)   # log10 of the best slope at each
    for _ in range(16):
        middle = (low + high) / 2
        steeper = (above * np.exp(-np.logaddexp(0, 10 ** middle * above))).sum(1, keepdims=True) > 0
        low, high = np.where(steeper, middle, low), np.where(steeper, high, middle)
    profile = -np.logaddexp(0, -10 ** low * above).sum(1)
    best, = np.nonzero(profile >= profile.max() - 1e-6)
    inside, = np.nonzero(profile > profile.max() - LOSS_95 / 2)
    low = -math.inf if inside[0] == 0 else float(borders[inside[0] - 1])
    high = math.inf if inside[-1] == 400 else float(borders[inside[-1] + 1])
    where = float(borders[best].mean()) if 0 < np.mean(yes) < 1 else math.nan
    return where, low, high


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
