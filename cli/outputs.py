"""What a run may write, and who may write it: one writer per output, and nothing replaced that is
another's."""
import contextlib
import csv
import glob
import hashlib
import io
import os
import platform
import re
import shlex
import sys

from cli.flags import MAY_DIFFER, CommandError
from model import CheckpointError, load_checkpoint, write_atomically

try:
    import fcntl
except ImportError:  # there is none on Windows: nothing is locked there
    fcntl = None


# --------------------------------------------------------------------------- the files of one run

def stem(path):
    """A checkpoint's path without its .pt: what the other files of its run are named after.

    >>> stem("runs/base.pt"), stem("runs/base.tuned")
    ('runs/base', 'runs/base.tuned')
    """
    return path.removesuffix(".pt")


def log_path(checkpoint):
    """The CSV beside a run's checkpoint.

    >>> log_path("runs/base.pt"), log_path("runs/base.tuned")
    ('runs/base.csv', 'runs/base.tuned.csv')
    """
    return stem(checkpoint) + ".csv"


def kept_path(checkpoint, step):
    """What --keep-every calls the checkpoint of a step.

    >>> kept_path("runs/grpo.pt", 20)
    'runs/grpo.step0020.pt'
    """
    return f"{stem(checkpoint)}.step{step:04d}.pt"


def checkpoints_of(args):
    """The checkpoints that a run will write: --out, and of --keep-every those that are there."""
    kept = []
    if getattr(args, "keep_every", 0):
        kept = sorted(glob.glob(glob.escape(stem(args.out)) + ".step[0-9]*.pt"))
    return [args.out, *kept]


def same_file(a, b):
    """Whether two paths name one file, there or not, through links too."""
    if os.path.exists(a) and os.path.exists(b):
        return os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def sweep(checkpoint):
    """Remove what killed processes left of files that they had begun to write for this run. Only
    whoever holds its lock may."""
    ours = re.compile(r"(\.pt|\.csv|\.step\d+\.pt)?\.\d+\.tmp")
    for path in (checkpoint, log_path(checkpoint)):
        start = os.path.splitext(os.path.realpath(path))[0]
        for partial in glob.glob(glob.escape(start) + "*.tmp"):
            if ours.fullmatch(partial[len(start):]):
                with contextlib.suppress(OSError):
                    os.remove(partial)


# ------------------------------------------------------------------------------ who is this run's

def identity(parser, args):
    """Which run a command makes, as text: its flags and seed, but for --steps, which may grow, and
    those that change nothing of what is computed. It stands in checkpoint and CSV."""
    flags = {name: value for name, value in vars(args).items()
             if name not in MAY_DIFFER and name != "steps"}
    digest = hashlib.sha256(repr(sorted(flags.items())).encode()).hexdigest()
    return f"{parser.prog.removesuffix('.py')}-{digest[:8]}"


def read_table(path):
    """(header, rows as dictionaries) of a run's CSV, as far as its lines are whole; ([], []) if
    there is none."""
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            whole, end, _ = file.read().rpartition("\n")
        reader = csv.DictReader(io.StringIO(whole + end, newline=""))
        return list(reader.fieldnames or []), list(reader)
    except FileNotFoundError:
        return [], []
    except csv.Error:  # not a table at all
        return ["?"], []


def is_checkpoint_of(path, run):
    try:
        return load_checkpoint(path)[1].get("run") == run
    except CheckpointError:
        return False


def is_table_of(path, run):
    header, rows = read_table(path)
    return header[-1:] == ["run"] and all(row["run"] == run for row in rows)


def check_ours(args, run, begun=False):
    """Raise CommandError if a file that this run will write is there and of another run, unless
    --overwrite says that it may go. Of a run that has just begun the CSV may still be another's:
    its turn comes after the checkpoint's."""
    theirs = [path for path in checkpoints_of(args)
              if has_content(path) and not is_checkpoint_of(path, run)]
    log = log_path(args.out)
    if has_content(log) and not begun and not is_table_of(log, run):
        theirs.append(log)
    if theirs and not args.overwrite:
        raise CommandError(f"--out {args.out}: {theirs[0]} is there, and not of this run (this "
                           "command and seed); --overwrite replaces it")


def has_content(path):
    return os.path.exists(path) and os.path.getsize(path) > 0


# ------------------------------------------------------------------------- where it may be written

def inputs_of(parser, args):
    """[(flag, path)] of every checkpoint that a command reads."""
    found = []
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        if action.metavar == "CKPT" and action.dest != "resume" and value:
            paths = value if isinstance(value, list) else [value]
            found += [(action.option_strings[0], path) for path in paths]
    return found


def check_out(parser, args):
    """Raise CommandError, before any work, unless a run can write its files at --out, and they are
    none of those that it reads."""
    if args.out.lower().endswith(".csv"):
        raise CommandError(f"--out {args.out}: that is what the run's log would be called; name a "
                           "checkpoint, such as NAME.pt")
    for path in [*checkpoints_of(args), log_path(args.out)]:
        check_other("--out", path, inputs_of(parser, args))
    check_place("--out", args.out)


def check_other(flag, path, inputs):
    """Raise CommandError if path is one of the inputs [(flag, path)], or the log of one."""
    for other, theirs in inputs:
        if same_file(path, theirs) or same_file(path, log_path(theirs)):
            raise CommandError(f"{flag}: would replace {path}, which belongs to {other} {theirs}; "
                               "name another file")


def check_place(flag, path, inputs=()):
    """Raise CommandError, before any work, unless a file can be written at path, the value of a
    flag, and is none of the inputs [(flag, path)]. Leaves nothing behind but its folder."""
    if not os.path.basename(path):
        raise CommandError(f"{flag} {path!r}: names no file")
    if os.path.isdir(path):
        raise CommandError(f"{flag} {path}: is a folder; name a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise CommandError(f"{flag} {path}: is a device or a pipe; name a file")
    check_other(flag, path, inputs)
    try:
        check_writable(path)
    except OSError as error:
        raise CommandError(f"{flag} {path}: cannot be written: {error.strerror}") from None


def check_writable(path):
    """Raise OSError naming path, before any work is done, if a file cannot be written there. Leaves
    nothing behind but its folder."""
    target = os.path.realpath(path)
    probe = f"{target}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(probe, "wb"):
            pass
        os.remove(probe)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


# -------------------------------------------------------------------------- what evaluate.py writes

RESULTS = {"csv": b"model,task,axis,", "json": b'{"command": "python evaluate.py'}  # how they begin


def check_results(parser, args):
    """Raise CommandError, before any work, unless --csv and --json can be written, are not one
    file, and replace nothing but what they wrote before."""
    if args.csv and args.json and same_file(args.csv, args.json):
        raise CommandError(f"--csv {args.csv} --json {args.json}: are one file; name two")
    for name, start in RESULTS.items():
        path = getattr(args, name)
        if path is not None:
            check_place(f"--{name}", path, inputs_of(parser, args))
            if has_content(path) and not args.overwrite and first_bytes(path, len(start)) != start:
                raise CommandError(f"--{name} {path}: is there, and is no {name} of evaluate.py; "
                                   "--overwrite replaces it")


def first_bytes(path, n):
    with open(path, "rb") as file:
        return file.read(n)


def table_text(columns, rows):
    """Rows (dictionaries) as the text of a CSV with these columns; what a row lacks is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_text(path, text):
    write_atomically(path, text.encode())


# ------------------------------------------------------------------------------ one writer at once

HELD = set()  # the files of the locks that this process holds


def close_in_child():
    """A forked process holds none of its parent's locks: they end with the parent."""
    for file in HELD:
        os.close(file)
    HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=close_in_child)


@contextlib.contextmanager
def lock(path):
    """Be the only process that writes to path, a checkpoint or any other name. CommandError names
    the one that does.

    The lock is the system's (flock) on a file beside path, NAME.lock. It ends with its process
    however that ends, so a file that is left behind locks nothing. Where there are no such locks,
    nothing is locked.
    """
    name = stem(os.path.realpath(path)) + ".lock"
    os.makedirs(os.path.dirname(name), exist_ok=True)
    file = open_locked(name, path)
    HELD.add(file)
    try:
        yield
    finally:
        HELD.discard(file)
        with contextlib.suppress(OSError):
            os.remove(name)
        os.close(file)


def open_locked(name, path):
    """The file descriptor of the lock file `name`, locked, with who has locked it in it."""
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        if not try_lock(file):
            who = os.read(file, 1000).decode(errors="replace") or "another process"
            os.close(file)
            raise CommandError(f"{path}: is being written by {who}; wait for its end, or stop it")
        if fcntl is None or is_file(file, name):
            break
        os.close(file)  # its owner had ended, and removed it, between the two lines above
    command = shlex.join(["python", os.path.basename(sys.argv[0]), *sys.argv[1:]])
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {platform.node()} ({command[:200]})".encode())
    return file


def try_lock(file):
    """Whether this process has the lock now. A file system that has no locks gives it to anyone."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_file(file, name):
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(name))
    except FileNotFoundError:
        return False
