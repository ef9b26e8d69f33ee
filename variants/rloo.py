"""rloo.py: REINFORCE, leave one out (Ahmadian et al. 2402.14740).

    A_i = r_i - mean of the other r_j = G / (G - 1) (r_i - mean(r))

The baseline is what the rest of the group got, so it does not depend on the sample it judges: the gradient is unbiased,
with no std to divide by. And the whole completion is one action: its ratio is the product of its tokens' ratios, where GRPO
has one for every token.
"""
from grpo import GRPO


class RLOO(GRPO):
    """The baseline is the mean of the group's other rewards; a completion is one action."""
    paper = "2402.14740"
    defaults = {"scale": "none"}
    ignores = ("scale", "aggregate")

    def advantages(self, group):
        G = group.size
        return super().advantages(group) * G / max(1, G - 1)  # the KL's share too: it is left-one-out like the reward

    def log_ratio(self, group, logp):
        """[R, N]: the whole completion's log-ratio, at each of its tokens."""
        return super().log_ratio(group, logp).sum(1, keepdim=True) * group.mask
