"""rank.py: Rank-GRPO, a list's items are what is rewarded and clipped (2510.20150).

    hit_k in {0, 1}                       is item k of the list relevant?
    R_k   = hit_k                         its own hit, --credit own: the release's default
          = sum over j >= k of hit_j / log2(j + 1)        the discounted hits to go, --credit to_go
    A_k   = (R_k - mean) / (std + eps)    in the group, each rank k by itself
    ratio = exp(mean of the log-ratios of an item's tokens), clipped as a whole

A token has the advantage of the item that it lies in, and no credit for others. While all ratios
are 1 the mean over an item is idle: it takes --epochs 2. The items are here the steps, relevant if
right at their place; of the last the --reward decides. Control: grpo.py with --reward process: a
completion earns the share of its leading right steps. An inspired core: no catalogue and no
ranking, a fixed number of items, each resting on those before it; the release's KL of 0.001 is 0.
Checked against: the released code (both rewards, the norm per rank, the item's mean log-ratio).
Information used: the truth of intermediate steps.
"""
import numpy as np
import torch

from cli import knob
from grpo import GRPO, group_advantages
from tasks import TASKS
from variants._steps import steps_right


def hits_to_go(hits):
    """[..., d] of hits [..., d]: discounted by rank, and summed from each rank on.

    >>> hits_to_go(torch.tensor([0., 1., 1.]))
    tensor([1.1309, 1.1309, 0.5000])
    """
    gains = hits / torch.arange(2, hits.shape[-1] + 2, device=hits.device).log2()
    return gains.flip(-1).cumsum(-1).flip(-1)


def item_log_ratio(log_ratio, mask, items):
    """[R, N]: at each token its item's mean, of log_ratio and mask [R, N] and items [N] of columns.

    >>> log_ratio, items = torch.tensor([[0.1, 0.3, -0.2]]), torch.tensor([0, 0, 1])
    >>> item_log_ratio(log_ratio, torch.ones(1, 3), items).exp()
    tensor([[1.2214, 1.2214, 0.8187]])
    """
    n = int(items.max()) + 1
    total, count = (torch.zeros(len(mask), n, device=mask.device).index_add(1, items, x)
                    for x in (log_ratio * mask, mask))
    return (total / count.clamp(min=1)).index_select(1, items) * mask


class Rank(GRPO):
    """Each step has its own advantage and its own ratio."""
    paper = "2510.20150"

    reward = "answer"
    credit = knob("own", "what a step earns: its own hit, or those to go", choices=("own", "to_go"))

    def hits(self, group):
        """[P, G, d]: 1 for a step that is right at its place; for the last the --reward."""
        return torch.cat([steps_right(group)[..., :-1], group.rewards[..., None]], dim=-1)

    def items(self, group):
        """[N]: the number of the step that each column lies in."""
        step_ends = TASKS[group.task].layout(group.prompts)[0]
        lengths = torch.from_numpy(np.diff(step_ends, prepend=0))
        return torch.arange(len(step_ends)).repeat_interleave(lengths).to(self.device)

    def advantages(self, group):
        """[R, N]"""
        hits = self.hits(group)
        returns = hits_to_go(hits) if self.credit == "to_go" else hits
        A = torch.stack([group_advantages(R, self.scale) for R in returns.unbind(-1)], dim=-1)
        A = A - group_advantages(self.kl_cost(group), "none")[..., None]         # [P, G, d]
        return A.flatten(0, 1)[:, self.items(group)] * group.mask

    def log_ratio(self, group, logp):
        return item_log_ratio(super().log_ratio(group, logp), group.mask, self.items(group))

    def zero_variance(self, group):
        """[P] bool: prompts whose completions all have the same hits."""
        hits = self.hits(group)
        return (hits == hits[:, :1]).all(-1).all(-1)
