"""faults.py: what a kill -9, a flipped bit and a second writer do to the scripts;
docs/unbreakable.md says what came out.

    python -m tests.faults                                   all of it, in under ten minutes
    python -m tests.faults --kills 20 --flips 50 --pairs 4   a taste

Every run is a fork of this process, which has torch imported already, on tiny models, in its own
folder. It is killed, gone on with as a user would (--resume where there is a checkpoint, else the
same command again), perhaps killed once more, and at its end compared with a run that nobody
disturbed: the same files, and in them the same weights, optimizers, random states and rows, bit for
bit; only times may differ. Half of the kills come at a random time, the other half are aimed: the
process ends just before or just after it opens, syncs, renames or removes a file, or with half of
what it writes written. Linux and macOS.
"""
import argparse
import builtins
import csv
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback

import numpy as np
import torch

import cli
import evaluate
import finetune
import pretrain
import study
from lab import processes
from model import CheckpointError, load_checkpoint
from tests.by_hand import assert_same

STEPS = "--steps 8 --save-every 2 --eval-every 3 --eval-prompts 2 --threads 1 --out run.pt"
TUNE = f"--init ../base.pt --prompts-per-step 2 {STEPS}"
GROUPS = f"{TUNE} --group-size 2 --reward random"
KINDS = {
    "pretrain": (pretrain, f"--layers 1 --width 16 --batch-size 4 {STEPS}"),
    "grpo": (finetune, f"{GROUPS} --kl k1_reward --keep-every 3"),
    "evaluate": (evaluate, "--ckpt ../base.pt ../teacher.pt --prompts 2 --threads 1 --csv out.csv "
                           "--json out.json"),
    "ppo": (finetune, f"{GROUPS} --method ppo"),
    "resets": (finetune, f"{GROUPS} --method resets --reset-every 3 --kl k1_reward"),
    "sft": (finetune, f"{TUNE} --method sft"),
    "distill": (finetune, f"{TUNE} --method distill --teacher ../teacher.pt"),
    "dapo": (finetune, f"{GROUPS} --method dapo"),
    "study": (study, "--pretrain-steps 6 --grpo-steps 2 --prompts 2 --overlaps 0.5 --jobs 2 "
                     "--out study"),
}


# ------------------------------------------------------------------------------------- one process

def start(kind, argv, folder, watch=None):
    """Fork a process that runs a script in a folder, its output beside the folder; returns its id.
    watch(folder) is called in it first."""
    script, pid = KINDS[kind][0], os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.chdir(folder)
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
        sys.argv = [script.__file__, *argv]
        print("\n$", shlex.join(["python", os.path.basename(script.__file__), *argv]))
        if watch:
            watch(folder)
        script.main(argv)
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(pid):
    """The exit status of a process; -9 if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def said(folder):
    """What the runs in a folder have printed."""
    with open(f"{folder}.log", encoding="utf-8") as file:
        return file.read()


class Aim:
    """Counts the moments at which a process opens, writes, syncs, renames or removes a file of its
    folder, and kills it at moment number `at`; at its end the file of `tally` has their number."""
    FUNCTIONS = ("open", "fsync", "replace", "remove", "ftruncate")  # of the module os

    def __init__(self, at=None, tally=None):
        self.at, self.tally, self.moments = at, tally, 0

    def __call__(self, folder):
        """Begin to count, in this process only."""
        self.folder, self.process, self.open = os.path.realpath(folder), os.getpid(), open
        for name in self.FUNCTIONS:
            setattr(os, name, self.watched(getattr(os, name)))
        builtins.open = self.open_watched

    def moment(self, die_in=None):
        """One moment more; the last thing that a process does may be die_in()."""
        if os.getpid() != self.process:
            return
        self.moments += 1
        if self.tally:
            with self.open(self.tally, "w") as file:
                file.write(str(self.moments))
        if self.moments == self.at:
            if die_in:
                die_in()
            os.kill(os.getpid(), signal.SIGKILL)

    def concerns(self, place):
        """Whether a path lies in the folder; what is open already, does."""
        if not isinstance(place, (str, os.PathLike)):
            return True
        return os.path.realpath(place).startswith(self.folder + os.sep)

    def watched(self, function):
        def around(place, *args, **options):
            mine = self.concerns(place)
            if mine:
                self.moment()
            result = function(place, *args, **options)
            if mine:
                self.moment()
            return result
        return around

    def open_watched(self, place, mode="r", *args, **options):
        if isinstance(place, int) or not self.concerns(place):
            return self.open(place, mode, *args, **options)
        self.moment()
        file = self.open(place, mode, *args, **options)
        self.moment()
        return file if mode in ("r", "rb") else Watched(file, self)


class Watched:
    """A file that may die with half of what is to be written to it written."""

    def __init__(self, file, aim):
        self.file, self.aim = file, aim

    def write(self, data):
        def half():
            self.file.write(data[:len(data) // 2])
            self.file.flush()
        self.aim.moment(half)
        written = self.file.write(data)
        self.aim.moment()
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


# ----------------------------------------------------------------------------------- the same files

def files(folder):
    """Paths of the files in a folder that are compared. (A lock that a kill left locks nothing.)"""
    found = [os.path.relpath(os.path.join(place, name), folder)
             for place, _, names in os.walk(folder) for name in names]
    return sorted(name for name in found if not name.endswith((".log", ".png", ".lock")))


def content(path):
    """What is to be the same in a file."""
    if path.endswith(".pt"):
        model, extra = load_checkpoint(path)
        return {"model": dict(model.state_dict()), "extra": extra}
    if path.endswith(".csv"):
        with open(path, newline="", encoding="utf-8") as file:
            return [{k: v for k, v in row.items() if k not in cli.Log.TIMING}
                    for row in csv.DictReader(file)]
    if path.endswith(".npz"):
        with np.load(path) as arrays:
            return {name: array.tolist() for name, array in arrays.items()}
    with open(path, encoding="utf-8") as file:
        return json.load(file) if path.endswith(".json") else file.read()


def difference(folder, whole):
    """In what two folders differ, as text; "" if in nothing."""
    ours, theirs = files(folder), files(whole)
    if ours != theirs:
        return f"files {sorted(set(ours) ^ set(theirs))}"
    for name in ours:
        try:
            assert_same(content(os.path.join(folder, name)), content(os.path.join(whole, name)))
        except (AssertionError, ValueError) as error:
            return f"{name}: {error}"
    return ""


# ----------------------------------------------------------------------------- the three tries

class Faults:
    """A folder with everything that is tried; failures are collected, and printed as they come."""

    def __init__(self, folder, kinds, rng, total):
        self.folder, self.kinds, self.rng, self.total = folder, kinds, rng, total
        self.done, self.began, self.failures = 0, time.perf_counter(), []
        self.wholes, self.places = {}, 0
        self.make_models()

    def make_models(self):
        for name, seed in (("base", "1"), ("teacher", "2")):
            argv = shlex.split(KINDS["pretrain"][1].replace("run.pt", f"{name}.pt"))
            pid = start("pretrain", [*argv, "--seed", seed], self.folder)
            assert wait(pid) == 0, said(self.folder)

    def place(self, kind):
        """A new folder."""
        self.places += 1
        path = os.path.join(self.folder, f"{kind}{self.places}")
        os.mkdir(path)
        return path

    def whole(self, kind, more=()):
        """(folder, seconds, moments) of a run that nobody disturbs; it is made once."""
        if (kind, *more) not in self.wholes:
            folder, began = self.place(kind), time.perf_counter()
            argv = [*shlex.split(KINDS[kind][1]), *more]
            assert wait(start(kind, argv, folder)) == 0, said(folder)
            seconds, other = time.perf_counter() - began, self.place(kind)
            aim = Aim(tally=f"{other}.tally")
            assert wait(start(kind, argv, other, aim)) == 0, said(other)
            assert not difference(other, folder), f"{kind} is not the same twice"
            with open(f"{other}.tally") as file:
                self.wholes[(kind, *more)] = folder, seconds, int(file.read())
        return self.wholes[(kind, *more)]

    def progress(self, n, what):
        """Count n more of the total, and say how far it is every now and then."""
        before, self.done = self.done, self.done + n
        if self.done * 20 // self.total > before * 20 // self.total:
            spent = time.perf_counter() - self.began
            eta = cli.duration(spent / self.done * max(0, self.total - self.done))
            print(f"{self.done}/{self.total}  {what}  {len(self.failures)} failures  "
                  f"{cli.duration(spent)}  eta {eta}", flush=True)

    def fail(self, folder, why):
        self.failures.append(why)
        print(f"FAILED  {os.path.basename(folder)}: {why}\n{said(folder)[-1500:]}", flush=True)

    def turn(self, i, rare):
        """The kind whose turn it is at the i-th try: a study, which takes ten times as long as the
        others, every `rare` tries."""
        if "study" in self.kinds and i % rare == rare - 1:
            return "study"
        others = [kind for kind in self.kinds if kind != "study"]
        return others[i % len(others)]

    # kills
    def go_on(self, kind, folder):
        """The flags with which a user goes on after a kill; None if all was done."""
        path = os.path.join(folder, "run.pt")
        if not os.path.exists(path):
            return shlex.split(KINDS[kind][1])
        return None if load_checkpoint(path)[1]["finished"] else ["--resume", "run.pt"]

    def killed(self, kind, argv, folder, aimed, seconds, moments):
        """Run, and kill on the way; the exit status is not -9 if it was over before that."""
        if aimed:
            return wait(start(kind, argv, folder, Aim(int(self.rng.integers(1, moments + 1)))))
        pid = start(kind, argv, folder)
        time.sleep(self.rng.random() * seconds)
        os.kill(pid, signal.SIGKILL)
        return wait(pid)

    def kill(self, kind, aimed):
        """One run killed once to three times, then gone on with to its end: how many kills."""
        whole, seconds, moments = self.whole(kind)
        folder, argv, kills = self.place(kind), shlex.split(KINDS[kind][1]), 0
        status = -signal.SIGKILL
        while status == -signal.SIGKILL and argv and kills < 3 and self.rng.random() < 0.6:
            status = self.killed(kind, argv, folder, aimed, seconds, moments)
            if status == -signal.SIGKILL:
                kills += 1
                try:
                    argv = self.go_on(kind, folder)
                except CheckpointError as error:
                    self.fail(folder, f"{kills} kills: {error}")
                    return kills
        if status == -signal.SIGKILL:
            status = wait(start(kind, argv, folder)) if argv else 0
        why = f"exit status {status}" if status else difference(folder, whole)
        if why:
            self.fail(folder, f"{kills} {'aimed' if aimed else 'random'} kills: {why}")
        else:
            shutil.rmtree(folder)
        return kills

    def kills(self, n):
        """{"random": kills, "aimed": kills} of at least n kills, half of each sort."""
        found = {"random": 0, "aimed": 0}
        for sort in found:
            tries = 0
            while found[sort] < n // 2:
                kills = self.kill(self.turn(tries, rare=17), sort == "aimed")
                tries += 1
                found[sort] += kills
                self.progress(kills, f"{found[sort]} {sort} kills")
        return found

    # bits
    def flips(self, n):
        """How many of n flipped bits of a checkpoint were noticed when it was loaded."""
        path = os.path.join(self.whole("grpo")[0], "run.pt")  # with an optimizer and a reference
        with open(path, "rb") as file:
            data = file.read()
        noticed, flipped = 0, os.path.join(self.folder, "flipped.pt")
        for bit in map(int, self.rng.choice(8 * len(data), size=n, replace=n > 8 * len(data))):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            with open(flipped, "wb") as file:
                file.write(damaged)
            try:
                load_checkpoint(flipped)
            except CheckpointError:
                noticed += 1
        if noticed < n:
            self.failures.append(f"{n - noticed} flipped bits were not noticed")
        self.progress(n // 10, f"{noticed} of {n} bits noticed")
        return noticed

    # writers
    def pair(self, kind, other):
        """Two writers on one output, the second at a random time: how many were refused. other: the
        second one is of another seed, and has --overwrite."""
        whole, seconds, _ = self.whole(kind)
        folder, argv = self.place(kind), shlex.split(KINDS[kind][1])
        more = ["--seed", "5", "--overwrite"] if other else []
        wholes = [whole, self.whole(kind, tuple(more))[0]] if other else [whole]
        first = start(kind, argv, folder)
        time.sleep(self.rng.random() * seconds * 0.9)
        second = start(kind, [*argv, *more], folder)
        statuses = [wait(first), wait(second)]
        words = said(folder)
        why = ""
        if not set(statuses) <= {0, 2} or statuses == [2, 2]:
            why = f"exit statuses {statuses}"
        elif 2 in statuses and "is being written by" not in words:
            why = "refused, but not for the other writer"
        elif statuses == [0, 2]:
            why = difference(folder, wholes[0])
        elif statuses == [2, 0]:
            why = difference(folder, wholes[-1])
        else:
            why = min((difference(folder, whole) for whole in wholes), key=len)
        if why:
            self.fail(folder, f"two writers: {why}")
        else:
            shutil.rmtree(folder)
        return statuses.count(2)

    def pairs(self, n):
        """How many of n pairs had one refused."""
        refused = 0
        for i in range(n):
            kind = self.turn(i, rare=10)
            refused += self.pair(kind, other=i % 2 == 1 and kind not in ("evaluate", "study"))
            self.progress(2, f"{i + 1} pairs, {refused} with one refused")
        return refused


def main(argv=None):
    p = argparse.ArgumentParser("tests.faults", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=200, help="half at random times, half aimed")
    p.add_argument("--flips", type=int, default=500, help="single bits of a checkpoint")
    p.add_argument("--pairs", type=int, default=50, help="pairs of writers on one output")
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of runs")
    p.add_argument("--seed", type=int, default=0, help="of all that is random here")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    processes.import_early()
    folder = tempfile.mkdtemp(prefix="faults-")
    total = args.kills + args.flips // 10 + 2 * args.pairs
    faults = Faults(folder, args.kinds, np.random.default_rng(args.seed), max(1, total))
    noticed, kills = faults.flips(args.flips), faults.kills(args.kills)
    refused = faults.pairs(args.pairs)
    print(f"{kills['random']} random and {kills['aimed']} aimed kills; {noticed} of {args.flips} "
          f"flipped bits noticed;\n{args.pairs} pairs of writers, one refused in {refused}; "
          f"{cli.duration(time.perf_counter() - faults.began)}")
    if faults.failures:
        print(f"{len(faults.failures)} failures; see {folder}")
        raise SystemExit(1)
    shutil.rmtree(folder)
    print("everything was gone on with, bit for bit")


if __name__ == "__main__":
    main()
