"""processes.py: a job is a process of its own, through the same script that a person runs.

    Here(at_once)    a place for jobs: this machine, so many processes at once

A place for jobs starts them (`start`), says how many at once it has room for (`slots`), and has
them save their state and end (`stop`). What it started has an `exitcode`, None as long as it runs.
The other place is lab/cluster.py, whose workers start their processes through this file as well.

A job's process ends with the one that started it, also where that was killed: it waits, in a
thread, for the end of a pipe that only its parent holds. Nothing writes on beside a successor.
"""
import multiprocessing
import os
import pickle
import shlex
import signal
import sys
import threading

import torch

import cli
from lab.runner import SCRIPTS, can_resume

# A forked process has torch imported already, which takes seconds. Where forking is not safe, a new
# process imports it again.
PROCESSES = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


class Here:
    """This machine as a place for jobs: a process for each, `at_once` of them at the same time."""

    def __init__(self, at_once):
        self.at_once = at_once
        self.stopping = PROCESSES.Event()

    def slots(self):
        return self.at_once

    def start(self, job):
        import_early()
        process = PROCESSES.Process(target=forked, args=(job, self.stopping))
        process.start()
        return process

    def stop(self, processes):
        """Interrupt them, and wait until they have saved their state."""
        self.stopping.set()   # for a process so young that it does not listen to signals yet
        for process in processes:
            os.kill(process.pid, signal.SIGINT)
        for process in processes:
            process.join()

    def __str__(self):
        return f"{self.at_once} processes"


def import_early():
    """Have torch import what it puts off until an optimizer is first used: two to three seconds,
    that every process forked after this one need not spend again."""
    torch.optim.SGD([torch.zeros(1)], lr=1.0).zero_grad()


# ----------------------------------------------------------------------------------- in the process

def forked(job, stopping):
    """What a process of Here does."""
    end_after(multiprocessing.parent_process().join)
    listen()
    if stopping.is_set():
        raise SystemExit(130)
    if hasattr(os, "setsid"):
        os.setsid()   # a session of its own: Ctrl-C reaches it once, through us, and it can save
    work(job)


def read_and_work():
    """What `python -m lab.processes` does: the job comes through the standard input, whose end is
    that of whoever holds the other side."""
    listen()
    folder, job = pickle.load(sys.stdin.buffer)
    end_after(lambda: os.read(sys.stdin.fileno(), 1))
    os.chdir(folder)
    work(job)


def end_after(wait):
    """End this process, whatever it is doing, as soon as wait() returns. What it has written is
    whole all the same: files are replaced, not changed."""
    def watch():
        wait()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def listen():
    """Let a signal interrupt this process, though its parent may ignore or handle it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):   # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.default_int_handler)


def work(job):
    """Run the job: its script's own main, with the output in its log."""
    os.makedirs(os.path.dirname(job.out), exist_ok=True)
    argv = arguments(job)
    mode = "a" if "--resume" in argv else "w"
    sys.stdout = sys.stderr = open(job.log(), mode, buffering=1, encoding="utf-8")
    if job.script == "evaluate":   # the others print theirs themselves
        print(cli.fold(shlex.join(["python", f"{job.script}.py", *argv])))
    SCRIPTS[job.script].main(argv)


def arguments(job):
    """The job's flags; a run that was interrupted goes on where it stopped."""
    argv = list(job.argv)
    if can_resume(job):
        argv.append("--resume")
        if "--init" in argv:   # a resumed run has its own copy of where it began
            i = argv.index("--init")
            del argv[i:i + 2]
    else:
        argv.append("--overwrite")   # whatever was there was not done, or is stale
    return argv


if __name__ == "__main__":
    read_and_work()
