"""dr_grpo.py: GRPO without its two divisions (Liu et al. 2503.20783, section 3.2).

    A_i = r_i - mean(r)                         GRPO divides by the group's std: very easy and very hard prompts weigh more
    loss = sum over tokens / constant           GRPO divides by each completion's length: long wrong ones are punished less

The constant is the room for a completion, times the number of rows. Both are flags of GRPO itself, so no box changes here.
"""
from grpo import GRPO


class DrGRPO(GRPO):
    """No division by the group's std, none by the completion's length."""
    paper = "2503.20783"
    defaults = {"scale": "none", "aggregate": "constant"}
