"""branch.py: BranchGRPO, rollouts that split at fixed places (2509.06040). Inspired core.

A prompt's completions are the leaves of a tree: at the start, and at places spread evenly over the
room, each becomes --branch. Rewards flow up, and each edge is judged among its peers:

    V(node)  = mean reward of the leaves below it
    A(edge)  = (V(its child) - mean) / (std + eps)     over all nodes of that depth, |A| <= 5
    a token has the advantage of the edge that it lies on

The tree is SPO's (spo.py), only the judging of its nodes differs. The first tokens are judged by
the mean of many endings, at the cost of one rollout per leaf.

Departures: the paper splits the noise of a flow model, we split strings; its Gaussian algebra has
no counterpart. A leaf's shared beginning stands in every row of its descendants, which weighs an
edge by its leaves; the release has each edge once. The release's options are left out: fusion
weighted by the softmax of the edges' log-probs (off there too) and pruning of edges from the loss.
Information used: the outcome.
Checked against: the released code (fusion by the mean, sample std over a depth, zeros below 1e-6,
|A| <= 5, ratio clip 1e-3, splits 0, 3, 6, 9 and two children: 16 leaves).
"""
from dataclasses import replace

import torch

from grpo import group_advantages
from variants._rollouts import node_values
from variants.spo import SPO


def depth_advantages(rewards, branch, levels):
    """[A_1, .., A_levels] of the nodes of each depth, A_k [P, branch ** k], from the leaves'
    rewards [P, branch ** levels].

    >>> for A in depth_advantages(torch.tensor([[1., 0., 0., 0.]]), 2, 2): print(A)
    tensor([[ 0.7071, -0.7071]])
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    """
    values = node_values(rewards, branch, levels)
    return [group_advantages(V).clamp(-5, 5) for V in values]


class Branch(SPO):
    """A tree of rollouts; edges compete within their depth."""
    paper = "2509.06040"

    scale = None
    branch = replace(SPO.branch, default=2)

    def of_nodes(self, rewards):
        return depth_advantages(rewards, self.branch, self.levels)
