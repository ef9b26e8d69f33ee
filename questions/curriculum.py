"""Does a curriculum of reachable steps beat a jump?

From a base that saw some of depth 4: GRPO on depth 4, then 5, then 6; or on depth 6 at once, for as
many steps as the three together. Each stage of the curriculum starts where the last one has put
some mass, so it should beat the jump (prediction P9). That would not go against the law of one run
(prediction P1), whose base is renewed at each stage, but against any bound by the first base's
mass.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Mass on depth 6 after the
curriculum minus that after the jump: supported if the interval lies above +2 points, refuted if
below +2 (2 points are ours).
"""
import numpy as np

from lab import draw
from lab.jobs import chain, pretraining, seeds, tuning
from lab.judge import POINTS, Verdict, above, below, by_seed, change_table, decide, pm

ORDER = 12
CLAIM = "A curriculum 4, 5, 6 beats a jump to 6 (P9)"
ARMS = ("curriculum-6", "jump-6")
DEPTH = 6


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed, overlap=0.1)
        four = tuning(args, base, "curriculum-4", ["--depths", "4"])
        five = tuning(args, base, "curriculum-5", ["--depths", "5"], init=four)
        six = tuning(args, base, "curriculum-6", ["--depths", "6"], init=five)
        jump = tuning(args, base, "jump-6", ["--depths", "6"], steps=3 * args.grpo_steps)
        found += chain(args, base, [four, five, six, jump])
    return found


def verdicts(runs):
    runs = [r for r in runs if r.has("base", *ARMS, split="hard")]
    if not runs:
        return [Verdict(CLAIM, "not run")]
    more = by_seed(runs, lambda r: deepest(r, "curriculum-6") - deepest(r, "jump-6"))
    masses = [f"{arm} {pm(by_seed(runs, lambda r: deepest(r, arm)), 'p')}"
              for arm in ("base", *ARMS)]
    return [Verdict(CLAIM, decide(more, yes=above(POINTS), no=below(POINTS)),
                    f"difference {pm(more)}; {', '.join(masses)}",
                    change_table("arm", [(arm, arm, runs) for arm in ARMS]), len(more),
                    "The table's hard cells are depths 5 and 6; the rule looks at depth 6 alone.")]


def deepest(run, arm):
    """Mean mass at depth 6."""
    cells = [masses for cell, masses in run.masses[arm, "hard"].items()
             if cell.startswith(f"d{DEPTH} ")]
    return float(np.mean([np.exp(masses).mean() for masses in cells]))


def figure(runs):
    arms = [(arm, arm, [r for r in runs if r.has("base", arm, split="id")]) for arm in ARMS]
    return draw.changes(arms, "A curriculum and a jump to depth 6")
