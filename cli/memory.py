"""Memory: how much there is, how to keep what is freed, and how to be told when it ends."""
import ctypes
import math
import os
import sys

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None


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


def out_of_memory(error):
    """Whether that is what a MemoryError or RuntimeError says, on whatever device."""
    words = "out of memory", "not enough memory", "can't allocate memory"
    return (isinstance(error, (MemoryError, torch.OutOfMemoryError))
            or any(word in str(error).lower() for word in words))


def machine_memory():
    """Bytes of memory that this machine has, or this container may use; infinity where nothing
    tells."""
    known = [math.inf]
    try:
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            known.append(int(file.read()))
    except (OSError, ValueError, AttributeError):  # "max" is no number, Windows has no sysconf
        pass
    return min(known)


def limit_memory():
    """Have an allocation fail that this machine has no memory for: Linux would rather grant it,
    and then kill whoever uses it, without a word."""
    there = machine_memory()
    if sys.platform == "linux" and there < math.inf:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft == resource.RLIM_INFINITY or soft > there:
            resource.setrlimit(resource.RLIMIT_DATA, (there, hard))
