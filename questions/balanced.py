"""Does it help to train on the problems that are neither hopeless nor solved?

A group teaches most when about half of it is right. GRPO on edge from a base that saw some of it:
with prompts as they come, and with those kept whose mass is nearest to one half (--method
balanced).

Rule: no claim, a table. Decided before the runs of the first study, 2026-11-21; seeds 0 to 2.
"""
from lab import draw
from lab.jobs import chain, on, pretraining, seeds, tuning
from lab.judge import arms_by, compared

ORDER = 22
CLAIM = "Prompts of middling mass, or as they come"


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed, overlap=0.1)
        flags = ["--method", "balanced", "--train-on", "edge"]
        found += chain(args, base, [*on(args, base, "edge"), tuning(args, base, "balanced", flags)])
    return found


def verdicts(runs):
    return [compared(CLAIM, "method", arms_by(runs, "method"))]


def figure(runs):
    return draw.changes(arms_by(runs, "method"), CLAIM)
