"""sft.py: supervised fine-tuning on gold solutions: the control that is shown the answers.

    loss = - mean log-likelihood of the one accepted solution of each prompt

Not reinforcement learning: the "rollout" is the solution itself, nothing is sampled or judged, and
the rollout budget stays at 0. What it is shown is counted instead, in problems and tokens of gold:
a method with hints has to be compared at equal gold (the control of Yue et al. 2504.13837).

Information used: gold solutions.
"""
from types import SimpleNamespace

import torch

from grpo import GRPO
from model import masked_mean
from variants._hints import gold_group


def likelihood_loss(method, group, logp):
    """Scalar: minus the mean of logp [R, N], each completion weighed by its advantage [R].

    >>> group = SimpleNamespace(advantages=torch.tensor([1., 2.]), mask=torch.ones(2, 1))
    >>> method = SimpleNamespace(mean=lambda x, group: masked_mean(x, group.mask, "sequence"))
    >>> likelihood_loss(method, group, torch.tensor([[-1.], [-3.]]))
    tensor(3.5000)
    """
    return -method.mean(logp * group.advantages[:, None], group)


class SFT(GRPO):
    """Not RL: gold solutions, the control shown the answers."""
    paper = "control in 2504.13837"

    budget_gold = 0
    reward = group_size = temperature = budget_rollouts = None          # nothing is sampled
    scale = clip_low = clip_high = kl = beta = drop_zero_variance = None  # and nothing judged

    def rollout(self, problems):
        group = gold_group(self, problems)
        self.spend_gold(len(group.prompts), group.completions.numel())
        return group

    def rewards(self, group):
        return torch.ones(len(group.prompts), 1, device=self.device)

    def advantages(self, group):
        return group.rewards.flatten()

    def loss(self, group, logp):
        return likelihood_loss(self, group, logp)

    def clip_fraction(self, group, logp):
        return 0.0

    def numbers(self, groups):
        return {}
