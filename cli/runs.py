"""What a run needs: to be stopped between two steps, to own what it writes, and to be followed: one
dense line on the terminal, and every step in a CSV."""
import contextlib
import csv
import os
import shlex
import signal
import sys
import textwrap
import time

import torch

from cli.flags import WIDTH, CommandError, command, fold
from cli.outputs import (check_ours, check_out, has_content, identity, lock, log_path, read_table,
                         same_file, sweep, table_text, write_text)
from model import load_checkpoint


SAME = 0.5  # seconds within which a second signal is taken for an echo of the first


@contextlib.contextmanager
def stop_signals():
    """Yields a function that says whether Ctrl-C (or SIGTERM, or SIGHUP of a closed terminal) has
    come, so that a loop can stop between two steps. A second one stops at once, unless it comes on
    the heels of the first, as from a shell that sends to the whole group. Outside the main thread
    nothing is caught.
    """
    seen = []  # when each signal came

    def handler(number, frame):
        seen.append(time.monotonic())
        if len(seen) == 1:
            tell("stopping after this step (again to stop at once)\n")
        elif seen[-1] - seen[0] > SAME:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # there is none on Windows; under nohup it stays ignored
    try:
        previous = {n: signal.signal(n, handler) for n in numbers}
    except ValueError:
        previous = {}
    try:
        yield lambda: bool(seen)
    finally:
        for n, old in previous.items():
            signal.signal(n, old)


def tell(text):
    """Write text to stderr, past its buffer: a signal may come while that is being written to."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), text.encode())


def duration(seconds):
    """
    >>> duration(7.2), duration(200), duration(7300)
    ('7s', '3m20s', '2h01m')
    """
    s = int(seconds + 0.5)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02d}s"
    return f"{s // 3600}h{s % 3600 // 60:02d}m"


def quantity(x):
    """
    >>> quantity(850), quantity(118_400), quantity(2_100_000)
    ('850', '118k', '2.1M')
    """
    if x < 1e3:
        return f"{x:.0f}"
    if x < 1e6:
        return f"{x / 1e3:.0f}k"
    return f"{x / 1e6:.1f}M"


def check_finite(parameters):
    """Raise FloatingPointError if a step has left a weight that is not finite."""
    if not torch.stack([p.isfinite().all() for p in parameters]).all():
        raise FloatingPointError("a weight is no longer finite")


class Log:
    """A run in the eyes of its user: its output, which it owns, a line now and then, and a CSV with
    every step.

    On resume the CSV is cut back to the checkpoint's step, so an interrupted run leaves the rows of
    an undisturbed one.
    """
    TIMING = ("tokens_per_s", "seconds")  # the only columns that differ between two equal runs

    def __init__(self, parser, args, columns, saved=None):
        """columns are the run's own; saved is what `parse` gave: the run that is resumed."""
        extra = saved[1] if saved else {}
        self.parser, self.args, self.steps = parser, args, args.steps
        self.run = extra.get("run") or identity(parser, args)
        self.columns = ["step", *columns, *self.TIMING, "run"]
        self.first = self.done = extra.get("step", 0)
        self.steps_before = extra.get("args", {}).get("steps", args.steps)
        self.seconds_before, self.began = extra.get("seconds", 0.0), time.perf_counter()
        self.last_row = self.last_line = self.began
        self.tokens = 0  # since the last line
        self.silent = 0  # steps in a row without a gradient
        self.unheard = False  # whether nobody reads what is printed any more

    @contextlib.contextmanager
    def writing(self):
        """Own the output: nobody else writes it meanwhile, and nothing of others is replaced.
        Yields a function that says whether to stop, as `stop_signals` does."""
        out = self.args.out
        self.new_folder = not os.path.isdir(os.path.dirname(out) or ".")
        check_out(self.parser, self.args)
        with lock(out):
            check_ours(self.args, self.run, begun=self.goes_on() and self.first == 0)
            if self.goes_on() and load_checkpoint(out)[1]["step"] != self.first:
                raise CommandError(f"--resume {out}: another process has just taken it further; "
                                   "run the same command again")
            sweep(out)
            with stop_signals() as stopped:
                try:
                    yield lambda: stopped() or self.unheard
                except FloatingPointError as error:
                    raise CommandError(f"step {self.done + 1}: {error}; stopped, {out} keeps the "
                                       "last good checkpoint (try a lower --lr)") from None

    def goes_on(self):
        """Whether this run continues the one that lies at --out."""
        return bool(self.args.resume) and same_file(self.args.resume, self.args.out)

    def about(self, step, finished):
        """What a checkpoint says of its run, for `save_checkpoint`."""
        return {"script": self.parser.prog, "command": command(self.parser, self.args),
                "args": vars(self.args), "run": self.run, "step": step, "finished": finished,
                "seconds": self.seconds()}

    def announce(self, what, save):
        """Say which run begins, and where, and make the output its own from its first moment: first
        the checkpoint, then the CSV, so that what is resumed is never another run's."""
        out = self.args.out
        self.say(f"{fold(command(self.parser, self.args))}\n{textwrap.fill(what, WIDTH)}")
        if self.new_folder:
            self.say(textwrap.fill(f"{os.path.dirname(out)} is a new folder", WIDTH))
        if self.first:
            self.say(f"resumed at step {self.first}/{self.steps}")
        if self.steps > self.steps_before:
            self.say(self.extension())
        if not self.goes_on():
            if has_content(out):
                self.say(textwrap.fill(f"note: {out} exists and is replaced now (--resume would "
                                       "have continued it)", WIDTH))
            save(self.first)
        self.open_table()

    def extension(self):
        """What there is to say of a run that got more steps than it was started with."""
        text = f"extended from {self.steps_before} steps to {self.steps}"
        if any(getattr(self.args, name, 0) for name in ("decay", "lr_decay", "overlap")):
            text += ("; note: a rate that decays over --steps, or edge steps drawn among them, are "
                     f"not those of one run of {self.steps} steps")
        return textwrap.fill(text, WIDTH)

    def open_table(self):
        """Replace the CSV by what it has up to the checkpoint's step, and open it for more."""
        path = log_path(self.args.out)
        kept = [row for row in read_table(path)[1] if row.get("run") == self.run
                and row["step"].isdigit() and int(row["step"]) <= self.first]
        write_text(path, table_text(self.columns, kept))
        self.file = open(path, "a", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, self.columns, restval="", extrasaction="ignore")

    def say(self, text):
        """Print text. A reader who has gone away (| head, a closed terminal) ends the run like
        Ctrl-C: once its step is saved."""
        try:
            print(text, flush=True)
        except OSError:
            self.unheard = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def interrupted(self, step):
        """Say how to go on, and end with the exit status that shells expect of it."""
        text = (f"interrupted after step {step}/{self.steps}, saved; go on with: python "
                f"{self.parser.prog} --resume {shlex.quote(self.args.out)}")
        if not self.unheard:
            self.say(text)
        if self.unheard:
            tell(text + "\n")
        raise SystemExit(141 if self.unheard else 130)

    def seconds(self):
        return self.seconds_before + time.perf_counter() - self.began

    def eta(self, step):
        """Seconds to the end at the pace of this process so far, for `step` steps done."""
        pace = (time.perf_counter() - self.began) / max(1, step - self.first)
        return pace * (self.steps - step)

    def print(self, step, parts):
        """The line of a step: as many of its parts, the most important first, as fit 100 columns
        (the CSV has all). Tokens per second are those since the last line."""
        now = time.perf_counter()
        rate, self.tokens, self.last_line = self.tokens / (now - self.last_line), 0, now
        line, eta = f"step {step}/{self.steps}", f"eta {duration(self.eta(step))}"
        for part in [*parts, f"{quantity(rate)} tok/s"]:
            if len(line) + len(part) + len(eta) + 4 <= 100:
                line += f"  {part}"
        self.say(f"{line}  {eta}")

    def count_silence(self, numbers):
        """Say why nothing moves, if so many steps in a row had no gradient at all."""
        nothing = numbers["grad"] == numbers["loss"] == 0
        self.silent = self.silent + 1 if nothing else 0
        if self.silent in (1, 10, 100):
            mean, plural = numbers.get("reward", 0), "s" * (self.silent > 1)
            self.say(f"  {self.silent} step{plural} without a signal: in every group all rewards "
                     f"are equal (mean {mean:.2f}),\n  so all advantages are 0 and the weights "
                     "stay as they are")

    def row(self, step, tokens, values):
        """Write the CSV row of a step that processed so many tokens."""
        now = time.perf_counter()
        rate, self.last_row = tokens / (now - self.last_row), now
        self.tokens += tokens
        self.done = step
        row = {"step": step, "tokens_per_s": round(rate), "seconds": round(self.seconds(), 2),
               "run": self.run}
        for name, value in values.items():
            row[name] = float(f"{value:.6g}") if isinstance(value, float) else value
        self.writer.writerow(row)
        self.file.flush()
