"""_rollouts.py: rollouts of other shapes than G of each prompt, for the files beside this one.

    uneven      as many of a prompt as it is worth: first a few of each, then one at a time
    continued   completions that keep another's first tokens and are sampled anew from there
    tree        every completion splits again and again: b ** m leaves that share their beginnings

Each completion that is sampled is counted in method.rollouts, however much of it was given.
"""
import numpy as np
import torch

import grpo
from cli import CommandError
from model import completion_mask
from tasks import PAD, TASKS


def judged(group, prompts, tokens, old_logp):
    """A Group of tokens [R, T0 + N], R / P for each of prompts [P, T0], with the verifier's word;
    what stands after the first EOS becomes PAD. The other group gives task and cell."""
    start = prompts.shape[1]
    mask = completion_mask(tokens[:, start:])
    completions = tokens[:, start:].masked_fill(mask == 0, PAD)
    rows = prompts.repeat(len(tokens) // len(prompts), axis=0)
    verdict = TASKS[group.task].verify(rows, completions.cpu().numpy())
    tokens = torch.cat([tokens[:, :start], completions], dim=1)
    return grpo.Group(group.task, group.cell, prompts, tokens, old_logp * mask, mask, verdict)


# ------------------------------------------------------------------------------- uneven groups

def spend(priority, counts, budget):
    """Counts [P] int, raised one by one where priority(counts) [P] is the highest, to a sum of
    budget.

    >>> spend(lambda counts: np.array([3., 1.]) / (counts + 1), np.array([1, 1]), 8)
    array([6, 2])
    """
    counts = counts.copy()
    while counts.sum() < budget:
        counts[np.argmax(priority(counts))] += 1
    return counts


@torch.no_grad()
def uneven(method, n, priority, pilot, rounds=1):
    """[Group], judged: n prompts with n * group_size completions in all, but not of equal numbers.

    Every prompt gets `pilot` completions; the others are spent in so many rounds. In each of them
    priority(mean, counts), with a prompt's mean reward [n] before the round, says which prompt is
    to have the next one. A group for each cell and number of completions.
    """
    drawn = [Drawn(problems) for problems in method.problems(n)]
    counts = np.full(n, min(pilot, method.group_size))
    pilots, budget = counts.sum(), n * method.group_size
    ends = np.cumsum([len(part.prompts) for part in drawn])[:-1]
    for done in range(rounds + 1):
        if done > 0:
            mean = np.concatenate([part.totals / part.counts for part in drawn])
            counts = spend(lambda c: priority(mean, c), counts,
                           pilots + (budget - pilots) * done // rounds)
        for part, wanted in zip(drawn, np.split(counts, ends)):
            part.sample(method, wanted)
    return [group for part in drawn for group in part.groups(method)]


class Drawn:
    """What has been sampled so far of one cell's prompts: how many completions of each (counts
    [P]), their summed rewards (totals [P]), and the completions."""

    def __init__(self, problems):
        self.problems, self.prompts = problems, problems[2]
        self.counts = np.zeros(len(self.prompts), dtype=int)
        self.totals = np.zeros(len(self.prompts))
        self.parts, self.owner = [], self.counts[:0]

    def sample(self, method, wanted):
        """Sample until each prompt has as many completions as wanted [P]."""
        task, cell, prompts = self.problems
        owner = np.arange(len(prompts)).repeat(wanted - self.counts)
        if len(owner) == 0:
            return
        group = method.sample(method.policy, (task, cell, prompts[owner]), 1, method.temperature)
        np.add.at(self.totals, owner, method.rewards(group).flatten().cpu().numpy())
        self.counts = wanted
        self.parts.append(group)
        self.owner = np.concatenate([self.owner, owner])

    def groups(self, method):
        """[Group]: one of all prompts that have the same number of completions, for each number."""
        tokens = torch.cat([part.tokens for part in self.parts])
        old_logp = torch.cat([part.old_logp for part in self.parts])
        result = []
        for count in np.unique(self.counts):
            which = np.flatnonzero(self.counts == count)
            rows = np.concatenate([np.flatnonzero(self.owner == i) for i in which])
            rows = torch.from_numpy(rows).to(tokens.device)
            group = judged(self.parts[0], self.prompts[which], tokens[rows], old_logp[rows])
            if method.kl != "none":
                group.ref_logp = method.score(method.reference, group)
            group.rewards = method.rewards(group)
            result.append(group)
        return result


# --------------------------------------------------------------------------- trees and restarts

@torch.no_grad()
def continued(method, group, rows, cuts, n, temperature):
    """A Group: n completions for each of rows [K] of a group, that keep the row's first cuts [K]
    tokens and their log-probs, and are sampled from there on."""
    prompts = group.prompts[(rows // group.size).cpu().numpy()]
    tokens = group.tokens[rows].repeat_interleave(n, dim=0)
    old_logp = group.old_logp[rows].repeat_interleave(n, dim=0)
    for cut in cuts.unique().tolist():  # those of one length are one batch
        which = (cuts == cut).nonzero().flatten()
        here, start = (which[:, None] * n + torch.arange(n).to(which)).flatten(), group.start + cut
        completions, logp = grpo.generate(
            method.policy, group.tokens[rows[which], :start], tokens.shape[1] - start, temperature,
            n, method.generator)
        tokens[here, start:], old_logp[here, cut:] = completions, logp
        method.rollouts += len(completions)
    return judged(group, prompts, tokens, old_logp)


def tree_levels(size, branch):
    """How often a tree of at most `size` leaves can split into `branch`; CommandError if it cannot.

    >>> tree_levels(16, 2), tree_levels(16, 4), tree_levels(17, 4), tree_levels(5, 2)
    (4, 2, 2, 2)
    """
    if branch > size:
        raise CommandError(f"--branch {branch}: a tree of --group-size {size} leaves cannot split "
                           f"so; at most {size}")
    levels = 1
    while branch ** (levels + 1) <= size:
        levels += 1
    return levels


def tree_cuts(N, levels):
    """[levels - 1] token positions at which a tree of so many levels splits, the root apart.

    >>> tree_cuts(16, 4)
    [4, 8, 12]
    """
    return [N * level // levels for level in range(1, levels)]


def tree(method, group, branch, levels):
    """A Group of branch ** levels leaves a prompt, from one of `branch` completions a prompt: at
    each cut every completion gets branch - 1 siblings. Leaves of one node stand side by side."""
    for cut in tree_cuts(group.mask.shape[1], levels):
        rows = torch.arange(len(group.tokens), device=group.tokens.device)
        new = continued(method, group, rows, torch.full_like(rows, cut), branch - 1,
                        method.temperature)
        tokens, old_logp = (
            torch.cat([x[:, None], y.unflatten(0, (-1, branch - 1))], dim=1).flatten(0, 1)
            for x, y in ((group.tokens, new.tokens), (group.old_logp, new.old_logp)))
        group = judged(group, group.prompts, tokens, old_logp)
    return group


def node_values(rewards, branch, levels):
    """[V_1, .., V_levels]: mean reward of the leaves below each node, V_k [P, branch ** k], from
    the leaves' rewards [P, branch ** levels].

    >>> [V.tolist() for V in node_values(torch.tensor([[1., 0., 0., 0.]]), 2, 2)]
    [[[0.5, 0.0]], [[1.0, 0.0, 0.0, 0.0]]]
    """
    return [rewards.unflatten(1, (branch ** k, -1)).mean(2) for k in range(1, levels + 1)]


def to_tokens(levels, N):
    """Advantages [R, N] per token, from those of the nodes of each level [P, b ** k]: a leaf's
    tokens between two cuts have that of the node above it."""
    leaves = levels[-1].shape[1]
    cuts = [0, *tree_cuts(N, len(levels)), N]
    parts = [x.repeat_interleave(leaves // x.shape[1], dim=1).flatten()[:, None]
             .expand(-1, end - start) for x, start, end in zip(levels, cuts, cuts[1:])]
    return torch.cat(parts, dim=1)
