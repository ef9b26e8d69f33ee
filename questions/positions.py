"""Does the position encoding decide what GRPO can reach?

A base with some overlap under each of rope (the default), learned and no position encoding; GRPO on
id and on edge from each.
"""
from lab.jobs import chain, on, pretraining, seeds

POSITIONS = ("learned", "nope")


def jobs(args):
    found = []
    for seed in seeds(args):
        bases = [pretraining(args, seed, overlap=0.1)]
        for position in POSITIONS:
            bases.append(pretraining(args, seed, overlap=0.1, setting=f"position={position}",
                                     flags=["--position", position]))
        for base in bases:
            found += chain(args, base, on(args, base, "id", "edge"))
    return found
