"""Does GRPO favour the domain that pretraining favoured?

Two families in one base, in three proportions, and the same GRPO on id of both.
"""
from lab.jobs import chain, on, pretraining, seeds

SHARES = (0.9, 0.5, 0.1)   # of arithmetic; the rest is graph


def jobs(args):
    found = []
    for seed in seeds(args):
        for share in SHARES:
            base = pretraining(args, seed, "both", "depth", setting=f"share={share}",
                               flags=["--share", str(share)])
            found += chain(args, base, on(args, base, "id"))
    return found
