"""hicra.py: HICRA, hierarchy-aware credit assignment (2509.03646).

    A_t = A + alpha |A|   on planning tokens        with A = r - mean, as in Dr. GRPO
    A_t = A               on execution tokens

A right plan earns more, a wrong one is blamed less: tokens that decide what to do are kept open for
longer than those that carry it out. At alpha 0 this is Dr. GRPO.

An inspired core: the paper finds planning tokens as frequent n-grams of text ("strategic grams"),
of which there are none here. What is nearest is known from the grammar: the symbol where a step
turns to its operation or edge, which is the first digit of a state (arithmetic) and the node that
an edge leads to (graph); all others copy or carry out. --planning random is the placebo: as many
columns of the completion, anew for every group.

Checked against: a public port of the authors' trainer to TRL, which quotes their code (alpha 0.2;
A (1 + alpha sign A), and there only for right completions that are longer than average, with
tokens of high entropy beside the grams); their repository has no code. The rest is from notes.
Information used: the outcome, and which columns of a solution have which role.
"""
import numpy as np
import torch

from cli import knob
from grpo import GRPO
from tasks import TASKS


def choices(step_ends, answer_width):
    """Columns of a solution where a step's choice is made, the last first, from a task's layout.

    >>> choices(np.array([5, 10]), 4)     # 4252 ; 2524 <eos>
    array([5, 0])
    >>> choices(np.array([3, 7]), 1)      # ; c f ; f m <eos>
    array([5, 2])
    """
    last = step_ends[-1] - 1 - answer_width
    return last - step_ends[0] * np.arange(len(step_ends))


def amplified(A, planning, alpha=0.2):
    """Advantages [R, N] of A [R] and planning [N] (0 or 1).

    >>> amplified(torch.tensor([1., -1.]), torch.tensor([1., 0.]))
    tensor([[ 1.2000,  1.0000],
            [-0.8000, -1.0000]])
    """
    return A[:, None] + alpha * A.abs()[:, None] * planning


class HICRA(GRPO):
    """More credit and less blame for tokens that choose."""
    paper = "2509.03646"

    scale = "none"
    aggregate = "constant"
    alpha = knob(0.2, "what a planning token gains", low=0)
    planning = knob("choice", "planning tokens: where a step chooses, or as many at random",
                    choices=("choice", "random"))

    def advantages(self, group):
        """[R, N]"""
        step_ends, _, answer_width = TASKS[group.task].layout(group.prompts)
        columns = choices(step_ends, answer_width)
        if self.planning == "random":
            columns = self.rng.choice(step_ends[-1], size=len(columns), replace=False)
        planning = torch.zeros(group.mask.shape[1], device=self.device)
        planning[columns] = 1.0
        return amplified(super().advantages(group), planning, self.alpha)
