"""What a run may write, and who may write it: one writer per output, and nothing replaced that is
another's."""
import contextlib
import os
import platform
import shlex
import sys

from cli.flags import CommandError

try:
    import fcntl
except ImportError:  # there is none on Windows: nothing is locked there
    fcntl = None


# ------------------------------------------------------------------------------ one writer at once

HELD = set()  # the files of the locks that this process holds


def close_in_child():
    """A forked process holds none of its parent's locks: they end with the parent."""
    for file in HELD:
        os.close(file)
    HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=close_in_child)


def stem(path):
    """A checkpoint's path without its .pt: what the other files of its run are named after.

    >>> stem("runs/base.pt"), stem("runs/base.tuned")
    ('runs/base', 'runs/base.tuned')
    """
    return path.removesuffix(".pt")


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
