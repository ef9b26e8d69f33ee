"""cures.py: CurES, rollouts that lower the variance of the gradient (2510.01037). Inspired core.

    p      = (solved + 1) / (tried + 2)              the mean of a prompt's Beta(1, 1) posterior
    chosen with weight exp(sqrt(p (1 - p)) / tau)
    rollouts, if chosen, in proportion to sqrt(p (1 - p)), the reward's standard deviation

By design it avoids what is nearly never solved: beside knapsack and xrpo a negative control for
reach. A few tries are made of every prompt; the others go to weight x deviation, which is what
each prompt would have on average if it were chosen first and sampled then.

Departures: choosing and sampling are this one division. The paper's deviation also has the norms
of the gradients of right and wrong samples, which are taken for equal here; its posteriors live
for an iteration over a fixed set of prompts, ours for a step, as no prompt comes twice.
Information used: the outcome.
Checked against: the released code. Its trainer's sampler has the square root and the posterior's
mean, but tau = 100 (solved + 1), which is nearly uniform; another, not used there, has p (1 - p)
and tau 0.1. Here: the square root, and 0.1.
"""
import numpy as np

from cli import knob
from grpo import GRPO
from variants._rollouts import uneven


def posterior_mean(mean, tried):
    """Mean of the posterior of a success rate after that many tries with that mean.

    >>> round(float(posterior_mean(1 / 8, 8)), 4)
    0.2
    """
    return (mean * tried + 1) / (tried + 2)


def weight(p, tau):
    """Weight, not normalised, with which a prompt of success rate p is chosen.

    >>> (weight(np.array([0.5, 0.0]), tau=1.0)).round(4)
    array([1.6487, 1.    ])
    """
    return np.exp(np.sqrt(p * (1 - p)) / tau)


class CurES(GRPO):
    """Rollouts go to prompts solved about half of the time."""
    paper = "2510.01037"

    pilot = knob(4, "rollouts of every prompt, from which its success rate is estimated", low=2)
    tau = knob(0.1, "temperature of the choice; large: all prompts alike", above=0)

    def experience(self, n):
        def priority(mean, counts):
            p = posterior_mean(mean, min(self.pilot, self.group_size))
            return weight(p, self.tau) * np.sqrt(p * (1 - p)) / (counts + 1)
        return uneven(self, n, priority, self.pilot)
