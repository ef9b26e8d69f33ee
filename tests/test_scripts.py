"""The scripts, as a person runs them: resume, kill, determinism, bad input, the README's own commands."""
import contextlib
import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import cli
import evaluate
import finetune
import grpo
import pretrain
import study
from lab import bench
from model import load_checkpoint
from tasks import AXES

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "study": study, "bench": bench}
SMALL_BASE = ["--steps", "12", "--batch-size", "8", "--layers", "1", "--width", "16", "--eval-every", "5", "--eval-prompts", "4", "--save-every", "4"]
SMALL_GRPO = ["--steps", "12", "--prompts-per-step", "4", "--group-size", "4", "--eval-every", "5", "--eval-prompts", "4", "--save-every", "4",
              "--reward", "random", "--kl", "k1_reward", "--epochs", "2"]


def rows_of(path):
    with open(os.path.splitext(path)[0] + ".csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in cli.Log.TIMING} for row in csv.DictReader(file)]


def assert_same(a, b):
    """Two checkpoints equal bit for bit: weights, optimizer, random state, everything but times and places."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key not in ("seconds", "out", "command", "resume", "save_every"):
                assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert a == b


def assert_same_run(path_a, path_b):
    (model_a, extra_a), (model_b, extra_b) = load_checkpoint(path_a), load_checkpoint(path_b)
    assert_same(dict(model_a.state_dict()), dict(model_b.state_dict()))
    assert_same(extra_a, extra_b)
    assert rows_of(path_a) == rows_of(path_b)


def interrupt_after(monkeypatch, times):
    """Make the run see a Ctrl-C after it has asked so many times."""
    @contextlib.contextmanager
    def signals():
        asked = []
        def stopped():
            asked.append(1)
            return len(asked) > times
        yield stopped
    monkeypatch.setattr(cli, "stop_signals", signals)


def run_of(kind, base, out):
    return (pretrain, [*SMALL_BASE, "--out", out]) if kind == "pretrain" else (finetune, ["--init", base, *SMALL_GRPO, "--out", out])


# ------------------------------------------------------------------------------------------------------ runs that stop

@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_stop_and_resume_equals_the_uninterrupted_run(kind, base, tmp_path, monkeypatch, capsys):
    whole, halves = str(tmp_path / "whole.pt"), str(tmp_path / "halves.pt")
    script, argv = run_of(kind, base, whole)
    script.main(argv)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 8)
        with pytest.raises(SystemExit) as stop:
            script.main(run_of(kind, base, halves)[1])
    assert stop.value.code == 130 and 2 < load_checkpoint(halves)[1]["step"] < 9
    said = capsys.readouterr().out.strip().splitlines()[-1]
    again = shlex.split(said.split("go on with: ")[1])
    assert again[1] == f"{kind}.py"
    script.main(again[2:])  # the command that it told us
    assert_same_run(whole, halves)
    assert not any(torch.equal(a, b) for a, b in zip(load_checkpoint(whole)[0].parameters(), load_checkpoint(base)[0].parameters()))


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_two_runs_of_one_command_are_identical(kind, base, tmp_path):
    paths = [str(tmp_path / f"{name}.pt") for name in "ab"]
    for path in paths:
        script, argv = run_of(kind, base, path)
        script.main(argv)
    assert_same_run(*paths)


@pytest.mark.parametrize("kind,how", [("pretrain", signal.SIGKILL), ("finetune", signal.SIGKILL), ("finetune", signal.SIGINT)])
def test_a_killed_process_leaves_a_checkpoint_to_resume(kind, how, base, tmp_path):
    whole, killed = str(tmp_path / "whole.pt"), str(tmp_path / "killed.pt")
    script, argv = run_of(kind, base, killed)
    longer = [*argv, "--steps", "60", "--save-every", "1", "--threads", "1"]
    process = subprocess.Popen([sys.executable, os.path.join(ROOT, f"{kind}.py"), *longer], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    table = os.path.splitext(killed)[0] + ".csv"
    deadline = time.time() + 60
    while time.time() < deadline and (not os.path.exists(table) or sum(1 for _ in open(table)) < 6):
        time.sleep(0.01)
    process.send_signal(how)
    output = process.communicate()[0]
    _, extra = load_checkpoint(killed)
    assert 4 <= extra["step"] < 60
    if how == signal.SIGINT:
        assert process.returncode == 130 and "go on with: python finetune.py --resume" in output
    script.main(["--resume", killed, "--threads", "1"])
    script.main([*run_of(kind, base, whole)[1], "--steps", "60", "--threads", "1"])
    assert_same_run(whole, killed)


def test_a_nan_stops_the_run_and_keeps_the_last_good_checkpoint(base, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "g.pt")
    loss, calls = grpo.GRPO.loss, []
    def broken(self, group, logp):
        calls.append(1)
        return loss(self, group, logp) * (float("nan") if len(calls) > 11 else 1)  # two epochs a step: in step 6
    monkeypatch.setattr(grpo.GRPO, "loss", broken)
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--init", base, *SMALL_GRPO, "--out", out])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "step 6" in error and "g.pt" in error
    model, extra = load_checkpoint(out)
    assert extra["step"] == 4 and all(p.isfinite().all() for p in model.parameters())


def test_a_diverging_pretraining_stops_in_time(tmp_path, monkeypatch, capsys):
    calls = []
    def broken(*args):
        calls.append(1)
        return evaluate.token_logprobs(*args) * (float("nan") if len(calls) == 7 else 1)
    monkeypatch.setattr(pretrain, "token_logprobs", broken)
    out = str(tmp_path / "b.pt")
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*SMALL_BASE, "--out", out])
    assert stop.value.code == 2 and "step 7" in capsys.readouterr().err and load_checkpoint(out)[1]["step"] == 4


def test_a_disk_that_fills_up_mid_run_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, capsys):
    import errno
    import model
    out, replace, calls = str(tmp_path / "b.pt"), os.replace, []
    def full(*args):
        calls.append(1)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(*args)
    monkeypatch.setattr(model.os, "replace", full)
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*SMALL_BASE, "--out", out])
    assert stop.value.code == 2 and capsys.readouterr().err == f"pretrain.py: error: {out}: No space left on device\n"
    assert load_checkpoint(out)[1]["step"] == 4 and sorted(os.listdir(tmp_path)) == ["b.csv", "b.pt"]


# ------------------------------------------------------------------------------------------------------------- learning

def test_grpo_without_a_signal_changes_nothing_and_says_why(base, tmp_path, capsys):
    out = str(tmp_path / "g.pt")
    finetune.main(["--init", base, "--train-on", "edge", "--steps", "3", "--prompts-per-step", "8", "--group-size", "4", "--eval-prompts", "4", "--out", out])
    before, after = load_checkpoint(base)[0], load_checkpoint(out)[0]
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters()))
    said = capsys.readouterr().out
    assert "without a signal" in said and "all advantages are 0" in said and all(row["grad"] == "0.0" for row in rows_of(out))


def test_pretraining_learns_and_proves_what_it_drew(tmp_path, capsys):
    out = str(tmp_path / "b.pt")
    pretrain.main(["--steps", "150", "--noise", "0", "--eval-every", "150", "--out", out])
    losses = [float(r["loss"]) for r in rows_of(out)]
    assert np.mean(losses[-20:]) < 0.75 * np.mean(losses[:20])
    assert "9,600 problems drawn, 0 of them from the edge cells" in capsys.readouterr().out
    assert load_checkpoint(out)[1]["scanned"] == {"problems": 9600, "edge": 0}


def test_until_stops_early(tmp_path):
    out = str(tmp_path / "b.pt")
    pretrain.main([*SMALL_BASE, "--until", "0", "--out", out])
    extra = load_checkpoint(out)[1]
    assert extra["step"] == 5 and extra["finished"]


# ------------------------------------------------------------------------------------------------------------ evaluation

def test_evaluate_writes_what_it_prints(base, tmp_path, capsys):
    tuned = str(tmp_path / "tuned.pt")
    finetune.main(["--init", base, *SMALL_GRPO, "--out", tuned])
    capsys.readouterr()
    files = str(tmp_path / "m.csv"), str(tmp_path / "m.json")
    evaluate.main(["--ckpt", base, tuned, "--prompts", "16", "--samples", "4", "--show", "1", "--csv", files[0], "--json", files[1]])
    said = capsys.readouterr().out
    for word in ("pass@1 = mass", "@2^20", "fell", "stop", "entropy", "base greedy", "base T=0.3", "tuned", "sampled, 4 each", "solution", "✗"):
        assert word in said
    with open(files[1]) as file:
        data = json.load(file)
    with open(files[0], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(data["prompts"]) == (2 + 4) * 16 * 6 and {r["split"] for r in rows} == {"id", "edge", "hard"}
    assert all(r["log_mass"] == ("" if p["log_mass"] is None else str(p["log_mass"])) for r, p in zip(rows, data["prompts"]))
    record = next(r for r in data["summary"] if (r["model"], r["split"], r["cell"]) == ("tuned", "id", "all"))
    ours = [p["log_mass"] for p in data["prompts"] if p["model"] == "tuned" and p["split"] == "id"]
    assert record["pass"]["64"] == pytest.approx(evaluate.exact_pass_at_k(ours, 64).mean()) and record["low"]["64"] <= record["pass"]["64"] <= record["high"]["64"]
    base_masses = [p["log_mass"] for p in data["prompts"] if p["model"] == "base" and p["split"] == "id"]
    assert record["fell"] == np.mean(np.array(ours) < np.array(base_masses) - evaluate.FELL)


@pytest.mark.parametrize("prompt,solution", [("3141 [+1][rev] =", "4252 ; 2524 <eos>"), ("<bos> ; a b ; b c = >> a", "; a b ; b c <eos>")])
def test_a_prompt_typed_by_hand(prompt, solution, base, capsys):
    evaluate.main(["--ckpt", base, "--prompt", prompt])
    said = capsys.readouterr().out
    assert f"solution  {solution}" in said and "exact mass" in said and "greedy" in said


def test_pretraining_goes_on_from_a_checkpoint_until_a_split_is_learned(base, tmp_path):
    """The oracle: the pretraining recipe on clean edge problems, from a base."""
    out, untouched = str(tmp_path / "oracle.pt"), load_checkpoint(base)[0].state_dict()
    oracle = ["--init", base, "--overlap", "1", "--noise", "0", "--batch-size", "4", "--eval-prompts", "4", "--out", out]
    pretrain.main([*oracle, "--steps", "1", "--lr", "1e-9"])
    model, extra = load_checkpoint(out)
    assert model.config == load_checkpoint(base)[0].config and extra["scanned"] == {"problems": 4, "edge": 4}
    assert all(torch.allclose(untouched[k], v, atol=1e-6) for k, v in model.state_dict().items())
    pretrain.main([*oracle, "--steps", "9", "--eval-every", "3", "--until", "0", "--until-split", "edge"])
    assert load_checkpoint(out)[1]["step"] == 3


def test_depths_pick_cells_across_splits():
    assert finetune.training_cells("arithmetic", "depth", "id", [3, 4, 6]) == [("arithmetic", c) for s in ("id", "edge", "hard") for c in AXES["arithmetic"]["depth"][s] if c.depth in (3, 4, 6)]


# ------------------------------------------------------------------------------------------------------------- bad input

BAD = [
    ("pretrain", ["--stpes", "5"], ["--stpes"]),
    ("pretrain", ["--step", "5"], ["--step"]),                                     # no silent abbreviations
    ("pretrain", ["--steps", "many"], ["--steps", "'many'", "whole number"]),
    ("pretrain", ["--steps", "0"], ["--steps", "at least 1"]),
    ("pretrain", ["--overlap", "1.5"], ["--overlap", "at most 1"]),
    ("pretrain", ["--noise", "nan"], ["--noise", "nan"]),
    ("pretrain", ["--lr", "-1"], ["--lr", "above 0"]),
    ("pretrain", ["--task", "chess"], ["--task", "chess", "arithmetic", "graph"]),
    ("pretrain", ["--task", "graph", "--axis", "composition"], ["--axis composition", "graph", "depth, length, tokens"]),
    ("pretrain", ["--exposure", "copy"], ["--exposure copy", "--axis tokens"]),
    ("pretrain", ["--context", "20"], ["--context 20", "42"]),
    ("pretrain", ["--width", "30"], ["--width 30", "--heads 4"]),
    ("pretrain", ["--out", "{file}/b.pt"], ["{file}"]),
    ("pretrain", ["--out", "{dir}"], ["{dir}", "folder"]),
    ("pretrain", ["--resume", "{dir}/none.pt"], ["none.pt", "no such checkpoint"]),
    ("pretrain", ["--resume", "{base}", "--lr", "0.5"], ["--lr 0.5", "base.pt", "0.01"]),
    ("pretrain", ["--device", "tpu"], ["--device", "tpu", "cpu"]),
    ("pretrain", ["--init", "{dir}/none.pt"], ["none.pt", "no such checkpoint"]),
    ("pretrain", ["--init", "{short}"], ["short.pt", "context of 12"]),
    ("finetune", ["--init", "{base}", "--depths", "4", "9"], ["--depths 9", "depth axis"]),
    ("finetune", [], ["--init"]),
    ("finetune", ["--init", "{dir}/none.pt"], ["none.pt", "no such checkpoint"]),
    ("finetune", ["--init", "{truncated}"], ["truncated.pt", "truncated"]),
    ("finetune", ["--init", "{foreign}"], ["foreign.pt", "not a checkpoint of this project"]),
    ("finetune", ["--init", "{base}", "--method", "dpo"], ["--method", "dpo", "grpo", "sft"]),
    ("finetune", ["--init", "{base}", "--temperature", "0"], ["--temperature", "above 0"]),
    ("finetune", ["--init", "{base}", "--task", "graph", "--axis", "composition"], ["--axis composition"]),
    ("finetune", ["--init", "{short}"], ["short.pt", "context of 12"]),
    ("finetune", ["--init", "{base}", "--out", "{file}/g.pt"], ["{file}"]),
    ("finetune", ["--resume"], ["runs/grpo.pt", "no such checkpoint"]),
    ("finetune", ["--resume", "{base}"], ["--resume", "pretrain.py"]),
    ("evaluate", [], ["--ckpt"]),
    ("evaluate", ["--ckpt", "{truncated}"], ["truncated.pt"]),
    ("evaluate", ["--ckpt", "{base}", "--axis", "width"], ["--axis", "width", "depth"]),
    ("evaluate", ["--ckpt", "{base}", "--prompt", "31 [plus] ="], ["--prompt", "'['"]),
    ("evaluate", ["--ckpt", "{base}", "--prompt", "[+1] 31 ="], ["--prompt", "arithmetic prompts"]),
    ("evaluate", ["--ckpt", "{base}", "--prompt", "1234567 " + "[+1]" * 30 + " ="], ["--prompt", "context of 96"]),
    ("evaluate", ["--ckpt", "{short}"], ["short.pt", "context of 12"]),
    ("evaluate", ["--ckpt", "{base}", "--csv", "{file}/m.csv"], ["{file}"]),
    ("evaluate", ["--ckpt", "{base}", "--per-step"], ["--per-step", "at least one other"]),
    ("evaluate", ["--ckpt", "{base}", "{base}"], ["base.pt", "twice"]),
    ("evaluate", ["--ckpt", "{base}", "--analyses"], ["--analyses", "--ckpt", "at least two"]),
    ("evaluate", ["--ckpt", "{base}", "{short}", "--analyses", "--temperature", "0"], ["--temperature 0", "--analyses", "above 0"]),
    ("finetune", ["--init", "{base}", "--keep-every", "-1"], ["--keep-every", "at least 0"]),
    ("pretrain", ["--resume", "{base}"], ["--resume", "base.pt", "finished", "20 steps"]),
    ("pretrain", ["--until", "0.5", "--eval-every", "0"], ["--until", "--eval-every"]),
    ("finetune", ["--init", "{base}", "--method", "sft", "--kl", "k3_loss"], ["--kl k3_loss", "sft"]),
    ("bench", ["--heads", "3"], ["--heads 3"]),
    ("study", ["--seeds", "0"], ["--seeds", "at least 1"]),
    ("study", ["--task", "graph", "--axis", "composition"], ["--axis composition"]),
    ("study", ["--only", "nothing of the kind"], ["--only", "--plan"]),
    ("study", ["--out", "{file}/x"], ["{file}"]),
    ("bench", ["--repeats", "0"], ["--repeats", "at least 1"]),
]


@pytest.mark.parametrize("script,argv,words", BAD, ids=[" ".join([s, *a])[:60] for s, a, _ in BAD])
def test_bad_input_gets_one_clear_line(script, argv, words, base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = {"base": base, "dir": str(tmp_path), "file": str(tmp_path / "a_file"), "truncated": str(tmp_path / "truncated.pt"),
              "foreign": str(tmp_path / "foreign.pt"), "short": str(tmp_path / "short.pt")}
    (tmp_path / "a_file").write_text("precious")
    with open(base, "rb") as file:
        (tmp_path / "truncated.pt").write_bytes(file.read()[:3000])
    torch.save({"state_dict": {}}, places["foreign"])
    from model import GPT, GPTConfig, save_checkpoint
    save_checkpoint(places["short"], GPT(GPTConfig(context=12, n_embd=16)), args={})
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    if "--out" not in argv and script in ("pretrain", "finetune") and "--resume" not in argv:
        argv = [*argv, "--out", "{dir}/out.pt"]
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[script].main([a.format(**places) for a in argv])
    output = capsys.readouterr()
    assert stop.value.code == 2
    assert output.err.startswith(f"{script}.py: error: ") and output.err.count("\n") == 1, output.err
    for word in words:
        assert word.format(**places) in output.err
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not [f for f in set(os.listdir(tmp_path)) - set(before) if not os.path.isdir(tmp_path / f)]  # and left nothing behind


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_every_flag_has_its_line_of_help(script):
    for action in SCRIPTS[script].build_parser()._actions:
        assert action.help, action.option_strings
    if script != "bench":
        assert any("--device" in a.option_strings for a in SCRIPTS[script].build_parser()._actions)


# ---------------------------------------------------------------------------------------------------------------- README

SMALLER = {
    "pretrain": ["--steps", "3", "--batch-size", "4", "--eval-every", "3", "--eval-prompts", "2"],
    "finetune": ["--steps", "2", "--prompts-per-step", "2", "--eval-prompts", "2"],
    "evaluate": ["--prompts", "4"],
    "study": ["--pretrain-steps", "2", "--grpo-steps", "1", "--prompts", "4"],
    "bench": ["--repeats", "1", "--small"],
}


def readme_commands():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", file.read(), re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return list(dict.fromkeys(m for line in lines for m in re.findall(r"python (?:pretrain|finetune|evaluate|study|bench)\.py[^&|]*", line)))


def test_the_readme_commands_run_in_the_order_of_the_page(tmp_path, monkeypatch, capsys):
    """Every command of the README, sizes overridden, in one folder, as a reader who goes down the page would run them."""
    monkeypatch.chdir(tmp_path)
    commands = readme_commands()
    assert len(commands) >= 10 and {shlex.split(c)[1][:-3] for c in commands} == set(SCRIPTS)
    for command in commands:
        _, script, *argv = shlex.split(command)
        script = script[:-3]
        print(command)
        smaller = [] if "--resume" in argv else SMALLER[script]
        if script == "study" and "--seeds" in argv:
            smaller = [*smaller, "--seeds", "1"]
        if "--help" not in argv:
            SCRIPTS[script].main([*argv, *smaller])


def test_the_readme_quotes_the_two_commands():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        text = file.read()
    assert "python -m pip install -r requirements.txt && python study.py\n" in text
    assert "python -m pip install -r requirements.txt && python -m pytest\n" in text


def test_every_axis_can_be_trained_and_evaluated(tmp_path):
    """The three scripts chained by flags, on every family and axis."""
    for task, axes in AXES.items():
        for axis in axes:
            b, g = str(tmp_path / f"{task}-{axis}.pt"), str(tmp_path / f"{task}-{axis}-g.pt")
            pretrain.main(["--task", task, "--axis", axis, "--overlap", "0.5", "--steps", "2", "--batch-size", "4", "--eval-prompts", "2", "--layers", "1", "--width", "16", "--out", b])
            finetune.main(["--init", b, "--train-on", "mix", "--steps", "2", "--prompts-per-step", "2", "--group-size", "2", "--eval-prompts", "2", "--out", g])
            assert load_checkpoint(g)[1]["args"]["axis"] == axis
            evaluate.main(["--ckpt", b, g, "--prompts", "3"])
