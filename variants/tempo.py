"""tempo.py: TEMPO, credit by the tree that a group's samples form anyway (2509.18314).

    V(prefix) = mean reward of the group's completions that begin with it
    A_it      = (r_i - mean + V(prefix to t) - V(prefix to t - 1)) / (std + eps)

To GRPO's advantage comes, at each token where completions part, what taking this branch changed in
the expected reward. Where a prefix is shared by all, or by this completion alone, V stays and the
term is 0. No rollout more than GRPO's, and no critic. A small vocabulary and a peaked policy make
long shared prefixes; of 16 samples most part at a few tokens.

Information used: the outcome.
Checked against: the paper's abstract and two accounts of it (mean of descendants, a correction at
branching tokens alone, GRPO elsewhere); the numbers below are from our notes on the released code.
"""
import torch

from grpo import GRPO, group_advantages


def prefix_values(completions, rewards):
    """V [P, G, N + 1]: the value of each completion's prefix of 0 .. N tokens, from completions
    [P, G, N] and rewards [P, G]."""
    same = (completions[:, :, None] == completions[:, None]).cumprod(-1)    # [P, G, G, N]
    same = torch.cat([torch.ones_like(same[..., :1]), same], dim=-1).float()
    return (same * rewards[:, None, :, None]).sum(2) / same.sum(2)


def tree_advantages(completions, rewards, scale="std"):
    """[P, G, N]: group advantages with the temporal difference of the prefix values.

    >>> AB_AC_DE_DF = torch.tensor([[[1, 2], [1, 3], [4, 5], [4, 6]]])
    >>> tree_advantages(AB_AC_DE_DF, torch.tensor([[1., 0., 0., 0.]]))[0]
    tensor([[ 2.0000,  2.5000],
            [ 0.0000, -1.5000],
            [-1.0000, -0.5000],
            [-1.0000, -0.5000]])
    """
    advantages = group_advantages(rewards, scale)
    std = torch.ones_like(rewards[:, :1])
    if scale == "std":
        std = rewards.std(dim=1, keepdim=True) + 1e-6
    difference = prefix_values(completions, rewards).diff(dim=-1) / std[..., None]
    equal = (rewards == rewards[:, :1]).all(1)[:, None, None]    # no contrast: no rounding either
    return (advantages[..., None] + difference).masked_fill(equal, 0.0)


class TEMPO(GRPO):
    """Credit per token from the group's own prefix tree."""
    paper = "2509.18314"

    clip_high = 0.28

    def advantages(self, group):
        completions = group.completions.unflatten(0, group.rewards.shape)
        advantages = tree_advantages(completions, group.rewards, self.scale).flatten(0, 1)
        kl_cost = group_advantages(self.kl_cost(group), "none")
        return (advantages - kl_cost.view(-1, 1)) * group.mask
