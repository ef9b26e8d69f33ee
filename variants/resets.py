"""resets.py: long training with reference resets (ProRL, Liu et al. 2505.24864, its central device alone).

Every `--reset-every` steps the reference becomes the policy, and the optimizer starts anew. With a KL each stage is a tilt of its
own base: with `--kl k1_reward --scale none` stage after stage adds 1 / beta to logit Q, instead of stopping at the first.
ProRL resets when its validation stalls; here the steps are fixed, so that runs can be compared.
"""
import cli
from grpo import GRPO


class Resets(GRPO):
    """Every m steps the reference becomes the policy, and the optimizer starts anew."""
    paper = "2505.24864"
    flags = {"reset_every": dict(type=cli.count, default=100, metavar="M", help="steps between resets of reference and optimizer")}

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps_done = 0

    def step(self, optimizer):
        if self.steps_done and self.steps_done % self.reset_every == 0:
            self.reference.load_state_dict(self.policy.state_dict())
            optimizer.state.clear()
        self.steps_done += 1
        return super().step(optimizer)

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
