"""format_length.py: a reward that never looks at the answer (2505.19439, format and length).

    format = (ended + well formed) / 2
    length = 1 - (1 - x / p)^2              for x = tokens / Lmax up to p = 1/2
             1 - 2 ((x - p) / (1 - p))^2    above: 1 at p, -1 at the end of the room
    reward = format + length if it is well formed, else min(0, length)

The paper reaches much of what true rewards reach, for its base already knew how to be right. The
null control of this lab: what pass@k it gains is form, not knowledge.

Departures: the room is --stretch times the solution's length, so that the best length is the
solution's, as far as the model's context has space; the verifier's word on the form (steps of the
right number and kind) stands for the paper's tag and its parser.
Information used: the shape of the trace; the answer is never checked.
It does not reach 0.7: from an id mass of 0.55 it falls to 0.28 in 60 steps (0.00 at --lr 1e-3), for
nearly all rewards are equal from the start, and the others know nothing of the answer. With
--kl k3_loss --lr 1e-3 it ends at 0.52.
Checked against: the released code (math_reward.py: p = 0.5, both branches, the minimum).
"""
import torch

from cli import knob
from grpo import GRPO
from tasks import EOS, TASKS


def length_reward(x, p=0.5):
    """Reward of a length that is the share x of the room.

    >>> length_reward(torch.tensor([0.25, 0.5, 0.75, 1.0]))
    tensor([ 0.7500,  1.0000,  0.5000, -1.0000])
    """
    return torch.where(x <= p, 1 - (1 - x / p) ** 2, 1 - 2 * ((x - p) / (1 - p)) ** 2)


class FormatLength(GRPO):
    """Rewards form and length, never the answer: a control."""
    paper = "2505.19439"

    lr = 3e-4
    reward = None
    stretch = knob(2.0, "the room, in lengths of a solution", low=1)

    def room(self, task, cell):
        """Tokens a completion may have: --stretch times the solution's, if the context has them."""
        space = self.policy.config.context - TASKS[task].prompt_len(cell)
        return min(space, int(self.stretch * TASKS[task].solution_len(cell)))

    def rewards(self, group):
        share = group.mask.sum(1) / (self.stretch * TASKS[group.task].solution_len(group.cell))
        ended = (group.completions == EOS).any(1)
        parses = torch.from_numpy(group.verdict.well_formed).to(ended.device)
        form = (ended.float() + parses.float()) / 2
        length = length_reward(share)
        rewards = torch.where(parses, form + length, length.clamp(max=0))
        return rewards.view(len(group.prompts), -1)
