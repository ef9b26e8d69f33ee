"""worker.py: what a worker of a Dask cluster does for lab/cluster.py.

Nothing but the standard library is imported at the top: the scheduler reads this file too, and
needs no torch. A job is a process here as well, so it has its own seeds and signals, and ends with
its worker.
"""
import glob
import hashlib
import importlib.metadata
import os
import pickle
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODE = ("*.py", "cli/*.py", "lab/*.py", "questions/*.py", "variants/*.py")
STOPPED = set()   # keys of tasks that this worker shall not go on with


def code():
    """A word that differs where the code differs, or torch does: runs are compared to the last bit.
    """
    digest = hashlib.sha256(importlib.metadata.version("torch").encode())
    for path in sorted(path for pattern in CODE for path in glob.glob(os.path.join(ROOT, pattern))):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:12]


def look(probe):
    """(Whether the file is here under that path too, the code that is here)."""
    return os.path.exists(probe), code()


def stop(keys):
    """Have these tasks save their state and end, now or as soon as they come."""
    STOPPED.update(keys)


def carry_out(job, folder):
    """Run a job of a study in `folder` as a process of its own, and return its exit status. It is
    interrupted, and saves its state, if the study says so or is gone itself, and if the worker
    closes: then another one goes on with it."""
    from distributed import Reschedule, get_worker
    worker = get_worker()
    key = worker.get_current_task()
    print(f"{job.name}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "lab.processes"], cwd=ROOT,
                               stdin=subprocess.PIPE, start_new_session=True)
    pickle.dump((folder, job), process.stdin)
    process.stdin.flush()   # and left open: the process ends when it is closed
    told = False
    while process.poll() is None:
        if not told and (key in STOPPED or is_cancelled(worker, key) or is_closing(worker)):
            process.terminate()
            told = True
        time.sleep(0.1)
    if is_closing(worker):
        raise Reschedule
    return process.returncode


def is_cancelled(worker, key):
    """Whether nobody waits for this task any longer: its study was killed."""
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled"


def is_closing(worker):
    """Whether the worker was told to end, or has lost its scheduler."""
    return worker.status.name in ("closing", "closed")
