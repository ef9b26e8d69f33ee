"""forked.py: a process as subprocess.Popen would start it, but forked from this one, which has
torch imported: a new python needs three seconds before its first step.

What is left out is the start and the end of python itself: what is asked of those needs a real one.
"""
import multiprocessing
import os
import signal
import sys


class Forked:
    """function(*args) in a process of its own; what it prints comes through stdout and stderr."""

    def __init__(self, function, *args, argv=("-c",)):
        """argv is the sys.argv that it sees."""
        pipes = os.pipe(), os.pipe()
        forks = multiprocessing.get_context("fork")
        self.process = forks.Process(target=run, args=(function, args, argv, pipes))
        self.process.start()
        self.pid = self.process.pid
        for _, writing in pipes:
            os.close(writing)
        self.stdout, self.stderr = (open(reading, encoding="utf-8") for reading, _ in pipes)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.communicate()

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.process.kill()

    def poll(self):
        return self.process.exitcode

    def wait(self):
        """Its exit status; a signal's number, negative, if that ended it."""
        self.process.join()
        return self.process.exitcode

    returncode = property(poll)

    def communicate(self):
        """(stdout, stderr) from here on, once nobody writes to them any more."""
        said = []
        for stream in (self.stdout, self.stderr):
            said.append("" if stream.closed else stream.read())
            stream.close()
        self.wait()
        return tuple(said)


def script(script, argv):
    """A Forked script, as `python script.py ARGV` would run it."""
    argv = list(map(str, argv))
    return Forked(script.main, argv, argv=[script.__file__, *argv])


def run(function, args, argv, pipes):
    """What the process does."""
    for number, (reading, writing) in enumerate(pipes, 1):
        os.dup2(writing, number)
        os.close(writing)
        os.close(reading)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8", closefd=False)
                              for number in (1, 2))
    sys.argv = list(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*args)
