"""rlsp.py: RLSP, a start on demonstrations, then RL with a reward for thinking longer (2502.06773).

    stage 1   --sft-steps of imitation of gold solutions (alternate.py, one round)
    stage 2   GRPO with    r = outcome - explore / length

The second term stands apart from the outcome: a long attempt is worth more than a short one, right
or wrong, so that the policy searches before it answers. At --explore 0 this is alternate.py.

An inspired core: here the right solution has one length and the room ends with it, so there is no
longer way to think; all that the term can teach is not to stop early. The paper's 1000 / length is
for thousands of tokens: ours, 1 / length, is as large on a solution of one step. Its mix with a
judge's mark of the thoughts (20 %) is left out. Controls: `sft` at equal gold, `alternate`.
Information used: the outcome, the length, and gold solutions in the first stage.
Checked against: the released code (length_penalty / reasoning length taken from the outcome).

>>> explored(torch.tensor([[1., 0., 0.]]), torch.tensor([[10., 10., 5.]]), 1.0)
tensor([[ 0.9000, -0.1000, -0.2000]])
"""
import torch

from cli import knob
from variants.alternate import Alternate


def explored(rewards, length, explore):
    """Rewards [P, G] less what is taken for short completions, of lengths [P, G] in tokens."""
    return rewards - explore / length


class RLSP(Alternate):
    """A start on gold, then RL with a reward for length."""
    paper = "2502.06773"

    rounds = rl_steps = data = None
    explore = knob(1.0, "what a completion of one token loses; of n tokens the n-th part", low=0)

    def rewards(self, group):
        rewards = super().rewards(group)
        if self.is_tuning:
            return rewards
        return explored(rewards, group.mask.sum(1).view_as(rewards), self.explore)
