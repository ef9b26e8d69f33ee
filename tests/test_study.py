"""study.py: reuse, resume, failure, what is kept and what is published."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import cli
import evaluate
import finetune
import forked
import questions
import study
from lab import cluster, records, runner
from lab.processes import Here
from lab.records import Arm, Run
from model import load_checkpoint
from questions import quick

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = ["--pretrain-steps", "6", "--grpo-steps", "2", "--prompts", "4"]

TOY = '''"""Is the sky blue?

Rule: a test's own.
"""
from lab.jobs import chain, on, pretraining, seeds
from lab.judge import Verdict, by_seed, pm


def jobs(args):
    found = []
    for seed in seeds(args):
        base = pretraining(args, seed, overlap=0.5)
        found += chain(args, base, on(args, base, "edge"), ["--cold", "0.5", "0"])
    return found


def verdicts(runs):
    gains = by_seed(runs, lambda run: run.gain("grpo-edge", "edge"))
    return [Verdict("The sky is blue", "undecided", f"gain {pm(gains)}, {len(runs)} bases")]


def figure(runs):
    return None
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A question of its own: one new file, and a folder to be in."""
    place = tmp_path / "more_questions"
    place.mkdir()
    (place / "toy.py").write_text(TOY)
    monkeypatch.setattr(questions, "__path__", [*questions.__path__, str(place)])
    monkeypatch.chdir(tmp_path)
    yield "toy"
    sys.modules.pop("questions.toy", None)


def jobs_of(*argv):
    args = study.build_parser().parse_args([*SMALL, *argv])
    by_question = study.jobs_of(args.questions or ["quick"], args)
    return study.each_once(job for its_jobs in by_question.values() for job in its_jobs)


def masses_of(folder):
    return {run.chain: {key: {cell: values.tolist() for cell, values in cells.items()}
                        for key, cells in run.masses.items()} for run in records.read(folder)}


# --------------------------------------------------------------------------------------- running it

def test_killed_and_started_again_it_ends_in_the_same_results(tmp_path, capsys):
    calm, rough = str(tmp_path / "calm"), str(tmp_path / "rough")
    flags = [*SMALL, "--overlaps", "0.5"]
    calm_jobs = jobs_of("--overlaps", "0.5", "--out", calm)
    for job in calm_jobs:                        # undisturbed: the same commands, one by one
        runner.SCRIPTS[job.script].main(job.argv)
    records.write(os.path.join(calm, "results", "quick"), runner.collect(calm_jobs))
    command = [sys.executable, os.path.join(ROOT, "study.py"), *flags, "--jobs", "2", "--out",
               rough]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.time() + 60
    base = os.path.join(rough, "arithmetic-depth-overlap0.5-steps6-grpo2-seed0", "base.pt")
    while time.time() < deadline and not os.path.exists(base):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130 and "the same command goes on" in output
    capsys.readouterr()
    study.main([*flags, "--out", rough])         # goes on
    again = capsys.readouterr().out
    kept = [os.path.join(folder, "results", "quick") for folder in (calm, rough)]
    assert masses_of(kept[0]) == masses_of(kept[1])
    assert "pass@1024" in again and "not pretrained enough to ask" in again
    study.main([*flags, "--out", rough])         # another call reuses everything
    assert "4 runs, 4 of them done before" in capsys.readouterr().out
    study.main([*flags, "--out", rough, "--plan", "--grpo-steps", "3"])    # a chain of its own
    plan = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in plan[:4]] == ["to", "to", "to", "to"]
    study.main([*flags, "--out", rough, "--plan", "--prompts", "5"])
    plan = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in plan[:4]] == ["done", "done", "done", "to"]


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path, capsys):
    class Sabotaged(Here):
        def start(self, job):
            if "grpo-edge" in job.name:
                job.argv = [*job.argv, "--no-such-flag"]
            return super().start(job)
    failed = runner.run(jobs_of("--overlaps", "0", "--out", str(tmp_path)), Sabotaged(2))
    output = capsys.readouterr().out
    assert failed == ["grpo-edge arithmetic/depth overlap 0 steps6 grpo2 seed 0",
                      "evaluate quick arithmetic/depth overlap 0 steps6 grpo2 seed 0"]
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert any(line.startswith("FAILED") and "grpo-edge" in line and "(status 2)" in line
               for line in lines)
    assert any("--no-such-flag" in line for line in lines)
    assert any(line.startswith("done") and "grpo-id" in line for line in lines)
    assert any(line.startswith("skipped evaluate quick") for line in lines)


def test_a_run_whose_base_nobody_makes_is_skipped_not_waited_for(tmp_path, capsys):
    _, *orphans = jobs_of("--overlaps", "0", "--out", str(tmp_path))
    assert runner.run(orphans, Here(2)) == [job.name for job in orphans]
    assert capsys.readouterr().out.count("what it needs is not there") == 3


def test_what_failed_is_not_answered_with_what_an_earlier_call_had_measured(toy, tmp_path,
                                                                            monkeypatch, capsys):
    monkeypatch.setattr(runner, "run", lambda jobs, place: [job.name for job in jobs])
    records.write(str(tmp_path / "runs" / "results" / "toy"), [a_run("arithmetic-old")])
    with pytest.raises(SystemExit) as stop:
        study.main([toy, *SMALL, "--out", "runs"])
    assert "3 runs failed" in str(stop.value)
    assert "toy: nothing is evaluated yet" in capsys.readouterr().out


# ------------------------------------------------------------------- one study, and how it can end

LONG = ["--only", "pretrain", "--overlaps", "0.5", "--pretrain-steps", "3000"]


def long_study(out):
    """(process, CSV of its only run) of a study that is under way: a minute's work, ten steps of it
    done."""
    process = forked.script(study, [*LONG, "--out", str(out)])
    table = out / "arithmetic-depth-overlap0.5-steps3000-seed0" / "base.csv"
    deadline = time.time() + 60
    while time.time() < deadline and not (table.exists() and table.read_text().count("\n") > 10):
        time.sleep(0.01)
    assert process.poll() is None
    return process, table


def test_the_runs_of_a_killed_study_end_with_it(tmp_path):
    process, table = long_study(tmp_path)
    process.kill()
    began = time.time()
    process.communicate()   # its output ends when the last that could write to it does
    assert time.time() - began < 1
    rows = table.read_text()
    time.sleep(0.3)
    assert table.read_text() == rows


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_study_that_is_told_to_end_saves_and_keeps_others_out_until_then(number, tmp_path,
                                                                           capsys):
    process, table = long_study(tmp_path)
    with pytest.raises(SystemExit) as stop:
        study.main([*LONG, "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert f"process {process.pid} " in error and "python study.py --only pretrain" in error
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 130
    assert output.splitlines()[-1].endswith("the same command goes on")
    _, extra = load_checkpoint(table.with_suffix(".pt"))
    assert extra["step"] == table.read_text().count("\n") - 1 >= 10


def test_two_do_not_publish_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    records.write("runs/results/dose", [a_run("a")])
    os.makedirs("results")
    with cli.lock("results"), pytest.raises(SystemExit) as stop:
        study.main(["--publish", "--out", "runs"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"results: is being written by process {os.getpid()} " in error
    assert os.listdir("results") == []


def test_where_distributed_is_missing_one_line_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        study.main([*SMALL, "--out", str(tmp_path), "--scheduler", "tcp://127.0.0.1:9"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "python -m pip install distributed" in error


# -------------------------------------------------------------------------- a question of one's own

def test_a_new_question_is_one_new_file_run_judged_kept_and_published(toy, tmp_path, capsys):
    study.main(["--list"])
    assert "toy          Is the sky blue?" in capsys.readouterr().out
    study.main([toy, *SMALL, "--out", "runs"])
    output = capsys.readouterr().out
    assert "Is the sky blue?\n  undecided: The sky is blue\n    gain " in output
    assert ", 1 bases" in output and all(len(line) <= 100 for line in output.splitlines())

    kept = str(tmp_path / "runs" / "results" / "toy")
    run, = records.read(kept)
    log = (tmp_path / "runs" / run.chain / "toy.log").read_text()
    assert log.startswith("python evaluate.py --ckpt ") and "--prompts 4" in log
    assert not os.path.exists(tmp_path / "results")          # nothing is published by itself
    check_against_the_evaluation(run, kept, tmp_path / "runs" / run.chain)

    os.makedirs(tmp_path / "results")                        # where another seed is published
    records.write(str(tmp_path / "results" / "toy"), [a_run("another-seed7", 7)])
    records.write(str(tmp_path / "runs" / "results" / "quick"), [a_run("of-a-quick-look")])
    study.main(["--publish", "--out", "runs"])
    assert not os.path.exists(tmp_path / "results" / "quick")
    assert "README.md" in capsys.readouterr().out
    both = masses_of(str(tmp_path / "results" / "toy"))
    assert list(both) == ["another-seed7", run.chain] and both[run.chain] == masses_of(kept)[
        run.chain]
    report = (tmp_path / "results" / "README.md").read_text()
    assert "## Is the sky blue?" in report and ", 2 bases" in report


def test_publishing_says_which_settings_are_not_those_of_what_is_published(tmp_path, monkeypatch,
                                                                           capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study.draw, "can_draw", lambda: False)
    full, short = a_run("full"), a_run("short", seed=1)
    full.arms["grpo-edge"].steps, short.arms["grpo-edge"].steps = 60, 10
    short.masses = {key: {cell: values[:2] for cell, values in cells.items()}
                    for key, cells in short.masses.items()}
    for folder, run in (("results", full), ("runs/results", short)):
        records.write(os.path.join(folder, "dose"), [run])
    study.main(["--publish", "--out", "runs"])
    assert capsys.readouterr().out.splitlines()[0] == (
        "note: dose differs from what is in results/dose: prompts 2 (there: 5); "
        "steps 10 (there: 60)")
    study.main(["--publish", "--out", "runs"])               # now both are there
    assert "note" not in capsys.readouterr().out


def check_against_the_evaluation(run, kept, folder):
    """The record says what evaluate.py measured, and what the checkpoints say of themselves."""
    with open(folder / "toy.json") as file:
        result = json.load(file)
    with open(os.path.join(kept, "runs.csv")) as file:
        rows = list(records.csv.DictReader(file))
    measured = {(r["model"], r["split"], r["cell"]): r for r in result["summary"]}
    assert {(r["arm"], r["split"], r["cell"]) for r in rows} == set(measured)
    for row in rows:
        told = measured[row["arm"], row["split"], row["cell"]]
        assert float(row["mass"]) == pytest.approx(told["pass"]["1"], rel=1e-5)
        assert float(row["p1024"]) == pytest.approx(told["pass"]["1024"], rel=1e-5)
        assert float(row["low"]) == pytest.approx(told["low"]["1"], rel=1e-5)
        assert int(row["prompts"]) == told["prompts"]
    arms = run.arms
    assert [arms[name].temperature for name in arms] == [1.0, 1.0, 0.5, 0.0]
    assert run.colder() == [name for name in arms if name != "grpo-edge"]
    tuned = arms["grpo-edge"]
    assert (tuned.method, tuned.train_on, tuned.init, tuned.steps) == ("grpo", "edge", "base", 2)
    assert tuned.rollouts == run.budget("grpo-edge") == 2 * 32 * 16
    assert (run.task, run.axis, run.overlap, run.noise) == ("arithmetic", "depth", 0.5, 0.3)
    assert (run.question, run.pretrain_steps, run.seed) == ("toy", 6, 0)


@pytest.mark.parametrize("text,words", [
    ("'''What?'''\ndef verdicts(runs): return []\ndef figure(runs): return None", "function jobs"),
    ("def jobs(args): return []\ndef verdicts(runs): return []\ndef figure(runs): pass", "docstr"),
    ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
])
def test_a_file_that_is_no_question_is_told_what_it_lacks(text, words, toy, tmp_path, capsys):
    (tmp_path / "more_questions" / "toy.py").write_text(text)
    with pytest.raises(SystemExit) as stop:
        study.main([toy, "--plan"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "questions/toy.py" in error and words in error


# --------------------------------------------------------------------------------------- the record

def test_an_arm_is_recorded_by_the_flags_that_made_it_not_by_its_name(base, tmp_path):
    folder = tmp_path / "chain"
    folder.mkdir()
    os.symlink(base, folder / "base.pt")
    small = ["--prompts-per-step", "3", "--group-size", "4", "--eval-every", "0",
             "--eval-prompts", "2"]
    first, second = str(folder / "k3-b9.pt"), str(folder / "rival-dapo.pt")
    finetune.main(["--init", base, *small, "--steps", "2", "--kl", "k1_reward", "--beta", "0.5",
                   "--scale", "none", "--reward", "answer", "--out", first])
    finetune.main(["--init", first, *small, "--steps", "1", "--train-on", "mix", "--out", second])
    one, two = runner.arm_of(first), runner.arm_of(second)
    assert one == Arm("k3-b9", "grpo", "id", "answer", "k1_reward", 0.5, "none", 2, 4, 3, 1,
                      24, None, 1.0, "base", one.command, one.seconds)
    assert (two.method, two.kl, two.beta, two.scale) == ("grpo", "none", 0.0, "std")
    assert (two.train_on, two.init, two.rollouts) == ("mix", "k3-b9", 12)
    assert one.command.startswith("python finetune.py ") and 0 <= one.seconds < 60
    gold = str(folder / "sft.pt")
    finetune.main(["--init", base, "--method", "sft", "--prompts-per-step", "3", "--eval-prompts",
                   "2", "--depths", "1", "--steps", "2", "--out", gold])
    assert (runner.arm_of(gold).rollouts, runner.arm_of(gold).gold) == (0, 2 * 3 * 5)
    known = runner.arm_of(str(folder / "base.pt"))
    assert (known.method, known.steps, known.init, known.kl) == ("pretrain", 20, "", "")

    out = str(folder / "law.json")
    evaluate.main(["--ckpt", str(folder / "base.pt"), first, "--prompts", "3", "--cold",
                   "--per-step", "--json", out])
    job = next(job for job in jobs_of("law", "--out", str(tmp_path)) if job.script == "evaluate")
    job.out = out
    run, = runner.runs_of(job)
    records.write(str(tmp_path / "law"), [run])
    back, = records.read(str(tmp_path / "law"))
    assert back.steps and back.arms == run.arms
    for row in back.steps:
        assert (row["arm"], row["kl"], row["beta"]) == ("k3-b9", "k1_reward", 0.5)
        assert row["chain"] == back.chain and 0 <= row["law"] <= 1


# ---------------------------------------------------------------------------------- what is printed

def test_only_takes_what_is_needed():
    names = [job.name for job in study.select(jobs_of(), ["grpo-edge", "overlap 0.1"])]
    assert names == ["pretrain arithmetic/depth overlap 0.1 steps6 grpo2 seed 0",
                     "grpo-edge arithmetic/depth overlap 0.1 steps6 grpo2 seed 0"]


def test_list_and_plan_fit_the_terminal(tmp_path, capsys):
    study.main(["--list"])
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == questions.names()
    assert all(line.endswith("?") for line in listed)
    study.main([*questions.names(), "--plan", "--seeds", "2", "--out", str(tmp_path / "x")])
    planned = capsys.readouterr().out.splitlines()
    assert len(planned) > 100 and planned[-1].endswith("with --jobs 2")
    assert max(map(len, [*listed, *planned])) <= 100
    assert not os.path.exists(tmp_path / "x")                # a plan leaves nothing behind


def test_the_seeds_of_the_plan_are_those_asked_for(tmp_path, capsys):
    study.main(["--plan", "--seeds", "2", "--first-seed", "3", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert {line.split("seed ")[1] for line in lines} == {"3", "4"} and len(lines) == 2 * 2 * 4


@pytest.mark.parametrize("argv,words", [
    (["--seeds", "0"], ["--seeds 0", "between 1 and 1000"]),
    (["everything"], ["everything: no such question", "--list"]),
    (["does", "--plan"], ["does: no such question; is it dose?"]),
    (["--sedes", "3"], ["--sedes", "is it --seeds?"]),
    (["--task", "graph", "--axis", "composition"], ["--axis composition", "depth, length"]),
    (["--task", "chess"], ["--task", "arithmetic"]),
    (["--only", "nothing of the kind"], ["--only", "--plan"]),
    (["--report"], ["results"]),
    (["--publish"], ["--publish", "nothing"]),
    (["dose", "--publish"], ["runs.csv", "python study.py dose"]),
    (["--out", "a_file/x"], ["a_file"]),
])
def test_bad_input_is_one_clear_line(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("precious")
    with pytest.raises(SystemExit) as stop:
        study.main(argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("study.py: error: ")
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert os.listdir(tmp_path) == ["a_file"]


# --------------------------------------------------------------------------------- the quick answer

def a_run(chain, seed=0, overlap=0.5, edge_after=0.4, place=("arithmetic", "depth")):
    """A Run of base, grpo-id and grpo-edge: id 0.3, edge 0.1, but after GRPO on edge there."""
    masses = {}
    for arm in ("base", "grpo-id", "grpo-edge"):
        for split, mass in (("id", 0.3), ("edge", 0.1), ("hard", 1e-9)):
            if (arm, split) == ("grpo-edge", "edge"):
                mass = edge_after
            masses[arm, split] = {"d1 l4": np.log(np.full(5, mass))}
    arms = {"base": Arm("base", "pretrain"), "grpo-id": Arm("grpo-id", init="base"),
            "grpo-edge": Arm("grpo-edge", init="base")}
    return Run("quick", chain, *place, overlap, 0.3, 1000, "", seed, arms, masses)


@pytest.mark.parametrize("bare,seen,words", [
    (0.1, 0.8, "it amplified what pretraining had put there, and did not create what it had not."),
    (0.5, 0.8, "not what the reference paper would lead one to expect."),
    (0.1, 0.1, "not what the reference paper would lead one to expect."),
])
def test_the_closing_sentence_and_the_verdict_follow_from_the_numbers(bare, seen, words):
    runs = [a_run("a", 0, 0.0, bare), a_run("b", 0, 0.1, seen),
            a_run("c", 1, 0.0, bare), a_run("d", 1, 0.1, seen)]
    text = quick.summary(runs)
    assert " ".join(text.split()).endswith(words)
    verdict, = quick.verdicts(runs)
    assert verdict.verdict == ("supported" if (bare, seen) == (0.1, 0.8) else "refuted")
    assert quick.verdicts(runs[:2])[0].verdict == "undecided"        # one seed
    assert quick.verdicts(runs[::2])[0].verdict == "not run"         # one overlap


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_closing_table_shows_every_number_and_fits_the_terminal(seeds):
    runs = [a_run(f"{overlap}-{seed}", seed, overlap, 0.2 + 0.1 * seed)
            for seed in range(seeds) for overlap in (0.0, 0.1)]
    lines = quick.summary(runs).split("\n")
    tables = [line for line in lines if line.startswith("overlap  split")]
    assert len(tables) == (1 if seeds == 1 else 3)           # with intervals, a table for each k
    assert max(map(len, lines[:lines.index(next(x for x in lines if "1.00 |" in x))])) <= 100
    edge = next(line for line in lines if line.startswith("10%") and "edge" in line).split()
    if seeds == 1:
        assert edge[4:7] == ["0.100", "0.100", "0.200"]      # after overlap, split and cells
    else:
        assert edge[4:] == ["0.100", "±0", "0.100", "±0", "0.300", "±0.248"]
    head = next(line for line in lines if "pass@1" in line)
    below = lines[lines.index(head) + 1]
    assert below[head.index("pass@1"):].startswith("base") or seeds > 1


def test_what_torch_puts_off_is_imported_before_the_first_fork(tmp_path):
    """In a process of its own, for this one has long used an optimizer."""
    code = ("import sys; from lab import processes; before = 'torch._dynamo' in sys.modules; "
            "processes.import_early(); print(before, 'torch._dynamo' in sys.modules)")
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.split() == ["False", "True"], ran.stderr
