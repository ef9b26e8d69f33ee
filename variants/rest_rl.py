"""rest_rl.py: ReST-RL, restarts from the middle of good solutions (2508.19576, its training).

Half of a step's prompts are sampled as in GRPO. Of those whose rewards have a standard deviation of
at least --spread, and whose best reward is at least --accept, one best completion is cut:

    cut after i + 1 tokens with weight alpha^i       early cuts are a little likelier

and what stands before the cut is a new start: a group of completions that all begin so, trained
with GRPO on what they add. Restarts make the end of a long solution a problem of its own, of which
more is solved: a curriculum from the back. The other prompts are sampled plainly, so that a step
has as many groups as GRPO's.

Departures: the paper collects starts once, before training, and cuts programs at lines; here each
step has its own, cut at tokens, and a prompt gives one. Its search at test time (a value model and
MCTS) is left out: it is no training of the policy. Information used: the outcome.
Checked against: the released code (thresholds 0.05 and 0.9, weights alpha^i with alpha 0.95, the
ratio of 0.5).
"""
import torch

from cli import knob
from grpo import GRPO
from variants._rollouts import continued


def worth_restarting(rewards, spread, accept):
    """[P] bool: groups of rewards [P, G] that differ enough (population std) and have a good one.

    >>> worth_restarting(torch.tensor([[0.5, 0.5], [1.0, 0.8], [0.2, 0.6]]), 0.05, 0.9)
    tensor([False,  True, False])
    """
    differ = rewards.std(dim=1, correction=0) >= spread - 1e-6
    return differ & (rewards.amax(1) >= accept)


class ReSTRL(GRPO):
    """Restarts from the beginnings of its best completions."""
    paper = "2508.19576"

    spread = knob(0.05, "standard deviation of rewards that a prompt to restart needs", low=0)
    accept = knob(0.9, "reward that a completion to restart from needs", low=0)
    alpha = knob(0.95, "weight of a cut one token later", above=0, high=1)

    def experience(self, n):
        groups = super().experience((n + 1) // 2)
        groups += [again for group in groups for again in self.restarts(group)]
        missing = n - sum(len(group.prompts) for group in groups)
        return groups + (super().experience(missing) if missing else [])

    @torch.no_grad()
    def restarts(self, group):
        """[Group]: one more completions of the beginnings of its best, or none."""
        best = group.rewards.argmax(1)
        rows = torch.arange(len(best), device=best.device) * group.size + best
        good = worth_restarting(group.rewards, self.spread, self.accept)
        rows = rows[good & (group.mask[rows].sum(1) > 1)]
        if len(rows) == 0:
            return []
        weights = self.alpha ** torch.arange(group.mask.shape[1] - 1, device=rows.device)
        weights = weights * group.mask[rows][:, 1:]       # at least one token is left to write
        cuts = torch.multinomial(weights, 1, generator=self.generator).flatten() + 1
        again = continued(self, group, rows, cuts, self.group_size, self.temperature)
        given = torch.arange(again.mask.shape[1], device=rows.device)
        given = given < cuts.repeat_interleave(self.group_size)[:, None]
        again.mask = again.mask.masked_fill(given, 0.0)   # what was given is not trained
        again.old_logp = again.old_logp * again.mask
        if self.kl != "none":
            again.ref_logp = self.score(self.reference, again)
        again.rewards = self.rewards(again)
        return [again]
