"""tp_grpo.py: TP-GRPO, rewards for thoughts, by how able the policy is already (2507.23317).

    thoughts   neighbouring steps of one completion that are all right, or all wrong
    reward     1 of a right thought, -p of a wrong one        p: pass rate of the group
    A_token    (its thought's reward - mean) / std         over the thoughts of the group, each once

A right thought before the first error is paid although the completion failed; a wrong one costs
little where the policy is weak (it is exploring) and more the more able it is.

An inspired core. The paper's judge is a language model that reads signs of doubt and correction;
ours is the verifier, which counts the steps before the first wrong one, so that a completion has at
most two thoughts here: its right beginning and the rest. The paper's weighting by ability was not
to be had: -p is ours. Lost: a judge that can be wrong and be gamed, and the off-policy pipeline.
Control: `finetune.py --method grpo --reward process`, which is told the same number.
Checked against: the paper's two abstracts (thoughts, and that rewards adapt to ability).
Information used: the truth of intermediate steps.
"""
import torch

from cli import knob
from grpo import GRPO
from tasks import TASKS


def thoughts(labels):
    """First steps [...] bool of the thoughts in labels [..., d] of right (1) and wrong (0) steps.

    >>> thoughts(torch.tensor([1, 1, 0, 1]))    # three of them: of 2, 1 and 1 steps
    tensor([ True, False,  True,  True])
    """
    first = torch.ones_like(labels[..., :1], dtype=torch.bool)
    return torch.cat([first, labels[..., 1:] != labels[..., :-1]], dim=-1)


def thought_advantages(labels, pass_rate, penalty=1.0):
    """Advantages [P, G, d] of steps with labels [P, G, d], of groups with pass rates [P].

    >>> labels = torch.tensor([[[1., 1., 0., 1.], [1., 1., 1., 1.]]])
    >>> thought_advantages(labels, torch.tensor([0.5]))[0, 0]
    tensor([ 0.5000,  0.5000, -1.5000,  0.5000])
    >>> thought_advantages(0 * labels, torch.tensor([0.])).any()    # nothing right yet: no penalty
    tensor(False)
    """
    first = thoughts(labels)
    rewards = torch.where(labels == 1, 1.0, -penalty * pass_rate[:, None, None])
    count = first.sum((1, 2), keepdim=True)
    centred = rewards - (rewards * first).sum((1, 2), keepdim=True) / count
    variance = (centred.square() * first).sum((1, 2), keepdim=True) / (count - 1).clamp(min=1)
    equal = (labels == labels[:, :1, :1]).all(-1, keepdim=True).all(-2, keepdim=True)
    return (centred / (variance.sqrt() + 1e-6)).masked_fill(equal, 0.0)


class TPGRPO(GRPO):
    """Credits runs of right or wrong steps, by ability."""
    paper = "2507.23317"

    reward = "process"
    scale = None
    drop_zero_variance = None    # a group that is right equally far has thoughts to tell apart
    penalty = knob(1.0, "of a wrong thought, times the group's pass rate", low=0)

    def advantages(self, group):
        """[R, N]"""
        step_ends, N = TASKS[group.task].layout(group.prompts)[0], group.mask.shape[1]
        step_ends = torch.as_tensor(step_ends, device=self.device)
        steps_right = group.rewards * len(step_ends)
        labels = (torch.arange(1, len(step_ends) + 1, device=self.device)
                  <= steps_right[..., None] + 1e-3).float()
        A = thought_advantages(labels, (group.rewards == 1).float().mean(1), self.penalty)
        columns = torch.arange(N, device=self.device)
        step = torch.searchsorted(step_ends, columns, right=True).clamp(max=len(step_ends) - 1)
        return A.flatten(0, 1)[:, step] * group.mask
