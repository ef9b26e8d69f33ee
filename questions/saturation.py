"""Is the gain an inverted U in the base's mass?

The base's mass is dialled by noise, and by stopping clean pretraining early. From each base GRPO to
its end, without a KL and with one of strength 1.
"""
from lab.jobs import chain, pretraining, seeds, settled

NOISES = (0.0, 0.1, 0.3, 0.5, 0.7)
SHARES = (0.15, 0.2, 0.25, 0.3, 0.4)   # of --pretrain-steps, at noise 0


def jobs(args):
    found = []
    for seed in seeds(args):
        bases = [pretraining(args, seed, noise=noise) for noise in NOISES]
        for share in SHARES:
            steps = max(1, round(share * args.pretrain_steps))
            bases.append(pretraining(args, seed, noise=0.0, steps=steps))
        for base in bases:
            arms = [settled(args, base, "none"), settled(args, base, "k1-b1", "k1_reward", 1)]
            found += chain(args, base, arms)
    return found
