"""How much of an unseen alphabet must pretraining have shown?

The tokens axis asks for known operations on shadow digits, which nothing ties to the digits. They
are never seen in pretraining (none), only in copy problems (copy), at depth 1 (atoms), or fully
(full); with tied and with untied embeddings, since tied ones push unseen symbols down. GRPO on edge
from each. "None" is a sanity zero: no model could know.

Rule: no claim, a table. Decided before the runs of the first study, 2026-11-21.
"""
from lab import draw
from lab.jobs import chain, on, pretraining, seeds
from lab.judge import arms_by_setting, compared

ORDER = 24
CLAIM = "Exposure to the shadow tokens"


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


def verdicts(runs):
    return [compared(CLAIM, "exposure", arms_by_setting(runs, "exposure=none"))]


def figure(runs):
    return draw.changes(arms_by_setting(runs, "exposure=none"), CLAIM)
