"""figures.py: the study's figures, as PNGs a README can show. Optional: needs matplotlib.

    draw(folder, study)    writes each figure whose data is there, and returns their names

One function per figure, each from the Study (readings.py) that verdicts.py judges, with the same Student t intervals over seeds. The colours are Okabe
and Ito's, which colour-blind readers can tell apart, and marker or line style says the same again.
"""
import os

import numpy as np

from readings import COLDER, POWERS, TUNED, by_seed, dose, group, hyperbolic, logit, over_seeds, per_token, saturation, tilted
from verdicts import controls, methods, rivals

BLACK, ORANGE, BLUE, GREEN, PURPLE, GREY = "#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#888888"
LOOK = {"base": (BLACK, "o", "-", "base"), "grpo-id": (BLUE, "s", "--", "GRPO on id"), "grpo-edge": (ORANGE, "^", "-.", "GRPO on edge"),
        "law": (GREEN, "_", ":", "the law"), "tuned": (ORANGE, "^", "-.", "tuned")}
STYLE = {"font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8e8e8",
         "legend.frameon": False, "axes.axisbelow": True}


def panels(rows, columns, height=2.4, **options):
    """A figure 900 pixels wide, and its axes [rows, columns]."""
    from matplotlib.figure import Figure  # not pyplot: files need no display
    figure = Figure(figsize=(9, 0.7 + height * rows), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def bars(ax, x, values, look, size=5, **options):
    """One point with its interval for each list of per-seed values; an empty list leaves a gap."""
    color, marker, line, label = look
    x, values = zip(*[(a, over_seeds(v)) for a, v in zip(x, values) if v]) if any(values) else ((), ())
    options = {"ls": line, "label": label, "lw": 1.2, **options}
    ax.errorbar(x, [m for m, _ in values], [h or 0 for _, h in values], color=color, marker=marker, ms=size, capsize=2, **options)


def dose_figure(study):
    places = group([r for r in dose(study.runs) if r.has("base", split="edge")], lambda r: r.place)
    if not places:
        return None
    columns = min(4, len(places))
    figure, axes = panels(-(-len(places) // columns), columns, sharey=True)
    doses = sorted({r.overlap for these in places.values() for r in these})
    for ax, (place, these) in zip(axes.flat, places.items()):
        for i, arm in enumerate(("base", *TUNED)):
            values = [by_seed([r for r in these if r.overlap == d], lambda r: r.reach(arm, "edge")) for d in doses]
            bars(ax, np.arange(len(doses)) + 0.12 * (i - 1), values, LOOK[arm])
        ax.set(title=place + (" ⚠" if any(r.trips for r in these) else ""), ylim=(-0.03, 1.03), xticks=range(len(doses)), xticklabels=[f"{d:g}" for d in doses])
    for ax in list(axes.flat)[len(places):]:
        ax.set_axis_off()
    axes[0, 0].legend()
    figure.supxlabel("overlap: share of pretraining problems from the edge cells")
    figure.supylabel("exact mass on edge")
    figure.suptitle("What GRPO makes of what pretraining put on the edge (± 95 % over seeds)")
    return figure


def passk_figure(study):
    places = group([r for r in dose(study.runs) if r.has("base", *TUNED, split="edge")], lambda r: r.place)
    if not places:
        return None
    place = max(places, key=lambda p: (len({r.seed for r in places[p]}), p == "arithmetic depth"))
    overlaps = group(places[place], lambda r: r.overlap)
    figure, axes = panels(2, len(overlaps), sharex=True, sharey=True)
    for column, (overlap, these) in enumerate(overlaps.items()):
        for ax, split in zip(axes[:, column], ("id", "edge")):
            for arm in ("base", *TUNED):
                curves = np.array([r.reach(arm, split, POWERS) for r in these])  # [seeds, 21]
                middle, half = zip(*[over_seeds(list(at_k)) for at_k in curves.T])
                color, _, line, label = LOOK[arm]
                ax.plot(POWERS, middle, color=color, ls=line, lw=1.4, label=label)
                if None not in half:
                    ax.fill_between(POWERS, np.clip(np.subtract(middle, half), 0, 1), np.clip(np.add(middle, half), 0, 1), color=color, alpha=0.15, lw=0)
            ax.set_xscale("log", base=2)
            ax.set(title=f"{split}, overlap {overlap:g}", ylim=(-0.03, 1.03), xticks=[1, 2 ** 10, 2 ** 20])
    axes[0, 0].legend(loc="lower right")
    figure.supxlabel("k")
    figure.supylabel("exact pass@k")
    figure.suptitle(f"{place}: does the base catch up, or overtake, when both may try k times? (bands: 95 % over seeds)")
    return figure


def gain_figure(study):
    runs = [r for r in dose(study.runs) if r.has("base", *TUNED, split="edge")]
    if not runs:
        return None
    figure, axes = panels(1, 2, 3.0, sharey=True)
    edges = np.arange(-12, 0.01, 1.0)
    for ax, arm, words in zip(axes[0], TUNED, ("transfer: after GRPO on id", "learning: after GRPO on edge")):
        found = [[] for _ in edges[1:]]
        for seed, these in group(runs, lambda r: r.seed).items():
            before, after = (np.concatenate([r.log_mass(a, "edge") for r in these]) for a in ("base", arm))
            bins = np.digitize(before / np.log(10), edges) - 1
            for i, values in enumerate(found):
                values += [float((np.exp(after) - np.exp(before))[bins == i].mean())] if (bins == i).sum() >= 5 else []
        bars(ax, edges[:-1] + 0.5, found, LOOK[arm], ls="-")
        seen = np.mean([r.budget(arm) for r in runs])
        ax.axvline(-np.log10(seen), color=GREY, ls=":", label=f"one right sample to expect (P6: Q0 = 1/{seen:,.0f})")
        ax.axhline(0, color=BLACK, lw=0.6)
        ax.set(title=words, xlabel="log10 of the base's mass Q0 on the prompt")
        ax.legend(loc="upper left")
    axes[0, 0].set_ylabel("change of mass")
    figure.suptitle("What edge prompts gain, by the mass that the base gave them (all dose bases; ± 95 % over seeds)")
    return figure


def laws_figure(study):
    runs = [r for r in study.runs if "laws" in r.parts]
    arms = {kind: sorted({a for r in runs for a in r.arms if a.startswith(f"{kind}-b")}, key=lambda a: float(a[4:])) for kind in ("k1", "k3")}
    arms = {kind: names for kind, names in arms.items() if names}
    if not arms:
        return None
    figure, axes = panels(len(arms), max(map(len, arms.values())), 2.7, sharex=True)
    for ax in axes.flat:
        ax.set_axis_off()
    laws = {"k1": (tilted, "KL in the reward (P1: tilting)"), "k3": (hyperbolic, "k3 as a loss (P3: hyperbolic)")}
    for row, (kind, names) in zip(axes, arms.items()):
        for ax, arm in zip(row, names):
            ax.set_axis_on()
            cells = sorted({c for r in runs for c in r.masses.get((arm, "id"), {})})
            for cell, color, marker in zip(cells, (BLUE, ORANGE, PURPLE), "os^"):
                here = [r for r in runs if cell in r.masses.get((arm, "id"), {})]
                before, after = (np.concatenate([logit(r.masses[a, "id"][cell]) for r in here]) for a in ("base", arm))
                keep = slice(None, None, max(1, len(before) // 300))  # 300 points say as much as thousands, in a smaller file
                ax.plot(before[keep], after[keep], ls="", marker=marker, ms=2.5, alpha=0.5, color=color, label=cell)
            low, high = np.percentile(np.concatenate([logit(r.log_mass("base", "id")) for r in runs if r.has(arm, split="id")]), [1, 99])
            line = np.linspace(low, high, 100)
            ax.plot(line, logit(np.log(laws[kind][0](-np.logaddexp(0, -line), float(arm[4:])))), color=BLACK, lw=1.6, label="law")
            ax.plot(line, line, color=GREY, ls=":", label="no change")
            ax.set_title(f"{laws[kind][1]}\nβ = {arm[4:]}")
        row[0].set_ylabel("logit Q* (tuned)")
    axes[0, 0].legend(markerscale=2)
    figure.supxlabel("logit Q0 (base), one point per prompt")
    figure.suptitle("Where GRPO stops, prompt by prompt, against the law of its KL")
    return figure


def steps_figure(study):
    cells = per_token(study.steps)
    if not cells:
        return None
    depth = max(key[1] for key in cells)
    betas = sorted({key[0] for key in cells if key[1] == depth})
    figure, axes = panels(len(betas), 2, 1.7, sharex=True, sharey=True)
    for row, beta in zip(axes, betas):
        for ax, prefix in zip(row, ("right", "corrupted")):
            steps = sorted(key[2] for key in cells if key[:2] == (beta, depth) and key[3] == prefix)
            for i, name in enumerate(("base", "tuned", "law")):
                values = [by_seed(cells[beta, depth, step, prefix], lambda r: r[name], lambda r: r["seed"]) for step in steps]
                bars(ax, np.array(steps) + 0.1 * (i - 1), values, LOOK[name], size=10 if name == "law" else 5, ls="", markeredgewidth=2 if name == "law" else 1)
            ax.set(title=f"after a {prefix} prefix, β = {beta:g}", xticks=np.arange(1, depth + 1), xlim=(0.6, depth + 0.4))
        row[0].set_ylabel("probability of the next step")
    axes[0, 0].legend()
    figure.supxlabel(f"step of the chain (depth {depth:g})")
    figure.suptitle("Does the tuned model leave wrong prefixes alone, as the per-token law (P10) says? (± 95 % over seeds)")
    return figure


def saturation_figure(study):
    noisy, short = saturation(study.runs)
    if not any(r.has(arm, split="id") for r in noisy for arm in ("k1-b1", "none")):
        return None
    figure, axes = panels(1, 2, 3.0, sharex=True, sharey=True)
    def points(ax, runs, key, arm, look):
        """One point per cell of the bases that share `key`: the gain of the arm, or, without one, of the base at its best temperature."""
        cells = [(r, c) for r in runs if r.has("base", arm or "base", split="id") for c in r.masses["base", "id"]]
        def mass(r, cell, name):
            return float(np.exp(r.masses[name, "id"][cell]).mean())
        for i, these in enumerate(group(cells, lambda x: (key(x[0]), x[1])).values()):
            best = lambda x: max(mass(*x, a) for a in ([arm] if arm else COLDER) if x[0].has(a, split="id"))
            gains = by_seed(these, lambda x: best(x) - mass(*x, "base"), seed=lambda x: x[0].seed)
            bars(ax, [np.mean([mass(*x, "base") for x in these])], [gains], (*look[:3], None if i else look[3]), ls="")
    q = np.linspace(1e-6, 1 - 1e-6, 200)
    for ax, arm, beta, words, law in ((axes[0, 0], "k1-b1", 1, "with KL, β = 1", "P1: an inverted U"), (axes[0, 1], "none", 0, "without KL", "1 - Q0")):
        ax.plot(q, tilted(np.log(q), beta) - q, color=GREEN, ls=":", lw=2, label=law)
        points(ax, noisy, lambda r: r.noise, arm, (BLUE, "s", "", "GRPO, noisy bases"))
        points(ax, short, lambda r: r.pretrain_steps, arm, (ORANGE, "^", "", "GRPO, undertrained bases"))
        points(ax, noisy, lambda r: r.noise, None, (GREY, "x", "", "noisy base at its best temperature"))
        ax.axhline(0, color=BLACK, lw=0.6)
        ax.set(title=words, xlabel="base mass Q0 in distribution, one point per cell and base")
        ax.legend()
    axes[0, 0].set_ylabel("gain of mass")
    figure.suptitle("What is left to gain, by how good the base was, and what colder sampling gains (± 95 % over seeds)")
    return figure


def controls_figure(study):
    rows = [row for row in controls(study.runs) if row[4]]
    if not rows:
        return None
    figure, axes = panels(1, 2, 0.4 + 0.21 * len(rows), sharey=True)
    at = -np.arange(len(rows))
    for ax, split in zip(axes[0], ("id", "edge")):
        for y, (_, _, arm, _, these) in zip(at, rows):
            change = by_seed(these, lambda r: r.gain(arm, split))
            if change:
                middle, half = over_seeds(change)
                color, marker, _, _ = LOOK.get(arm, (GREEN, "o", "", ""))
                ax.errorbar([middle], [y], xerr=[half or 0], color=color, marker=marker, ms=5, capsize=2)
        ax.axvline(0, color=BLACK, lw=0.8)
        ax.set(title=f"change of mass on {split}", yticks=at)
    axes[0, 0].set_yticklabels([name + (f", {arm}" if arm != name else "") + f" ({place})" for _, name, arm, place, _ in rows], fontsize=7)
    figure.suptitle("Controls: what each change does to the mass (± 95 % over seeds)")
    return figure


OTHERS = {"base": (BLACK, "-", 1.8), "rival-distill": (GREEN, "-", 1.6), "rival-sft": (PURPLE, "--", 1.6), "rival-rft": (BLUE, ":", 1.6)}  # the RL methods: orange


def rivals_figure(study):
    places = rivals(study.runs)
    if not places:
        return None
    figure, axes = panels(2, len(places), sharex=True, sharey=True)
    for column, (place, these) in enumerate(places.items()):
        for ax, split in zip(axes[:, column], ("id", "edge")):
            for arm in [*methods(these, rl=True), "base", *(a for a in OTHERS if a in methods(these))]:
                color, line, width = OTHERS.get(arm, (ORANGE, "-", 0.7))
                label = arm.removeprefix("rival-") if arm in OTHERS else "RL methods" if arm == methods(these, rl=True)[0] else None
                ax.plot(POWERS, np.mean([r.reach(arm, split, POWERS) for r in these], axis=0), color=color, ls=line, lw=width, label=label)
            ax.set_xscale("log", base=2)
            ax.set(title=f"{place}: {split}", ylim=(-0.03, 1.03), xticks=[1, 2 ** 10, 2 ** 20])
    axes[0, 0].legend(loc="lower right")
    figure.supxlabel("k")
    figure.supylabel("exact pass@k")
    figure.suptitle("Every method from the same bases, which never saw the edge, at equal rollouts (mean over seeds)")
    return figure


FIGURES = {"dose.png": dose_figure, "gain.png": gain_figure, "passk.png": passk_figure, "saturation.png": saturation_figure, "laws.png": laws_figure,
           "steps.png": steps_figure, "controls.png": controls_figure, "rivals.png": rivals_figure}


def draw(folder, study):
    """Write every figure whose data is in the Study into folder; returns the names of those written."""
    import matplotlib
    drawn = []
    with matplotlib.rc_context(STYLE):
        for name, make in FIGURES.items():
            figure = make(study)
            if figure is not None:
                figure.savefig(os.path.join(folder, name))
                drawn.append(name)
    return drawn
