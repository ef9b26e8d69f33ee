"""tempflow.py: TempFlow-GRPO, chance at one place only (2508.04324, eq. 8). Inspired core.

A prompt's greedy completion is branched at one token t: there the policy's distribution is sampled,
--group-size - 1 times, and each branch goes on greedily. So the branches differ by that choice and
nothing else, and the reward is its credit:

    w_t = H_t / mean of H           H_t: the policy's entropy at token t of the greedy completion
    t is drawn with probability w_t / tokens;  A = (r - mean) / (std + eps) at t, 0 elsewhere

Departures: the paper branches the denoising of an image and weighs each step's loss by its noise
level; entropy stands for noise. It visits all t, weighed by w_t: drawing t by w_t has the same mean
and fewer branchings of what is certain. Of its seed groups (one starting noise) the prompt is left.
Information used: the outcome.
Checked against: the authors' page (branching points, weights by noise; no code is out); equation 8
and the mean of 1 from notes on a re-implementation; how it branches is ours.
"""
from dataclasses import replace

import torch

from grpo import GRPO, group_advantages
from model import log_softmax
from variants._rollouts import continued


def noise_weights(entropy, mask):
    """Weights [rows, N] with a mean of 1 over a row's tokens, from entropies [rows, N].

    >>> noise_weights(torch.tensor([[1.0, 0.5, 0.0, 9.0]]), torch.tensor([[1., 1., 1., 0.]]))
    tensor([[2., 1., 0., 0.]])
    """
    entropy = entropy * mask
    certain = entropy.sum(1, keepdim=True) == 0     # then all tokens weigh alike
    entropy = torch.where(certain, mask, entropy)
    return entropy / entropy.sum(1, keepdim=True) * mask.sum(1, keepdim=True)


class TempFlow(GRPO):
    """Branches the greedy completion at one uncertain token."""
    paper = "2508.04324"

    group_size = replace(GRPO.group_size, help="the greedy completion and its branches", low=3)

    def sample(self, policy, problems, group_size, temperature):
        greedy = super().sample(policy, problems, 1, temperature=0)
        hidden = policy.hidden(greedy.tokens[:, :-1], skip=greedy.start - 1)
        logp = log_softmax(policy.unembed(hidden), temperature)                  # [P, N, V]
        weights = noise_weights(-(logp.exp() * logp).sum(-1), greedy.mask)
        t = torch.multinomial(weights, 1, generator=self.generator)              # [P, 1]
        here = logp.gather(1, t[..., None].expand(-1, -1, logp.shape[-1]))[:, 0].exp()
        tokens = torch.multinomial(here, group_size - 1, replacement=True,
                                   generator=self.generator)                     # [P, G - 1]

        stems = replace(greedy, prompts=greedy.prompts.repeat(group_size - 1, axis=0),
                        tokens=greedy.tokens.repeat_interleave(group_size - 1, dim=0),
                        old_logp=greedy.old_logp.repeat_interleave(group_size - 1, dim=0))
        t = t.repeat_interleave(group_size - 1, dim=0)
        stems.tokens.scatter_(1, greedy.start + t, tokens.view(-1, 1))
        rows = torch.arange(len(t), device=t.device)
        group = continued(self, stems, rows, t.flatten() + 1, n=1, temperature=0)
        group.prompts = greedy.prompts
        group.old_logp = self.score(policy, group)
        group.more["branched"] = torch.zeros_like(group.mask).scatter(1, t, 1.0)
        return group

    def advantages(self, group):
        advantages = group_advantages(group.rewards, self.scale)
        advantages = advantages - group_advantages(self.kl_cost(group), "none")
        return advantages.view(-1, 1) * group.more["branched"]
