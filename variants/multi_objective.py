"""multi_objective.py: several rewards at once, summed with weights (2503.21819; 2601.05242).

    r = sum over k of w_k r_k      then GRPO as usual                        --normalise-by sum
    A = sum over k of w_k A_k      A_k: group advantages of r_k alone        --normalise-by each

What is wanted of a completion is scored part by part: right (the --reward), steps (the share that
is right), form (it looks like a solution), short (the share of the room that it leaves). Normalised
after the sum, the part that varies most within a group decides; normalised each (GDPO), a part
counts by its weight, whatever its scale. short is there to conflict: right solutions have one
length, which fills the room, so that whatever it pays it pays for being wrong.

Control: the sum is GRPO with that reward and nothing else; its parts alone are grpo.py with
--reward trace, process or format. An inspired core: the paper's parts are politeness, meaning,
actionability and safety, from one learned reward model, and the weights here are ours. GDPO's last
step, whitening over the batch, is left out. Information used: the outcome, the truth of
intermediate steps, the form and the length.
Checked against: the paper's abstract and summaries of it (several scores, one scalar, then GRPO);
GDPO's abstract (each reward normalised in its group before they are summed).
"""
import torch

from cli import knob
from grpo import GRPO, group_advantages
from variants._steps import steps_right, well_formed


def weighted_sum(parts, weights):
    """[P, G] of K parts [K, P, G] and their weights [K].

    >>> weighted_sum(torch.tensor([[[1.0]], [[0.2]]]), [0.5, 0.5])
    tensor([[0.6000]])
    """
    return sum(weight * part for weight, part in zip(weights, parts))


def each_normalised(parts, weights, scale="std"):
    """Advantages [P, G] of K parts [K, P, G]: a part's scale does not matter.

    >>> parts, scales = torch.tensor([[[1., 0., 0.]], [[0., .1, .2]]]), [1, 10]
    >>> by_sum, larger = (group_advantages(weighted_sum(parts, (1, s))) for s in scales)
    >>> each, larger_each = (each_normalised(parts * torch.tensor([1, s])[:, None, None], (1, 1))
    ...                      for s in scales)
    >>> torch.allclose(by_sum, larger), torch.allclose(each, larger_each, atol=1e-4)
    (False, True)
    """
    return weighted_sum([group_advantages(part, scale) for part in parts], weights)


class MultiObjective(GRPO):
    """A weighted sum of right, steps, form and shortness."""
    paper = "2503.21819"

    normalise_by = knob("sum", "normalise the sum in its group, or each part before",
                        choices=("sum", "each"))
    weight_right = knob(0.4, "of being right", low=0)
    weight_steps = knob(0.4, "of the share of right steps", low=0)
    weight_form = knob(0.1, "of looking like a solution", low=0)
    weight_short = knob(0.1, "of the share of the room that is left", low=0)

    @property
    def weights(self):
        return self.weight_right, self.weight_steps, self.weight_form, self.weight_short

    def parts(self, group):
        """[4, P, G]: the rewards that are to be summed."""
        right = super().rewards(group)
        short = 1 - group.mask.mean(1).view_as(right)
        return torch.stack([right, steps_right(group).mean(-1), well_formed(group), short])

    def rewards(self, group):
        return weighted_sum(self.parts(group), self.weights)

    def advantages(self, group):
        if self.normalise_by == "sum":
            return super().advantages(group)
        kl_cost = group_advantages(self.kl_cost(group), "none")
        return (each_normalised(self.parts(group), self.weights, self.scale) - kl_cost).flatten()
