"""reinforce_pp.py: REINFORCE++ (Hu 2501.03262).

    return_t = r - beta * sum of the log-ratios to the reference from t on        (--kl k1_reward)
    A_t = (return_t - mean) / std            over all tokens of all groups of the step

There is no group in it: the baseline is the batch. So in an all-wrong group every sample has the
same negative advantage as long as others in the batch succeed, and in an all-right one the same
positive one. Information used: the outcome.
"""
from dataclasses import replace

import torch

from grpo import GRPO, kl_estimate


def whiten(values, masks, eps=1e-6):
    """(x - mean) / (std + eps) of each of the tensors [rows, N], over all the tokens of all of them
    where the masks are 1; 0 elsewhere. The std is that of the batch itself (n): with thousands of
    tokens n - 1 is the same. Without any contrast, exact zeros, as in group_advantages.

    >>> x, ones = torch.tensor([[1.], [0.], [0.], [0.], [1.], [1.], [0.], [0.]]), torch.ones(8, 1)
    >>> whiten([x], [ones])[0].flatten()[:4]
    tensor([ 1.2910, -0.7746, -0.7746, -0.7746])
    """
    tokens = torch.cat([x[mask == 1] for x, mask in zip(values, masks)])
    if (tokens == tokens[0]).all():
        return [torch.zeros_like(x) for x in values]
    mean, std = tokens.mean(), tokens.std(correction=0)
    return [(x - mean) / (std + eps) * mask for x, mask in zip(values, masks)]


def token_rewards(method, group):
    """[R, N]: what each token earns: the reward at the last one of its completion, less beta times
    its own log-ratio to the reference with --kl k1_reward."""
    last = group.mask.sum(1, keepdim=True).long() - 1
    rewards = torch.zeros_like(group.mask).scatter(1, last, group.rewards.view(-1, 1))
    if method.kl != "k1_reward":
        return rewards
    kl = kl_estimate(group.old_logp, group.ref_logp, "k1")
    return rewards - method.beta * kl * group.mask


class ReinforcePP(GRPO):
    """Returns whitened over the batch: no group baseline."""
    paper = "2501.03262"

    aggregate = "token"
    group_size = replace(GRPO.group_size, low=1)
    scale = None
    drop_zero_variance = None    # a group without a contrast has a gradient here

    def advantages(self, group):
        """[R, N]: at t, the sum of what is still to come."""
        return token_rewards(self, group).flip(1).cumsum(1).flip(1)

    def normalise(self, groups):
        whitened = whiten([g.advantages for g in groups], [g.mask for g in groups])
        for group, advantages in zip(groups, whitened):
            group.advantages = advantages
