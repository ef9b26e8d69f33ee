"""superhf.py: SuperHF, imitate the best of many, near to the prior (2310.16763).

    loss = - mean log-likelihood of each prompt's --keep best completions
           + beta * KL to the reference, never counted as negative

Supervised learning with the reward as a filter: sample, rank, fine-tune on the top, again. Unlike
rft it keeps a best one even of a group in which nothing is right. Rewards of 0 and 1 leave the rank
to chance there: the policy imitates a random sample of its own, which is noise, with mean 0.

Departures: the paper takes the best 1 of 32, here of --group-size 16, for equal rollouts; it
samples with top-p 0.95, here in full. Its KL is that from prior to policy over the whole
vocabulary, at the kept completions; here the k3 estimate, whose gradient is that same KL's, on all
samples (--kl k3_loss). Information used: the outcome.
Checked against: the released code (top k per prompt by score, likelihood, KLDivLoss of the policy's
log-probs with the prior as target, clamped at 0).
"""
from dataclasses import replace

import torch

from cli import CommandError, knob
from grpo import GRPO
from variants.sft import likelihood_loss


def best(rewards, keep):
    """Weights [P, G] of rewards [P, G]: G / keep for the keep highest, else 0; of equals the first.

    >>> best(torch.tensor([[0., 1., 0., 1.], [0., 0., 0., 0.]]), keep=1)
    tensor([[0., 4., 0., 0.],
            [4., 0., 0., 0.]])
    """
    top = rewards.argsort(dim=1, descending=True, stable=True)[:, :keep]
    return torch.zeros_like(rewards).scatter(1, top, rewards.shape[1] / keep)


class SuperHF(GRPO):
    """Not policy gradient: imitates the best one, with a KL."""
    paper = "2310.16763"

    kl = replace(GRPO.kl, default="k3_loss", choices=("none", "k3_loss"))
    group_size = replace(GRPO.group_size, low=1)
    scale = clip_low = clip_high = None
    drop_zero_variance = None    # a group without a contrast has a gradient here
    keep = knob(1, "completions of a prompt to imitate", low=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        if self.keep > self.group_size:
            raise CommandError(f"--keep {self.keep}: at most --group-size {self.group_size}")

    def advantages(self, group):
        return best(group.rewards, self.keep).flatten()

    def loss(self, group, logp):
        return likelihood_loss(self, group, logp) + self.kl_penalty(group, logp)

    def clip_fraction(self, group, logp):
        return 0.0
