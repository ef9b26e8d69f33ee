"""Does resetting the reference carry GRPO beyond its limit?

GRPO with a KL of strength 1 to its end, with the reference kept, and with the reference and the
optimizer reset twice on the way.
"""
from lab.jobs import SETTLED, chain, pretraining, seeds, settled, tuning


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
