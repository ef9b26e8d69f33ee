"""scaf.py: Scaf-GRPO, the least hint that works, for one completion of the group (2510.19807).

After --warmup-steps without help a prompt that no completion solves is tried again with more and
more of the gold solution, --levels hints from short to long, one completion each. The first that is
right takes the place of one wrong completion; the other G - 1 stay:

    rewards [1, 0, .., 0]     A = (r - mean) / std     the 1 under (prompt, hint), each 0 under its
                                                       own prompt alone

So the hint's tokens are not trained, and what is blamed is what the policy does without help.

Departures: the paper's hints are texts in tiers (knowledge, plan, solution), 8 levels in its code;
here level i of L shows i / (L + 1) of the trace. The code samples all levels at once and then takes
the least; here they are tried in turn, which is the same, but shows no gold beyond the least that
works. Its warm-up is 15 % of the steps. Control: `sft` at equal gold.
Information used: the outcome, and the beginning of gold solutions where nothing is right.
Checked against: the released code, ray_trainer.py (least level, one row replaced, prompt and all).

>>> from grpo import group_advantages
>>> A = group_advantages(torch.tensor([[1., 0, 0, 0, 0, 0, 0, 0]]))
>>> print([round(x, 4) for x in A[0].tolist()[:3]])
[2.4749, -0.3536, -0.3536]
"""
import torch

from cli import knob
from variants._hints import Hinted, hint_length, put, untaught, with_hint


class ScafGRPO(Hinted):
    """All wrong? One gets the least hint that works."""
    paper = "2510.19807"

    warmup_steps = knob(20, "steps before the first hint", low=0)
    levels = knob(8, "hints to try, from short to long", low=1, high=64)

    def retry(self, group, stuck):
        if self.steps_done < self.warmup_steps:
            return
        shown = 0
        for level in range(1, self.levels + 1):
            k = hint_length(group.mask.shape[1], level / (self.levels + 1))
            if k == shown:   # a short solution has fewer levels
                continue
            hinted = untaught(with_hint(self, group, stuck, k, 1, before=shown))
            solved = (hinted.rewards[:, 0] == 1)
            put(group, stuck * group.size, hinted)
            stuck, shown = stuck[~solved], k
            if len(stuck) == 0:
                break
