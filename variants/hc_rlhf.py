"""hc_rlhf.py: HC-RLHF, reward under a pessimistic bound on a cost (2506.08266). Inspired core.

    U      = mean + t(n) s / sqrt(n)         upper bound on the mean cost, wrong in `fail` of cases
    bound  = mean + k s,   k = t(n) / sqrt(n) + t(n') / sqrt(n')   what training sees: more careful
    reward = r - m (c + k (c^2 - 2 c mean) / (2 s))                down the gradient of that bound
    log m <- log m + multiplier_lr * (bound - threshold)           a Lagrange multiplier

t is Student's quantile, n the completions of a step, n' the size of a later test on data unseen in
training: if U > threshold there, the method returns "no solution".

A cost c is 1 where the form is wrong: not ended, wrong number or kind of steps. Each step's prompts
are new to the policy that answers them, so that they are the test: column `safe`, whose last row is
the verdict. Lost: learned models of reward and cost, and that the two conflict. Here what is right
is well formed; on id costs are near 0 and this is GRPO (id mass 0.55 to 0.90, GRPO's is 0.91); on
edge the cost is a reward for form, met within 20 steps, while id is forgotten (0.01 after 40).

Longer than most: a bound, its gradient, and a test. Departures: mean and s are those of the step
before; in the test a prompt is one number, for its completions are not independent; a failed test
is reported, and the checkpoint stays; the release's rate of log m has a factor m more, which runs
off within a few steps where a cost stays high.
Control: `--pessimism 0 --multiplier-lr 0`, GRPO with the reward r - c and no further rule.
Checked against: github UMass-SCALAR-Lab/HC-RLHF, algorithms/reinforce_lag/trainer.py (bound, price,
multiplier; fail 0.1, n' 1000, rate 0.1 or 0.01) and trainers/reinforce_trainer.py (the test).
Information used: the outcome, and the shape of the trace.
"""
import math
from statistics import NormalDist

import torch

from cli import knob
from grpo import GRPO
from variants._steps import well_formed


def width(n, fail):
    """t(n) / sqrt(n): so many standard deviations above a mean of n is its upper bound. Student's
    quantile is Fisher's expansion.

    >>> U = 0.04 + width(100, fail=0.05) * 0.2
    >>> round(U, 4), U <= 0.08, U <= 0.05
    (0.0732, True, False)
    """
    z, f = NormalDist().inv_cdf(1 - fail), 1 / (n - 1)
    t = (z + (z ** 3 + z) / 4 * f + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96 * f ** 2
         + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384 * f ** 3)
    return t / math.sqrt(n)


class HCRLHF(GRPO):
    """Reward under a cautious bound on malformed output."""
    paper = "2506.08266"
    columns = ("bound", "safe", "multiplier")

    threshold = knob(0.05, "mean cost that is allowed", low=0, high=1)
    fail = knob(0.1, "probability with which a bound may be wrong", above=0, high=0.5)
    safety_size = knob(1000, "size of the safety test that training prepares for", low=2)
    pessimism = knob(1.0, "weight of the bound's width in training; 0: the mean cost", low=0)
    multiplier_lr = knob(0.1, "rate of the multiplier, which starts at 1", low=0, high=10)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.memory = {"multiplier": 1.0, "mean": 0.0, "s": 0.0, "k": 0.0}

    def rewards(self, group):
        costs, m = 1 - well_formed(group), self.memory
        slope = m["k"] * (costs.square() - 2 * costs * m["mean"]) / (2 * m["s"] + 1e-6)
        return super().rewards(group) - m["multiplier"] * (costs + slope)

    def normalise(self, groups):
        """The multiplier follows the bound of the whole step."""
        costs = torch.cat([1 - well_formed(group).flatten() for group in groups])
        m = self.memory
        m["mean"], m["s"] = costs.mean().item(), costs.std().item()
        widths = [width(n, self.fail) for n in (len(costs), self.safety_size)]
        m["k"] = self.pessimism * sum(widths)
        excess = m["mean"] + m["k"] * m["s"] - self.threshold
        m["multiplier"] *= math.exp(self.multiplier_lr * excess)

    def numbers(self, groups):
        costs = torch.cat([1 - well_formed(group).mean(1) for group in groups])
        bound = (costs.mean() + width(len(costs), self.fail) * costs.std()).item()
        return {**super().numbers(groups), "bound": bound, "safe": float(bound <= self.threshold),
                "multiplier": self.memory["multiplier"]}

    def state(self):
        return {**super().state(), "memory": dict(self.memory)}

    def load_state(self, state):
        super().load_state(state)
        self.memory = dict(state["memory"])
