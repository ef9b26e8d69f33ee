"""verif.py: VerIF, constraints checked by rule, the whole by a judge (2506.09942). Inspired core.

    r = (mean of the checks by rule, 1 if there are none) * judge            --combine product
    r = mean of all of them                                                  --combine mean

In the paper an instruction has hard constraints (so many paragraphs), which a program checks, and
soft ones (a tone), of which a reasoning model says whether all are met, 1 or 0. Here the hard ones
are the intermediate states, each right at its place or not, and the judge is the --reward: whether
the last state is right. So the rules never pay by themselves, they only tax.

Lost: the judge that can err, and instructions that can be followed in part. As there is one right
string, the product is GRPO with the answer as reward wherever a wrong step leads to a wrong end,
and arithmetic is such: its operations are bijections. --combine mean is partial credit.
Control: `finetune.py --method grpo --reward answer` of the product, `--reward process` of the mean.
Checked against: github THU-KEG/VerIF, verl/utils/reward_score/local_server/constraint_analyzer.py
(the mean of the rules times the judge's 1 or 0). Information used: the outcome, and the truth of
intermediate steps.
"""
import torch

from cli import knob
from grpo import GRPO
from variants._steps import steps_right


def combined(rules, judge, combine="product"):
    """Rewards [...] of checks by rule [..., n] (0 or 1) and the judge's word [...].

    >>> rules, judge = torch.tensor([[1., 1.], [1., 0.], [1., 1.]]), torch.tensor([0., 1., 1.])
    >>> combined(rules, judge), combined(rules, judge, "mean")
    (tensor([0.0000, 0.5000, 1.0000]), tensor([0.6667, 0.6667, 1.0000]))
    >>> combined(rules[:, :0], judge)
    tensor([0., 1., 1.])
    """
    if combine == "mean":
        return torch.cat([rules, judge[..., None]], dim=-1).mean(-1)
    if rules.shape[-1] == 0:
        return judge
    return rules.mean(-1) * judge


class VerIF(GRPO):
    """Steps are checked by rule, the answer by a judge."""
    paper = "2506.09942"

    reward = "answer"
    combine = knob("product", "how rules and judge make a reward", choices=("product", "mean"))

    def rewards(self, group):
        rules = steps_right(group)[..., :-1]
        return combined(rules, super().rewards(group), self.combine)
