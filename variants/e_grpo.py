"""e_grpo.py: E-GRPO, entity-aware: near misses earn by what they mention (2510.24694, eq. 4 to 6).

    match_i = entities of the gold path that completion i mentions / all of them
    r_i     = 1 if it is right, else alpha * match_i / max over the group of match_j

An entity is an intermediate value: a state of arithmetic, a node that the walk comes to. Mentioned
is what stands anywhere in the completion, and each counts once. A group that has nothing right has
a contrast then, where GRPO is blind. As they are divided by the group's best, the best near miss of
a prompt is worth alpha, however near it is. (Others have used the name, 2601.00423 for one.)

Clip-higher and no KL, as there. A completion that never ends has the wrong form, so its reward is
0, and it is overlong, so it is counted in the group's mean and std but is not trained on.
Departure: the paper's matches are in the agent's thoughts, ours in all that is written, for here
there is nothing else.
Control: `finetune.py --method grpo --reward process` is told the truth of the steps, too.
Checked against: the paper's abstract (partial reward in proportion to the match rate); the division
by the group's best and alpha 0.3 from its summary and our notes on its text.
Information used: the outcome and the gold intermediate values.
"""
import torch

from cli import knob
from grpo import GRPO
from tasks import EOS, TASKS
from variants.hicra import choices


def match_rate(completions, entities):
    """[P, G] share of entities [P, d, w] that stand in completions [P, G, N], w tokens in a row.

    >>> completions = torch.tensor([[[3, 4, 9, 3, 4], [3, 4, 5, 6, 0]]])
    >>> match_rate(completions, torch.tensor([[[3, 4], [5, 6]]]))
    tensor([[0.5000, 1.0000]])
    """
    windows = completions.unfold(2, entities.shape[2], 1)                     # [P, G, places, w]
    same = (windows[:, :, None] == entities[:, None, :, None]).all(-1)        # [P, G, d, places]
    return same.any(-1).float().mean(-1)


def entity_rewards(match, outcome, alpha=0.3):
    """Rewards [P, G] of match rates and outcomes [P, G].

    >>> match, right = torch.tensor([[0.5, 1.0, 0.25, 0.0]]), torch.tensor([[0., 1., 0., 0.]])
    >>> entity_rewards(match, right)
    tensor([[0.1500, 1.0000, 0.0750, 0.0000]])
    >>> entity_rewards(match * torch.tensor([1., 0., 1., 0.]), 0 * right)
    tensor([[0.3000, 0.0000, 0.1500, 0.0000]])
    """
    near = match / match.amax(1, keepdim=True).clamp(min=1e-9)
    return torch.where(outcome == 1, outcome, alpha * near)


class EGRPO(GRPO):
    """Near misses earn by the gold states that they mention."""
    paper = "2510.24694"

    clip_high = 0.28
    kl = beta = None
    alpha = knob(0.3, "reward of the best near miss", low=0, high=1)

    def rewards(self, group):
        task, outcome = TASKS[group.task], super().rewards(group)
        step_ends, _, width = task.layout(group.prompts)
        accepted = torch.from_numpy(task.accepted(group.prompts)).to(self.device)
        entities = accepted.unfold(2, width, 1)[:, :, choices(step_ends, width)]
        completions = group.completions.view(*outcome.shape, -1)
        match = torch.stack([match_rate(completions, of_one) for of_one in entities.unbind(1)])
        match = match.amax(0)    # of the solution that it mentions most of
        return entity_rewards(match, outcome, self.alpha) * self.ended(group).view_as(outcome)

    def ended(self, group):
        return (group.completions == EOS).any(1).float()

    def advantages(self, group):
        return super().advantages(group) * self.ended(group)
