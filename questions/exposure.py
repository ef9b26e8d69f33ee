"""How much of an unseen alphabet must pretraining have shown?

The tokens axis, with the shadow symbols never seen, seen in copy problems, at depth 1, or fully;
with tied and with untied embeddings, since tied ones push unseen symbols down. GRPO on edge from
each.
"""
from lab.jobs import chain, on, pretraining, seeds


def jobs(args):
    found = []
    for seed in seeds(args):
        bases = [pretraining(args, seed, axis="tokens")]   # exposure none, tied: the default
        for exposure in ("copy", "atoms", "full"):
            bases.append(pretraining(args, seed, axis="tokens", setting=f"exposure={exposure}",
                                     flags=["--exposure", exposure]))
        for exposure in ("none", "copy", "atoms", "full"):
            bases.append(pretraining(args, seed, axis="tokens",
                                     setting=f"exposure={exposure} untied",
                                     flags=["--exposure", exposure, "--untied"]))
        for base in bases:
            found += chain(args, base, on(args, base, "edge"))
    return found
