"""balanced.py: prompts that the base gets right about half of the time. A control of the study, after what difficulty filters do.

GRPO's signal comes from groups with both right and wrong samples. Filters estimate a prompt's difficulty from samples (as DAPO,
2503.14476, does by resampling, at a cost in rollouts); here it is known: the reference's exact mass Q. Of `--pool` times as many prompts
those are kept whose Q is closest to 1/2. No rollout is spent on choosing, but it does see the solutions.
"""
import numpy as np

import cli
from evaluate import log_mass
from grpo import GRPO
from tasks import TASKS


class Balanced(GRPO):
    """Prompts whose exact mass under the base is closest to one half, out of a larger draw."""
    paper = "control; cf. 2503.14476"
    flags = {"pool": dict(type=cli.count, default=4, metavar="M", help="draw this many times the prompts, and keep the best balanced")}

    def problems(self):
        task, cell = self.tasks[self.rng.integers(len(self.tasks))]
        prompts = TASKS[task].sample(cell, self.pool * self.prompts_per_step, self.rng, split="train").prompts
        mass = np.exp(log_mass(self.reference, prompts, TASKS[task].solutions(prompts), self.temperature))
        return task, cell, prompts[np.argsort(np.abs(mass - 0.5), kind="stable")[:self.prompts_per_step]]
