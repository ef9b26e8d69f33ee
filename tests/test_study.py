"""study.py: reuse, resume, failure, and words that follow from the numbers."""
import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import grid
import study
from readings import over_seeds

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = ["--pretrain-steps", "6", "--grpo-steps", "2", "--prompts", "4"]


def masses_of(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name, "quick.json")) as file:
            found[name] = [p["log_mass"] for p in json.load(file)["prompts"]]
    return found


def test_killed_and_started_again_it_ends_in_the_same_results(tmp_path, capsys):
    calm, rough = str(tmp_path / "calm"), str(tmp_path / "rough")
    flags = [*SMALL, "--overlaps", "0.5"]
    for job in grid.quick(study.build_parser().parse_args([*flags, "--out", calm])):
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
    assert "pass@1024" in again.stdout and "not pretrained enough to ask the question" in again.stdout  # after six steps
    capsys.readouterr()
    study.main([*flags, "--out", rough])  # another call reuses everything
    assert "4 runs, 4 of them done before" in capsys.readouterr().out
    study.main([*flags, "--out", rough, "--plan", "--grpo-steps", "3"])  # other flags: only what they touch
    plan = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in plan[:4]] == ["done", "to", "to", "to"]


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    start = study.start
    def sabotage(job):
        if "grpo-edge" in job.name:
            job.argv = [*job.argv, "--no-such-flag"]
        return start(job)
    monkeypatch.setattr(study, "start", sabotage)
    jobs = grid.quick(study.build_parser().parse_args([*SMALL, "--overlaps", "0", "--out", str(tmp_path)]))
    failed = study.run(jobs, 2)
    output = capsys.readouterr().out
    assert failed == ["grpo-edge arithmetic/depth overlap 0 seed 0", "evaluate quick arithmetic/depth overlap 0 seed 0"]
    assert "FAILED    grpo-edge arithmetic/depth overlap 0 seed 0 (status 2)" in output and "--no-such-flag" in output and "done      grpo-id arithmetic/depth overlap 0 seed 0" in output


def test_only_takes_what_is_needed():
    args = study.build_parser().parse_args(SMALL)
    names = [j.name for j in study.select(grid.quick(args), ["grpo-edge", "overlap 0.1"])]
    assert names == ["pretrain arithmetic/depth overlap 0.1 seed 0", "grpo-edge arithmetic/depth overlap 0.1 seed 0"]


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
    mean, half = over_seeds([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / 3 ** 0.5, rel=1e-3)
    assert over_seeds([1.0]) == (1.0, None)


# ------------------------------------------------------------------------------------------------------------ the whole grid

TINY = [*SMALL, "--law-steps", "2", "--oracle-problems", "128", "--overlaps", "0.5"]


def whole(*flags):
    return grid.jobs_of(study.build_parser().parse_args(["--grid", "all", *flags]))


def test_the_whole_grid_has_every_part_and_each_output_once():
    jobs = whole("--seeds", "3")
    outs = [job.out for job in jobs]
    assert len(set(outs)) == len(outs) and {n for job in jobs for n in job.needs} <= set(outs)
    parts = [job.about["part"] for job in jobs if job.script == "evaluate"]
    assert {part: parts.count(part) for part in grid.PARTS} == {"dose": 7 * 4 * 3, "saturation": 10 * 3, "laws": 3, "controls": 12 * 3, "domains": 9, "rivals": 9}
    for job in jobs:  # every command is one that its script understands
        args = study.SCRIPTS[job.script].build_parser().parse_args(job.argv)
        assert args.threads == 1
    position = {job.out: i for i, job in enumerate(jobs)}
    assert all(position[n] < position[job.out] for job in jobs for n in job.needs)


def test_two_jobs_at_once_give_the_rows_of_one(tmp_path, capsys):
    def rows(folder):
        with open(os.path.join(folder, "study.csv"), newline="") as file:
            found = list(csv.DictReader(file))
        for row in found:
            row["command"] = row["command"].replace(str(folder), "")
            del row["seconds"]
        return found
    folders = [tmp_path / "one", tmp_path / "two"]
    for jobs, folder in zip("12", folders):
        study.main(["--grid", "all", *TINY, "--only", "evaluate controls", "position=nope", "--jobs", jobs, "--out", str(folder), "--results", str(folder)])
    one, two = map(rows, folders)
    assert len(one) == 7 * (6 + 3) and one == two     # base, two arms and four temperatures; six cells and three splits
    with np.load(folders[0] / "masses.npz") as a, np.load(folders[1] / "masses.npz") as b:
        assert set(a.files) == set(b.files) and all(np.array_equal(a[k], b[k]) for k in a.files) and len(a.files) == 7 * 6


def test_results_are_merged_not_lost(tmp_path):
    path = str(tmp_path / "x.csv")
    study.merge(path, ["part", "mass"], [{"part": "a", "mass": 1}, {"part": "b", "mass": 2}], ("part",))
    study.merge(path, ["part", "mass"], [{"part": "b", "mass": 3}, {"part": "c", "mass": 4}], ("part",))
    with open(path) as file:
        assert file.read().split() == ["part,mass", "a,1", "b,3", "c,4"]
