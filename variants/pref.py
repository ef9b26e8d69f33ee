"""pref.py: Pref-GRPO, the reward is the share of the group that a completion beats (2508.20751).

    w_i = wins of completion i against the G - 1 others / (G - 1), a tie being half a win
    A_i = (w_i - mean) / (std + eps)

Two completions are compared by their --reward. Scores that differ by little are stretched and far
ones drawn together: only their order counts, so that a score's small errors are not magnified where
all are nearly equal. With a reward of 0 or 1 the win rate is affine in it, and this is GRPO; it
takes a graded reward to differ, by default the leading steps that are right.

Control: grpo.py with --reward process, the same comparison as a score. An inspired core: the
paper's judge looks at two images at a time, and learned to prefer; here a program compares, is
never wrong, and so has no noise to be robust against.
Checked against: the released code (all pairs of a group, 0.5 for an undecided one, wins over
comparisons). Information used: the truth of intermediate steps.
"""
import torch

from grpo import GRPO, group_advantages


def win_rates(scores):
    """[P, G] in 0 .. 1 of scores [P, G].

    >>> win_rates(torch.tensor([[0.1, 0.2, 0.2, 0.9]]))
    tensor([[0.0000, 0.5000, 0.5000, 1.0000]])
    >>> group_advantages(win_rates(torch.tensor([[0.1, 0.2, 0.2, 0.9]])))
    tensor([[-1.2247,  0.0000,  0.0000,  1.2247]])
    >>> group_advantages(win_rates(torch.tensor([[1., 0., 0., 0.]])))     # binary: GRPO's
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    """
    better = (scores[:, :, None] - scores[:, None, :]).sign()    # 1, 0 or -1; 0 against itself
    others = max(1, scores.shape[1] - 1)
    return 0.5 + better.sum(2) / (2 * others)


class Pref(GRPO):
    """The reward is the share of the group that it beats."""
    paper = "2508.20751"

    reward = "process"

    def advantages(self, group):
        kl_cost = group_advantages(self.kl_cost(group), "none")
        return (group_advantages(win_rates(group.rewards), self.scale) - kl_cost).flatten()
