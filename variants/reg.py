"""reg.py: Reg-GRPO, regress on the advantage (DeepVideo-R1, 2506.07464, eq. 5 to 8).

    l_i  = log pi(y_i) - log pi_old(y_i)          of the whole completion
    z_i  = (l_i - mean) / std over the group      the advantage that the policy implies
    loss = mean over i of (z_i - A_i)^2           (+ beta * KL): no clip, no min

The policy that is best under a KL to the old one has l = r / lambda + constant, so that its
standardised l is the standardised reward. Unlike a policy gradient it knows when it is there: the
loss is 0 at z = A, and a completion that has risen far enough is let go.

Departure: the std divides only where it is more than --spread nats, and is a constant to autograd.
Before the first update every l is 0 and z undefined: with this z = (l - mean) / spread, and the
gradient is that of GRPO with one ratio per completion. So it takes several updates a batch to
differ (here 2). Left out, with what it brings: the paper's augmentation of too hard and too easy
prompts (hints and noise in videos), which gives groups without a contrast one.

Checked against: the paper's text, sections 3.2 and 3.3 (its formulas in words). Information used:
the outcome.
"""
import torch

from cli import knob
from grpo import GRPO


def regression_loss(log_ratio, A, spread=1.0):
    """Losses [P] of log-ratios and advantages [P, G], both per completion.

    >>> A = torch.tensor([[1.5, -0.5, -0.5, -0.5]])
    >>> regression_loss(torch.tensor([[3., -3., 0., 0.]]), A)    # z is 1.2247, -1.2247, 0, 0
    tensor([0.2753])
    >>> regression_loss(2 * A, A)
    tensor([0.])
    """
    centred = log_ratio - log_ratio.mean(dim=1, keepdim=True)
    std = log_ratio.detach().std(dim=1, keepdim=True)
    return (centred / std.clamp(min=spread) - A).square().mean(dim=1)


class Reg(GRPO):
    """Regresses the log-ratio on the advantage: no clip."""
    paper = "2506.07464"

    epochs = 2
    clip_low = clip_high = aggregate = None
    spread = knob(1.0, "nats of log-ratio to a unit of advantage, until they spread further",
                  above=0)

    def loss(self, group, logp):
        log_ratio = self.log_ratio(group, logp).sum(1).view_as(group.rewards)
        A = group.advantages.view_as(group.rewards)
        return regression_loss(log_ratio, A, self.spread).mean() + self.kl_penalty(group, logp)

    def clip_fraction(self, group, logp):
        return 0.0
