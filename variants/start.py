"""start.py: START, fine-tuning on what was solved with a hint (2503.04625, its Hint-RFT).

    sample; where nothing is right, sample again with a hint; keep what is right, hint and all, and
    loss = - mean log-likelihood of the kept traces under the plain prompt, one vote per prompt

This is rft.py, which can only keep what the policy finds alone, with hints where it finds nothing:
the hint leaves the context and stays in the trace, so that its tokens are imitated, too.

An inspired core: the paper's hints are sentences that make a model think of its calculator.
Control: `sft` at equal gold.
Information used: the outcome, and the beginning of gold solutions where nothing is right.
Checked against: notes on the abstract; that the hint stays in the trace is one reading of it.

>>> from variants._hints import unsolved
>>> rewards = torch.tensor([[0., 0.], [1., 0.]])
>>> unsolved(rewards), votes(rewards)     # the first is hinted; before that it has no vote
(tensor([ True, False]), tensor([[0., 0.],
        [2., 0.]]))
"""
import torch

from cli import knob
from variants._hints import Hinted, hint_length, put, rows_of, with_hint
from variants.rft import RFT, votes


class START(Hinted, RFT):
    """Imitates its right samples, hinted if need be."""
    paper = "2503.04625"

    hint = knob(0.5, "share of the solution that a hint shows", low=0, high=1)

    def retry(self, group, stuck):
        k = hint_length(group.mask.shape[1], self.hint)
        put(group, rows_of(stuck, group.size), with_hint(self, group, stuck, k, group.size))
