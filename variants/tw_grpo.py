"""tw_grpo.py: TW-GRPO, weights where a group disagrees, and a soft reward (2505.24718).

    D_t  = mean over i of KL(p_it || mean over i of p_it)    the next-token distributions at t
    w_t  = 1 + (a - 1) (D_t - min D) / (max D - min D)       a = 1.7; on the whole group's tokens t
    r_i  = |written| / |asked|  if all that is written is among what is asked, else 0  --reward soft

and the token mean. A completion that has ended counts as uniform. Where the group's distributions
part something is decided, and its tokens have up to 1.7 times the weight. The reward is that of
questions with several answers: to leave one out is cheaper than to name a wrong one.

The answers are here the steps: a completion that writes the first k of d right, ends, and has
nothing wrong earns k / d. So it can be earned by stopping early, and is: from an id mass of 0.55,
--lr 3e-3 learns within ten steps to end after one state of two, and falls to 0.30. At the default
completions stay as long as solutions are. Longer than most, for it is two methods in one.

Control: --token-weight 1 is GRPO with the same reward and no weights; --reward trace the weights
alone. Departures: the release's mean is geometric and its KL the unweighted k3 over the vocabulary,
here they are the paper's mean and KL; its 0 / 0 of equal distributions is 0 here, too.
Checked against: the released code (uniform after the end, min-max over positions, 1.7 in its script
and 1.4 elsewhere, the mean over tokens, no KL; the subset and its share as reward).
Information used: the outcome, the truth of intermediate steps and the policy's distributions.
"""
import math
from dataclasses import replace

import torch

from cli import knob
from grpo import GRPO
from model import log_softmax
from tasks import EOS, REWARDS, SEP, TASKS
from variants._steps import meant


def soft_rewards(completions, solutions, d):
    """Rewards [R] of completions [R, N], by solutions [R, S] of d states: the share of the states
    that was written before the end, if all of it is right.

    >>> asked = torch.tensor([[7, SEP, 8, SEP, 9, EOS]]).expand(2, -1)    # 7, 8 and 9
    >>> wrote = torch.tensor([[7, SEP, 8, EOS, 0, 0], [7, SEP, 9, EOS, 0, 0]])
    >>> soft_rewards(wrote, asked, d=3)
    tensor([0.6667, 0.0000])
    """
    wrote = completions[:, :solutions.shape[1]]
    right_so_far = (wrote == solutions).cumprod(1)
    right_before = torch.cat([torch.ones_like(right_so_far[:, :1]), right_so_far[:, :-1]], dim=1)
    closes = (solutions == SEP) | (solutions == EOS)    # a state ends before it
    closes[:, 0] = False
    ends_well = (wrote == EOS) & closes & (right_before == 1)
    return (ends_well * closes.cumsum(1)).sum(1) / d


def disagreement(logp, mask):
    """D [P, N] in nats of next-token log-probs [P, G, N, V] and mask [P, G, N].

    >>> logp = torch.tensor([0.9, 0.1]).log().expand(1, 2, 2, 2)    # all alike, but one has ended
    >>> disagreement(logp, torch.tensor([[[1., 1.], [1., 0.]]]))
    tensor([[0.0000, 0.1017]])
    """
    uniform = -math.log(logp.shape[-1])
    logp = torch.where(mask[..., None] == 1, logp, uniform)
    mean = logp.exp().mean(1, keepdim=True)
    return (logp.exp() * (logp - mean.log())).sum(-1).mean(1)


def position_weights(D, most=1.7):
    """Weights [P, N] in 1 .. most of disagreements [P, N].

    >>> position_weights(torch.tensor([[0.0, 0.3, 0.6], [0.2, 0.2, 0.2]]))
    tensor([[1.0000, 1.3500, 1.7000],
            [1.0000, 1.0000, 1.0000]])
    """
    low, high = D.amin(1, keepdim=True), D.amax(1, keepdim=True)
    return 1 + (most - 1) * (D - low) / (high - low + 1e-6)


class TWGRPO(GRPO):
    """Weighs tokens by disagreement; a soft reward."""
    paper = "2505.24718"

    aggregate = "token"
    reward = replace(GRPO.reward, default="soft", choices=[*REWARDS, "soft"],
                     help="soft: the share of the steps, if all that is written is right; "
                          + GRPO.reward.help)
    token_weight = knob(1.7, "weight where the group disagrees most; 1: all alike", low=1)

    def rewards(self, group):
        if self.reward != "soft":
            return super().rewards(group)
        d = len(TASKS[group.task].layout(group.prompts)[0])
        return soft_rewards(group.completions, meant(group), d).view(len(group.prompts), -1)

    def advantages(self, group):
        """[R, N]"""
        D = disagreement(self.distributions(group), group.mask.view(*group.rewards.shape, -1))
        weights = position_weights(D, self.token_weight).repeat_interleave(group.size, dim=0)
        return super().advantages(group)[:, None] * weights * group.mask

    @torch.no_grad()
    def distributions(self, group):
        """[P, G, N, V]: the policy's next-token log-probs along each completion."""
        hidden = self.policy.hidden(group.tokens[:, :-1], skip=group.start - 1)
        logp = log_softmax(self.policy.unembed(hidden), self.temperature)
        return logp.unflatten(0, group.rewards.shape)
