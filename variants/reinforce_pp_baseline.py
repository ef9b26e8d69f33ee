"""reinforce_pp_baseline.py: REINFORCE++ with the group's mean as baseline (Hu 2501.03262).

    A = (d - mean) / std over all tokens of the step, where d = r - mean of the group

Between GRPO and REINFORCE++: the group is the baseline, the batch sets the scale. Unlike GRPO's
std, one for all groups does not blow up prompts that are nearly always right or nearly always
wrong. The mean over tokens is not quite 0 where lengths differ, so a group without a contrast has a
small gradient here too. Information used: the outcome.

>>> from torch import ones, tensor
>>> from variants.reinforce_pp import whiten
>>> rewards = group_advantages(tensor([[1., 0., 0., 0.], [1., 1., 0., 0.]]), "none")
>>> whiten([rewards], [ones(2, 4)])[0]
tensor([[ 1.6036, -0.5345, -0.5345, -0.5345],
        [ 1.0690,  1.0690, -1.0690, -1.0690]])
"""
from dataclasses import replace

from grpo import GRPO, group_advantages
from variants.reinforce_pp import ReinforcePP


class ReinforcePPBaseline(ReinforcePP):
    """Less the group's mean, over the batch's std."""

    group_size = GRPO.group_size    # the group is a baseline again: at least two

    def advantages(self, group):
        """[R, N]"""
        centred = group_advantages(group.rewards, "none")
        return super().advantages(replace(group, rewards=centred))
