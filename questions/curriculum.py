"""Does a curriculum of reachable steps beat a jump?

From a base that saw some of depth 4: GRPO on depth 4, then 5, then 6; or on depth 6 at once, for as
many steps as the three together.
"""
from lab.jobs import chain, pretraining, seeds, tuning


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
