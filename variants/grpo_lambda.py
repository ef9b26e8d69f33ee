"""grpo_lambda.py: GRPO-lambda, a length penalty where the group is accurate (2505.18086).

The prompts of a step are ranked by the share of right completions. In the best --fraction of them
(at least one),

    r_i = 1 - alpha sigmoid((L_i - mean) / std)   if right, with mean and std of the right lengths
    r_i = 0                                       if wrong

and everywhere else the plain 0 or 1. A length penalty on prompts that the policy has not mastered
pays for shortness with accuracy, and the paper sees training collapse from it.

It takes right completions of different lengths to act. With the trace as reward they all have one
length, 0.7 for each of them, and the group's std takes that out: this is GRPO, up to rounding. Only
--reward answer lets lengths differ, and on arithmetic they seldom do, for operations are
bijections: a wrong chain seldom ends right. Departure: prompts of equal accuracy are taken in the
order of their cells.

Checked against: the abstract and public summaries of the paper (the ranking within a batch, 0/1
elsewhere); the formula and alpha are from notes only, and no code was found.
Information used: the outcome, and lengths.
"""
import torch

from cli import knob
from grpo import GRPO


def shorter_is_better(rewards, length, alpha=0.6):
    """Rewards [P, G] of rewards and lengths [P, G]: right ones (1) lose up to alpha by length,
    compared with the right ones of their group; all others get 0.

    >>> length = torch.tensor([[4., 5., 6., 9.], [5., 5., 3., 9.]])
    >>> shorter_is_better(torch.tensor([[1., 1., 1., 0.], [1., 1., 0., 0.]]), length)
    tensor([[0.8386, 0.7000, 0.5614, 0.0000],
            [0.7000, 0.7000, 0.0000, 0.0000]])
    """
    right = (rewards == 1).float()
    n = right.sum(1, keepdim=True)
    off = (length - (length * right).sum(1, keepdim=True) / n.clamp(min=1)) * right
    std = (off.square().sum(1, keepdim=True) / (n - 1).clamp(min=1)).sqrt()
    return right * (1 - alpha * torch.sigmoid(off / (std + 1e-6)))


class GRPOLambda(GRPO):
    """Length penalty, in the most accurate groups alone."""
    paper = "2505.18086"

    fraction = knob(0.2, "share of a step's prompts with the length penalty", low=0, high=1)
    alpha = knob(0.6, "how much of the reward length can take", low=0, high=1)

    def experience(self, n):
        groups = super().experience(n)
        accuracy = torch.cat([(group.rewards == 1).float().mean(1) for group in groups])
        chosen = torch.zeros_like(accuracy, dtype=torch.bool)
        best = accuracy.argsort(descending=True, stable=True)
        chosen[best[:max(1, int(self.fraction * len(accuracy)))]] = True
        parts = chosen.split([len(group.prompts) for group in groups])
        for group, penalised in zip(groups, parts):
            length = group.mask.sum(1).view_as(group.rewards)
            shaped = shorter_is_better(group.rewards, length, self.alpha)
            group.rewards = torch.where(penalised[:, None], shaped, group.rewards)
        return groups
