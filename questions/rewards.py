"""What does the reward have to know?

The same GRPO on id from one base, with each of six rewards: the whole trace (the default), the
answer alone, the share of right steps, a coin, the opposite of right, and the format. A reward that
does not depend on the answer has an advantage that is zero on average, so to first order it should
change nothing (prediction P8); public reports of gains from random rewards say otherwise.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Change of mass with the
random reward, on id and on edge: supported if both intervals lie inside ±2 points, refuted if one
lies outside (2 points are ours). The other rewards are a table.
"""
from lab import draw
from lab.jobs import chain, on, pretraining, seeds, tuning
from lab.judge import POINTS, Verdict, arms_by, by_seed, change_table, decide, every, inside
from lab.judge import outside, pm

ORDER = 11
CLAIM = "A reward that ignores the answer changes nothing (P8)"
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


def verdicts(runs):
    on_id = by_seed(runs, lambda r: r.gain("reward=random", "id"))
    on_edge = by_seed(runs, lambda r: r.gain("reward=random", "edge"))
    if not on_id:
        return [Verdict(CLAIM, "not run")]
    word = every([decide(change, yes=inside(POINTS), no=outside(POINTS))
                  for change in (on_id, on_edge)])
    return [Verdict(CLAIM, word, f"id {pm(on_id)}, edge {pm(on_edge)}",
                    change_table("reward", arms_by(runs, "reward")), len(on_id))]


def figure(runs):
    return draw.changes(arms_by(runs, "reward"), "What each reward does to the mass")
