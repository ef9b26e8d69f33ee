"""study.py: the question, answered on your machine. A grid of pretrain -> post-train -> evaluate, resumable.

    python study.py                     arithmetic, depth axis: what did GRPO add to what pretraining had put there?
    python study.py --seeds 5           the same from five seeds, with Student t intervals
    python study.py --plan              what would run, and for how long
    python study.py --report            the closing table again, from what is done

Two bases, alike but for one thing: the first never saw a problem of depth 4 (overlap 0), for the second a tenth of pretraining
were such problems (overlap 0.1). From each, GRPO on the pretrained depths ("id") and GRPO on depth 4 itself ("edge").
Then the exact pass@k of everything, on problems that no run has drawn.

Every run is a process of its own, with one thread, through the same scripts that a person runs; its log, CSV and checkpoint
lie in --out, and its command is the first line of its log. A run that is done is not run again; Ctrl-C, or a crash, loses
nothing; a run that fails is reported and the others go on.
"""
import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

import cli
import evaluate
import finetune
import pretrain
from model import CheckpointError, load_checkpoint
from tasks import SPLITS

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}
SECONDS_PER_STEP = {"pretrain": 0.03, "finetune": 0.25}  # on one core, for the plan and the first minute's ETA
ARMS = {"base": "base", "grpo-id": "GRPO on id", "grpo-edge": "GRPO on edge"}
SHOWN_KS = ("1", "64", "1024")


# ------------------------------------------------------------------------------------------------------------- the grid

@dataclass(eq=False)  # hashable by identity
class Job:
    """One run of one script: its flags, what it writes, and which jobs must be done before."""
    name: str
    script: str
    argv: list
    out: str
    needs: tuple = ()
    steps: int = 0

    def weight(self):
        """Expected seconds on one core."""
        return SECONDS_PER_STEP.get(self.script, 0) * self.steps + 3

    def log(self):
        return os.path.splitext(self.out)[0] + ".log"

    def command(self):
        return shlex.join(["python", f"{self.script}.py", *self.argv])


def quick_grid(args):
    """The jobs of the quick form, in an order in which each follows what it needs."""
    jobs = []
    common = ["--threads", "1", "--device", args.device]
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for overlap in dict.fromkeys(args.overlaps):
            folder = os.path.join(args.out, f"{args.task}-{args.axis}-overlap{overlap:g}-seed{seed}")
            path = {arm: os.path.join(folder, f"{arm}.pt") for arm in ARMS}
            say = f"overlap {overlap:g}" + (f" seed {seed}" if args.seeds > 1 else "")
            jobs.append(Job(f"pretrain {say}", "pretrain",
                            ["--task", args.task, "--axis", args.axis, "--overlap", f"{overlap:g}", "--noise", f"{args.noise:g}", "--steps", str(args.pretrain_steps),
                             "--seed", str(seed), "--out", path["base"], *common], path["base"], (), args.pretrain_steps))
            for split in ("id", "edge"):
                out = path[f"grpo-{split}"]
                jobs.append(Job(f"GRPO on {split} {say}", "finetune",
                                ["--init", path["base"], "--train-on", split, "--steps", str(args.grpo_steps), "--seed", str(seed), "--out", out, *common],
                                out, (path["base"],), args.grpo_steps))
            out = os.path.join(folder, "masses.json")
            jobs.append(Job(f"evaluate {say}", "evaluate", ["--ckpt", *path.values(), "--prompts", str(args.prompts), "--json", out, *common],
                            out, tuple(path.values())))
    return jobs


def done_outputs(jobs):
    """The outputs of the jobs that are done, and whose needs are done too."""
    done = set()
    for job in jobs:
        if set(job.needs) <= done and is_done(job):
            done.add(job.out)
    return done


def is_done(job):
    """Whether the job's output is there, finished, made with these flags, and newer than what it was made from."""
    if not os.path.exists(job.out) or any(not os.path.exists(n) or os.path.getmtime(n) > os.path.getmtime(job.out) for n in job.needs):
        return False
    if job.script == "evaluate":
        try:
            with open(job.out, encoding="utf-8") as file:
                return same_flags(job, json.load(file)["args"])
        except (ValueError, KeyError):
            return False
    extra = saved_run(job)
    return extra is not None and extra["finished"]


def saved_run(job):
    """What the job's checkpoint says of its run, or None if there is none, or one made with other flags."""
    try:
        extra = load_checkpoint(job.out)[1]
    except CheckpointError:
        return None
    return extra if same_flags(job, extra.get("args", {})) else None


def same_flags(job, saved):
    """Whether a saved run had the flags that this job would give it.

    None stands for "taken from the checkpoint"; a flag younger than the saved run had its default.
    """
    parser = SCRIPTS[job.script].build_parser()
    return all(value is None or saved.get(key, parser.get_default(key)) == value
               for key, value in vars(parser.parse_args(job.argv)).items() if key not in cli.MAY_DIFFER)


def steps_done(job):
    """Steps that a running job has logged so far, read from its CSV."""
    try:
        with open(os.path.splitext(job.out)[0] + ".csv", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400))
            rows = file.read().decode().split("\n")[:-1]
        return int(rows[-1].split(",")[0])
    except (OSError, ValueError, IndexError):
        return 0


# -------------------------------------------------------------------------------------------------------------- running

def start(job):
    """Start the job's process; one that was interrupted goes on where it stopped."""
    os.makedirs(os.path.dirname(job.out), exist_ok=True)
    extra = saved_run(job) if job.script != "evaluate" else None
    argv = job.argv + (["--resume"] if extra and 0 < extra["step"] and not extra["finished"] else [])
    if "--resume" in argv and "--init" in argv:  # a resumed run has its own copy of everything
        i = argv.index("--init")
        argv = argv[:i] + argv[i + 2:]
    with open(job.log(), "a" if "--resume" in argv else "w", encoding="utf-8") as log:
        # A session of its own, so that Ctrl-C reaches it once, through us, and it can save.
        return subprocess.Popen([sys.executable, os.path.join(HERE, f"{job.script}.py"), *argv], stdout=log,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"})


def run(jobs, at_once):
    """Run the jobs that are not done, `at_once` at a time, each after what it needs. Returns the names of failed ones."""
    done = done_outputs(jobs)
    waiting = [job for job in jobs if job.out not in done]
    print(f"{len(jobs)} runs, {len(done)} of them done before" + (f"; expect about {cli.duration(sum(j.weight() for j in waiting) / at_once)}" if waiting else ""), flush=True)
    running, failed, began, spoke = {}, [], time.perf_counter(), 0.0
    total = sum(j.weight() for j in waiting)
    live = sys.stdout.isatty()

    def finished_weight():
        now = sum(j.weight() * min(1, steps_done(j) / j.steps) for j in running if j.steps)
        return now + sum(j.weight() for j in jobs_begun if j not in running)

    jobs_begun = []
    with cli.stop_signals() as stopped:
        while waiting or running:
            blocked = {job.out for job in failed}
            for job in [j for j in waiting if blocked & set(j.needs)]:
                print(f"  skipped   {job.name}: what it needs has failed", flush=True)
                waiting.remove(job)
                failed.append(job)
            for job in [j for j in waiting if set(j.needs) <= done][:max(0, at_once - len(running))]:
                if stopped():
                    break
                waiting.remove(job)
                running[job] = (start(job), time.perf_counter())
                jobs_begun.append(job)
            for job, (process, since) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[job]
                if process.returncode == 0:
                    done.add(job.out)
                    print(f"{chr(13) + ' ' * 78 + chr(13) if live else ''}  done      {job.name}, {cli.duration(time.perf_counter() - since)}", flush=True)
                elif not stopped():
                    failed.append(job)
                    print(f"  FAILED    {job.name} (status {process.returncode}): {last_line(job.log())}   see {job.log()}", flush=True)
            elapsed, part = time.perf_counter() - began, finished_weight()
            if running and elapsed - spoke > (0.5 if live else 10):
                spoke = elapsed
                pace = elapsed / part if part > 0.05 * total else 1 / at_once  # measured once there is something to measure
                status = f"  {len(done)}/{len(jobs)} done | {' + '.join(f'{j.name} {steps_done(j)}/{j.steps}' if j.steps else j.name for j in running)}"
                status += f" | {cli.duration(elapsed)} | eta {cli.duration((total - part) * pace)}"
                print(f"\r{status:78s}" if live else status, end="" if live else "\n", flush=True)
            if stopped():
                for process, _ in running.values():
                    process.send_signal(signal.SIGINT)
                for process, _ in running.values():
                    process.wait()
                print("interrupted; what is done is kept, and the runs under way saved their state: the same command goes on", flush=True)
                raise SystemExit(130)
            time.sleep(0.1)
    return [job.name for job in failed]


def last_line(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return ([""] + file.read().strip().splitlines())[-1]


# ------------------------------------------------------------------------------------------------------------ the answer

def collect(jobs):
    """{(overlap, arm, split): [one array of per-prompt log masses for each seed]} from the evaluations that are done."""
    masses = {}
    done = done_outputs(jobs)
    for job in jobs:
        if job.script == "evaluate" and job.out in done:
            with open(job.out, encoding="utf-8") as file:
                prompts = json.load(file)["prompts"]
            overlap = os.path.basename(os.path.dirname(job.out)).split("overlap")[1].split("-seed")[0]
            for arm in ARMS:
                for split in SPLITS:
                    values = [p["log_mass"] for p in prompts if p["model"] == arm and p["split"] == split]
                    masses.setdefault((overlap, arm, split), []).append(np.array(values))
    return masses


# The 97.5 % point of Student's t for 1, 2, ... 20 degrees of freedom; with more, the last one is a little too wide.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
         2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)


def over_seeds(values):
    """(mean, half-width of the 95 % Student t interval or None) of one number per seed. One seed is not an interval."""
    n = len(values)
    return float(np.mean(values)), None if n < 2 else float(T_975[min(n - 1, 20) - 1] * np.std(values, ddof=1) / n ** 0.5)


def cell_text(masses, key, k):
    mean, half = over_seeds([evaluate.exact_pass_at_k(m, int(k)).mean() for m in masses[key]])
    return evaluate.probability(mean) + ("" if half is None else f" ±{evaluate.probability(half)}")


def report(jobs, args):
    """The closing table, chart and sentence."""
    masses = collect(jobs)
    if not masses:
        raise cli.CommandError(f"--out {args.out}: nothing is evaluated there yet, so there is nothing to report")
    overlaps = list(dict.fromkeys(o for o, _, _ in masses))
    n_seeds = len(next(iter(masses.values())))
    print(f"\nExact chance that one of k samples is right ({args.task}, {args.axis} axis, {n_seeds} seed{'s' if n_seeds > 1 else ''}"
          + (", ± Student t 95 %" if n_seeds > 1 else "") + ")\n")
    header = ["overlap", "split", "cells", *["base", "+id", "+edge"] * len(SHOWN_KS)]
    names = {s: ", ".join(str(c) for c in evaluate.AXES[args.task][args.axis][s]) for s in SPLITS}
    rows = [[f"{float(overlap):.0%}", split, names[split] if len(names[split]) < 22 else "",
             *(cell_text(masses, (overlap, arm, split), k) for k in SHOWN_KS for arm in ARMS)] for overlap in overlaps for split in SPLITS]
    lines = evaluate.table(rows, header).split("\n")
    at = [i for i in range(len(lines[0])) if lines[0].startswith("base", i)]
    over = [" "] * len(lines[0])
    for k, i in zip(SHOWN_KS, at):
        over[i:i + 9] = f"pass@{k}".ljust(9)
    print("".join(over).rstrip())
    for i, line in enumerate(lines):
        print(line + ("\n" if i > 1 and (i - 1) % len(SPLITS) == 0 and i + 1 < len(lines) else ""))
    print("\noverlap: share of pretraining problems from the edge cells;  d4 l4: depth 4, length 4;  pass@1 is the mean mass\n"
          "base: after pretraining;  +id, +edge: after GRPO on that split, from the same base")
    ks = [2 ** i for i in range(21)]
    for overlap in overlaps:
        series = {f"{split}, {ARMS[arm]}": [np.mean([evaluate.exact_pass_at_k(m, k).mean() for m in masses[overlap, arm, split]]) for k in ks]
                  for split in ("id", "edge") for arm in ("base", f"grpo-{split}")}
        print(f"\n{float(overlap):.0%} of pretraining from the edge cells\n{evaluate.chart(series, ks)}")
    print("\n" + sentence(masses, overlaps))


def sentence(masses, overlaps):
    """What it means, in words that follow from the numbers."""
    def mean(overlap, arm, split):
        return float(np.mean([np.exp(m).mean() for m in masses[overlap, arm, split]]))

    def moved(before, after):
        kind = "left it where it was" if abs(after - before) < 0.02 else "raised it" if after > before else "lowered it"
        return f"{kind} ({evaluate.probability(before)} to {evaluate.probability(after)})"

    first, last = overlaps[0], overlaps[-1]
    text = (f"In distribution, GRPO took the chance of a right answer from {mean(first, 'base', 'id'):.2f} to {mean(first, 'grpo-id', 'id'):.2f}. "
            f"Beyond it, trained on the edge problems themselves, GRPO {moved(mean(first, 'base', 'edge'), mean(first, 'grpo-edge', 'edge'))} "
            f"with {float(first):.0%} of them in pretraining")
    if last != first:
        text += f", and {moved(mean(last, 'base', 'edge'), mean(last, 'grpo-edge', 'edge'))} with {float(last):.0%}"
        flat = abs(mean(first, "grpo-edge", "edge") - mean(first, "base", "edge")) < 0.02
        risen = mean(last, "grpo-edge", "edge") - mean(last, "base", "edge") > 0.02
        text += ": it amplified what pretraining had put there, and did not create what it had not." if flat and risen else \
            ": not what the reference paper would lead one to expect."
    return text if text.endswith(".") else text + "."


# -------------------------------------------------------------------------------------------------------------- the script

def build_parser():
    p = cli.Parser(__doc__, __file__)
    add = p.add_argument
    add("--grid", choices=["quick"], default="quick", help="which set of runs")
    add("--only", metavar="TEXT", help="only runs whose name contains this, and what they need")
    add("--seeds", type=cli.count, default=1, help="seeds per cell; from 2 on the table has intervals")
    add("--first-seed", type=cli.natural, default=0, help="the first of them")
    add("--jobs", type=cli.count, default=min(2, os.cpu_count() or 1), help="processes at once, one thread each")
    add("--plan", action="store_true", help="print what would run and how long it should take")
    add("--report", action="store_true", help="only the closing table, from what is done")
    add("--task", choices=["arithmetic", "graph"], default="arithmetic", help="task family")
    add("--axis", choices=["depth", "length", "tokens", "composition"], default="depth", help="axis")
    add("--overlaps", type=cli.share, nargs="+", default=[0.0, 0.1], metavar="P", help="pretraining mixtures to compare")
    add("--noise", type=cli.share, default=0.3, help="corruption of pretraining steps")
    add("--pretrain-steps", type=cli.count, default=1500, metavar="N", help="steps of pretraining")
    add("--grpo-steps", type=cli.count, default=60, metavar="N", help="steps of GRPO")
    add("--prompts", type=cli.count, default=256, metavar="N", help="evaluation prompts per cell")
    add("--out", default="runs/study", metavar="DIR", help="where runs are kept")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="cpu", help="where to compute")
    return p


def select(jobs, text):
    """The jobs whose name contains text, and everything that they need."""
    wanted = {j.out for j in jobs if text in j.name}
    for job in reversed(jobs):
        if job.out in wanted:
            wanted |= set(job.needs)
    return [j for j in jobs if j.out in wanted]


@cli.script
def main(argv=None):
    args = build_parser().parse_args(argv)
    evaluate.families(args.task, args.axis)
    cli.set_device(argparse.Namespace(device=args.device, threads=1))
    jobs = quick_grid(args)
    if args.only is not None:
        jobs = select(jobs, args.only)
        if not jobs:
            raise cli.CommandError(f"--only {args.only}: no run has that in its name; --plan lists them")
    if args.plan:
        done = done_outputs(jobs)
        for job in jobs:
            print(f"{'done' if job.out in done else 'to do':5s}  ~{cli.duration(job.weight()):>5s}  {job.command()}")
        print(f"about {cli.duration(sum(j.weight() for j in jobs if j.out not in done) / args.jobs)} with --jobs {args.jobs}")
        return
    if args.report:
        return report(jobs, args)
    cli.check_writable(os.path.join(args.out, "probe"))
    began = time.perf_counter()
    failed = run(jobs, args.jobs)
    if collect(jobs):
        report(jobs, args)
    print(f"\n{cli.duration(time.perf_counter() - began)} with {args.jobs} processes; everything is in {args.out}, each run's command on the first line of its log")
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
