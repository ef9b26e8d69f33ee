"""spo.py: SPO-tree, credit per segment by the values of a tree's nodes (2505.23564).

A prompt's completions are the leaves of a tree: at the start, and at places spread evenly over the
room, each becomes --branch. A segment, what is written between two splits, has

    V(node)    = mean of its children; at a leaf, its reward
    A(segment) = V(its end) - V(its start)    with --scale std divided by the siblings' std

and V(start) is the mean of the siblings: so this is GRPO's advantage in each family of siblings,
as many times as the tree has levels. A mistake in the second half leaves the first its credit.

Departures: 4-4 in place of the paper's 6-6-6, segments of half of the room instead of 100 tokens;
the siblings' std is the sample's (the release takes n). A leaf's shared beginning stands in every
row of its descendants. spo_chain.py is its other form. Information used: the outcome.
Checked against: the released code (a node's score is the mean over its children, child minus
parent, and the division by the siblings' std plus 1e-8 as an option).
"""
import torch

from cli import knob
from grpo import GRPO, group_advantages
from variants._rollouts import node_values, to_tokens, tree, tree_levels


def segment_advantages(rewards, branch, levels, scale="none"):
    """[A_1, .., A_levels] of the nodes of each level, A_k [P, branch ** k], from the leaves'
    rewards [P, branch ** levels].

    >>> segment_advantages(torch.tensor([[1., 0.5, 0.]]), 3, 1)
    [tensor([[ 0.5000,  0.0000, -0.5000]])]
    >>> segment_advantages(torch.tensor([[1., 0., 1., 1.]]), 2, 2)
    [tensor([[-0.2500,  0.2500]]), tensor([[ 0.5000, -0.5000,  0.0000,  0.0000]])]
    """
    values = node_values(rewards, branch, levels)
    return [group_advantages(V.reshape(-1, branch), scale).view_as(V) for V in values]


class SPO(GRPO):
    """A tree of rollouts; segments compete with siblings."""
    paper = "2505.23564"

    scale = "none"
    branch = knob(4, "children of each node; the largest tree of --group-size leaves", low=2)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.levels = tree_levels(self.group_size, self.branch)
        self.group_size = self.branch ** self.levels

    def sample(self, policy, problems, group_size, temperature):
        stems = super().sample(policy, problems, self.branch, temperature)
        return tree(self, stems, self.branch, self.levels)

    def advantages(self, group):
        levels = self.of_nodes(group.rewards)
        kl_cost = group_advantages(self.kl_cost(group), "none")
        return to_tokens(levels, group.mask.shape[1]) - kl_cost.view(-1, 1)

    def of_nodes(self, rewards):
        """[A_1, .., A_levels]: the advantages of the tree's nodes, level by level."""
        return segment_advantages(rewards, self.branch, self.levels, self.scale)
