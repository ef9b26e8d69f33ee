"""remax.py: REINFORCE with the greedy completion as baseline (Li et al. 2310.10505, algorithm 1).

    A_i = r_i - r(greedy completion of the same prompt)

One more completion per prompt, at temperature 0, is the whole baseline: no critic and no group needed, so it also works with
--group-size 1. Greedy completions count in the rollout budget. The loss sums over a completion's tokens, as REINFORCE does.
"""
from grpo import GRPO


class ReMax(GRPO):
    """The baseline is the reward of the greedy completion."""
    paper = "2310.10505"
    defaults = {"aggregate": "constant"}
    ignores = ("scale",)

    def advantages(self, group):
        greedy = self.sample(self.policy, (group.task, group.cell, group.prompts), group_size=1, temperature=0)
        return (group.rewards - self.rewards(greedy) - self.kl_cost(group)).flatten()

    def batch(self):
        return f"{self.prompts_per_step} prompts x ({self.group_size} completions + 1 greedy)"
