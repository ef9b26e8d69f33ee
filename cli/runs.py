"""What a run needs: to be stopped between two steps, to write safely, and to be followed: one dense
line on the terminal, and every step in a CSV."""
import contextlib
import csv
import os
import shlex
import signal
import sys
import textwrap
import time

from cli import ranks
from cli.flags import WIDTH, CommandError, fold


@contextlib.contextmanager
def stop_signals():
    """Yields a function that says whether Ctrl-C (or SIGTERM) has come, so that a loop can stop
    between two steps. A second one stops at once. Outside the main thread nothing is caught.
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
    """Raise OSError, before any work is done, if a file cannot be written at path. Leaves nothing
    behind but its folder."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.isdir(path):
        raise CommandError(f"{path}: is a folder; name a file")
    if ranks.rank() > 0:
        return
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


def interrupted(script, step, steps, path):
    """Say how to go on after Ctrl-C; returns the exit status that shells expect of it."""
    print(f"interrupted after step {step}/{steps}, saved; go on with: "
          f"{shlex.join([*ranks.launcher(), script])} --resume {shlex.quote(path)}", flush=True)
    return 130


def diverged(step, error, path):
    """The CommandError for a step whose loss or gradient is not finite."""
    return CommandError(f"step {step}: {error}; stopped, {path} keeps the last good checkpoint "
                        "(try a lower --lr)")


class Log:
    """A run's numbers: every step to a CSV beside the checkpoint, one dense line to the terminal,
    with an ETA.

    On resume the CSV is cut back to the checkpoint's step, so an interrupted run leaves the rows of
    an undisturbed one.
    """
    TIMING = ("tokens_per_s", "seconds")  # the only columns that differ between two equal runs

    def __init__(self, checkpoint, columns, steps, start=0, seconds=0.0):
        path, self.checkpoint = os.path.splitext(checkpoint)[0] + ".csv", checkpoint
        self.columns, self.steps, self.first = ["step", *columns, *self.TIMING], steps, start
        self.seconds_before, self.began = seconds, time.perf_counter()
        self.last_row = self.last_line = self.began
        self.tokens = 0  # since the last line
        self.silent = 0  # steps in a row without a gradient
        kept = []
        if start and os.path.exists(path):
            with open(path, newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file)
                        if row["step"].isdigit() and int(row["step"]) <= start]
        path = path if ranks.rank() == 0 else os.devnull
        self.file = open(path, "w", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, self.columns, restval="", extrasaction="ignore")
        self.writer.writeheader()
        self.writer.writerows(kept)
        self.file.flush()

    def seconds(self):
        return self.seconds_before + time.perf_counter() - self.began

    def eta(self, step):
        """Seconds to the end at the pace of this process so far, for `step` steps done."""
        pace = (time.perf_counter() - self.began) / max(1, step - self.first)
        return pace * (self.steps - step)

    def announce(self, command, what, save):
        """Say which run begins, and where, and make sure that from its first moment there is a
        checkpoint to load."""
        print(f"{fold(command)}\n{textwrap.fill(what, WIDTH)}", flush=True)
        if self.first:
            print(f"resumed at step {self.first}/{self.steps}", flush=True)
        elif os.path.exists(self.checkpoint):
            note = (f"note: {self.checkpoint} exists; its CSV starts anew now, and it is replaced "
                    "at this run's first save (--resume would continue it)")
            print(textwrap.fill(note, WIDTH), flush=True)
        if not ranks.once(os.path.exists, self.checkpoint):
            save(self.first)

    def print(self, step, parts):
        """The line of a step: as many of its parts, the most important first, as fit 100 columns
        (the CSV has all). Tokens per second are those since the last line."""
        now = time.perf_counter()
        rate, self.tokens, self.last_line = self.tokens / (now - self.last_line), 0, now
        line, eta = f"step {step}/{self.steps}", f"eta {duration(self.eta(step))}"
        for part in [*parts, f"{quantity(rate)} tok/s"]:
            if len(line) + len(part) + len(eta) + 4 <= 100:
                line += f"  {part}"
        print(f"{line}  {eta}", flush=True)

    def count_silence(self, numbers):
        """Say why nothing moves, if so many steps in a row had no gradient at all."""
        nothing = numbers["grad"] == numbers["loss"] == 0
        self.silent = self.silent + 1 if nothing else 0
        if self.silent in (1, 10, 100):
            mean, plural = numbers.get("reward", 0), "s" * (self.silent > 1)
            print(f"  {self.silent} step{plural} without a signal: in every group all rewards are "
                  f"equal (mean {mean:.2f}),\n  so all advantages are 0 and the weights stay as "
                  "they are", flush=True)

    def row(self, step, tokens, values):
        """Write the CSV row of a step that processed so many tokens."""
        now = time.perf_counter()
        rate, self.last_row = tokens / (now - self.last_row), now
        self.tokens += tokens
        row = {"step": step, "tokens_per_s": round(rate), "seconds": round(self.seconds(), 2)}
        for name, value in values.items():
            row[name] = float(f"{value:.6g}") if isinstance(value, float) else value
        self.writer.writerow(row)
        self.file.flush()
