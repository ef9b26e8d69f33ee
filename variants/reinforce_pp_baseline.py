"""reinforce_pp_baseline.py: REINFORCE++ with the group's mean as baseline (Hu 2501.03262, the "-baseline" form).

    A = (r - mean of the group) / std of those differences over the whole batch

Between GRPO and REINFORCE++: the group is the baseline, the batch sets the scale. Unlike GRPO's std, one for all groups does
not blow up the prompts that are nearly always right or nearly always wrong.
"""
from dataclasses import replace

from grpo import group_advantages
from variants.reinforce_pp import ReinforcePP


class ReinforcePPBaseline(ReinforcePP):
    """Rewards less their group's mean, divided by the std over the whole batch."""

    def advantages(self, group):
        """[R, N]"""
        return super().advantages(replace(group, rewards=group_advantages(group.rewards, "none")))
