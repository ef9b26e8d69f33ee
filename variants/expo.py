"""expo.py: ExPO, explain the answer when nothing else was right (2507.02834; its ExP-SFT term).

Where all G completions of a prompt are wrong, one explanation is sampled with the answer a* told,
and imitated without it:

    c ~ pi(. | prompt, a*)        loss  - beta_t log pi(c | prompt)       c ends in its answer

Positive samples for prompts that have none: likelier under the policy than an expert's, and better
than its own. No verifier looks at them: they need not be right (--verified keeps those that are).
The weight decays, beta_t = explain * decay^step; a group with one hit has no such term.

It needs a base that was told answers in pretraining: pretrain.py --refine 0.3; see _told.py for how
little a small one makes of them. Only the answer is
shown: 4 tokens of gold on arithmetic, 1 on graph. Control: `sft` at equal gold.
Departures: the explanation takes the place of one of the G wrong ones; the weight and its decay
are ours. Information used: the outcome, and the gold answer where nothing is right.
Checked against: the abstract, and notes on the paper.

>>> A, explained = torch.tensor([0., 0., 1.5, -0.5]), torch.tensor([1., -1., -1., -1.])
>>> with_explanations(A, explained, 0.9)     # of a group without a hit, and one with
tensor([ 0.9000,  0.0000,  1.5000, -0.5000])
"""
import torch

from cli import knob
from variants._hints import Hinted, put
from variants._told import answer_tokens, check_told, told_samples


def with_explanations(A, explained, beta):
    """Advantages A [R], but of explanations beta: at ratio 1 that is the gradient of beta * log pi.
    explained [R] is 1 for those to imitate, 0 for those not to, -1 for samples."""
    return torch.where(explained >= 0, beta * explained, A)


class ExPO(Hinted):
    """All wrong? Imitates an explanation of the answer."""
    paper = "2507.02834"

    drop_zero_variance = None    # groups without a hit have a gradient
    explain = knob(1.0, "weight of the explanations at the first step", low=0)
    decay = knob(0.99, "what is left of that weight a step later", low=0, high=1)
    verified = knob(False, "imitate only explanations that are right")
    unprepared = knob(False, "take a base that has never been told answers, too (the control)")

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        check_told(self)

    def rollout(self, problems):
        group = super().rollout(problems)
        group.more["explained"] = torch.full_like(group.mask[:, 0], -1.0)
        return group

    def retry(self, group, stuck):
        self.spend_gold(len(stuck), answer_tokens(group, stuck))
        told, rewards = told_samples(self, group, stuck, 1), group.rewards
        told.more["hint"] = torch.full_like(stuck, answer_tokens(group, stuck[:1]))
        put(group, stuck * group.size, told)
        group.rewards = rewards      # an explanation is not compared with the samples
        right = told.rewards[:, 0] == 1
        group.more["explained"][stuck * group.size] = (right | (not self.verified)).float()

    def advantages(self, group):
        beta = self.explain * self.decay ** self.steps_done
        return with_explanations(super().advantages(group), group.more["explained"], beta)
