"""passk.py: pass@k training (Chen et al. 2508.10751, its analytical form).

The reward is that of a random subset of k of the group's n samples: 1 if one of them is right. With
c right ones,

    R = 1 - C(n - c, k) / C(n, k),  s = sqrt(R (1 - R))              mean and std of that reward
    A_right = (1 - R) / s                                            every subset with it succeeds
    A_wrong = (1 - R - C(n - c - 1, k - 1) / C(n - 1, k - 1)) / s    unless its companions are wrong

Once n - k + 1 samples are right, every subset succeeds and the prompt no longer pulls: sharpening
stops there. Departure: a reward other than 1 counts as wrong. Information used: the outcome.
"""
from math import comb

import torch

from cli import CommandError, knob
from grpo import GRPO, group_advantages


def subset_advantages(n, c, k):
    """(A_right, A_wrong) of subsets of k, with c of n samples right; zeros where all subsets get
    the same reward.

    >>> [round(A, 4) for A in (*subset_advantages(4, 1, 2), *subset_advantages(8, 4, 4))]
    [1.0, -0.3333, 0.1204, -0.1204]
    >>> [round(A, 4) for A in (*subset_advantages(8, 1, 4), *subset_advantages(8, 5, 4))]
    [1.0, -0.1429, 0.0, 0.0]
    """
    R = 1 - comb(n - c, k) / comb(n, k)
    if R in (0, 1):
        return 0.0, 0.0
    s = (R * (1 - R)) ** 0.5
    return (1 - R) / s, (1 - R - comb(n - c - 1, k - 1) / comb(n - 1, k - 1)) / s


class PassK(GRPO):
    """Rewards subsets of k samples: a covered prompt rests."""
    paper = "2508.10751"

    scale = None
    k = knob(4, "samples in a subset; fewer than --group-size", low=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        if self.k >= self.group_size:  # the whole group is one subset: nothing to compare it with
            raise CommandError(f"--k {self.k}: a subset must be smaller than its group, below "
                               f"--group-size {self.group_size}")

    def advantages(self, group):
        right = group.rewards == 1
        pairs = [subset_advantages(group.size, c, self.k) for c in right.sum(1).tolist()]
        A_right, A_wrong = group.rewards.new_tensor(pairs).T.unsqueeze(2)
        kl_cost = group_advantages(self.kl_cost(group), "none")
        return (torch.where(right, A_right, A_wrong) - kl_cost).flatten()
