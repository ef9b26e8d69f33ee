"""cispo.py: CISPO, clip the weight and not the gradient (MiniMax-M1, 2506.13585, eq. 4 and 5).

    loss = - mean over tokens of sg(min(ratio, cap)) * A * logp        sg: no gradient through it

PPO's clip silences a token that has moved too far; those are often the rare ones that turn a
solution round. Here such a token keeps its gradient, with a bounded importance weight. The cap is
1 + --clip-high = 5; there is no lower clip, as in the paper's experiments. While all ratios are 1
this is GRPO with a token mean: it takes several updates per batch to differ.

Information used: the outcome.
"""
from grpo import GRPO
from model import masked_mean


def capped_weight(log_ratio, cap):
    """Importance weights [rows, N] of log-ratios [rows, N], at most cap; constants to autograd.

    >>> from torch import tensor
    >>> capped_weight(tensor([[0.1, 1.0, 6.0]]).log(), cap=5.0)
    tensor([[0.1000, 1.0000, 5.0000]])
    """
    return log_ratio.exp().clamp(max=cap).detach()


class CISPO(GRPO):
    """Clips the importance weight, never the gradient."""
    paper = "2506.13585"

    epochs = 2
    aggregate = "token"
    clip_high = 4.0
    clip_low = None    # there is no lower clip

    def loss(self, group, logp):
        A = group.advantages.view(len(group.tokens), -1)
        weight = capped_weight(self.log_ratio(group, logp), 1 + self.clip_high)
        return -self.mean(weight * A * logp, group) + self.kl_penalty(group, logp)

    def clip_fraction(self, group, logp):
        """Share of tokens whose weight is at the cap."""
        capped = self.log_ratio(group, logp).exp() > 1 + self.clip_high
        return masked_mean(capped.float(), group.mask, "token").item()
