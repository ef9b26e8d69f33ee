"""The scripts together, as a person runs them: resume, kill, bad input, lines that fit, a task of
one's own, the README's commands."""
import argparse
import contextlib
import errno
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import assert_same_run, interrupt_after, rows_of

import cli
import evaluate
import finetune
import forked
import fuzz
import grpo
import model
import pretrain
import study
import toy_family
import variants
from lab import bench
from model import GPT, GPTConfig, load_checkpoint, save_checkpoint
from tasks import AXES
from tests import faults

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "study": study,
           "bench": bench}
SMALL_BASE = ["--steps", "12", "--batch-size", "8", "--layers", "1", "--width", "16",
              "--eval-every", "5", "--eval-prompts", "4", "--save-every", "4"]
SMALL_GRPO = ["--steps", "12", "--prompts-per-step", "4", "--group-size", "4", "--eval-every", "5",
              "--eval-prompts", "4", "--save-every", "4", "--reward", "random",
              "--kl", "k1_reward", "--epochs", "2"]


RUNS = {
    "pretrain": (pretrain, SMALL_BASE),
    "adamw": (pretrain, [*SMALL_BASE, "--optimizer", "adamw", "--overlap", "0.5"]),
    "finetune": (finetune, SMALL_GRPO),
    "budget": (finetune, [*SMALL_GRPO, "--steps", "90", "--budget-rollouts", "180", "--lr-decay",
                          "--train-on", "mix", "--cells", "one"]),
}


def run_of(kind, base, out):
    """(script, argv) of a run of some kind."""
    script, argv = RUNS[kind]
    return script, [*(["--init", base] if script is finetune else []), *argv, "--out", out]


# -------------------------------------------------------------------------------- runs that stop

@pytest.mark.parametrize("kind", list(RUNS))
def test_stop_and_resume_equals_the_uninterrupted_run(kind, base, tmp_path, monkeypatch, capsys):
    whole, halves = str(tmp_path / "whole.pt"), str(tmp_path / "halves.pt")
    script, argv = run_of(kind, base, whole)
    script.main(argv)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        with pytest.raises(SystemExit) as stop:
            script.main(run_of(kind, base, halves)[1])
    assert stop.value.code == 130 and 2 < load_checkpoint(halves)[1]["step"] < 9
    said = capsys.readouterr().out.strip().splitlines()[-1]
    again = shlex.split(said.split("go on with: ")[1])
    assert again[1] == os.path.basename(script.__file__)
    script.main(again[2:])  # the command that it told us
    assert_same_run(whole, halves)
    trained, untrained = (load_checkpoint(path)[0].parameters() for path in (whole, base))
    assert not any(torch.equal(a, b) for a, b in zip(trained, untrained))


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_two_runs_of_one_command_are_identical(kind, base, tmp_path):
    paths = [str(tmp_path / f"{name}.pt") for name in "ab"]
    for path in paths:
        script, argv = run_of(kind, base, path)
        script.main(argv)
    assert_same_run(*paths)


def wait_for_rows(checkpoint, rows):
    """Wait until a process has logged so many steps."""
    table, deadline = Path(checkpoint).with_suffix(".csv"), time.time() + 60
    while not table.exists() or table.read_text().count("\n") <= rows:
        assert time.time() < deadline
        time.sleep(0.005)


def test_what_kills_flipped_bits_and_second_writers_do(capsys):
    """The short form of `python -m tests.faults`; docs/unbreakable.md has the numbers of the full
    one."""
    faults.main("--kills 6 --flips 40 --pairs 2 --kinds pretrain grpo".split())
    said = capsys.readouterr().out
    assert "40 of 40 flipped bits noticed" in said and "bit for bit" in said


def test_the_harness_sees_a_checkpoint_that_is_written_in_place(tmp_path, monkeypatch, capsys):
    def in_place(path, data):
        with open(path, "wb") as file:
            file.write(data)
    monkeypatch.setattr(model, "write_atomically", in_place)
    tried = faults.Faults(str(tmp_path), ["pretrain"], np.random.default_rng(3), 1)
    while not tried.failures and tried.places < 60:
        tried.kill("pretrain", aimed=True)
    assert any("truncated, or not a checkpoint" in why for why in tried.failures)
    assert "FAILED  pretrain" in capsys.readouterr().out


LONGER = ["--steps", "40", "--eval-every", "0", "--save-every", "1", "--threads", "1"]


def test_ctrl_c_saves_and_says_how_to_go_on(base, tmp_path):
    whole, stopped = str(tmp_path / "whole.pt"), str(tmp_path / "stopped.pt")
    more = [*LONGER, "--save-every", "100", "--epochs", "1"]
    process = forked.script(finetune, [*run_of("finetune", base, stopped)[1], *more])
    wait_for_rows(stopped, 4)
    process.send_signal(signal.SIGINT)
    said, complaint = process.communicate()
    assert process.returncode == 130
    assert complaint == "stopping after this step (again to stop at once)\n"
    assert 4 <= load_checkpoint(stopped)[1]["step"] < 40
    again = shlex.split(said.splitlines()[-1].split("go on with: ")[1])
    assert again == ["python", "finetune.py", "--resume", stopped]
    finetune.main([*again[2:], "--threads", "1"])
    finetune.main([*run_of("finetune", base, whole)[1], *more])
    assert_same_run(whole, stopped)


def test_a_nan_stops_the_run_and_keeps_the_last_good_checkpoint(base, tmp_path, monkeypatch,
                                                                capsys):
    out = str(tmp_path / "g.pt")
    step, calls = grpo.GRPO.step, []

    def broken(self, optimizer):
        calls.append(1)
        if len(calls) == 6:
            monkeypatch.setattr(grpo.GRPO, "loss", lambda *args: torch.tensor(float("nan")) * 1
                                + next(self.policy.parameters()).sum())
        return step(self, optimizer)
    monkeypatch.setattr(grpo.GRPO, "step", broken)
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--init", base, *SMALL_GRPO, "--out", out])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "step 6: loss nan" in error and "g.pt keeps the last good checkpoint" in error
    kept, extra = load_checkpoint(out)
    assert extra["step"] == 4 and all(p.isfinite().all() for p in kept.parameters())


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_full_disk_keeps_the_last_good_checkpoint(kind, base, tmp_path, monkeypatch, capsys):
    out, replace, calls = str(tmp_path / "b.pt"), os.replace, []

    def full(*args):
        calls.append(1)
        if len(calls) > 3:  # the first checkpoint, the CSV, and the checkpoint of step 4
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(*args)
    monkeypatch.setattr(model.os, "replace", full)
    script, argv = run_of(kind, base, out)
    with pytest.raises(SystemExit) as stop:
        script.main(argv)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"{kind}.py: error: {out}: No space left on device\n"
    assert load_checkpoint(out)[1]["step"] == 4
    assert sorted(os.listdir(tmp_path)) == ["b.csv", "b.pt"]


# -------------------------------------------------------------------------------------- bad input

BAD = [
    ("pretrain --stpes 5", ["--stpes"]),
    ("pretrain --step 5", ["--step"]),  # no silent abbreviations
    ("pretrain --steps many", ["--steps", "'many'", "whole number"]),
    ("pretrain --steps 0", ["--steps 0", "between 1 and 1000000"]),
    ("pretrain --overlap 1.5", ["--overlap 1.5", "between 0 and 1"]),
    ("pretrain --noise nan", ["--noise", "nan"]),
    ("pretrain --lr -1", ["--lr -1", "above 0 and at most 10"]),
    ("pretrain --steps 1000000000000", ["--steps 1000000000000: must be between 1 and 1000000"]),
    ("pretrain --width 1000000", ["error: --width 1000000: must be between 8 and 4096\n"]),
    ("pretrain --layers 128 --width 4096", ["--layers 128 --width 4096", "412 GB", "lower one"]),
    ("pretrain --weight-decay 1e38", ["--weight-decay 1e38: must be between 0 and 10"]),
    ("pretrain --out ''", ["--out '': is empty"]),
    ("pretrain --init=", ["--init=: is empty"]),
    ("pretrain --seed=--", ["--seed=--: is empty"]),
    ("pretrain --resume ''", ["--resume '': is empty"]),
    ("pretrain --out", ["--out: expected one argument"]),
    ("pretrain --init '{dir}/two\nlines.pt'", ["two lines.pt: no such checkpoint"]),
    ("pretrain --task chess", ["--task", "chess", "arithmetic", "graph"]),
    ("pretrain --task graph --axis composition", ["--axis composition", "graph",
                                                  "depth, length, tokens"]),
    ("pretrain --exposure copy", ["--exposure copy", "--axis tokens"]),
    ("pretrain --context 20", ["--context 20", "42"]),
    ("pretrain --width 30", ["--width 30", "--heads 4"]),
    ("pretrain --until 0.5 --eval-every 0", ["--until 0.5", "--eval-every"]),
    ("pretrain --out {file}/b.pt", ["{file}"]),
    ("pretrain --out {dir}", ["{dir}", "is a folder"]),
    ("pretrain --device tpu", ["--device", "tpu", "cpu"]),
    ("pretrain --init {dir}/none.pt", ["none.pt", "no such checkpoint"]),
    ("pretrain --init {short}", ["--init", "short.pt", "context of 12"]),
    ("pretrain --resume {dir}/none.pt", ["none.pt", "no such checkpoint"]),
    ("pretrain --resume {base} --lr 0.5", ["base.pt", "finished"]),
    ("pretrain --resume {half} --lr 0.5", ["--lr 0.5", "half.pt", "--lr 0.01"]),
    ("finetune", ["--init"]),
    ("finetune --init {dir}/none.pt", ["none.pt", "no such checkpoint"]),
    ("finetune --init {base} --stpes 3", ["--stpes", "is it --steps?"]),
    ("finetune --init {truncated}", ["truncated.pt", "truncated"]),
    ("finetune --init {foreign}", ["foreign.pt", "not a checkpoint of this project"]),
    ("finetune --init {short}", ["--init", "short.pt", "context of 12"]),
    ("finetune --init {base} --depths 4 9", ["--depths 9", "depth axis"]),
    ("finetune --init {base} --method dappo", ["--method dappo", "is it dapo?", "--method list"]),
    ("finetune --init {base} --method", ["--method"]),
    ("finetune --init {base} --temperature 0", ["--temperature 0", "between 0.01 and 100"]),
    ("finetune --init {base} --group-size 1", ["--group-size 1", "between 2 and 65536"]),
    ("finetune --init {base} --clip-low 1.5", ["--clip-low 1.5", "between 0 and 1"]),
    ("finetune --init {base} --beta 1e38", ["--beta 1e38: must be between 0 and 1000000"]),
    ("finetune --init {base} --method dapo --refills 1000000000000", ["--refills", "and 1000"]),
    ("finetune --init {base} --method ppo --gamma nan", ["--gamma nan", "between 0 and 1"]),
    ("finetune --init {base} --method=", ["--method=: is empty"]),
    ("finetune --init {base} --depths 1 --depths 2", ["--depths: is given twice"]),
    ("finetune --init {base} --keep-every -1", ["--keep-every -1", "between 0 and"]),
    ("finetune --init {base} --drop-zero-variance --kl k3_loss", ["--drop-zero-variance",
                                                                  "--kl k3_loss"]),
    ("finetune --init {base} --method sft --kl k3_loss", ["--kl k3_loss", "--method sft --help"]),
    ("finetune --init {base} --method dapo --dual-clip 0.5", ["--dual-clip"]),
    ("finetune --init {base} --task graph --axis composition", ["--axis composition"]),
    ("finetune --init {base} --out {file}/g.pt", ["{file}"]),
    ("finetune --resume", ["runs/grpo.pt", "no such checkpoint"]),
    ("finetune --resume {base}", ["--resume", "pretrain.py"]),
    ("finetune --resume {truncated}", ["truncated.pt"]),
    ("evaluate", ["--ckpt"]),
    ("evaluate --ckpt {truncated}", ["truncated.pt"]),
    ("evaluate --ckpt {base} --ckpt {half}", ["--ckpt: is given twice", "all of its values"]),
    ("evaluate --ckpt {base} --cold 1e-320", ["--cold 1e-320", "0, or between 0.01 and 100"]),
    ("evaluate --ckpt {base} --axis width", ["--axis", "width", "depth"]),
    ("evaluate --ckpt {base} --prompt '31 [plus] ='", ["--prompt", "'[plus]'", "[rev]"]),
    ("evaluate --ckpt {base} --prompt '[+1] 31 ='", ["--prompt", "arithmetic expects", "3141"]),
    (f"evaluate --ckpt {{base}} --prompt '1234567 {'[+1]' * 30} ='", ["--prompt", "context of 96"]),
    ("evaluate --ckpt {short}", ["short.pt", "context of 12"]),
    ("evaluate --ckpt {base} --csv {file}/m.csv", ["{file}"]),
    ("evaluate --ckpt {base} --per-step", ["--per-step", "at least one other"]),
    ("evaluate --ckpt {base} {base}", ["base.pt", "twice"]),
    ("evaluate --ckpt {base} --analyses", ["--analyses", "--ckpt", "at least two"]),
    ("evaluate --ckpt {base} {half} --analyses --temperature 0", ["--temperature 0", "--analyses",
                                                                  "above 0"]),
    ("study --seeds 0", ["--seeds 0", "between 1 and 1000"]),
    ("study --grid all", ["--grid"]),
    ("study everything", ["everything", "--list"]),
    ("study --task graph --axis composition", ["--axis composition"]),
    ("study --only nothing", ["--only nothing", "--plan"]),
    ("study --report", ["results"]),
    ("study --out {file}/x", ["{file}"]),
    ("bench --heads 3", ["--heads 3"]),
    ("bench --repeats 0", ["--repeats 0", "between 1 and 1000"]),
]


def test_of_a_flag_that_is_given_again_the_last_value_holds(base, tmp_path):
    out, other = str(tmp_path / "b.pt"), str(tmp_path / "other.pt")
    pretrain.main([*SMALL_BASE, "--steps", "3", "--out", other, "--steps", "2", "--out", out])
    assert load_checkpoint(out)[1]["step"] == 2
    finetune.main(["--init", out, "--method", "ppo", *SMALL_GRPO, "--method", "rloo", "--init",
                   base, "--steps", "1", "--out", out, "--overwrite"])
    args = load_checkpoint(out)[1]["args"]
    assert (args["method"], args["steps"], args["init"]) == ("rloo", 1, base)
    assert not os.path.exists(other)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@pytest.fixture
def places(base, tmp_path):
    """Paths that a command may name: good, half done, damaged and foreign files."""
    names = "half", "truncated", "foreign", "short"
    places = {name: str(tmp_path / f"{name}.pt") for name in names}
    trained, extra = load_checkpoint(base)
    save_checkpoint(places["half"], trained, **{**extra, "finished": False, "step": 10})
    Path(places["truncated"]).write_bytes(Path(base).read_bytes()[:3000])
    torch.save({"state_dict": {}}, places["foreign"])
    save_checkpoint(places["short"], GPT(GPTConfig(context=12, n_embd=16)), args={})
    (tmp_path / "a_file").write_text("precious")
    return {**places, "base": base, "dir": str(tmp_path), "file": str(tmp_path / "a_file")}


@pytest.mark.parametrize("command,words", BAD, ids=[command[:60] for command, _ in BAD])
def test_bad_input_gets_one_clear_line(command, words, places, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script, *argv = shlex.split(command.format(**places))
    if script in ("pretrain", "finetune") and not {"--out", "--resume"} & set(argv):
        argv = ["--out", str(tmp_path / "out.pt"), *argv]
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[script].main(argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"{script}.py: error: ") and error.count("\n") == 1, error
    for word in words:
        assert word.format(**places) in error
    assert contents(tmp_path) == before  # nothing is touched, nothing is left behind


def test_a_few_random_command_lines_end_well():
    """The short form of `python -m tests.fuzz`, which tries 2,000."""
    ended = [ended for _, ended in fuzz.attempts(seed=0, numbers=range(40), jobs=2)]
    assert [f"{e.command()}: {e.problem}" for e in ended if e.problem] == []
    assert {e.status for e in ended} == {0, 2} and len({e.script for e in ended}) == 5


@pytest.mark.parametrize("status,err,after,words", [
    (0, "", {}, ""), (0, "", {"x.pt": "new"}, ""), (2, "x.py: error: no\n", {}, ""),
    (2, "x.py: error: step 3: loss nan; stopped, x.pt keeps the last one\n", {"x.pt": "new"}, ""),
    (1, "Traceback (most recent call last):\nValueError: no\n", {}, "traceback: ValueError: no"),
    (None, "", {}, "no end, or nothing said, in 20 seconds"), (-11, "", {}, "status -11"),
    (0, "x.py:3: RuntimeWarning: overflow\n", {}, "warning: x.py:3: RuntimeWarning: overflow"),
    (2, "usage: x.py\nx.py: error: no\n", {}, "2 lines of error: usage: x.py / x.py: error: no"),
    (2, "x.py: error: no\n", {"x.pt": "new"}, "refused, but changed x.pt: x.py: error: no")])
def test_what_the_fuzzer_calls_a_failure(status, err, after, words):
    assert fuzz.problem(fuzz.Ended("pretrain", [], status, "", err, 20.0), {}, after) == words


def test_a_command_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SILENCE", 0.3)
    monkeypatch.setattr(pretrain, "main", lambda argv: time.sleep(60))
    (tmp_path / "here").mkdir()
    ended = fuzz.run("pretrain", [], tmp_path / "here", tmp_path)
    assert ended.status is None and 0.3 <= ended.seconds < 5


def test_every_number_has_a_range():
    parsers = {name: script.build_parser() for name, script in SCRIPTS.items()}
    for method in variants.names():
        parsers[method] = finetune.build_parser(["--method", method])
    for name, parser in parsers.items():
        for action in parser._actions:
            assert action.type not in (int, float), f"{name} {action.dest}"
            if isinstance(action.type, cli.number):
                most = math.inf if action.dest == "dual_clip" else 10 ** 12   # no cap: infinity
                assert action.type.high <= most, f"{name} {action.dest}"
                for text in ("nan", "1e38", "-1e38", "1000000000001"):
                    assert action.dest == "dual_clip" or not allows(action.type, text)


def allows(allowed, text):
    with contextlib.suppress(argparse.ArgumentTypeError):
        return allowed(text) is not None
    return False


# ------------------------------------------------------------------------------ lines, help, axes

def lines_of(said):
    """What a terminal has shown: also what was written over."""
    return re.split("[\r\n]", said.out + said.err)


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_every_flag_has_its_line_of_help(script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = SCRIPTS[script].build_parser()
    for action in parser._actions:
        assert action.help, action.option_strings
    assert max(map(len, parser.format_help().splitlines())) <= 100


@pytest.mark.parametrize("commands", [
    ["pretrain --axis composition {base}",
     "finetune --init b.pt --kl k3_loss --train-on mix {grpo}",
     "finetune --init b.pt --out s.pt --steps 3 --prompts-per-step 4 --train-on edge",  # silent
     "evaluate --ckpt b.pt g.pt --prompts 4 --show 1 --samples 2"],
    ["pretrain --task both --axis length --share 0.25 --overlap 0.125 {base}",
     "finetune --init b.pt --method ppo --train-on mix --budget-rollouts 123456 --steps 2 {grpo}",
     "evaluate --ckpt b.pt --prompt '; a b ; b c = >> a ='"],
    ["study --list"], ["study dose --plan --seeds 3"],
], ids=["composition", "both", "list", "plan"])
def test_what_the_scripts_print_fits_100_columns(commands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {"base": shlex.join([*SMALL_BASE, "--log-every", "3", "--out", "b.pt"]),
             "grpo": "--group-size 4 --eval-prompts 4 --reward random --log-every 1 --out g.pt "
                     "--steps 3 --prompts-per-step 18"}
    for command in commands:
        script, *argv = shlex.split(command.format(**small))
        SCRIPTS[script].main(argv)
    lines = lines_of(capsys.readouterr())
    assert len(lines) > 5 and max(map(len, lines)) <= 100, max(lines, key=len)


def test_every_axis_can_be_trained_and_evaluated(tmp_path, monkeypatch):
    """The three scripts chained by flags, on every family and axis."""
    monkeypatch.chdir(tmp_path)
    tiny = "--steps 2 --batch-size 4 --eval-prompts 2 --layers 1 --width 16 --overlap 0.5"
    for task, axes in AXES.items():
        for axis in axes:
            pretrain.main(["--task", task, "--axis", axis, *tiny.split(), "--out", "b.pt",
                           "--overwrite"])
            finetune.main("--init b.pt --train-on mix --steps 2 --prompts-per-step 2 --group-size 2"
                          " --eval-prompts 2 --out g.pt --overwrite".split())
            args = load_checkpoint("g.pt")[1]["args"]
            assert (args["task"], args["axis"]) == (task, axis)
            evaluate.main(["--ckpt", "b.pt", "g.pt", "--prompts", "3"])


# ---------------------------------------------------------------------------- a task of one's own

def test_a_new_task_is_one_class(tmp_path):
    """The README's class, put into tasks.py in a copy of the repository: no other line changes."""
    for path in [*ROOT.glob("*.py"), *ROOT.glob("*/*.py")]:
        if path.parent.name != "tests":
            (tmp_path / path.relative_to(ROOT)).parent.mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / path.relative_to(ROOT))
    toy_family.add_to(tmp_path)
    page = (ROOT / "docs" / "write_your_own.md").read_text(encoding="utf-8")
    assert toy_family.TOY_FAMILY.strip() in page

    small = "--steps 2 --eval-prompts 8 --threads 1"
    commands = [
        f"pretrain --task copycat --axis length --overlap 0.5 --noise 0.5 {small} --out base.pt",
        f"finetune --init base.pt --train-on mix {small} --out grpo.pt",
        f"finetune --init base.pt --method rloo {small} --out rloo.pt",
        "evaluate --ckpt base.pt grpo.pt rloo.pt --show 1 --prompts 4 --threads 1",
        "study --task copycat --axis length --plan"]
    parts = [shlex.split(command) for command in commands]
    code = "\n".join(f"import {script}; {script}.main({argv})" for script, *argv in parts)
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ran.returncode == 0, ran.stderr
    for words in ("128 problems drawn, 64 of them from the edge cells of the length axis",
                  "--task copycat --axis length", "on d1 l2, d1 l3, d1 l4", "d1 l5", "solution",
                  "pass@1", "rloo", "grpo-edge copycat/length"):
        assert words in ran.stdout
    assert rows_of(tmp_path / "grpo.pt")[-1]["id"]


# ----------------------------------------------------------------------- what the pages tell to do

SMALLER = {
    "pretrain": "--steps 3 --batch-size 4 --eval-every 3 --eval-prompts 2",
    "finetune": "--steps 2 --prompts-per-step 2 --eval-prompts 2",
    "evaluate": "--prompts 4",
    "study": "--pretrain-steps 2 --grpo-steps 1 --prompts 4 --seeds 1",
    "bench": "--repeats 1 --small",
}


def pages():
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


def commands_of_the_pages():
    """[(what python is to run, its argv)] of the blocks of shell commands, in the pages' order,
    each once."""
    found = []
    for page in pages():
        blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            for name, argv in re.findall(r"python ([a-z_]+\.py|-m lab\.bench)([^&|#]*)", line):
                if (name, shlex.split(argv)) not in found:
                    found.append((name, shlex.split(argv)))
    return found


def test_the_pages_name_files_that_are_there():
    names = {name for name, _ in commands_of_the_pages() if name != "-m lab.bench"}
    assert {"pretrain.py", "finetune.py", "evaluate.py", "study.py"} <= names
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


def test_the_commands_of_the_pages_run_in_their_order(tmp_path, monkeypatch, capsys):
    """Every command of the README and of docs/, sizes overridden, in one folder, as a reader who
    goes down the page would run them; and what they print fits. A question of the study is only
    planned; what works on results/, on a run that was interrupted, or with other machines, is only
    parsed."""
    monkeypatch.chdir(tmp_path)
    for name, argv in commands_of_the_pages():
        script = "bench" if name == "-m lab.bench" else name[:-3]
        if script not in SCRIPTS or "--help" in argv:
            continue
        if {"--resume", "--report", "--publish", "--scheduler"} & set(argv):
            SCRIPTS[script].build_parser().parse_args(argv)
            continue
        if "list" not in argv:
            argv = [*argv, *SMALLER[script].split()]
        if script == "study" and study.build_parser().parse_args(argv).questions:
            argv.append("--plan")
        SCRIPTS[script].main(argv)
        assert max(map(len, lines_of(capsys.readouterr()))) <= 100, (name, argv)


def test_the_readme_quotes_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python -m pip install -r requirements.txt && python study.py\n" in text
    assert "python -m pip install -r requirements.txt && python -m pytest\n" in text
