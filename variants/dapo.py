"""dapo.py: Decoupled Clip and Dynamic sAmpling Policy Optimization (2503.14476, eq. 8 to 13).

1. Clip higher: 1 + 0.28 above, 1 - 0.2 below, so that an unlikely token has room to rise.
2. Token mean: every token weighs the same, so that long completions are not weighed down.
3. Dynamic sampling: prompts whose group is all right or all wrong are dropped, and others sampled
   in their place, until the batch is full, or --refills or the budget runs out. Refills are
   rollouts too, and count as such.
4. Soft overlong penalty, with L_max the room for a completion and L_c = --overlong of it a buffer:
   0 if L <= L_max - L_c,  ((L_max - L_c) - L) / L_c up to L_max,  -1 if cut off there.
5. No KL.

Departures: a right completion must go free, so the room is the solution's length plus the buffer,
and the buffer shrinks where the model's context has no space for it. Refills are drawn from all
cells, as a step is. Information used: the outcome, and lengths.
"""
import torch

from cli import knob
from grpo import GRPO, group_advantages
from tasks import EOS, TASKS


def overlong_penalty(length, cut_off, room, buffer):
    """Penalties [rows] in -1 .. 0 of completions with these lengths [rows], cut_off [rows] bool
    where the room ended before they did (equation 13).

    >>> lengths, never = torch.tensor([40, 48, 49, 56, 64]), torch.zeros(5, dtype=torch.bool)
    >>> overlong_penalty(lengths, never, room=64, buffer=16)
    tensor([ 0.0000,  0.0000, -0.0625, -0.5000, -1.0000])
    >>> overlong_penalty(torch.tensor([64]), torch.tensor([True]), room=64, buffer=0)
    tensor([0.])
    """
    if buffer == 0:
        return torch.zeros(len(length))
    soft = ((room - buffer - length) / buffer).clamp(-1, 0)
    return soft.masked_fill(cut_off, -1.0)


class DAPO(GRPO):
    """Clip higher, token mean, refills, overlong penalty."""
    paper = "2503.14476"

    clip_high = 0.28
    aggregate = "token"
    drop_zero_variance = True
    kl = None
    beta = None
    refills = knob(3, "sample at most so many times more for prompts with a contrast", low=0,
                   high=1000)
    overlong = knob(4, "tokens after the solution's length, penalised linearly; 0: none", low=0)

    def buffer(self, task, cell):
        """Tokens of --overlong that the model's context has space for."""
        family, context = TASKS[task], self.policy.config.context
        return min(self.overlong,
                   context - family.prompt_len(cell) - family.solution_len(cell))

    def room(self, task, cell):
        return super().room(task, cell) + self.buffer(task, cell)

    def experience(self, n):
        groups = super().experience(n)
        for _ in range(self.refills):
            missing = n - sum(int((~self.zero_variance(group)).sum()) for group in groups)
            spent = self.budget_rollouts and self.rollouts >= self.budget_rollouts
            if missing == 0 or spent:
                break
            groups += super().experience(missing)  # those without a contrast are dropped in `step`
        return groups

    def advantages(self, group):
        # The penalty joins the reward here: what is dropped and refilled (equation 11) goes by the
        # verifier's word alone.
        cut_off = (group.completions != EOS).all(1)
        penalty = overlong_penalty(group.mask.sum(1), cut_off, group.mask.shape[1],
                                   self.buffer(group.task, group.cell))
        rewards = group.rewards + penalty.view_as(group.rewards)
        return group_advantages(rewards, self.scale).flatten()
