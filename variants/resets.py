"""resets.py: long training with reference resets (ProRL, 2505.24864, its central device alone).

Every `--reset-every` steps the reference becomes the policy, and the optimizer starts anew. With a
KL each stage is a tilt of its own base: with `--kl k1_reward --scale none` stage after stage adds
1 / beta to logit Q, instead of stopping at the first.

Departure: ProRL resets when its validation stalls; here the steps are fixed, so that runs can be
compared. Information used: the outcome.

>>> [step for step in range(7) if is_due(step, every=3)]
[3, 6]
"""
from cli import knob
from grpo import GRPO


def is_due(steps_done, every):
    """Whether a reset comes before the next step."""
    return steps_done > 0 and steps_done % every == 0


class Resets(GRPO):
    """Every m steps the reference becomes the policy."""
    paper = "2505.24864"

    reset_every = knob(100, "steps between resets of reference and optimizer", low=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps_done = 0

    def step(self, optimizer):
        if is_due(self.steps_done, self.reset_every):
            self.reference.load_state_dict(self.policy.state_dict())
            optimizer.state.clear()
        self.steps_done += 1
        return super().step(optimizer)

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
