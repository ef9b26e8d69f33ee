"""_steps.py: which steps of a solution a completion has right, for the files beside this one.

The verifier's `process` counts the steps before the first wrong one; here each step is judged at
its own place, whatever stands before it. A step includes the symbol that closes it.
"""
import numpy as np
import torch

from tasks import TASKS


def right_at_their_place(completions, solutions, step_ends):
    """[R, d] bool: the steps of completions [R, N] that are those of solutions [R, S] with S <= N.
    They end before columns step_ends [d].

    >>> written, solution = torch.tensor([[4, 5, 6, 7], [9, 5, 6, 7]]), torch.tensor([[4, 5, 6, 7]])
    >>> right_at_their_place(written, solution, [2, 4])
    tensor([[ True,  True],
            [False,  True]])
    """
    same = completions[:, :solutions.shape[1]] == solutions
    lengths = np.diff(step_ends, prepend=0).tolist()
    return torch.stack([step.all(1) for step in same.split(lengths, dim=1)], dim=1)


def nearest(completions, accepted):
    """[R, S]: of the accepted solutions [R, M, S] the one with which each of completions [R, N] has
    most symbols in common, place by place; the first of several such.

    >>> accepted = torch.tensor([[[4, 5, 6], [4, 7, 8]]])
    >>> nearest(torch.tensor([[4, 7, 8, 1]]), accepted), nearest(torch.tensor([[4, 5]]), accepted)
    (tensor([[4, 7, 8]]), tensor([[4, 5, 6]]))
    """
    N = min(completions.shape[1], accepted.shape[2])
    same = (completions[:, None, :N] == accepted[..., :N]).sum(2)             # [R, M]
    return accepted[torch.arange(len(accepted)), same.argmax(1)]


def meant(group):
    """[R, S]: the accepted solution that each completion is nearest to."""
    accepted = TASKS[group.task].accepted(group.prompts).repeat(group.size, axis=0)
    return nearest(group.completions, torch.from_numpy(accepted).to(group.tokens.device))


def steps_right(group):
    """[P, G, d] float: 1 for each step that is right at its place."""
    step_ends = TASKS[group.task].layout(group.prompts)[0]
    right = right_at_their_place(group.completions, meant(group), step_ends)
    return right.float().unflatten(0, (len(group.prompts), -1))


def well_formed(group):
    """[P, G] float: 1 for each completion that looks like a solution, right or wrong."""
    form = torch.from_numpy(group.verdict.well_formed).float().to(group.tokens.device)
    return form.view(len(group.prompts), -1)
