"""gspo.py: Group Sequence Policy Optimization (Zheng et al. 2507.18071, equations 5 to 7).

    s_i = exp(mean over t of (logp_it - old_logp_it)) = (pi(y_i) / pi_old(y_i)) ^ (1 / L_i)
    loss = - mean over i of min(s_i A_i, clip(s_i) A_i)

The reward is given to the sequence, so the ratio that corrects for the policy having moved is the sequence's too, and a
completion is clipped as a whole. While all ratios are 1 this is GRPO: it takes several updates per batch to differ. The
paper's clip, 3e-4 and 4e-4, is for long completions of a large model; here the default is wider.
"""
from grpo import GRPO


class GSPO(GRPO):
    """One ratio per completion, the geometric mean of its tokens' ratios, clipped as a whole."""
    paper = "2507.18071"
    defaults = {"epochs": 2, "clip_low": 0.03, "clip_high": 0.04}
    ignores = ("aggregate",)

    def log_ratio(self, group, logp):
        """[R, N]: the completion's mean log-ratio, at each of its tokens, so that the loss's mean over tokens gives it back."""
        total = super().log_ratio(group, logp).sum(1, keepdim=True)
        return total / group.mask.sum(1, keepdim=True).clamp(min=1) * group.mask
