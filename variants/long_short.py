"""long_short.py: Train Long, Think Short: a token budget that shrinks (2508.08940, sections 3.3-4).

    r      = 0.6 right + 0.3 R_len + 0.1 well-formed
    R_len  = L / B                for L <= B: a ramp up to the budget,
             1 - (L - B) / B      for B < L <= 2 B, then 0
    B(t)   = max(1, B0 gamma^floor(t / T))       in tokens, after t steps

First room to find solutions, then pressure to compress them; each length but B costs something. 0.6
and 0.3 are the paper's weights with the stress on correctness (it also runs 0.3 and 0.6).

Here a right trace has one length, so there is nothing to compress, and the budget pays wrong ones
for their length: this measures what a length reward costs. By default it starts at 32, twice the
longest solution on arithmetic's id, and ends a run of 60 steps at 11, below it. Departures: the
budget is not in the prompt; the weight of the format is ours, and its form is the verifier's
well_formed; B is not rounded (the paper's 87 is 256 * 0.7^3 = 87.8).

Checked against: the paper's text (v1). Information used: the outcome, lengths and the format.
"""
import torch

from cli import knob
from grpo import GRPO


def budget(step, start, gamma, every):
    """Tokens that a completion should have after so many steps.

    >>> [round(budget(step, start=64, gamma=0.7, every=100), 2) for step in (0, 99, 100, 200)]
    [64.0, 64.0, 44.8, 31.36]
    """
    return max(1.0, start * gamma ** (step // every))


def length_reward(length, B):
    """[...] in 0 .. 1 of lengths [...]: 1 at the budget B, 0 from twice the budget on.

    >>> length_reward(torch.tensor([16., 32., 48., 70.]), 32.0)
    tensor([0.5000, 1.0000, 0.5000, 0.0000])
    """
    return (1 - (length - B).abs() / B).clamp(min=0)


class LongShort(GRPO):
    """Rewards a length that shrinks as it trains."""
    paper = "2508.08940"
    columns = ("budget",)

    weight_right = knob(0.6, "of being right", low=0)
    weight_length = knob(0.3, "of keeping to the budget", low=0)
    weight_format = knob(0.1, "of a well-formed solution", low=0)
    start = knob(32, "the first budget, in tokens", low=1)
    gamma = knob(0.7, "the budget shrinks by this factor", above=0, high=1)
    every = knob(15, "steps between one budget and the next", low=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps_done = 0

    def rewards(self, group):
        right = super().rewards(group)
        B = budget(self.steps_done, self.start, self.gamma, self.every)
        length = length_reward(group.mask.sum(1), B).view_as(right)
        form = torch.from_numpy(group.verdict.well_formed).to(right).view_as(right)
        return self.weight_right * right + self.weight_length * length + self.weight_format * form

    def step(self, optimizer):
        groups, numbers = super().step(optimizer)
        numbers["budget"] = budget(self.steps_done, self.start, self.gamma, self.every)
        self.steps_done += 1
        return groups, numbers

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
