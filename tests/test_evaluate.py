"""evaluate.py: what it measures with which model and temperature, what it prints and writes, and
that it all fits a terminal."""
import csv
import glob
import itertools
import json
import os
import re
import shlex
import sys

import numpy as np
import pytest
import torch

import cli
import evaluate
import finetune
import measure
from cli import tables
from measure import eval_problems, exact_pass_at_k, log_mass, sampled, sampling_entropy
from model import GPT, GPTConfig, load_checkpoint, save_checkpoint
from tasks import AXES, OPERATIONS, SPLITS, TASKS, Cell, decode, encode
from theory import tilted_steps
from by_hand import assert_same, interrupt_after
from test_scripts import SMALL_GRPO

LONG = "a_checkpoint_with_a_name_that_says_everything_about_kl_0.1_and_lr_0.001_and_seed_3"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: path} of three untrained models that are far from alike; b is as trained by P1."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for seed, name in enumerate(["a", "b", LONG]):
        torch.manual_seed(seed)
        model = GPT(GPTConfig(n_layer=1, n_embd=16, tied=False))
        torch.nn.init.normal_(model.head.weight, std=0.4)
        paths[name] = str(folder / f"{name}.pt")
        save_checkpoint(paths[name], model, args={"kl": "k1_reward", "beta": 1.0} if seed else {})
    return paths


def run(*argv):
    evaluate.main([str(word) for word in argv])


def written(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def rows_of(data, **about):
    return [r for r in data if all(r[key] == value for key, value in about.items())]


# ------------------------------------------------------------------------------ what it measures

def test_every_row_is_of_its_own_model_and_temperature(models, tmp_path):
    """Each prompt's log mass: the tuned models at --temperature, the base at each of --cold too."""
    out = tmp_path / "e.json"
    run("--ckpt", models["a"], models["b"], "--prompts", 6, "--temperature", 0.8, "--cold", 0.5, 0,
        "--json", out)
    prompts = written(out)["prompts"]
    a, b = (load_checkpoint(models[name])[0] for name in "ab")
    views = {"a": (a, 0.8), "b": (b, 0.8), "a T=0.5": (a, 0.5), "a greedy": (a, 0)}
    assert list(dict.fromkeys(r["model"] for r in prompts)) == list(views)
    for name, (model, t) in views.items():
        for split, cells in AXES["arithmetic"]["depth"].items():
            for cell in cells:
                problems = eval_problems("arithmetic", cell, 6)
                rows = rows_of(prompts, model=name, split=split, cell=str(cell))
                found = [-np.inf if r["log_mass"] is None else r["log_mass"] for r in rows]
                assert np.array_equal(found, log_mass(model, *problems, t))
                assert [r["prompt"] for r in rows] == [decode(p) for p in problems.prompts]


def test_records_pool_their_cells_and_each_cell_is_sampled_once(models, tmp_path, monkeypatch):
    out, drawn = tmp_path / "e.json", []

    def counted(model, problems, task, samples, temperature, generator):
        drawn.append((problems.prompts.tobytes(), samples, temperature,
                      sampled(model, problems, task, samples, temperature, generator)))
        return drawn[-1][-1]
    monkeypatch.setattr(evaluate, "sampled", counted)
    run("--ckpt", models["a"], models["b"], "--prompts", 20, "--samples", 16, "--temperature", 0.5,
        "--cold", 0.3, "--json", out)
    data = written(out)
    cells = [(split, cell) for split in SPLITS for cell in AXES["arithmetic"]["depth"][split]]
    assert len(drawn) == 2 * len(cells)  # two models; the colder base is not sampled
    assert all((samples, t) == (16, 0.5) for _, samples, t, _ in drawn)
    for (name, (split, cell)), (_, _, _, (right, stop, entropy)) in zip(
            itertools.product("ab", cells), drawn):
        record, = rows_of(data["summary"], model=name, split=split, cell=str(cell))
        assert (record["stop"], record["entropy"]) == (stop, entropy)
        assert record["sampled"]["16"] == pytest.approx((right > 0).mean())
        model = load_checkpoint(models[name])[0]
        exact = sampling_entropy(model, [eval_problems("arithmetic", cell, 200)], 0.5)
        assert entropy == pytest.approx(exact, rel=0.15)
    for name, split in itertools.product("ab", SPLITS):
        whole, *parts = rows_of(data["summary"], model=name, split=split)
        assert whole["cell"] == "all" and whole["prompts"] == sum(r["prompts"] for r in parts)
        for key in ("stop", "entropy"):
            assert whole[key] == pytest.approx(np.mean([r[key] for r in parts]))
        for k in ("1", "4", "16"):
            parts_k = [r["sampled"][k] for r in parts]
            assert whole["sampled"][k] == pytest.approx(np.mean(parts_k))
        masses, base = (np.array([r["log_mass"] for r in rows_of(data["prompts"], model=model,
                                                                 split=split)])
                        for model in (name, "a"))
        for k in (1, 64, 2 ** 20):
            mean = exact_pass_at_k(masses, k).mean()
            key = cli.show_k(k)
            assert whole["pass"][key] == pytest.approx(mean)
            assert whole["low"][key] <= mean * (1 + 1e-9) <= whole["high"][key] * (1 + 2e-9)
        fell = None if name == "a" else np.mean(masses < base - measure.FELL)
        assert whole["fell"] == fell
    assert not any("stop" in r or "sampled" in r for r in rows_of(data["summary"], model="a T=0.3"))


def test_the_task_and_axis_are_those_of_the_base_unless_said(models, tmp_path):
    torch.manual_seed(0)
    graph = str(tmp_path / "graph.pt")
    save_checkpoint(graph, GPT(GPTConfig(n_layer=1, n_embd=16)),
                    args={"task": "graph", "axis": "length"})
    both = [graph, "--task", "both", "--axis", "tokens"]
    for argv, tasks, axis in (([graph, models["a"]], {"graph"}, "length"),
                              ([models["a"], graph], {"arithmetic"}, "depth"),
                              (both, {"arithmetic", "graph"}, "tokens")):
        run("--ckpt", *argv, "--prompts", 1, "--cold", "--json", tmp_path / "e.json")
        records = written(tmp_path / "e.json")["summary"]
        assert {r["task"] for r in records} == tasks and {r["axis"] for r in records} == {axis}


# ------------------------------------------------------------------------- several right answers

ROUTE = ["--task", "route", "--axis", "branching", "--prompts", 4, "--cold", 0.5]


def test_every_accepted_string_of_route_is_kept_and_summed(models, tmp_path):
    run("--ckpt", models["a"], models["b"], *ROUTE, "--redirect", "--json", tmp_path / "e.json")
    data = written(tmp_path / "e.json")
    for name, label, t in (("a", "a", 1.0), ("b", "b", 1.0), ("a", "a T=0.5", 0.5)):
        model = load_checkpoint(models[name])[0]
        strings = measure.string_masses(model, "route", "branching", 4, t)
        left = measure.redirected_masses(model, "route", "branching", strings, t)
        for split, cells in AXES["route"]["branching"].items():
            each, after = strings[split][cells[0]], left[split][cells[0]]
            rows = rows_of(data["prompts"], model=label, split=split)
            assert np.array_equal([r["log_masses"] for r in rows], each)
            assert np.array_equal([r["log_mass"] for r in rows], measure.total(each))
            assert np.array_equal([r["redirected"] for r in rows], after)
            whole, part = rows_of(data["summary"], model=label, split=split)
            q = np.exp(each)
            for record in (whole, part):
                assert record["pass"]["1"] == pytest.approx(q.sum(1).mean())
                for k in (1, 16, 2 ** 20):
                    distinct = -np.expm1(k * np.log1p(-q)).sum(1).mean()
                    assert record["distinct"][cli.show_k(k)] == pytest.approx(distinct)
                share = q / q.sum(1, keepdims=True)
                assert record["bits"] == pytest.approx(-(share * np.log2(share)).sum(1).mean())
                assert 2 ** record["most_bits"] == record["answers"] == cells[0].branching
                assert record["redirected"]["1"] == pytest.approx(np.exp(after).mean())


def test_cells_are_pooled_prompt_by_prompt(models, tmp_path):
    run("--ckpt", models["a"], "--task", "route", "--axis", "dead_ends", "--prompts", 3, "--cold",
        "--json", tmp_path / "e.json")
    whole, *parts = rows_of(written(tmp_path / "e.json")["summary"], split="edge")
    assert len(parts) == 2 and whole["prompts"] == 6
    assert whole["bits"] == pytest.approx(np.mean([r["bits"] for r in parts]))
    for k in ("1", "64"):
        distinct = [r["distinct"][k] for r in parts]
        assert whole["distinct"][k] == pytest.approx(np.mean(distinct))


def test_a_family_with_one_right_answer_says_nothing_of_several(models, tmp_path, capsys):
    run("--ckpt", models["a"], "--prompts", 1, "--json", tmp_path / "e.json")
    data = written(tmp_path / "e.json")
    assert not {"distinct", "bits", "redirected"} & set(data["summary"][0])
    assert "log_masses" not in data["prompts"][0] and "distinct" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("--ckpt", models["a"], "--redirect")
    assert "--redirect: prompts of arithmetic have one right answer" in capsys.readouterr().err


def test_the_table_of_several_right_answers(models, tmp_path, capsys):
    run("--ckpt", *models.values(), *ROUTE, "--redirect", "--show", 1, "--json", tmp_path / "e")
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    record = rows_of(written(tmp_path / "e")["summary"], model="b", split="hard")[0]
    row = next(line for line in said[said.index("\nanswers: "):].splitlines()
               if re.match(r"hard +all +b ", line))
    numbers = [f"{record['distinct'][k]:.2f}" for k in ("4", "16", "64", "1024")]
    left = [cli.probability(record["redirected"][k]) for k in ("1", "64")]
    assert row.split()[3:] == ["8", *numbers, f"{record['bits']:.2f}", "of", "3", *left]
    assert "1 of 8 solutions" in said


# -------------------------------------------------------------------------------- what it prints

@pytest.mark.parametrize("axis,task,names", [("tokens", "both", ["a", LONG]),
                                             ("depth", "arithmetic", [LONG, "a", "b"])])
def test_everything_printed_fits_100_columns(axis, task, names, models, tmp_path, capsys):
    run("--ckpt", *[models[name] for name in names], "--task", task, "--axis", axis,
        "--prompts", 2, "--samples", 2, "--show", 4, "--analyses", "--per-step",
        "--csv", tmp_path / "e.csv", "--json", tmp_path / "e.json")
    said = capsys.readouterr().out
    for words in ("pass@1 = mass", "@64", "@1024", "@2^20", "fell", "stop", "entropy", "greedy",
                  ", 2 each", "a_c", "…", "coverage", "efficiency gap", "perplexity",
                  "matched temperature", "probability of the next whole step", "✗"):
        assert words in said
    assert max(map(len, said.splitlines())) <= 100
    found = {r["model"] for r in written(tmp_path / "e.json")["summary"]}
    assert found >= set(names) and len(found) == len(names) + 4  # names are whole in the file


def test_a_long_prompt_fits_too(models, capsys):
    edges = " ".join(f"; {a} {b}" for a, b in itertools.pairwise("abcdefghijklmno"))
    run("--ckpt", *models.values(), "--prompt", f"{edges} = >>>>>> a =", "--samples", 20)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100 and said.count("sample") == 3 * 20


def test_the_table_shows_the_records(models, tmp_path, capsys):
    run("--ckpt", models["a"], models["b"], "--prompts", 5, "--cold", 0.5, "--axis", "length",
        "--json", tmp_path / "e.json")
    said = capsys.readouterr().out
    record, = rows_of(written(tmp_path / "e.json")["summary"], model="b", split="id", cell="d1 l2")
    line, = [x.split() for x in said.splitlines() if x.split()[:4] == ["id", "d1", "l2*", "b"]]
    mass, low, high = (cli.probability(record[key]["1"]) for key in ("pass", "low", "high"))
    numbers = [mass, f"[{low},", f"{high}]",
               *(cli.probability(record["pass"][k]) for k in ("64", "1024", "2^20")),
               *(f"{record[key]:.2f}" for key in ("fell", "stop", "entropy"))]
    assert line[4:] == numbers
    assert "* includes cells too small to keep prompts from training (under 10,000" in said
    colder = [x for x in said.splitlines() if "a T=0.5" in x]
    assert len(colder) == 3 and all(" all" in x for x in colder)  # its cells are in the JSON only


def test_show_puts_the_models_side_by_side_token_by_token(models, capsys):
    run("--ckpt", models["a"], models["b"], "--prompts", 3, "--show", 2, "--temperature", 0.7)
    said = capsys.readouterr().out
    cell = AXES["arithmetic"]["depth"]["id"][1]
    problems = eval_problems("arithmetic", cell, 3)
    block = said.split(f"arithmetic id, {cell}\n")[1].split("\n\n")[0].splitlines()
    assert block[0].split(None, 1) == ["prompt", decode(problems.prompts[0])]
    assert block[1].split(None, 1) == ["solution", decode(problems.solutions[0])]
    assert block[2].split() == [decode([token]) for token in problems.solutions[0]]
    for line, name in zip(block[3:5], "ab"):
        model = load_checkpoint(models[name])[0]
        logp = measure.solution_logp(model, *problems, 0.7)[0]
        assert line.split() == [name, *map(cli.probability, np.exp(logp))]
        mass = cli.probability(np.exp(log_mass(model, *problems, 0.7)[0]))
        assert any(f"  {name}: exact mass {mass}," in x for x in block)
    assert sum(x.split()[0] == "sample" for x in block) == 2 and "✗" in block[-1]
    assert len(re.findall("^arithmetic (?:id|edge|hard), ", said, re.M)) == 2 * 3


def test_colours_only_where_the_terminal_has_them(models, monkeypatch, capsys):
    def said():
        run("--ckpt", models["a"], "--prompt", "31 [+1] =")
        return capsys.readouterr().out
    assert "\x1b" not in said()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert re.search(r"\x1b\[3[123]m", said())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in said()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in said()
    green, yellow, red = (cli.colour("x", p) for p in (0.95, 0.5, 0.01))
    assert len({green, yellow, red}) == 3 and all(x.endswith("x\x1b[0m") for x in (green, red))


def test_progress_is_one_line_that_goes_and_only_on_a_terminal(models, monkeypatch, capsys):
    run("--ckpt", models["a"], "--prompts", 1, "--cold")
    plain = capsys.readouterr().out
    assert "sampling" not in plain and "\r" not in plain
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run("--ckpt", models["a"], "--prompts", 1, "--cold")
    said = capsys.readouterr().out
    shown = [x for x in said.split("\r") if "sampling a on arithmetic" in x]
    assert len(shown) == 6 and "6 of 6 cells" in shown[-1]
    assert all(len(x) < 80 and "\n" not in x for x in shown)
    assert said[said.rindex("\r") + 1:] == plain


# --------------------------------------------------------------------------------------- one prompt

@pytest.mark.parametrize("prompt,solution", [
    ("3141 [+1][rev] =", "4252 ; 2524 <eos>"), ("<bos> 3141 [+1][rev]", "4252 ; 2524 <eos>"),
    ("; a b ; b c = >> a", "; a b ; b c <eos>"),
    ("; a c ; b d ; a b ; c d = a d", "; a b ; b d <eos>")])
def test_every_family_knows_its_own_prompts(prompt, solution, models, capsys):
    run("--ckpt", models["a"], models["b"], "--prompt", prompt)
    said = capsys.readouterr().out
    assert f"solution  {solution}\n" in said and said.count("exact mass") == 2
    assert said.count("greedy") == 2 and said.count("sample") == 2 * 4


def test_a_prompt_without_a_solution_is_completed_all_the_same(models, capsys):
    run("--ckpt", models["a"], "--prompt", "; a b = >> a =", "--samples", 2)
    said = capsys.readouterr().out
    assert "none" in said and "exact mass" not in said and said.count("sample") == 2


def test_a_prompt_of_no_family_is_refused_in_one_line(models, capsys):
    with pytest.raises(SystemExit):
        run("--ckpt", models["a"], "--prompt", "a b 3 =")
    assert capsys.readouterr().err == ("evaluate.py: error: --prompt: no problem of arithmetic, "
                                       "graph or route (python tasks.py shows some)\n")


@pytest.mark.parametrize("prompt,words", [
    ("31 [x2] =", ["'[x2]' is not one of", *OPERATIONS]),
    ("31 [a long name of an operation]", ["'['"]),
    ("31 [" + "long" * 40 + "]", ["'[longlong", *OPERATIONS]),
    ("a b > a", ["graph expects", "; a b ; b c = >> a ="]),
    ("hello", ["no problem of", "python tasks.py"]),   # of graph or of route
    ("3 [+1]", ["arithmetic expects", "2 or more digits", "3141 [+1][rev] ="]),
    ("31 =", ["arithmetic expects"]), ("31 [+1] = 42", ["arithmetic expects"]),
    ("Zebra", ["'Z' is not in the vocabulary", "python tasks.py"])])
def test_what_is_wrong_with_a_prompt_is_said_within_100_columns(prompt, words, models, capsys):
    with pytest.raises(SystemExit):
        run("--ckpt", models["a"], "--prompt", prompt)
    error = capsys.readouterr().err
    assert error.startswith("evaluate.py: error: --prompt: ") and error.count("\n") == 1
    assert len(error) <= 101 and all(word in error for word in words)


def test_marking_wrong_steps():
    task = TASKS["graph"]
    prompt = np.array(encode("<bos> ; c d ; a b ; b c = >> a ="))
    solution = task.solutions(prompt[None])[0]

    def marked(completion):
        return cli.mark_wrong(task, prompt, solution[None], completion)
    assert marked(solution.tolist()) == "; a b ; b c <eos>"
    assert marked(encode("; a b ; b d <eos>")) == "; a b ✗; b d <eos>"
    assert marked(encode("; a b ; b c ; c")) == "; a b ✗; b c ; c"
    assert marked([]) == ""


# ------------------------------------------------------------------------------- analyses and steps

def test_evaluate_prints_and_writes_the_analyses_of_several_checkpoints(models, tmp_path, capsys):
    run("--ckpt", *models.values(), "--axis", "composition", "--prompts", 8, "--cold", "--analyses",
        "--temperature", 0.9, "--json", tmp_path / "m.json")
    said = capsys.readouterr().out
    assert said.index("pass@1 = mass") < said.index("coverage") < said.index("efficiency gap")
    assert said.index("efficiency gap") < said.index("perplexity") < said.index("matched temp")
    tables = [line.split() for line in said[said.index("coverage"):].splitlines()]
    for split in SPLITS:
        assert sum(line[:2] == [split, "b"] for line in tables) == 5  # one each, and two matched
    data = written(tmp_path / "m.json")
    expected = list(itertools.product(SPLITS, ["b", LONG]))
    assert [(r["split"], r["model"]) for r in data["analyses"]] == expected

    def masses(model, split):
        rows = rows_of(data["prompts"], model=model, split=split)
        return np.array([r["log_mass"] for r in rows])
    for record in data["analyses"]:
        ours, theirs = masses(record["model"], record["split"]), masses("a", record["split"])
        assert record["prompts"] == len(ours)
        found = measure.reach(theirs, ours)
        assert record["gap"] == pytest.approx(found["gap"])
        assert record["coverage"] == found["coverage"]
        cells = [eval_problems("arithmetic", cell, 8)
                 for cell in AXES["arithmetic"]["composition"][record["split"]]]
        a, tuned = (load_checkpoint(models[name])[0] for name in ("a", record["model"]))
        assert record["perplexity"] == measure.perplexities(a, tuned, cells, 0.9, 0)
        theirs_now, theirs_matched, ours_now, ours_matched = record["temperatures"]
        at_256 = exact_pass_at_k(theirs, 256).mean()
        assert theirs_now["pass"]["256"] == pytest.approx(at_256, rel=1e-4)
        assert ours_now["pass"]["1"] == pytest.approx(np.exp(ours).mean(), rel=1e-4)
        assert ours_matched["entropy"] == pytest.approx(theirs_now["entropy"], rel=0.02)
        assert theirs_matched["entropy"] == pytest.approx(ours_now["entropy"], rel=0.02)


def test_analyses_say_none_where_no_temperature_matches(models, tmp_path, capsys):
    frozen = str(tmp_path / "frozen.pt")
    model = load_checkpoint(models["a"])[0]
    model.head.weight.data *= 1e7
    save_checkpoint(frozen, model, args={})
    run("--ckpt", models["a"], frozen, "--prompts", 2, "--cold", "--analyses",
        "--json", tmp_path / "m.json")
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert sum(line[-3:] == ["frozen", "a", "none"] for line in said) == 3
    assert "Infinity" not in (tmp_path / "m.json").read_text()


def test_percentages_never_hide_a_prompt():
    found = [cli.percent(n / 768) for n in (0, 1, 4, 767, 768)]
    assert found == ["0", "<1", "1", ">99", "100"]


def test_per_step_prints_and_writes_each_step(models, tmp_path, capsys):
    run("--ckpt", models["a"], models["b"], "--prompts", 8, "--cold", "--per-step",
        "--temperature", 0.7, "--json", tmp_path / "s.json")
    said = capsys.readouterr().out
    assert "probability of the next whole step" in said
    records = written(tmp_path / "s.json")["steps"]
    assert [(r["depth"], r["prefix"], r["step"]) for r in records] == [
        (1, "right", 1), (2, "right", 1), (2, "right", 2), (2, "corrupted", 2),
        (3, "right", 1), (3, "right", 2), (3, "right", 3), (3, "corrupted", 2),
        (3, "corrupted", 3)]
    for r in records:
        problems = eval_problems("arithmetic", Cell(r["depth"], 4), 8)
        chain = measure.step_chains("arithmetic", Cell(r["depth"], 4), problems)[r["prefix"]]
        for key, name in (("base", "a"), ("tuned", "b")):
            model = load_checkpoint(models[name])[0]
            steps = measure.step_log_mass(model, "arithmetic", problems.prompts, chain, 0.7)
            assert r[key] == pytest.approx(np.exp(steps[:, r["step"] - 1]).mean())
            if key == "base":  # what the law starts from
                law = tilted_steps(steps, 1.0) if r["prefix"] == "right" else steps
                assert r["law"] == pytest.approx(np.exp(law[:, r["step"] - 1]).mean())
        assert (r["arm"], r["kl"], r["beta"]) == ("b", "k1_reward", 1.0)


def test_splits_with_little_mass_get_more_prompts(models, tmp_path, monkeypatch):
    """The base's mass decides, once for all models, and only in the splits that are named."""
    monkeypatch.setattr(measure, "MORE_PROMPTS", ((1e-20, 20), (1e-45, 30)))
    run("--ckpt", models["a"], models["b"], "--prompts", 8, "--cold", 0.5, "--by-mass", "edge",
        "hard", "--json", tmp_path / "m.json")
    data = written(tmp_path / "m.json")
    model = load_checkpoint(models["a"])[0]
    for cell, n in ((Cell(3, 4), 8), (Cell(4, 4), 20), (Cell(5, 4), 30)):
        mass = np.exp(measure.log_mass(model, *eval_problems("arithmetic", cell, 8))).mean()
        assert mass < 1e-20 and (mass < 1e-45) == (n == 30)   # of id nobody asked for more
        for name in ("a", "b", "a T=0.5"):
            rows = rows_of(data["prompts"], model=name, cell=str(cell))
            assert len(rows) == n
            assert rows_of(data["summary"], model=name, cell=str(cell))[0]["prompts"] == n
            prompts = eval_problems("arithmetic", cell, n).prompts
            assert [row["prompt"] for row in rows] == list(map(decode, prompts))


def test_per_token_keeps_the_bases_probability_of_every_right_token(models, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "TOKEN_PROMPTS", 5)
    run("--ckpt", models["a"], models["b"], "--prompts", 8, "--cold", "--per-token", "id",
        "--json", tmp_path / "t.json")
    data = written(tmp_path / "t.json")
    cells = AXES["arithmetic"]["depth"]["id"]
    assert [(row["split"], row["cell"]) for row in data["tokens"]] == [
        ("id", str(cell)) for cell in cells]
    for row, cell in zip(data["tokens"], cells):
        log_p = np.array(row["log_p"])
        assert log_p.shape == (5, TASKS["arithmetic"].solution_len(cell))
        masses = [r["log_mass"] for r in rows_of(data["prompts"], model="a", cell=str(cell))]
        assert log_p.sum(1) == pytest.approx(masses[:5], rel=1e-5)


def test_per_step_marks_the_error_for_a_base_that_was_shown_marks(models, tmp_path):
    marking, (model, extra) = str(tmp_path / "marking.pt"), load_checkpoint(models["a"])
    save_checkpoint(marking, model, args={**extra["args"], "noise_kind": "marked"})
    run("--ckpt", marking, models["b"], "--prompts", 8, "--cold", "--per-step",
        "--json", tmp_path / "s.json")
    record = written(tmp_path / "s.json")["steps"][-1]
    problems = eval_problems("arithmetic", Cell(3, 4), 8)
    for kind in ("marked", "random"):
        chain = measure.step_chains("arithmetic", Cell(3, 4), problems, kind)["corrupted"]
        steps = measure.step_log_mass(model, "arithmetic", problems.prompts, chain)
        close = record["base"] == pytest.approx(np.exp(steps[:, 2]).mean(), rel=1e-6)
        assert close == (kind == "marked")


def test_per_step_is_for_every_family_with_wrong_chains(models, tmp_path, monkeypatch, capsys):
    """A second family that has them is measured; where none has, one line says so."""
    argv = ("--ckpt", models["a"], models["b"], "--prompts", 2, "--cold", "--per-step")
    with pytest.raises(SystemExit):
        run(*argv, "--task", "graph")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--per-step: graph has no wrong_chains" in error
    monkeypatch.setattr(TASKS["graph"], "wrong_chains",
                        lambda prompts, rng: TASKS["graph"].solutions(prompts, 1.0, rng),
                        raising=False)
    run(*argv, "--task", "graph", "--json", tmp_path / "s.json")
    records = written(tmp_path / "s.json")["steps"]
    assert {r["prefix"] for r in records} == {"right", "corrupted"} and len(records) == 9


# ------------------------------------------------------------------------------ tables and files

def test_a_table_that_is_too_wide_shortens_its_names_and_keeps_its_numbers():
    rows = [["id", "d1 l4", name, *["0.123"] * 8] for name in ("base", "x" * 60 + "1", "y" * 60)]
    lines = cli.table(rows, ["split", "cell", "model", *["number"] * 8]).splitlines()
    assert max(map(len, lines)) == 100 and all(line.count("0.123") == 8 for line in lines[2:])
    assert "base" in lines[2] and "…" in lines[3] and lines[3].split()[3].endswith("x1")


def test_chart_puts_curves_where_they_belong():
    ks = [2 ** i for i in range(21)]
    rising = [i / 20 for i in range(21)]
    text = cli.chart({"one": [1.0] * 21, "rising": rising, "z" * 150: [0] * 21}, ks)
    lines = text.split("\n")
    assert lines[0].startswith(" 1.00 |a") and lines[0].endswith("*")
    assert lines[11].startswith(" 0.00 |*") and "a = one" in text
    assert max(map(len, lines)) <= 100


def test_the_csv_holds_every_prompt(models, tmp_path):
    files = tmp_path / "e.csv", tmp_path / "e.json"
    run("--ckpt", models["a"], models["b"], "--prompts", 4, "--csv", files[0], "--json", files[1])
    with open(files[0], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    prompts = written(files[1])["prompts"]
    assert len(rows) == len(prompts) == (2 + 4) * 4 * 6
    for row, prompt in zip(rows, prompts):
        assert row == {key: "" if value is None else str(value) for key, value in prompt.items()}
    assert list(written(files[1])) == ["command", "args", "summary", "temperature", "analyses",
                                       "steps", "tokens", "prompts"]


def test_what_forks_import_from_evaluate_is_there():
    for name in ("log_mass", "exact_pass_at_k", "pass_at_k", "bootstrap", "eval_problems", "KS",
                 "mean_masses", "split_masses"):
        assert getattr(evaluate, name) is getattr(measure, name)


def test_kept_checkpoints_are_those_of_shorter_runs_also_after_a_resume(base, tmp_path,
                                                                        monkeypatch, capsys):
    def argv(name, *more):
        out = str(tmp_path / f"{name}.pt")
        return ["--init", base, *SMALL_GRPO, "--keep-every", "4", "--out", out, *more]
    finetune.main(argv("whole"))
    names = [f"whole.step{n}.pt" for n in ("0004", "0008", "0012")]
    assert sorted(map(os.path.basename, glob.glob(str(tmp_path / "whole.step*")))) == names
    assert [load_checkpoint(tmp_path / n)[1]["step"] for n in names] == [4, 8, 12]
    finetune.main(argv("short", "--steps", "8"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        with pytest.raises(SystemExit):
            finetune.main(argv("halves"))
    assert not os.path.exists(tmp_path / "halves.step0008.pt")
    resume = capsys.readouterr().out.strip().splitlines()[-1].split("go on with: ")[1]
    finetune.main(shlex.split(resume)[2:])
    weights = {name: dict(load_checkpoint(tmp_path / name)[0].state_dict())
               for name in sorted(os.listdir(tmp_path)) if name.endswith(".pt")}
    assert_same(weights["whole.step0008.pt"], weights["short.pt"])
    assert_same(weights["whole.step0012.pt"], weights["whole.pt"])
    for name in names:
        assert_same(weights[name], weights[name.replace("whole", "halves")])
    assert not torch.equal(weights[names[0]]["embed.weight"], weights[names[1]]["embed.weight"])


def test_tiny_masses_are_no_zeros():
    record = {"pass": {"1": 1e-5, "64": 4e-4, "1024": 0.01, "2^20": 1},
              "low": {"1": 2e-7}, "high": {"1": 0.25}}
    assert tables.numbers_of(record)[:5] == ["1e-05 [2e-07, 0.250]", "4e-04", "0.010", "1", ""]
