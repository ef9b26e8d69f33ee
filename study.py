"""study.py: the question, answered on your machine. A grid of pretrain -> post-train -> evaluate, resumable.

    python study.py                              arithmetic, depth axis: what did GRPO add to what pretraining had put there?
    python study.py --seeds 5                    the same from five seeds, with Student t intervals
    python study.py --grid all --seeds 3         everything: see grid.py for the parts, and --plan for what it takes
    python study.py --grid all --seeds 3 --only "evaluate laws"      one part of it, and what that needs
    python study.py --report                     tables, verdicts and figures again, from the CSVs in results/

The quick form: two bases, alike but for one thing: the first never saw a problem of depth 4 (overlap 0), for the second a tenth of
pretraining were such problems (overlap 0.1). From each, GRPO on the pretrained depths ("id") and GRPO on depth 4 itself ("edge").
Then the exact pass@k of everything, on problems that no run has drawn.

Every run is a process of its own, with one thread, through the same scripts that a person runs; its log, CSV and checkpoint
lie in --out, and its command is the first line of its log. A run that is done is not run again; Ctrl-C, or a crash, loses
nothing; a run that fails is reported and the others go on. --grid all also keeps its numbers in --results: a CSV row for each
arm, split and cell, and every prompt's log mass, from which verdicts.py rebuilds the report without running anything.
"""
import argparse
import csv
import json
import multiprocessing
import os
import signal
import sys
import time

import numpy as np

import cli
import evaluate
import finetune
import grid
import pretrain
import verdicts
from model import CheckpointError, load_checkpoint
from readings import over_seeds
from tasks import SPLITS

SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}
ARMS = {"base": "base", "grpo-id": "GRPO on id", "grpo-edge": "GRPO on edge"}
SHOWN_KS = ("1", "64", "1024")
COLUMNS = ["part", "chain", "task", "axis", "overlap", "noise", "pretrain_steps", "setting", "seed", "arm", "split", "cell", "prompts",
           "mass", "low", "high", "p4", "p16", "p64", "p256", "p1024", "p2^20", "fell", "base_mass", "rollouts", "seconds", "command"]
STEP_COLUMNS = ["chain", "seed", "arm", "kl", "beta", "depth", "step", "prefix", "base", "tuned", "law"]


# ------------------------------------------------------------------------------------------------------ what is done

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

# A forked process has torch imported already, which takes seconds; where forking is not safe, a new one imports it again.
PROCESSES = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def start(job):
    """Start the job's process; one that was interrupted goes on where it stopped."""
    os.makedirs(os.path.dirname(job.out), exist_ok=True)
    extra = saved_run(job) if job.script != "evaluate" else None
    argv = job.argv + (["--resume"] if extra and 0 < extra["step"] and not extra["finished"] else [])
    if "--resume" in argv and "--init" in argv:  # a resumed run has its own copy of everything
        i = argv.index("--init")
        argv = argv[:i] + argv[i + 2:]
    process = PROCESSES.Process(target=work, args=(job.script, argv, job.log()))
    process.start()
    return process


def work(script, argv, log):
    """What the process does: the script's own main, with its output in the log."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if hasattr(os, "setsid"):
        os.setsid()  # a session of its own, so that Ctrl-C reaches it once, through us, and it can save
    sys.stdout = sys.stderr = open(log, "a" if "--resume" in argv else "w", buffering=1, encoding="utf-8")
    SCRIPTS[script].main(argv)


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
                if process.is_alive():
                    continue
                process.join()
                del running[job]
                if process.exitcode == 0:
                    done.add(job.out)
                    print(f"{chr(13) + ' ' * 78 + chr(13) if live else ''}  done      {job.name}, {cli.duration(time.perf_counter() - since)}", flush=True)
                elif not stopped():
                    failed.append(job)
                    print(f"  FAILED    {job.name} (status {process.exitcode}): {last_line(job.log())}   see {job.log()}", flush=True)
            elapsed, part = time.perf_counter() - began, finished_weight()
            if running and elapsed - spoke > (0.5 if live else 10):
                spoke = elapsed
                pace = elapsed / part if part > 0.05 * total else 1 / at_once  # measured once there is something to measure
                status = f"  {len(done)}/{len(jobs)} done | {' + '.join(f'{j.name} {steps_done(j)}/{j.steps}' if j.steps else j.name for j in running)}"
                status += f" | {cli.duration(elapsed)} | eta {cli.duration((total - part) * pace)}"
                print(f"\r{status:78s}" if live else status, end="" if live else "\n", flush=True)
            if stopped():
                for process, _ in running.values():
                    os.kill(process.pid, signal.SIGINT)
                for process, _ in running.values():
                    process.join()
                print("interrupted; what is done is kept, and the runs under way saved their state: the same command goes on", flush=True)
                raise SystemExit(130)
            time.sleep(0.1)
    return [job.name for job in failed]


def last_line(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return ([""] + file.read().strip().splitlines())[-1]


# ------------------------------------------------------------------------------------------------------------ the masses

def collect(jobs):
    """{(overlap, arm, split): [one array of per-prompt log masses for each seed]} from the evaluations that are done."""
    masses = {}
    done = done_outputs(jobs)
    for job in jobs:
        if job.script == "evaluate" and job.out in done:
            with open(job.out, encoding="utf-8") as file:
                prompts = json.load(file)["prompts"]
            overlap = f"{job.about['overlap']:g}"
            for arm in ARMS:
                for split in SPLITS:
                    values = [p["log_mass"] for p in prompts if p["model"] == arm and p["split"] == split]
                    masses.setdefault((overlap, arm, split), []).append(np.array(values))
    return masses


# -------------------------------------------------------------------------------------------------------- what is kept

def made(path):
    """{rollouts, seconds, command} of the run that wrote a checkpoint."""
    extra = load_checkpoint(path)[1]
    return {"rollouts": extra.get("method", {}).get("rollouts", ""), "seconds": round(extra["seconds"], 1), "command": extra["command"]}


def keep(jobs, folder):
    """Write what is evaluated to folder: study.csv (a row for each arm, split and cell), masses.npz (every prompt's log mass)
    and steps.csv. Rows that are there already, of other chains or parts, stay."""
    done, rows, steps, masses = done_outputs(jobs), [], [], {}
    for job in jobs:
        if job.script != "evaluate" or job.out not in done:
            continue
        with open(job.out, encoding="utf-8") as file:
            result = json.load(file)
        runs = {evaluate.names_of([path])[0]: made(path) for path in result["args"]["ckpt"]}
        base = {(r["task"], r["split"], r["cell"]): r["pass"]["1"] for r in result["summary"] if r["model"] == "base"}
        for r in result["summary"]:
            k = r["pass"]
            numbers = {"prompts": r["prompts"], "mass": k["1"], "low": r["low"]["1"], "high": r["high"]["1"], **{f"p{n}": k[n] for n in list(k)[1:]},
                       "fell": r["fell"], "base_mass": base[r["task"], r["split"], r["cell"]]}
            rows.append({**{c: job.about.get(c, "") for c in COLUMNS}, "task": r["task"], "arm": r["model"], "split": r["split"], "cell": r["cell"],
                         **{c: f"{x:.6g}" if isinstance(x, float) else x for c, x in numbers.items()}, **runs[r["model"].split(" ")[0]]})
        steps += [{"chain": job.about["chain"], "seed": job.about["seed"], **r, "kl": r["kl"].split("_")[0]} for r in result["steps"]]
        for p in result["prompts"]:
            key = "|".join((job.about["chain"], p["model"], p["split"], p["cell"]))
            masses.setdefault((job.out, key), []).append(-np.inf if p["log_mass"] is None else p["log_mass"])
    masses = {key: np.array(values, dtype=np.float32) for (_, key), values in masses.items()}
    merge(os.path.join(folder, "study.csv"), COLUMNS, rows, ("part", "chain", "task", "arm", "split", "cell"))
    merge(os.path.join(folder, "steps.csv"), STEP_COLUMNS, steps, ("chain", "arm", "depth", "step", "prefix"))
    path = os.path.join(folder, "masses.npz")
    if os.path.exists(path):
        with np.load(path) as before:
            masses = {**dict(before), **masses}
    with open(path + ".tmp", "wb") as file:
        np.savez_compressed(file, **masses)
    os.replace(path + ".tmp", path)  # all or nothing, as everywhere


def merge(path, columns, rows, key):
    """Write rows to the CSV at path; those that are there already stay, unless a new row has the same key."""
    kept = {}
    if os.path.exists(path):
        with open(path, newline="", encoding="utf-8") as file:
            kept = {tuple(r[c] for c in key): r for r in csv.DictReader(file)}
    kept.update({tuple(str(r[c]) for c in key): r for r in rows})
    with open(path + ".tmp", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept.values())
    os.replace(path + ".tmp", path)


# ---------------------------------------------------------------------------------------------------- the quick answer

def cell_text(masses, key, k):
    mean, half = over_seeds([evaluate.exact_pass_at_k(m, int(k)).mean() for m in masses[key]])
    return evaluate.probability(mean) + ("" if half is None else f" ±{evaluate.probability(half)}")


def report(jobs, args):
    """The closing table, chart and sentence."""
    masses = collect(jobs)
    if not masses:
        raise cli.CommandError(f"--out {args.out}: nothing is evaluated there yet, so there is nothing to report")
    overlaps = sorted(dict.fromkeys(o for o, _, _ in masses), key=float)
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
    if mean(last, "base", "id") < 0.05:
        return "The base has next to nothing in distribution: it is not pretrained enough to ask the question (--pretrain-steps)."
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
    add("--grid", choices=["quick", "all"], default="quick", help="quick: two bases of one axis; all: every part of the study (see grid.py)")
    add("--only", metavar="TEXT", nargs="+", help="only runs whose name contains all of these words, such as dose or 'overlap 0.1', and what they need")
    add("--seeds", type=cli.count, default=1, help="seeds per cell; from 2 on there are intervals")
    add("--first-seed", type=cli.natural, default=0, help="the first of them")
    add("--jobs", type=cli.count, default=min(2, os.cpu_count() or 1), help="processes at once, one thread each")
    add("--plan", action="store_true", help="print what would run and how long it should take")
    add("--report", action="store_true", help="rebuild tables, verdicts and figures from the CSVs in --results; runs nothing")
    add("--task", choices=["arithmetic", "graph"], default="arithmetic", help="task family of the quick grid")
    add("--axis", choices=["depth", "length", "tokens", "composition"], default="depth", help="axis of the quick grid")
    add("--overlaps", type=cli.share, nargs="+", metavar="P", help="pretraining mixtures to compare (default: quick 0 0.1, all 0 0.1 0.01 0.001)")
    add("--noise", type=cli.share, default=0.3, help="corruption of pretraining steps")
    add("--pretrain-steps", type=cli.count, default=1000, metavar="N", help="steps of pretraining")
    add("--grpo-steps", type=cli.count, default=60, metavar="N", help="steps of GRPO")
    add("--law-steps", type=cli.count, default=240, metavar="N", help="steps of GRPO where it should end, for the laws and saturation")
    add("--oracle-problems", type=cli.count, default=150_000, metavar="N", help="clean edge problems that the oracle gets at most")
    add("--prompts", type=cli.count, default=256, metavar="N", help="evaluation prompts per cell")
    add("--out", default="runs/study", metavar="DIR", help="where runs are kept")
    add("--results", default="results", metavar="DIR", help="where --grid all keeps its CSVs and report, and --report reads them")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="cpu", help="where to compute")
    return p


def select(jobs, words):
    """The jobs whose name contains all of the words, and everything that they need."""
    wanted = {j.out for j in jobs if all(word in j.name for word in words)}
    for job in reversed(jobs):
        if job.out in wanted:
            wanted |= set(job.needs)
    return [j for j in jobs if j.out in wanted]


@cli.script
def main(argv=None):
    args = build_parser().parse_args(argv)
    if args.report:
        return print(f"wrote {verdicts.write(args.results)}")
    evaluate.families(args.task, args.axis)
    cli.set_device(argparse.Namespace(device=args.device, threads=1))
    jobs = grid.jobs_of(args)
    if args.only is not None:
        jobs = select(jobs, args.only)
        if not jobs:
            raise cli.CommandError(f"--only {' '.join(args.only)}: no run has that in its name; --plan lists them")
    if args.plan:
        done = done_outputs(jobs)
        for job in jobs:
            print(f"{'done' if job.out in done else 'to do':5s}  ~{cli.duration(job.weight()):>5s}  {job.name:50s}  {job.command()}")
        left = [j for j in jobs if j.out not in done]
        print(f"{len(jobs)} runs, {len(jobs) - len(left)} done; about {cli.duration(sum(j.weight() for j in left) / args.jobs)} with --jobs {args.jobs}")
        return
    cli.check_writable(os.path.join(args.out, "probe"))
    if args.grid == "all":
        cli.check_writable(os.path.join(args.results, "probe"))
    began = time.perf_counter()
    failed = run(jobs, args.jobs)
    if args.grid == "all":
        keep(jobs, args.results)
        print(f"wrote {verdicts.write(args.results)}")
    elif collect(jobs):
        report(jobs, args)
    print(f"\n{cli.duration(time.perf_counter() - began)} with {args.jobs} processes; everything is in {args.out}, each run's command on the first line of its log")
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
