"""rloo.py: REINFORCE, leave one out (Ahmadian et al. 2402.14740).

    A_i = r_i - mean of the other r_j = G / (G - 1) (r_i - mean(r))

The baseline is what the rest of the group got, so it does not depend on the sample it judges: the
gradient is unbiased, with no std to divide by. And the whole completion is one action: its ratio is
the product of its tokens' ratios, where GRPO has one for every token.

Information used: the outcome.
"""
from grpo import GRPO


def leave_one_out(x):
    """x [P, G] less the mean of the others in its group.

    >>> from torch import tensor
    >>> leave_one_out(tensor([[1., 0., 0., 0.]]))
    tensor([[ 1.0000, -0.3333, -0.3333, -0.3333]])
    """
    G = x.shape[1]
    return (x - x.mean(dim=1, keepdim=True)) * G / (G - 1)


class RLOO(GRPO):
    """The baseline is the mean of the other rewards."""
    paper = "2402.14740"

    scale = None
    aggregate = None    # a completion is one term of the loss

    def advantages(self, group):
        all_equal = self.zero_variance(group)[:, None]   # exact zeros, whatever rounding gives
        reward = leave_one_out(group.rewards).masked_fill(all_equal, 0.0)
        return (reward - leave_one_out(self.kl_cost(group))).flatten()

    def log_ratio(self, group, logp):
        """[R, N]: the whole completion's log-ratio, at each of its tokens."""
        return super().log_ratio(group, logp).sum(1, keepdim=True) * group.mask
