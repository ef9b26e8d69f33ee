"""runner.py: running jobs, several at once, each after what it needs; and what came of them.

    finished(jobs)       the outputs that are there, and need not be made again
    run(jobs, place)     makes the others there; returns the names of those that failed
    collect(jobs)        the Runs that are evaluated

A place is this machine (lab/processes.py) or a cluster (lab/cluster.py). A job's log lies beside
its output, with its command at the top. A job that is done is not run again: done means
finished, made with the same flags, and younger than all that it was made from. Ctrl-C, or a crash,
loses nothing; what fails is reported and the others go on.
"""
import json
import math
import os
import shutil
import sys
import time
from dataclasses import replace

import numpy as np

import cli
import evaluate
import finetune
import pretrain
from lab.records import RUN_COLUMNS, STEP_COLUMNS, Arm, Run
from model import CheckpointError, load_checkpoint
from tasks import SPLITS

SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}
WIDTH = 100   # columns that a line may have


# ------------------------------------------------------------------------------------ what is done

def finished(jobs):
    """The outputs of the jobs that are done, and whose needs are done too."""
    done = set()
    for job in jobs:
        if set(job.needs) <= done and is_done(job):
            done.add(job.out)
    return done


def is_done(job):
    """Whether the job's output is there, complete, made with these flags, and not stale."""
    if is_stale(job):
        return False
    if job.script != "evaluate":
        extra = saved_run(job)
        return extra is not None and extra["finished"]
    try:
        with open(job.out, encoding="utf-8") as file:
            return same_flags(job, json.load(file)["args"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False   # damaged: it is made again


def is_stale(job):
    """Whether the output is missing, or something that it is made from is missing or younger."""
    if not os.path.exists(job.out):
        return True
    made = os.path.getmtime(job.out)
    return any(not os.path.exists(path) or os.path.getmtime(path) > made for path in job.needs)


def saved_run(job):
    """What the job's checkpoint says of its run; None if there is none, or one of other flags."""
    try:
        extra = load_checkpoint(job.out)[1]
    except CheckpointError:
        return None
    return extra if same_flags(job, extra.get("args", {})) else None


def can_resume(job):
    """Whether the job was interrupted, and what it began from is still what it was."""
    if job.script == "evaluate" or is_stale(job):
        return False
    extra = saved_run(job)
    return extra is not None and extra["step"] > 0 and not extra["finished"]


def same_flags(job, saved):
    """Whether a saved run had the flags that this job would give it.

    None stands for "taken from the checkpoint"; a flag younger than the saved run had its default.
    """
    parser = SCRIPTS[job.script].build_parser(job.argv)
    for key, value in vars(parser.parse_args(job.argv)).items():
        if value is None or key in cli.MAY_DIFFER:
            continue
        if saved.get(key, parser.get_default(key)) != value:
            return False
    return True


def steps_done(job):
    """Steps that a running job has logged so far: the first number in the last line of its CSV."""
    try:
        with open(os.path.splitext(job.out)[0] + ".csv", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400))
            lines = file.read().decode().split("\n")[:-1]   # the last one may be half written
        return int(lines[-1].split(",")[0])
    except (OSError, ValueError, IndexError):
        return 0


# ------------------------------------------------------------------------------------ running them

def run(jobs, place):
    """Run the jobs that are not done, as many at once as the place has room for. Returns the names
    of those that failed."""
    batch = Batch(jobs, place)
    print(batch.announcement(), flush=True)
    with cli.stop_signals() as stopped:
        try:
            while (batch.waiting or batch.running) and not stopped():
                batch.skip_blocked()
                batch.start_ready()
                batch.take_ended()
                batch.report()
                time.sleep(0.1)
        finally:   # also if the terminal is gone, and a line cannot be written
            place.stop([started for started, _ in batch.running.values()])
        if stopped():
            batch.say("interrupted; what is done is kept, what was under way has saved its state: "
                      "the same command goes on")
            raise SystemExit(130)
    return [job.name for job in batch.failed]


class Batch:
    """Jobs on their way: waiting, running, done or failed."""

    def __init__(self, jobs, place):
        self.jobs, self.place = jobs, place
        self.slots = place.slots()                 # how many at once: of a cluster it changes
        self.done = finished(jobs)                 # outputs
        self.waiting = [job for job in jobs if job.out not in self.done]
        self.running = {}                          # {job: (what the place started, when)}
        self.ended, self.failed = [], []
        self.expected = sum(job.seconds() for job in self.waiting)
        self.began = time.perf_counter()
        self.reported = 0.0
        self.live = sys.stdout.isatty()            # then one status line is written over and over
        self.width = WIDTH
        if self.live:
            self.width = min(WIDTH, shutil.get_terminal_size().columns) - 1

    def announcement(self):
        text = f"{len(self.jobs)} runs, {len(self.done)} of them done before"
        if self.waiting:
            text += f"; expect about {cli.duration(self.expected / max(1, self.slots))}"
        return text

    def skip_blocked(self):
        """Give up the jobs that need what has failed, or what no run makes."""
        coming = self.done | {job.out for job in [*self.waiting, *self.running]}
        for job in [job for job in self.waiting if not set(job.needs) <= coming]:
            self.waiting.remove(job)
            self.failed.append(job)
            self.say(f"  skipped         {job.name}")
            self.say("                  what it needs is not there")

    def start_ready(self):
        """Start jobs that have what they need, while there is room."""
        ready = [job for job in self.waiting if set(job.needs) <= self.done]
        self.slots = self.place.slots()
        for job in ready[:max(0, self.slots - len(self.running))]:
            self.waiting.remove(job)
            self.running[job] = (self.place.start(job), time.perf_counter())

    def take_ended(self):
        """Sort the jobs whose process has ended into done and failed."""
        for job, (started, since) in list(self.running.items()):
            status = started.exitcode
            if status is None:
                continue
            del self.running[job]
            self.ended.append(job)
            took = cli.duration(time.perf_counter() - since)
            if status == 0:
                self.done.add(job.out)
                self.say(f"  done    {took:>6s}  {job.name}")
            else:
                self.failed.append(job)
                self.say(f"  FAILED  {took:>6s}  {job.name} (status {status})")
                self.say(f"                  {last_line(job.log())}")
                print(f"                  see {job.log()}", flush=True)

    def report(self):
        """One line now and then: how far, how long still, and what is running."""
        elapsed = time.perf_counter() - self.began
        if not self.running or elapsed - self.reported < (0.5 if self.live else 10):
            return
        self.reported = elapsed
        names = " + ".join(f"{steps_done(job)}/{job.steps} {job.name}" if job.steps else job.name
                           for job in self.running)
        line = clip(f"  {len(self.done)}/{len(self.jobs)} done | {cli.duration(elapsed)} | "
                    f"eta {cli.duration(self.eta(elapsed))} | {names}", self.width)
        print(f"\r{line:{self.width}s}" if self.live else line,
              end="" if self.live else "\n", flush=True)

    def eta(self, elapsed):
        """Seconds still to go, at the pace so far once there is a pace to speak of."""
        part = sum(job.seconds() for job in self.ended)
        for job in self.running:
            if job.steps:
                part += job.seconds() * min(1, steps_done(job) / job.steps)
        pace = elapsed / part if part > 0.05 * self.expected else 1 / max(1, self.slots)
        return (self.expected - part) * pace

    def say(self, line):
        """A line that stays, in the place of the status line."""
        clear = f"\r{'':{self.width}s}\r" if self.live else ""
        print(clear + clip(line, WIDTH), flush=True)


def clip(text, width):
    return text if len(text) <= width else text[:width - 3] + "..."


def last_line(path):
    """The last line that a log has, or nothing if the process came to write none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().strip().splitlines()
    return lines[-1] if lines else ""


# ------------------------------------------------------------------------------- what came of them

def collect(jobs):
    """The Runs of the evaluations among jobs that are done."""
    done = finished(jobs)
    runs = []
    for job in jobs:
        if job.script == "evaluate" and job.out in done:
            runs += runs_of(job)
    return runs


def runs_of(job):
    """The Runs of one evaluation: one per task that the chain was evaluated on. CommandError if its
    file does not hold them."""
    try:
        with open(job.out, encoding="utf-8") as file:
            return runs_in(json.load(file), job)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, (cli.CommandError, CheckpointError)):
            raise
        raise cli.CommandError(f"{job.out}: is damaged ({type(error).__name__}: {error}); delete "
                               "it, and it is made again") from None


def runs_in(result, job):
    """The Runs of what evaluate.py has written of a job."""
    arms = {name_of(path): arm_of(path) for path in result["args"]["ckpt"]}
    base = arms[name_of(result["args"]["ckpt"][0])]
    models = dict.fromkeys(row["model"] for row in result["prompts"])
    colder = [name for name in models if name not in arms]   # in the order of --cold
    for name, temperature in zip(colder, result["args"]["cold"], strict=True):
        arms[name] = replace(base, name=name, temperature=temperature)
    runs, kept = {}, job.about.get("splits", SPLITS)
    for row in (row for row in result["prompts"] if row["split"] in kept):
        task = row["task"]
        if task not in runs:
            about = {column: job.about[column] for column in RUN_COLUMNS}
            runs[task] = Run(job.about["question"], **{**about, "task": task}, arms=dict(arms))
        cells = runs[task].masses.setdefault((row["model"], row["split"]), {})
        cells.setdefault(row["cell"], []).append(log_mass(row["log_mass"]))
        place = row["model"], row["split"]
        if "log_masses" in row:   # of a family with several right answers
            cells = runs[task].strings.setdefault(place, {})
            cells.setdefault(row["cell"], []).append(list(map(log_mass, row["log_masses"])))
        if "redirected" in row:
            cells = runs[task].redirected.setdefault(place, {})
            cells.setdefault(row["cell"], []).append(log_mass(row["redirected"]))
    for run in runs.values():
        for cells in (*run.masses.values(), *run.strings.values(), *run.redirected.values()):
            for cell in cells:
                cells[cell] = np.array(cells[cell])
    for row in result.get("tokens", []):   # older evaluations have none
        cells = runs[row["task"]].tokens.setdefault(row["split"], {})
        cells[row["cell"]] = np.array(row["log_p"])
    about = {"chain": job.about["chain"], "seed": job.about["seed"]}
    for row in result["steps"]:
        step = {**about, **row}
        runs[row["task"]].steps.append({column: step[column] for column in STEP_COLUMNS})
    return list(runs.values())


def log_mass(number):
    """A log mass as JSON has it: None for log 0."""
    return -math.inf if number is None else number


def name_of(path):
    """The arm that a checkpoint holds: its file's name."""
    return os.path.splitext(os.path.basename(path))[0]


def arm_of(path):
    """The Arm that a checkpoint holds, from what its run saved of itself."""
    extra = load_checkpoint(path)[1]
    return arm(name_of(path), extra["args"], extra.get("method", {}), extra["command"],
               round(extra["seconds"], 1))


def arm(name, flags, spent, command, seconds):
    """An Arm from the flags that pretrain.py or finetune.py ran with, and what the run spent."""
    init = name_of(flags["init"]) if flags.get("init") else ""
    if "method" not in flags:
        return Arm(name, "pretrain", steps=flags["steps"], init=init, command=command,
                   seconds=seconds)
    kl = flags.get("kl") or ""
    return Arm(name, flags["method"], flags["train_on"], flags.get("reward") or "", kl,
               0.0 if kl == "none" else flags.get("beta"), flags.get("scale") or "",
               flags["steps"], flags.get("group_size"), flags["prompts_per_step"],
               flags.get("epochs"), spent.get("rollouts"), spent.get("gold_tokens"), init=init,
               command=command, seconds=seconds)
