"""Does GRPO gain anything where pretraining put no mass?

GRPO learns from groups in which some completions are right and some are wrong. Where the base's
mass of right answers (the edge mass, here) is close to zero, no sample is ever right, every
advantage is zero, and nothing moves. What should count is how many right samples training can
expect to draw: group size x mass x prompts per step x steps. Theory puts the take-off at about 1.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Over the bases with mean
edge mass below 1e-4: supported if the interval of the edge gain after GRPO on edge lies inside
±2 points, both at pass@1 and at pass@64; refuted if one of the two lies above +2.
"""
import numpy as np

from lab import draw
from lab.judge import NO_MASS, POINTS, Verdict, above, by_seed, cells, decide, every, inside
from lab.judge import group, n_seeds, pm
from questions.dose import jobs

ORDER = 2
CLAIM = "No mass, no gain"


def verdicts(runs):
    bases = without_mass(runs)
    if not bases:
        return [Verdict(CLAIM, "not run")]
    table = [["bases below 1e-4", "edge mass, by seed", "right samples to expect, by seed",
              "gain pass@1", "gain pass@64", "this cell", "seeds"]]
    for label, these in cells(bases).items():
        table.append([label, " ".join(f"{r.reach('base', 'edge'):.0e}" for r in these),
                      " ".join(f"{expected(r):.1g}" for r in these),
                      pm(gains(these, 1)), pm(gains(these, 64)), judge(these),
                      str(n_seeds(these))])
    return [Verdict(CLAIM, judge(bases), f"{len(bases)} bases: pass@1 {pm(gains(bases, 1))}, "
                    f"pass@64 {pm(gains(bases, 64))}", table, n_seeds(bases), take_off(bases))]


def judge(runs):
    return every([decide(gains(runs, k), yes=inside(POINTS), no=above(POINTS)) for k in (1, 64)])


def gains(runs, k):
    """[one per seed]: what GRPO on edge added to the edge's pass@k."""
    return by_seed(runs, lambda r: r.gain("grpo-edge", "edge", k))


def without_mass(runs):
    return [r for r in runs if r.has("base", "grpo-edge", split="edge")
            and r.reach("base", "edge") < NO_MASS]


def expected(run):
    """How many right samples GRPO on edge can expect to draw, if it stays where it starts."""
    return run.budget("grpo-edge") * run.reach("base", "edge")


def take_off(bases):
    enough = [r.gain("grpo-edge", "edge", 64) for r in bases if expected(r) >= 1]
    fewer = [r.gain("grpo-edge", "edge", 64) for r in bases if expected(r) < 1]
    parts = [f"{words}: {np.mean(gain):+.3f} ({len(gain)} bases)"
             for words, gain in (("1 or more", enough), ("fewer", fewer)) if gain]
    return ("Right samples to expect: group size x mass x prompts per step x steps. Mean gain at "
            "pass@64 where that is " + "; ".join(parts) + ".")


def figure(runs):
    """The gain of every base against the right samples that GRPO could expect to draw from it."""
    bases = [r for r in runs if r.has("base", "grpo-edge", split="edge") and expected(r) > 0]
    if not bases:
        return None
    fig, axes = draw.panels(1, 1, 3.4)
    ax = axes[0, 0]
    for (place, these), mark in zip(group(bases, lambda r: r.place).items(), draw.MARKS):
        ax.plot([max(expected(r), 1e-9) for r in these],
                [r.gain("grpo-edge", "edge", 64) for r in these], mark, color=draw.ORANGE,
                label=place)
    ax.axvline(1, color=draw.GREY, ls=":", label="one right sample")
    ax.set(xscale="log", xlabel="right samples to expect, at 1e-9 if fewer (one point per base)",
           ylabel="gain of pass@64 on edge")
    ax.legend(fontsize=7)
    fig.suptitle("Does GRPO take off where it can expect to see a right sample?")
    return fig
