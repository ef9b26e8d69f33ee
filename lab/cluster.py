"""cluster.py: running jobs on the workers of a Dask cluster. Optional: needs distributed, imported
where used. docs/clusters.md says how to start one.

    Cluster(address, out)    a place for jobs, as Here of lab/processes.py is

The scheduler gives every job to a worker that has a thread free, and to another one if that worker
dies. The job finds there what the dead one had saved, for all machines share one folder.
"""
import contextlib
import importlib.util
import os

from cli import CommandError
from lab import worker

SECONDS = 10   # to reach the scheduler


class Remote:
    """A job on its way through the cluster."""

    def __init__(self, job, future):
        self.job, self.future = job, future

    @property
    def exitcode(self):
        """Its exit status, None as long as it waits or runs. What befell it before it could write
        its log is written there."""
        if not self.future.done():
            return None
        error = self.future.exception()
        if error is None:
            return self.future.result()
        with open(self.job.log(), "a", encoding="utf-8") as file:
            print(f"the scheduler gave it up: {one_line(error)}", file=file)
        return 1


class Cluster:
    """The workers of a Dask scheduler as a place for jobs: one for each of their threads."""

    def __init__(self, address, out):
        if importlib.util.find_spec("distributed") is None:
            raise CommandError("--scheduler: needs distributed, which is optional: "
                               "python -m pip install distributed")
        from distributed import Client
        self.where = f"--scheduler {address}"
        try:
            self.client = Client(address, timeout=SECONDS)
        except (OSError, ValueError) as error:
            raise CommandError(f"{self.where}: cannot be reached: {one_line(error)}") from None
        fault = self.fault(out)
        if fault:
            self.client.close()
            raise CommandError(f"{self.where}: {fault}")

    def fault(self, out):
        """What keeps the workers from doing the work, in words; "" if nothing does."""
        if not self.slots():
            return "has no workers; start some in this folder: python -m dask worker ADDRESS"
        probe = os.path.abspath(os.path.join(out, f"probe.{os.getpid()}.tmp"))
        write_probe(probe)
        try:
            self.client.run_on_scheduler(worker.stop, [])   # whether it finds the function
            looks = self.client.run(worker.look, probe, on_error="return")
        except ImportError as error:
            return cannot_import("it", error)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(probe)
        for address, look in looks.items():
            if isinstance(look, Exception):
                return cannot_import(f"its worker {address}", look)
            is_there, code = look
            if not is_there:
                return (f"its worker {address} does not see {os.path.dirname(probe)}; --out must "
                        "be in a folder that all machines share, under the same path")
            if code != worker.code():
                return (f"its worker {address} has other code than this study, or another torch; "
                        "bring both to the same version")
        return ""

    def slots(self):
        """Threads of the workers that are there now. CommandError if the scheduler is gone."""
        try:
            return sum(self.client.nthreads().values())
        except (OSError, RuntimeError) as error:
            raise CommandError(f"{self.where}: is lost: {one_line(error)}; what is done is kept, "
                               "and the same command goes on") from None

    def start(self, job):
        future = self.client.submit(worker.carry_out, job, os.getcwd(), pure=False)
        return Remote(job, future)

    def stop(self, jobs):
        """Have them save their state and end, and wait for that; then leave the cluster."""
        from distributed import wait
        futures = [job.future for job in jobs]
        if futures and self.client.status == "running":
            self.client.run(worker.stop, [future.key for future in futures])
            wait(futures)
        self.client.close()

    def __str__(self):
        return f"the workers of {self.where.split()[1]}"


def write_probe(path):
    """An empty file, that workers are to see."""
    with open(path, "wb"):
        pass


def cannot_import(who, error):
    return (f"{who} cannot import this repository; start both scheduler and workers in its folder, "
            f"with python -m dask ({one_line(error)})")


def one_line(error):
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
