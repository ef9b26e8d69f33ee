"""gspo.py: Group Sequence Policy Optimization (Zheng et al. 2507.18071, eq. 5 to 7).

    s_i = exp(mean over t of (logp_it - old_logp_it)) = (pi(y_i) / pi_old(y_i)) ^ (1 / L_i)
    loss = - mean over i of min(s_i A_i, clip(s_i) A_i)

The reward is given to the sequence, so the ratio that corrects for the policy having moved is the
sequence's too, and a completion is clipped as a whole. While all ratios are 1 this is GRPO: it
takes several updates per batch to differ.

Departure: the paper's clip, 3e-4 and 4e-4, is for long completions of a large model; here it is
wider. Information used: the outcome.
"""
from grpo import GRPO


def sequence_log_ratio(log_ratio, mask):
    """[rows, N]: each completion's mean log-ratio, at each of its tokens (so that the loss's mean
    over tokens gives it back), from its tokens' log-ratios [rows, N].

    >>> from torch import tensor
    >>> sequence_log_ratio(tensor([[0.1, 0.3, 0.0]]), tensor([[1., 1., 0.]])).exp()
    tensor([[1.2214, 1.2214, 1.0000]])
    """
    length = mask.sum(1, keepdim=True).clamp(min=1)
    return (log_ratio * mask).sum(1, keepdim=True) / length * mask


class GSPO(GRPO):
    """One ratio per completion, clipped as a whole."""
    paper = "2507.18071"

    epochs = 2
    clip_low = 0.03
    clip_high = 0.04
    aggregate = None    # a completion is one term of the loss

    def log_ratio(self, group, logp):
        return sequence_log_ratio(super().log_ratio(group, logp), group.mask)
