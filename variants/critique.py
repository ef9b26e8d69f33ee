"""critique.py: Critique-GRPO, the policy puts its own attempts right (2506.03106). Inspired core.

Of a prompt G - 1 completions are sampled. To each the critique is given, and it is written anew,

    prompt, attempt, a* ->         right or wrong shows where the attempt's answer differs from a*

and the best of these G - 1 refinements is the group's G-th. A = r - mean. Samples have the plain
ratio without a clip, and the refinement, as if written without attempt and critique, the weight

    f(p) = p / (p + gamma)         p = pi(y_t | prompt, y_<t), gamma 0.1

whose gradient on log p is p f'(p) = gamma p / (p + gamma)^2: largest at p = gamma, 0.25, and 0.08
for a token at 0.01 as for one at 1. The mean has one divisor for all lengths; no KL.

It needs a base that saw attempts and answers in pretraining: pretrain.py --refine 0.3. Only the
answer is gold: 4 tokens of every prompt on arithmetic, 1 on graph. Control: `sft` at equal gold.
An inspired core: the paper's critiques are texts, its simplest "right" or "wrong" and the answer.
An entropy bonus of 0.001 is left out. Refinements are rollouts too, so a prompt costs 2 (G - 1).
Information used: the outcome, and the gold answer of every prompt.
Checked against: the released code (one refinement each, the first that is right or else the best;
7 + 1, no std, no clip, p / (p + 0.1)).

>>> [round(float(shaped(torch.tensor(p))), 4) for p in (0.01, 0.9, 1.0)]
[0.0909, 0.9, 0.9091]
"""
import torch

from cli import knob
from grpo import GRPO
from variants._hints import picked, with_last
from variants._told import answer_tokens, check_told, told_samples


def shaped(p, gamma=0.1):
    """The weight of a token that the policy would have written with probability p."""
    return p / (p + gamma)


class CritiqueGRPO(GRPO):
    """The best of its refined attempts joins the group."""
    paper = "2506.03106"

    budget_gold = 0
    scale = "none"
    aggregate = "constant"
    clip_low = clip_high = None
    gamma = knob(0.1, "probability of a refined token at which its gradient is largest", above=0)
    unprepared = knob(False, "take a base that has never been told answers, too (the control)")

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        check_told(self)

    @torch.no_grad()
    def rollout(self, problems):
        n = self.group_size - 1
        group = self.sample(self.policy, problems, n, self.temperature)
        every = torch.arange(len(group.prompts), device=self.device)
        self.spend_gold(len(every), answer_tokens(group, every))
        refined = told_samples(self, group, every.repeat_interleave(n), 1, group.completions)
        best = every * n + refined.rewards.view(-1, n).argmax(1)
        group = with_last(self, group, picked(refined, group.prompts, best))
        group.more["refined"] = (torch.arange(len(group.tokens), device=self.device) + 1) % (n + 1)
        group.more["refined"] = group.more["refined"] == 0
        return group

    def loss(self, group, logp):
        weight = torch.where(group.more["refined"][:, None], shaped(logp.exp(), self.gamma),
                             self.log_ratio(group, logp).exp())
        surrogate = self.mean(weight * group.advantages[:, None], group)
        return self.kl_penalty(group, logp) - surrogate

    def clip_fraction(self, group, logp):
        return 0.0
