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
import torch

from cli import knob
from grpo import GRPO
from variants._hints import gold_group, with_last


def anchored(rewards):
    """[P, G]: rewards [P, G - 1] of the samples, with the 1 of the gold solution behind them."""
    return torch.cat([rewards, torch.ones_like(rewards[:, :1])], dim=1)


class ACNCHOR(GRPO):
    """The gold solution is one of each group."""
    paper = "2511.09222"

    budget_gold = 0
    ratio = knob("one", "of the gold solution: as if sampled by the policy, or as given",
                 choices=("one", "policy"))

    @torch.no_grad()
    def rollout(self, problems):
        group = self.sample(self.policy, problems, self.group_size - 1, self.temperature)
        gold = gold_group(self, problems)
        self.spend_gold(len(gold.prompts), gold.completions.numel())
        if self.ratio == "one":
            gold.old_logp = self.score(self.policy, gold)
        return with_last(self, group, gold)

    @torch.no_grad()
    def rewards(self, group):
        return anchored(super().rewards(group)[:, :-1])
