"""w_reinforce.py: W-REINFORCE, which learns mostly from its mistakes (Zhu et al. 2506.01347).

    A = +0.1 if the completion is right, -1 if it is wrong: no baseline, no group

The gradient of REINFORCE is a sum of two: pushing right samples up sharpens the policy, pushing wrong ones down spreads their
mass over everything else. The paper finds that the second keeps pass@k at large k, and so weights the first down.
--weight-right 0 is its NSR (negative samples only); --weight-right 1 --weight-wrong 0 its PSR.
"""
import cli
from grpo import GRPO


class WReinforce(GRPO):
    """Right samples up a little, wrong ones down in full; no baseline."""
    paper = "2506.01347"
    defaults = {"aggregate": "constant"}
    ignores = ("scale",)
    flags = {"weight_right": dict(type=cli.nonnegative, default=0.1, help="advantage of a right completion"),
             "weight_wrong": dict(type=cli.nonnegative, default=1.0, help="a wrong one has minus this")}

    def advantages(self, group):
        """[R]; a fractional reward lies between the two."""
        signal = self.weight_right * group.rewards - self.weight_wrong * (1 - group.rewards)
        return (signal - self.kl_cost(group)).flatten()
