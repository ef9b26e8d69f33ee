"""Does resetting the reference carry GRPO beyond its limit?

With a KL in the reward GRPO has an end, set by its base. ProRL (2505.24864) resets the reference
and the optimizer now and then, and goes on. GRPO with a KL of strength 1 to its end: once with the
reference kept, once with two resets on the way, at the same number of steps.

Rule: no claim, a table. Decided before the runs of the first study, 2026-11-21; seeds 0 to 2.
"""
from lab import draw
from lab.jobs import SETTLED, chain, pretraining, seeds, settled, tuning
from lab.judge import arms_by, compared

ORDER = 21
CLAIM = "A reference that is reset, or kept"


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed)
        every = max(1, args.law_steps // 3)
        flags = ["--method", "resets", "--reset-every", str(every),
                 "--kl", "k1_reward", "--beta", "1", *SETTLED]
        arms = [settled(args, base, "k1-b1", "k1_reward", 1),
                tuning(args, base, "resets", flags, args.law_steps)]
        found += chain(args, base, arms)
    return found


def verdicts(runs):
    return [compared(CLAIM, "method", arms_by(runs, "method"))]


def figure(runs):
    return draw.changes(arms_by(runs, "method"), CLAIM)
