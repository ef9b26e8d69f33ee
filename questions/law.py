"""Does a transformer end where the theory says?

GRPO to its end from one base, with two kinds of KL at three strengths, and with none; also step by
step within a solution.
"""
from lab.jobs import chain, pretraining, seeds, settled

BETAS = (1, 0.3, 0.1)


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed)
        arms = []
        for beta in BETAS:
            arms.append(settled(args, base, f"k1-b{beta:g}", "k1_reward", beta))
            arms.append(settled(args, base, f"k3-b{beta:g}", "k3_loss", beta))
        arms.append(settled(args, base, "none"))
        found += chain(args, base, arms, ["--per-step", "--cold"])
    return found
