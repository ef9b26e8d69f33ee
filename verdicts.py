"""verdicts.py: from the study's numbers to claims. Each claim has its decision rule, fixed before the runs, in code.

    write(folder)    read study.csv, masses.npz, steps.csv there; write README.md, and the figures where matplotlib is installed

Every claim is a pure function from runs to a Verdict, which is one of four words:

    supported    the 95 % interval over seeds lies inside the range that the rule names
    refuted      it lies inside the opposite range
    undecided    it reaches across the border, or there is one seed: one seed is never an interval
    not run      there is nothing to judge it by

No verdict is typed anywhere: other numbers give other words. The thresholds that a rule calls "ours" are this study's choice.

>>> decide([0.010, 0.012, 0.011], inside(0.02), outside(0.02)), decide([0.01], inside(0.02))
('supported', 'undecided')
>>> decide([0.50, 0.52, 0.51], inside(0.02), outside(0.02)), decide([])
('refuted', 'not run')
"""
import functools
import importlib.util
import math
import os
from dataclasses import dataclass, field

import numpy as np

from evaluate import FELL, probability, show_k
from readings import (COLDER, GRID, INF, OVERLAPS, POWERS, TUNED, by_seed, cells_of, dose, group, half_dose, hyperbolic, logit, over_seeds, per_token, read,
                      saturation, shifted, spearman, tilted)

NO_MASS, POINTS, NEAR, DIP = 1e-4, 0.02, 0.05, 0.01  # below this: no mass; no gain to speak of; on the law; no crossover to speak of
BAND, LEAST = (1e-6, 0.3), 20                        # base masses among which ranks mean something; prompts that a rank correlation needs

CONTROLS = {  # what each control is called in the data, as a chain's setting or as an arm
    "positions": ["position=rope", "position=learned", "position=nope"],
    "exposure to the shadow tokens": [f"exposure={e}{tied}" for e in ("none", "copy", "atoms", "full") for tied in ("", " untied")],
    "reward": ["reward=trace", "reward=answer", "reward=process", "reward=random", "reward=inverted", "reward=format"],
    "advantage": ["scale=std", "scale=none"],
    "resets of the reference": ["resets", "k1-b1"],
    "curriculum": ["curriculum-6", "jump-6"],
    "cells of a batch": ["balanced", "uniform"],
    "two domains, share of arithmetic": ["share=0.1", "share=0.5", "share=0.9"],
}
DEFAULTS = ("position=rope", "exposure=none", "reward=trace", "scale=std", "uniform")  # these are the study's own runs beside the control


# --------------------------------------------------------------------------------------------------------- the decisions

def decide(values, yes=(0, INF), no=()):
    """The verdict on one number per seed: where does its interval lie, inside the range yes or inside one of the ranges no?"""
    if len(values) < 2:
        return "undecided" if values else "not run"
    centre, half = over_seeds(values)
    def lies_in(low, high):
        return low < centre - half and centre + half < high
    return "supported" if lies_in(*yes) else "refuted" if any(lies_in(*r) for r in no) else "undecided"


def inside(margin):
    return -margin, margin


def outside(margin):
    return [(-INF, -margin), (margin, INF)]


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


# ------------------------------------------------------------------------------------------------------------ the claims

@dataclass
class Verdict:
    claim: str
    verdict: str
    numbers: str = ""                            # in one line
    table: list = field(default_factory=list)    # rows of text, the header first
    n_seeds: int = 0
    note: str = ""
    figure: str = ""
    rule: str = ""


def claim(judge):
    """The docstring of a claim is its rule, as the report prints it."""
    @functools.wraps(judge)
    def judged(*args):
        verdict = judge(*args)
        verdict.rule = " ".join(judge.__doc__.split())
        return verdict
    return judged


def pm(values, form="+.3f"):
    """Mean ± half-width as text; form "p" is a probability, which can be tiny."""
    if not values:
        return "-"
    text = probability if form == "p" else lambda x: format(x, form)
    mean, half = over_seeds(values)
    return text(mean) + ("" if half is None else " ±" + text(half).lstrip("+"))


def mean(value, form="+.3f"):
    """A column of a table: runs -> text."""
    return lambda runs: pm(by_seed(runs, value), form)


def table(first, groups, columns):
    """Rows of text: groups {label: runs} down, columns {header: runs -> text} across."""
    rows = ([label, *(column(runs) for column in columns.values()), str(len({r.seed for r in runs}))] for label, runs in groups.items())
    return [[first, *columns, "seeds"], *rows]


def tally(verdicts):
    return ", ".join(f"{word} in {verdicts.count(word)}" for word in ("supported", "refuted", "undecided")) if verdicts else ""


@claim
def no_mass_no_gain(runs):
    """Over the bases with mean edge mass below 1e-4: supported iff the interval of the edge gain after GRPO on edge lies inside ±2 points, both at
    pass@1 and at pass@64; refuted iff one of the two lies above +2."""
    bases = [r for r in dose(runs) if r.has("grpo-edge", split="edge") and r.reach("base", "edge") < NO_MASS]
    gain = {k: lambda r, k=k: r.gain("grpo-edge", "edge", k) for k in (1, 64)}
    def expected(r):
        return r.budget("grpo-edge") * r.reach("base", "edge")
    def verdict(these):
        return every([decide(by_seed(these, g), inside(POINTS), [(POINTS, INF)]) for g in gain.values()])
    seen = {words: [gain[64](r) for r in bases if (expected(r) >= 1) == enough] for words, enough in (("1 or more", True), ("fewer", False))}
    rows = table("bases below 1e-4", cells_of(bases), {
        "edge mass, by seed": lambda these: " ".join(f"{r.reach('base', 'edge'):.0e}" for r in these),
        "right samples to expect (P6), by seed": lambda these: " ".join(f"{expected(r):.1g}" for r in these),
        "gain pass@1": mean(gain[1]), "gain pass@64": mean(gain[64]), "this cell": verdict})
    if not bases:
        return Verdict("No mass, no gain", "not run")
    return Verdict("No mass, no gain", verdict(bases), f"{len(bases)} bases: pass@1 {mean(gain[1])(bases)}, pass@64 {mean(gain[64])(bases)}", rows,
                   len({r.seed for r in bases}), "P6 counts the right samples that GRPO can expect to see, group x Q0 x prompts x steps. Mean gain at pass@64 where "
                   "that is " + "; ".join(f"{words}: {np.mean(g):+.3f} ({len(g)} bases)" for words, g in seen.items() if g) + ".", "dose.png")


@functools.cache
def correlation(run, arm, shift=False):
    """Mean over the cells of edge and hard of the rank correlation, over prompts, of log Q0 and the change of mass; nan if there is none.

    With shift, the change is that of one uniform logit shift with the same mean.
    """
    found = []
    for split in ("edge", "hard"):
        for cell, base in run.masses.get(("base", split), {}).items():
            use = (np.exp(base) > BAND[0]) & (np.exp(base) < BAND[1])
            if use.sum() >= LEAST and run.has(arm, split=split):
                after = np.exp(run.masses[arm, split][cell][use])
                found.append(spearman(base[use], (shifted(base[use], after.mean()) if shift else after) - np.exp(base[use])))
    found = [f for f in found if not math.isnan(f)]
    return float(np.mean(found)) if found else math.nan


@claim
def mass_predicts_gain(runs, arm, name):
    """Rank correlation of log Q0 and the change of mass, within a cell of edge or hard, over its prompts with 1e-6 < Q0 < 0.3 (20 at least): supported
    iff its interval over seeds lies above 0, refuted iff below."""
    these = [r for r in dose(runs) if not math.isnan(correlation(r, arm))]
    measured, of_shift = lambda r: correlation(r, arm), lambda r: correlation(r, arm, shift=True)
    rho, judge = by_seed(these, measured), lambda rho: decide(rho, (0, INF), [(-INF, 0)])
    rows = table("base", cells_of(these), {"rank correlation": mean(measured, "+.2f"), "of a uniform shift": mean(of_shift, "+.2f"),
                                           "this cell": lambda t: judge(by_seed(t, measured))})
    return Verdict(f"Mass predicts gain: {name}", judge(rho), f"{arm}: {pm(rho, '+.2f')}; one uniform logit shift with the same mean gain would give "
                   f"{mean(of_shift, '+.2f')(these)}" if rho else "", rows, len(rho), figure="gain.png")


@claim
def overlap_buys_mass(runs):
    """Slope, within a seed, of the base's edge mass and of the edge gain after GRPO on edge, over the doses taken as equal steps: supported iff both
    are positive with p < 0.05 (the Student t interval over seeds lies above 0), refuted iff one is negative with p < 0.05."""
    measures = {"base mass": lambda r: r.reach("base", "edge"), "gain": lambda r: r.gain("grpo-edge", "edge")}
    def curves(these, value):
        """[(seed, doses, values)] of every place and seed with three doses or more."""
        chains = [(seed, sorted((r.overlap, value(r)) for r in c if not math.isnan(value(r))))
                  for (_, seed), c in group(these, lambda r: (r.place, r.seed)).items()]
        return [(seed, *zip(*points)) for seed, points in chains if len(points) >= 3]
    def slopes(these, value):
        return by_seed(curves(these, value), lambda c: float(np.polyfit(range(len(c[1])), c[2], 1)[0]), seed=lambda c: c[0])
    def half(these, value):
        logs = by_seed(curves(these, value), lambda c: math.log10(half_dose(c[1], c[2])), seed=lambda c: c[0])
        centre, width = over_seeds(logs) if logs else (math.nan, None)
        return ("-" if not logs else f"{10 ** centre:.2g}") + ("" if width is None else f" [{10 ** (centre - width):.1g}, {10 ** (centre + width):.1g}]")
    columns = {f"{name}: {what}": lambda t, f=f, v=v: f(t, v) for name, v in measures.items()
               for what, f in (("slope", lambda t, v: pm(slopes(t, v))), ("half the effect at", half))}
    means = {name: slopes(dose(runs), v) for name, v in measures.items()}
    return Verdict("Overlap buys mass", every([decide(s, (0, INF), [(-INF, 0)]) for s in means.values()]),
                   ", ".join(f"{name} {pm(s)} per step of dose" for name, s in means.items() if s), table("cell", group(dose(runs), lambda r: r.place), columns),
                   len(means["base mass"]), figure="dose.png")


@claim
def mass_without_overlap(runs):
    """Base edge mass at overlap 0: supported iff its interval lies above 0.01 for composition of arithmetic and length of graph, and below 0.01 for
    depth and length of arithmetic; refuted iff one lies on the other side (0.01 is ours)."""
    above, below = (0.01, INF), (-INF, 0.01)
    claimed = {"arithmetic composition": above, "graph length": above, "arithmetic depth": below, "arithmetic length": below}
    bare = group([r for r in dose(runs) if r.overlap == 0], lambda r: r.place)
    def verdict(place):
        return decide(by_seed(bare.get(place, []), lambda r: r.reach("base", "edge")), claimed[place], [below if claimed[place] == above else above])
    found = [verdict(place) for place in claimed]
    rows = table("cell, overlap 0", bare, {f"{arm} on edge": mean(lambda r, arm=arm: r.reach(arm, "edge"), "p") for arm in ("base", *TUNED)}
                 | {"as claimed": lambda these: verdict(these[0].place) if these[0].place in claimed else "no claim"})
    return Verdict("Composition and graph length have mass without overlap; depth and length of arithmetic have none",
                   "undecided" if every(found) == "supported" and "not run" in found else every(found),
                   ", ".join(f"{row[0]} {row[1]}" for row in rows[1:] if row[0] in claimed), rows,
                   max((int(row[-1]) for row in rows[1:] if row[0] in claimed), default=0), figure="dose.png")


def colder(run):
    return run.at_best_temperature("id") - run.reach("base", "id")


@claim
def gains_saturate(runs, arm, beta, name):
    """Mean, over noises and id cells, of |gain - gain by the law|: supported iff its interval lies below 0.05, refuted iff above (0.05 is ours)."""
    these = [r for r in saturation(runs)[0] if r.has("base", arm, split="id")]
    def gains(r):
        """[cells, 2]: measured and by the law."""
        return np.array([[(np.exp(r.masses[arm, "id"][cell]) - np.exp(base)).mean(), (tilted(base, beta) - np.exp(base)).mean()]
                         for cell, base in r.masses["base", "id"].items()])
    def departure(r):
        return float(np.abs(gains(r) @ [1, -1]).mean())
    rows = table("noise", group(these, lambda r: r.noise), {
        "base Q0": mean(lambda r: r.reach("base", "id"), "p"), "gain": mean(lambda r: gains(r)[:, 0].mean()),
        "gain by the law": mean(lambda r: gains(r)[:, 1].mean()), "mean absolute departure": mean(departure, ".3f"),
        "gain of the base alone, sampled at its best temperature": mean(colder)})
    far = by_seed(these, departure)
    return Verdict(f"ID gains saturate: {name}", decide(far, (-INF, NEAR), [(NEAR, INF)]), f"mean absolute departure {pm(far, '.3f')} ({arm})" if far else "",
                   rows, len(far), figure="saturation.png")


@claim
def undertrained_gains_alike(runs):
    """Gain of GRPO on id from an undertrained base (noise 0, fewer steps) minus that from a noisy base of the same Q0 (same seed and cell, interpolated):
    supported iff the interval lies inside ±0.05, refuted iff outside (0.05 is ours)."""
    noisy, short = ([r for r in part if r.has("base", "none", split="id")] for part in saturation(runs))
    def point(r, cell):
        before, after = (float(np.exp(r.masses[arm, "id"][cell]).mean()) for arm in ("base", "none"))
        return before, after - before
    def difference(r):
        found = []
        for cell in r.masses["base", "id"]:
            line = sorted(point(d, cell) for d in noisy if (d.seed, d.place) == (r.seed, r.place))
            q, gain = point(r, cell)
            if line and line[0][0] <= q <= line[-1][0]:
                found.append(gain - np.interp(q, *zip(*line)))
        return float(np.mean(found)) if found else math.nan
    rows = table("pretraining steps, noise 0", group(short, lambda r: r.pretrain_steps), {
        "base Q0": mean(lambda r: r.reach("base", "id"), "p"), "gain": mean(lambda r: r.gain("none", "id")),
        "minus the gain of a noisy base of the same Q0": mean(difference), "gain of the base alone, sampled at its best temperature": mean(colder)})
    values = by_seed(short, difference)
    return Verdict("Undertrained bases gain like noisy ones", decide(values, inside(NEAR), outside(NEAR)), f"difference {pm(values)}" if values else "",
                   rows, len(values), figure="saturation.png")


@claim
def no_crossover(runs, pairs, name):
    """Mean exact pass@k, tuned minus base, k = 1, 2, 4 ... 2^20: a cell supports iff the interval lies above -1 point at every k and refutes iff it
    lies below at some k; one cell refutes, all that have two seeds or more support (1 point is ours)."""
    cells, rows, found = {}, [], []
    for label, these in cells_of(dose(runs)).items():
        for arm, split in pairs:
            cells[f"{label}: {arm} on {split}"] = [(r, arm, split) for r in these if r.has("base", arm, split=split)]
    for label, these in cells.items():
        if not these:
            continue
        change = np.array([r.gain(arm, split, POWERS) for r, arm, split in these])  # [seeds, 21]
        fell = [float((r.log_mass(arm, split) < r.log_mass("base", split) - FELL).mean()) for r, arm, split in these]
        below, worst = np.flatnonzero(change.mean(0) < -1e-9), int(change.mean(0).argmin())
        verdict = every([decide(list(at_k), (-DIP, INF), [(-INF, -DIP)]) for at_k in change.T])
        found += [verdict] if len(these) > 1 else []
        dip = (show_k(POWERS[below[0]]), f"{pm(list(change[:, worst]))} at {show_k(POWERS[worst])}") if len(below) else ("none", "")
        rows.append([label, pm(fell, ".2f"), *dip, verdict, str(len(these))])
    crossed = f"the mean is below the base's at some k in {sum(row[2] != 'none' for row in rows)} of {len(rows)}" if rows else ""
    return Verdict(f"No crossover {name}", every(found) if found else "undecided" if rows else "not run", "; ".join(filter(None, (tally(found), crossed))),
                   [["cell", "share of prompts that fell", "pass@k below the base's from k =", "worst difference", "this cell", "seeds"], *rows],
                   max(map(len, cells.values()), default=0), figure="passk.png")


@claim
def more_than_sharpening(runs, arm, split):
    """Tuned exact pass@k minus the base's at its best temperature for that k (1, 0.7, 0.5, 0.3, greedy), k = 1, 16, 64, 1024: a cell supports iff at
    some k the interval lies above +2 points, and refutes iff it lies below at every k; the verdict is what all cells that decide agree on (2 points are ours)."""
    cells = {label: [r for r in these if r.has(arm, *COLDER[:2], split=split)] for label, these in cells_of(dose(runs)).items()}
    cells = {label: these for label, these in cells.items() if these}
    alive = {label: these for label, these in cells.items() if np.mean([r.reach("base", split) for r in these]) >= NO_MASS}
    more = {f"pass@{k}": lambda r, k=k: r.reach(arm, split, k) - r.at_best_temperature(split, k) for k in (1, 16, 64, 1024)}
    def verdict(these):
        return some([decide(by_seed(these, f), (POINTS, INF), [(-INF, POINTS)]) for f in more.values()])
    found = [verdict(these) for these in alive.values()]
    rows = table("cell", alive, {"base pass@1": mean(lambda r: r.reach("base", split), "p"), **{name: mean(f) for name, f in more.items()}, "this cell": verdict})
    return Verdict(f"More than sharpening: {arm} on {split}", unanimous(found), tally(found), rows, max((len(these) for these in alive.values()), default=0),
                   f"Left out: {len(cells) - len(alive)} cells whose base has less than {NO_MASS:g} there, nothing to sharpen." if len(cells) > len(alive) else "")


@claim
def law_holds(runs, kind, law, name):
    """Mean Q* minus the law's, per beta and depth: supported iff every interval lies inside ±0.05, refuted iff one lies outside (0.05 is ours)."""
    these, cells = [r for r in runs if "laws" in r.parts], {}
    for arm in sorted({arm for r in these for arm in r.arms if arm.startswith(f"{kind}-b")}, key=lambda arm: float(arm[4:])) + ["none"] * (kind == "k1"):
        for r in these:
            for cell in r.masses.get((arm, "id"), {}):
                cells.setdefault((arm, cell), []).append(r)
    def fit(before, after):
        return np.polyfit(logit(before), logit(after), 1)
    found, rows, far = [], [], []
    for (arm, cell), here in cells.items():
        beta = float(arm[4:]) if arm != "none" else 0
        before, after = ([r.masses[a, "id"][cell] for r in here] for a in ("base", arm))
        by_law = [law(b, beta) for b in before]
        off = [float(np.exp(a).mean() - q.mean()) for a, q in zip(after, by_law)]
        lines = np.array([[*fit(b, a), *fit(b, np.log(q))] for b, a, q in zip(before, after, by_law)])  # [seeds, 4]
        masses = [[float(np.mean(v)) for v in values] for values in (map(np.exp, before), map(np.exp, after), by_law)]
        slope, intercept = (pm(list(lines[:, i]), ".2f") + (f" ({lines[:, i + 2].mean():.2f})" if beta else "") for i in (0, 1))
        rows.append([f"{beta:g}" if beta else "no KL", cell, *(pm(m, "p") for m in masses), pm(off), slope, intercept, str(len(here))])
        if beta:  # without a KL there is no law to hold it to: the row is only shown
            found.append(decide(off, inside(NEAR), outside(NEAR)))
            far.append((abs(np.mean(off)), f"{pm(off)} (beta {beta:g}, {cell})"))
    return Verdict(name, every(found), f"{tally(found)}; furthest {max(far)[1]}" if far else "",
                   [["beta", "cell", "base Q0", "Q*", "Q* by the law", "difference", "slope (law)", "intercept (law)", "seeds"], *rows],
                   max((len(c) for c in cells.values()), default=0) * bool(far),
                   "Slope and intercept are the least squares line of logit Q* on logit Q0 over prompts." if far else "", "laws.png")


@claim
def wrong_prefixes_tilt_alike(steps):
    """k1 arms: logit shift of the next step's probability after a corrupted prefix, as a share of that after a right one (P10 says 0; a model that cannot
    tell them apart, 1): supported iff the interval lies above 1/2, refuted iff below (1/2 is ours); undecided unless right prefixes moved up."""
    cells = per_token(steps)
    both = [key[:3] for key in cells if key[3] == "corrupted" and (*key[:3], "right") in cells]
    def tilts(prefix):
        """{seed: mean logit shift}"""
        rows = group([row for key in both for row in cells[*key, prefix]], lambda row: row["seed"])
        return {seed: float(np.mean([np.subtract(*logit(np.log([r["tuned"], r["base"]]))) for r in these]))
                for seed, these in rows.items()}
    wrong, right = tilts("corrupted"), tilts("right")
    shares = [wrong[seed] / right[seed] for seed in wrong if right.get(seed)]
    alike = decide(shares, (0.5, INF), [(-INF, 0.5)])
    moved = decide(list(right.values())) != "undecided"
    return Verdict("The tuned model tilts wrong prefixes as it tilts right ones (against P10)", alike if moved else "undecided",
                   f"share {pm(shares, '.2f')}" if shares else "", n_seeds=len(shares), figure="steps.png")


@claim
def per_token_law(steps):
    """k1 arms: probability of the next step, tuned minus law, per beta, depth, step and prefix: supported iff every interval lies inside ±0.05, refuted
    iff one lies outside (0.05 is ours)."""
    cells = per_token(steps)
    def column(value):
        return lambda rows: by_seed(rows, value, lambda row: row["seed"])
    values = {name: column(lambda r, name=name: r[name]) for name in ("base", "tuned", "law")} | {"tuned - law": column(lambda r: r["tuned"] - r["law"])}
    found = [decide(values["tuned - law"](rows), inside(NEAR), outside(NEAR)) for rows in cells.values()]
    rows = [[*(f"{x:g}" for x in key[:3]), key[3], *(pm(f(rows), "+.3f" if "-" in name else ".3f") for name, f in values.items())] for key, rows in cells.items()]
    return Verdict("P10, the per-token law, holds at every step", every(found), tally(found), [["beta", "depth", "step", "prefix", *values], *rows],
                   len({r["seed"] for rows in cells.values() for r in rows}), figure="steps.png")


@claim
def spurious_reward(runs):
    """Change of mass with reward random, on id and on edge: supported iff both intervals lie inside ±2 points, refuted iff one lies outside (2 points are ours)."""
    change = {split: by_seed(runs, lambda r: r.gain("reward=random", split)) for split in ("id", "edge")}
    return Verdict("A reward that ignores the answer changes nothing (P8)", every([decide(v, inside(POINTS), outside(POINTS)) for v in change.values()]),
                   ", ".join(f"{split} {pm(v)}" for split, v in change.items() if v), n_seeds=len(change["id"]), figure="controls.png")


@claim
def curriculum(runs):
    """Mass on depth 6 after GRPO on depths 4, 5, 6 in turn, minus that after all steps on 6: supported iff the interval lies above +2 points, refuted iff
    below +2 (2 points are ours)."""
    stages, jump = CONTROLS["curriculum"]
    these = [r for r in runs if r.has(stages, jump, split="hard")]
    def deepest(arm):
        return lambda r: float(np.mean([np.exp(m).mean() for cell, m in r.masses[arm, "hard"].items() if cell.startswith("d6")] or [math.nan]))
    more = by_seed(these, lambda r: deepest(stages)(r) - deepest(jump)(r))
    return Verdict("A curriculum 4, 5, 6 beats a jump to 6 (P9)", decide(more, (POINTS, INF), [(-INF, POINTS)]),
                   f"difference {pm(more)}; " + ", ".join(f"{arm} {mean(deepest(arm), 'p')(these)}" for arm in ("base", stages, jump)) if more else "",
                   n_seeds=len(more), note="P1 is not at stake: its base is renewed at each stage. A bound by the first base's mass is." if more else "",
                   figure="controls.png")


# The rivals: every method from the same bases, which never saw the edge, at equal rollouts.
NOT_RL = ("rival-sft", "rival-rft", "rival-distill")


def rivals(runs):
    """{place: runs} of the cells in which the methods met."""
    return group([r for r in runs if "rivals" in r.parts], lambda r: r.place)


def methods(runs, rl=False):
    found = dict.fromkeys(arm for r in runs for arm in r.arms if arm.startswith("rival-"))
    return [arm for arm in found if not (rl and arm in NOT_RL)]


@claim
def reach_beyond_the_base(runs):
    """Exact pass@k on edge after each RL method minus the base's, k = 1024 and 2^20, overlap 0, methods from shared bases at equal rollouts: supported iff for
    some method in some cell the interval lies above +2 points at one of them; refuted iff everywhere it lies below +2 (2 points are ours)."""
    rows, found, best = [["cell", "k", "base", "method with the largest gain", "gain", "verdicts of the methods"]], [], {}
    for place, these in rivals(runs).items():
        for k in (1024, 2 ** 20):
            gains = {arm: by_seed(these, lambda r: r.gain(arm, "edge", k)) for arm in methods(these, rl=True)}
            words = [decide(v, (POINTS, INF), [(-INF, POINTS)]) for v in gains.values()]
            top = max(gains, key=lambda arm: np.mean(gains[arm]))
            found += words
            best[place, k] = gains[top]
            rows.append([place, show_k(k), mean(lambda r: r.reach("base", "edge", k), "p")(these), top[6:], pm(gains[top]), tally(words)])
    return Verdict("Some RL method reaches what the base does not (overlap 0)", some(found), "; ".join(f"{place}, k {show_k(k)}: at most {pm(v)}" for (place, k), v in best.items()),
                   rows if found else [], max(map(len, best.values()), default=0))


@claim
def methods_differ(runs):
    """Do RL methods differ by more than seeds do? Mass on id; seeds share their base, so the labels of the methods are permuted within a seed (2000 times). A cell
    supports iff p < 0.05 and the methods' means spread (std) more than a method's seeds do, refutes iff p > 0.05 and they spread less."""
    rows, found, seen = [["cell", "std of the methods' means", "std over seeds of a method, mean", "p (permutation)", "this cell"]], [], 0
    for place, these in rivals(runs).items():
        arms = methods(these, rl=True)
        x = np.array([[r.reach(arm, "id") for arm in arms] for r in these if all(r.has(a, split="id") for a in arms)])   # [seeds, methods]
        if x.ndim < 2:
            continue
        seen = max(seen, len(x))
        between, rng = x.mean(0).std(ddof=1), np.random.default_rng(0)
        p = (1 + sum(rng.permuted(x, axis=1).mean(0).std(ddof=1) >= between for _ in range(2000))) / 2001
        within = x.std(0, ddof=1).mean() if len(x) > 1 else math.nan
        found.append("undecided" if len(x) < 2 else "supported" if p < 0.05 and between > within else "refuted" if p > 0.05 and between < within else "undecided")
        rows.append([place, f"{between:.3f}", f"{within:.3f}", f"{p:.3f}", found[-1]])
    return Verdict("RL methods differ by more than seeds do", unanimous(found), "; ".join(f"{r[0]}: {r[1]} between methods, {r[2]} between seeds" for r in rows[1:]), rows if found else [], seen)


@claim
def distillation_expands(runs):
    """Exact pass@1024 on edge after distillation minus that of the best RL method on the same base, overlap 0: a cell supports iff the interval lies above +2 points,
    refutes iff below (2 points are ours). Cells where the base has pass@1024 above 0.9 are left out: there is nothing to expand."""
    cells = {place: these for place, these in rivals(runs).items()
             if all(r.has("rival-distill", split="edge") for r in these) and np.mean([r.reach("base", "edge", 1024) for r in these]) <= 0.9}
    def best(r):
        return max(r.reach(arm, "edge", 1024) for arm in methods([r], rl=True))
    more = {place: by_seed(these, lambda r: r.reach("rival-distill", "edge", 1024) - best(r)) for place, these in cells.items()}
    found = [decide(v, (POINTS, INF), [(-INF, POINTS)]) for v in more.values()]
    return Verdict("Distillation expands what RL does not", unanimous(found), "; ".join(f"{place}: {pm(v)}" for place, v in more.items()),
                   table("cell", cells, {"base": mean(lambda r: r.reach("base", "edge", 1024), "p"), "best RL method": mean(best, "p"),
                                         "distill": mean(lambda r: r.reach("rival-distill", "edge", 1024), "p")}), max(map(len, more.values()), default=0))


def rivals_table(runs):
    """The table of 2504.13837 for each cell: pass@1, pass@256 and the gap from the base's pass@256 to the method's pass@1, with what was sampled."""
    rows = [["cell", "method", "rollouts", "id pass@1", "id pass@256", "id gap", "edge pass@1", "edge pass@256", "edge pass@2^20"]]
    for place, these in rivals(runs).items():
        for arm in ["base", *methods(these)]:
            def value(split, k, gap=False):
                return by_seed(these, lambda r: r.reach("base", split, 256) - r.reach(arm, split) if gap else r.reach(arm, split, k))
            spent = [r.rollouts[arm] for r in these if arm in r.rollouts]
            rows.append([place, arm.removeprefix("rival-"), f"{np.mean(spent):,.0f}" if spent else "", *(pm(v, "p") for v in (
                value("id", 1), value("id", 256), value("id", 256, gap=True), value("edge", 1), value("edge", 256), value("edge", 2 ** 20)))])
    return rows


def controls(runs):
    """[(kind, name, arm, place, runs)]: every control, with no runs where it has not run; what is in the data under no known name comes last."""
    def site(r):
        return r.task, r.axis, r.overlap, r.noise
    def listed(kind, name, found):
        places = group(found, lambda f: (f[1], f"{f[0].place}, overlap {f[0].overlap:g}")).items()
        return [(kind, name or arm, arm, place, [r for r, _ in pairs]) for (arm, place), pairs in places] or [(kind, name, "", "", [])]
    rows = []
    for kind, names in CONTROLS.items():
        sites = {site(r) for r in runs if r.setting in names or set(r.arms) & set(names)}
        for name in names:
            found = [(r, arm) for r in runs for arm in r.arms if r.setting == name and arm in TUNED or arm == name and "controls" in r.parts]
            if name in DEFAULTS and not found:
                found = [(r, arm) for r in runs for arm in TUNED if not r.setting and arm in r.arms and site(r) in sites]
            rows += listed(kind, name, found)
    known = {name for names in CONTROLS.values() for name in names} | {*TUNED, "grpo-mix", "sft", "oracle", "none", "", *(arm for r in runs for arm in r.arms if arm.startswith(("rival-", "k1-", "k3-", "curriculum-")))}
    others = [(r, arm) for r in runs if r.parts & {"controls", "domains"} for arm in r.arms if {r.setting, arm} - known and not arm.startswith("base")]
    return rows + [row for setting in sorted({r.setting for r, _ in others}) for row in listed("other", setting, [f for f in others if f[0].setting == setting])]


def verdicts(study):
    """Every claim's Verdict."""
    runs, off = study.runs, [("grpo-id", "edge"), ("grpo-id", "hard"), ("grpo-edge", "id"), ("grpo-edge", "hard")]
    return [no_mass_no_gain(runs), mass_predicts_gain(runs, "grpo-id", "transfer"), mass_predicts_gain(runs, "grpo-edge", "learning"),
            overlap_buys_mass(runs), mass_without_overlap(runs), gains_saturate(runs, "k1-b1", 1, "with KL, beta 1, as P1's inverted U"),
            gains_saturate(runs, "none", 0, "without KL, as 1 - Q0"), undertrained_gains_alike(runs),
            no_crossover(runs, list(zip(TUNED, ("id", "edge"))), "where GRPO was trained (P4)"), no_crossover(runs, off, "where it was not trained"),
            more_than_sharpening(runs, "grpo-id", "id"), more_than_sharpening(runs, "grpo-edge", "edge"),
            law_holds(runs, "k1", tilted, "P1: with the KL in the reward, GRPO tilts the base"),
            law_holds(runs, "k3", hyperbolic, "P3: with k3 as a loss, GRPO follows the hyperbolic law"),
            wrong_prefixes_tilt_alike(study.steps), per_token_law(study.steps), spurious_reward(runs), curriculum(runs),
            reach_beyond_the_base(runs), methods_differ(runs), distillation_expands(runs)]


# ------------------------------------------------------------------------------------------------------------ the report

def markdown(rows):
    return "\n".join("| " + " | ".join(str(c) for c in row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def grid_table(runs):
    """What ran of the expected grid, with its tripwires."""
    rows = [["cell", *(f"overlap {o:g}" for o in OVERLAPS), "oracle on edge"]]
    for place in (" ".join(p) for p in GRID):
        here, row = [r for r in dose(runs) if r.place == place], [place]
        for overlap in OVERLAPS:
            these = [r for r in here if r.overlap == overlap]
            row.append(f"{len(these)} seed{'s' * (len(these) > 1)}, id {np.mean([r.reach('base', 'id') for r in these]):.2f}" if these else "not run")
            row[-1] += f" ⚠ {these[0].trips}" if these and these[0].trips else ""
        oracle = by_seed(here, lambda r: r.reach("oracle", "edge"))
        rows.append([*row, pm(oracle, "p") if oracle else "not run"])
    return rows


def headline_table(runs):
    """Exact mass on the edge cells, the base's and after GRPO on them, against the share of pretraining that came from there."""
    found = [o for o in OVERLAPS if any(r.overlap == o for r in dose(runs))]
    rows = [["edge of", *(f"overlap {o:g}: base → GRPO" for o in found)]]
    for place in (" ".join(p) for p in GRID):
        row = [place]
        for overlap in found:
            these = [r for r in dose(runs) if r.place == place and r.overlap == overlap and r.has("grpo-edge", split="edge")]
            base, tuned = (by_seed(these, lambda r: r.reach(arm, "edge")) for arm in ("base", "grpo-edge"))
            row.append(" → ".join(f"{probability(np.mean(v))} [{probability(min(v))}, {probability(max(v))}]" for v in (base, tuned)) + " ⚠" * bool(these[0].trips)
                       if these else "not run")
        rows.append(row)
    return rows


def arms_table(runs):
    """Exact mass after each arm, on id and on edge."""
    def both(arm):
        return lambda these: f"{mean(lambda r: r.reach(arm, 'id'), 'p')(these)}, {mean(lambda r: r.reach(arm, 'edge'), 'p')(these)}"
    return table("cell", cells_of(dose(runs)), {f"{arm}: id, edge": both(arm) for arm in ("base", *TUNED, "grpo-mix", "sft", "oracle")})


def folded(rows, title="rows"):
    """A table as text, folded away if it is long."""
    text = markdown(rows)
    return f"<details><summary>{len(rows) - 1} {title}</summary>\n\n{text}\n\n</details>" if len(rows) > 13 else text


def controls_table(runs):
    rows = [["control", "value", "arm", "where", "seeds", "id: base, change", "edge: base, change", "hard: base, change"]]
    for kind, name, arm, place, these in controls(runs):
        def side(split):
            change = by_seed(these, lambda r: r.gain(arm, split))
            return f"{probability(np.mean(by_seed(these, lambda r: r.reach('base', split))))}, {pm(change)}" if change else "-"
        rows.append([kind, name, arm, place, str(len({r.seed for r in these})), *map(side, ("id", "edge", "hard"))] if these else [kind, name, "not run", *[""] * 5])
    return rows


INTRODUCTION = """# What the study found

Written by `verdicts.py` from the numbers in this folder, verdicts included. *supported* and *refuted*: the 95 % interval (±, Student t over seeds)
lies inside the range that the rule names. *undecided*: it does not, or there is one seed. Gains are differences of
exact probabilities: +0.02 is 2 points. Q is the mass of right answers on a prompt, Q0 the base's, Q* after training.

The predictions by number: **P1** with a reverse KL of strength beta, logit Q* = logit Q0 + 1 / beta; **P3** with k3 as a loss, a hyperbolic law instead; **P4** by both no
prompt loses mass, so pass@k never falls; **P6** GRPO takes off once group x Q0 x prompts x steps is about 1; **P8** a reward that ignores the answer has no drift; **P9** a
curriculum of reachable steps beats a jump; **P10** P1 step by step: only right prefixes are tilted.
"""
WHAT_RAN = """
## What was run

Seeds per cell, and the base's mass in distribution. ⚠ marks a tripwire: a base outside 0.4 to 0.95 on id (it has nothing to gain, or too little to
start from), or an oracle, trained on clean edge problems, below 0.9 on edge (a failure there would be the architecture's). Marked cells stay in
every table and every verdict.
"""


def report(study, drawn=()):
    """README.md of the study's folder as text; drawn: names of the figures that exist."""
    found, names = verdicts(study), {(kind, name): bool(these) for kind, name, _, _, these in controls(study.runs)}
    summary = [[f"[{v.claim}](#claim-{i})", f"**{v.verdict}**", v.n_seeds or "", v.numbers] for i, v in enumerate(found, 1)]
    summary.append(["[Controls](#controls)", "a table", "", f"{sum(names.values())} of {len(names)} run"])
    lines = [INTRODUCTION, "Exact mass on edge before and after GRPO on edge, by the share of pretraining that came from there: mean [lowest, highest seed]\n",
             markdown(headline_table(study.runs)), "", markdown([["claim", "verdict", "seeds", "numbers"], *summary]), WHAT_RAN, markdown(grid_table(study.runs)), "", folded(arms_table(study.runs), "cells: exact mass after each arm")]
    figures = [name for name in dict.fromkeys(v.figure for v in found) if name in drawn]
    for i, v in enumerate(found, 1):
        lines += [f'\n<a id="claim-{i}"></a>\n\n## {v.claim}: {v.verdict}\n\n*Rule.* {v.rule}']
        lines += [f"\n*Numbers.* {v.numbers}."] if v.numbers else []
        if v.figure in figures and v.figure != "controls.png":  # each figure once, under the first claim that it shows
            figures.remove(v.figure)
            lines += [f"\n![{v.figure}]({v.figure})"]
        if len(v.table) > 1:
            lines += ["\n" + folded(v.table)]
        lines += ["\n" + v.note] if v.note else []
    if rivals(study.runs):
        lines += ["\n## The rivals\n\nEvery method from shared bases (overlap 0), trained on id and edge in equal parts. Gap: the base's pass@256 minus the method's pass@1.\n", *(["![rivals.png](rivals.png)\n"] if "rivals.png" in drawn else []), markdown(rivals_table(study.runs))]
    lines += ["\n## Controls\n\nChange of exact mass from the base to the arm, ± 95 % over seeds, one row per control."]
    lines += ["\n![controls.png](controls.png)"] if "controls.png" in drawn else []
    return "\n".join([*lines, "", folded(controls_table(study.runs), "rows"), ""])


def write(folder):
    """Write folder/README.md, and the figures if matplotlib is importable; returns the path of the report."""
    study = read(folder)
    if importlib.util.find_spec("matplotlib"):
        import figures
        figures.draw(folder, study)
    else:
        print("no new figures: matplotlib is not installed (python -m pip install matplotlib); the tables have every number")
    drawn = [name for name in sorted(os.listdir(folder)) if name.endswith(".png")]  # also those of an earlier report
    path = os.path.join(folder, "README.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(report(study, drawn))
    return path
