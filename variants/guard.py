"""guard.py: GRPO-Guard, ratios with the same centre and spread at every step (2510.22319).

    l'_it = (l_it - mean_t) * min(1, spread / std_t)       with l = log pi - log pi_old
    loss  = - mean of min(exp(l') A, clip(exp(l')) A)

where mean_t and std_t are taken over the group's completions at token t, constants to autograd.
Once the policy has moved, the mean of l is below 0 (minus a KL), so that of two equal clips the
upper one binds too late; and at some tokens l spreads far wider than at others, so that one clip
does not fit all. This takes out both. While all ratios are 1 it is GRPO: it takes several updates a
batch to differ (here 2).

An inspired core: the paper is about flow models. There each denoising step is Gaussian, the bias of
the mean is known in closed form and is added, with the step's noise as scale, and 1/dt evens out
the steps' gradients. A token has no such form: the group's own mean and std do its job, the spread
is ours, it only ever shrinks (dividing by the std of ratios that are all 1 would be 0/0), and
tokens weigh as in GRPO.

Checked against: the documentation of verl-omni (docs/algo/grpo_guard.md), which has the Gaussian
form. Information used: the outcome.
"""
from cli import knob
from grpo import GRPO


def regulated(log_ratio, mask, spread=0.1):
    """Log-ratios [P, G, N] of log-ratios and mask [P, G, N]: centred over G at each token, with a
    std (n - 1) of at most `spread`.

    >>> import torch
    >>> l = torch.tensor([0.3, 0.1, -0.1, -0.3]).view(1, 4, 1)
    >>> regulated(l, torch.ones(1, 4, 1)).exp().flatten()
    tensor([1.1232, 1.0395, 0.9620, 0.8903])
    >>> regulated(l / 10 - 0.3, torch.ones(1, 4, 1)).flatten()    # a shift changes nothing
    tensor([ 0.0300,  0.0100, -0.0100, -0.0300])
    """
    n = mask.sum(dim=1, keepdim=True)
    mean = (log_ratio * mask).sum(dim=1, keepdim=True) / n.clamp(min=1)
    centred = (log_ratio - mean.detach()) * mask
    variance = centred.detach().square().sum(dim=1, keepdim=True) / (n - 1).clamp(min=1)
    return centred * (spread / variance.sqrt().clamp(min=spread))


class Guard(GRPO):
    """Ratios centred and scaled at each token, then clipped."""
    paper = "2510.22319"

    epochs = 2
    spread = knob(0.1, "the most that log-ratios spread at a token (std)", above=0)

    def log_ratio(self, group, logp):
        shape = len(group.prompts), group.size, -1
        log_ratio = super().log_ratio(group, logp)
        return regulated(log_ratio.view(shape), group.mask.view(shape), self.spread).flatten(0, 1)
