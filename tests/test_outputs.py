"""cli/outputs.py: one writer per output, and nothing replaced that is another's."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cli
from cli import CommandError

ROOT = Path(__file__).resolve().parent.parent

# ------------------------------------------------------------------------------ one writer at once

HOLD = "import cli, sys, time\nwith cli.lock(sys.argv[1]):\n    print('mine', flush=True)\n" \
       "    time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of x.pt."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "x.pt"], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


def test_a_second_writer_gets_a_line_that_names_the_first(holder, tmp_path):
    os.symlink(tmp_path / "x.pt", tmp_path / "link.pt")
    for name in ("x.pt", "x", "link.pt"):
        with pytest.raises(CommandError) as error, cli.lock(str(tmp_path / name)):
            pass
        said = str(error.value)
        assert f"{name}: is being written by process {holder.pid} " in said and "\n" not in said
        assert "python -c" in said
    with cli.lock(str(tmp_path / "y.pt")):
        pass


def test_a_lock_dies_with_its_process_and_leaves_nothing(holder, tmp_path):
    path = str(tmp_path / "x.pt")
    holder.kill()
    holder.wait()
    with cli.lock(path):
        with pytest.raises(CommandError, match=f"process {os.getpid()} "), cli.lock(path):
            pass
    with cli.lock(path):
        assert os.listdir(tmp_path) == ["x.lock"]
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_hold_on_to_its_parents_lock(tmp_path):
    code = ("import cli, os, sys, time\nwith cli.lock(sys.argv[1]):\n"
            "    child = os.fork()\n"
            "    if child:\n        print(child, flush=True)\n    time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "x.pt"], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        time.sleep(0.1)
        with pytest.raises(CommandError), cli.lock(str(tmp_path / "x.pt")):
            pass
        process.kill()
        process.wait()
        with cli.lock(str(tmp_path / "x.pt")):
            os.kill(child, signal.SIGKILL)


def test_two_are_never_inside_at_once(tmp_path):
    """Each makes a folder and takes it away: whoever finds one there ends with an error."""
    inside = tmp_path / "inside"
    code = ("import cli, os, sys\nhad = 0\n"
            "while had < 150:\n"
            "    try:\n"
            "        with cli.lock(sys.argv[1]):\n"
            "            os.mkdir(sys.argv[2]); os.rmdir(sys.argv[2]); had += 1\n"
            "    except cli.CommandError:\n        pass\n")
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "x.pt", inside], cwd=ROOT)
                 for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert os.listdir(tmp_path) == []
