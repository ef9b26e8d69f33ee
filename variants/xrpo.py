"""xrpo.py: XRPO, explore where the estimate is loose, sharpen what is new (2510.06672).

Rollouts: a few of every prompt, then in --rounds rounds one at a time to the highest

    h(n) - h(n + 1) + bonus * sqrt(log(1 + T) / n)       h(n) = t(0.975, n - 1) * s / sqrt(n)

h is the half-width of the interval for a prompt's mean reward after n rollouts, s their standard
deviation, T all rollouts so far: what the next one tells, and a share for who had few.
Advantages: a right completion less likely than its group's mean gets more, at most half more:

    novelty = exp(mean log-prob - the group's mean of it)
    A+ = A + min(max(lam (1 - novelty), 0), cap * A)

Departures: no seeding (unsolved prompts shown with two solved ones: their length has no room here,
and pretraining never showed such a context). With one accepted string right completions of a
prompt are all alike, so that the sharpening tells prompts apart by how likely their answer is.
Information used: the outcome, and the policy's own log-probs.
Checked against: the paper's abstract and a review that quotes h(n); the form and the size of the
bonus are ours, the sharpening is from notes on the paper's text.
"""
import numpy as np
import torch

from cli import knob
from grpo import GRPO, group_advantages
from variants._rollouts import uneven


def half_width(n, s):
    """Half-width of the 95 % t-interval of a mean, from n samples of standard deviation s. The
    quantile is Fisher's expansion, 1 % off at n = 4.

    >>> shrink = [half_width(n, 1.0) - half_width(n + 1, 1.0) for n in (4, 8, 16)]
    >>> [round(float(x), 3) for x in shrink]
    [0.341, 0.067, 0.019]
    """
    z, f = 1.959964, 1 / (n - 1)
    t = (z + (z ** 3 + z) / 4 * f + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96 * f ** 2
         + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384 * f ** 3)
    return t * s / np.sqrt(n)


def sharpened(advantages, logp, right, lam=2.5, cap=0.5):
    """Advantages [P, G] with the bonus for what is right and unlikely; logp [P, G] is each
    completion's mean log-prob, right [P, G] bool.

    >>> A, right = torch.tensor([[1.5, -0.5]]), torch.tensor([[True, False]])
    >>> sharpened(A, torch.tensor([[-2.5, -1.5]]), right)
    tensor([[ 2.2500, -0.5000]])
    """
    novelty = (logp - logp.mean(1, keepdim=True)).exp()
    bonus = torch.min((lam * (1 - novelty)).clamp(min=0), cap * advantages)
    return torch.where(right & (advantages > 0), advantages + bonus, advantages)


class XRPO(GRPO):
    """Rollouts where rewards are uncertain; novelty is paid."""
    paper = "2510.06672"

    pilot = knob(4, "rollouts of every prompt before the others are given out", low=3)
    rounds = knob(2, "rounds in which the others are given out", low=1)
    bonus = knob(0.1, "weight of the bonus for prompts that had few rollouts", low=0)
    lam = knob(2.5, "strength of the sharpening; 0: none", low=0)

    def experience(self, n):
        def priority(mean, counts):
            s = np.sqrt(mean * (1 - mean) * counts / (counts - 1))  # of zeros and ones
            shrink = half_width(counts, s) - half_width(counts + 1, s)
            return shrink + self.bonus * np.sqrt(np.log(1 + counts.sum()) / counts)
        return uneven(self, n, priority, self.pilot, self.rounds)

    def advantages(self, group):
        logp = (group.old_logp.sum(1) / group.mask.sum(1)).view_as(group.rewards)
        advantages = group_advantages(group.rewards, self.scale)
        advantages = sharpened(advantages, logp, group.rewards == 1, self.lam)
        return (advantages - group_advantages(self.kl_cost(group), "none")).flatten()
