"""reinforce_pp.py: REINFORCE++ (Hu 2501.03262).

    return_t = r - beta * sum of the log-ratios to the reference from t on       (--kl k1_reward; without it, r at every token)
    A_t = (return_t - mean) / std            over all tokens of the whole batch

There is no group in it: the baseline is the batch. So in an all-wrong group every sample has the same negative advantage
as long as others in the batch succeed, and in an all-right one the same positive one.
"""
from grpo import GRPO, whiten


class ReinforcePP(GRPO):
    """Returns whitened over the whole batch: the batch is the baseline, not the group."""
    paper = "2501.03262"
    defaults = {"aggregate": "token"}
    ignores = ("scale",)

    def advantages(self, group):
        """[R, N]"""
        returns = self.token_rewards(group).flip(1).cumsum(1).flip(1)  # at t, the sum of what is still to come
        return whiten(returns, group.mask)
