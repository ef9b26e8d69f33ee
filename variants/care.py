"""care.py: GRPO-CARE, a bonus for answers that follow from the reasoning (2506.16141).

    c_i  = min(0.95, exp(mean log-prob of the answer's tokens after the prompt and the reasoning))
    r_i  becomes  1.5 r_i   if r_i > 0.1, r_i >= the group's mean r,
                            and c_i >= mean c of those that are so far in - margin

c is measured by a slow copy of the policy (every 10 steps 0.5 % of the way to it), kept in place of
the reference. Among right completions those pay more whose answer the copy would have given too.

The answer is here the last state, the reasoning all states before it. With the trace as reward all
right completions are the same string and get the same bonus, which the group's std takes out: this
is GRPO, up to rounding. With --reward answer a right end after a wrong chain costs the bonus; that
is rare on arithmetic, where operations are bijections.

An inspired core: in the paper the reasoning is about a video, and the answer has to fit it.
Checked against: github TencentARC/GRPO-CARE, grpo_trainer_ref_ema.py, ema_trainer.py and scripts.
Information used: the outcome, and the copy's likelihood of the answer.
"""
import torch

from cli import knob
from grpo import GRPO
from tasks import TASKS


def consistency_bonus(rewards, confidence, bonus=0.5, margin=0.0, cap=0.95):
    """Rewards [P, G] of rewards and confidences [P, G]. Equal confidences all get the bonus,
    whatever rounding their mean takes.

    >>> c = torch.tensor([[0.9, 0.5, 0.99], [0.9, 0.8, 0.2]])
    >>> consistency_bonus(torch.tensor([[1., 1., 0.], [1., 1., 0.]]), c)
    tensor([[1.5000, 1.0000, 0.0000],
            [1.5000, 1.0000, 0.0000]])
    """
    confidence = confidence.clamp(max=cap)
    accurate = (rewards > 0.1) & (rewards >= rewards.mean(1, keepdim=True))
    mean = (confidence * accurate).sum(1, keepdim=True) / accurate.sum(1, keepdim=True).clamp(min=1)
    consistent = accurate & (confidence >= mean - margin - 1e-6)
    return rewards * (1 + bonus * consistent)


class Care(GRPO):
    """A bonus if a slow copy finds the answer consistent."""
    paper = "2506.16141"

    kl = beta = None
    bonus = knob(0.5, "what a consistent right completion earns on top", low=0)
    margin = knob(0.0, "how far below the mean is still consistent", low=0)
    copy_every = knob(10, "steps between two moves of the slow copy", low=1)
    copy_decay = knob(0.995, "what the slow copy keeps of itself in a move", low=0, high=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps_done = 0

    @torch.no_grad()
    def rewards(self, group):
        rewards = super().rewards(group)
        from_end = group.mask.sum(1, keepdim=True) - group.mask.cumsum(1)    # 0 at <eos>
        width = TASKS[group.task].layout(group.prompts)[2]
        answer = (from_end >= 1) & (from_end <= width)
        logp = self.score(self.reference, group) * answer
        confidence = (logp.sum(1) / answer.sum(1).clamp(min=1)).exp()
        return consistency_bonus(rewards, confidence.view_as(rewards), self.bonus, self.margin)

    def step(self, optimizer):
        done = super().step(optimizer)
        self.steps_done += 1
        if self.steps_done % self.copy_every == 0:
            with torch.no_grad():
                for slow, fast in zip(self.reference.parameters(), self.policy.parameters()):
                    slow.lerp_(fast, 1 - self.copy_decay)
        return done

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
