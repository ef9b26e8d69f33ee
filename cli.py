"""cli.py: what every script needs at its edges. Flags, one-line errors, devices, Ctrl-C, the log line and its CSV.

Nothing here is about transformers or GRPO; read it last.
"""
import argparse
import contextlib
import csv
import ctypes
import functools
import os
import shlex
import signal
import sys
import time

import torch

from model import CheckpointError, load_checkpoint


class CommandError(ValueError):
    """Something the user can mend. The message names the flag or file, what was wrong and what is allowed."""


class Parser(argparse.ArgumentParser):
    """argparse with defaults in --help, no abbreviated flags, and errors of one line."""

    def __init__(self, doc, file):
        super().__init__(os.path.basename(file), description=doc, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def add_argument(self, *names, **options):
        if options.get("default") not in (None, "") and options["default"] is not False and options.get("action") is None and "help" in options:
            default = options["default"]
            options["help"] += f" (default {' '.join(map(str, default)) if isinstance(default, list) else default})"
        return super().add_argument(*names, **options)

    def error(self, message):
        raise CommandError(f"{message} (--help lists the flags)")


def script(main):
    """Make `main(argv=None)` a command: what the user can mend is one line on stderr and exit status 2."""
    @functools.wraps(main)
    def wrapped(argv=None):
        for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 shows ? for a symbol it lacks, and goes on
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            return main(argv)
        except (CommandError, CheckpointError) as error:
            message = str(error)
        except KeyboardInterrupt:  # training loops save and return before this; here there is nothing to lose
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # `python evaluate.py ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except OSError as error:
            message = f"{error.filename or 'file system'}: {error.strerror}"
        print(f"{os.path.basename(main.__code__.co_filename)}: error: {message}", file=sys.stderr, flush=True)
        raise SystemExit(2)
    return wrapped


# ------------------------------------------------------------------------------------------------------- types of flags

def number(kind, low=None, high=None, open_low=False):
    """An argparse type: an int or float within [low, high], or (low, high]; the error says what is allowed."""
    noun = "a whole number" if kind is int else "a number"
    limits = "" if low is None else f" {'above' if open_low else 'of at least'} {low}"
    limits += "" if high is None else f"{' and' if limits else ''} at most {high}"

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {noun}{limits}") from None
        ok = (low is None or (value > low if open_low else value >= low)) and (high is None or value <= high)
        if not ok or value != value:  # the second catches nan
            raise argparse.ArgumentTypeError(f"{text} is not {noun}{limits}")
        return value
    return convert


count = number(int, 1)               # 1, 2, ...
natural = number(int, 0)             # 0, 1, ...
share = number(float, 0, 1)          # a probability
positive = number(float, 0, open_low=True)
nonnegative = number(float, 0)


def add_run_flags(parser, eval_every, log_every):
    """The flags that every training script has in common."""
    add = parser.add_argument
    add("--seed", type=natural, default=0, help="seed of weights, data and sampling")
    add("--resume", nargs="?", const=True, metavar="CKPT",
        help="continue the run saved in CKPT (default: --out) with its own flags; bit for bit at the same --threads")
    add("--save-every", type=count, default=100, metavar="N", help="save a checkpoint every N steps")
    add("--eval-every", type=natural, default=eval_every, metavar="N", help="measure exact mass every N steps; 0: at the end only")
    add("--eval-prompts", type=count, default=64, metavar="N", help="prompts per cell for that")
    add("--log-every", type=count, default=log_every, metavar="N", help="print a line every N steps (the CSV has every step)")
    add_device_flags(parser)
    add_speed_flags(parser)


def add_device_flags(parser):
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="cpu",
                        help="where to compute; auto takes a GPU if there is one")
    parser.add_argument("--threads", type=natural, default=0, metavar="N",
                        help="CPU threads; 0 leaves the choice to torch (another number changes the last bits)")


def add_speed_flags(parser):
    parser.add_argument("--compile", action="store_true", help="compile the blocks; takes a minute on a CPU")
    parser.add_argument("--bf16", action="store_true", help="matrix products in bfloat16: faster where the hardware has it, coarser log-probs")


def keep_freed_memory():
    """Have the C library keep what is freed, instead of giving it back and faulting it in again at the next step.

    Every step allocates the same large tensors. A GRPO step takes 13 to 16 % less with this on Linux (glibc); elsewhere it
    does nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    mallopt(M_MMAP_THRESHOLD, 32 * 1024 ** 2)
    mallopt(M_TRIM_THRESHOLD, 2 ** 31 - 1)


def set_device(args):
    """torch.device of --device, after setting --threads."""
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = next(d for d in ("cuda", "mps", "cpu") if there[d]) if args.device == "auto" else args.device
    if not there[name]:
        raise CommandError(f"--device {name}: not available here; there is {', '.join(d for d in there if there[d])}")
    return torch.device(name)


# Flags that a resumed run may change: none of them changes what is computed, save for the last bits (device, threads).
MAY_DIFFER = ("out", "resume", "device", "threads", "log_every", "save_every", "keep_every")


def parse(parser, argv):
    """(args, saved): the flags, and what --resume loaded: None, or (model, extra) of the interrupted run.

    A resumed run keeps the flags it was started with. One that is given again must agree.
    """
    args = parser.parse_args(argv)
    if not args.resume:
        return args, None
    out = parser.parse_args(argv, argparse.Namespace(out=None)).out  # None unless it was given
    path = args.out if args.resume is True else args.resume
    model, extra = load_checkpoint(path)
    if extra.get("script") != parser.prog:
        raise CommandError(f"--resume {path}: was written by {extra.get('script', 'another program')}, not by {parser.prog}")
    merged = parser.parse_args(argv, argparse.Namespace(**extra["args"]))
    for key, value in extra["args"].items():
        if key not in MAY_DIFFER and getattr(merged, key) != value:
            flag = "--" + key.replace("_", "-")
            raise CommandError(f"{flag} {getattr(merged, key)}: {path} was started with {flag} {value}; "
                               "a resumed run keeps its flags (leave it out, or start a new run)")
    merged.out, merged.resume = out or path, None
    if extra["finished"]:
        raise CommandError(f"--resume {path}: that run is finished, after {extra['step']} steps")
    return merged, (model, extra)


def command(parser, args):
    """The command line that repeats a run: `python SCRIPT.py` with every flag that differs from its default."""
    words = ["python", parser.prog]
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if action.dest not in ("help", "resume") and value != action.default:
            words.append(action.option_strings[-1])
            words += [] if value is True else [str(v) for v in value] if isinstance(value, list) else [str(value)]
    return shlex.join(words)


# ---------------------------------------------------------------------------------------------------------------- runs

@contextlib.contextmanager
def stop_signals():
    """Yields a function that says whether Ctrl-C (or SIGTERM) has come, so that a loop can stop between two steps.

    A second Ctrl-C stops at once. Outside the main thread nothing is caught.
    """
    seen = []

    def handler(number, frame):
        signal.signal(number, previous[number])
        seen.append(number)
        print("stopping after this step (again to stop at once)", file=sys.stderr, flush=True)

    try:
        previous = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        previous = {}
    try:
        yield lambda: bool(seen)
    finally:
        for n, old in previous.items():
            signal.signal(n, old)


def check_writable(path):
    """Raise OSError, before any work is done, if a file cannot be written at path. Leaves nothing behind but its folder."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.isdir(path):
        raise CommandError(f"{path}: is a folder; name a file")
    probe = f"{path}.{os.getpid()}.tmp"
    with open(probe, "wb"):
        pass
    os.remove(probe)


def duration(seconds):
    """
    >>> duration(7.2), duration(200), duration(7300)
    ('7s', '3m20s', '2h01m')
    """
    s = int(seconds + 0.5)
    return f"{s}s" if s < 60 else f"{s // 60}m{s % 60:02d}s" if s < 3600 else f"{s // 3600}h{s % 3600 // 60:02d}m"


def quantity(x):
    """
    >>> quantity(850), quantity(118_400), quantity(2_100_000)
    ('850', '118k', '2.1M')
    """
    return f"{x:.0f}" if x < 1e3 else f"{x / 1e3:.0f}k" if x < 1e6 else f"{x / 1e6:.1f}M"


def interrupted(script, step, steps, path):
    """Say how to go on after Ctrl-C; returns the exit status that shells expect of it."""
    print(f"interrupted after step {step}/{steps}, saved; go on with: python {script} --resume {shlex.quote(path)}", flush=True)
    return 130


class Log:
    """A run's numbers: every step to a CSV beside the checkpoint, one dense line to the terminal, with an ETA.

    On resume the CSV is cut back to the checkpoint's step, so an interrupted run leaves the rows of an undisturbed one.
    """
    TIMING = ("tokens_per_s", "seconds")  # the only columns that differ between two runs of one command

    def __init__(self, checkpoint, columns, steps, start=0, seconds=0.0):
        path = os.path.splitext(checkpoint)[0] + ".csv"
        self.columns, self.steps, self.first = ["step", *columns, *self.TIMING], steps, start
        self.seconds_before, self.began = seconds, time.perf_counter()
        self.last_row = self.last_line = self.began
        self.tokens = 0  # since the last line
        kept = []
        if start and os.path.exists(path):
            with open(path, newline="", encoding="utf-8") as file:
                kept = [r for r in csv.DictReader(file) if r["step"].isdigit() and int(r["step"]) <= start]
        self.file = open(path, "w", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, self.columns, restval="", extrasaction="ignore")
        self.writer.writeheader()
        self.writer.writerows(kept)
        self.file.flush()

    def seconds(self):
        return self.seconds_before + time.perf_counter() - self.began

    def eta(self, step):
        """Seconds to the end at the pace of this process so far, for `step` steps done."""
        return (time.perf_counter() - self.began) / max(1, step - self.first) * (self.steps - step)

    def announce(self, path, start, save):
        """Say where the run begins, and make sure that from its first moment there is a checkpoint to load."""
        if start:
            print(f"resumed at step {start}/{self.steps}", flush=True)
        elif os.path.exists(path):
            print(f"note: {path} exists; its CSV starts anew now, and it is replaced at this run's first save "
                  "(--resume would continue it)", flush=True)
        if not os.path.exists(path):
            save(start)

    def print(self, step, text):
        """The line of a step; its tokens per second are those since the last line."""
        now = time.perf_counter()
        rate, self.tokens, self.last_line = self.tokens / (now - self.last_line), 0, now
        print(f"step {step}/{self.steps} | {text} | {quantity(rate)} tok/s | eta {duration(self.eta(step))}", flush=True)

    def row(self, step, tokens, values):
        """Write the CSV row of a step that processed so many tokens."""
        now = time.perf_counter()
        rate, self.last_row = tokens / (now - self.last_row), now
        self.tokens += tokens
        plain = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
        self.writer.writerow({"step": step, **plain, "tokens_per_s": round(rate), "seconds": round(self.seconds(), 2)})
        self.file.flush()
