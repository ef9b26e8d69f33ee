"""knapsack.py: Knapsack RL, rollouts where they are worth most (2509.25849).

A prompt that is solved with probability p is an item; N rollouts of it cost N and bring

    value(N, p) = [1 - p^N - (1 - p)^N] * p (1 - p)^2
                  chance of a contrast    what a step on it gains in p, about

The step's budget is filled with the most valuable rollouts, at least --pilot and at most --most per
prompt. The bracket is concave in N, so that taking the best next one is exact. Until both outcomes
have come it takes 1 / p + 1 / (1 - p) - 1 rollouts: 3 at p = 1/2, 100 at p = 0.01.
At p = 0 the value is 0, however large N: what is left over goes there, and at p = 1 nothing does.

Departures: the paper knows p from the prompt's last epoch. Here no prompt comes twice, and p is
the mean of --pilot rollouts, part of the same budget and of the same group; the paper's minimum
of 2 is then the pilot. A group chosen by its own first samples is slightly biased.
Information used: the outcome.
Checked against: the paper's abstract and two summaries (the product, p (1 - p)^2, budgets up to
93); bounds and the rules at p = 0 and 1 from notes only.
"""
import numpy as np

from cli import knob
from grpo import GRPO
from variants._rollouts import uneven


def value(N, p):
    """Value of N rollouts of a prompt that is solved with probability p; they broadcast.

    >>> value(8, np.array([1 / 2, 1 / 3, 0.05, 0.01])).round(4)
    array([0.124 , 0.1423, 0.0152, 0.0008])
    """
    contrast = 1 - p ** N - (1 - p) ** N
    return contrast * p * (1 - p) ** 2


def next_worth(mean, counts, most):
    """[P]: what one rollout more is worth at these success rates and counts [P]; above 0 where it
    has value, just above where p = 0, below where there is none or a prompt has `most`.

    >>> worth = next_worth(np.array([0.5, 0.0, 1.0, 0.5]), np.array([4, 4, 4, 9]), most=9)
    >>> [int(i) for i in np.argsort(-worth)]
    [0, 1, 2, 3]
    """
    gain = value(counts + 1.0, mean) - value(counts, mean)
    gain = np.where(mean == 0, 1e-9 / counts, gain)
    gain = np.where(mean == 1, -1e-9 * counts, gain)
    return np.where(counts >= most, -counts, gain)


class Knapsack(GRPO):
    """Rollouts go where a contrast is likely and worth most."""
    paper = "2509.25849"

    pilot = knob(4, "rollouts of every prompt, from which its success rate is estimated", low=2)
    most = knob(128, "rollouts of one prompt, at most", low=2)

    def experience(self, n):
        def priority(mean, counts):
            return next_worth(mean, counts, self.most)
        return uneven(self, n, priority, self.pilot)
