"""cli.py: what scripts and methods need at their edges. Flags, knobs, one-line errors, devices,
Ctrl-C, the log line and its CSV, tables and charts. No idea is in here; read it last.
"""
import argparse
import contextlib
import csv
import ctypes
import functools
import math
import os
import shlex
import signal
import string
import sys
import textwrap
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

import tasks
from measure import TRIES, eval_problems, exact_pass_at_k, log_mass, solution_logp, solvable_mass
from model import CheckpointError, generate, load_checkpoint, masked_mean, token_logprobs
from tasks import EOS, SPLITS, TASKS


class CommandError(ValueError):
    """Something the user can mend. The message names the flag or file, what was wrong and what is
    allowed."""


class Parser(argparse.ArgumentParser):
    """argparse with defaults in --help, no abbreviated flags, and errors of one line."""

    def __init__(self, doc, file, method=None):
        super().__init__(os.path.basename(file), description=doc, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)
        self.method = method  # the name of the --method whose knobs are among the flags

    def add_argument(self, *names, **options):
        default = options.get("default")
        if default not in (None, "", False) and "help" in options and "action" not in options:
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            options["help"] += f" (default {shown})"
        return super().add_argument(*names, **options)

    def error(self, message):
        where = f"--method {self.method} --help" if self.method else "--help"
        raise CommandError(f"{message} ({where} lists the flags)")


def script(main):
    """Make `main(argv=None)` a command: what the user can mend is one line on stderr and exit
    status 2."""
    @functools.wraps(main)
    def wrapped(argv=None):
        for stream in (sys.stdout, sys.stderr):  # without UTF-8, ? stands for what cannot be shown
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            return main(argv)
        except (CommandError, CheckpointError) as error:
            message = str(error)
        except KeyboardInterrupt:  # training loops save before this; here nothing can be lost
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # `python evaluate.py ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except OSError as error:
            message = f"{error.filename or 'file system'}: {error.strerror}"
        name = os.path.basename(main.__code__.co_filename)
        print(f"{name}: error: {message}", file=sys.stderr, flush=True)
        raise SystemExit(2)
    return wrapped


# ------------------------------------------------------------------------------ types of flags

def number(kind, low=None, high=None, above=None):
    """An argparse type: an int or float of at least low, or above that, and at most high; the error
    says what is allowed."""
    limits = [f"of at least {low}"] if low is not None else []
    limits += [f"above {above}"] if above is not None else []
    limits += [f"at most {high}"] if high is not None else []
    allowed = ("a whole number " if kind is int else "a number ") + " and ".join(limits)

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed.strip()}") from None
        too_small = low is not None and value < low or above is not None and value <= above
        too_large = high is not None and value > high
        if too_small or too_large or value != value:  # the last catches nan
            raise argparse.ArgumentTypeError(f"{text} is not {allowed.strip()}")
        return value
    return convert


count = number(int, 1)               # 1, 2, ...
natural = number(int, 0)             # 0, 1, ...
share = number(float, 0, 1)          # a probability
positive = number(float, above=0)
nonnegative = number(float, 0)


def add_task_flags(parser, task=None, axis=None, whose=None):
    """--task and --axis, with these defaults, or with a word on whose they are by default."""
    otherwise = f" (default: {whose})" if whose else ""
    parser.add_argument("--task", choices=[*TASKS, "both"], default=task,
                        help=f"task family{otherwise}")
    parser.add_argument("--axis", choices=sorted({a for t in TASKS.values() for a in t.axes}),
                        default=axis, help=f"which axis has id, edge and hard cells{otherwise}")


def add_run_flags(parser, eval_every, log_every):
    """The flags that every training script has in common."""
    add = parser.add_argument
    add("--seed", type=natural, default=0, help="seed of weights, data and sampling")
    add("--resume", nargs="?", const=True, metavar="CKPT",
        help="continue the run saved in CKPT (default: --out) with its own flags; bit for bit at "
             "the same --threads")
    add("--save-every", type=count, default=100, metavar="N", help="save every N steps")
    add("--eval-every", type=natural, default=eval_every, metavar="N",
        help="measure exact mass every N steps; 0: at the end only")
    add("--eval-prompts", type=count, default=64, metavar="N", help="prompts per cell for that")
    add("--log-every", type=count, default=log_every, metavar="N",
        help="print a line every N steps (the CSV has every step)")
    add_device_flags(parser)
    add_speed_flags(parser)


def add_device_flags(parser):
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="cpu",
                        help="where to compute; auto takes a GPU if there is one")
    parser.add_argument("--threads", type=natural, default=0, metavar="N",
                        help="CPU threads; 0 leaves the choice to torch (another number changes "
                             "the last bits)")


def add_speed_flags(parser):
    parser.add_argument("--compile", action="store_true",
                        help="compile the blocks; takes a minute on a CPU")
    parser.add_argument("--bf16", action="store_true",
                        help="matrix products in bfloat16: faster where the hardware has it, "
                             "coarser log-probs")


def keep_freed_memory():
    """Have the C library keep what is freed, instead of giving it back and faulting it in again.

    Every step allocates the same large tensors. A GRPO step takes 13 to 16 % less with this on
    Linux (glibc); elsewhere it does nothing.
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
    there = ["cuda"] if torch.cuda.is_available() else []
    there += ["mps"] if torch.backends.mps.is_available() else []
    there += ["cpu"]
    name = there[0] if args.device == "auto" else args.device
    if name not in there:
        raise CommandError(f"--device {name}: not available here; there is {', '.join(there)}")
    return torch.device(name)


# Flags that a resumed run may change: none changes what is computed, but for the last bits.
MAY_DIFFER = ("out", "resume", "device", "threads", "log_every", "save_every", "keep_every")


def arguments(argv):
    """The command line as a list: what main(argv) was given, or what the shell gave."""
    return sys.argv[1:] if argv is None else list(argv)


def resumed(argv, out):
    """(path, model, extra) of the run that --resume names on the command line, or None. `out` is
    the script's default --out."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--resume", nargs="?", const=True)
    first.add_argument("--out", default=out)
    given, _ = first.parse_known_args(argv)
    if not given.resume:
        return None
    path = given.out if given.resume is True else given.resume
    return (path, *load_checkpoint(path))


def parse(parser, argv):
    """(args, saved): the flags, and what --resume loaded: None, or (model, extra) of that run.

    A resumed run keeps the flags it was started with. One that is given again must agree.
    """
    args = parser.parse_args(argv)
    if not args.resume:
        return args, None
    path, model, extra = resumed(argv, parser.get_default("out"))
    where = f"--resume {path}:"
    if extra.get("script") != parser.prog:
        by = extra.get("script", "another program")
        raise CommandError(f"{where} was written by {by}, not by {parser.prog}")
    missing = sorted(set(vars(args)) - set(extra["args"]))
    if missing:
        raise CommandError(f"{where} was written by another version, which had no "
                           f"{flag(missing[0])}; start a new run")
    if extra["finished"]:
        raise CommandError(f"{where} that run is finished, after {extra['step']} steps")
    merged = parser.parse_args(argv, argparse.Namespace(**extra["args"]))
    for key, value in extra["args"].items():
        if key not in MAY_DIFFER and getattr(merged, key) != value:
            raise CommandError(f"{flag(key)} {getattr(merged, key)}: {path} was started with "
                               f"{flag(key)} {value}; a resumed run keeps its flags (leave it out, "
                               "or start a new run)")
    merged.out = parser.parse_args(argv, argparse.Namespace(out=None)).out or path
    merged.resume = None
    return merged, (model, extra)


def flag(name):
    return "--" + name.replace("_", "-")


def command(parser, args):
    """The command line that repeats a run: every flag that differs from its default."""
    words = ["python", parser.prog]
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if action.dest in ("help", "resume") or value == action.default:
            continue
        if value is False:
            words.append("--no-" + flag(action.dest)[2:])
        elif value is True:
            words.append(flag(action.dest))
        else:
            values = value if isinstance(value, list) else [value]
            words += [flag(action.dest), *map(str, values)]
    return shlex.join(words)


def fold(command, width=96):
    """A command in lines of at most that width, which a shell reads as one.

    >>> print(fold("python x.py --steps 5 --seed 1", 21))
    python x.py --steps 5 \\
        --seed 1
    """
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        if lines[-1].strip() and len(lines[-1]) + len(word) >= width:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


# --------------------------------------------------------------------------------------- methods

@dataclass(frozen=True)
class knob:
    """A setting of a method and, under the same name, a flag of finetune.py.

    It is stated once, as a class attribute. In a subclass a new knob is a new flag, another value
    is another default, and None takes the flag away: the method then runs at the default that it
    inherits.
    """
    default: object
    help: str
    low: float | None = None      # the least value allowed
    above: float | None = None    # or: only more than this
    high: float | None = None     # the largest
    choices: object = None        # or: one of these
    metavar: str | None = None
    kind: type | None = None      # int, float, bool or str; that of the default, if not given
    shown: bool = True

    def __post_init__(self):
        kind = str if self.default is None else type(self.default)
        object.__setattr__(self, "kind", self.kind or kind)

    def options(self):
        """What argparse is to know of it."""
        if self.kind is bool:
            return {"action": argparse.BooleanOptionalAction}
        if self.choices is not None:
            return {"choices": list(self.choices)}
        if self.kind is str:
            return {"metavar": self.metavar}
        return {"type": number(self.kind, self.low, self.high, self.above)}


def knobs(method):
    """{name: knob} of a method's class, each with the default that the class gives it."""
    found = {}
    for cls in reversed(method.__mro__):
        for name, value in vars(cls).items():
            if isinstance(value, knob):
                found[name] = value
            elif name in found and value is None:
                found[name] = replace(found[name], shown=False)
            elif name in found:
                found[name] = replace(found[name], default=value, shown=True)
    return found


def add_knobs(parser, method):
    """A method's knobs as flags of a parser. CommandError names one that does not fit."""
    for name, own in knobs(method).items():
        if not own.shown:
            continue
        if any(flag(name) in action.option_strings for action in parser._actions):
            raise CommandError(f"--method {parser.method}: its knob {name!r} is a flag already")
        options = own.options()
        value = own.default
        try:
            fits = value is None or own.choices is None or value in own.choices
            fits = fits and (own.kind is not bool or isinstance(value, bool))
            if value is not None and "type" in options:
                value = options["type"](str(value))
        except argparse.ArgumentTypeError:
            fits = False
        if not fits:
            allowed = options.get("choices", "a value that its knob allows")
            raise CommandError(f"--method {parser.method}: {name} = {value!r} is not {allowed}")
        parser.add_argument(flag(name), default=value, help=own.help, **options)


class Method:
    """What is not the algorithm about a method: its knobs as attributes, its random numbers, its
    counts and logged numbers, and what a resumed run needs. GRPO (grpo.py) is one."""
    paper = ""    # where the method is from
    columns = ()  # numbers of its own, for the CSV and the log line

    lr = knob(1e-3, "AdamW's learning rate", above=0)
    max_grad_norm = knob(1.0, "clip the gradient's norm to this", above=0)
    budget_rollouts = knob(0, "end with the step in which this many completions are sampled, if "
                           "--steps does not end it before; 0: never", low=0)
    micro_batch = knob(0, "prompts per pass through the model: a third more work, less memory; 0: "
                       "all", low=0)

    def __init__(self, policy, reference, tasks, *, seed=0, **settings):
        """policy is trained, reference is frozen; tasks is a list of (task name, cell) to train on,
        each with the same weight. settings are the method's knobs, by name."""
        self.policy, self.reference, self.tasks = policy, reference, tasks
        self.device = next(policy.parameters()).device
        self.rng = np.random.default_rng([seed, 1])                      # problems
        self.generator = torch.Generator(self.device).manual_seed(seed)  # sampled tokens
        self.rollouts = 0  # completions sampled so far
        self.turn = 0      # whose turn it is among the cells
        for name, own in knobs(type(self)).items():
            setattr(self, name, settings.pop(name, own.default))
        if settings:
            raise TypeError(f"{type(self).__name__} has no knob {', '.join(settings)}")
        if self.drop_zero_variance and self.kl != "none":
            raise CommandError(f"--drop-zero-variance --kl {self.kl}: a group with equal rewards "
                               "still has the gradient of the KL; leave one of the two out")
        self.longest = max(self.room(task, cell) for task, cell in tasks)  # completion, in tokens

    def room(self, task, cell):
        """Tokens that a completion may have: the solution's; one that goes on is wrong anyway."""
        return TASKS[task].solution_len(cell)

    def parameters(self):
        """What the optimizer trains; a variant with a critic adds the critic's."""
        return list(self.policy.parameters())

    def score(self, model, group, rows=slice(None)):
        """[rows, N]: log-probs of a group's tokens under a model, at the rollout temperature; 0
        after EOS."""
        logp = token_logprobs(model, group.tokens[rows], group.start, self.temperature, group.size,
                              self.micro_batch * group.size)
        return logp.masked_fill(group.mask[rows] == 0, 0.0)

    def mean(self, x, group):
        """Scalar mean of x [R, N], as `--aggregate` says; "constant" has one divisor for all cells,
        the longest room of those trained on."""
        return masked_mean(x, group.mask, self.aggregate, self.longest)

    def share(self, group, groups):
        """What a group's mean counts for in the step's: its share of the rows, or of the tokens;
        rows that were dropped (their mask is 0) do not count."""
        if self.aggregate == "token":
            return float(group.mask.sum() / sum(g.mask.sum() for g in groups))
        return len(group.tokens) / sum(int(g.mask.any(1).sum()) for g in groups)

    def zero_variance(self, group):
        """[P] bool: prompts whose completions all got the same reward."""
        return (group.rewards == group.rewards[:, :1]).all(dim=1)

    def drop_silent(self, groups):
        """Leave groups with equal rewards out of the loss's mean: their mask becomes 0."""
        for group in groups:
            silent = self.zero_variance(group).repeat_interleave(group.size)
            group.mask = group.mask.masked_fill(silent[:, None], 0.0)

    def clip_fraction(self, group, logp):
        """Share of tokens whose gradient the clip has cut, for the log."""
        A = group.advantages.view(len(group.tokens), -1)
        ratio = self.log_ratio(group, logp).exp()
        cut = ((ratio > 1 + self.clip_high) & (A > 0)) | ((ratio < 1 - self.clip_low) & (A < 0))
        return masked_mean(cut.float(), group.mask, "token").item()

    def numbers(self, groups):
        """What the log line says of a step's rollouts, as floats; the README explains them."""
        def rows(value):
            return torch.cat([value(group).flatten().float() for group in groups])

        length = rows(lambda g: g.mask.sum(1))
        surprise = rows(lambda g: -(g.old_logp * g.mask).sum(1))
        ended = rows(lambda g: (g.completions == EOS).any(1))
        numbers = {"reward": rows(lambda g: g.rewards).mean(),
                   "zero_std": rows(self.zero_variance).mean(),
                   "entropy": surprise.sum() / length.sum(),
                   "len": length.mean(), "stop": ended.mean()}
        if self.kl != "none":
            d = rows(lambda g: (g.ref_logp - g.old_logp) * g.mask)
            numbers["kl"] = (d.exp() - d - 1).sum() / length.sum()   # k3
        return {name: value.item() for name, value in numbers.items()}

    def describe(self, numbers):
        """The parts of the log line, the most important first; what is None is left out."""
        n = {name: value for name, value in numbers.items() if value is not None}
        parts = [f"reward {n['reward']:.2f}" if "reward" in n else f"loss {n['loss']:.3f}"]
        if "id" in n:
            parts.append(" ".join(f"{split} {n[split]:.2f}" for split in SPLITS))
        for name in (*self.columns, "kl", "zero_std", "entropy", "grad", "clip", "stop", "len"):
            if name in n:
                value = quantity(n[name]) if isinstance(n[name], int) else f"{n[name]:.2f}"
                parts.append(f"{name.replace('_', '-')} {value}")
        return parts

    def state(self):
        """What a checkpoint keeps beside weights and optimizer: with the random state in it, a
        resumed run draws what the uninterrupted one would have drawn. A variant with more to
        remember adds it here, and takes it back in load_state."""
        return {"numpy": self.rng.bit_generator.state, "torch": self.generator.get_state(),
                "rollouts": self.rollouts, "turn": self.turn}

    def load_state(self, state):
        self.rollouts, self.turn = state["rollouts"], state["turn"]
        self.rng.bit_generator.state = state["numpy"]
        self.generator.set_state(state["torch"].cpu())


# ------------------------------------------------------------------------------------------ runs

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
          f"python {script} --resume {shlex.quote(path)}", flush=True)
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
        if not os.path.exists(self.checkpoint):
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
        self.silent = self.silent + 1 if numbers["grad"] == 0 else 0
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


# ------------------------------------------------------------------------------- tables and charts

WIDTH = 100                     # columns that everything printed fits into
INDENT = 18                     # column where what stands beside a label begins
SHOWN = ("64", "1024", "2^20")  # the k that tables show beside 1


def families(task, axis):
    """The task names that --task stands for. CommandError if one of them has no such axis."""
    names = tasks.families(task)
    for name in names:
        if axis not in tasks.AXES[name]:
            there = ", ".join(tasks.AXES[name])
            raise CommandError(f"--axis {axis}: {name} has no such axis; it has {there}")
    return names


def check_context(where, context, names, axis):
    """Raise CommandError, naming where the context was set, if some cell of the axis, for one of
    the task names, does not fit into it."""
    for name in names:
        task, splits = tasks.TASKS[name], tasks.AXES[name][axis].values()
        need = max(task.prompt_len(c) + task.solution_len(c) for cells in splits for c in cells)
        if need > context:
            raise CommandError(f"{where}: a context of {context} tokens is too short for the "
                               f"{axis} axis of {name}, which needs {need}")


def names_of(paths):
    """Short distinct names for checkpoints: file names, with their folder where those collide.

    >>> names_of(["runs/base.pt", "runs/grpo.pt"]), names_of(["a/grpo.pt", "b/grpo.pt"])
    (['base', 'grpo'], ['a/grpo', 'b/grpo'])
    """
    bare = [os.path.splitext(path)[0] for path in paths]
    for names in ([os.path.basename(path) for path in bare], bare):
        if len(set(names)) == len(names):
            return names
    return list(paths)


def show_k(k):
    """
    >>> show_k(64), show_k(2 ** 20)
    ('64', '2^20')
    """
    return f"2^{int(math.log2(k))}" if k >= 4096 else str(k)


def probability(p):
    """
    >>> [probability(p) for p in (0, 3e-9, 0.00004, 0.0123, 0.9999, 1)]
    ['0', '3e-09', '4e-05', '0.012', '1.000', '1']
    """
    if p in (0, 1):
        return f"{p:.0f}"
    return f"{p:.3f}" if p >= 0.0005 else f"{p:.0e}"


def percent(share):
    """A share in percent that is 0 or 100 only if it is none or all.

    >>> [percent(s) for s in (0, 0.001, 0.034, 0.97, 0.999, 1)]
    ['0', '<1', '3', '97', '>99', '100']
    """
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 < share < 1 else f"{100 * share:.0f}"


def shorten(text, width):
    """Text of at most that width, by leaving out its middle.

    >>> shorten("grpo.step0012", 20), shorten("a_long_name.step0012", 13)
    ('grpo.step0012', 'a_lo…step0012')
    """
    if len(text) <= width:
        return text
    front = (width - 1) * 2 // 5  # the end tells more: a step, a seed
    return text[:front] + "…" + text[len(text) - (width - 1 - front):]


def labelled(label, text, indent=INDENT):
    """A label and, from column `indent` on, text, in lines of at most WIDTH columns."""
    return textwrap.fill(text, WIDTH, initial_indent=shorten(label, indent - 1).ljust(indent),
                         subsequent_indent=" " * indent)


def table(rows, header, text=3):
    """Columns aligned: the first `text` of them to the left, the others, numbers, to the right.

    Where a line would be longer than WIDTH, the widest of the first columns is cut in the middle.

    >>> print(table([["id", "base", 0.5], ["hard", "tuned", 0.25]], ["split", "model", "mass"], 2))
    split  model  mass
    ------------------
    id     base    0.5
    hard   tuned  0.25
    """
    rows = [[str(x) for x in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    excess = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    for _ in range(excess):
        widest = max(range(text), key=lambda i: widths[i])
        widths[widest] = max(4, widths[widest] - 1)
    lines = []
    for row in rows:
        left = [shorten(x, width).ljust(width) for x, width in zip(row[:text], widths)]
        right = [x.rjust(width) for x, width in zip(row[text:], widths[text:])]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def chart(series, ks, height=12, width=63):
    """pass@k against k as lines of text: series {label: [mean pass@k at each k]}; k on a log scale,
    0 to 1 upward."""
    marks = string.ascii_letters
    grid = [[" "] * width for _ in range(height)]
    spread = math.log(ks[-1] / ks[0])
    for mark, values in zip(marks, series.values()):
        for k, value in zip(ks, values):
            column = round(math.log(k / ks[0]) / spread * (width - 1))
            row = round((1 - value) * (height - 1))
            grid[row][column] = mark if grid[row][column] in (" ", mark) else "*"
    lines = [f"{1 - i / (height - 1):5.2f} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    axis = [" "] * (width + 6)
    for power in range(0, 1 + int(math.log2(ks[-1])), 4):
        label = f"2^{power}"
        at = round(power * math.log(2) / spread * (width - 1))
        axis[at:at + len(label)] = label
    lines += ["      +" + "-" * width, "       " + "".join(axis).rstrip() + "   k",
              "      chance per prompt of a right answer in k tries"]
    lines += [f"      {mark} = {shorten(label, WIDTH - 10)}" for mark, label in zip(marks, series)]
    return "\n".join([*lines, "      * = several"])


def status(text=""):
    """Show text in place of the last status; without text take it away. Only on a terminal."""
    if sys.stdout.isatty():
        print("\r" + shorten(text, 79).ljust(79) + "\r", end="", flush=True)


def record_table(records, models, args):
    """evaluate.py's summary of one family as a table: the models in every cell, the base sampled
    colder in all cells of a split only."""
    task, axis, base = records[0]["task"], records[0]["axis"], next(iter(models))
    rows = []
    for r in records:
        cells, whole = tasks.AXES[task][axis][r["split"]], r["cell"] == "all"
        if not whole and (len(cells) == 1 or r["model"] not in models):
            continue
        small = any(tasks.TASKS[task].enumerated(c) for c in cells if whole or str(c) == r["cell"])
        rows.append([r["split"], r["cell"] + "*" * small, r["model"], *numbers_of(r)])
        if "sampled" in r:
            found = [f"{r['sampled'][k]:.3f}" if k in r["sampled"] else "" for k in ("1", *SHOWN)]
            rows.append(["", "", f"sampled, {args.samples} each", *found, "", "", ""])
    header = ["split", "cell", "model", "pass@1 = mass", *(f"@{k}" for k in SHOWN),
              "fell", "stop", "entropy"]
    lines = [f"\n{task}, {axis} axis: exact pass@k at temperature {args.temperature:g}, "
             f"{args.prompts} prompts a cell,",
             "with a bootstrap 95 % interval of pass@1 over prompts", table(rows, header)]
    if any(row[1].endswith("*") for row in rows):
        lines.append("* includes cells too small to keep prompts from training (under "
                     f"{tasks.Task.ENUMERATED_BELOW:,} problems)")
    return "\n".join([*lines, f"fell: share of prompts with less mass than {shorten(base, 40)} has",
                      "stop: share of samples that end; entropy: nats per token"])


def numbers_of(record):
    """The numbers of a row of that table, as texts."""
    mass, low, high = (record[key]["1"] for key in ("pass", "low", "high"))
    shares = [record.get(key) for key in ("fell", "stop", "entropy")]
    return [f"{mass:.3f} [{low:.3f}, {high:.3f}]", *(probability(record["pass"][k]) for k in SHOWN),
            *("" if share is None else f"{share:.2f}" for share in shares)]


def mass_chart(models, masses):
    """Mean pass@k of every family, split and model, from {family: {model: {split: {cell: log
    masses [n]}}}}, as a chart."""
    ks, curves = [2 ** i for i in range(21)], {}
    for task, by_model in masses.items():
        for split in tasks.SPLITS:
            for name in models:
                label = f"{split}, {name}" if len(masses) == 1 else f"{task} {split}, {name}"
                every = np.concatenate(list(by_model[name][split].values()))
                curves[label] = [exact_pass_at_k(every, k).mean() for k in ks]
    return "\n" + chart(curves, ks)


def analysis_tables(records):
    """evaluate.py's analyses of one family as four tables."""
    thresholds = [key for key in records[0]["coverage"] if key != "0.001"]
    texts = list(records[0]["perplexity"])
    covered, gaps, spreads, matched = [], [], [], []
    for r in records:
        place, gap = [r["split"], r["model"]], r["gap"]
        covered.append(place + ["|".join(map(percent, r["coverage"][key].values()))
                                for key in thresholds])
        gaps.append(place + [f"{gap['base']:.3f}", f"{gap['tuned']:.3f}",
                             f"{gap['gap']:.3f} [{gap['low']:.3f}, {gap['high']:.3f}]"])
        spreads.append(place + [f"{brief(r['perplexity'][text]['median'])} / "
                                f"{brief(r['perplexity'][text]['90%'])}" for text in texts])
        matched += [[r["split"], *matched_row(row)] for row in r["temperatures"]]
    r = records[0]
    return "\n".join([
        f"\n{r['task']}, {r['axis']} axis: each checkpoint beside the first, the base",
        "\ncoverage: % of prompts solved by base only | tuned only | both | neither. Solved: mass",
        f"of at least that; {TRIES} tries are even odds at {solvable_mass(TRIES):.4f}",
        table(covered, ["split", "tuned", *thresholds], text=2),
        f"\nefficiency gap: base pass@{TRIES} - tuned pass@1, bootstrap 95 % interval over prompts",
        table(gaps, ["split", "tuned", f"base @{TRIES}", "tuned @1", "gap"], text=2),
        "\nperplexity per token of each one's own samples and of the solution (gold),",
        "median / 90th percentile over completions",
        table(spreads, ["split", "tuned", *(text.replace(" on ", ": ") for text in texts)], text=2),
        "\nmatched temperature: exact pass@k of both, and of each at the temperature T where its",
        "entropy (nats per token) is the other's",
        table(matched, ["split", "model", "as random as", "T", "entropy", "@1",
                        *(f"@{k}" for k in SHOWN)])])


def matched_row(row):
    """The texts of one record of measure.matched_passes, from its model on."""
    name, _, other = row["model"].partition(", as random as ")
    if row["temperature"] is None:
        return [name, other, "none", *[""] * (2 + len(SHOWN))]
    return [name, other, f"{row['temperature']:.2f}", f"{row['entropy']:.3f}",
            *(probability(row["pass"][k]) for k in ("1", *SHOWN))]


def brief(x):
    """
    >>> brief(1.2345), brief(4567.8), brief(3e300)
    ('1.23', '4568', '3e+300')
    """
    if x < 1000:
        return f"{x:.3g}"
    return f"{x:.0f}" if x < 1e4 else f"{x:.0e}"


def step_table(records):
    """evaluate.py's probabilities of single steps as a table."""
    rows = []
    for r in records:
        numbers = ["" if r[key] is None else f"{r[key]:.3f}" for key in ("base", "tuned", "law")]
        rows.append([r["cell"], r["arm"], r["prefix"], r["step"], *numbers])
    return "\n".join([
        "\nprobability of the next whole step: the right one after right steps, or the one that",
        "follows from a wrong first state",
        table(rows, ["cell", "model", "prefix", "step", "base", "tuned", "law"])])


def can_colour(stream):
    """True if the stream is a terminal that shows colours to someone who wants them (NO_COLOR is
    not set: no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def colour(text, p):
    """Text in the terminal's green if the probability p is at least 0.9, yellow from 0.1 on, red
    below."""
    code = 31
    if p >= 0.1:
        code = 33
    if p >= 0.9:
        code = 32
    return f"\x1b[{code}m{text}\x1b[0m"


def token_table(tokens, rows, coloured=False):
    """Tokens (texts) in a line, and below each its probabilities, from rows {label: [p]}; in as
    many such blocks as it takes to fit WIDTH.

    >>> print(token_table(["4", "2", "<eos>"], {"base": [1.0, 0.5, 2e-7], "tuned": [1, 0.75, 0]}))
                            4      2  <eos>
      base                  1  0.500  2e-07
      tuned                 1  0.750      0
    """
    width, lines = 7, []
    per_line = (WIDTH - INDENT) // width
    for start in range(0, len(tokens), per_line):
        part = slice(start, start + per_line)
        lines.append(" " * INDENT + "".join(token.rjust(width) for token in tokens[part]))
        for label, values in rows.items():
            cells = [probability(p).rjust(width) for p in values[part]]
            if coloured:
                cells = [colour(cell, p) for cell, p in zip(cells, values[part])]
            lines.append(f"  {shorten(label, INDENT - 3)}".ljust(INDENT) + "".join(cells))
    return "\n".join(lines)


def mark_wrong(task, prompt, solution, written):
    """One completion [N] as text, each step that differs from the solution [S] marked with ✗.

    >>> task = tasks.TASKS["arithmetic"]
    >>> texts = "<bos> 31 [+1][+1] =", "42 ; 53 <eos>", "42 ; 54 <eos> <pad>"
    >>> prompt, solution, written = (np.array(tasks.encode(text)) for text in texts)
    >>> mark_wrong(task, prompt, solution, written)
    '42 ; ✗54 <eos>'
    """
    written, solution = list(written), list(solution)
    while written and written[-1] == tasks.PAD:
        written.pop()
    starts = [0, *map(int, task.layout(prompt[None])[0][:-1])]
    pieces = []
    for start, end in zip(starts, [*starts[1:], None]):
        step = written[start:end]
        if step:
            mark = "" if step == solution[start:end] else "✗"
            pieces.append(mark + tasks.decode(step))
    return " ".join(pieces)


def show_problem(models, task, problem, temperature, samples, generator):
    """Print one problem (Problems of one row): each token of its solution with the probability that
    every model {name: model} gives it, and what each of them writes itself."""
    (prompt, solution), family = (x[0] for x in problem), tasks.TASKS[task]
    solvable = (solution >= 0).all()
    print(labelled("  prompt", tasks.decode(prompt), 12))
    print(labelled("  solution", tasks.decode(solution) if solvable else "it has none", 12))
    if solvable:
        rows = {name: np.exp(solution_logp(model, *problem, temperature)[0])
                for name, model in models.items()}
        tokens = [tasks.decode([token]) for token in solution]
        print(token_table(tokens, rows, can_colour(sys.stdout)))
    for name, model in models.items():
        if solvable:
            lm = log_mass(model, *problem, temperature)[0]
            tries = "".join(f", pass@{show_k(k)} {probability(exact_pass_at_k(lm, k))}"
                            for k in (64, 2 ** 20))
            print(f"  {shorten(name, 40)}: exact mass {probability(np.exp(lm))}{tries}")
        else:
            print(f"  {shorten(name, 40)}")
        prompts = torch.as_tensor(problem.prompts, device=next(model.parameters()).device)
        for label, t, n in (("greedy", 0, 1), ("sample", temperature, samples)):
            written, logp = generate(model, prompts, len(solution), t, n, generator)
            for tokens, p in zip(written.tolist(), logp.sum(1).exp().tolist()):
                text = mark_wrong(family, prompt, solution, tokens)
                text += f"   p = {probability(p)}" if t else ""
                print(labelled(f"    {label}", text, 12))


def show_problems(models, names, axis, args, generator):
    """evaluate.py --show N: the first problems of each split of an axis."""
    for task in names:
        for split in tasks.SPLITS:
            cells = tasks.AXES[task][axis][split]
            for i in range(args.show):
                cell = cells[i % len(cells)]
                prompts, solutions = eval_problems(task, cell, args.prompts)
                row = i // len(cells) % len(prompts)
                print(f"\n{task} {split}, {cell}")
                problem = tasks.Problems(prompts[row:row + 1], solutions[row:row + 1])
                show_problem(models, task, problem, args.temperature, 1, generator)
    print("\n✗ marks a step that differs from the solution; "
          "an early error makes all later states wrong too")


def complete_prompt(models, args, generator):
    """evaluate.py --prompt TEXT: the same for a prompt typed by hand, and more samples."""
    task, problem = typed_problem(args.prompt)
    (_, P), (_, S) = (x.shape for x in problem)
    room = min(model.config.context for model in models.values())
    if P + S > room:
        raise CommandError(f"--prompt: {P} tokens and a solution of {S} do not fit the "
                           f"checkpoint's context of {room}")
    show_problem(models, task, problem, args.temperature, args.samples or 4, generator)


def typed_problem(text):
    """(task name, Problems of one row) of a prompt typed by hand; <bos> and the last = may be
    missing. Raises CommandError with what every family says of it, if none knows it."""
    try:
        ids = tasks.encode(text)
    except ValueError as error:
        raise CommandError(f"--prompt: {error}") from None
    if ids[:1] != [tasks.BOS]:
        ids = [tasks.BOS, *ids]
    if ids[-1:] != [tasks.EQUALS]:
        ids = [*ids, tasks.EQUALS]
    prompt, refusals = np.array([ids]), []
    for name, task in tasks.TASKS.items():
        try:
            return name, tasks.Problems(prompt, task.solutions(prompt))
        except ValueError as error:
            refusals.append(str(error))
    raise CommandError("--prompt: " + "; ".join(refusals))
