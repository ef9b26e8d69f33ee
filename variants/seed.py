"""seed.py: SEED-GRPO, small steps where the answers scatter (2505.12346, eq. 4 and 6).

    p_c = sum over the samples with answer c of softmax_i(mean log-prob of sample i)
    SE  = - sum over answers c of p_c log p_c              semantic entropy; at most log G
    A_i = (r_i - mean) / (1 + alpha SE / log G)

Where the policy is unsure of the answer the paper distrusts the reward, and steps less. That is the
opposite of looking for rare right answers: a control. With alpha 0.0417 no step shrinks by more
than 4 %, so expect Dr. GRPO; sweep --alpha. The answer of a completion is its last state, compared
symbol by symbol; the paper too compares final answers only.

Checked against: the paper's text, v1 (eq. 1: no std, no division by length, as in Dr. GRPO; eq. 6
and log G). It estimates SE by the mean of -log p_c over the answers (eq. 5); that and the sum here
agree where all are equally likely, and the sum never exceeds log G. Its f is "linear" with alpha
0.02, not written out; 1 / (1 + x) with 0.0417 (about 0.02 log 8) is from notes, of a reproduction.
The release has no code. Information used: the outcome, the answers and the sampler's likelihoods.
"""
import math

import torch

from cli import knob
from grpo import GRPO
from tasks import TASKS


def answer_entropy(answers, logp):
    """Semantic entropy [P] in nats of answers [P, G, W], samples weighed by softmax of logp [P, G].

    >>> answers, logp = torch.tensor([[1, 2, 3, 4], [1, 1, 2, 2], [1, 1, 1, 1]]), torch.zeros(3, 4)
    >>> answer_entropy(answers[:, :, None], logp) / math.log(4)
    tensor([1.0000, 0.5000, -0.0000])
    """
    same = (answers[:, :, None] == answers[:, None, :]).all(-1)               # [P, G, G]
    mass = logp.softmax(dim=1)
    of_answer = (same * mass[:, None, :]).sum(2).clamp(max=1)                 # [P, G]
    return -(mass * of_answer.log()).sum(1)


def trust(entropy, G, alpha=0.0417):
    """Factors [P] in 0 .. 1 of entropies [P] of groups of G.

    >>> trust(torch.tensor([8., 2., 1.]).log(), G=8)
    tensor([0.9600, 0.9863, 1.0000])
    """
    return 1 / (1 + alpha * entropy / math.log(G))


class Seed(GRPO):
    """Shrinks the step where the group's answers scatter."""
    paper = "2505.12346"

    scale = "none"
    aggregate = "constant"
    alpha = knob(0.0417, "a prompt whose answers all differ counts 1 / (1 + this)", low=0)

    def advantages(self, group):
        length = group.mask.sum(1, keepdim=True).long()
        width = TASKS[group.task].layout(group.prompts)[2]
        last = length - 1 - torch.arange(width, -1, -1, device=self.device)   # with <eos>, if ended
        answers = group.completions.gather(1, last.clamp(min=0))
        logp = (group.old_logp * group.mask).sum(1) / length[:, 0]
        shape = len(group.prompts), group.size
        entropy = answer_entropy(answers.view(*shape, -1), logp.view(shape))
        factor = trust(entropy, group.size, self.alpha)
        return super().advantages(group) * factor.repeat_interleave(group.size)
