"""ngrpo.py: NGRPO, negative-enhanced GRPO: learn from groups that are all wrong (2509.18851).

    mean, std    over the group's G rewards and one imagined sample that got the top reward 1
    A_i          (r_i - mean) / std, for the G real samples

GRPO has nothing to say of an all-wrong group. Beside an imagined success each of its samples is
worse than average, by 1 / sqrt(G + 1), so all are pushed down, and their mass goes to whatever was
not sampled. An all-right group still rests. The right samples of a mixed group weigh less than in
GRPO, the wrong ones more. The clip is asymmetric: tight below, where a negative advantage could
push without end; it works from two updates a batch on (--epochs 2; here one, as in GRPO).

Checked against: github nangongrui-ngr/NGRPO, verl/trainer/ppo/core_algos.py and train_scripts (one
imagined sample, sample std, clip 0.16 and 0.24). Information used: the outcome.
"""
import torch

from grpo import GRPO, group_advantages


def advantages_beside_success(rewards, top=1.0):
    """Advantages [P, G] of rewards [P, G], each group standardised as if a sample with the reward
    `top` were in it too.

    >>> advantages_beside_success(torch.tensor([[0., 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]))
    tensor([[-0.4472, -0.4472, -0.4472, -0.4472],
            [ 1.0954, -0.7303, -0.7303, -0.7303],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """
    imagined = torch.full_like(rewards[:, :1], top)
    return group_advantages(torch.cat([rewards, imagined], dim=1))[:, :-1]


class NGRPO(GRPO):
    """All-wrong groups teach, beside an imagined success."""
    paper = "2509.18851"

    clip_low = 0.16
    clip_high = 0.24
    scale = None
    drop_zero_variance = None    # an all-wrong group has a gradient here

    def advantages(self, group):
        kl_cost = group_advantages(self.kl_cost(group), "none")
        return (advantages_beside_success(group.rewards) - kl_cost).flatten()
