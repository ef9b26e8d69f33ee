"""dr_grpo.py: GRPO without its two divisions (Liu et al. 2503.20783, section 3.2).

    A_i = r_i - mean(r)                  GRPO divides by the group's std: very easy and very hard
                                         prompts weigh more
    loss = sum over tokens / constant    GRPO divides by each completion's length: long wrong ones
                                         are punished less

The constant is the longest room for a completion, times the number of rows. Both are knobs of GRPO
itself, so no box changes here. Information used: the outcome.

>>> from grpo import group_advantages
>>> from torch import tensor
>>> group_advantages(tensor([[1., 0., 0., 0.], [2., 0., 0., 0.]]), "none")   # twice, twice
tensor([[ 0.7500, -0.2500, -0.2500, -0.2500],
        [ 1.5000, -0.5000, -0.5000, -0.5000]])
"""
from grpo import GRPO


class DrGRPO(GRPO):
    """No division by the group's std, nor by length."""
    paper = "2503.20783"

    scale = "none"
    aggregate = "constant"
