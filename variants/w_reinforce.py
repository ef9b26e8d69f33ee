"""w_reinforce.py: W-REINFORCE, which learns mostly from its mistakes (Zhu et al. 2506.01347).

    A = +0.1 if the completion is right, -1 if it is wrong: no baseline, no group

The gradient of REINFORCE is a sum of two: pushing right samples up sharpens the policy, pushing
wrong ones down spreads their mass over everything else. The paper finds that the second keeps
pass@k at large k, and so weights the first down. --weight-right 0 is its NSR (negative samples
only); --weight-right 1 --weight-wrong 0 its PSR. Information used: the outcome.
"""
from dataclasses import replace

from cli import knob
from grpo import GRPO


def weighted(rewards, right=0.1, wrong=1.0):
    """Advantages [P, G] of rewards [P, G] in 0 .. 1; a fractional reward lies between the two.

    >>> from torch import tensor
    >>> weighted(tensor([[1., 0., 0.5]]))
    tensor([[ 0.1000, -1.0000, -0.4500]])
    """
    return right * rewards - wrong * (1 - rewards)


class WReinforce(GRPO):
    """Right samples up a little, wrong ones down in full."""
    paper = "2506.01347"

    aggregate = "constant"
    group_size = replace(GRPO.group_size, low=1)
    scale = None
    drop_zero_variance = None    # a group without a contrast has a gradient here
    weight_right = knob(0.1, "advantage of a right completion", low=0)
    weight_wrong = knob(1.0, "a wrong one has minus this", low=0)

    def advantages(self, group):
        """[R]; the KL's share is not centred, for the reward is not."""
        advantages = weighted(group.rewards, self.weight_right, self.weight_wrong)
        return (advantages - self.kl_cost(group)).flatten()
