"""cli.py: what scripts and methods need at their edges. Flags, knobs, one-line errors, devices,
Ctrl-C, the log line and its CSV, tables and charts. No idea is in here; read it last.
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
from dataclasses import dataclass, replace

import numpy as np
import torch

from model import CheckpointError, load_checkpoint, masked_mean, token_logprobs
from tasks import AXES, EOS, SPLITS, TASKS
from tasks import families as families_of


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


def families(task, axis):
    """The task names that --task stands for. CommandError if one of them has no such axis."""
    for name in families_of(task):
        if axis not in AXES[name]:
            raise CommandError(f"--axis {axis}: {name} has no such axis; it has "
                               f"{', '.join(AXES[name])}")
    return families_of(task)


def check_context(where, context, names, axis):
    """CommandError, naming where the context was set, if some cell of the axis does not fit it."""
    for name in names:
        cells = [cell for split in AXES[name][axis].values() for cell in split]
        need = max(TASKS[name].prompt_len(c) + TASKS[name].solution_len(c) for c in cells)
        if need > context:
            raise CommandError(f"{where}: a context of {context} tokens is too short for the "
                               f"{axis} axis of {name}, which needs {need}")


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
            value = options["type"](str(value)) if "type" in options else value
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


class Log:
    """A run's numbers: every step to a CSV beside the checkpoint, one dense line to the terminal,
    with an ETA.

    On resume the CSV is cut back to the checkpoint's step, so an interrupted run leaves the rows of
    an undisturbed one.
    """
    TIMING = ("tokens_per_s", "seconds")  # the only columns that differ between two equal runs

    def __init__(self, checkpoint, columns, steps, start=0, seconds=0.0):
        path = os.path.splitext(checkpoint)[0] + ".csv"
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

    def announce(self, path, start, save):
        """Say where the run begins, and make sure that from its first moment there is a checkpoint
        to load."""
        if start:
            print(f"resumed at step {start}/{self.steps}", flush=True)
        elif os.path.exists(path):
            print(f"note: {path} exists; its CSV starts anew now, and it is replaced\n"
                  "at this run's first save (--resume would continue it)", flush=True)
        if not os.path.exists(path):
            save(start)

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
