"""readings.py: the numbers that the study measured, as Python reads them: runs, intervals over seeds, and the laws' own predictions.

    study.csv     one row per base (chain), arm, split and cell: what it is, how it was made
    masses.npz    the exact log mass of every prompt, under "chain|arm|split|cell"
    steps.csv     probabilities of single steps, after right and after corrupted prefixes

Intervals are Student t over seed means: bootstrapping three seeds covers 74 %, not 95. Several bases of one seed (other tasks, axes,
overlaps) are averaged first, because they share their luck. What is judged by them is in verdicts.py.
"""
import csv
import math
import os
import re
from dataclasses import dataclass, field

import numpy as np

from cli import CommandError
from evaluate import exact_pass_at_k

INF = math.inf
GRID = [("arithmetic", a) for a in ("depth", "length", "tokens", "composition")] + [("graph", a) for a in ("depth", "length", "tokens")]
OVERLAPS = (0.0, 0.001, 0.01, 0.1)
COLDER = ("base", "base T=0.7", "base T=0.5", "base T=0.3", "base greedy")
TUNED = ("grpo-id", "grpo-edge")
POWERS = [2 ** i for i in range(21)]


# ------------------------------------------------------------------------------------------------------------- the data

@dataclass(eq=False)  # hashable by identity
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
    rollouts: dict = field(default_factory=dict)   # {arm: completions sampled}, where that is known
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
        """Mean exact pass@k over the split's prompts, for one k or a list of them; k = 1 is the mean mass. nan if there is no such arm."""
        return exact_pass_at_k(self.log_mass(arm, split)[:, None], k).mean(0)[slice(None) if np.ndim(k) else 0] if self.has(arm, split=split) else math.nan

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
            if row.get("rollouts"):
                run.rollouts[row["arm"]] = int(row["rollouts"])
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


def saturation(runs):
    """(dialled by noise, undertrained): the bases of the saturation part."""
    these = [r for r in runs if "saturation" in r.parts]
    def undertrained(r):
        return r.noise == 0 and r.pretrain_steps < max(other.pretrain_steps for other in these if other.place == r.place)
    return [r for r in these if not undertrained(r)], [r for r in these if undertrained(r)]


def group(items, key):
    """{key: items}, in the order of the keys."""
    found = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return dict(sorted(found.items()))


def per_token(steps, kl="k1"):
    """{(beta, depth, step, prefix): rows} of the arms with this KL."""
    return group([s for s in steps if s["kl"] == kl], lambda s: (s["beta"], s["depth"], s["step"], s["prefix"]))


def cells_of(runs):
    """{label: runs}, by cell of the grid; a label with ⚠ has tripped a wire."""
    return {f"{r[0].place}, overlap {r[0].overlap:g}{' ⚠' if r[0].trips else ''}": r
            for r in group(runs, lambda r: (r.task, r.axis, r.overlap)).values()}


def tripwires(runs):
    """{(task, axis, overlap): what tripped}: base id mass outside [0.4, 0.95], or an oracle (clean edge problems) below 0.9 on edge."""
    found = {}
    for (task, axis), place in group(dose(runs), lambda r: (r.task, r.axis)).items():
        oracle = by_seed(place, lambda r: r.reach("oracle", "edge"))
        for overlap, these in group(place, lambda r: r.overlap).items():
            id_mass = np.mean([r.reach("base", "id") for r in these])
            words = [f"base id {id_mass:.2f}"] * (not 0.4 <= id_mass <= 0.95) + ([f"oracle {np.mean(oracle):.2f}"] if oracle and np.mean(oracle) < 0.9 else [])
            found.update({(task, axis, overlap): ", ".join(words)} if words else {})
    return found


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


def ranks(x):
    """Ranks [n], ties sharing their mean rank."""
    _, at, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]


def spearman(x, y):
    """Rank correlation; nan if one of the two does not vary."""
    x, y = ranks(x), ranks(y)
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else math.nan


def half_dose(doses, effects, least=0.02):
    """The dose at which the effect is halfway between its values at the first and last dose; nan if that range is below least.

    Linear between dose 0 and the next, log-linear after.

    >>> [round(half_dose([0, 0.001, 0.01, 0.1], e), 4) for e in ([0, 0, 0.5, 1], [0, 1, 1, 1], [0, 0, 0, 1])]
    [0.01, 0.0005, 0.0316]
    """
    half = (effects[0] + effects[-1]) / 2
    for (a, low), (b, high) in zip(zip(doses, effects), zip(doses[1:], effects[1:])):
        if effects[-1] - effects[0] >= least and low < half <= high:
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
    logits, low, high = logit(log_mass), -800.0, 800.0
    for _ in range(60):
        shift = (low + high) / 2
        moved = np.exp(-np.logaddexp(0, -logits - shift))
        low, high = (shift, high) if moved.mean() < target else (low, shift)
    return moved
