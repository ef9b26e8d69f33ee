"""remax.py: REINFORCE with the greedy completion as baseline (Li et al. 2310.10505, algorithm 1).

    A_i = r_i - r(greedy completion of the same prompt)

One more completion per prompt, at temperature 0, is the whole baseline: no critic and no group, so
it also works with --group-size 1. Greedy completions count in the rollout budget. The loss sums
over a completion's tokens, as REINFORCE does. Information used: the outcome.

>>> from torch import tensor
>>> over_greedy(tensor([[1., 0.], [1., 0.]]), tensor([[1.], [0.]]))
tensor([[ 0., -1.],
        [ 1.,  0.]])
"""
from dataclasses import replace

from grpo import GRPO


def over_greedy(rewards, greedy):
    """Advantages [P, G] of rewards [P, G] over those of the greedy completions [P, 1]."""
    return rewards - greedy


class ReMax(GRPO):
    """The baseline is the greedy completion's reward."""
    paper = "2310.10505"

    aggregate = "constant"
    group_size = replace(GRPO.group_size, low=1)
    scale = None
    drop_zero_variance = None    # a group without a contrast has a gradient here

    def advantages(self, group):
        """[R]; the KL's share is not centred, for the reward is not."""
        problems = (group.task, group.cell, group.prompts)
        greedy = self.sample(self.policy, problems, group_size=1, temperature=0)
        advantages = over_greedy(group.rewards, self.rewards(greedy))
        return (advantages - self.kl_cost(group)).flatten()
