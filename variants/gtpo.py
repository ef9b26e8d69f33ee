"""gtpo.py: GTPO, tokens that right and wrong completions share (Simoni et al. 2508.03772).

    A_i   GRPO's advantage of completion i
    A_i   becomes  A_i - 0.1 H_i  if H_i <= 0.7, else 0      H: mean entropy of its tokens, in nats
    A_it = A_i w_it,  w = 2 / 0 on a conflict token of a right / wrong completion, else 1

A conflict token stands at the same place in a completion with A > 0 and in one with A < 0: a
shared opening or ending, which GRPO pushes both ways. Places count from the start and again from
the end, and only the unbroken run at each end is one. The entropy term drops completions in which
the policy is lost, if it was not so on the first batch (0.7 is about ln 2: a policy that begins
above would never learn). It leaves a little gradient in groups of equal rewards.

Longer than most, for it is two corrections in one. Departures: in the release a token in both runs
gets 4, a completion's loss is divided by its number of conflict tokens, and the filter does not ask
how the policy began (the paper's does, by notes).

Checked against: github winstonsmith1897/GTPO, gtpo/gtpo_training.py. Information used: the outcome,
the completions' tokens and the policy's entropy.
"""
import math

import torch

from cli import knob
from grpo import GRPO, group_advantages
from measure import score


def shared_run(tokens, mask, A):
    """[P, G, N] bool: the leading tokens, unbroken, that occur at their place both in a completion
    with A > 0 and in one with A < 0, of tokens and mask [P, G, N] and A [P, G]."""
    same = (tokens[:, :, None] == tokens[:, None]) & mask[:, None].bool()     # [P, i, j, N]
    up, down = (same & sign[:, None, :, None] for sign in (A > 0, A < 0))
    return (up.any(2) & down.any(2) & mask.bool()).long().cumprod(-1).bool()


def conflict_weights(tokens, mask, A):
    """Weights [P, G, N] of tokens and mask [P, G, N] and advantages A [P, G].

    >>> tokens, mask = torch.tensor([[[7, 1, 3, 2], [7, 4, 5, 2]]]), torch.ones(1, 2, 4)
    >>> conflict_weights(tokens, mask, torch.tensor([[1., -1.]])).tolist()
    [[[2.0, 1.0, 1.0, 2.0], [0.0, 1.0, 1.0, 0.0]]]
    >>> conflict_weights(tokens, mask, torch.tensor([[1., 1.]])).unique()
    tensor([1.])
    """
    length = mask.sum(-1, keepdim=True).long()
    place = torch.arange(mask.shape[-1], device=mask.device)
    backwards = torch.where(place < length, length - 1 - place, place)   # padding stays behind
    ending = shared_run(tokens.gather(-1, backwards), mask, A).gather(-1, backwards)
    conflict = shared_run(tokens, mask, A) | ending
    return torch.where(conflict, torch.where(A > 0, 2.0, 0.0)[..., None], 1.0)


def sober(A, entropy, weight=0.1, limit=0.7):
    """Advantages [...] less a share of the entropies [...]; 0 beyond the limit.

    >>> sober(torch.tensor([1.5, 1.5, 0.0]), torch.tensor([0.5, 0.8, 0.5]))
    tensor([ 1.4500,  0.0000, -0.0500])
    """
    return torch.where(entropy <= limit, A - weight * entropy, 0.0)


class GTPO(GRPO):
    """Spares what right and wrong share; drops the confused."""
    paper = "2508.03772"

    kl = beta = None
    drop_zero_variance = None    # the entropy term has a gradient here
    entropy_weight = knob(0.1, "advantage lost per nat of mean entropy", low=0)
    entropy_limit = knob(0.7, "completions with a higher mean entropy are dropped", low=0)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.first = None    # mean entropy of the first batch that it saw

    def advantages(self, group):
        """[R, N]"""
        A = group_advantages(group.rewards, self.scale)
        shape = *A.shape, -1
        weights = conflict_weights(group.completions.view(shape), group.mask.view(shape), A)
        _, entropy, mask = score(self.policy, group.tokens, group.start, self.temperature)
        entropy = ((entropy * mask).sum(1) / mask.sum(1)).to(A).view_as(A)
        self.first = entropy.mean().item() if self.first is None else self.first
        limit = self.entropy_limit if self.first < self.entropy_limit else math.inf
        A = sober(A, entropy, self.entropy_weight, limit)
        return (A[..., None] * weights).flatten(0, 1)

    def state(self):
        return {**super().state(), "first": self.first}

    def load_state(self, state):
        super().load_state(state)
        self.first = state["first"]
