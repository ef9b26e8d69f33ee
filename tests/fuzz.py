"""fuzz.py: random command lines over every script and variant, drawn from the parsers themselves.

    python -m tests.fuzz                            2,000 of them, in a few minutes
    python -m tests.fuzz --seed 7 --count 200       others
    python -m tests.fuzz --seed 7 --only 123        one of them again, with what it prints

Every flag is tried with values that it allows and with hostile ones (numbers at and beyond the ends
of their range, words, nothing at all), every file with what may lie there: damaged, foreign, empty,
a folder, nothing. A command that is valid is made tiny, so that it ends. Each is a forked child of
this process, which has torch imported, in a folder of its own with the same files.

A command fails here if it ends in a traceback or a warning, if it is silent for 20 seconds or does
not end in 60, or if it is refused (status 2) in other than one line, or with a changed disk.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import random
import resource
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
import questions
import study
import variants
from lab import bench, records
from model import load_checkpoint, save_checkpoint

SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "study": study,
           "bench": bench}
OFTEN = {"pretrain": 25, "finetune": 45, "evaluate": 15, "study": 10, "bench": 5}   # of a hundred
SILENCE, LONGEST = 20, 60   # seconds
MEMORY = 6 * 1024 ** 3      # bytes of data that a child may have

# What makes each script's work small, before the flags that are drawn.
SMALL = {
    "pretrain": "--steps 2 --batch-size 4 --layers 1 --width 16 --heads 2 --eval-prompts 2 "
                "--threads 1 --out out.pt",
    "finetune": "--init good.pt --steps 2 --prompts-per-step 2 --group-size 3 --eval-prompts 2 "
                "--threads 1 --out out.pt",
    "evaluate": "--ckpt good.pt --prompts 2 --cold 0 --threads 1",
    "study": "--plan",
    "bench": "--small --repeats 1 --layers 1 --width 16 --heads 2 --prompts 2 --group-size 2 "
             "--threads 1",
}
NEVER = {"compile", "recipes", "help"}   # minutes on a CPU; the end of everything else
# Whole numbers that cost nothing, however large; another is kept below MANY if it is valid, but
# for the absurd, which no flag should allow.
CHEAP = {"seed", "first_seed", "save_every", "eval_every", "log_every", "keep_every", "warmup",
         "budget_rollouts", "budget_gold", "micro_batch", "reset_every"}
MANY = 12
THREADS = 1   # more of them, on a machine that is busy, wait for each other

ABSURD = ["nan", "inf", "-inf", "1e38", "-1e38", "1e308", "1e-320", "1000000", "1000000000000",
          "2147483648", "18446744073709551616", "9" * 5000]
NO_NUMBERS = ["", "--", "x", "0x10", " ", "٣", "1_0", "-0", "0.5", "10**6"]
WORDS = ["", "--", "-", "x", "list", "hello", "31 [+1] =", "31 [x2] =", "; a b = >> a =", "= =",
         "0", "*", "a b", "é", "two\nlines", "x" * 300, "grpo", "dose"]
PATHS = "CKPT", "FILE", "DIR"   # how a parser calls the value of a flag that is a path
FILES = ["good.pt", "half.pt", "tuned.pt", "half_tuned.pt", "truncated.pt", "flipped.pt",
         "foreign.pt", "empty.pt", "text.pt", "nan.pt", "folder", "folder/new.pt", "missing.pt",
         "no/such/folder/x.pt", "text.pt/x.pt", "link.pt", "good.csv", "good", "x.csv", "x.json",
         "/proc/x.pt", "a b.pt", "é.pt", "x" * 300 + ".pt", "", "--", "-"]
JUNK = [["--stpes", "3"], ["stray"], ["--"], ["-x"], ["--steps"], ["--seed", "1", "--seed", "2"],
        ["--out"], ["--resume", "half.pt", "--resume"], ["--help"], ["--method=--"], ["\x1b[31m"]]


@dataclasses.dataclass
class Ended:
    """A command line, how it ended, and what is wrong with that, if anything is."""
    script: str
    argv: list
    status: int | None       # None: it was killed
    out: str
    err: str
    seconds: float
    problem: str = ""

    def command(self):
        return shlex.join([self.script, *(cli.flags.shown(word, 60) for word in self.argv)])


# ------------------------------------------------------------------------------- the command lines

def command_line(rng):
    """(script, argv): small work, then a few flags of that script. Mostly one of them at most is
    hostile, or one complaint would hide the others."""
    script, = rng.choices(list(OFTEN), OFTEN.values())
    argv = SMALL[script].split()
    method = rng.choice(variants.names())
    parser = SCRIPTS[script].build_parser(*([["--method", method]] if script == "finetune" else []))
    if script == "finetune":
        argv += ["--method", method]
    if rng.random() < 0.05 and script in ("finetune", "evaluate"):   # what they need is missing
        argv = []
    actions = [action for action in parser._actions if action.dest not in NEVER]
    chosen = rng.sample(actions, rng.randint(1, 4))
    if rng.random() < 0.3 and script != "bench":   # a file, more often than its share of the flags
        chosen[0] = rng.choice([action for action in actions if action.metavar in PATHS])
    hostile = rng.choice([0, 1, 1, 1, len(chosen)])
    for i, action in enumerate(chosen):
        argv += words_of(action, rng, i < hostile)
    if rng.random() < 0.1:
        argv += rng.choice(JUNK)
    return script, argv


def words_of(action, rng, hostile):
    """The words of a flag: its name, and as many values as it takes, or as it does not."""
    name = rng.choice(action.option_strings) if action.option_strings else None
    n = {None: 1, "?": rng.randint(0, 1), "*": rng.randint(0, 3), "+": rng.randint(1, 3)}.get(
        action.nargs, 0)
    if hostile and rng.random() < 0.05:
        n += rng.choice([-1, 1])
    values = [value(action, rng, hostile) for _ in range(n)]
    if name is None:
        return values
    return [f"{name}={values[0]}"] if n == 1 and rng.random() < 0.2 else [name, *values]


def value(action, rng, hostile):
    """A value for a flag, as text."""
    if isinstance(action.type, cli.number):
        return a_number(action, rng, hostile)
    if action.choices is not None and not hostile:
        return str(rng.choice(list(action.choices)))
    if action.dest == "questions" and not hostile:
        return rng.choice(questions.names())
    if action.metavar in PATHS:
        return rng.choice(FILES)
    return rng.choice(WORDS)


def a_number(action, rng, hostile):
    """A number that the flag allows, and that is little work; or one at or beyond the ends."""
    allowed = action.type
    if not hostile:
        if allowed.kind is int:
            more = THREADS if action.dest == "threads" else 3
            return str(rng.randint(allowed.least(), min(allowed.high, allowed.least() + more)))
        low = allowed.above if allowed.above is not None else allowed.least()
        return f"{rng.uniform(low, min(allowed.high, low + 1)):.3g}"
    ends = [allowed.least(), allowed.high, allowed.above, allowed.least() - 1, allowed.high + 1]
    text = str(rng.choice(rng.choice([ABSURD, ABSURD, ends, NO_NUMBERS])))
    try:
        if action.dest not in CHEAP and allowed.kind is int and MANY < allowed(text) <= 1_000_000:
            return str(max(allowed.least(), THREADS if action.dest == "threads" else MANY))
    except argparse.ArgumentTypeError:
        pass
    return text


# ------------------------------------------------------------------------------ what lies around it

@contextlib.contextmanager
def inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def lay_out(folder):
    """The files that a command line may name, good and bad, in a new folder."""
    os.makedirs(os.path.join(folder, "folder"))
    with inside(folder), contextlib.redirect_stdout(open(os.devnull, "w")):
        for stop, base, tuned in ((False, "good.pt", "tuned.pt"),
                                  (True, "half.pt", "half_tuned.pt")):
            stopped_after_a_step(stop, pretrain.main, [*SMALL["pretrain"].split(), "--out", base])
            stopped_after_a_step(stop, finetune.main, [*SMALL["finetune"].split(), "--out", tuned])
        with open("good.pt", "rb") as file:
            content = file.read()
        for name, changed in (("truncated.pt", content[:3000]), ("empty.pt", b""),
                              ("flipped.pt", content[:5000] + b"~" + content[5001:]),
                              ("text.pt", b"not a checkpoint\n")):
            with open(name, "wb") as file:
                file.write(changed)
        torch.save({"state_dict": {}}, "foreign.pt")
        model, extra = load_checkpoint("good.pt")
        model.embed.weight.data[0, 0] = float("nan")
        save_checkpoint("nan.pt", model, **extra)
        os.symlink("text.pt", "link.pt")
        for place in ("results/dose", "runs/study/results/quick"):
            records.write(place, [a_run(seed) for seed in (0, 1)])


def stopped_after_a_step(stop, main, argv):
    """Run main; with `stop`, as if Ctrl-C had come in its first step."""
    signals = cli.stop_signals
    cli.stop_signals = lambda: contextlib.nullcontext(lambda: stop)
    try:
        with contextlib.suppress(SystemExit):
            main(argv)
    finally:
        cli.stop_signals = signals


def a_run(seed):
    """A Run of the study, its masses drawn by chance."""
    rng = np.random.default_rng(seed)
    arms = [records.Arm("base", "pretrain", steps=2)]
    arms += [records.Arm(f"grpo-{split}", "grpo", split, "trace", "none", 0.0, "std", 2, 4, 4, 32,
                         init="base") for split in ("id", "edge")]
    masses = {(arm.name, split): {"d1 l4": np.log(rng.uniform(0.05, 0.95, 6))}
              for arm in arms for split in ("id", "edge", "hard")}
    return records.Run("dose", f"chain-seed{seed}", "arithmetic", "depth", 0.0, 0.3, 2, "", seed,
                       {arm.name: arm for arm in arms}, masses)


def damage(folder, rng):
    """Spoil one file of the study's numbers: cut it, change bytes of it, or put a line twice."""
    place = rng.choice(["results/dose", "runs/study/results/quick"])
    path = os.path.join(folder, place, rng.choice(["runs.csv", "masses.npz"]))
    with open(path, "rb") as file:
        content = bytearray(file.read())
    how = rng.choice(["cut", "bytes", "twice", "words"])
    if how == "cut":
        content = content[:rng.randrange(len(content))]
    if how == "bytes":
        for _ in range(rng.choice([1, 10, 100])):
            content[rng.randrange(len(content))] = rng.randrange(256)
    if how == "twice":
        lines = content.splitlines(keepends=True)
        content = b"".join([*lines, rng.choice(lines)])
    if how == "words":
        words = [b"nan", b"inf", b"1e400", b"-1", b"", b'"', b"x", b"9" * 40]
        content = content.replace(rng.choice([b"0", b"2", b"depth", b"base", b"id"]),
                                  rng.choice(words), rng.choice([1, 1000]))
    with open(path, "wb") as file:
        file.write(content)


def contents(folder):
    """{path: what lies there} of everything in a folder."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.join(place, name)] = "folder"
        for name in files:
            path = os.path.join(place, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            else:
                with open(path, "rb") as file:
                    found[path] = hashlib.md5(file.read()).hexdigest()
    return found


# ---------------------------------------------------------------------------------- a command line

def attempt(template, seed, number):
    """Ended: command line `number` of a seed, run in a copy of the template's files."""
    rng = random.Random(f"{seed} {number}")
    script, argv = command_line(rng)
    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        folder = os.path.join(scratch, "here")
        shutil.copytree(template, folder, symlinks=True)
        if script == "study" and rng.random() < 0.7:
            damage(folder, rng)
            argv = rng.choice([["--report"], ["--publish", "--out", "runs/study"], argv])
        before = contents(folder)
        ended = run(script, argv, folder, scratch)
        ended.problem = problem(ended, before, contents(folder))
    return ended


def run(script, argv, folder, scratch):
    """Ended: the script's main(argv) in a forked child."""
    paths = [os.path.join(scratch, name) for name in ("out", "err")]
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os._exit(child_main(script, argv, folder, paths))
    status, seconds = watch(child, paths)
    said = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            said.append(file.read())
    return Ended(script, argv, status, *said, seconds)


def child_main(script, argv, folder, paths):
    """What the child does; returns its exit status."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8") for number in (1, 2))
    os.chdir(folder)
    try:
        SCRIPTS[script].main(argv)
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def watch(child, paths):
    """(exit status, seconds) of a child; None for one that was killed, after too long a silence or
    altogether. A machine that sleeps meanwhile is not counted."""
    silent = seconds = 0.0
    said, last = 0, time.perf_counter()
    while silent < SILENCE and seconds < LONGEST:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), seconds
        time.sleep(0.005)
        now = time.perf_counter()
        passed, last = min(now - last, 0.1), now
        size = sum(os.path.getsize(path) for path in paths if os.path.exists(path))
        silent, said = silent + passed if size == said else 0.0, size
        seconds += passed
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, seconds


def problem(ended, before, after):
    """What is wrong with how a command ended, in a line; "" if nothing is."""
    lines = [line for line in ended.err.splitlines() if line.strip()]
    if "Traceback" in ended.out + ended.err:
        return f"traceback: {lines[-1][:200]}"
    if ended.status is None:
        return f"no end, or nothing said, in {ended.seconds:.0f} seconds"
    if ended.status not in (0, 2) and "runs failed" not in ended.err:
        return f"status {ended.status}"
    if "Warning" in ended.err:
        return f"warning: {next(line for line in lines if 'Warning' in line)[:200]}"
    if ended.status != 2:
        return ""
    if len(lines) != 1:
        return f"{len(lines)} lines of error: {' / '.join(lines)[:200]}"
    stopped = "keeps the last" in lines[0] or "out of memory" in lines[0]
    if before != after and not stopped:
        changed = sorted(path for path in before.keys() | after.keys()
                         if before.get(path) != after.get(path))
        return f"refused, but changed {', '.join(map(os.path.basename, changed))}: {lines[0][:150]}"
    return ""


# --------------------------------------------------------------------------------------- the whole

def attempts(seed, numbers, jobs):
    """Yields (number, Ended) of command lines, several at once."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as place:
        template = os.path.join(place, "template")
        lay_out(template)
        forks = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(jobs, forks) as pool:
            coming = {pool.submit(attempt, template, seed, number): number for number in numbers}
            for future in concurrent.futures.as_completed(coming):
                yield coming[future], future.result()


def build_parser():
    p = cli.Parser(__doc__, __file__)
    p.add_argument("--count", type=cli.count, default=2000, help="command lines")
    p.add_argument("--seed", type=cli.seed, default=0, help="of what is drawn")
    p.add_argument("--jobs", type=cli.number(int, 1, 256), default=min(2, os.cpu_count() or 1),
                   help="at once")
    p.add_argument("--only", type=cli.natural, metavar="N", help="only the Nth, with what it says")
    return p


@cli.script
def main(argv=None):
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)], lr=1.0).zero_grad()   # what torch imports late, once for all
    began, reported, failed = time.perf_counter(), 0.0, 0
    counts = collections.Counter()
    numbers = range(args.count) if args.only is None else [args.only]
    for i, (number, ended) in enumerate(attempts(args.seed, numbers, args.jobs), 1):
        counts[ended.script, ended.status] += 1
        if args.only is not None:
            print(f"{ended.command()}\n{ended.out}{ended.err}")
        if ended.problem:
            failed += 1
            print(f"\n#{number}  {ended.command()}\n    {ended.problem}", flush=True)
        elapsed = time.perf_counter() - began
        if elapsed - reported > 10 or i == len(numbers):
            reported = elapsed
            eta = cli.duration(elapsed / i * (len(numbers) - i))
            print(f"{i}/{len(numbers)}  {failed} failed  {cli.duration(elapsed)}  eta {eta}",
                  flush=True)
    for script in SCRIPTS:
        ends = {status: n for (name, status), n in sorted(counts.items(), key=str)
                if name == script}
        print(f"{script:9s} {sum(ends.values()):5d} commands; by exit status "
              + ", ".join(f"{status}: {n}" for status, n in ends.items()))
    print(f"{failed} of {len(numbers)} failed")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
