"""spo_chain.py: SPO-chain, credit per segment by rollouts from its ends (2505.23564).

One completion of each prompt is cut into --segments of as many unsure tokens (probability below
--certain) each, and what each beginning is worth is found out by finishing it, again and again:

    V_k  = mean reward of rollouts from the start of segment k;  V of the whole is its reward
    A_k  = V_{k+1} - V_k       for the unsure tokens of segment k, 0 for the others

The advantages of a completion add up to its reward minus V_0. There is no group: --group-size is
what a prompt may cost, the completion and the rollouts of its cuts, and only the one is trained.
So a step trains on a seventeenth of its rollouts; spo.py, its other form, from all.

Departures: the number of segments is fixed, not that of unsure tokens in one (the paper's 5), so
that every prompt costs the same; 8 rollouts a cut, where the paper has 9; no KL.
Information used: the outcome.
Checked against: the released code (cuts among tokens of probability below 0.9); the difference of
values and the mask of unsure tokens from notes on that code.

>>> V = torch.tensor([[0.2, 0.2, 0.6, 1.0]])    # of three segments; the last is the reward
>>> V.diff(dim=1)
tensor([[0.0000, 0.4000, 0.4000]])
"""
from dataclasses import replace

import torch

from cli import knob
from grpo import GRPO
from variants._rollouts import continued


def segment_of(unsure, mask, segments):
    """[rows, N] int: the segment, 0 .. segments - 1, of each token; each has its share of a row's
    unsure tokens ([rows, N] bool; of all tokens if none is).

    >>> unsure = torch.tensor([[0, 1, 1, 0, 1, 1]]).bool()
    >>> segment_of(unsure, torch.ones(1, 6), segments=2)
    tensor([[0, 0, 0, 1, 1, 1]])
    """
    unsure = unsure.float() * mask
    unsure = torch.where(unsure.sum(1, keepdim=True) == 0, mask, unsure)
    before = unsure.cumsum(1) - unsure
    share = before * segments / unsure.sum(1, keepdim=True)
    return share.long().clamp(max=segments - 1)


class SPOChain(GRPO):
    """Values a completion's segments by more rollouts."""
    paper = "2505.23564"

    scale = kl = beta = None
    drop_zero_variance = None    # there are no groups
    prompts_per_step = 30        # 30 x 17 rollouts are within 1 % of GRPO's 32 x 16
    group_size = replace(GRPO.group_size, default=17,
                         help="a prompt's completion and the rollouts of its cuts")
    segments = knob(2, "parts of a completion", low=1)
    certain = knob(0.9, "tokens of this probability or more are not trained", above=0, high=1)

    @torch.no_grad()
    def rollout(self, problems):
        group = self.sample(self.policy, problems, 1, self.temperature)
        unsure = group.old_logp.exp() < self.certain
        segment = segment_of(unsure, group.mask, self.segments)
        cuts = [((segment < k) * group.mask).sum(1).long() for k in range(self.segments)]
        rows = torch.arange(len(cuts[0]), device=self.device).repeat_interleave(self.segments)
        each = max(1, (self.group_size - 1) // self.segments)
        ends = continued(self, group, rows, torch.stack(cuts, dim=1).flatten(), each,
                         self.temperature)
        group.more = {"values": self.rewards(ends).mean(1).view(-1, self.segments),
                      "segment": segment, "unsure": unsure * group.mask}
        return group

    def advantages(self, group):
        values = torch.cat([group.more["values"], group.rewards], dim=1)
        advantages = values.diff(dim=1).gather(1, group.more["segment"])
        return advantages * group.more["unsure"]

    def zero_variance(self, group):
        """[P] bool: prompts whose completion's reward is what every cut of it promised."""
        return (group.more["values"] == group.rewards).all(1)
