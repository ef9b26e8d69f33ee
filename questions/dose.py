"""What does a little of the edge in pretraining buy?

Every family and axis, at four shares of pretraining problems from the edge cells. From each base
GRPO on id, on edge and on both; SFT on as many edge problems as GRPO sees prompts; and the oracle,
the pretraining recipe on clean edge problems.
"""
from lab.jobs import chain, on, oracle, pretraining, seeds, tuning
from tasks import AXES

OVERLAPS = (0.0, 0.1, 0.01, 0.001)   # in this order: the contrast first, then what lies between


def jobs(args):
    found = []
    for overlap in args.overlaps or OVERLAPS:
        for seed in seeds(args):
            for task in AXES:
                for axis in AXES[task]:
                    base = pretraining(args, seed, task, axis, overlap)
                    arms = on(args, base, "id", "edge", "mix")
                    sft = ["--method", "sft", "--train-on", "edge"]
                    arms.append(tuning(args, base, "sft", sft))
                    arms.append(oracle(args, base))
                    found += chain(args, base, arms)
    return found
