"""passk.py: pass@k training (Chen et al. 2508.10751, its analytical form).

The reward is that of a random subset of k of the group's n samples: 1 if one of them is right. With c right ones,

    R = 1 - C(n - c, k) / C(n, k),  s = sqrt(R (1 - R))                       mean and std of a subset's reward
    A_right = (1 - R) / s                                                     each subset with this sample in it succeeds
    A_wrong = (1 - R - C(n - c - 1, k - 1) / C(n - 1, k - 1)) / s             unless its k - 1 companions are all wrong

Once n - k + 1 samples are right, every subset succeeds and the prompt no longer pulls: sharpening stops there.
"""
from math import comb

import torch

import cli
from grpo import GRPO


class PassK(GRPO):
    """The advantage of being in a subset of k samples of which one is right: a covered prompt stops pulling."""
    paper = "2508.10751"
    ignores = ("scale",)
    flags = {"k": dict(type=cli.count, default=4, metavar="K", help="samples in a subset; fewer than --group-size")}

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.k >= self.group_size:  # the whole group is one subset: nothing to compare it with
            raise cli.CommandError(f"--k {self.k}: a subset must be smaller than its group, below --group-size {self.group_size}")

    def advantages(self, group):
        right = group.rewards == 1
        values = [self.pair(group.size, c) for c in right.sum(1).tolist()]  # of a right sample and of a wrong one, per prompt
        A = torch.where(right, *group.rewards.new_tensor(values).T.unsqueeze(2))
        return (A - self.kl_cost(group)).flatten()

    def pair(self, n, c):
        """(A_right, A_wrong) with c of n samples right; zeros where all subsets get the same."""
        R = 1 - comb(n - c, self.k) / comb(n, self.k)
        if R in (0, 1):
            return 0.0, 0.0
        s = (R * (1 - R)) ** 0.5
        return (1 - R) / s, (1 - R - comb(n - c - 1, self.k - 1) / comb(n - 1, self.k - 1)) / s
