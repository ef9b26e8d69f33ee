"""cluster.py: running jobs on the workers of a Dask cluster. Optional: needs distributed, imported
where used. docs/clusters.md says how to start one.

    Cluster(address, out)    a place for jobs, as Here of lab/processes.py is

The scheduler gives every job to a worker that has a thread free, and to another one if that worker
dies. The job finds there what the dead one had saved, for all machines share one folder.
"""
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
        if self.future.cancelled():
            raise CommandError("--scheduler: lost; what is done is kept, and the same command goes "
                               "on")
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
        self.check_workers(out)

    def check_workers(self, out):
        """Raise CommandError unless there are workers, and all see the folder and have the code."""
        workers = self.client.nthreads()
        if not workers:
            raise CommandError(f"{self.where}: has no workers; start one in this folder with "
                               f"python -m dask worker {self.client.scheduler.address}")
        probe = os.path.abspath(os.path.join(out, f"probe.{os.getpid()}.tmp"))
        with open(probe, "wb"):
            pass
        try:
            seen = {address: self.client.submit(worker.look, probe, workers=[address], pure=False)
                    for address in workers}
            seen = self.client.gather(seen)
        except (ImportError, RuntimeError) as error:
            raise CommandError(f"{self.where}: it or a worker cannot import this repository, and "
                               "has to be started in it, with python -m dask: "
                               f"{one_line(error)}") from None
        finally:
            os.remove(probe)
        for address, (is_there, code) in seen.items():
            if not is_there:
                raise CommandError(f"{self.where}: worker {address} does not see {out}; it must be "
                                   "a folder that all machines share, under the same path")
            if code != worker.code():
                raise CommandError(f"{self.where}: worker {address} has other code than this "
                                   "study, or another torch; bring both to the same version")

    def slots(self):
        return sum(self.client.nthreads().values())

    def start(self, job):
        future = self.client.submit(worker.carry_out, job, os.getcwd(), pure=False)
        return Remote(job, future)

    def stop(self, jobs):
        """Have them save their state and end, and wait for that."""
        from distributed import wait
        futures = [job.future for job in jobs]
        self.client.run(worker.stop, [future.key for future in futures])
        wait(futures)

    def __str__(self):
        return f"{self.slots()} threads of the cluster"


def one_line(error):
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
