"""rft.py: rejection sampling fine-tuning, repeated: expert iteration (Yuan et al. 2308.01825; Anthony et al. 1705.08439).

    sample, keep what is right, fine-tune on it:  loss = - mean log-likelihood of the kept, one vote per solved prompt

Not a policy gradient: wrong samples are thrown away, and there is no baseline and no ratio. Duplicates are dropped, as in the
paper: a prompt solved 15 times in 16 weighs no more than one solved once. (With the trace as reward all right completions of
a prompt are the same string, so c of them with weight 1 / c each are exactly the one.)
"""
from grpo import GRPO, masked_mean


class RFT(GRPO):
    """Not policy gradient: maximum likelihood of the policy's own right samples, one vote per solved prompt."""
    paper = "2308.01825"
    ignores = ("scale", "clip_low", "clip_high", "kl", "beta", "drop_zero_variance")

    def advantages(self, group):
        """[R]: weights with a mean of 1 over all rows; all zeros if nothing is right."""
        right = (group.rewards == 1).float()
        votes = right / right.sum(1, keepdim=True).clamp(min=1)
        return (votes / votes.mean().clamp(min=1e-9)).flatten()

    def loss(self, group, logp):
        return -masked_mean(logp * group.advantages[:, None], group.mask, self.aggregate)

    def clip_fraction(self, group, logp):
        return 0.0
