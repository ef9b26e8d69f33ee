"""rft.py: rejection sampling fine-tuning, repeated: expert iteration (2308.01825; 1705.08439).

    sample, keep what is right, fine-tune on it:
    loss = - mean log-likelihood of the kept completions, one vote per solved prompt

Not a policy gradient: wrong samples are thrown away, and there is no baseline and no ratio.
Duplicates are dropped, as in Yuan et al.: a prompt solved 15 times in 16 weighs no more than one
solved once. (With the trace as reward all right completions of a prompt are the same string, so c
of them with weight 1 / c each are exactly the one.) Information used: the outcome.
"""
from dataclasses import replace

import torch

from grpo import GRPO
from variants.sft import likelihood_loss


def votes(rewards):
    """Weights [P, G] of rewards [P, G]: a solved prompt has G to share among its right completions.

    >>> votes(torch.tensor([[1., 0., 0., 0.], [1., 1., 0., 0.], [0., 0., 0., 0.]]))
    tensor([[4., 0., 0., 0.],
            [2., 2., 0., 0.],
            [0., 0., 0., 0.]])
    """
    right = (rewards == 1).float()
    return right / right.sum(1, keepdim=True).clamp(min=1) * rewards.shape[1]


class RFT(GRPO):
    """Not policy gradient: imitates its own right samples."""
    paper = "2308.01825"

    group_size = replace(GRPO.group_size, low=1)
    scale = clip_low = clip_high = kl = beta = drop_zero_variance = None

    def advantages(self, group):
        return votes(group.rewards).flatten()

    def normalise(self, groups):
        """Weights with a mean of 1 over the step: prompts that nothing solved have no vote."""
        mean = torch.cat([group.advantages for group in groups]).mean().clamp(min=1e-9)
        for group in groups:
            group.advantages = group.advantages / mean

    def loss(self, group, logp):
        return likelihood_loss(self, group, logp)

    def clip_fraction(self, group, logp):
        return 0.0
