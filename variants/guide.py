"""guide.py: Guide-GRPO, samples with a hint that train the policy without it (2506.13923).

A prompt that none of its G completions solves is sampled again with a hint h, the first --hint of
the gold solution. What is trained is the policy that gets no hint, off-policy:

    ratio_t = pi(y_t | prompt, y_<t) / pi_old(y_t | prompt, h, y_<t)       clipped as in GRPO

The hint is the beginning of the trace here, so after it both are the same policy, at ratio 1; the
hint's own tokens were given with probability 1, and have the ratio pi(h_t), far below the clip:

    A > 0    min(pi A, (1 - eps) A) = pi A    a gradient, but pi times that of an on-policy token
    A < 0    min(pi A, (1 - eps) A)           is the constant: none; a hint is never blamed

The clean contrast to ghpo, which leaves the hint's tokens out. `weight` is the mean of pi(h_t):
what a hint's token counts for, small where the hint told something new. The first half of a trace
of depth 4 is as easy as depth 2: there it is 0.75. Control: `sft` at equal gold.

Departures: the paper's hints are text; whether hinted and plain samples share a group is not said
in what could be read; here the hinted ones take the plain ones' place.
Information used: the outcome, and the beginning of gold solutions where nothing is right.
Checked against: the abstract, and notes on the paper.

>>> logp, old_logp = torch.tensor([[0.02]]).log(), torch.tensor([[0.5]]).log()
>>> policy_loss(logp, old_logp, torch.ones(1), torch.ones(1, 1))    # ratio 0.04, not clipped
tensor(-0.0400)
>>> policy_loss(logp, old_logp, -torch.ones(1), torch.ones(1, 1))   # clipped to 0.8: no gradient
tensor(0.8000)
"""
import torch

from cli import knob
from grpo import policy_loss
from variants._hints import Hinted, hint_length, put, rows_of, with_hint


class Guide(Hinted):
    """Hinted samples train the unhinted policy."""
    paper = "2506.13923"
    columns = (*Hinted.columns, "weight")

    hint = knob(0.5, "share of the solution that a hint shows", low=0, high=1)

    def experience(self, n):
        groups = super().experience(n)
        for group in groups:   # pi(h_t), where there is a hint
            group.more["given"] = torch.zeros_like(group.mask)
            rows = group.more["hint"].nonzero().flatten()
            if len(rows):
                places = torch.arange(group.mask.shape[1], device=rows.device)
                with torch.no_grad():
                    chance = self.score(self.policy, group, rows).exp()
                group.more["given"][rows] = chance * (places < group.more["hint"][rows][:, None])
        return groups

    def retry(self, group, stuck):
        k = hint_length(group.mask.shape[1], self.hint)
        put(group, rows_of(stuck, group.size), with_hint(self, group, stuck, k, group.size))

    def numbers(self, groups):
        tokens = sum(group.more["hint"].sum().item() for group in groups)
        weight = sum(group.more["given"].sum().item() for group in groups) / max(1, tokens)
        return {**super().numbers(groups), "weight": weight}
