"""measure.py: exact mass against enumeration, exact pass@k against sampling, which problems are
measured, coverage by hand, perplexity and entropy by brute force, temperatures that are known."""
import copy
import itertools
import json
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch

import measure
from measure import (bootstrap, eval_problems, exact_pass_at_k, expected_distinct, log_mass,
                     matched_passes, mean_masses, pass_at_k, redirected_masses, right_entropy,
                     sampled, sampling_entropy, solution_logp, split_masses, step_chains,
                     step_log_mass, string_log_mass, string_masses, totals)
from model import GPT, GPTConfig, generate, token_logprobs
from tasks import (AXES, EOS, PAD, SPLITS, TASKS, Cell, Problems, apply_operation, decode,
                   encode, reserved)

CELLS = sorted({(task, cell) for task, axes in AXES.items() for splits in axes.values()
                for cells in splits.values() for cell in cells})


def tiny(std=0.5):
    """A model over five tokens whose every completion can be enumerated."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(5, 8, 2, 2, 8)).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std)
    return model


def peaked(std=0.4):
    """A model over the whole vocabulary whose next tokens are far from alike; untied, so that its
    logits can be scaled."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_embd=16, tied=False))
    torch.nn.init.normal_(model.head.weight, std=std)
    return model


def next_distribution(model, tokens, temperature):
    with torch.no_grad():
        return torch.softmax(model(torch.tensor([tokens]))[0, -1] / temperature, -1).numpy()


# ------------------------------------------------------------------------------------ exact mass

@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_mass_against_every_completion_of_a_tiny_model(temperature):
    model, prompt = tiny(), [1, 3, 4]
    every = np.array(list(itertools.product(range(5), repeat=4)))         # all 625 of 4 tokens
    prompts = torch.tensor([prompt]).repeat(625, 1)
    masses = np.exp(log_mass(model, prompts, every, temperature))
    assert abs(masses.sum() - 1) < 1e-10
    for string, mass in zip(every[::37].tolist(), masses[::37]):          # token by token
        p = [next_distribution(model, prompt + string[:t], temperature)[string[t]]
             for t in range(4)]
        assert abs(np.prod(p) - mass) < 1e-12
    # What generate() draws has these frequencies. After EOS it writes PAD only, so that strings
    # collapse onto their beginning.
    expected, counts = {}, {}
    for string, mass in zip(every.tolist(), masses):
        end = string.index(EOS) + 1 if EOS in string else 4
        seen = tuple(string[:end] + [PAD] * (4 - end))
        expected[seen] = expected.get(seen, 0) + mass
    generator = torch.Generator().manual_seed(0)
    drawn, _ = generate(model, prompts[:1], 4, temperature, 40_000, generator)
    for row in map(tuple, drawn.tolist()):
        counts[row] = counts.get(row, 0) + 1
    assert set(counts) <= set(expected)
    for string, mass in expected.items():
        assert abs(counts.get(string, 0) / 40_000 - mass) < 5 * (mass / 40_000) ** 0.5 + 1e-4


def test_the_mass_of_several_strings_against_every_completion_of_a_tiny_model():
    model, rng = tiny(), np.random.default_rng(0)
    every = np.array(list(itertools.product(range(5), repeat=3)))
    prompts = rng.integers(5, size=(4, 2))
    accepted = np.stack([every[rng.permutation(125)[:3]] for _ in prompts])   # [4, 3, 3]
    each = string_log_mass(model, prompts, accepted, 0.7)
    assert each.shape == (4, 3)
    for prompt, strings, row, whole in zip(prompts, accepted, each,
                                           log_mass(model, prompts, accepted, 0.7)):
        masses = np.exp(log_mass(model, np.tile(prompt, (125, 1)), every, 0.7))
        assert abs(masses.sum() - 1) < 1e-10
        right = [masses[(every == string).all(1)][0] for string in strings]
        assert np.allclose(np.exp(row), right, rtol=1e-9, atol=0)
        assert np.exp(whole) == pytest.approx(sum(right), rel=1e-9)


def test_the_mass_of_route_is_that_of_every_string_that_verifies():
    """All that look like a solution, over the nodes that a problem of four edges shows and two
    more; test_tasks.py shows that nothing else verifies."""
    model, cell = peaked().double(), Cell(2, 4, branching=2)
    for prompt in eval_problems("route", cell, 3).prompts:
        sep, *more = encode("; a p")
        nodes = {*prompt.tolist(), *more} - {*encode("<bos> ; =")}
        every = np.array([[sep, u, v, sep, x, y, EOS]
                          for u, v, x, y in itertools.product(nodes, repeat=4)])
        rows = np.tile(prompt, (len(every), 1))
        right = TASKS["route"].verify(rows, every).trace
        assert right.sum() == 2
        brute = np.exp(solution_logp(model, rows[right], every[right]).sum(1)).sum()
        accepted = TASKS["route"].accepted(prompt[None])
        assert np.exp(log_mass(model, prompt[None], accepted))[0] == pytest.approx(brute, rel=1e-9)


def test_distinct_answers_and_their_entropy_against_simulation():
    q = np.array([[0.3, 0.1, 0.02, 1e-9], [0.25, 0.25, 0.25, 0.25]])
    rng = np.random.default_rng(0)
    for k in (1, 3, 10, 40):
        drawn = [rng.multinomial(k, [*row, max(0, 1 - row.sum())], size=20_000) for row in q]
        found = [(counts[:, :4] > 0).sum(1) for counts in drawn]
        error = [5 * x.std() / 20_000 ** 0.5 + 1e-9 for x in found]
        exact = expected_distinct(np.log(q), k)
        assert (abs(exact - [x.mean() for x in found]) < error).all()
    share = q[0] / q[0].sum()
    assert right_entropy(np.log(q)) == pytest.approx([-(share * np.log2(share)).sum(), 2])
    with np.errstate(divide="ignore"):
        extreme = np.log([[1, 0], [0, 0], [1e-300, 1e-300]])
        assert right_entropy(extreme) == pytest.approx([0, 0, 1], abs=1e-12)
        assert expected_distinct(np.log([[1.0, 0.0]]), 9).tolist() == [1]


def test_distinct_answers_of_a_model_are_those_that_it_is_seen_to_write():
    """One prompt, many groups of eight tries: count the different right strings in each."""
    torch.manual_seed(0)
    model, cell = GPT(GPTConfig(n_layer=1, n_embd=16)), Cell(2, 4, branching=2)
    prompts = eval_problems("route", cell, 1).prompts
    accepted = TASKS["route"].accepted(prompts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = torch.from_numpy(np.hstack([prompts.repeat(4, axis=0), accepted[0][[0, 0, 0, 1]]]))
    each = string_log_mass(model, prompts, accepted)
    while np.exp(each).sum() < 0.3:   # three demonstrations of four show the first
        optimizer.zero_grad()
        (-token_logprobs(model, rows, prompts.shape[1]).mean()).backward()
        optimizer.step()
        each = string_log_mass(model, prompts, accepted)
    written, _ = generate(model, torch.from_numpy(prompts), 7, 1.0, 8 * 1500,
                          torch.Generator().manual_seed(1))
    matches = (written.numpy()[:, None] == accepted[0]).all(2).reshape(1500, 8, 2)
    seen = matches.any(1).sum(1)
    exact = expected_distinct(each, 8)[0]
    assert abs(seen.mean() - exact) < 5 * seen.std() / 1500 ** 0.5 and 0.5 < exact < 2
    assert matches.any(2).mean() == pytest.approx(np.exp(each).sum(), abs=0.02)
    assert 0 < right_entropy(each)[0] < 1


def test_redirected_masses_are_those_of_the_other_prompts():
    model = peaked()
    strings = string_masses(model, "route", "branching", 5, 0.8)
    assert [x.shape for x in strings["hard"].values()] == [(5, 8)]
    found = redirected_masses(model, "route", "branching", strings, 0.8)
    for split, cells in strings.items():
        for cell, each in cells.items():
            prompts, task = eval_problems("route", cell, 5).prompts, TASKS["route"]
            best = each.argmax(1)
            assert (each.max(1) == each[range(5), best]).all()
            other = task.redirect(prompts, best)
            assert task.accepted(other).shape[1] == cell.branching - 1
            by_hand = log_mass(model, other, task.accepted(other), 0.8)
            assert np.array_equal(found[split][cell], by_hand)
            assert (totals(strings)[split][cell] >= each.max(1)).all()


def test_greedy_mass_is_one_or_zero():
    torch.manual_seed(0)
    model = GPT(GPTConfig())
    problems = TASKS["arithmetic"].sample(Cell(2, 3), 20, np.random.default_rng(0))
    written = generate(model, torch.from_numpy(problems.prompts), 8, temperature=0)[0].numpy()
    whole = ~(written == EOS).any(1)  # after EOS, generate() writes PAD without asking the model
    assert whole.any() and (log_mass(model, problems.prompts[whole], written[whole], 0) == 0).all()
    assert (log_mass(model, *problems, 0) == -np.inf).all()


def test_log_mass_takes_tensors_and_arrays_in_any_chunk():
    model = GPT(GPTConfig())
    prompts, solutions = TASKS["graph"].sample(Cell(2, 8), 30, np.random.default_rng(0))
    whole = log_mass(model, prompts, solutions)
    parts = log_mass(model, torch.from_numpy(prompts), torch.from_numpy(solutions), chunk=7)
    assert whole.shape == (30,) and whole.dtype == np.float64
    assert np.allclose(whole, parts, atol=1e-5)


def test_tokens_multiply_up_to_steps_and_steps_to_the_mass():
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_embd=16)).double()
    for task, cell, ends in (("arithmetic", Cell(3, 4), [0, 5, 10, 15]),
                             ("graph", Cell(2, 6), [0, 3, 7])):
        problems = eval_problems(task, cell, 6)
        tokens = solution_logp(model, *problems, 0.7)
        steps = step_log_mass(model, task, *problems, 0.7)
        assert tokens.shape == problems.solutions.shape and steps.shape == (6, cell.depth)
        for step, start, end in zip(steps.T, ends, ends[1:]):
            assert np.allclose(step, tokens[:, start:end].sum(1), atol=1e-9)
        assert np.allclose(steps.sum(1), log_mass(model, *problems, 0.7), atol=1e-9)


def test_a_corrupted_chain_is_marked_for_a_base_that_was_shown_marks():
    problems = TASKS["arithmetic"].sample(Cell(3, 4), 9, np.random.default_rng(0))
    plain, biased, marked = (step_chains("arithmetic", Cell(3, 4), problems, kind)
                             for kind in ("random", "biased", "marked"))
    assert all((x["right"] == problems.solutions).all() for x in (plain, biased, marked))
    assert (plain["corrupted"] == biased["corrupted"]).all()
    assert ((plain["corrupted"] != marked["corrupted"]).sum(1) == 1 + 2 * 4).all()


def test_a_corrupted_chain_errs_once_and_then_follows_from_its_error():
    task, cell = TASKS["arithmetic"], Cell(3, 4, "mixed")
    problems = task.sample(cell, 50, np.random.default_rng(0))
    chains = step_chains("arithmetic", cell, problems)
    assert list(step_chains("arithmetic", Cell(1, 4), problems)) == ["right"]
    assert (chains["right"] == problems.solutions).all()
    wrong = chains["corrupted"]
    assert ((wrong != problems.solutions)[:, :5].sum(1) == 1).all()
    assert (wrong[:, [4, 9, 14]] == problems.solutions[:, [4, 9, 14]]).all()
    _, zero, ops = task.parse(problems.prompts)
    for t in (1, 2):
        before, after = (wrong[:, start:start + 4] - zero for start in (5 * t - 5, 5 * t))
        assert (apply_operation(ops[:, t], before) == after).all()


def test_exact_pass_at_k_to_all_digits():
    getcontext().prec = 400
    for log_q in (-1e-17, -1e-9, -0.1, -0.7, -1.0, -30.0, -80.0, -690.0):
        for k in (1, 4, 1024, 2 ** 20):
            exact = 1 - (1 - Decimal(log_q).exp()) ** k
            ours = exact_pass_at_k(np.array([log_q]), k)[0]
            assert ours == pytest.approx(float(exact), rel=1e-9, abs=0)
    assert exact_pass_at_k([0.0, -np.inf, 1e-12], 5).tolist() == [1, 0, 1]
    assert exact_pass_at_k(np.log([1e-12]), 1024)[0] == pytest.approx(1.024e-9, rel=1e-6)


def test_pass_at_k_equals_counting_subsets():
    for n, c, k in itertools.product((1, 4, 6), range(7), range(1, 7)):
        if c <= n and k <= n:
            right = [True] * c + [False] * (n - c)
            counted = np.mean([any(s) for s in itertools.combinations(right, k)])
            assert pass_at_k(n, c, k) == pytest.approx(counted, abs=1e-12)
    assert pass_at_k(8, 1, 4) == 0.5 and pass_at_k(16, 2, 8) == pytest.approx(0.7667, abs=1e-4)
    assert pass_at_k(1000, np.array([0, 1, 500]), 256).shape == (3,)
    assert pass_at_k(5, 5, 5) == 1 and pass_at_k(5, 0, 5) == 0
    with pytest.raises(ValueError, match="pass@9"):
        pass_at_k(8, 1, 9)


def test_the_estimator_is_unbiased_and_agrees_with_the_exact_value():
    """On a real model and real prompts: sample, verify, estimate; the exact value lies within the
    estimator's error."""
    torch.manual_seed(0)
    model = GPT(GPTConfig())
    problems = TASKS["arithmetic"].sample(Cell(1, 2), 64, np.random.default_rng(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = torch.from_numpy(np.hstack(problems))
    for _ in range(25):  # enough for masses between 0 and 1
        optimizer.zero_grad()
        (-token_logprobs(model, rows, 5).mean()).backward()
        optimizer.step()
    for temperature in (1.0, 0.5):
        exact = log_mass(model, *problems, temperature)
        assert 0.003 < np.exp(exact).mean() < 0.9
        generator = torch.Generator().manual_seed(1)
        right, _, _ = sampled(model, problems, "arithmetic", 256, temperature, generator)
        for k in (1, 4, 16, 64):
            estimates, truth = pass_at_k(256, right, k), exact_pass_at_k(exact, k)
            # the spread of the estimator over the binomial number of hits, prompt by prompt
            draws = np.random.default_rng(k).binomial(256, np.exp(exact), size=(200, 64))
            spread = pass_at_k(256, draws, k).mean(1).std()
            assert abs(estimates.mean() - truth.mean()) < 4 * spread


def test_the_bootstrap_of_very_many_prompts_is_its_normal_limit():
    values = np.random.default_rng(0).random((20_000, 2))
    for drawn, limit in zip(bootstrap(values[:9_999]), bootstrap(values[:10_000])):
        assert drawn == pytest.approx(limit, abs=1e-3)
    assert all(np.shape(end) == (2,) for end in bootstrap(values))


def test_bootstrap_interval():
    values = np.random.default_rng(0).random((200, 3))
    low, high = bootstrap(values)
    assert (low < values.mean(0)).all() and (values.mean(0) < high).all()
    width = 2 * 1.96 * values.std(0) / 200 ** 0.5
    assert np.allclose(high - low, width, rtol=0.15)
    assert np.array_equal(bootstrap(values)[0], low)


# ------------------------------------------------------------------------------- what is measured

@pytest.mark.parametrize("task,cell", CELLS, ids=[f"{task} {cell}" for task, cell in CELLS])
def test_evaluation_problems_are_fixed_reserved_clean_and_of_their_cell(task, cell):
    family, n = TASKS[task], 40
    problems, again = (eval_problems(task, cell, n) for _ in range(2))
    assert (problems.prompts == again.prompts).all() and len(problems.prompts) == n
    assert family.matches(problems.prompts, cell).all()
    accepted = family.accepted(problems.prompts)                                 # never noisy
    assert (accepted == problems.solutions[:, None]).all(2).any(1).all()
    if family.enumerated(cell):
        assert len(np.unique(problems.prompts, axis=0)) == n
    else:
        assert reserved(problems.prompts).all()                                # never trained on


def test_an_enumerated_cell_gives_each_of_its_problems_once():
    cell = Cell(1, 2)
    every = eval_problems("arithmetic", cell, 10_000).prompts
    assert len(every) == len(np.unique(every, axis=0)) == TASKS["arithmetic"].size(cell) == 800


@pytest.mark.parametrize("task,cell,first", [
    ("arithmetic", Cell(3, 4),
     ["<bos> 6184 [neg][x3][swap] =",
      "<bos> 7382 [x3][rev][sum] ="]),
    ("graph", Cell(2, 6),
     ["<bos> ; m j ; o f ; e a ; l o ; a i ; j k = >> e =",
      "<bos> ; o c ; c p ; e j ; b l ; n m ; d n = >> o ="]),
    ("route", Cell(2, 4, branching=2),
     ["<bos> ; a o ; p m ; p a ; m o = p o =",
      "<bos> ; b m ; d e ; e m ; d b = d m ="]),
    ("arithmetic", Cell(1, 2),
     ["<bos> 77 [rot] =",
      "<bos> 11 [+3] ="]),
])
def test_evaluation_prompts_are_the_same_for_ever(task, cell, first):
    """Results of other days stand beside today's prompt by prompt, so these may never change."""
    assert [decode(prompt) for prompt in eval_problems(task, cell, 2).prompts] == first


def test_mean_masses_are_those_of_the_prompts_at_that_temperature():
    model, seen = peaked(), []
    for temperature in (1.0, 0.5):
        masses = split_masses(model, "arithmetic", "depth", 5, temperature)
        assert list(masses) == list(SPLITS)
        for split, cells in AXES["arithmetic"]["depth"].items():
            assert list(masses[split]) == cells
            for cell in cells:
                exact = log_mass(model, *eval_problems("arithmetic", cell, 5), temperature)
                assert np.array_equal(masses[split][cell], exact)
        means = mean_masses(model, ["arithmetic", "graph"], "depth", 5, temperature)
        both = [masses, split_masses(model, "graph", "depth", 5, temperature)]
        for split in SPLITS:
            cells = [np.exp(x).mean() for by_split in both for x in by_split[split].values()]
            assert means[split] == pytest.approx(np.mean(cells), rel=1e-12)
        seen.append(means["id"])
    assert seen[0] != pytest.approx(seen[1], rel=0.1)
    assert list(mean_masses(model, ["graph"], "depth", 2, splits=["edge"])) == ["edge"]


def test_sampled_entropy_is_per_token_written_at_that_temperature():
    """Surprise per token, beside the exact entropy in the contexts of other samples. After EOS
    nothing counts, so a model that stops early is no less random."""
    model = peaked(std=0.2)
    problems = TASKS["arithmetic"].sample(Cell(3, 4), 50, np.random.default_rng(0))
    last = []
    for temperature in (1.0, 0.5):
        generator = torch.Generator().manual_seed(0)
        _, stop, entropy = sampled(model, problems, "arithmetic", 40, temperature, generator)
        exact = sampling_entropy(model, [Problems(*(np.tile(x, (20, 1)) for x in problems))],
                                 temperature)
        assert entropy == pytest.approx(exact, rel=0.02)
        written, _ = generate(model, torch.from_numpy(problems.prompts), 15, temperature, 40)
        assert stop == pytest.approx((written == EOS).any(1).float().mean().item(), abs=0.05)
        assert 0.1 < stop < 0.9  # so that entropy per slot would be far off
        last.append(entropy)
    assert last[1] < 0.95 * last[0]


# ---------------------------------------------------------------------------- reach or efficiency?

def test_coverage_of_masses_made_by_hand():
    base = np.log([0.5, 0.5, 0.01, 1e-9, 0.02, 0.9, 1e-9, 0.5, 0.5, 0.5])
    tuned = np.array([0, np.log(1e-3), 0, 0, np.log(0.01), 0, -np.inf, -np.inf, -np.inf, 0])
    assert measure.coverage(base, tuned, 0.01) == {
        "base only": 0.3, "tuned only": 0.1, "both": 0.5, "neither": 0.1}
    assert measure.coverage(base, tuned, 1e-12) == {
        "base only": 0.3, "tuned only": 0.0, "both": 0.7, "neither": 0.0}
    for threshold in measure.THRESHOLDS:
        ours = measure.coverage(base, tuned, threshold)
        swapped = measure.coverage(tuned, base, threshold)
        assert sum(ours.values()) == pytest.approx(1) and ours["both"] == swapped["both"]
        assert ours["base only"] == swapped["tuned only"]


def test_the_solvable_mass_is_where_k_tries_are_even_odds():
    for k in (1, 256, 2 ** 20):
        mass = measure.solvable_mass(k)
        assert exact_pass_at_k(np.log(mass), k) == pytest.approx(0.5, rel=1e-12)
    assert exact_pass_at_k(np.log(measure.solvable_mass(7, 0.9)), 7) == pytest.approx(0.9)


def test_reach_of_masses_made_by_hand():
    base, tuned = np.log([0.001, 0.5, 1.0]), np.log([0.25, 0.75, 1e-30])
    gaps = [1 - 0.999 ** 256 - 0.25, 0.25, 1.0]
    assert measure.efficiency_gap(base, tuned) == pytest.approx(gaps)
    found = measure.reach(base, tuned)
    assert found["gap"]["gap"] == pytest.approx(np.mean(gaps))
    assert found["gap"]["low"] < found["gap"]["gap"] < found["gap"]["high"]
    assert found["gap"]["tuned"] == pytest.approx(1 / 3)
    assert found["gap"]["base"] == pytest.approx((3 - 0.999 ** 256) / 3)
    assert list(found["coverage"]) == ["256 tries", "0.1", "0.01", "0.001", "0.0001", "1e-06"]
    assert found["coverage"]["256 tries"] == pytest.approx(
        {"base only": 1 / 3, "tuned only": 1 / 3, "both": 1 / 3, "neither": 0})


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_perplexity_and_entropy_token_by_token(temperature):
    model, prompt = tiny(), [1, 3, 4]
    completions = [[3, EOS, PAD, PAD], [4, 4, 1, EOS], [3, 1, 4, 4], [EOS, PAD, PAD, PAD],
                   [PAD, 3, EOS, PAD]]
    tokens = torch.tensor([prompt + row for row in completions])
    ours = measure.perplexity(model, tokens, 3, temperature)
    _, entropy, mask = measure.score(model, tokens, 3, temperature, chunk=2)
    assert mask.sum(1).tolist() == [2, 4, 4, 1, 3]
    for row, perplexity, entropies in zip(completions, ours, entropy.numpy()):
        length = row.index(EOS) + 1 if EOS in row else 4
        product = 1.0
        for t in range(length):
            p = next_distribution(model, prompt + row[:t], temperature)
            product *= p[row[t]]
            assert entropies[t] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-12)
        assert perplexity == pytest.approx(product ** (-1 / length), rel=1e-10)


def test_perplexities_say_who_is_surprised_by_whom():
    base = peaked()
    sharp = copy.deepcopy(base)
    sharp.head.weight.data *= 3
    cells = [TASKS["arithmetic"].sample(Cell(depth, 3), 30, np.random.default_rng(0))
             for depth in (1, 2)]
    for temperature in (1.0, 0.7):
        found = measure.perplexities(base, sharp, cells, temperature, seed=0)
        gold = np.concatenate([np.exp(-log_mass(base, *cell, temperature) / cell.solutions.shape[1])
                               for cell in cells])
        assert found["base on gold"]["median"] == pytest.approx(np.median(gold), rel=1e-5)
        assert found["base on gold"]["90%"] == pytest.approx(np.quantile(gold, 0.9), rel=1e-5)
        assert found["tuned on gold"]["median"] > found["base on gold"]["median"]
        assert found["tuned on its own"]["median"] < found["base on tuned's"]["median"]
        assert found["base on tuned's"]["median"] < found["base on its own"]["median"]


def test_sampling_entropy_against_every_completion_of_a_tiny_model():
    """Expected sum of the entropies along a completion, over its expected length."""
    model, prompt, temperature = tiny(std=1.0), [1, 3, 4], 0.8
    total = length = 0.0
    for t in range(3):
        for prefix in itertools.product([0, 1, 3, 4], repeat=t):  # not ended yet
            reached = np.prod([next_distribution(model, prompt + list(prefix[:i]),
                                                 temperature)[prefix[i]] for i in range(t)])
            p = next_distribution(model, prompt + list(prefix), temperature)
            total, length = total - reached * (p * np.log(p)).sum(), length + reached
    problems = Problems(np.tile(prompt, (20_000, 1)), np.zeros((20_000, 3), dtype=int))
    entropy = sampling_entropy(model, [problems], temperature)
    assert entropy == pytest.approx(total / length, rel=0.005)


# --------------------------------------------------------------------------- matched temperatures

def test_twice_the_logits_are_matched_at_twice_the_temperature():
    base = peaked()
    tuned = copy.deepcopy(base)
    tuned.head.weight.data *= 2
    cells = [TASKS["arithmetic"].sample(Cell(d, 3), 20, np.random.default_rng(d)) for d in (1, 2)]
    rows = matched_passes(("base", base), ("tuned", tuned), "arithmetic", cells, 1.0, seed=0)
    assert [row["model"] for row in rows] == [
        "base", "base, as random as tuned", "tuned", "tuned, as random as base"]
    assert [row["temperature"] for row in rows] == [1, 0.5, 1, 2]
    assert rows[0]["entropy"] == rows[3]["entropy"] > 1.1 * rows[1]["entropy"]
    assert rows[1]["entropy"] == rows[2]["entropy"]
    assert rows[0]["pass"] == rows[3]["pass"] != rows[1]["pass"] == rows[2]["pass"]
    masses = np.concatenate([log_mass(base, *problems, 0.5) for problems in cells])
    assert rows[1]["pass"][0] == pytest.approx(np.exp(masses).mean())


def test_bisection_finds_known_temperatures_and_says_when_there_is_none():
    for T in (1, 1.37, 30, 0.2, 1 / 50):
        assert measure.match_temperature(np.log, np.log(T)) == pytest.approx(T, rel=0.005)
    tries = []
    found = measure.match_temperature(lambda T: tries.append(T) or T, 1.37, tolerance=1e-9)
    assert found == pytest.approx(1.37, rel=1e-9) and len(tries) < 45

    def two_way(T, gap=1.5):
        """Entropy of a choice between logits 0 and gap."""
        p = 1 / (1 + np.exp(gap / T))
        return -p * np.log(p) - (1 - p) * np.log1p(-p)
    target = two_way(1, np.log(0.7 / 0.3))  # that of p = 0.3
    found = measure.match_temperature(two_way, target, tolerance=1e-6)
    assert found == pytest.approx(1.5 / np.log(0.7 / 0.3), rel=1e-5)
    assert measure.match_temperature(two_way, 0.7) is None  # above log 2
    assert measure.match_temperature(two_way, 0) is None    # nothing is colder


def test_a_model_that_no_temperature_matches_gets_none():
    base = peaked()
    frozen = copy.deepcopy(base)
    frozen.head.weight.data *= 1e7  # entropy 0 at any temperature in reach
    cells = [eval_problems("arithmetic", Cell(2, 4), 3)]
    rows = matched_passes(("base", base), ("frozen", frozen), "arithmetic", cells, 1.0, seed=0)
    assert [row["temperature"] for row in rows][2:] == [1, None]
    assert all("pass" in row and "entropy" in row for row in rows if row["temperature"])
    assert set(rows[3]) == {"model", "temperature"}
    json.dumps(rows, allow_nan=False)
