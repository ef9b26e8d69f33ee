"""evaluate.py: exact mass against enumeration, exact pass@k against sampling, intervals, tables."""
import itertools
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch

import evaluate
from evaluate import bootstrap, exact_pass_at_k, log_mass, pass_at_k
from model import GPT, GPTConfig, generate
from tasks import EOS, PAD, TASKS, Cell, encode


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_mass_against_every_completion_of_a_tiny_model(temperature):
    torch.manual_seed(0)
    model = GPT(GPTConfig(5, 8, 2, 2, 8)).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    prompt = torch.tensor([[1, 3, 4]])
    every = np.array(list(itertools.product(range(5), repeat=4)))                 # all 625 strings of 4 tokens
    masses = np.exp(log_mass(model, prompt.repeat(625, 1), every, temperature))
    assert abs(masses.sum() - 1) < 1e-10
    for string, mass in zip(every[::37], masses[::37]):                           # each is the product, token by token
        p, tokens = 1.0, prompt
        for token in string:
            p *= torch.softmax(model(tokens)[0, -1] / temperature, -1)[token].item()
            tokens = torch.cat([tokens, torch.tensor([[token]])], 1)
        assert abs(p - mass) < 1e-12
    # and what generate() draws has these frequencies: after EOS only PAD, so strings collapse onto their prefix
    drawn, _ = generate(model, prompt, 4, temperature, 40_000, torch.Generator().manual_seed(0))
    expected = {}
    for string, mass in zip(every.tolist(), masses):
        end = string.index(EOS) + 1 if EOS in string else 4
        expected[tuple(string[:end] + [PAD] * (4 - end))] = expected.get(tuple(string[:end] + [PAD] * (4 - end)), 0) + mass
    counts = {}
    for row in map(tuple, drawn.tolist()):
        counts[row] = counts.get(row, 0) + 1
    assert set(counts) <= set(expected)
    assert all(abs(counts.get(s, 0) / 40_000 - m) < 5 * (m / 40_000) ** 0.5 + 1e-4 for s, m in expected.items())


def test_greedy_mass_is_one_or_zero():
    torch.manual_seed(0)
    model = GPT(GPTConfig())
    problems = TASKS["arithmetic"].sample(Cell(2, 3), 20, np.random.default_rng(0))
    written, _ = generate(model, torch.from_numpy(problems.prompts), 8, temperature=0)
    rows = written.numpy()
    rows = rows[~(rows == EOS).any(1)]  # after EOS, generate() writes PAD without asking the model
    prompts = problems.prompts[~(written.numpy() == EOS).any(1)]
    assert len(rows) and (log_mass(model, prompts, rows, 0) == 0).all()
    assert (log_mass(model, problems.prompts, problems.solutions, 0) == -np.inf).all()


def test_log_mass_takes_tensors_and_arrays_in_any_chunk():
    model = GPT(GPTConfig())
    prompts, solutions = TASKS["graph"].sample(Cell(2, 8), 30, np.random.default_rng(0))
    a = log_mass(model, prompts, solutions)
    b = log_mass(model, torch.from_numpy(prompts), torch.from_numpy(solutions), chunk=7)
    assert a.shape == (30,) and a.dtype == np.float64 and np.allclose(a, b, atol=1e-5)


def test_exact_pass_at_k_to_all_digits():
    getcontext().prec = 400
    for log_q in (-1e-17, -1e-9, -0.1, -0.7, -1.0, -30.0, -80.0, -690.0):
        for k in (1, 4, 1024, 2 ** 20):
            exact = 1 - (1 - Decimal(log_q).exp()) ** k
            assert exact_pass_at_k(np.array([log_q]), k)[0] == pytest.approx(float(exact), rel=1e-9, abs=0)
    assert exact_pass_at_k([0.0, -np.inf, 1e-12], 5).tolist() == [1, 0, 1]
    assert exact_pass_at_k(np.log([1e-12]), 1024)[0] == pytest.approx(1.024e-9, rel=1e-6)  # not 0: "nobody sampled it yet"


def test_pass_at_k_equals_counting_subsets():
    for n, c, k in itertools.product((1, 4, 6), range(7), range(1, 7)):
        if c <= n and k <= n:
            right = [True] * c + [False] * (n - c)
            assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in itertools.combinations(right, k)]), abs=1e-12)
    assert pass_at_k(8, 1, 4) == 0.5 and pass_at_k(16, 2, 8) == pytest.approx(0.7667, abs=1e-4)
    assert pass_at_k(1000, np.array([0, 1, 500]), 256).shape == (3,)
    assert pass_at_k(5, 5, 5) == 1 and pass_at_k(5, 0, 5) == 0
    with pytest.raises(ValueError, match="pass@9"):
        pass_at_k(8, 1, 9)


def test_the_estimator_is_unbiased_and_agrees_with_the_exact_value():
    """On a real model and real prompts: sample, verify, estimate; the exact value lies within the estimator's error."""
    torch.manual_seed(0)
    model = GPT(GPTConfig())
    cell = Cell(1, 2)
    problems = TASKS["arithmetic"].sample(cell, 64, np.random.default_rng(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = torch.from_numpy(np.hstack(problems))
    for _ in range(25):  # enough for masses between 0 and 1
        loss = -evaluate.token_logprobs(model, rows, 5).mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    exact = log_mass(model, *problems)
    assert 0.003 < np.exp(exact).mean() < 0.9
    right, stop, entropy = evaluate.sampled(model, problems, "arithmetic", 256, 1.0, torch.Generator().manual_seed(1))
    for k in (1, 4, 16, 64):
        estimates, truth = pass_at_k(256, right, k), exact_pass_at_k(exact, k)
        # the spread of the estimator over the binomial number of hits, prompt by prompt
        draws = np.random.default_rng(k).binomial(256, np.exp(exact), size=(200, 64))
        spread = pass_at_k(256, draws, k).mean(1).std()
        assert abs(estimates.mean() - truth.mean()) < 4 * spread
    assert 0 <= stop <= 1 and entropy > 0


def test_bootstrap_interval():
    values = np.random.default_rng(0).random((200, 3))
    low, high = bootstrap(values)
    assert (low < values.mean(0)).all() and (values.mean(0) < high).all()
    width = 2 * 1.96 * values.std(0) / 200 ** 0.5
    assert np.allclose(high - low, width, rtol=0.15)
    assert np.array_equal(bootstrap(values)[0], low)


def test_evaluation_prompts_are_fixed():
    a, b = (evaluate.eval_problems("arithmetic", Cell(3, 4), 50) for _ in range(2))
    assert (a.prompts == b.prompts).all()
    more = evaluate.eval_problems("arithmetic", Cell(1, 2), 10_000)
    assert len(more.prompts) == 800  # an enumerated cell gives what it has


def test_marking_wrong_steps():
    task = TASKS["graph"]
    prompt = np.array(encode("<bos> ; c d ; a b ; b c = >> a ="))
    solution = task.solutions(prompt[None])[0]
    assert evaluate.mark_wrong(task, prompt, solution, solution.tolist()) == "; a b ; b c <eos>"
    assert evaluate.mark_wrong(task, prompt, solution, encode("; a b ; b d <eos>")) == "; a b ✗; b d <eos>"
    assert evaluate.mark_wrong(task, prompt, solution, encode("; a b ; b c ; c")) == "; a b ✗; b c ; c"
    assert evaluate.mark_wrong(task, prompt, solution, []) == ""


def test_chart_puts_curves_where_they_belong():
    ks = [2 ** i for i in range(21)]
    text = evaluate.chart({"one": [1.0] * 21, "rising": [i / 20 for i in range(21)]}, ks)
    lines = text.split("\n")
    assert lines[0].startswith(" 1.00 |a") and lines[0].rstrip().endswith("*") and lines[11].startswith(" 0.00 |b") and "a = one" in text
