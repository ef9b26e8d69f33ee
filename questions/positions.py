"""Does the position encoding decide what GRPO can reach?

Longer problems stand at positions that pretraining never used, and a learned encoding has nothing
there. A base with some overlap under each of rope (the default), learned and no position encoding;
GRPO on id and on edge from each.

Rule: no claim, a table. Decided before the runs of the first study, 2026-11-21.
"""
from lab import draw
from lab.jobs import chain, on, pretraining, seeds
from lab.judge import arms_by_setting, compared

ORDER = 23
CLAIM = "Position encodings"
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


def verdicts(runs):
    found = compared(CLAIM, "position encoding", arms_by_setting(runs, "position=rope"))
    ran = {run.setting for run in runs}
    missing = [position for position in POSITIONS if f"position={position}" not in ran]
    if runs and missing:
        found.numbers += f"; {', '.join(missing)}: not run"
    return [found]


def figure(runs):
    return draw.changes(arms_by_setting(runs, "position=rope"), CLAIM)
