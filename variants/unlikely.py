"""unlikely.py: rewarding the unlikely: a rare right answer earns more (He et al. 2506.02355).

    r_i  becomes  r_i (1 - beta rank_i / G)

where rank_i is how many of the group are less likely than completion i, by mean log-probability
under the sampler: 0 for the least likely. Then GRPO as usual. Among right completions GRPO raises
the likely ones most, for they are sampled most; here the rare ones are paid best, and in a group
that is all right the likeliest are pushed down.

It takes two different right completions in a group to act. With the trace as reward all right ones
are the same string: a tie, one reward for all of them, and the group's std takes the factor out
again, so this is GRPO, up to rounding. With --reward answer too on arithmetic, where operations are
bijections and a wrong chain seldom ends right; --reward format accepts many strings. The log's
right_kinds counts the distinct rewarded completions of a group, a mean over groups with any.

Departures: equally likely completions share a rank (the release ranks them by their place in the
batch, which is noise for equal strings); one update a batch and no KL, where the release has two
updates and k3 with 0.1 (--epochs 2 --kl k3_loss), to which the paper gives part of the effect.

Checked against: github AndreHe02/rewarding-unlikely-release, verl/trainer/ppo/ray_lean_trainer.py
and examples/lean/grpo.sh. Information used: the outcome, and the sampler's likelihoods.
"""
import torch

from cli import knob
from grpo import GRPO


def unlikely_rewards(rewards, logp, weight=0.25):
    """Rewards [P, G] of rewards and mean log-probs [P, G]: less for the likely ones of a group.

    >>> logp = torch.tensor([[-1., -2., -3., -4.], [-1., -1., -1., -4.]])
    >>> unlikely_rewards(torch.tensor([[1., 1., 1., 1.], [1., 1., 1., 0.]]), logp)
    tensor([[0.8125, 0.8750, 0.9375, 1.0000],
            [0.9375, 0.9375, 0.9375, 0.0000]])
    """
    less_likely = logp[:, None, :] < logp[:, :, None] - 1e-6     # [P, i, j]: j is, than i
    return rewards * (1 - weight * less_likely.float().mean(2))


class Unlikely(GRPO):
    """Right completions that were unlikely earn more."""
    paper = "2506.02355"
    columns = ("right_kinds",)

    rank_weight = knob(0.25, "what the likeliest of a group loses of its reward", low=0, high=1)

    def rewards(self, group):
        rewards = super().rewards(group)
        logp = (group.old_logp * group.mask).sum(1) / group.mask.sum(1)
        return unlikely_rewards(rewards, logp.view_as(rewards), self.rank_weight)

    def numbers(self, groups):
        kinds = []
        for group in groups:
            right = group.rewards > 0
            texts = group.completions.view(*right.shape, -1)
            kinds += [len(texts[p, right[p]].unique(dim=0)) for p in range(len(right))
                      if right[p].any()]
        return {**super().numbers(groups), "right_kinds": sum(kinds) / max(1, len(kinds))}
