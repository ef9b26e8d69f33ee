"""What did GRPO add to what pretraining had already put there?

The quick answer, in a minute. Two bases, alike but for one thing: the first never saw an edge
problem (overlap 0), for the second a tenth of pretraining were such problems (overlap 0.1). From
each, GRPO on the pretrained cells ("id") and on the edge cells themselves ("edge"). Then the exact
pass@k of everything, on problems that no run has drawn.

Prediction (2510.15990): GRPO amplifies what pretraining put there, and does not create what it did
not. Rule: supported iff the interval of the edge gain after GRPO on edge lies inside ±2 points at
the lowest overlap and above 2 points at the highest; refuted iff it lies above 2 points at the
lowest, or below 2 points at the highest (2 points are ours). Fixed before the runs; a reader's own
seeds judge it.
"""
import textwrap

import numpy as np

from cli import chart, probability, table
from lab.draw import LOOK, band, panels, tries
from lab.jobs import chain, on, pretraining, seeds
from lab.judge import (POINTS, Verdict, above, below, by_seed, decide, every, group, inside,
                       n_seeds, pm)
from tasks import AXES, SPLITS

ORDER = None                       # a reader's own: not in the published report
ARMS = {"base": "base", "grpo-id": "GRPO on id", "grpo-edge": "GRPO on edge"}
KS = [2 ** i for i in range(21)]   # of the curves
SHOWN_KS = [1, 64, 1024]           # of the table


def jobs(args):
    found = []
    for seed in seeds(args):
        for overlap in dict.fromkeys(args.overlaps or (0.0, 0.1)):
            base = pretraining(args, seed, args.task, args.axis, overlap)
            found += chain(args, base, on(args, base, "id", "edge"))
    return found


def by_overlap(runs):
    return group(runs, lambda run: run.overlap)


def share(overlap):
    return f"{100 * overlap:g}%"


def edge_gain(run):
    return run.gain("grpo-edge", "edge")


def verdicts(runs):
    claim = "GRPO amplifies what pretraining put there, and does not create what it did not"
    overlaps = by_overlap(runs)
    if len(overlaps) < 2:
        return [Verdict(claim, "not run")]
    rows = [["overlap", "edge: base", "after GRPO on edge", "seeds"]]
    for overlap, these in overlaps.items():
        masses = [pm(by_seed(these, lambda r: r.reach(arm, "edge")), "p")
                  for arm in ("base", "grpo-edge")]
        rows.append([f"{overlap:g}", *masses, str(n_seeds(these))])
    bare, seen = (by_seed(overlaps[o], edge_gain) for o in (min(overlaps), max(overlaps)))
    words = [decide(bare, yes=inside(POINTS), no=above(POINTS)),
             decide(seen, yes=above(POINTS), no=below(POINTS))]
    numbers = (f"edge gain {pm(bare)} at overlap {min(overlaps):g}, "
               f"{pm(seen)} at {max(overlaps):g}")
    return [Verdict(claim, every(words), numbers, rows, n_seeds(runs))]


def figure(runs):
    overlaps = by_overlap(runs)
    if not overlaps:
        return None
    drawing, axes = panels(1, len(overlaps), sharey=True)
    for ax, (overlap, these) in zip(axes[0], overlaps.items()):
        for arm in ("base", "grpo-edge"):
            band(ax, KS, [run.reach(arm, "edge", KS) for run in these], LOOK[arm])
        tries(ax, KS)
        ax.set(title=f"{share(overlap)} of pretraining from the edge cells", xlabel="k")
    axes[0, 0].set_ylabel("pass@k on edge")
    axes[0, 0].legend()
    return drawing


# -------------------------------------------------------------------------------- for the terminal

def summary(runs):
    """The closing table, chart and sentence."""
    task, axis, overlaps = runs[0].task, runs[0].axis, by_overlap(runs)
    many = n_seeds(runs) > 1
    # with intervals three numbers fill a line, without them nine do
    tables = [[k] for k in SHOWN_KS] if many else [SHOWN_KS]
    parts = [f"Exact chance that one of k samples is right ({task}, {axis} axis, {n_seeds(runs)} "
             + ("seeds, ± Student t 95 %)" if many else "seed)")]
    parts += [pass_table(overlaps, task, axis, ks) for ks in tables]
    parts.append("overlap: share of pretraining problems from the edge cells;  d4 l4: depth 4, "
                 "length 4;\npass@1 is the mean mass\nbase: after pretraining;  +id, +edge: after "
                 "GRPO on that split, from the same base")
    for overlap, these in overlaps.items():
        curves = {f"{split}, {ARMS[arm]}": np.mean([r.reach(arm, split, KS) for r in these], 0)
                  for split in ("id", "edge") for arm in ("base", f"grpo-{split}")}
        parts.append(f"{share(overlap)} of pretraining from the edge cells\n{chart(curves, KS)}")
    parts.append(textwrap.fill(sentence(overlaps), 100))
    return "\n\n".join(parts)


def pass_table(overlaps, task, axis, ks):
    """pass@k of every overlap, split and arm as lines of text, for these k side by side."""
    rows = []
    for overlap, runs in overlaps.items():
        for split in SPLITS:
            cells = ", ".join(map(str, AXES[task][axis][split]))
            row = [share(overlap), split, cells if len(cells) < 22 else ""]
            for k in ks:
                row += [pm(by_seed(runs, lambda r: r.reach(arm, split, k)), "p") for arm in ARMS]
            rows.append(row)
    header = ["overlap", "split", "cells", *["base", "+id", "+edge"] * len(ks)]
    head, rule, *lines = table(rows, header).split("\n")
    above_head, start = "", 0
    for k in ks:   # each k above its own three columns
        start = head.index("base", start) + len("base")
        above_head = above_head.ljust(start - len("base")) + f"pass@{k}"
    for i in range(len(lines) - len(SPLITS), 0, -len(SPLITS)):
        lines.insert(i, "")
    return "\n".join([above_head, head, rule, *lines])


def moved(before, after):
    if abs(after - before) < POINTS:
        kind = "left it where it was"
    else:
        kind = "raised it" if after > before else "lowered it"
    return f"{kind} ({probability(before)} to {probability(after)})"


def sentence(overlaps):
    """What it means, in words that follow from the numbers."""
    first, last = min(overlaps), max(overlaps)

    def mean(overlap, arm, split):
        return float(np.mean([run.reach(arm, split) for run in overlaps[overlap]]))

    if mean(last, "base", "id") < 0.05:
        return ("The base has next to nothing in distribution: it is not pretrained enough to ask "
                "the question (--pretrain-steps).")
    bare, bare_tuned = mean(first, "base", "edge"), mean(first, "grpo-edge", "edge")
    text = (f"In distribution, GRPO took the chance of a right answer from "
            f"{mean(first, 'base', 'id'):.2f} to {mean(first, 'grpo-id', 'id'):.2f}. "
            f"Beyond it, trained on the edge problems themselves, GRPO {moved(bare, bare_tuned)} "
            f"with {share(first)} of them in pretraining")
    if last == first:
        return text + "."
    seen, seen_tuned = mean(last, "base", "edge"), mean(last, "grpo-edge", "edge")
    text += f", and {moved(seen, seen_tuned)} with {share(last)}"
    if abs(bare_tuned - bare) < POINTS and seen_tuned - seen > POINTS:
        return text + (": it amplified what pretraining had put there, and did not create what it "
                       "had not.")
    return text + ": not what the reference paper would lead one to expect."
