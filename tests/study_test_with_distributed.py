"""A study on a Dask cluster: a scheduler and three workers, one of which is killed. Needs
distributed, which is optional, so pytest does not collect this file by itself: `python -m pytest
tests/study_test_with_distributed.py` where it is installed, as .ci/run does in its second step.
"""
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import NamedTuple

import pytest

import study
from lab import cluster
from model import load_checkpoint
from test_study import ROOT, SMALL, jobs_of, masses_of

FLAGS = ["--overlaps", "0", "0.5", "--pretrain-steps", "150", "--grpo-steps", "2", "--prompts", "4"]
LONG = [*SMALL, "--only", "pretrain", "--overlaps", "0.5", "--pretrain-steps", "3000"]


class Started(NamedTuple):
    process: subprocess.Popen
    said: object   # the Path of what it printed

    def names(self):
        """The jobs that this worker began, each as often as it did."""
        return [line for line in self.said.read_text().splitlines()
                if line.startswith(("pretrain ", "grpo-", "evaluate "))]


def dask(folder, name, *argv, cwd=ROOT):
    said = folder / f"{name}.txt"
    with open(said, "w") as file:
        process = subprocess.Popen([sys.executable, "-m", "dask", *argv], cwd=cwd, stdout=file,
                                   stderr=file)
    return Started(process, said)


def worker(folder, address, name, cwd=ROOT):
    return dask(folder, name, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                "--local-directory", str(folder / name), cwd=cwd)


def until(true, seconds=60):
    deadline = time.time() + seconds
    while not true():
        assert time.time() < deadline
        time.sleep(0.02)


@pytest.fixture
def scheduler(tmp_path):
    """The address of a scheduler that has no workers."""
    file = tmp_path / "scheduler.json"
    started = dask(tmp_path, "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0",
                   "--dashboard-address", ":0", "--scheduler-file", str(file))
    until(lambda: file.exists() and file.read_text().endswith("}"))
    yield json.loads(file.read_text())["address"]
    started.process.kill()
    started.process.wait()


@pytest.fixture
def workers(scheduler, tmp_path):
    found = [worker(tmp_path, scheduler, f"worker{i}") for i in range(3)]
    until(lambda: all("Registered to" in one.said.read_text() for one in found))
    yield found
    for one in found:
        one.process.kill()
        one.process.wait()


def start_study(flags, out, scheduler):
    return subprocess.Popen([sys.executable, os.path.join(ROOT, "study.py"), *flags, "--out", out,
                             "--scheduler", scheduler], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def rows(job):
    """Steps in the CSV of a job."""
    table = os.path.splitext(job.out)[0] + ".csv"
    if not os.path.exists(table):
        return 0
    with open(table, encoding="utf-8") as file:
        return file.read().count("\n") - 1


def has_saved_and_ended(job):
    before = rows(job)
    time.sleep(1)
    return load_checkpoint(job.out)[1]["step"] == rows(job) == before > 10


def test_a_worker_that_dies_changes_nothing_but_where_its_job_ends(workers, scheduler, tmp_path):
    alone, spread = str(tmp_path / "alone"), str(tmp_path / "spread")
    process = start_study(FLAGS, spread, scheduler)
    jobs = jobs_of(*FLAGS, "--out", spread)
    bases = {job.name: job for job in jobs if job.script == "pretrain"}
    until(lambda: any(one.names() for one in workers))
    victim = next(one for one in workers if one.names())
    struck, = victim.names()
    until(lambda: rows(bases[struck]) > 110)                 # step 100 is saved
    victim.process.kill()
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    assert output.count("  done  ") == len(jobs) == 8 and f"the workers of {scheduler}" in output
    begun = Counter(name for one in workers for name in one.names())
    assert begun == {job.name: 1 + (job.name == struck) for job in jobs}
    with open(bases[struck].log(), encoding="utf-8") as file:
        assert "resumed at step 100/150" in file.read()
    study.main([*FLAGS, "--out", alone])
    kept = [os.path.join(folder, "results", "quick") for folder in (alone, spread)]
    assert masses_of(kept[0]) == masses_of(kept[1])
    again = start_study(FLAGS, spread, scheduler).communicate(timeout=120)[0]
    assert "8 runs, 8 of them done before" in again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_runs_of_a_study_that_ends_save_and_end_too(number, workers, scheduler, tmp_path):
    out = str(tmp_path / "study")
    process, (job,) = start_study(LONG, out, scheduler), jobs_of(*LONG, "--out", out)[:1]
    until(lambda: rows(job) > 10)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    if number == signal.SIGTERM:
        assert process.returncode == 130 and "the same command goes on" in output
    until(lambda: has_saved_and_ended(job), 20)


# ----------------------------------------------------------------------------- what cannot be done

def refused(capsys, out, scheduler):
    """The one line that a study is refused with."""
    with pytest.raises(SystemExit) as stop:
        study.main([*LONG, "--out", str(out), "--scheduler", scheduler])
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and "\n" not in error, error
    assert error.startswith("study.py: error: --scheduler ") and os.listdir(out) == []
    return error


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "tcp://no.such.host:1"])
def test_a_scheduler_that_is_not_there_is_told_within_ten_seconds(address, tmp_path, capsys):
    began = time.time()
    assert "cannot be reached" in refused(capsys, tmp_path, address)
    assert time.time() - began < 15


def test_workers_that_cannot_do_the_work_are_told_before_it(scheduler, tmp_path, monkeypatch,
                                                            capsys):
    out = tmp_path / "study"
    assert "has no workers" in refused(capsys, out, scheduler)
    started = worker(tmp_path, scheduler, "here")
    until(lambda: "Registered to" in started.said.read_text())
    monkeypatch.setattr(cluster.worker, "code", lambda: "of another commit")
    assert "has other code" in refused(capsys, out, scheduler)
    monkeypatch.undo()
    with monkeypatch.context() as patch:                     # a folder that only the study sees
        patch.setattr(cluster, "write_probe", lambda path: None)
        assert "does not see" in refused(capsys, out, scheduler)
    started.process.kill()
    started.process.wait()
    elsewhere = worker(tmp_path, scheduler, "elsewhere", cwd=tmp_path)
    until(lambda: "Registered to" in elsewhere.said.read_text())
    assert "cannot import" in refused(capsys, out, scheduler)
    elsewhere.process.kill()
    elsewhere.process.wait()
