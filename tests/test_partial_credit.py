"""Partial credit, what a doctest cannot show: methods that price form, mentions, steps, edits."""
import numpy as np
import pytest
import torch
from by_hand import CELL, algorithm, by_hand, close

import variants
from model import completion_mask
from tasks import PAD, SEP, TASKS, Cell

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
    """n problems of a cell: (prompts, solutions), the same at every call; no state comes twice."""
    prompts, solutions = task.sample(cell, 10 * n, np.random.default_rng(0))
    width = task.solution_len(cell) // cell.depth
    states = [solutions[:, i * width:(i + 1) * width - 1] for i in range(cell.depth)]
    twice = sum((states[i] == states[j]).all(1) for i in range(cell.depth) for j in range(i))
    which = np.flatnonzero(twice == 0 if cell.depth > 1 else np.ones(10 * n))[:n]
    return prompts[which], solutions[which]


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


def digits_moved(solutions, column):
    """Solutions [n, S] with another digit in that column."""
    wrong = solutions.copy()
    wrong[:, column] = 6 + (solutions[:, column] - 6 + 1) % 10
    return wrong


def test_grit_pays_for_listed_edges_right_or_wrong_and_for_nothing_on_arithmetic():
    prompts, right = solved(Cell(2, 8), 3, GRAPH)
    listed = prompts[:, 1:25].reshape(3, 8, 3)
    elsewhere = np.stack([[edge for edge in edges if not (edge == walk[:3]).all()][0]
                          for edges, walk in zip(listed, right)])
    walk = np.hstack([elsewhere, elsewhere, right[:, -1:]])           # twice the same wrong edge
    invented, half = right.copy(), right.copy()
    invented[:, [2, 5]], half[:, 5] = right[:, [5, 2]], right[:, 2]
    group = written(GRAPH, prompts, np.stack([right, walk, invented, half], 1).reshape(12, -1))
    rewards = method("grit", reward="answer").rewards(group)
    assert close(rewards[:, 0], [3.5] * 3) and close(rewards[:, 1], [2.5] * 3)
    assert close(rewards[:, 2], [1.0] * 3) and close(rewards[:, 3], [1.5] * 3)
    assert close(method("grit", reward="answer", grounding=0.0).rewards(group), [[2, 1, 1, 1]] * 3)
    prompts, right = solved(CELL, 2)
    group = written(ARITHMETIC, prompts, np.stack([right, digits_moved(right, 14 - 1)], 1)
                    .reshape(4, -1))
    assert close(method("grit", reward="answer").rewards(group), [[2, 1]] * 2)


def test_e_grpo_pays_the_best_near_miss_alpha_and_leaves_out_what_never_ends():
    prompts, right = solved(CELL, 2)
    one, two = digits_moved(digits_moved(right, 0), 5), digits_moved(right, 0)
    endless = digits_moved(right, 14)
    endless[:, 14] = SEP
    group = written(ARITHMETIC, prompts, np.stack([one, two, endless], 1).reshape(6, -1))
    entity = method("e_grpo", reward="trace")
    group.rewards = entity.rewards(group)       # 1 of 3 states, 2 of 3, and all of 3 but no end
    assert close(group.rewards, [[0.1, 0.2, 0]] * 2)
    A = entity.advantages(group).view(2, 3)
    assert (A[:, 2] == 0).all() and (A[:, 1] > 0).all() and close(A.sum(1), [1, 1], 1e-3)
    group = written(ARITHMETIC, prompts, np.stack([right, two, one], 1).reshape(6, -1))
    assert close(entity.rewards(group), [[1, 0.2, 0.1]] * 2)


def test_an_entity_is_a_node_of_the_walk_wherever_it_stands():
    prompts, right = solved(Cell(3, 8), 4, GRAPH)
    swapped = right.copy()
    swapped[:, [2, 5]] = right[:, [5, 2]]           # its nodes, not in their order
    group = written(GRAPH, prompts, np.stack([swapped, right], 1).reshape(8, -1))
    assert close(method("e_grpo", reward="trace").rewards(group), [[0.3, 1]] * 4)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_only_a_harsh_penalty_tells_bad_form_from_a_wrong_solution(penalty):
    prompts, right = solved(CELL, 2)
    wrong, malformed = digits_moved(right, 0), digits_moved(right, 0)
    malformed[:, 2] = SEP
    group = written(ARITHMETIC, prompts, np.stack([right, wrong, malformed], 1).reshape(6, -1))
    job = method("job_application", reward="answer", penalty=penalty, form_weight=0.0)
    assert close(job.rewards(group), [[0.8, 0.5, 0.5 - penalty]] * 2)


def test_tp_grpo_credits_the_right_beginning_of_a_failure():
    """Steps of 5 tokens; of a group one completion is right, one in its first two steps, two in
    none: thoughts 1 | 1, -p | -p | -p."""
    process = method("tp_grpo")
    group = by_hand([[1, 2 / 3, 0, 0]], N=15)
    group.prompts, _ = solved(CELL, 1)
    A = process.advantages(group)
    thoughts = torch.tensor([1, 1, -0.25, -0.25, -0.25])
    high, low = (thoughts[:2].mean() - thoughts.mean()) / thoughts.std(), -0.25
    low = (low - thoughts.mean()) / thoughts.std()
    assert close(A[0], [high] * 15, 1e-4) and close(A[2:], torch.full((2, 15), low), 1e-4)
    assert close(A[1], [high] * 10 + [low] * 5, 1e-4)


def test_verif_s_rules_only_tax_and_its_mean_pays_alone():
    prompts, right = solved(CELL, 2)
    late, lucky = digits_moved(right, 10), digits_moved(right, 0)
    group = written(ARITHMETIC, prompts, np.stack([right, late, lucky], 1).reshape(6, -1))
    assert close(method("verif", reward="answer").rewards(group), [[1, 0, 0.5]] * 2)
    mean = method("verif", reward="answer", combine="mean")
    assert close(mean.rewards(group), [[1, 2 / 3, 2 / 3]] * 2)


def test_rlmec_blames_edits_praises_the_right_and_imitates_what_it_was_shown():
    prompts, right = solved(CELL, 2)
    wrong = digits_moved(digits_moved(right, 1), 7)
    group = written(ARITHMETIC, prompts[:1], np.stack([right[0], wrong[0]]))
    group.rewards = torch.tensor([[1., 0.]])
    edit = method("rlmec", reward="trace")
    group.advantages = edit.advantages(group)
    blamed = torch.zeros(15)
    blamed[[1, 7]] = -0.1
    assert close(group.advantages, torch.stack([torch.full((15,), 0.5), blamed]))
    weight = torch.full((15,), 0.5)
    weight[[1, 7]] = 0.75                        # the mean of 1/2 for the one, 1 for the other
    assert close(group.more["weight"], weight[None])
    assert edit.spent() == {"rollouts": 0, "gold_problems": 1, "gold_tokens": 15}
    group.old_logp = edit.score(edit.policy, group).detach()
    logp = group.old_logp.clone().requires_grad_()
    expected = -(15 * 0.5 - 2 * 0.1) / 17 - (weight * group.old_logp[0]).mean()
    loss = edit.loss(group, logp)
    assert close(loss.detach(), expected.detach(), 1e-5)
    loss.backward()
    assert close(logp.grad != 0, group.advantages != 0)
    alone = method("rlmec", imitate=0.0)
    assert close(alone.loss(group, group.old_logp), -(15 * 0.5 - 2 * 0.1) / 17, 1e-5)
    solved_by_all = written(ARITHMETIC, prompts, right)
    solved_by_all.rewards = torch.ones(2, 1)
    edit.advantages(solved_by_all)
    assert edit.gold_problems == 1               # nothing to show


def test_rlsp_has_room_for_detours_and_docks_the_short():
    explorer = method("rlsp", cells=[Cell(1, 4)], context=40, reward="answer")
    assert explorer.room("arithmetic", Cell(1, 4)) == 10
    prompts, right = solved(Cell(1, 4), 2)
    plain = np.pad(right, ((0, 0), (0, 5)), constant_values=PAD)
    detour = np.hstack([digits_moved(right[:, :4], 0), np.full((2, 1), SEP), right])
    endless = np.hstack([right[:, :4], np.full((2, 6), SEP)])
    group = written(ARITHMETIC, prompts, np.stack([plain, detour, endless], 1).reshape(6, -1))
    assert (group.verdict.answer.reshape(2, 3) == [True, True, False]).all()
    assert close(explorer.rewards(group), [[0.8, 0.9, -0.6]] * 2)


def test_echo_chamber_tells_the_common_completion_from_the_right_one():
    prompts, right = solved(CELL, 2)
    wrong, other = digits_moved(right, 0), digits_moved(right, 1)
    one, two = [right, right, other, wrong], [wrong, wrong, wrong, right]
    completions = np.stack([np.stack(one, 1)[0], np.stack(two, 1)[1]]).reshape(8, -1)
    group = written(ARITHMETIC, prompts, completions)
    group.rewards = torch.zeros(2, 4)
    numbers = method("echo_chamber").numbers([group])
    assert numbers["mode"] == (0.5 + 0.75) / 2 and numbers["mode_right"] == 0.5


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_the_mixture_of_echo_chamber_s_recipe_has_the_share_that_it_says(share):
    """Of demonstrations of the one operation, so many show the common mistake."""
    prompts, _ = solved(Cell(1, 4), 20_000)
    biased = ARITHMETIC.parse(prompts)[2][:, 0] == ARITHMETIC.BIASED
    shown = ARITHMETIC.solutions(prompts, share, np.random.default_rng(1), "biased")
    mistaken = (shown != ARITHMETIC.solutions(prompts)).any(1)
    assert abs(mistaken[biased].mean() - share) < 0.04 and not mistaken[~biased].any()
