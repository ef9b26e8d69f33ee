"""What does the reward have to know?

The same GRPO on id from one base, with each of six rewards: the whole trace, the answer alone, the
share of right steps, a coin, the opposite of right, and the format.
"""
from lab.jobs import chain, on, pretraining, seeds, tuning

REWARDS = ("answer", "process", "random", "inverted", "format")   # beside trace, the default


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed)
        arms = on(args, base, "id")
        for reward in REWARDS:
            arms.append(tuning(args, base, f"reward={reward}", ["--reward", reward]))
        found += chain(args, base, arms)
    return found
