"""verdicts.py: from the study's numbers to claims. Each claim has its decision rule, fixed before the runs, in code.

    write(folder)    read study.csv, masses.npz, steps.csv there; write README.md, and the figures where matplotlib is installed

Every claim is a pure function from runs to a Verdict, which is one of four words:

    supported    the 95 % interval over seeds lies inside the range that the rule names
    refuted      it lies inside the opposite range
    undecided    it reaches across the border, or there is one seed: one seed is never an interval
    not run      there is nothing to judge it by

Intervals are Student t over seed means: bootstrapping three seeds covers 74 %, not 95. Several bases of one seed (other tasks, axes,
overlaps) are averaged first, because they share their luck. No verdict is typed anywhere; other numbers give other words.

>>> decide([0.010, 0.012, 0.011], yes=(-0.02, 0.02), no=[(0.02, INF)]), decide([0.01], yes=(-0.02, 0.02))
('supported', 'undecided')
>>> decide([0.50, 0.52, 0.51], yes=(-0.02, 0.02), no=[(0.02, INF)]), decide([])
('refuted', 'not run')
"""
import csv
import importlib.util
import math
import os
import re
from dataclasses import dataclass, field

import numpy as np

from cli import CommandError
from evaluate import FELL, exact_pass_at_k, probability, show_k

INF = math.inf
GRID = [("arithmetic", a) for a in ("depth", "length", "tokens", "composition")] + [("graph", a) for a in ("depth", "length", "tokens")]
OVERLAPS = (0.0, 0.001, 0.01, 0.1)
COLDER = ("base", "base T=0.7", "base T=0.5", "base T=0.3", "base greedy")
TUNED = ("grpo-id", "grpo-edge")
POWERS = [2 ** i for i in range(21)]
NO_MASS, POINTS, NEAR, DIP = 1e-4, 0.02, 0.05, 0.01  # below this: no mass; no gain to speak of; on the law; no crossover to speak of
BAND, LEAST = (1e-6, 0.3), 20                        # base masses among which ranks mean something; prompts that a rank correlation needs

CONTROLS = {  # what each control is called in the data, as a chain's setting or as an arm
    "positions": ["position=rope", "position=learned", "position=nope"],
    "exposure to the shadow tokens": [f"exposure={e}{tied}" for e in ("none", "copy", "atoms", "full") for tied in ("", " untied")],
    "reward": ["reward=trace", "reward=answer", "reward=process", "reward=random", "reward=inverted", "reward=format"],
    "advantage": ["scale=std", "scale=none"],
    "resets of the reference": ["resets=50", "long"],
    "curriculum": ["curriculum 4>5>6", "jump to 6"],
    "cells of a batch": ["balanced", "uniform"],
    "two domains, share of arithmetic": ["share=0.1", "share=0.5", "share=0.9"],
}
DEFAULTS = ("position=rope", "exposure=none", "reward=trace", "scale=std")  # these are the study's own runs beside the control


# ------------------------------------------------------------------------------------------------------------- the data

@dataclass
class Run:
    """One base and everything made of it: log masses [n] of the same prompts, in the same order, for every arm."""
    chain: str
    task: str
    axis: str
    overlap: float
    noise: float
    pretrain_steps: float
    setting: str
    seed: int
    parts: set
    masses: dict                                   # {(arm, split): {cell: [n]}}
    commands: dict = field(default_factory=dict)   # {arm: command}
    trips: str = ""                                # the tripwires that this run's grid cell has tripped

    @property
    def place(self):
        return f"{self.task} {self.axis}"

    @property
    def arms(self):
        return list(dict.fromkeys(arm for arm, _ in self.masses))

    def has(self, *arms, split):
        return all((arm, split) in self.masses for arm in arms)

    def log_mass(self, arm, split):
        """[n], all cells of the split."""
        return np.concatenate(list(self.masses[arm, split].values()))

    def reach(self, arm, split, k=1):
        """Mean exact pass@k over the split's prompts; k = 1 is the mean mass. nan if there is no such arm."""
        return float(exact_pass_at_k(self.log_mass(arm, split), k).mean()) if self.has(arm, split=split) else math.nan

    def gain(self, arm, split, k=1):
        return self.reach(arm, split, k) - self.reach("base", split, k)

    def at_best_temperature(self, split, k=1):
        """The base's pass@k at whichever temperature makes it highest (for this k)."""
        return max(self.reach(arm, split, k) for arm in COLDER if self.has(arm, split=split))

    def budget(self, arm):
        """Completions that this GRPO run drew: group x prompts x steps."""
        found = [re.search(rf"{flag}[ =](\d+)", self.commands.get(arm, "")) for flag in ("--group-size", "--prompts-per-step", "--steps")]
        return math.prod(int(f[1]) if f else default for f, default in zip(found, (16, 32, 60)))


@dataclass
class Study:
    runs: list
    steps: list = field(default_factory=list)  # rows of steps.csv


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(folder):
    """The Study in folder. A chain evaluated on two tasks is two Runs."""
    def path(name):
        return os.path.join(folder, name)
    if not (os.path.exists(path("study.csv")) and os.path.exists(path("masses.npz"))):
        raise CommandError(f"{folder}: a report needs study.csv and masses.npz, and they are not both there; run the study first")
    runs = {}
    with np.load(path("masses.npz")) as masses:
        names = set(masses.files)
        for row in rows_of(path("study.csv")):
            key = row["chain"], row["task"]
            if key not in runs:
                runs[key] = Run(row["chain"], row["task"], row["axis"], *(float(row[c] or "nan") for c in ("overlap", "noise", "pretrain_steps")),
                                row["setting"], int(row["seed"]), set(), {})
            run, name = runs[key], "|".join(row[c] for c in ("chain", "arm", "split", "cell"))
            run.parts.add(row["part"])
            run.commands[row["arm"]] = row["command"]
            cells = run.masses.setdefault((row["arm"], row["split"]), {}) if row["cell"] != "all" else None
            if cells is not None and row["cell"] not in cells:
                if name not in names:
                    raise CommandError(f"{path('masses.npz')}: no array {name!r}, which study.csv has a row for; write both again")
                cells[row["cell"]] = masses[name].astype(float)
    steps = rows_of(path("steps.csv")) if os.path.exists(path("steps.csv")) else []
    for row in steps:
        row.update({c: float(row[c] or "nan") for c in ("seed", "beta", "depth", "step", "base", "tuned", "law")})
    runs = list(runs.values())
    for cell, words in tripwires(runs).items():
        for run in runs:
            if (run.task, run.axis, run.overlap) == cell and "dose" in run.parts:
                run.trips = words
    return Study(runs, steps)


def dose(runs):
    return [r for r in runs if "dose" in r.parts and not r.setting]


def group(items, key):
    """{key: items}, in the order of the keys."""
    found = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return dict(sorted(found.items()))


def cells_of(runs):
    """The runs by cell of the grid: {label: runs}; a label with ⚠ has tripped a wire."""
    return {f"{r[0].place}, overlap {r[0].overlap:g}{' ⚠' if r[0].trips else ''}": r
            for r in group(runs, lambda r: (r.task, r.axis, r.overlap)).values()}


# ------------------------------------------------------------------------------------------------------- the statistics

# The 97.5 % point of Student's t for 1, 2, ... 20 degrees of freedom; with more, the last one is a little too wide.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
         2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)


def over_seeds(values):
    """(mean, half-width of the 95 % Student t interval or None) of one number per seed. One seed is not an interval."""
    n = len(values)
    return float(np.mean(values)), None if n < 2 else float(T_975[min(n - 1, 20) - 1] * np.std(values, ddof=1) / n ** 0.5)


def by_seed(items, value, seed=lambda item: item.seed):
    """[one number per seed]: the mean of value(item) over that seed's items; nan counts as absent."""
    found = {s: [v for v in map(value, these) if not math.isnan(v)] for s, these in group(items, seed).items()}
    return [float(np.mean(v)) for v in found.values() if v]


def decide(values, yes=(0, INF), no=()):
    """The verdict on one number per seed: where does its interval lie, inside the range yes or inside one of the ranges no?"""
    if len(values) < 2:
        return "undecided" if values else "not run"
    mean, half = over_seeds(values)
    def inside(low, high):
        return low < mean - half and mean + half < high
    return "supported" if inside(*yes) else "refuted" if any(inside(*r) for r in no) else "undecided"


def every(verdicts):
    """The verdict on "all of them": one refutation refutes; what has not run does not count."""
    ran = [v for v in verdicts if v != "not run"]
    return "not run" if not ran else "refuted" if "refuted" in ran else "supported" if set(ran) == {"supported"} else "undecided"


def some(verdicts):
    """The verdict on "at least one of them"."""
    other = {"supported": "refuted", "refuted": "supported"}
    found = every([other.get(v, v) for v in verdicts])
    return other.get(found, found)


def unanimous(verdicts):
    """The verdict of those that reached one: what all of them say, else undecided."""
    decided = set(verdicts) & {"supported", "refuted"}
    return decided.pop() if len(decided) == 1 else "undecided" if set(verdicts) - {"not run"} else "not run"


def ranks(x):
    """Ranks [n], ties sharing their mean rank."""
    _, at, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]


def spearman(x, y):
    """Rank correlation; nan if one of the two does not vary."""
    x, y = ranks(x), ranks(y)
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else math.nan


def t_test(values):
    """Two-sided p-value of mean 0, one number per seed; nan for one seed. With t = sqrt(dof) tan(a), t's density is cos(a)^(dof - 1)."""
    mean, half = over_seeds(values) if values else (0, None)
    if half is None:
        return math.nan
    dof = len(values) - 1
    start = math.atan(abs(mean) * T_975[min(dof, 20) - 1] / half / dof ** 0.5) if half else math.pi / 2
    tail, whole = (np.mean(np.cos(np.linspace(a, math.pi / 2, 20001)) ** (dof - 1)) * (math.pi / 2 - a) for a in (start, 0))
    return float(tail / whole)


def half_dose(doses, effects):
    """The dose at which the effect is halfway between its values at the first and last dose; nan if that range is below POINTS.

    Linear between dose 0 and the next, log-linear after.

    >>> [round(half_dose([0, 0.001, 0.01, 0.1], e), 4) for e in ([0, 0, 0.5, 1], [0, 1, 1, 1], [0, 0, 0, 1])]
    [0.01, 0.0005, 0.0316]
    """
    half = (effects[0] + effects[-1]) / 2
    for (a, low), (b, high) in zip(zip(doses, effects), zip(doses[1:], effects[1:])):
        if effects[-1] - effects[0] >= POINTS and low < half <= high:
            part = (half - low) / (high - low)
            return b * part if a == 0 else a * (b / a) ** part
    return math.nan


# -------------------------------------------------------------------------------------------------------------- the laws

def logit(log_mass):
    """log(Q / (1 - Q)) from log Q [n], kept finite."""
    log_mass = np.clip(log_mass, -700, -1e-12)
    return log_mass - np.log(-np.expm1(log_mass))


def tilted(log_mass, beta):
    """P1, reverse KL in the reward (2510.15990): logit Q* = logit Q0 + 1 / beta. beta 0 is no KL at all: Q* = 1."""
    return np.exp(-np.logaddexp(0, -logit(log_mass) - 1 / beta)) if beta else np.ones_like(log_mass)


def hyperbolic(log_mass, beta):
    """P3, k3 as a loss: pi = beta pi0 / (lambda - A) with A in {0, 1}, so lambda solves a quadratic, and Q* is

    >>> [round(float(hyperbolic(np.log(q), b)), 4) for b, q in ((0.3, 0.05), (1, 0.05), (0.3, 0.3))]
    [0.7208, 0.2236, 0.811]
    """
    return (1 - beta + np.sqrt((1 - beta) ** 2 + 4 * beta * np.exp(log_mass))) / 2


def shifted(log_mass, target):
    """Masses [n] after one uniform logit shift that brings their mean to target (bisection)."""
    low, high = -800.0, 800.0
    for _ in range(80):
        shift = (low + high) / 2
        moved = np.exp(-np.logaddexp(0, -logit(log_mass) - shift))
        low, high = (shift, high) if moved.mean() < target else (low, shift)
    return moved


# ------------------------------------------------------------------------------------------------------------ the claims

@dataclass
class Verdict:
    claim: str
    rule: str
    verdict: str
    numbers: str = ""                            # in one line
    table: list = field(default_factory=list)    # rows of text, the header first
    n_seeds: int = 0
    note: str = ""
    figure: str = ""


def pm(values, form="+.3f"):
    """Mean ± half-width as text; form "p" is a probability, which can be tiny."""
    if not len(values):
        return "-"
    text = probability if form == "p" else lambda x: format(x, form)
    mean, half = over_seeds(values)
    return text(mean) + ("" if half is None else " ±" + text(half).lstrip("+"))


def tripwires(runs):
    """{(task, axis, overlap): what tripped}: base id mass outside [0.4, 0.95], or an oracle (clean edge problems) below 0.9 on edge."""
    found = {}
    oracles = {k: by_seed(r, lambda x: x.reach("oracle", "edge")) for k, r in group(dose(runs), lambda r: (r.task, r.axis)).items()}
    for (task, axis, overlap), these in group(dose(runs), lambda r: (r.task, r.axis, r.overlap)).items():
        id_mass, oracle = np.mean([r.reach("base", "id") for r in these]), oracles[task, axis]
        words = [] if 0.4 <= id_mass <= 0.95 else [f"base id {id_mass:.2f}"]
        words += [f"oracle {np.mean(oracle):.2f}"] if oracle and np.mean(oracle) < 0.9 else []
        if words:
            found[task, axis, overlap] = ", ".join(words)
    return found


def no_mass_no_gain(runs):
    bases = [r for r in dose(runs) if r.has("base", "grpo-edge", split="edge") and r.reach("base", "edge") < NO_MASS]
    gains = {k: by_seed(bases, lambda r: r.gain("grpo-edge", "edge", k)) for k in (1, 64)}
    inside, above = (-POINTS, POINTS), [(POINTS, INF)]
    def expected(r):
        return r.budget("grpo-edge") * r.reach("base", "edge")
    seen = {name: [r.gain("grpo-edge", "edge", 64) for r in bases if (expected(r) >= 1) == flag] for name, flag in (("1 or more", True), ("fewer", False))}
    table = [["bases below 1e-4", "edge mass, by seed", "right samples to expect (P6), by seed", "gain pass@1", "gain pass@64", "this cell"]]
    for label, these in cells_of(bases).items():
        g = [by_seed(these, lambda r: r.gain("grpo-edge", "edge", k)) for k in (1, 64)]
        table.append([label, " ".join(f"{r.reach('base', 'edge'):.0e}" for r in these), " ".join(f"{expected(r):.1g}" for r in these),
                      *map(pm, g), every([decide(v, inside, above) for v in g])])
    return Verdict("No mass, no gain", f"bases with mean edge mass below {NO_MASS:g}: supported iff the interval of the edge gain after GRPO on edge lies inside "
                   "±2 points, at pass@1 and at pass@64; refuted iff one of them lies above +2", every([decide(g, inside, above) for g in gains.values()]),
                   f"{len(bases)} bases: pass@1 {pm(gains[1])}, pass@64 {pm(gains[64])}", table, len(gains[1]),
                   "P6 counts the right samples that GRPO can expect to see, group x Q0 x prompts x steps. Mean gain at pass@64 where it expects "
                   + "; ".join(f"{name}: {np.mean(v):+.3f} ({len(v)} bases)" for name, v in seen.items() if v) + "." if bases else "", "dose.png")


def correlations(run, arm):
    """(measured, of a uniform shift with the same mean gain): mean within-cell rank correlation of log Q0 and the change of mass."""
    found = []
    for split in ("edge", "hard"):
        for cell, base in run.masses.get(("base", split), {}).items():
            use = (np.exp(base) > BAND[0]) & (np.exp(base) < BAND[1])
            if use.sum() >= LEAST and run.has(arm, split=split):
                before, after = base[use], np.exp(run.masses[arm, split][cell][use])
                found.append([spearman(before, after - np.exp(before)), spearman(before, shifted(before, after.mean()) - np.exp(before))])
    found = [f for f in found if not math.isnan(f[0])]
    return tuple(np.mean(found, axis=0)) if found else (math.nan, math.nan)


def mass_predicts_gain(runs, arm, name):
    found = [(r, *correlations(r, arm)) for r in dose(runs)]
    def seeds(these, column):
        return by_seed(these, lambda f: f[column], seed=lambda f: f[0].seed)
    found = [f for f in found if not math.isnan(f[1])]
    table = [["base", "rank correlation", "of a uniform shift", "seeds", "this cell"]]
    labels = {id(r): label for label, these in cells_of([f[0] for f in found]).items() for r in these}
    for label, these in group(found, lambda f: labels[id(f[0])]).items():
        table.append([label, pm(seeds(these, 1), "+.2f"), pm(seeds(these, 2), "+.2f"), str(len(seeds(these, 1))), decide(seeds(these, 1), no=[(-INF, 0)])])
    rho = seeds(found, 1)
    return Verdict(f"Mass predicts gain: {name}", f"rank correlation, within a cell of edge or hard and over its prompts with {BAND[0]:g} < Q0 < {BAND[1]:g} ({LEAST} at least), of "
                   f"log Q0 and the change of mass ({arm}): supported iff its interval over seeds lies above 0, refuted iff below", decide(rho, no=[(-INF, 0)]),
                   f"rank correlation {pm(rho, '+.2f')}; of one uniform logit shift with the same mean gain {pm(seeds(found, 2), '+.2f')}" if rho else "", table, len(rho), figure="gain.png")


def overlap_buys_mass(runs):
    measures = {"mass": lambda r: r.reach("base", "edge"), "gain": lambda r: r.gain("grpo-edge", "edge")}
    slopes, table = {m: [] for m in measures}, [["cell", *(f"{m}: {what}" for m in measures for what in ("slope per step of dose", "p", "half effect at"))]]
    for place, these in group(dose(runs), lambda r: r.place).items():
        doses, line = sorted({r.overlap for r in these}), [place]
        for m, value in measures.items():
            here, halves = [], []
            for seed, chains in group(these, lambda r: r.seed).items():
                curve = {r.overlap: value(r) for r in sorted(chains, key=lambda r: r.overlap) if not math.isnan(value(r))}
                if len(curve) >= 3:
                    here.append((seed, np.polyfit([doses.index(d) for d in curve], list(curve.values()), 1)[0]))
                    halves.append(half_dose(list(curve), list(curve.values())))
            slopes[m] += here
            logs, here = [math.log10(h) for h in halves if h > 0], [s for _, s in here]
            centre, half = over_seeds(logs) if logs else (math.nan, None)
            dose50 = "-" if not logs else f"{10 ** centre:.2g}" + ("" if half is None else f" [{10 ** (centre - half):.1g}, {10 ** (centre + half):.1g}]")
            line += [pm(here), f"{t_test(here):.2g}" if len(here) > 1 else "-", dose50]
        table.append(line)
    means = {m: by_seed(s, lambda x: x[1], seed=lambda x: x[0]) for m, s in slopes.items()}
    return Verdict("Overlap buys mass", "slope per seed of base edge mass, and of the edge gain after GRPO on edge, over the doses 0, 0.001, 0.01, 0.1 taken as equal steps: supported iff "
                   "both are positive with p < 0.05 (Student t over seeds), refuted iff one is negative with p < 0.05", every([decide(v, no=[(-INF, 0)]) for v in means.values()]),
                   "; ".join(f"{m} {pm(v)} per step, p {t_test(v):.2g}" for m, v in means.items()) if means["mass"] else "", table, len(means["mass"]), figure="dose.png")


def mass_without_overlap(runs):
    border, table, verdicts, lines = 0.01, [["cell, overlap 0", "base on edge", "after GRPO on id", "after GRPO on edge", "seeds", "as claimed"]], [], []
    claimed = {("arithmetic", "composition"): True, ("graph", "length"): True, ("arithmetic", "depth"): False, ("arithmetic", "length"): False}
    for place in GRID:
        these = [r for r in dose(runs) if (r.task, r.axis) == place and r.overlap == 0]
        base, on_id, on_edge = (by_seed(these, lambda r: r.reach(arm, "edge")) for arm in ("base", *TUNED))
        ranges = [(border, INF), (-INF, border)]
        yes, no = ranges if claimed.get(place, True) else ranges[::-1]
        verdict = decide(base, yes, [no])
        table.append([" ".join(place) + (" ⚠" if any(r.trips for r in these) else ""), *(pm(v, "p") for v in (base, on_id, on_edge)), str(len(base)), verdict if place in claimed else "no claim"])
        if place in claimed:
            verdicts.append(verdict)
            lines += [f"{' '.join(place)} {pm(base, 'p')}"] if base else []
    found = every(verdicts)
    return Verdict("Composition and graph length have mass without overlap; depth and length of arithmetic have none", "base edge mass at overlap 0: supported iff the interval lies above "
                   "0.01 for the first two and below it for the other two (0.01 is ours); refuted iff one lies on the other side",
                   "undecided" if found == "supported" and "not run" in verdicts else found, ", ".join(lines), table, max(len(by_seed(dose(runs), lambda r: r.seed)), 0) if lines else 0, figure="dose.png")


def saturation(runs):
    """(dialled by noise, undertrained): the bases of the saturation part."""
    these = [r for r in runs if "saturation" in r.parts]
    most = max((r.pretrain_steps for r in these), default=0)
    short = [r for r in these if r.noise == 0 and r.pretrain_steps < most]
    return [r for r in these if r not in short], short


def gains_saturate(runs, arm, beta, name):
    dialled = [r for r in saturation(runs)[0] if r.has("base", arm, split="id")]
    def predicted(r, cell):
        return (tilted(r.masses["base", "id"][cell], beta) - np.exp(r.masses["base", "id"][cell])).mean()
    def measured(r, cell):
        return (np.exp(r.masses[arm, "id"][cell]) - np.exp(r.masses["base", "id"][cell])).mean()
    def departure(r):
        return np.mean([abs(measured(r, c) - predicted(r, c)) for c in r.masses["base", "id"]])
    far = by_seed(dialled, departure)
    table = [["noise", "base Q0", "gain", "gain by the law", "mean absolute departure", "the base alone, at its best temperature", "seeds"]]
    for noise, these in group(dialled, lambda r: r.noise).items():
        table.append([f"{noise:g}", pm(by_seed(these, lambda r: r.reach("base", "id")), "p"), pm(by_seed(these, lambda r: r.gain(arm, "id"))),
                      pm(by_seed(these, lambda r: np.mean([predicted(r, c) for c in r.masses["base", "id"]]))), pm(by_seed(these, departure), ".3f"),
                      pm(by_seed(these, lambda r: r.at_best_temperature("id") - r.reach("base", "id"))), str(len({r.seed for r in these}))])
    return Verdict(f"ID gains saturate: {name}", f"mean over noises and id cells of |gain - gain by the law|, arm {arm}: supported iff its interval lies within 0.05, refuted iff above 0.05 (0.05 is ours)",
                   decide(far, (-INF, NEAR), [(NEAR, INF)]), f"mean absolute departure {pm(far, '.3f')}" if far else "", table, len(far), figure="saturation.png")


def undertrained_gains_alike(runs):
    """A base can be imperfect from too little training, not from noise: does GRPO give it what it gives a noisy one of the same Q0?"""
    dialled, short = ([r for r in part if r.has("base", "grpo-id", split="id")] for part in saturation(runs))
    def point(r, cell):
        return tuple(float(np.exp(r.masses[arm, "id"][cell]).mean()) for arm in ("base", "grpo-id"))
    def against_noise(r):
        """Mean over id cells of this run's gain minus the gain of noisy bases of its seed, interpolated at its Q0; nan outside their range."""
        found = []
        for cell in r.masses["base", "id"]:
            line = sorted((q, after - q) for q, after in (point(d, cell) for d in dialled if d.seed == r.seed and d.place == r.place))
            q, after = point(r, cell)
            if line and line[0][0] <= q <= line[-1][0]:
                found.append(after - q - np.interp(q, *zip(*line)))
        return float(np.mean(found)) if found else math.nan
    differences = by_seed(short, against_noise)
    table = [["pretraining steps, noise 0", "base Q0", "gain", "minus the gain of a noisy base of the same Q0", "the base alone, at its best temperature"]]
    for steps, these in group(short, lambda r: r.pretrain_steps).items():
        table.append([f"{steps:g}", pm(by_seed(these, lambda r: r.reach("base", "id")), "p"), pm(by_seed(these, lambda r: r.gain("grpo-id", "id"))), pm(by_seed(these, against_noise)),
                      pm(by_seed(these, lambda r: r.at_best_temperature("id") - r.reach("base", "id")))])
    return Verdict("Undertrained bases gain like noisy ones", "gain of GRPO on id from an undertrained base (noise 0, fewer steps) minus that from a noisy base of the same Q0: supported iff the interval "
                   "lies inside ±0.05, refuted iff outside (0.05 is ours)", decide(differences, (-NEAR, NEAR), [(-INF, -NEAR), (NEAR, INF)]),
                   f"difference {pm(differences)}" if differences else "", table, len(differences), figure="saturation.png")


def no_crossover(runs, pairs, name):
    table, verdicts, crossed, seeds = [["cell", "arm, split", "share of prompts that fell", "pass@k below the base's from k =", "worst difference", "seeds", "this cell"]], [], 0, set()
    for label, these in cells_of(dose(runs)).items():
        for arm, split in pairs:
            here = [r for r in these if r.has("base", arm, split=split)]
            if not here:
                continue
            change = np.array([[r.gain(arm, split, k) for k in POWERS] for r in here])  # [seeds, 21]
            below = np.flatnonzero(change.mean(0) < -1e-9)
            worst = int(change.mean(0).argmin())
            fell = [float((r.log_mass(arm, split) < r.log_mass("base", split) - FELL).mean()) for r in here]
            verdict = every([decide(list(c), (-DIP, INF), [(-INF, -DIP)]) for c in change.T])
            verdicts += [verdict] if len(here) > 1 else []
            crossed += bool(len(below))
            seeds |= {r.seed for r in here}
            table.append([label, f"{arm}, {split}", pm(fell, ".2f"), show_k(POWERS[below[0]]) if len(below) else "none",
                          f"{pm(list(change[:, worst]))} at {show_k(POWERS[worst])}" if len(below) else "", str(len(here)), verdict])
    return Verdict(f"No crossover {name}", "tuned minus base mean exact pass@k, k = 1, 2, 4 ... 2^20: supported iff at every k, in every cell with two seeds or more, the interval lies above -1 point; "
                   "refuted iff at some k it lies below -1 point (1 point is ours)", every(verdicts) if verdicts else "undecided" if seeds else "not run",
                   f"the mean falls below the base's at some k in {crossed} of {len(table) - 1}; refuted in {verdicts.count('refuted')}, supported in {verdicts.count('supported')}" if seeds else "",
                   table, len(seeds), figure="passk.png")


def more_than_sharpening(runs, arm, split):
    ks, table, verdicts, seeds, empty = (1, 16, 64, 1024), [["cell", "base pass@1", "k = 1", "k = 16", "k = 64", "k = 1024", "seeds", "this cell"]], [], set(), 0
    for label, these in cells_of(dose(runs)).items():
        here = [r for r in these if r.has(arm, *COLDER[:2], split=split)]
        if here and np.mean([r.reach("base", split) for r in here]) < NO_MASS:
            empty += 1
        elif here:
            more = [[r.reach(arm, split, k) - r.at_best_temperature(split, k) for r in here] for k in ks]
            verdicts.append(some([decide(v, (POINTS, INF), [(-INF, POINTS)]) for v in more]))
            seeds |= {r.seed for r in here}
            table.append([label, pm([r.reach("base", split) for r in here], "p"), *map(pm, more), str(len(here)), verdicts[-1]])
    return Verdict(f"More than sharpening: {arm} on {split}", "tuned exact pass@k minus the base's at its best temperature for that k (1, 0.7, 0.5, 0.3, greedy), k = 1, 16, 64, 1024: a cell supports iff "
                   "at some k the interval lies above +2 points, refutes iff at every k below +2; the verdict is what all cells that decide agree on (2 points are ours)", unanimous(verdicts),
                   f"supported in {verdicts.count('supported')}, refuted in {verdicts.count('refuted')}, undecided in {verdicts.count('undecided')} cells" if verdicts else "", table, len(seeds),
                   f"{empty} cells with a base below {NO_MASS:g} there have nothing to sharpen and are left out." if empty else "")


def law_holds(runs, kind, law, name):
    """kind "k1" or "k3": the arms kind-b<beta>; and "none" (beta 0) beside k1, shown and not judged."""
    table = [["beta", "cell", "base Q0", "Q* measured", "Q* by the law", "difference", "slope", "by the law", "intercept", "by the law", "seeds"]]
    judged, seeds, worst = [], set(), []
    these = [r for r in runs if "laws" in r.parts]
    arms = sorted({a for r in these for a in r.arms if a.startswith(f"{kind}-b")}, key=lambda a: float(a[4:])) + (["none"] if kind == "k1" else [])
    for arm in arms:
        for cell in sorted({c for r in these for c in r.masses.get((arm, "id"), {})}):
            here = [r for r in these if cell in r.masses.get((arm, "id"), {})]
            beta = float(arm[4:]) if arm != "none" else 0.0
            before, after = ([r.masses[a, "id"][cell] for r in here] for a in ("base", arm))
            predicted = [law(b, beta) if beta else np.ones_like(b) for b in before]
            difference = [float(np.exp(a).mean() - p.mean()) for a, p in zip(after, predicted)]
            fits = [[np.polyfit(logit(b), logit(a), 1) for b, a in zip(before, rows)] for rows in (after, [np.log(p) for p in predicted])]
            slope, slope_law, intercept, intercept_law = ([f[i] for f in fit] for i in (0, 1) for fit in fits)
            table.append([f"{beta:g}" if beta else "none", cell, *(pm([float(np.mean(v)) for v in values], "p") for values in ([np.exp(b) for b in before], [np.exp(a) for a in after], predicted)),
                          pm(difference), pm(slope, ".2f"), f"{np.mean(slope_law):.2f}" if beta else "-", pm(intercept, ".2f"), f"{np.mean(intercept_law):.2f}" if beta else "-", str(len(here))])
            if beta:
                judged.append(decide(difference, (-NEAR, NEAR), [(-INF, -NEAR), (NEAR, INF)]))
                worst.append((abs(np.mean(difference)), f"{pm(difference)} (beta {beta:g}, {cell})"))
                seeds |= {r.seed for r in here}
    return Verdict(name, "mean Q* minus the law's, per beta and depth: supported iff every interval lies inside ±0.05, refuted iff one lies outside (0.05 is ours)", every(judged),
                   f"on the law in {judged.count('supported')} of {len(judged)}, off it in {judged.count('refuted')}; furthest {max(worst)[1]}" if worst else "", table if judged else [], len(seeds),
                   "Slope and intercept: least squares of logit Q* on logit Q0 over prompts." + (" The arm none has no KL and is not judged." if kind == "k1" else "") if judged else "", "laws.png")


def per_token(steps, kl="k1"):
    """{(beta, depth, step, prefix): rows} of the arms with this KL."""
    return group([s for s in steps if s["kl"] == kl], lambda s: (s["beta"], s["depth"], s["step"], s["prefix"]))


def tilt(row):
    """How far tuning moved the logit of the next step's probability."""
    return float(logit(math.log(row["tuned"])) - logit(math.log(row["base"])))


def wrong_prefixes_tilt_alike(steps):
    cells = per_token(steps)
    paired = [(rows, cells[key[:3] + ("right",)]) for key, rows in cells.items() if key[3] == "corrupted" and key[:3] + ("right",) in cells]
    def per_seed(which):
        return {s: np.mean([tilt(r) for r in rows]) for s, rows in group([r for pair in paired for r in pair[which]], lambda r: r["seed"]).items()}
    wrong, right = per_seed(0), per_seed(1)
    moved = decide([right[s] for s in wrong if s in right])
    shares = [float(wrong[s] / right[s]) for s in wrong if s in right and right[s]]
    return Verdict("The tuned model tilts wrong prefixes as it tilts right ones (against P10)", "k1 arms: logit shift of the next step after a corrupted prefix, as a share of that after a right one (P10 says 0, a model that "
                   "cannot tell them apart 1): supported iff the interval lies above 1/2, refuted iff below (1/2 is ours); undecided unless right prefixes moved up",
                   decide(shares, (0.5, INF), [(-INF, 0.5)]) if moved in ("supported", "not run") else "undecided", f"share {pm(shares, '.2f')}" if shares else "", [], len(shares), figure="steps.png")


def per_token_law(steps):
    table, judged, seeds = [["beta", "depth", "step", "prefix", "base", "tuned", "law", "tuned - law", "seeds"]], [], set()
    for (beta, depth, step, prefix), rows in per_token(steps).items():
        columns = {c: by_seed(rows, lambda r: r[c], seed=lambda r: r["seed"]) for c in ("base", "tuned", "law")}
        off = by_seed(rows, lambda r: r["tuned"] - r["law"], seed=lambda r: r["seed"])
        judged.append(decide(off, (-NEAR, NEAR), [(-INF, -NEAR), (NEAR, INF)]))
        seeds |= {r["seed"] for r in rows}
        table.append([f"{beta:g}", f"{depth:g}", f"{step:g}", prefix, *(pm(v, ".3f") for v in columns.values()), pm(off), str(len(off))])
    return Verdict("P10, the per-token law, holds at every step", "k1 arms: probability of the next step, tuned minus law, per beta, depth, step and prefix: supported iff every interval lies inside ±0.05, refuted iff "
                   "one lies outside (0.05 is ours)", every(judged), f"on the law in {judged.count('supported')} of {len(judged)}, off it in {judged.count('refuted')}" if judged else "",
                   table if judged else [], len(seeds), figure="steps.png")


def spurious_reward(runs):
    change = {split: by_seed([r for r in runs if r.has("reward=random", split=split)], lambda r: r.gain("reward=random", split)) for split in ("id", "edge")}
    return Verdict("A reward that ignores the answer changes nothing (P8)", "change of mass with reward random, on id and on edge: supported iff both intervals lie inside ±2 points, refuted iff one lies outside (2 points are "
                   "ours)", every([decide(v, (-POINTS, POINTS), [(-INF, -POINTS), (POINTS, INF)]) for v in change.values()]),
                   ", ".join(f"{s} {pm(v)}" for s, v in change.items() if v), n_seeds=len(change["id"]), figure="controls.png")


def curriculum(runs):
    stages, jump = CONTROLS["curriculum"]
    these = [r for r in runs if r.has(stages, jump, split="hard")]
    def mass(r, arm):
        return float(np.mean(np.concatenate([np.exp(m) for cell, m in r.masses[arm, "hard"].items() if cell.startswith("d6")] or [[math.nan]])))
    more, arms = by_seed(these, lambda r: mass(r, stages) - mass(r, jump)), ("base", stages, jump)
    return Verdict("A curriculum 4, 5, 6 beats a jump to 6 (P9)", "mass on depth 6, curriculum minus jump: supported iff the interval lies above +2 points, refuted iff below +2 (2 points are ours)",
                   decide(more, (POINTS, INF), [(-INF, POINTS)]), f"depth 6: difference {pm(more)}; " + ", ".join(f"{a} {pm(by_seed(these, lambda r: mass(r, a)), 'p')}" for a in arms) if more else "",
                   n_seeds=len(more), note="Not against P1, whose base is renewed at each stage; it is against a bound by the first base's mass." if more else "", figure="controls.png")


def controls(runs):
    """[(kind, name, arm, place, runs)]: every control, () for the runs of one that has not run; what is in the data under no known name comes last."""
    rows = []
    for kind, names in CONTROLS.items():
        def site(r):
            return r.task, r.axis, r.overlap, r.noise, r.pretrain_steps
        sites = {site(r) for r in runs if r.setting in names or set(r.arms) & set(names)}
        for name in names:
            found = [(r, arm) for r in runs for arm in r.arms if r.setting == name and arm in TUNED or arm == name]
            if name in DEFAULTS and not found:
                found = [(r, arm) for r in runs for arm in TUNED if not r.setting and arm in r.arms and site(r) in sites]
            for (arm, place), pairs in group(found, lambda f: (f[1], f"{f[0].place}, overlap {f[0].overlap:g}")).items():
                rows.append((kind, name, arm, place, [r for r, _ in pairs]))
            if not found:
                rows.append((kind, name, "", "", []))
    known = {*(n for names in CONTROLS.values() for n in names), *TUNED, *COLDER, "grpo-mix", "sft", "oracle", ""}
    for (name, arm, place), these in group([(r, arm) for r in runs if r.parts & {"controls", "domains"} for arm in r.arms if {r.setting, arm} - known and not arm.startswith("base")],
                                           lambda f: (f[0].setting, f[1], f"{f[0].place}, overlap {f[0].overlap:g}")).items():
        rows.append(("other", name or arm, arm, place, [r for r, _ in these]))
    return rows


def verdicts(study):
    """Every claim's Verdict."""
    runs, off = study.runs, [("grpo-id", "edge"), ("grpo-id", "hard"), ("grpo-edge", "id"), ("grpo-edge", "hard")]
    return [no_mass_no_gain(runs), mass_predicts_gain(runs, "grpo-id", "transfer"), mass_predicts_gain(runs, "grpo-edge", "learning"), overlap_buys_mass(runs), mass_without_overlap(runs),
            gains_saturate(runs, "k1-b1", 1, "with KL, beta 1, as P1's inverted U"), gains_saturate(runs, "grpo-id", 0, "without KL, as 1 - Q0"), undertrained_gains_alike(runs),
            no_crossover(runs, [("grpo-id", "id"), ("grpo-edge", "edge")], "where GRPO was trained (P4)"), no_crossover(runs, off, "where it was not trained"),
            more_than_sharpening(runs, "grpo-id", "id"), more_than_sharpening(runs, "grpo-edge", "edge"),
            law_holds(runs, "k1", tilted, "P1: with the KL in the reward, GRPO tilts the base"), law_holds(runs, "k3", hyperbolic, "P3: with k3 as a loss, GRPO follows the hyperbolic law"),
            wrong_prefixes_tilt_alike(study.steps), per_token_law(study.steps), spurious_reward(runs), curriculum(runs)]


# ------------------------------------------------------------------------------------------------------------ the report

def markdown(rows):
    return "\n".join("| " + " | ".join(str(c) for c in row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def grid_table(runs):
    rows = [["cell", *(f"overlap {o:g}" for o in OVERLAPS), "oracle on edge"]]
    for place in GRID:
        here = [r for r in dose(runs) if (r.task, r.axis) == place]
        row = [" ".join(place)]
        for overlap in OVERLAPS:
            these = [r for r in here if r.overlap == overlap]
            row.append(f"{len(these)} seed{'s' if len(these) > 1 else ''}, id {np.mean([r.reach('base', 'id') for r in these]):.2f}"
                       + (f" ⚠ {these[0].trips}" if these[0].trips else "") if these else "not run")
        rows.append(row + [pm(by_seed(here, lambda r: r.reach("oracle", "edge")), "p").replace("-", "not run", 1) if not by_seed(here, lambda r: r.reach("oracle", "edge")) else
                           pm(by_seed(here, lambda r: r.reach("oracle", "edge")), "p")])
    return rows


def controls_table(runs):
    rows = [["control", "value", "arm", "where", "seeds", "id: base, change", "edge: base, change", "hard: base, change"]]
    for kind, name, arm, place, these in controls(runs):
        sides = [(by_seed(these, lambda r: r.reach("base", s)), by_seed(these, lambda r: r.gain(arm, s))) for s in ("id", "edge", "hard")]
        rows.append([kind, name, arm, place, str(len({r.seed for r in these})), *(f"{pm(b[:1] and [np.mean(b)], 'p')}, {pm(c)}" if c else "-" for b, c in sides)] if these
                    else [kind, name, *["not run"] + [""] * 5])
    return rows


def report(study, drawn=()):
    """README.md of the study's folder as text; drawn: names of the figures that exist."""
    found, ran = verdicts(study), controls(study.runs)
    present = len({(k, n) for k, n, _, _, these in ran if these})
    lines = ["# What the study found", "", "Written by [verdicts.py](../../verdicts.py) from the numbers in this folder, verdicts included. *supported* and *refuted*: the 95 % interval (±, Student t over seeds) lies "
             "inside the range that the rule names; *undecided*: it does not, or there is one seed; headline claims want five. Gains are differences of exact probabilities: +0.02 is 2 points.", "",
             markdown([["claim", "verdict", "seeds", "numbers"], *([f"[{v.claim}](#{i + 1})", f"**{v.verdict}**", v.n_seeds or "", v.numbers] for i, v in enumerate(found)),
                       ["[Controls](#controls)", "a table", "", f"{present} of {len({(k, n) for k, n, *_ in ran})} run"]]), "",
             "## What was run", "", "Seeds per cell, and the base's mass in distribution. ⚠ marks a tripwire: a base outside 0.4 to 0.95 on id, or an oracle (trained on clean edge problems) below 0.9 on edge, "
             "so that a failure would be the architecture's. Marked cells stay in every table and every verdict.", "", markdown(grid_table(study.runs))]
    shown = set()
    for i, v in enumerate(found):
        lines += ["", f'<a id="{i + 1}"></a>', "", f"## {v.claim}: {v.verdict}", "", f"*Rule:* {v.rule}.", *(["", f"*Numbers:* {v.numbers}."] if v.numbers else [])]
        if v.figure in drawn and v.figure not in shown:
            shown.add(v.figure)
            lines += ["", f"![{v.figure}]({v.figure})"]
        if len(v.table) > 1:
            text = markdown(v.table)
            lines += ["", f"<details><summary>{len(v.table) - 1} rows</summary>\n\n{text}\n\n</details>" if len(v.table) > 13 else text]
        lines += ["", v.note] if v.note else []
    lines += ["", '<a id="controls"></a>', "", "## Controls", "", "Change of mass from the base to the arm, ± 95 % over seeds, one row per control."]
    lines += ["", "![controls.png](controls.png)"] if "controls.png" in drawn else []
    return "\n".join([*lines, "", markdown(controls_table(study.runs)), ""])


def write(folder):
    """Write folder/README.md, and the figures if matplotlib is importable; returns the path of the report."""
    study, drawn = read(folder), []
    if importlib.util.find_spec("matplotlib"):
        import figures
        drawn = figures.draw(folder, study)
    else:
        print("no figures: matplotlib is not installed (python -m pip install matplotlib); the tables have every number")
    path = os.path.join(folder, "README.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(report(study, drawn))
    return path
