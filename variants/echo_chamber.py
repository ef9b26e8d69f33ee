"""echo_chamber.py: which of the pretrained patterns does RL amplify (2504.07912)? A recipe.

    python pretrain.py --noise-kind biased --noise 0.6 --out runs/echo.pt
    python finetune.py --init runs/echo.pt --method echo_chamber

The paper pretrains from scratch on mixtures of sources that answer in different forms. RL then soon
writes in one of them alone, mostly in that which is right most often, sometimes in that which was
common. The mixture is a matter of pretraining, so this method is GRPO as it is, with two
numbers more of each step:

    mode         share of a prompt's completions that are its most common one      (a mean)
    mode_right   share of prompts whose most common completion is right

Both near 1: the base's best pattern won. mode near 1 alone: the echo of what was common. In the
mixture above the common pattern of one operation of eight is wrong: --noise q is its share. Others:
--noise-kind marked (a wrong step says so, in another alphabet), --task both --share s.
An inspired core: the patterns of a mixture differ in what they say, not in the form of the same.
Control: the same with --reward random, which has no best pattern.
Checked against: the paper's abstract. Information used: the outcome.
"""
import torch

from grpo import GRPO


def modes(completions):
    """(share [P] of the most common of completions [P, G, N], its number [P] in the group).

    >>> modes(torch.tensor([[[1, 2], [3, 4], [3, 4], [3, 5]]]))
    (tensor([0.5000]), tensor([1]))
    """
    same = (completions[:, :, None] == completions[:, None]).all(-1).float().mean(2)    # [P, G]
    return tuple(same.max(1))


class EchoChamber(GRPO):
    """GRPO, and which completion of the base's it amplifies."""
    paper = "2504.07912"
    columns = ("mode", "mode_right")

    def numbers(self, groups):
        share, right = [], []
        for group in groups:
            found, row = modes(group.completions.unflatten(0, group.rewards.shape))
            trace = torch.from_numpy(group.verdict.trace).to(self.device).view_as(group.rewards)
            share.append(found)
            right.append(trace.gather(1, row[:, None]).flatten().float())
        return {**super().numbers(groups), "mode": torch.cat(share).mean().item(),
                "mode_right": torch.cat(right).mean().item()}
