"""ton.py: TON, think or not: first forget some thoughts, then choose (2505.16854). Inspired core.

    stage 1, --dropout-steps   fine-tune on right completions of the base; in half of them the
                               thought, every state but the last, is left out
    stage 2                    GRPO on the final answer alone, with or without a thought

After stage 1 the policy answers at once about half of the time (0.6 of depths 2 and 3 of a small
arithmetic base), and is then nearly always wrong: an answer of two steps is not learned in one from
so few samples. In stage 2 it goes back to thinking, within ten steps. Exact mass counts the whole
trace as right, so read it with the column `at_once`, the share of completions that are one state.
Longer than most, for it is two methods in turn.

Departures: the paper's first stage is on given solutions with thoughts of a stronger model, ours
on the base's own right samples; its reward for a format is left out, as an answer must end well
to be right. Information used: the outcome (the last state only), and the trace's shape.
Checked against: the authors' README (thought dropout at 0.5, then GRPO); the rest from notes.
"""
import torch

from cli import knob
from grpo import GRPO
from tasks import EOS, PAD, SEP
from variants._rollouts import judged
from variants.rft import votes
from variants.sft import likelihood_loss


def without_thought(completions):
    """Completions [rows, N], each without what stands before its last state.

    >>> without_thought(torch.tensor([[7, 8, SEP, 9, 9, EOS], [7, 8, EOS, PAD, PAD, PAD]]))
    tensor([[9, 9, 2, 0, 0, 0],
            [7, 8, 2, 0, 0, 0]])
    """
    places = torch.arange(1, completions.shape[1] + 1, device=completions.device)
    first = ((completions == SEP) * places).amax(1, keepdim=True)    # after the last separator
    padded = torch.cat([completions, torch.full_like(completions, PAD)], dim=1)
    return padded.gather(1, first + places - 1)


class TON(GRPO):
    """Imitates without thoughts, then learns when to think."""
    paper = "2505.16854"
    columns = ("at_once",)

    reward = "answer"
    aggregate = "token"          # to stop weighs the same in a short completion as to go on
    drop_zero_variance = None    # in the first stage solved groups have a gradient, too
    dropout = knob(0.5, "share of thoughts left out in the first stage", low=0, high=1)
    dropout_steps = knob(10, "steps of the first stage", low=0)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps_done = 0

    @property
    def fine_tuning(self):
        return self.steps_done < self.dropout_steps

    def step(self, optimizer):
        result = super().step(optimizer)
        self.steps_done += 1
        return result

    @torch.no_grad()
    def rollout(self, problems):
        if not self.fine_tuning:
            return super().rollout(problems)
        group = self.sample(self.reference, problems, self.group_size, self.temperature)
        drop = torch.rand(len(group.tokens), 1, generator=self.generator, device=self.device)
        short = without_thought(group.completions)
        completions = torch.where(drop < self.dropout, short, group.completions)
        tokens = torch.cat([group.tokens[:, :group.start], completions], dim=1)
        group = judged(group, group.prompts, tokens, group.old_logp)
        group.old_logp = self.score(self.policy, group)
        if self.kl != "none":
            group.ref_logp = self.score(self.reference, group)
        return group

    def advantages(self, group):
        if self.fine_tuning:
            return votes(group.rewards).flatten()
        return super().advantages(group)

    def loss(self, group, logp):
        if self.fine_tuning:
            return likelihood_loss(self, group, logp)
        return super().loss(group, logp)

    def numbers(self, groups):
        alone = [(group.completions != SEP).all(1).float() for group in groups]
        return {**super().numbers(groups), "at_once": torch.cat(alone).mean().item()}

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
