"""acnchor.py: ACNCHOR, the gold solution as one of the group (2511.09222).

    G - 1 completions are sampled, the G-th is the gold solution, with a reward of 1
    A = (r - mean) / std over all G

Negatives never stand alone: where all samples are wrong GRPO is silent, and this one imitates;
where all are right nothing is to learn. The ratio of the gold one, which nobody sampled, has two
readings:

    --ratio one      pi / pi_old: 1 on the first update; supervised fine-tuning with weight A
    --ratio policy   pi / 1, for it was given: a token counts for pi, as in guide.py

Gold is shown, and counted, for every prompt of every step. `reward` in the log is that of all G, so
never below 1 / G. Control: `sft` at equal gold.
Departures: the paper's tasks are graph problems of which half have no answer.
Information used: the outcome, and a gold solution of every prompt.
Checked against: notes on the abstract; which ratio the paper takes is not known.

>>> from grpo import group_advantages
>>> group_advantages(anchored(torch.zeros(1, 3)))
tensor([[-0.5000, -0.5000, -0.5000,  1.5000]])
>>> group_advantages(anchored(torch.ones(1, 3)))
tensor([[0., 0., 0., 0.]])
"""
import numpy as np
import torch

from cli import knob
from grpo import GRPO, Group
from tasks import Verdict
from variants._hints import gold_group


def anchored(rewards):
    """[P, G]: rewards [P, G - 1] of the samples, with the 1 of the gold solution behind them."""
    return torch.cat([rewards, torch.ones_like(rewards[:, :1])], dim=1)


def behind(x, y, n):
    """[P * (n + 1), ..]: after each n rows of x [P * n, ..] one of y [P, ..]; tensors or arrays.

    >>> behind(torch.tensor([1, 2, 3, 4]), torch.tensor([9, 8]), 2)
    tensor([1, 2, 9, 3, 4, 8])
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    return torch.cat([x.unflatten(0, (-1, n)), y[:, None]], dim=1).flatten(0, 1)


class ACNCHOR(GRPO):
    """The gold solution is one of each group."""
    paper = "2511.09222"

    budget_gold = 0
    ratio = knob("one", "of the gold solution: as if sampled by the policy, or as given",
                 choices=("one", "policy"))

    @torch.no_grad()
    def rollout(self, problems):
        task, cell, prompts = problems
        n = self.group_size - 1
        group = self.sample(self.policy, problems, n, self.temperature)
        gold = gold_group(self, problems)
        self.spend_gold(len(prompts), gold.completions.numel())
        if self.ratio == "one":
            gold.old_logp = self.score(self.policy, gold)
        verdict = Verdict(*(behind(x, y, n).numpy() for x, y in zip(group.verdict, gold.verdict)))
        group = Group(task, cell, prompts, *(behind(getattr(group, name), getattr(gold, name), n)
                                             for name in ("tokens", "old_logp", "mask")), verdict)
        if self.kl != "none":
            group.ref_logp = self.score(self.reference, group)
        return group

    @torch.no_grad()
    def rewards(self, group):
        return anchored(super().rewards(group)[:, :-1])
