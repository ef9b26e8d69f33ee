"""nurl.py: NuRL, a nudge for prompts at pass rate zero (2509.25666). Inspired core.

    pass rate 0       G - 1 new completions with a hint, beside 1 plain one
    pass rate above   no hint

Rows are trained under their own prompts: the hinted ones on log pi(rest | prompt, hint). The plain
one is wrong (or the prompt had no need), so that it is blamed where hinted ones are right. The
paper begins with hints where GRPO has converged: give its checkpoint as --init.

An inspired core: in the paper the policy writes the hint itself, from the gold answer, and in
abstract words, which it found to work better than the solution's steps. A policy this small has
neither words nor plans, so that the hint is a short beginning of the solution (--hint).
Control: `sft` at equal gold.
Information used: the outcome, and the beginning of gold solutions where nothing is right.
Checked against: the abstract and reviews of the paper (G - 1 of G, at 0 % only); how the ratio is
taken is from notes, and unsure.

>>> nudged(torch.tensor([[0., 0., 0., 0.], [0., 0., 0., 1.]]))
[3, 0]
"""
import torch

from cli import knob
from variants._hints import (Hinted, hint_length, put, rows_of, unsolved, untaught, with_hint)


def nudged(rewards):
    """[int]: how many of a prompt's completions are sampled again with a hint, from rewards
    [P, G]: all but one where nothing is right."""
    return [rewards.shape[1] - 1 if stuck else 0 for stuck in unsolved(rewards).tolist()]


class NuRL(Hinted):
    """All wrong? All but one again, with a hint."""
    paper = "2509.25666"

    hint = knob(0.25, "share of the solution that a hint shows", low=0, high=1)

    def retry(self, group, stuck):
        k = hint_length(group.mask.shape[1], self.hint)
        n = max(nudged(group.rewards))
        hinted = untaught(with_hint(self, group, stuck, k, n))
        rows = rows_of(stuck, group.size).view(-1, group.size)[:, :n]   # the last one stays plain
        put(group, rows.flatten(), hinted)
