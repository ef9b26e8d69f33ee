"""Flags, one-line errors, devices, and what a resumed run keeps."""
import argparse
import difflib
import functools
import os
import shlex
import sys
from argparse import ArgumentTypeError
from dataclasses import dataclass

import numpy as np
import torch

import tasks
import cli.ranks as ranks
from cli.early import restore_ctrl_c
from cli.memory import keep_freed_memory, limit_memory, machine_memory, out_of_memory
from cli.restore import check_run
from model import CheckpointError, load_checkpoint


WIDTH = 100  # columns that everything printed fits into


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

    def parse_known_args(self, args=None, namespace=None):
        self.check_words(arguments(args))
        return super().parse_known_args(args, namespace)

    def check_words(self, words):
        """CommandError for what argparse takes amiss: a value that is empty, or --; a list that is
        given twice, of which it would keep the second."""
        given = [word.partition("=") for word in words]
        for i, (name, equals, value) in enumerate(given):
            if not name:
                before = words[i - 1] if i else ""
                raise CommandError(f"{before} {words[i]!r}: is empty; leave it out, or give it a "
                                   "value")
            if name[:2] == "--" and equals and value in ("", "--"):
                raise CommandError(f"{shown(name)}={value}: is empty; leave it out, or give it a "
                                   "value")
        names = [name for name, _, _ in given]
        for action in self._actions:
            twice = sum(names.count(option) for option in action.option_strings) > 1
            if twice and action.nargs in ("+", "*"):
                raise CommandError(f"{action.option_strings[0]}: is given twice; give it once, "
                                   "with all of its values")

    def error(self, message):
        flag, _, problem = message.removeprefix("argument ").partition(": ")
        if ": must be " in problem:  # of a number: the flag and its value, as they were typed
            raise CommandError(f"{flag} {problem}")
        words = message.split()
        if words[:2] == ["unrecognized", "arguments:"]:
            known = [name for action in self._actions for name in action.option_strings]
            given = next((word for word in words[2:] if word.startswith("-")), words[2])
            message += did_you_mean(given.partition("=")[0], known)
        where = f"--method {self.method} --help" if self.method else "--help"
        raise CommandError(f"{message} ({where} lists the flags)")


def did_you_mean(word, known):
    """The end of an error about an unknown name: the known one that is nearest to it, if any is.

    >>> did_you_mean("--stpes", ["--seed", "--steps"]), did_you_mean("xyz", ["grpo", "dapo"])
    ('; is it --steps?', '')
    """
    close = difflib.get_close_matches(word, known, 1)
    return f"; is it {close[0]}?" if close else ""


# What makes each script lighter, said when it has run out of memory.
LIGHTER = {
    "pretrain.py": "--batch-size, --eval-prompts, --width or --layers",
    "finetune.py": "--prompts-per-step, --group-size or --eval-prompts, or set --micro-batch",
    "evaluate.py": "--prompts or --samples",
    "bench.py": "--prompts, --group-size, --width or --layers",
    "study.py": "--jobs or --prompts",
}


def script(main):
    """Make `main(argv=None)` a command: what the user can mend is one line on stderr and exit
    status 2."""
    @functools.wraps(main)
    def wrapped(argv=None):
        restore_ctrl_c()
        for stream in (sys.stdout, sys.stderr):  # without UTF-8, ? stands for what cannot be shown
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        name = os.path.basename(main.__code__.co_filename)
        try:
            with ranks.joined(name):
                return main(argv)
        except (CommandError, CheckpointError, ranks.RankError) as error:
            message = str(error)
        except KeyboardInterrupt:  # training loops save before this; here nothing can be lost
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # `python evaluate.py ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except OSError as error:
            message = f"{error.filename or 'file system'}: {error.strerror}"
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            message = f"out of memory; lower {LIGHTER.get(name, 'the sizes')}"
        message = " ".join(message.split())  # one line, whatever a file is called
        if ranks.says_why():
            print(f"{name}: error: {message}", file=sys.stderr, flush=True)
        raise SystemExit(2)
    return wrapped


# ------------------------------------------------------------------------------ types of flags

@dataclass(frozen=True)
class number:
    """An argparse type: an int or float from low, or above that, to high; or 0 all the same.

    Every number has a range, so that no slip of a finger hangs or overflows. What is not said is a
    million; a float that may be infinite has high=math.inf.

    >>> number(int, 8, 4096)("64"), number(float, 0.01, 100, or_zero=True)("0")
    (64, 0.0)
    """
    kind: type
    low: float | None = None
    high: float = 1_000_000
    above: float | None = None
    or_zero: bool = False

    def __call__(self, text):
        try:
            value = self.kind(text)
        except ValueError:
            what = "a whole number " if self.kind is int else "a number "
            raise ArgumentTypeError(f"{shown(text)!r}: must be {what}{self.range()}") from None
        if not self.allows(value):
            raise ArgumentTypeError(f"{shown(text)}: must be {self.range()}")
        return value

    def allows(self, value):
        if self.or_zero and value == 0:
            return True
        if self.above is not None:
            return self.above < value <= self.high
        return self.least() <= value <= self.high  # what is not a number is in no range

    def least(self):
        return -self.high if self.low is None else self.low

    def range(self):
        """What is allowed, in words."""
        zero = "0, or " if self.or_zero else ""
        if self.above is not None:
            return f"{zero}above {self.above} and at most {self.high}"
        return f"{zero}between {self.least()} and {self.high}"


def shown(text, width=40):
    """A value as an error shows it, however long it is."""
    return text if len(text) <= width else text[:width - 3] + "..."


count = number(int, 1)                          # 1, 2, ...
natural = number(int, 0)                        # 0, 1, ...
size = number(int, 1, 65_536)                   # how many there are at once: prompts, samples
seed = number(int, 0, 2 ** 32 - 1)
share = number(float, 0, 1)                     # a probability
positive = number(float, above=0)
nonnegative = number(float, 0)
learning_rate = number(float, above=0, high=10)
temperature = number(float, 0.01, 100)          # far from where a logit divided by it overflows
greedy_too = number(float, 0.01, 100, or_zero=True)


def add_size_flags(parser):
    """The sizes of a new model, with those of the reference work by default."""
    add = parser.add_argument
    add("--layers", type=number(int, 1, 128), default=2, help="blocks")
    add("--heads", type=number(int, 1, 256), default=4, help="attention heads")
    add("--width", type=number(int, 8, 4096), default=64, help="embedding width")


def add_task_flags(parser, task=None, axis=None, whose=None):
    """--task and --axis, with these defaults, or with a word on whose they are by default."""
    otherwise = f" (default: {whose})" if whose else ""
    parser.add_argument("--task", choices=[*tasks.TASKS, "both"], default=task,
                        help=f"task family{otherwise}")
    parser.add_argument("--axis", choices=sorted({a for t in tasks.TASKS.values() for a in t.axes}),
                        default=axis, help=f"which axis has id, edge and hard cells{otherwise}")


def add_run_flags(parser, eval_every, log_every):
    """The flags that every training script has in common."""
    add = parser.add_argument
    add("--seed", type=seed, default=0, help="seed of weights, data and sampling")
    add("--resume", nargs="?", const=True, metavar="CKPT",
        help="continue the run saved in CKPT (default: --out) with its own flags; bit for bit at "
             "the same --threads")
    add_overwrite_flag(parser)
    add("--save-every", type=count, default=100, metavar="N", help="save every N steps")
    add("--eval-every", type=natural, default=eval_every, metavar="N",
        help="measure exact mass every N steps; 0: at the end only")
    add("--eval-prompts", type=size, default=64, metavar="N", help="prompts per cell for that")
    add("--log-every", type=count, default=log_every, metavar="N",
        help="print a line every N steps (the CSV has every step)")
    add_device_flags(parser)
    add_speed_flags(parser)


def add_overwrite_flag(parser):
    parser.add_argument("--overwrite", action="store_true",
                        help="replace what is there, also if it is not of this very command")


def add_device_flags(parser, threads=1):
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="cpu",
                        help="where to compute; auto takes a GPU if there is one")
    parser.add_argument("--threads", type=number(int, 0, 256), default=threads, metavar="N",
                        help="CPU threads; models this small gain little from a second one, and "
                             "lose much on a busy machine; 0: torch's choice (another number "
                             "changes the last bits)")


def add_speed_flags(parser):
    parser.add_argument("--compile", action="store_true",
                        help="compile the blocks; takes a minute on a CPU")
    parser.add_argument("--bf16", action="store_true",
                        help="matrix products in bfloat16: faster where the hardware has it, "
                             "coarser log-probs")


def set_device(args):
    """torch.device of --device, after setting --threads."""
    keep_freed_memory()
    if args.device == "cpu":  # a GPU's driver reserves more than there is
        limit_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    there = ["cuda"] if torch.cuda.is_available() else []
    there += ["mps"] if torch.backends.mps.is_available() else []
    there += ["cpu"]
    name = there[0] if args.device == "auto" else args.device
    if name not in there:
        raise CommandError(f"--device {name}: not available here; there is {', '.join(there)}")
    if name == "cuda":
        ranks.take_gpu()
    return torch.device(name)


# Flags that a resumed run may change: none changes what is computed, but for the last bits.
MAY_DIFFER = ("out", "overwrite", "resume", "device", "threads", "log_every", "save_every",
              "keep_every")


def arguments(argv):
    """The command line as a list: what main(argv) was given, or what the shell gave."""
    return sys.argv[1:] if argv is None else list(argv)


def resumed(argv, out):
    """(path, model, extra) of the run that --resume names on the command line, or None. `out` is
    the script's default --out."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--resume", nargs="?", const=True)
    first.add_argument("--out", nargs="?", default=out)
    given, _ = first.parse_known_args(argv)
    path = given.out if given.resume is True else given.resume
    if not path:
        return None
    model, extra = load_checkpoint(path)
    if isinstance(extra.get("script"), str):  # or it is another program's, which `parse` says
        check_run(path, model, extra)
    return path, model, extra


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
    check_flags(parser, where, extra["args"])
    extra = ranks.own_part(where, extra)
    merged = parser.parse_args(argv, argparse.Namespace(**{**extra["args"], "overwrite": False}))
    before = extra["args"]["steps"]
    if extra["finished"] and (merged.steps <= before or extra["step"] < before):
        more = "more --steps go on from there" if extra["step"] == before else "before its --steps"
        raise CommandError(f"{where} that run is finished, after {extra['step']} steps ({more})")
    for key, value in extra["args"].items():
        if key == "steps" and merged.steps > value:
            continue  # a run may go on for longer than it was to
        if key not in MAY_DIFFER and getattr(merged, key) != value:
            raise CommandError(f"{flag(key)} {getattr(merged, key)}: {path} was started with "
                               f"{flag(key)} {value}; a resumed run keeps its flags (leave it out, "
                               "or start a new run)")
    given = parser.parse_args(argv, argparse.Namespace(out=None)).out
    if path.endswith(f".step{extra['step']:04d}.pt") and given in (None, path):
        raise CommandError(f"{where} is a step that --keep-every has kept, and stays as it is; "
                           "name an --out to go on from it")
    if extra["step"] >= before and not extra["finished"]:
        raise CommandError(f"{where} is damaged: step {extra['step']} of {before}, not finished")
    merged.out, merged.resume = given or path, path
    return merged, (model, extra)


def check_flags(parser, where, flags):
    """Raise CommandError unless the flags {name: value} that a checkpoint holds are such that the
    parser could have given them."""
    try:
        given = vars(parser.parse_args(words_of(parser, argparse.Namespace(**flags))))
    except CommandError as error:
        raise CommandError(f"{where} its flags are damaged: {error}") from None
    for name, value in flags.items():
        if repr(given.get(name)) != repr(value) and name not in ("resume", "overwrite"):
            raise CommandError(f"{where} its flags are damaged: {flag(name)} {value!r}")


def flag(name):
    return "--" + name.replace("_", "-")


def command(parser, args):
    """The command line that repeats a run."""
    return shlex.join([*ranks.launcher(), parser.prog, *words_of(parser, args)])


def words_of(parser, args):
    """[str]: every flag that differs from its default, with its values."""
    words = []
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if action.dest in ("help", "resume", "overwrite") or value == action.default:
            continue
        if value is False:
            words.append("--no-" + flag(action.dest)[2:])
        elif value is True:
            words.append(flag(action.dest))
        else:
            values = list(map(str, value if isinstance(value, list) else [value]))
            if values[:1] and values[0].startswith("-"):  # else argparse takes it for a flag
                words.append(f"{flag(action.dest)}={values[0]}")
            else:
                words += [flag(action.dest), *values]
    return words


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
    names = tasks.families(task)
    for name in names:
        if name not in list(tasks.TASKS):  # a checkpoint may name anything
            raise CommandError(f"--task {name}: there is {', '.join(tasks.TASKS)} or both")
        if axis not in list(tasks.AXES[name]):
            there = ", ".join(tasks.AXES[name])
            raise CommandError(f"--axis {axis}: {name} has no such axis; it has {there}")
    return names


def check_context(where, context, names, axis, known=len(tasks.VOCAB)):
    """Raise CommandError, naming where the context was set, if some cell of the axis, for one of
    the task names, does not fit into it, or has tokens beyond the `known` first ones."""
    for name in names:
        task, splits = tasks.TASKS[name], tasks.AXES[name][axis].values()
        need = max(task.prompt_len(c) + task.solution_len(c) for cells in splits for c in cells)
        if need > context:
            raise CommandError(f"{where}: a context of {context} tokens is too short for the "
                               f"{axis} axis of {name}, which needs {need}")
        if known == len(tasks.VOCAB):
            continue
        drawn = [task.sample(c, 64, np.random.default_rng(0)) for cells in splits for c in cells]
        last = max(int(tokens.max()) for problems in drawn for tokens in problems)
        if last >= known:
            raise CommandError(f"{where}: knows the first {known} tokens only, and {name} also has "
                               f"{tasks.VOCAB[last]}")


def check_memory(config):
    """Raise CommandError before the work if a model of this GPTConfig cannot be trained here:
    weights, gradients and two averages of them, four bytes each."""
    weights = 12 * config.n_layer * config.n_embd ** 2
    need, there = 16 * weights, machine_memory()
    if need > there:
        raise CommandError(f"--layers {config.n_layer} --width {config.n_embd}: to train "
                           f"{weights / 1e9:.1f} billion weights takes {need / 1e9:.0f} GB, and "
                           f"there are {there / 1e9:.0f}; lower one of the two")


def check_same_model(where, theirs, ours):
    """Raise CommandError, naming where it was set, if a model's GPTConfig is not that of the model
    to train: the two must read the same tokens, and one's weights fit into the other."""
    for name, value in vars(ours).items():
        if getattr(theirs, name) != value:
            raise CommandError(f"{where}: has {name} {getattr(theirs, name)}, must be --init's "
                               f"{value}")
