"""finetune.py: what it trains on, from where, for how long, and what it writes down. The algorithm
is in test_grpo.py, methods are in test_variants.py, how a run stops and resumes in test_scripts.py.
"""
import contextlib
import csv
import glob
import os
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

import cli
import finetune
import grpo
import variants
from finetune import expected_steps, learning_rate, starting_point, training_cells
from measure import mean_masses
from model import GPT, GPTConfig, load_checkpoint, save_checkpoint
from tasks import AXES, SPLITS

SMALL = ["--prompts-per-step", "4", "--group-size", "4", "--eval-prompts", "4",
         "--reward", "random"]


def rows_of(path):
    with open(os.path.splitext(path)[0] + ".csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights(path):
    return load_checkpoint(path)[0].state_dict()


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def run(base, tmp_path):
    """Train a few small steps from the base; returns the checkpoint's path."""
    def run(*argv, name="g", init=base):
        out = str(tmp_path / f"{name}.pt")
        finetune.main(["--init", init, *SMALL, *map(str, argv), "--out", out, "--overwrite"])
        return out
    return run


# --------------------------------------------------------------------------- where, and from where

@pytest.mark.parametrize("task,axis", [(t, a) for t in AXES for a in AXES[t]] + [("both", "depth")])
def test_the_cells_trained_on(task, axis):
    names = ["arithmetic", "graph"] if task == "both" else [task]
    of = {split: [(name, cell) for name in names for cell in AXES[name][axis][split]]
          for split in SPLITS}
    for split in SPLITS:
        assert training_cells(task, axis, split) == of[split]
    mix = Counter(training_cells(task, axis, "mix"))
    assert set(mix) == {*of["id"], *of["edge"]}
    assert sum(mix[x] for x in of["id"]) == sum(mix[x] for x in of["edge"])  # in equal parts
    assert len({mix[x] for x in of["id"]}) == len({mix[x] for x in of["edge"]}) == 1


def test_depths_pick_cells_across_splits():
    found = training_cells("arithmetic", "depth", "id", [3, 4, 6])
    assert [(name, cell.depth) for name, cell in found] == [("arithmetic", d) for d in (3, 4, 6)]
    with pytest.raises(cli.CommandError, match="--depths 7: no cell of the depth axis has it"):
        training_cells("arithmetic", "depth", "id", [4, 7])


def test_the_base_is_where_it_starts_and_what_it_is_held_to(base):
    policy, reference, flags = starting_point(SimpleNamespace(init=base, reference=None), None)
    assert same(policy.state_dict(), weights(base)) and same(reference.state_dict(), weights(base))
    assert not {id(p) for p in policy.parameters()} & {id(p) for p in reference.parameters()}
    assert flags["noise"] == 0.3
    with pytest.raises(cli.CommandError, match="--init: name a pretrained checkpoint"):
        starting_point(SimpleNamespace(init=None, reference=None), None)
    other = {k: v + 1 for k, v in weights(base).items()}  # a run that is resumed is elsewhere
    saved = load_checkpoint(base)[0], {"reference": other, "args": {"axis": "depth"}}
    policy, reference, flags = starting_point(SimpleNamespace(init=base), saved)
    assert policy is saved[0] and same(reference.state_dict(), other) and flags["axis"] == "depth"


def test_a_start_that_is_not_the_reference(base, run, tmp_path, capsys):
    """Training starts from --init and is held to --reference, before and after a resume: with no
    reward to gain, a strong KL to itself would leave it where it is."""
    start = run("--steps", 2, "--lr", 0.01, name="start")
    pull = ["--reference", base, "--kl", "k3_loss", "--beta", 5, "--steps", 4, "--seed", 3]
    whole = run(*pull, name="whole", init=start)
    extra = load_checkpoint(whole)[1]
    assert same(extra["reference"], weights(base)) and not same(weights(start), weights(base))
    assert extra["args"]["reference"] == base and f"--reference {base}" in extra["command"]
    assert float(rows_of(whole)[0]["kl"]) > 0               # the first step is off the reference
    assert float(rows_of(run(*pull[2:], name="own", init=start))[0]["kl"]) == 0
    policy, reference, _ = starting_point(SimpleNamespace(init=start, reference=base), None)
    assert same(policy.state_dict(), weights(start))
    assert same(reference.state_dict(), weights(base))
    for what, other in (("n_embd 32", {"n_embd": 32}), ("vocab_size 9", {"vocab_size": 9})):
        path = str(tmp_path / "other.pt")
        save_checkpoint(path, GPT(GPTConfig(**{"n_layer": 1, "n_embd": 16, **other})))
        with pytest.raises(SystemExit) as stop:
            run("--reference", path, "--steps", 1)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1
        assert f"--reference {path}: has {what}, must be --init's" in error


def test_a_resumed_run_keeps_its_reference(base, run, monkeypatch):
    start = run("--steps", 2, "--lr", 0.01, name="start")
    pull = ["--reference", base, "--kl", "k3_loss", "--beta", 5, "--steps", 4]
    whole = run(*pull, name="whole", init=start)
    calls = iter([False, True, True])
    signals = contextlib.nullcontext(lambda: next(calls))
    monkeypatch.setattr(cli.runs, "stop_signals", lambda: signals)
    with pytest.raises(SystemExit):
        run(*pull, name="half", init=start)
    monkeypatch.undo()
    half = os.path.join(os.path.dirname(whole), "half.pt")
    assert load_checkpoint(half)[1]["step"] == 2
    finetune.main(["--resume", half])
    assert same(weights(half), weights(whole)) and load_checkpoint(half)[1]["finished"]


def test_the_task_and_the_axis_are_those_of_the_base_unless_said(base, run, tmp_path, monkeypatch):
    model, graph = load_checkpoint(base)[0], str(tmp_path / "graph.pt")
    save_checkpoint(graph, model, args={"task": "graph", "axis": "length"})
    save_checkpoint(str(tmp_path / "bare.pt"), model)  # of someone else's loop
    cases = [([], graph, ("graph", "length"), {"l6", "l7", "l8"}),
             (["--axis", "tokens", "--train-on", "hard"], graph, ("graph", "tokens"), {"l8 mixed"}),
             (["--task", "arithmetic"], graph, ("arithmetic", "length"), {"l2", "l3", "l4"}),
             ([], str(tmp_path / "bare.pt"), ("arithmetic", "depth"), {"l4"}),
             (["--depths", "4", "6"], base, ("arithmetic", "depth"), {"d4 l4", "d6 l4"})]
    for argv, init, where, cells in cases:
        out = run(*argv, "--steps", 1, "--prompts-per-step", 9, "--group-size", 2, init=init)
        args = load_checkpoint(out)[1]["args"]
        assert (args["task"], args["axis"]) == where
        trained = rows_of(out)[0]["rewards"]
        assert all(f"{cell}: " in trained for cell in cells)


@pytest.mark.parametrize("name,argv,want", [
    ("grpo", ["--group-size", "5", "--clip-low", "0.1", "--kl", "k3_loss", "--beta", "0.5",
              "--max-grad-norm", "7", "--micro-batch", "2", "--cells", "one"],
     {"group_size": 5, "clip_low": 0.1, "kl": "k3_loss", "beta": 0.5, "max_grad_norm": 7.0,
      "micro_batch": 2, "cells": "one", "clip_high": 0.2}),
    ("dr_grpo", ["--lr", "0.5"], {"lr": 0.5, "scale": "none", "aggregate": "constant"})])
def test_the_method_gets_its_knobs_from_the_flags(name, argv, want, base):
    argv = ["--init", base, "--method", name, *argv, "--seed", "9", "--train-on", "edge"]
    args = finetune.build_parser(argv).parse_args(argv)
    args.task, args.axis = "arithmetic", "depth"
    policy, reference, _ = starting_point(args, None)
    method = finetune.make_method(args, policy, reference)
    assert type(method) is variants.load(name)
    assert {key: getattr(method, key) for key in want} == want
    assert method.policy is policy and method.reference is reference
    assert method.tasks == training_cells("arithmetic", "depth", "edge")


# ----------------------------------------------------------------------------- how long, how fast

def test_the_steps_that_a_budget_leaves():
    def steps(done, spent, budget, *others):
        return expected_steps(SimpleNamespace(steps=60), done, [(budget, spent), *others])
    assert expected_steps(SimpleNamespace(steps=60), 7, []) == 60
    assert steps(0, 0, 100) == 60          # nothing is known of the pace yet
    assert steps(1, 16, 100) == 7          # 16 a step: 96 in six are not enough
    assert steps(2, 50, 100) == 4
    assert steps(3, 100, 100) == steps(3, 120, 100) == 3
    assert steps(1, 1, 1000) == 60
    assert steps(2, 50, 100, (30, 20)) == 3 and steps(2, 50, 100, (300, 20)) == 4  # what ends first


def test_the_rate_falls_with_the_steps_or_with_the_budget():
    def rate(decay, done, rollouts=0, budget=0):
        args = SimpleNamespace(lr_decay=decay, steps=10)
        budgets = [(budget, rollouts), (50, 30)] if budget else []
        return learning_rate(args, SimpleNamespace(lr=2.0, budgets=lambda: budgets), done)
    assert [rate(False, done) for done in (0, 5, 9)] == [2.0] * 3
    assert [rate(True, done) for done in (0, 5, 9)] == pytest.approx([2.0, 1.0, 0.2])
    assert rate(True, 1, 75, 100) == 0.5 and rate(True, 7, 10, 100) == pytest.approx(0.6)
    assert rate(True, 1, 10, 100) == 0.8   # of two budgets that which is nearer its end
    assert rate(False, 1, 75, 100) == 2.0


@pytest.mark.parametrize("argv,rates", [
    ([], [0.01] * 4), (["--lr-decay"], [0.01, 0.0075, 0.005, 0.0025]),
    (["--lr-decay", "--budget-rollouts", "32"], [0.01, 0.005])])
def test_the_optimizer_gets_that_rate(argv, rates, run, monkeypatch):
    step, seen = grpo.GRPO.step, []

    def watched(self, optimizer):
        seen.append(optimizer.param_groups[0]["lr"])
        return step(self, optimizer)
    monkeypatch.setattr(grpo.GRPO, "step", watched)
    run("--steps", 4, "--lr", 0.01, *argv)
    assert seen == pytest.approx(rates)


def test_a_budget_ends_the_run(run, capsys):
    extra = load_checkpoint(run("--steps", 50, "--budget-rollouts", 40, "--log-every", 1))[1]
    assert extra["step"] == 3 and extra["finished"] and extra["method"]["rollouts"] == 48
    said = capsys.readouterr().out
    assert "step 3/3" in said and "48 rollouts" in said and "note:" not in said
    extra = load_checkpoint(run("--steps", 2, "--budget-rollouts", 40, name="short"))[1]
    assert extra["step"] == 2 and extra["finished"]
    assert "note: --steps 2 ended the run before its budget" in capsys.readouterr().out


# ---------------------------------------------------------------------------- what it writes down

def test_every_step_is_a_row_and_some_are_lines(run, capsys):
    out = run("--steps", 7, "--log-every", 3, "--eval-every", 2, "--train-on", "mix")
    rows = rows_of(out)
    assert [int(r["step"]) for r in rows] == list(range(1, 8))
    assert [int(r["rollouts"]) for r in rows] == [16 * n for n in range(1, 8)]
    assert [bool(r["id"]) for r in rows] == [False, True, False, True, False, True, True]
    assert all(0 <= float(r["reward"]) <= 1 and float(r["grad"]) > 0 for r in rows)
    for r in rows:  # the reward of each cell that the step was on
        cells = {word.split(": ")[0]: float(word.split(": ")[1])
                 for word in r["rewards"].rstrip(";").split("; ")}
        assert set(cells) <= {"d1 l4", "d2 l4", "d3 l4", "d4 l4"} and len(cells) in (2, 3, 4)
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("step ")]
    assert [x.split()[1] for x in lines] == ["3/7", "6/7", "7/7"]
    assert all("reward 0." in x and " grad " in x for x in lines)


def test_the_masses_logged_are_those_of_the_policy_at_its_temperature(run):
    out = run("--steps", 4, "--eval-every", 3, "--temperature", 0.5)
    last = rows_of(out)[-1]
    model = load_checkpoint(out)[0]
    for t in (0.5, 1.0):
        masses = mean_masses(model, ["arithmetic"], "depth", 4, t)
        close = [float(last[s]) == pytest.approx(masses[s], rel=1e-4, abs=0) for s in SPLITS]
        assert all(close) if t == 0.5 else not any(close)
    kept = rows_of(out)[2]
    assert kept["id"] and kept["id"] != last["id"]  # those of that step


def test_a_run_without_a_signal_changes_nothing_and_says_why(base, run, capsys):
    out = run("--reward", "trace", "--train-on", "edge", "--steps", 3)
    assert same(weights(base), weights(out))
    assert all(row["grad"] == "0.0" for row in rows_of(out))
    said = capsys.readouterr().out
    assert "1 step without a signal" in said and "all advantages are 0" in said


def test_some_checkpoints_are_kept(run, tmp_path):
    out = run("--steps", 5, "--keep-every", 2)
    kept = sorted(glob.glob(str(tmp_path / "*.pt")))
    assert [os.path.basename(path) for path in kept] == ["g.pt", "g.step0002.pt", "g.step0004.pt"]
    two, four, all_of_it = (load_checkpoint(path)[1] for path in [*kept[1:], out])
    assert (two["step"], four["step"], all_of_it["step"]) == (2, 4, 5)
    assert (two["finished"], all_of_it["finished"]) == (False, True)
    assert same(weights(kept[1]), weights(run("--steps", 2, name="two")))
    assert not same(weights(kept[1]), weights(kept[2]))


def test_the_seed_is_the_runs_randomness(run):
    a, again, b = (run("--steps", 2, "--seed", seed, name=name)
                   for seed, name in ((3, "a"), (3, "again"), (4, "b")))
    timeless = [[{k: v for k, v in row.items() if k not in cli.Log.TIMING} for row in rows_of(path)]
                for path in (a, again, b)]
    assert same(weights(a), weights(again)) and timeless[0] == timeless[1]
    assert not same(weights(a), weights(b)) and timeless[0][0]["reward"] != timeless[2][0]["reward"]


# -------------------------------------------------------------------------------------- its flags

@pytest.mark.parametrize("name", variants.names())
def test_every_flag_of_every_method_has_its_line_of_help(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = finetune.build_parser(["--method", name])
    for action in parser._actions:
        assert action.help, action.option_strings
    said = parser.format_help()
    shown = [n for n, own in cli.knobs(variants.load(name)).items() if own.shown]
    assert all(cli.flag(n) in said for n in shown) and f"--method {name}: " in said
    assert max(map(len, said.splitlines())) <= 100


def test_a_run_of_the_version_before_can_be_started_from_but_not_resumed(base, run, capsys):
    """It had no --cells. Its weights are as good as ever."""
    old = run("--steps", 2, name="old")
    model, extra = load_checkpoint(old)
    del extra["args"]["cells"]
    save_checkpoint(old, model, **{**extra, "finished": False})
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--resume", old])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "another version, which had no --cells; start a new run" in error
    assert load_checkpoint(run("--steps", 1, init=old))[1]["step"] == 1
