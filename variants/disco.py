"""disco.py: DisCO, scores in place of ratios (Li et al. 2505.12366).

    s_i  = mean over t of log pi(y_it)                           the score, "log-L"
    J    = mean over right i of (s_i - tau log mean over wrong j of exp(s_j / tau))
    loss = - J + penalty / 2 * max(KL - delta, 0)^2              KL from the sampler, per token

Right completions up, wrong ones down, and of these the likely ones most (a soft maximum: the less
tau, the harder). GRPO is such a contrast too, times sqrt(p (1 - p)) of the pass rate p: it neglects
hard and easy prompts, and this does not. A trust region in place of the clip: nothing is lost while
KL < delta. It binds from the second update a batch on (here 2). Groups without a contrast are
skipped; a reward other than 1 counts as wrong.

Departures: the KL is that of a cell's prompts with a contrast, not of the whole batch. The release
writes x / sg(x) for log x, which has the same gradient, not the same value; here it is the log.

Checked against: github Optimization-AI/DisCO, verl/verl/trainer/ppo/core_algos.py (disco_logL) and
scripts/train (tau 10, penalty 1000, delta 0.0001). Information used: the outcome.
"""
import math

import torch

from cli import knob
from grpo import GRPO, group_advantages
from model import masked_mean


def contrast(scores, right, tau=10.0):
    """Objective [P] of scores [P, G] and right [P, G] (bool); 0 where there is no contrast.

    >>> scores, right = torch.tensor([[-0.5, -1.0, -0.2]]), torch.tensor([[True, False, False]])
    >>> [round(contrast(scores, right, tau).item(), 4) for tau in (1, 10)]
    [0.022, 0.092]
    """
    n_right, n_wrong = right.sum(1), (~right).sum(1)
    mixed = (n_right > 0) & (n_wrong > 0)
    up = (scores * right).sum(1) / n_right.clamp(min=1)
    down = (scores / tau).masked_fill(right & mixed[:, None], -math.inf).logsumexp(1)
    down = tau * (down - n_wrong.clamp(min=1).log())
    return torch.where(mixed, up - down, 0.0)


class DisCO(GRPO):
    """Right scores up, wrong ones down; KL as a constraint."""
    paper = "2505.12366"

    epochs = 2
    scale = aggregate = clip_low = clip_high = kl = beta = None
    tau = knob(10.0, "softness of the maximum over wrong completions", above=0)
    penalty = knob(1000.0, "price of a KL beyond --delta", low=0)
    delta = knob(1e-4, "KL from the sampler, per token, that costs nothing", low=0)

    def advantages(self, group):
        """[R]: signs alone; the loss weighs them."""
        return group_advantages((group.rewards == 1).float(), "none").flatten()

    def loss(self, group, logp):
        scores = (logp * group.mask).sum(1) / group.mask.sum(1).clamp(min=1)
        objective = contrast(scores.view_as(group.rewards), group.rewards == 1, self.tau).mean()
        excess = (self.kl_from_sampler(group, logp) - self.delta).clamp(min=0)
        return -objective + self.penalty / 2 * excess.square()

    def kl_from_sampler(self, group, logp):
        live = group.mask * (group.advantages != 0)[:, None]
        return masked_mean(-self.log_ratio(group, logp), live, "token")

    def clip_fraction(self, group, logp):
        """1 where the constraint is violated."""
        return float(self.kl_from_sampler(group, logp) > self.delta)
