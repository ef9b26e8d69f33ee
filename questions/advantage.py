"""Does dividing the advantage by the group's std matter?

GRPO on id from one base, with --scale std (the default) and with --scale none (Dr. GRPO).
"""
from lab.jobs import chain, on, pretraining, seeds, tuning


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed)
        arms = [*on(args, base, "id"), tuning(args, base, "scale=none", ["--scale", "none"])]
        found += chain(args, base, arms)
    return found
