"""analyses.py: coverage by hand, perplexity and entropy by brute force, temperatures that are known, and the tables."""
import copy
import glob
import itertools
import json
import os
import shlex

import numpy as np
import pytest
import torch

import analyses
import evaluate
import finetune
from evaluate import exact_pass_at_k, log_mass
from model import GPT, GPTConfig, load_checkpoint
from tasks import EOS, PAD, TASKS, Cell, Problems, apply_operation
from test_scripts import SMALL_GRPO, assert_same, interrupt_after


def tiny(std=0.5, **options):
    torch.manual_seed(0)
    model = GPT(GPTConfig(5, 8, 2, 2, 8, **options)).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std)
    return model


def next_distribution(model, tokens, temperature):
    with torch.no_grad():
        return torch.softmax(model(torch.tensor([tokens]))[0, -1] / temperature, -1).numpy()


# ------------------------------------------------------------------------------------------------------------ the maths

def test_coverage_of_masses_made_by_hand():
    base = np.log([0.5, 0.5, 0.01, 1e-9, 0.02, 0.9, 1e-9, 0.5, 0.5, 0.5])
    tuned = np.array([0, np.log(1e-3), 0, 0, np.log(0.01), 0, -np.inf, -np.inf, -np.inf, 0])
    assert analyses.coverage(base, tuned, 0.01) == {"base only": 0.3, "tuned only": 0.1, "both": 0.5, "neither": 0.1}
    assert analyses.coverage(base, tuned, 1e-12) == {"base only": 0.3, "tuned only": 0.0, "both": 0.7, "neither": 0.0}
    for threshold in analyses.THRESHOLDS:
        ours, swapped = analyses.coverage(base, tuned, threshold), analyses.coverage(tuned, base, threshold)
        assert sum(ours.values()) == pytest.approx(1) and ours["base only"] == swapped["tuned only"] and ours["both"] == swapped["both"]


def test_the_solvable_mass_is_where_k_tries_are_even_odds():
    for k in (1, 256, 2 ** 20):
        assert exact_pass_at_k(np.log(analyses.solvable_mass(k)), k) == pytest.approx(0.5, rel=1e-12)
    assert exact_pass_at_k(np.log(analyses.solvable_mass(7, 0.9)), 7) == pytest.approx(0.9)


def test_efficiency_gap():
    base, tuned = np.log([0.001, 0.5, 1.0]), np.log([0.25, 0.75, 1e-30])
    assert analyses.efficiency_gap(base, tuned) == pytest.approx([1 - 0.999 ** 256 - 0.25, 0.25, 1.0])


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_perplexity_and_entropy_token_by_token(temperature):
    model, prompt = tiny(), [1, 3, 4]
    written = [[3, EOS, PAD, PAD], [4, 4, 1, EOS], [3, 1, 4, 4], [EOS, PAD, PAD, PAD], [PAD, 3, EOS, PAD]]
    tokens = torch.tensor([prompt + w for w in written])
    ours = analyses.perplexity(model, tokens, 3, temperature)
    _, entropy, mask = analyses.score(model, tokens, 3, temperature, chunk=2)
    assert mask.sum(1).tolist() == [2, 4, 4, 1, 3]
    for row, perplexity, entropies in zip(written, ours, entropy.numpy()):
        length = row.index(EOS) + 1 if EOS in row else 4
        product = 1.0
        for t in range(length):
            p = next_distribution(model, prompt + row[:t], temperature)
            product *= p[row[t]]
            assert entropies[t] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-12)
        assert perplexity == pytest.approx(product ** (-1 / length), rel=1e-10)


def test_perplexity_of_gold_is_the_exact_mass_per_token():
    torch.manual_seed(0)
    model, problems = GPT(GPTConfig()), TASKS["arithmetic"].sample(Cell(2, 3), 20, np.random.default_rng(0))
    ours = analyses.perplexity(model, torch.from_numpy(np.hstack(problems)), problems.prompts.shape[1])
    assert ours == pytest.approx(np.exp(-log_mass(model, *problems) / problems.solutions.shape[1]), rel=1e-6)


def test_sampling_entropy_against_every_completion_of_a_tiny_model():
    """Expected sum of the entropies along a completion, over its expected length, by enumeration."""
    model, prompt, temperature = tiny(), [1, 3, 4], 0.8
    total = length = 0.0
    for t in range(3):
        for prefix in itertools.product([0, 1, 3, 4], repeat=t):  # not ended yet
            reached = np.prod([next_distribution(model, prompt + list(prefix[:i]), temperature)[prefix[i]] for i in range(t)])
            p = next_distribution(model, prompt + list(prefix), temperature)
            total, length = total - reached * (p * np.log(p)).sum(), length + reached
    problems = Problems(np.tile(prompt, (20_000, 1)), np.zeros((20_000, 3), dtype=int))
    assert analyses.sampling_entropy(model, [problems], temperature) == pytest.approx(total / length, rel=0.005)


# --------------------------------------------------------------------------------------------------- matched temperatures

def test_twice_the_logits_are_matched_at_twice_the_temperature():
    base = GPT(GPTConfig(n_layer=1, n_embd=16, tied=False))
    torch.nn.init.normal_(base.head.weight, std=0.4)
    tuned = copy.deepcopy(base)
    tuned.head.weight.data *= 2
    cells = [TASKS["arithmetic"].sample(Cell(d, 3), 20, np.random.default_rng(d)) for d in (1, 2)]
    rows = analyses.temperature_rows(("base", base), ("tuned", tuned), cells, 1.0, seed=0)
    assert [row["model"] for row in rows] == ["base", "base, as random as tuned", "tuned", "tuned, as random as base"]
    assert [row["temperature"] for row in rows] == [1, 0.5, 1, 2]
    assert rows[0]["entropy"] == rows[3]["entropy"] > 1.1 * rows[1]["entropy"] == 1.1 * rows[2]["entropy"]
    assert rows[0]["pass"] == rows[3]["pass"] and rows[1]["pass"] == rows[2]["pass"] != rows[0]["pass"]


def test_bisection_finds_known_temperatures_and_says_when_there_is_none():
    for T in (1, 1.37, 30, 0.2, 1 / 50):
        assert analyses.match_temperature(np.log, np.log(T)) == pytest.approx(T, rel=0.005)
    tries = []
    assert analyses.match_temperature(lambda T: tries.append(T) or T, 1.37, tolerance=1e-9) == pytest.approx(1.37, rel=1e-9)
    assert len(tries) < 40
    # a two-way choice with logits 0 and 1.5: the temperature at which its entropy is that of p = 0.3
    def two_way(T, gap=1.5):
        p = 1 / (1 + np.exp(gap / T))
        return -p * np.log(p) - (1 - p) * np.log1p(-p)
    assert analyses.match_temperature(two_way, two_way(1, np.log(0.7 / 0.3)), tolerance=1e-6) == pytest.approx(1.5 / np.log(0.7 / 0.3), rel=1e-5)
    assert analyses.match_temperature(two_way, 0.7) is None and analyses.match_temperature(two_way, 0) is None  # above log 2; nothing is colder


def test_a_model_that_no_temperature_matches_gets_none(capsys):
    base = GPT(GPTConfig(n_layer=1, n_embd=16, tied=False))
    frozen = copy.deepcopy(base)
    frozen.head.weight.data *= 1e7  # entropy 0 at any temperature in reach, and the base's is not 0 at any
    models = [("base", base), ("frozen", frozen)]
    measured = {name: evaluate.split_masses(model, "arithmetic", "composition", 3) for name, model in models}
    records = analyses.analyse(models, "arithmetic", "composition", 3, 1.0, measured)
    assert [row["temperature"] for row in records[0]["temperatures"]][2:] == [1, None]
    assert all("pass" in row and "entropy" in row for row in records[0]["temperatures"] if row["temperature"])
    json.dumps(records, allow_nan=False)
    analyses.show(records)
    said = capsys.readouterr().out
    assert sum(line.split()[-1] == "none" for line in said.splitlines() if "frozen, as random as base" in line) == 3


def test_percentages_never_hide_a_prompt():
    assert [analyses.percent(n / 768) for n in (0, 1, 4, 767, 768)] == ["0", "<1", "1", ">99", "100"]


# ------------------------------------------------------------------------------------------------- steps, and the tables

def test_kept_checkpoints_are_those_of_shorter_runs_also_after_a_resume(base, tmp_path, monkeypatch, capsys):
    run = lambda name, *more: ["--init", base, *SMALL_GRPO, "--keep-every", "4", "--out", str(tmp_path / f"{name}.pt"), *more]
    finetune.main(run("whole"))
    names = [f"whole.step{n}.pt" for n in ("0004", "0008", "0012")]
    assert sorted(os.path.basename(p) for p in glob.glob(str(tmp_path / "whole.step*"))) == names
    assert [load_checkpoint(tmp_path / n)[1]["step"] for n in names] == [4, 8, 12]
    finetune.main(run("short", "--steps", "8"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 10)
        with pytest.raises(SystemExit):
            finetune.main(run("halves"))
    assert not os.path.exists(tmp_path / "halves.step0008.pt")
    finetune.main(shlex.split(capsys.readouterr().out.strip().splitlines()[-1].split("go on with: ")[1])[2:])
    weights = {n: dict(load_checkpoint(tmp_path / n)[0].state_dict()) for n in sorted(os.listdir(tmp_path)) if n.endswith(".pt")}
    assert_same(weights["whole.step0008.pt"], weights["short.pt"])
    assert_same(weights["whole.step0012.pt"], weights["whole.pt"])
    for n in names:
        assert_same(weights[n], weights[n.replace("whole", "halves")])
    assert not torch.equal(weights[names[0]]["embed.weight"], weights[names[1]]["embed.weight"])


def test_evaluate_prints_and_writes_the_analyses_of_several_checkpoints(base, tmp_path, capsys):
    finetune.main(["--init", base, *SMALL_GRPO, "--keep-every", "6", "--out", str(tmp_path / "g.pt")])
    steps = sorted(glob.glob(str(tmp_path / "g.step*.pt")))
    capsys.readouterr()
    evaluate.main(["--ckpt", base, *steps, "--axis", "composition", "--prompts", "8", "--cold", "--analyses", "--json", str(tmp_path / "m.json")])
    said = capsys.readouterr().out
    assert said.index("pass@1 = mass") < said.index("coverage") < said.index("efficiency gap") < said.index("matched temperature")
    tables = said[said.index("coverage"):].splitlines()
    for split, step in itertools.product(("id", "edge", "hard"), ("0006", "0012")):
        rows = [line.split() for line in tables if line.split()[:2] == [split, f"g.step{step}"]]
        assert len(rows) == 3  # coverage, gap and perplexity; its own temperature
        assert any(line.startswith(split) and f"g.step{step}, as random as base" in line for line in tables)
    with open(tmp_path / "m.json") as file:
        data = json.load(file)
    assert [(r["split"], r["model"]) for r in data["analyses"]] == list(itertools.product(("id", "edge", "hard"), ("g.step0006", "g.step0012")))
    masses = lambda model, split: np.array([p["log_mass"] for p in data["prompts"] if (p["model"], p["split"]) == (model, split)])
    for record in data["analyses"]:
        ours, theirs = masses(record["model"], record["split"]), masses("base", record["split"])
        assert record["prompts"] == len(ours)
        assert record["gap"]["gap"] == pytest.approx((exact_pass_at_k(theirs, 256) - np.exp(ours)).mean())
        assert record["gap"]["low"] <= record["gap"]["gap"] <= record["gap"]["high"]
        assert list(record["coverage"]) == ["256 tries", "0.1", "0.01", "0.001", "0.0001", "1e-06"]
        assert record["coverage"]["1e-06"]["base only"] == np.mean((theirs >= np.log(1e-6)) & (ours < np.log(1e-6)))
        assert record["perplexity"]["tuned on gold"]["median"] > 1 and record["perplexity"]["base on its own"]["90%"] > 1
        theirs_at_1, theirs_matched, ours_at_1, ours_matched = record["temperatures"]
        assert theirs_at_1["pass"]["256"] == pytest.approx(exact_pass_at_k(theirs, 256).mean(), rel=1e-4)
        assert ours_at_1["pass"]["1"] == pytest.approx(np.exp(ours).mean(), rel=1e-4)
        assert ours_matched["entropy"] == pytest.approx(theirs_at_1["entropy"], rel=0.02)
        assert theirs_matched["entropy"] == pytest.approx(ours_at_1["entropy"], rel=0.02)


# --------------------------------------------------------------------------------------------------------------- step by step

def test_the_steps_of_a_solution_multiply_up_to_its_mass():
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_embd=16)).double()
    for task, cell in (("arithmetic", Cell(3, 4)), ("graph", Cell(2, 6))):
        problems = evaluate.eval_problems(task, cell, 6)
        steps = analyses.step_log_mass(model, task, *problems)
        assert steps.shape == (6, cell.depth) and np.allclose(steps.sum(1), evaluate.log_mass(model, *problems), atol=1e-9)


def test_a_wrong_chain_errs_once_and_then_follows_from_its_error():
    task, cell = TASKS["arithmetic"], Cell(3, 4, "mixed")
    problems = task.sample(cell, 50, np.random.default_rng(0))
    chains = task.wrong_chains(problems.prompts, np.random.default_rng(1))
    assert ((chains != problems.solutions)[:, :5].sum(1) == 1).all() and (chains[:, [4, 9, 14]] == problems.solutions[:, [4, 9, 14]]).all()
    state, zero, ops = task.parse(problems.prompts)
    for t in (1, 2):
        before, after = chains[:, 5 * t - 5:5 * t - 1] - zero, chains[:, 5 * t:5 * t + 4] - zero
        assert (apply_operation(ops[:, t], before) == after).all()


def test_the_law_of_the_steps_is_the_law_of_the_whole():
    steps = np.log(np.random.default_rng(0).uniform(0.05, 0.95, (20, 3)))
    logit = lambda x: x - np.log(-np.expm1(x))
    for beta in (0.3, 1.0, 3.0):
        tilted = analyses.tilted_steps(steps, beta)
        assert np.allclose(logit(tilted.sum(1)), logit(steps.sum(1)) + 1 / beta) and (tilted > steps).all() and (tilted < 0).all()


def test_per_step_prints_and_writes_each_step(base, tmp_path, capsys):
    tuned = str(tmp_path / "tilt.pt")
    finetune.main(["--init", base, "--kl", "k1_reward", "--beta", "1", "--scale", "none", "--reward", "format", "--steps", "1", "--prompts-per-step", "2",
                   "--eval-prompts", "2", "--out", tuned])
    evaluate.main(["--ckpt", base, tuned, "--prompts", "8", "--per-step", "--json", str(tmp_path / "s.json")])
    assert "probability of the next whole step" in capsys.readouterr().out
    with open(tmp_path / "s.json") as file:
        records = json.load(file)["steps"]
    assert [(r["depth"], r["prefix"], r["step"]) for r in records] == [
        (1, "right", 1), (2, "right", 1), (2, "right", 2), (2, "corrupted", 2),
        (3, "right", 1), (3, "right", 2), (3, "right", 3), (3, "corrupted", 2), (3, "corrupted", 3)]
    assert all(r["law"] > r["base"] if r["prefix"] == "right" else r["law"] == r["base"] for r in records)
