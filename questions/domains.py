"""Does GRPO favour the domain that pretraining favoured?

Two families in one base, in three proportions (share is that of arithmetic), and the same GRPO on
id of both. If GRPO amplifies what pretraining put there, the favoured domain gains first.

Rule: no claim, a table. Decided before the runs of the first study, 2026-11-21.
"""
from lab import draw
from lab.jobs import chain, on, pretraining, seeds
from lab.judge import arms_by_setting, compared, group

ORDER = 25
CLAIM = "Two domains in one base"
SHARES = (0.9, 0.5, 0.1)   # of arithmetic; the rest is graph


def jobs(args):
    found = []
    for seed in seeds(args):
        for share in SHARES:
            base = pretraining(args, seed, "both", "depth", setting=f"share={share}",
                               flags=["--share", str(share)])
            found += chain(args, base, on(args, base, "id"))
    return found


def verdicts(runs):
    return [compared(CLAIM, "share of arithmetic", arms(runs))]


def arms(runs):
    """[(share and task, arm, runs)]: a base that is asked about both tasks is two runs."""
    return [(f"{task}, {label}", arm, these)
            for task, of_task in group(runs, lambda r: r.task).items()
            for label, arm, these in arms_by_setting(of_task, "share=1")]


def figure(runs):
    return draw.changes(arms(runs), CLAIM)
