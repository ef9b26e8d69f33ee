"""rlsp.py: RLSP, outcome and exploration are rewarded side by side (2502.06773). Inspired core.

    r = outcome - explore * S / L         L tokens written, S those of the solution
        -1/2 in place of the outcome if it never ended

Longer earns more, and less and less more: the simplest of the paper's exploration rewards, and the
one that its released runs have (1000 / tokens). So completions may be longer than the solution: the
room is --stretch times its length, and the outcome the answer, for a right end after detours. In
exact mass a detour is wrong: read `len` beside it.

The first stage of RLSP, demonstrations of reasoning where there are any, is another method's run:

    python finetune.py --init runs/base.pt --method sft --budget-gold 3000 --out runs/shown.pt
    python finetune.py --init runs/shown.pt --method rlsp

Lost: in the paper a model also grades the effort (a fifth of the reward in larger runs), and longer
is going back and trying again. Here no detour is of use, and a base that has seen none writes none.
GRPO stands for PPO. Control: --explore 0, or `--method grpo --reward answer`, from the same start.
Checked against: github GuanghaoYe/Emergence-of-Thinking, openrlhf/cli/orm_server_efficient.py.
Information used: the outcome and the length; gold solutions in a first stage, if there is one.
"""
import torch

from cli import knob
from grpo import GRPO
from tasks import EOS, TASKS


def exploration_reward(outcome, ended, length, explore=0.2):
    """Rewards [...] of outcomes [...], ended [...] (bool) and lengths [...] in solutions.

    >>> outcome, ended = torch.tensor([1., 1., 0.]), torch.tensor([True, True, False])
    >>> exploration_reward(outcome, ended, torch.tensor([1., 2., 2.]))
    tensor([ 0.8000,  0.9000, -0.6000])
    """
    return torch.where(ended, outcome, -0.5) - explore / length


class RLSP(GRPO):
    """Pays for the outcome and, apart from it, for length."""
    paper = "2502.06773"

    reward = "answer"
    explore = knob(0.2, "what a completion of the solution's length is docked", low=0)
    stretch = knob(2.0, "the room, in lengths of a solution", low=1)

    def room(self, task, cell):
        """Tokens a completion may have: --stretch solutions, as far as the context has space."""
        space = self.policy.config.context - TASKS[task].prompt_len(cell)
        return min(space, int(self.stretch * TASKS[task].solution_len(cell)))

    def rewards(self, group):
        outcome = super().rewards(group)
        ended = (group.completions == EOS).any(1).view_as(outcome)
        length = group.mask.sum(1).view_as(outcome) / TASKS[group.task].solution_len(group.cell)
        return exploration_reward(outcome, ended, length, self.explore)
