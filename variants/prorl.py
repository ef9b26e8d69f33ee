"""prorl.py: ProRL, long training that resets its reference when it stalls (2505.24864).

DAPO's clip-higher (1 - 0.2 .. 1 + 0.4), token mean and refilled groups; a small KL, which keeps
long runs stable; and when that KL holds the policy back, a reset:

    if the last --patience steps' mean reward is not above the best mean of that many steps before,
    the reference becomes the policy, and the optimizer starts anew

After a reset the KL of every token is 0. resets.py is this device alone, at fixed steps.

Departures: no validation set is looked at, the training rewards stand in for it; one family of
tasks a run; temperature 1 and no overlong penalty by default. Refills are rollouts, and counted.
Information used: the outcome.
Checked against: from notes only (on the paper, and on NeMo-RL's ProRL recipe); the KL's strength
and the patience are ours.
"""
from dataclasses import replace

from cli import knob
from grpo import GRPO
from variants.dapo import DAPO


def stalled(rewards, patience):
    """Whether the last `patience` of a list of rewards have a mean no better than any `patience`
    in a row before them, which do not overlap with them.

    >>> [stalled(rewards, 2) for rewards in ([.1, .2, .3], [.1, .2, .3, .4], [.3, .4, .4, .3])]
    [False, False, True]
    """
    if len(rewards) < 2 * patience:
        return False
    means = [sum(rewards[i:i + patience]) for i in range(len(rewards) - patience + 1)]
    return means[-1] <= max(means[:-patience])


class ProRL(DAPO):
    """DAPO, a small KL, a new reference when rewards stall."""
    paper = "2505.24864"
    columns = ("resets",)

    clip_high = 0.4
    overlong = 0
    kl = replace(GRPO.kl, default="k3_loss")
    beta = 0.01
    drop_zero_variance = False    # groups without a contrast stay: they have the KL's gradient
    patience = knob(10, "steps without a better mean reward until a reset", low=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.rewards_seen, self.resets = [], 0

    def step(self, optimizer):
        if stalled(self.rewards_seen, self.patience):
            self.reference.load_state_dict(self.policy.state_dict())
            optimizer.state.clear()
            self.rewards_seen, self.resets = [], self.resets + 1
        groups, numbers = super().step(optimizer)
        self.rewards_seen.append(numbers["reward"])
        return groups, {**numbers, "resets": self.resets}

    def state(self):
        return {**super().state(), "rewards_seen": self.rewards_seen, "resets": self.resets}

    def load_state(self, state):
        super().load_state(state)
        self.rewards_seen, self.resets = list(state["rewards_seen"]), state["resets"]
