"""Does dividing the advantage by the group's std matter?

Dividing makes rare successes count more, and weighs hard and easy prompts differently from the
middling ones; Dr. GRPO (2503.20783) leaves it out. GRPO on id from one base, with --scale std (the
default) and with --scale none.

Rule: no claim, a table. Decided before the runs of the first study, 2026-11-21; seeds 0 to 2.
"""
from lab import draw
from lab.jobs import chain, on, pretraining, seeds, tuning
from lab.judge import arms_by, compared

ORDER = 20
CLAIM = "Advantage divided by the group's std, or not"


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed)
        arms = [*on(args, base, "id"), tuning(args, base, "scale=none", ["--scale", "none"])]
        found += chain(args, base, arms)
    return found


def verdicts(runs):
    return [compared(CLAIM, "scale", arms_by(runs, "scale"))]


def figure(runs):
    return draw.changes(arms_by(runs, "scale"), CLAIM)
