"""Does it help to train on the problems that are neither hopeless nor solved?

GRPO on edge from a base that saw some of it, with prompts as they come, and with those kept whose
mass is nearest to one half (--method balanced).
"""
from lab.jobs import chain, on, pretraining, seeds, tuning


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed, overlap=0.1)
        flags = ["--method", "balanced", "--train-on", "edge"]
        found += chain(args, base, [*on(args, base, "edge"), tuning(args, base, "balanced", flags)])
    return found
