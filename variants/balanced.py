"""balanced.py: prompts that the base gets right about half of the time. A control of the study.

GRPO's signal comes from groups with both right and wrong samples. Difficulty filters estimate that
from samples (as DAPO, 2503.14476, does by resampling, at a cost in rollouts); here it is known: the
reference's exact mass Q. Of `--pool` times as many prompts those with Q closest to 1/2 are kept.

Information used: the solutions (to choose prompts; no rollout is spent on it).
"""
import numpy as np

from cli import knob
from grpo import GRPO
from measure import log_mass
from tasks import TASKS


def closest_to_half(mass, n):
    """Indices [n] of those of the masses [m] that are closest to 1/2, the closest first.

    >>> closest_to_half(np.array([0.01, 0.6, 0.99, 0.45]), 2)
    array([3, 1])
    """
    return np.argsort(np.abs(mass - 0.5), kind="stable")[:n]


class Balanced(GRPO):
    """Prompts whose mass under the base is closest to half."""
    paper = "control; cf. 2503.14476"

    pool = knob(4, "draw this many times the prompts, and keep the best balanced", low=1, high=1000)

    def draw(self, task, cell, n):
        prompts = super().draw(task, cell, self.pool * n)
        solutions = TASKS[task].accepted(prompts)
        mass = np.exp(log_mass(self.reference, prompts, solutions, self.temperature))
        return prompts[closest_to_half(mass, n)]
