"""grpo.py: every box by numbers made by hand, by independent loops, and on a real model. The silent
bugs of public GRPO code, one by one."""
import copy
import runpy

import numpy as np
import pytest
import torch
from by_hand import (CELL, algorithm, by_hand, close, flat, gradient, moved, moved_by, ready,
                     rewarded, sgd)

import finetune
import grpo
from cli import CommandError
from grpo import GRPO, group_advantages, kl_estimate, policy_loss
from model import completion_mask, masked_mean, token_logprobs
from tasks import AXES, EOS, PAD, REWARDS, TASKS, Cell, reserved
from variants.sft import SFT

AGGREGATES = ["sequence", "token", "constant"]
TWO_CELLS = (Cell(1, 4), CELL)   # rooms of 5 and 15 tokens


# ----------------------------------------------------------------------------------- advantages

def test_advantages_by_hand():
    one = torch.tensor([[1., 0, 0, 0]])
    assert close(group_advantages(one), [[1.5, -.5, -.5, -.5]], 1e-4)   # the std of n - 1
    assert close(group_advantages(one, "none"), [[.75, -.25, -.25, -.25]])
    rewards = torch.tensor([[1., 0, 0, 0], [1, 1, 0, 1]])
    assert close(group_advantages(2 * rewards), group_advantages(rewards), 1e-4)
    assert close(group_advantages(2 * rewards, "none"), 2 * group_advantages(rewards, "none"))
    with pytest.raises(ValueError):
        group_advantages(rewards, "mean")


@pytest.mark.parametrize("scale", ["std", "none"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3, 1e-8])
def test_an_all_equal_group_has_exactly_zero_advantage(scale, value):
    # the mean of seven 0.1 is not 0.1 in floating point; a group of one has no std
    for size in (7, 1):
        assert (group_advantages(torch.full((3, size), value), scale) == 0).all()


# ----------------------------------------------------------------------------------------- mask

def test_the_sampled_eos_is_trained_on_and_what_follows_is_not():
    completions = torch.tensor([[7, 8, EOS, PAD], [7, 8, 9, 10], [EOS, PAD, PAD, PAD],
                                [7, EOS, EOS, 9]])
    mask = completion_mask(completions)
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    logp = torch.randn(4, 4, requires_grad=True)
    policy_loss(logp, logp.detach(), torch.tensor([1., -1, 2, 3]), mask).backward()
    assert torch.equal(logp.grad != 0, mask.bool())


def test_nothing_is_diluted_by_padding_and_an_empty_row_is_safe():
    logp = torch.tensor([[-1., -2, -3, -4], [-1, 0, 0, 0]])
    mask = torch.tensor([[1., 1, 1, 1], [1, 0, 0, 0]])
    assert masked_mean(logp, mask, "sequence") == (-2.5 - 1) / 2
    assert masked_mean(logp, mask, "token") == -11 / 5
    assert masked_mean(logp, mask, "constant") == -11 / 8
    assert masked_mean(logp, mask, "constant", room=10) == -11 / 20
    wide_logp = torch.nn.functional.pad(logp, (0, 3), value=-99.0)
    wide_mask = torch.nn.functional.pad(mask, (0, 3))
    for aggregate in ("sequence", "token"):
        assert masked_mean(wide_logp, wide_mask, aggregate) == masked_mean(logp, mask, aggregate)
        assert masked_mean(logp, torch.zeros(2, 4), aggregate) == 0
    with pytest.raises(ValueError):
        masked_mean(logp, mask, "mean")


# ----------------------------------------------------------------------------------------- loss

@pytest.mark.parametrize("clip_high,expected,silent", [
    (0.20, [1.20, 0.75, 1.1, -1.25, -0.8], [True, False, False, False, True]),
    (0.28, [1.25, 0.75, 1.1, -1.25, -0.8], [False, False, False, False, True])])
def test_clip_by_hand(clip_high, expected, silent):
    logp = torch.tensor([[1.25, 0.75, 1.1, 1.25, 0.75]]).log().requires_grad_()
    advantages = torch.tensor([[1., 1, 1, -1, -1]])
    loss = policy_loss(logp, torch.zeros(1, 5), advantages, torch.ones(1, 5), 0.2, clip_high,
                       "token")
    assert close(loss.detach(), -sum(expected) / 5)
    loss.backward()
    assert (logp.grad[0] == 0).tolist() == silent   # a clipped token has no gradient


@pytest.mark.parametrize("aggregate,weights", [
    ("token", (1 / 8, 1 / 8)), ("sequence", (1 / 4, 1 / 12)), ("constant", (1 / 16, 1 / 16))])
def test_aggregates_weigh_tokens_as_published(aggregate, weights):
    """Completions of 2 and 6 tokens in a room of 8: DAPO, GRPO and Dr. GRPO."""
    mask = torch.tensor([[1.] * 2 + [0] * 6, [1.] * 6 + [0] * 2])
    logp = torch.zeros(2, 8, requires_grad=True)
    policy_loss(logp, torch.zeros(2, 8), torch.ones(2), mask, aggregate=aggregate).backward()
    assert close(-logp.grad, mask * torch.tensor(weights)[:, None])


def test_on_policy_the_gradient_is_reinforce():
    torch.manual_seed(0)
    logp, advantages = torch.randn(6, 5, requires_grad=True), torch.randn(6)
    mask = (torch.rand(6, 5) < 0.7).float()
    loss = policy_loss(logp, logp.detach(), advantages, mask, aggregate="token")
    a, = torch.autograd.grad(loss, logp)
    b, = torch.autograd.grad(-(logp * advantages[:, None] * mask).sum() / mask.sum(), logp)
    assert close(a, b)


def test_what_stands_behind_the_mask_cannot_make_a_nan():
    logp = torch.tensor([[-1.0, 800.0, -torch.inf]], requires_grad=True)
    old_logp, mask = torch.tensor([[-1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    loss = policy_loss(logp, old_logp, torch.ones(1), mask)
    loss.backward()
    assert loss == -1 and logp.grad.tolist() == [[-1, 0, 0]]


def test_kl_estimates():
    logp, ref = torch.tensor([[0.0, -1.0]]), torch.tensor([[0.0, -3.0]])
    assert close(kl_estimate(logp, ref, "k1"), [[0, 2]])
    assert close(kl_estimate(logp, ref, "k2"), [[0, 2]])
    assert close(kl_estimate(logp, ref, "k3"), [[0, np.exp(-2) + 1]])
    assert (kl_estimate(torch.randn(99, 9), torch.randn(99, 9), "k3") >= 0).all()
    with pytest.raises(ValueError):
        kl_estimate(logp, ref, "k4")
    # k1 and k3 have the KL as their mean under the policy, which k2 has not
    p = torch.log_softmax(torch.tensor([1., 2, 0]), 0)
    q = torch.log_softmax(torch.tensor([0., 0, 1]), 0)
    mean = {kind: (p.exp() * kl_estimate(p, q, kind)).sum() for kind in ("k1", "k2", "k3")}
    kl = (p.exp() * (p - q)).sum()
    assert close(mean["k1"], kl) and close(mean["k3"], kl) and not close(mean["k2"], kl, 0.01)


# --------------------------------------------------------------------------------- the rollouts

def test_the_ratio_is_one_before_the_first_update():
    method = algorithm(rewarded(GRPO, [[1., 0, 0, 0, 0]]), torch.float64, TWO_CELLS,
                       temperature=0.8)
    for group in ready(method):
        assert method.teaches(group).all()   # so that nothing is merely copied from the sampler
        assert method.log_ratio(group, method.forward(group)).abs().max() < 1e-10
    assert group.mask.sum(1).unique().numel() > 1   # of unequal lengths


def test_what_follows_eos_has_log_prob_zero_for_policy_and_reference_too():
    """As for the sampler: a PAD that nobody sampled has an extreme log-ratio, whose exp would make
    the KL a nan."""
    method = algorithm(kl="k3_loss", beta=1.0)
    group, = ready(method)
    after = group.mask == 0
    scored = token_logprobs(method.policy, group.tokens, group.start)
    assert after.any() and (scored[after] < -1).all()
    assert (group.ref_logp[after] == 0).all() and (method.forward(group)[after] == 0).all()


def test_the_policy_samples_and_the_reference_is_only_asked():
    method = algorithm(dtype=torch.float64, kl="k1_reward", temperature=0.7)
    moved_by(method.policy, 0.1)
    group, = ready(method)
    for model, logp in ((method.policy, group.old_logp), (method.reference, group.ref_logp)):
        own = token_logprobs(model, group.tokens, group.start, temperature=0.7)
        assert close(own * group.mask, logp, 1e-10)
    assert not close(group.old_logp, group.ref_logp, 0.1)


def test_order_survives_grouping(monkeypatch):
    """Row i of everything belongs to prompt i // G, where a completion is judged."""
    def planted(policy, prompts, N, temperature, group_size, generator):
        completions = TASKS["arithmetic"].solutions(prompts.numpy()).repeat(group_size, axis=0)
        completions[np.arange(len(completions)) % 3 != 0, 0] = EOS
        return torch.from_numpy(completions), torch.zeros(completions.shape)
    monkeypatch.setattr("grpo.generate", planted)
    group, = algorithm(reward="trace", group_size=7).experience(40)
    assert group.rewards.shape == (40, 7)
    assert group.rewards.flatten().tolist() == [float(i % 3 == 0) for i in range(280)]
    for i, row in enumerate(group.tokens):
        assert (row[:group.start].numpy() == group.prompts[i // 7]).all()


@pytest.mark.parametrize("reward", list(REWARDS))
def test_every_reward(reward):
    group, = ready(algorithm(SFT, prompts_per_step=30))   # gold: right in every respect
    first_digit = TASKS["arithmetic"].parse(group.prompts)[1][:, 0].max()
    group.tokens[::2, group.start] = first_digit + (group.tokens[::2, group.start] - 5) % 10
    group.verdict = TASKS["arithmetic"].verify(group.prompts, group.completions.numpy())
    rewards = algorithm(reward=reward).rewards(group).flatten()
    wrong, right = rewards[::2], rewards[1::2]
    if reward == "random":
        assert set(rewards.tolist()) == {0, 1}
    else:
        assert (right == {"inverted": 0}.get(reward, 1)).all()
        assert (wrong == {"answer": 1, "inverted": 1, "format": 1}.get(reward, 0)).all()


def test_the_seed_chooses_prompts_and_samples():
    first, again, other = (ready(algorithm(seed=seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.rewards, again.rewards)
    assert (first.prompts != other.prompts).any()
    problems = ("arithmetic", CELL, first.prompts)
    same_prompts = algorithm(seed=4).rollout(problems)
    assert not torch.equal(same_prompts.tokens, algorithm(seed=3).rollout(problems).tokens)


# ------------------------------------------------------------------------------ cells of a step

def test_cells_take_turns_so_that_each_gets_as_many_prompts_as_any_other():
    cells = [Cell(1, 4), Cell(2, 4), Cell(3, 4)]
    method, seen = algorithm(cells=cells), dict.fromkeys(cells, 0)
    for n in (4, 4, 32, 1, 2, 5, 7, 1):
        parts = method.problems(n)
        assert sum(len(prompts) for _, _, prompts in parts) == n and len(parts) == min(n, 3)
        for _, cell, prompts in parts:
            assert TASKS["arithmetic"].matches(prompts, cell).all()
            seen[cell] += len(prompts)
        assert max(seen.values()) - min(seen.values()) <= 1, seen


def test_more_cells_than_prompts_rotate():
    cells = [Cell(1, length) for length in (3, 4, 5, 6, 7)]
    method = algorithm(cells=cells)
    turns = [[cell for _, cell, _ in method.problems(2)] for _ in range(5)]
    assert sum(turns, []) == 2 * cells   # two rounds of five cells, two prompts at a time


def test_one_cell_a_step_if_asked():
    cells = [Cell(1, 4), Cell(2, 4), Cell(3, 4)]
    method = algorithm(cells=cells)
    method.cells = "one"
    parts = [method.problems(4) for _ in range(40)]
    assert all(len(part) == 1 and len(part[0][2]) == 4 for part in parts)
    drawn = [part[0][1] for part in parts]
    assert min(map(drawn.count, cells)) > 4


@pytest.mark.parametrize("task", list(TASKS))
def test_mix_is_every_split_in_equal_parts(task):
    for axis, splits in AXES[task].items():
        tasks = finetune.training_cells(task, axis, "mix")
        assert {cell for _, cell in tasks} == {*splits["id"], *splits["edge"]}
        method = GRPO(*[algorithm().policy] * 2, tasks)
        prompts = {"id": 0, "edge": 0}
        for _, cell, drawn in method.problems(len(tasks) * 2):
            prompts["id" if cell in splits["id"] else "edge"] += len(drawn)
        assert prompts["id"] == prompts["edge"], axis


def test_no_evaluation_prompt_is_ever_drawn():
    for cell in (Cell(1, 4), CELL):
        prompts = algorithm().draw("arithmetic", cell, 200)
        assert not reserved(prompts).any() and len(prompts) == 200
        of_all = TASKS["arithmetic"].sample(cell, 200, np.random.default_rng(0)).prompts
        assert reserved(of_all).any()


# -------------------------------------------------------------------- the gradient, from scratch

def loop_gradient(method, groups, rewards, old_logp):
    """GRPO's gradient of a whole step, written as loops over prompts, samples and tokens from the
    papers' formulas; nothing from grpo.py. rewards: [P, G] of each group; old_logp: [R, N]."""
    terms, lengths, T = [], [], method.temperature
    for group, r, old in zip(groups, rewards, old_logp):
        start, (P, G) = group.prompts.shape[1], r.shape
        for p in range(P):
            mean = sum(r[p]) / G
            std = (sum((x - mean) ** 2 for x in r[p]) / (G - 1)) ** 0.5
            if method.drop_zero_variance and std == 0:
                continue
            for g in range(G):
                row = p * G + g
                ids = group.tokens[row]
                logits = method.policy(ids[None])[0] / T
                ref_logits = method.reference(ids[None])[0].detach() / T
                A = 0.0 if std == 0 else (r[p, g] - mean) / (std + 1e-6)
                losses = []
                for t in range(start, len(ids)):
                    logp = logits[t - 1, ids[t]] - torch.logsumexp(logits[t - 1], 0)
                    ref = ref_logits[t - 1, ids[t]] - torch.logsumexp(ref_logits[t - 1], 0)
                    ratio = torch.exp(logp - old[row, t - start])
                    clipped = ratio.clamp(1 - method.clip_low, 1 + method.clip_high)
                    surrogate = ratio * A if ratio * A < clipped * A else clipped * A
                    k3 = torch.exp(ref - logp) - (ref - logp) - 1
                    losses.append(-surrogate + (method.kl == "k3_loss") * method.beta * k3)
                    if ids[t] == EOS:
                        break
                terms.append(sum(losses))
                lengths.append(len(losses))
    if method.aggregate == "sequence":     # a mean over rows of means over tokens
        loss = sum(x / n for x, n in zip(terms, lengths)) / len(terms)
    elif method.aggregate == "token":      # a mean over tokens
        loss = sum(terms) / sum(lengths)
    else:                                  # one constant for all: rows * the longest solution
        longest = max(cell.depth * (cell.length + 1) for _, cell in method.tasks)
        loss = sum(terms) / (len(terms) * longest)
    return torch.autograd.grad(loss, list(method.policy.parameters()))


# five prompts of two cells, in parts of 3 and 2; two groups have nothing to tell
REWARDS_OF_TWO = [torch.tensor([[1., 0, 0, 0], [0, 0, 0, 0], [1, .5, 1, 0]], dtype=torch.float64),
                  torch.tensor([[1., 1, 1, 1], [0, 1, 0, 1]], dtype=torch.float64)]


class Moved(rewarded(GRPO, REWARDS_OF_TWO)):
    """The policy moves between sampling and training: ratios differ from 1, some are clipped."""
    def experience(self, n):
        groups = super().experience(n)
        moved_by(self.policy, 0.03)
        return groups


def two_cells(kind, **settings):
    settings = {"prompts_per_step": 5, "group_size": 4, "temperature": 0.9, "max_grad_norm": 1e9,
                **settings}
    return algorithm(kind, torch.float64, TWO_CELLS, **settings)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("settings", [{"kl": "k3_loss", "beta": 0.3}, {"drop_zero_variance": True}],
                         ids=["kl", "dropped"])
def test_the_gradient_of_a_mixed_step_is_that_of_loops_over_all_its_rows(aggregate, settings):
    method = two_cells(Moved, aggregate=aggregate, **settings)
    groups, numbers = method.step(sgd(method))
    lengths = torch.cat([group.mask.sum(1) for group in groups])
    assert [len(group.prompts) for group in groups] == [3, 2] and numbers["clip"] > 0.02
    assert lengths.unique().numel() > 3
    expected = loop_gradient(method, groups, REWARDS_OF_TWO, [g.old_logp for g in groups])
    # a part's share of the tokens is a float32
    assert close(flat(p.grad for p in method.parameters()), flat(expected), 1e-8)


def test_later_epochs_start_from_no_gradient_and_keep_the_ratio_to_the_sampler():
    kind = rewarded(GRPO, REWARDS_OF_TWO)
    method = two_cells(kind, epochs=3, kl="k3_loss", beta=0.3)
    groups, numbers = method.step(sgd(method, lr=1.0))
    other = two_cells(kind, kl="k3_loss", beta=0.3)   # the same weights; three updates by hand
    for _ in range(3):
        updates = loop_gradient(other, groups, REWARDS_OF_TWO, [g.old_logp for g in groups])
        with torch.no_grad():
            for p, update in zip(other.policy.parameters(), updates):
                p -= update
    assert close(flat(method.parameters()), flat(other.parameters()), 1e-9)
    assert numbers["clip"] > 0.02   # so far that some tokens are clipped


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("kl", ["none", "k3_loss"])
def test_micro_batches_give_the_full_gradient(aggregate, kl):
    def after_a_step(micro_batch):
        method = two_cells(Moved, aggregate=aggregate, kl=kl, beta=0.5, micro_batch=micro_batch)
        groups, numbers = method.step(sgd(method, lr=0.5))
        assert groups[1].mask.sum(1).unique().numel() > 1
        return numbers["loss"], flat(method.parameters())
    loss, full = after_a_step(0)
    for micro_batch in (1, 2):
        loss_of_parts, parts = after_a_step(micro_batch)
        assert close(full, parts, 1e-10) and close(loss, loss_of_parts, 1e-10)


def test_micro_batches_never_hold_more_rows(monkeypatch):
    rows = []
    hidden = algorithm().policy.__class__.hidden

    def watched(self, tokens, *args, **options):
        rows.append(len(tokens))
        return hidden(self, tokens, *args, **options)
    method = two_cells(rewarded(GRPO, [[1., 0, 0, 0]]), micro_batch=2)
    groups = ready(method)
    monkeypatch.setattr("model.GPT.hidden", watched)
    for group in groups:
        method.forward(group)
    assert max(rows) == 2 * 4


def test_a_variant_can_give_every_token_its_own_advantage():
    class PerToken(GRPO):
        def advantages(self, group):
            return super().advantages(group)[:, None] * torch.linspace(0, 1, group.mask.shape[1])
    method = algorithm(PerToken, torch.float64, micro_batch=2)
    groups, numbers = method.step(sgd(method, lr=0.1))
    assert groups[0].advantages.shape == groups[0].mask.shape and numbers["grad"] > 0


# ------------------------------------------------------------------------ groups that are silent

def test_no_signal_leaves_the_weights_bit_identical_even_with_momentum():
    method = algorithm(rewarded(GRPO, [[1., 0, 0, 0, 0], 0.0, 1.0, 1 / 3]))
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.1)
    before = flat(method.parameters())
    method.step(optimizer)
    after = flat(method.parameters())
    assert not torch.equal(before, after)
    for _ in range(3):
        _, numbers = method.step(optimizer)
        assert numbers["zero_std"] == 1 and numbers["grad"] == numbers["loss"] == 0
    assert torch.equal(after, flat(method.parameters()))


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_silent_groups_cost_no_forward_pass_but_count_in_the_mean(aggregate):
    rows = []

    class Watched(rewarded(GRPO, REWARDS_OF_TWO)):
        def score(self, model, group, rows_of=slice(None)):
            rows.append(len(group.tokens[rows_of]))
            return super().score(model, group, rows_of)

    class Thorough(Watched):
        def teaches(self, group):
            return torch.ones(len(group.prompts), dtype=torch.bool)

    lazy = gradient(two_cells(Watched, aggregate=aggregate))
    assert rows == [8, 4] and lazy.abs().max() > 0
    rows.clear()
    assert close(gradient(two_cells(Thorough, aggregate=aggregate)), lazy, 1e-12)
    assert rows == [12, 8]
    rows.clear()
    gradient(two_cells(Watched, aggregate=aggregate, kl="k3_loss"))
    assert rows == [12, 8] * 2   # the reference's; and the KL pulls on silent groups too


def test_a_cell_without_a_signal_is_not_computed_and_leaves_the_rest_its_share():
    seen = []

    class Watched(rewarded(GRPO, [0.0, [1., 0, 0, 0]])):
        def forward(self, group):
            seen.append(group.cell)
            return super().forward(group)
    method = two_cells(Watched)
    mixed = gradient(method)
    assert seen == [CELL]
    dropped = gradient(two_cells(Watched, drop_zero_variance=True))
    assert close(dropped, mixed * 5 / 2, 1e-10)   # 2 of 5 prompts are left


@pytest.mark.parametrize("settings", [{}, {"kl": "k3_loss", "beta": 0.5}])
def test_dropping_every_group_is_safe_and_dropping_with_a_kl_is_refused(settings):
    if settings:
        with pytest.raises(CommandError, match="--drop-zero-variance --kl k3_loss"):
            algorithm(drop_zero_variance=True, **settings)
    else:
        method = algorithm(rewarded(GRPO, [0.0]), drop_zero_variance=True)
        _, numbers = method.step(sgd(method, lr=1.0))
        assert numbers["grad"] == 0
        assert torch.equal(flat(method.parameters()), flat(algorithm().parameters()))


# ------------------------------------------------------------------------------- the KL's forms

def test_k1_reward_is_centred_and_vanishes_at_the_reference():
    method = algorithm(dtype=torch.float64, kl="k1_reward", beta=0.7, scale="none")
    group, = ready(method)
    centred = group_advantages(group.rewards, "none")
    assert close(group.advantages.view(4, 5), centred, 1e-9)
    moved_by(method.reference, 0.2)
    group, = ready(method)
    ref_logp = token_logprobs(method.reference, group.tokens, group.start).detach()
    kl = ((group.old_logp - ref_logp) * group.mask).sum(1).view(4, 5)
    cost = 0.7 * (kl - kl.mean(1, keepdim=True))
    expected = group_advantages(group.rewards, "none") - cost
    assert close(group.advantages.view(4, 5), expected, 1e-6) and kl.abs().max() > 0.1


# ------------------------------------------------------------------------ safety, and the numbers

def test_only_the_policy_moves_and_nothing_is_mutated():
    method = algorithm(kl="k3_loss", beta=0.1, epochs=2, cells=TWO_CELLS)
    reference, policy = flat(method.reference.parameters()), flat(method.parameters())
    groups, _ = method.step(torch.optim.AdamW(method.parameters(), lr=1e-2))
    assert torch.equal(reference, flat(method.reference.parameters()))
    assert not torch.equal(policy, flat(method.parameters()))
    kept = copy.deepcopy(groups)
    for group in groups:
        method.loss(group, method.forward(group)), method.advantages(group)
    method.numbers(groups)
    inputs = [torch.randn(3, 4), torch.randn(3, 4), torch.randn(3), torch.ones(3, 4)]
    copies = [x.clone() for x in inputs]
    policy_loss(*inputs), kl_estimate(*inputs[:2]), group_advantages(inputs[0])
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies))
    for group, before in zip(groups, kept):
        assert (group.prompts == before.prompts).all()
        for name in ("tokens", "old_logp", "mask", "ref_logp", "rewards", "advantages"):
            assert torch.equal(getattr(group, name), getattr(before, name)), name


def test_a_nan_never_reaches_the_weights():
    class Broken(GRPO):
        def loss(self, group, logp):
            return super().loss(group, logp) * float("nan")
    method = algorithm(Broken)
    before = flat(method.parameters())
    with pytest.raises(FloatingPointError):
        method.step(sgd(method, lr=1.0))
    assert torch.equal(before, flat(method.parameters()))


def test_an_empty_completion_is_safe():
    method, group = algorithm(kl="k3_loss"), by_hand([[1, 0]], lengths=[1, 3], N=3)
    group.ref_logp = group.old_logp.clone()
    logp = moved(group, 0, [1., -1.])
    method.loss(group, logp).backward()
    assert close(-logp.grad, [[1 / 2, 0, 0], [-1 / 6] * 3])


def test_the_norm_of_the_gradient_is_clipped_and_logged_as_it_was():
    def step(max_grad_norm):
        method = algorithm(dtype=torch.float64, max_grad_norm=max_grad_norm)
        before = flat(method.parameters())
        _, numbers = method.step(sgd(method, lr=1.0))
        return numbers["grad"], (before - flat(method.parameters())).norm().item()
    norm, free = step(1e9)
    assert close(norm, free) and norm > 0.01
    assert close(step(norm / 4), (norm, norm / 4), 1e-6)


def test_the_numbers_of_a_step_by_hand():
    method = algorithm(kl="k1_reward")
    groups = [by_hand([[1, 0], [0, 0]], lengths=[1, 2, 4, 1], N=4), by_hand([[1, .5]], [1, 3], 3)]
    groups[0].tokens[2, -1] = 7   # cut off in the middle
    surprises = torch.tensor([.5, .1, .2, .4, .3, .6])
    ratios = torch.tensor([.1, -.2, .3, 0., -.1, .2])
    for group, s, d in zip(groups, surprises.split([4, 2]), ratios.split([4, 2])):
        group.old_logp = -s[:, None] * group.mask
        group.ref_logp = group.old_logp + d[:, None] * group.mask
    numbers = method.numbers(groups)
    lengths = torch.tensor([1., 2, 4, 1, 1, 3])
    expected = {"reward": 2.5 / 6, "zero_std": 1 / 3, "len": 12 / 6, "stop": 5 / 6,
                "entropy": (surprises * lengths).sum() / 12,   # of a token, not of a row
                "kl": ((ratios.exp() - ratios - 1) * lengths).sum() / 12}
    assert numbers.keys() == expected.keys()
    for name, value in expected.items():
        assert close(numbers[name], value), name


def test_the_clip_fraction_counts_tokens_whose_gradient_is_cut():
    group = by_hand([[1, 0]], lengths=[4, 2], N=4)
    logp = moved(group, [[.5, -.5, 0, .5], [.5, -.5, 0, 0]], [1., -1.])
    assert close(algorithm().clip_fraction(group, logp.detach()), 3 / 6)


def test_a_random_reward_has_no_drift():
    """P8: a reward that does not look at the completion has an expected gradient of zero."""
    method = algorithm(dtype=torch.float64, cells=[Cell(1, 4)], prompts_per_step=32, group_size=8,
                       scale="none", max_grad_norm=1e9)
    total, squares, n = 0.0, 0.0, 40
    for _ in range(n):
        g = gradient(method)
        total, squares = total + g, squares + g.square()
    standard_error = ((squares / n - (total / n).square()) / n).sqrt()
    z = (total / n / standard_error)[standard_error > 1e-12]
    assert z.abs().mean() < 1.1 and z.square().mean() < 1.6   # 0.8 and 1 for pure noise


def test_the_demo_names_a_checkpoint_that_is_not_there_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["grpo.py", "nowhere.pt"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(grpo.__file__, run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "grpo.py: error: nowhere.pt: no such checkpoint\n"
