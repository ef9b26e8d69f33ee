"""Methods that are told of intermediate steps: what their doctests cannot show. Posterior-GRPO,
RGR-GRPO, multi-objective GRPO, Pref-GRPO, VerIPO, CGPO, Rank-GRPO and TW-GRPO."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from by_hand import algorithm, by_hand, close, flat, moved, moved_by, ready, sgd

import variants
from grpo import GRPO, group_advantages
from tasks import EOS, PAD, TASKS, Cell
from variants._rollouts import judged
from variants._steps import steps_right
from variants.tw_grpo import soft_rewards

TWO_STEPS = Cell(2, 4)
GRAPH = Cell(2, 6)


def make(name, **settings):
    """A method on the tiny model; nothing that it samples is right."""
    return algorithm(variants.load(name), **{"cells": [TWO_STEPS], **settings})


def written(change, P=1, task="arithmetic", cell=TWO_STEPS):
    """A judged Group of P prompts: change(solution [S]) is the list of a prompt's completions."""
    prompts, solutions = TASKS[task].sample(cell, P, np.random.default_rng(0))
    rows = np.stack([row for solution in solutions for row in change(solution)])
    tokens = np.hstack([prompts.repeat(len(rows) // P, axis=0), rows])
    where = SimpleNamespace(task=task, cell=cell)
    group = judged(where, prompts, torch.from_numpy(tokens), torch.full(rows.shape, -1.0))
    group.rewards = torch.from_numpy(group.verdict.trace).float().view(P, -1)
    return group


def wrong_at(solution, *columns):
    """The solution with other digits in these columns."""
    row = solution.copy()
    row[list(columns)] = 6 + (row[list(columns)] - 5) % 10
    return row


def four(solution):
    """Right; wrong at the end; wrong before a right end; all wrong."""
    return [solution, wrong_at(solution, 5), wrong_at(solution, 0), wrong_at(solution, 0, 5)]


@pytest.mark.parametrize("task,cell,last", [("arithmetic", TWO_STEPS, 5), ("graph", GRAPH, 5)])
def test_each_step_is_judged_at_its_own_place(task, cell, last):
    def change(solution):
        rows = [solution.copy() for _ in range(4)]
        rows[1][1] += 1
        rows[2][last] += 1
        rows[3][-1] = PAD    # <eos> belongs to the last step
        return rows
    group = written(change, task=task, cell=cell)
    assert steps_right(group).tolist() == [[[1, 1], [0, 1], [1, 0], [1, 0]]]


# ------------------------------------------------------------------------------------- rewards

def test_posterior_pays_for_steps_of_right_answers_alone():
    group = written(four)
    assert make("posterior", reward="answer").rewards(group).tolist() == [[3, 1, 2.5, 1]]
    ungated = make("posterior", reward="answer", posterior=False)
    assert ungated.rewards(group).tolist() == [[3, 1.5, 2.5, 1]]
    assert make("posterior").numbers([group])["lucky"] == 0.25


def test_multi_objective_sums_what_it_weighs_and_short_pays_for_being_wrong():
    def change(solution):
        return [*four(solution), [*solution[:4], EOS, *[PAD] * 5]]
    weights = dict(weight_right=8, weight_steps=4, weight_form=2, weight_short=1)
    method, group = make("multi_objective", reward="trace", **weights), written(change)
    assert method.rewards(group).tolist() == [[14, 4, 4, 2, 0.5]]
    group.rewards = method.rewards(group)
    assert close(method.advantages(group), group_advantages(group.rewards).flatten())


def test_normalised_each_part_counts_by_its_weight_whatever_its_scale():
    group, settings = written(four), dict(normalise_by="each", reward="trace", weight_steps=0.0,
                                          weight_form=0.0, weight_short=0.0)
    A = [make("multi_objective", weight_right=w, **settings).advantages(group) for w in (1, 3)]
    assert close(A[0], group_advantages(torch.tensor([[1., 0, 0, 0]])).flatten())
    assert close(A[1], 3 * A[0], 1e-5)


def test_pref_looks_at_the_order_alone_and_is_grpo_where_that_is_all_there_is():
    method = make("pref")
    near, far = by_hand([[.1, .2, .2, .9]]), by_hand([[.1, .11, .11, .12]])
    assert close(method.advantages(near), method.advantages(far))
    assert not close(method.advantages(near), algorithm(GRPO).advantages(near), 0.1)
    binary = by_hand([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert close(method.advantages(binary), algorithm(GRPO).advantages(binary), 1e-5)


def test_cgpo_pays_nothing_for_what_breaks_a_constraint_or_goes_too_far():
    method, group = make("cgpo", reward="process", judge="well_formed"), written(four)
    group.old_logp = method.score(method.reference, group).detach()    # no KL at all
    sigmoid = torch.tensor([0., -.5, -1, -1]).sigmoid()
    assert close(method.rewards(group), sigmoid[None], 1e-5)
    group.old_logp = group.old_logp + 0.25 * group.mask    # 10 tokens: 2.5 nats
    assert close(method.rewards(group), sigmoid[None] / 2, 1e-4)
    group.old_logp = group.old_logp + 0.5 * group.mask
    assert (method.rewards(group) == 0).all()
    answers = make("cgpo", reward="process", judge="answer")
    group.old_logp = method.score(method.reference, group).detach()
    assert close(answers.rewards(group), [[.5, 0, torch.tensor(-1.).sigmoid(), 0]], 1e-5)


def test_cgpo_compares_over_the_batch_not_in_a_group():
    method, groups = make("cgpo"), [by_hand([[.5, .3]]), by_hand([[.2, .2], [.1, .5]])]
    for group in groups:
        group.advantages = method.advantages(group)
    method.normalise(groups)
    assert close(groups[0].advantages, [.2, 0]) and close(groups[1].advantages, [-.1, -.1, -.2, .2])


# -------------------------------------------------------------------------------------- rgr

def test_rgr_shows_the_best_the_step_that_all_have_failed_and_counts_it():
    method = make("rgr", group_size=5, reward="trace")
    group, = ready(method)    # nothing is right: the first step is shown
    refined, completions = group.more["refined"], group.completions
    solutions = torch.from_numpy(TASKS["arithmetic"].solutions(group.prompts))
    assert refined.tolist() == [0, 0, 0, 0, 1] * 4
    assert torch.equal(completions[refined == 1, :5], solutions[:, :5])
    assert (completions[:, :5] == solutions[:, :5].repeat_interleave(5, 0)).all(1).sum() == 4
    assert method.spent() == {"rollouts": 20, "gold_problems": 4, "gold_tokens": 4 * 5}
    assert (group.advantages[refined == 1] > 0).all()
    assert close(group.old_logp, method.score(method.policy, group).detach(), 1e-5)
    assert method.numbers([group])["refined"] == 1


@pytest.mark.parametrize("best,given,tokens", [(0, 10, 0), (1, 10, 5), (3, 5, 5)])
def test_rgr_goes_on_from_the_best_and_leaves_alone_what_is_solved(best, given, tokens):
    """The best completion has every step right, then one of two, then none."""
    method = make("rgr", group_size=3)
    tries = written(lambda solution: [four(solution)[3], four(solution)[best]])
    again, shown = method.refined(tries)
    assert shown.tolist() == [given if tokens else 0] and method.gold_tokens == tokens
    assert method.gold_problems == (tokens > 0) and method.rollouts == 1
    solution = TASKS["arithmetic"].solutions(tries.prompts)[0]
    kept = int(shown)
    assert (again.completions[0, :kept].numpy() == solution[:kept]).all()


def test_rgr_weighs_a_refinement_by_its_probability_and_never_clips_it():
    method, group = make("rgr", gamma=0.1), by_hand([[0, 1]])
    group.more["refined"] = torch.tensor([1., 0.])
    logp = torch.tensor([[0.01], [0.2]]).log().requires_grad_()
    group.old_logp = logp.detach().clone()
    group.advantages = torch.tensor([2., 0.])
    method.loss(group, logp).backward()
    assert close(-logp.grad[:, 0], [2 * .1 * .01 / .11 ** 2 / 2, 0], 1e-5)
    assert close(method.log_ratio(group, logp).detach().exp(), [[.01 / .11], [1]], 1e-5)


def test_rgr_without_guidance_needs_no_gold():
    method = make("rgr", guidance=False, reward="answer")
    group, = ready(method)
    assert method.gold_tokens == 0 and method.numbers([group])["refined"] == 0
    assert close(method.rewards(written(four)), [[1, .5 / 2 + .2, .3 + .2, .2]])


# ------------------------------------------------------------------------------ rank, tw_grpo

def test_rank_gives_each_step_its_own_credit():
    method, group = make("rank", reward="answer"), written(four)
    group.rewards = torch.tensor([[0., 1, 1, 0]])    # which decide of the last step
    A = method.advantages(group)
    first, last = group_advantages(torch.tensor([[1., 1, 0, 0], [0, 1, 1, 0]]))
    assert close(A, torch.cat([first[:, None].expand(-1, 5), last[:, None].expand(-1, 5)], 1), 1e-5)
    to_go = make("rank", reward="answer", credit="to_go").advantages(group)
    returns = torch.tensor([[1, 1 + .6309, .6309, 0]])    # the second rank counts 1 / log2(3)
    assert close(to_go[:, 0], group_advantages(returns)[0], 1e-3)
    assert close(to_go[:, 5:], A[:, 5:], 1e-5)


def test_rank_has_one_ratio_per_step_and_a_contrast_in_any_of_them():
    method, group = make("rank"), written(four)
    logp = moved(group, torch.arange(10.)[None] / 10, [0.] * 4)
    ratio = method.log_ratio(group, logp)
    assert close(ratio.detach()[0], [.2] * 5 + [.7] * 5)
    ratio[0, 0].backward()
    assert close(logp.grad[0], [.2] * 5 + [0] * 5)
    group.rewards = torch.zeros(1, 4)
    assert method.zero_variance(group).tolist() == [False]
    same = written(lambda solution: [wrong_at(solution, 5)] * 2)
    assert method.zero_variance(same).tolist() == [True]
    assert (method.advantages(same) == 0).all()


@pytest.mark.parametrize("task,cell,state", [("arithmetic", TWO_STEPS, 4), ("graph", GRAPH, 3)])
def test_tw_grpo_pays_for_ending_before_anything_is_wrong(task, cell, state):
    def change(solution):
        early, late = np.full((2, len(solution)), PAD)
        early[:state], early[state] = solution[:state], EOS
        late[:state + 1], late[state + 1] = solution[:state + 1], EOS    # within the next state
        silent = np.full(len(solution), PAD)
        silent[0] = EOS
        wrong = early.copy()
        wrong[state - 1] += 1
        return [solution, early, late, silent, wrong]
    group = written(change, task=task, cell=cell)
    method = algorithm(variants.load("tw_grpo"), reward="soft", cells=[TWO_STEPS])
    assert method.rewards(group).tolist() == [[1, .5, 0, 0, 0]]
    assert soft_rewards(group.completions[1:2], group.completions[:1], 2).tolist() == [.5]


def test_tw_grpo_weighs_places_where_the_group_disagrees():
    method = make("tw_grpo", temperature=2.0)
    group, = ready(method)
    A = group_advantages(group.rewards).flatten()[:, None]
    taught = (A != 0) & (group.mask == 1)
    weights = (group.advantages / A)[:, :1][taught[:, :1]]
    assert close(weights, torch.ones_like(weights), 1e-5)   # one prompt: no disagreement yet
    weights = (group.advantages / A)[taught]
    assert weights.min() > 0.999 and 1.6 < weights.max() < 1.701
    for row in range(len(A)):    # one weight for a place, whichever completion
        peers = slice(row // 5 * 5, row // 5 * 5 + 5)
        here = taught[row] & taught[peers].all(0)
        assert close((group.advantages[row] / A[row])[here],
                     (group.advantages[peers] / A[peers])[0][here], 1e-4)


def test_tw_grpo_without_weights_is_grpo_with_that_reward():
    ends = []
    for name, settings in (("tw_grpo", {"token_weight": 1.0}), ("grpo", {"aggregate": "token"})):
        method = make(name, reward="random", **settings)
        method.step(sgd(method, lr=0.1))
        ends.append(flat(method.parameters()))
    torch.testing.assert_close(*ends)


# ------------------------------------------------------------------------------------- veripo

def half_right(method):
    """Completions with an even sum are right in every step; all have a right answer."""
    sample = method.sample

    def judge(*args):
        group = sample(*args)
        right = (group.tokens.sum(1) % 2 == 0).numpy()
        group.verdict = group.verdict._replace(trace=right, answer=np.ones_like(right))
        return group
    method.sample = judge
    return method


def test_veripo_takes_turns_and_dpo_begins_at_the_policy_it_has():
    method = half_right(make("veripo", reward="random", grpo_steps=2, dpo_steps=2))
    optimizer = sgd(method, lr=0.5)
    steps = [method.step(optimizer) for _ in range(6)]
    assert [numbers["dpo"] for _, numbers in steps] == [0, 0, 1, 1, 0, 0]
    for at, (groups, numbers) in enumerate(steps[2:4]):
        chosen = (groups[0].advantages.view(4, 5) > 0)
        pairs = chosen.any(1).float().mean().item()    # prompts that have one
        assert pairs > 0 and close(numbers["loss"], pairs * np.log(2), 1e-5) == (at == 0)
        assert torch.equal(chosen.flatten(), torch.from_numpy(groups[0].verdict.trace)
                           & (groups[0].advantages != 0))
    other = make("veripo", grpo_steps=2, dpo_steps=2)
    other.load_state(method.state())
    assert other.steps_done == 6 and other.preferring


def test_veripo_raises_what_it_has_chosen():
    """And is told apart by the steps, where all answers are right: GRPO has no signal there."""
    method = half_right(make("veripo", reward="answer", dpo_steps=1, grpo_steps=1))
    before = flat(method.parameters())
    method.step(sgd(method, lr=0.1))
    assert torch.equal(before, flat(method.parameters()))
    moved_by(method.policy, 0.1)
    (group,), _ = method.step(sgd(method, lr=0.05))
    gain = (method.score(method.policy, group) - group.old_logp).sum(1)
    A = group.advantages
    assert gain[A > 0].mean() > gain[A < 0].mean()
