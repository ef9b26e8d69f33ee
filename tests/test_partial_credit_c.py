"""Partial credit, what a doctest cannot show: methods that price form, mentions, steps and edits."""
import numpy as np
import pytest
import torch
from by_hand import CELL, algorithm, by_hand, close, ready, sgd

import variants
from model import completion_mask
from tasks import EOS, PAD, SEP, TASKS, Cell

ARITHMETIC, GRAPH = TASKS["arithmetic"], TASKS["graph"]


def written(task, prompts, completions):
    """A Group of these completions [R, N], R / P for each of prompts [P, T0], as the verifier sees
    them."""
    size = len(completions) // len(prompts)
    group = by_hand(np.zeros((len(prompts), size)))
    rows = np.repeat(prompts, size, axis=0)
    group.task, group.prompts = task.name, prompts
    group.tokens = torch.from_numpy(np.hstack([rows, completions]))
    group.mask = completion_mask(torch.from_numpy(completions))
    group.verdict = task.verify(rows, completions)
    return group


def solved(cell, n, task=ARITHMETIC):
    """n problems of a cell: (prompts, solutions), the same at every call."""
    return task.sample(cell, n, np.random.default_rng(0))


def method(name, **settings):
    return algorithm(variants.load(name), **settings)


def test_the_multiplier_of_a_cost_rises_while_the_bound_is_above_the_threshold():
    """And what it prices is the form: right and wrong completions of good form cost the same."""
    cautious = method("hc_rlhf", reward="trace")
    prompts, right = solved(CELL, 2)
    wrong, malformed = right.copy(), right.copy()
    wrong[:, :3], malformed[:, 0] = right[:, [1, 0, 2]], SEP
    wrong[:, 0] = 6 + (right[:, 0] - 6 + 1) % 10
    group = written(ARITHMETIC, prompts, np.stack([right, wrong, malformed], 1).reshape(6, -1))
    assert close(cautious.rewards(group), [[1, 0, -1]] * 2)      # no bound known yet: r - c
    cautious.normalise([group])
    after = cautious.memory["multiplier"]
    k, mean, s = (cautious.memory[name] for name in ("k", "mean", "s"))
    excess = mean + k * s - 0.05
    assert close(mean, 1 / 3) and excess > 0.3 and close(after, np.exp(0.1 * excess))
    price = after * (1 + k * (1 - 2 * mean) / (2 * s))
    assert close(cautious.rewards(group), [[1, 0, -price]] * 2, 1e-5) and price > after > 1
    relaxed = method("hc_rlhf", threshold=1.0, pessimism=0.0)
    relaxed.normalise([group])
    assert relaxed.memory["multiplier"] < 1 and relaxed.memory["k"] == 0
