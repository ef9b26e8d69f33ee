"""study.py: reuse, resume, failure, and words that follow from the numbers."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import study

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = ["--pretrain-steps", "6", "--grpo-steps", "2", "--prompts", "4"]


def masses_of(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name, "masses.json")) as file:
            found[name] = [p["log_mass"] for p in json.load(file)["prompts"]]
    return found


def test_killed_and_started_again_it_ends_in_the_same_results(tmp_path, capsys):
    calm, rough = str(tmp_path / "calm"), str(tmp_path / "rough")
    flags = [*SMALL, "--overlaps", "0.5"]
    for job in study.quick_grid(study.build_parser().parse_args([*flags, "--out", calm])):
        study.SCRIPTS[job.script].main(job.argv)  # undisturbed: the same commands, one after the other
    command = [sys.executable, os.path.join(ROOT, "study.py"), *flags, "--jobs", "2", "--out", rough]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.time() + 60
    base = os.path.join(rough, "arithmetic-depth-overlap0.5-seed0", "base.pt")
    while time.time() < deadline and not os.path.exists(base):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130 and "the same command goes on" in output
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and masses_of(calm) == masses_of(rough)
    assert "pass@1024" in again.stdout and "In distribution, GRPO took" in again.stdout
    capsys.readouterr()
    study.main([*flags, "--out", rough])  # another call reuses everything
    assert "4 runs, 4 of them done before" in capsys.readouterr().out
    study.main([*flags, "--out", rough, "--plan", "--grpo-steps", "3"])  # other flags: only what they touch
    plan = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in plan[:4]] == ["done", "to", "to", "to"]


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    start = study.start
    def sabotage(job):
        if "edge" in job.name:
            job.argv = [*job.argv, "--no-such-flag"]
        return start(job)
    monkeypatch.setattr(study, "start", sabotage)
    grid = [j for j in study.quick_grid(study.build_parser().parse_args([*SMALL, "--overlaps", "0", "--out", str(tmp_path)]))]
    failed = study.run(grid, 2)
    output = capsys.readouterr().out
    assert failed == ["GRPO on edge overlap 0", "evaluate overlap 0"]
    assert "FAILED    GRPO on edge overlap 0 (status 2)" in output and "--no-such-flag" in output and "done      GRPO on id overlap 0" in output


def test_only_takes_what_is_needed():
    args = study.build_parser().parse_args(SMALL)
    names = [j.name for j in study.select(study.quick_grid(args), "GRPO on edge overlap 0.1")]
    assert names == ["pretrain overlap 0.1", "GRPO on edge overlap 0.1"]


@pytest.mark.parametrize("edge,words", [
    ({("0", "grpo-edge"): 0.0, ("0.1", "grpo-edge"): 0.8}, "amplified what pretraining had put there"),
    ({("0", "grpo-edge"): 0.5, ("0.1", "grpo-edge"): 0.8}, "not what the reference paper would lead one to expect"),
    ({("0", "grpo-edge"): 0.0, ("0.1", "grpo-edge"): 0.1}, "not what the reference paper would lead one to expect"),
])
def test_the_closing_sentence_follows_from_the_numbers(edge, words):
    with np.errstate(divide="ignore"):
        masses = {(o, a, s): [np.log(np.full(5, edge.get((o, a), 0.1 if o == "0.1" else 0.0) if s == "edge" else 0.6))]
                  for o in ("0", "0.1") for a in study.ARMS for s in ("id", "edge", "hard")}
    assert words in study.sentence(masses, ["0", "0.1"])


def test_intervals_are_student_t_over_seeds():
    mean, half = study.over_seeds([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / 3 ** 0.5, rel=1e-3)
    assert study.over_seeds([1.0]) == (1.0, None)
