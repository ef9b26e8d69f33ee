"""cli/outputs.py: one writer per output, and nothing replaced that is another's."""
import contextlib
import errno
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from by_hand import assert_same, assert_same_run, interrupt_after, rows_of

import cli
import evaluate
import finetune
import forked
import model
import pretrain
from cli import CommandError
from lab import jobs, processes
from model import load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}
SMALL = {
    "pretrain": "--steps 4 --batch-size 8 --layers 1 --width 16 --eval-prompts 4 --save-every 2",
    "finetune": "--steps 4 --prompts-per-step 4 --group-size 4 --eval-prompts 4 --save-every 2 "
                "--reward random",
    "evaluate": "--prompts 4 --cold",
}


def call(command):
    """Run a command of one of the scripts, small."""
    script, *argv = shlex.split(command)
    SCRIPTS[script].main([*argv, *SMALL[script].split()])


def refused(command, capsys):
    """What a script says, in one line, when it refuses a command."""
    with pytest.raises(SystemExit) as stop:
        call(command)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1, error
    return error


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


# ---------------------------------------------------------------------------- what is not replaced

@pytest.fixture
def place(base, tmp_path, monkeypatch):
    """A folder with a base and its log, another run, and files that are none; the one we are in."""
    shutil.copy(base, tmp_path / "base.pt")
    shutil.copy(base[:-3] + ".csv", tmp_path / "base.csv")
    os.symlink("base.pt", tmp_path / "link.pt")
    os.link(tmp_path / "base.pt", tmp_path / "hard.pt")
    os.mkfifo(tmp_path / "fifo")
    for name in ("notes.txt", "data.csv"):
        (tmp_path / name).write_text("precious,\n1,\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command,words", [
    ("pretrain --out notes.txt", ["--out notes.txt", "--overwrite"]),
    ("pretrain --out data.pt", ["--out data.pt", "data.csv is there", "--overwrite"]),
    ("pretrain --out base.pt", ["base.pt is there", "--overwrite"]),
    ("pretrain --out x.csv", ["--out x.csv", "log", "NAME.pt"]),
    ("pretrain --out fifo", ["--out fifo", "pipe"]),
    ("pretrain --out /dev/null", ["--out /dev/null", "device"]),
    ("pretrain --out new/", ["--out 'new/'", "no file"]),
    ("pretrain --out /proc/x.pt", ["--out /proc/x.pt: cannot be written"]),
    ("pretrain --init base.pt --out base.pt --overwrite", ["replace base.pt", "--init base.pt"]),
    ("finetune --init base.pt --out ./base.pt --overwrite", ["replace ./base.pt", "--init"]),
    ("finetune --init base.pt --out link.pt --overwrite", ["replace link.pt", "--init base.pt"]),
    ("finetune --init link.pt --out base.pt --overwrite", ["replace base.pt", "--init link.pt"]),
    ("finetune --init base.pt --out hard.pt --overwrite", ["replace hard.pt", "--init base.pt"]),
    ("finetune --init base.pt --out base --overwrite", ["replace base.csv", "--init base.pt"]),
    ("finetune --init link.pt --method distill --teacher base.pt --out base.pt --overwrite",
     ["replace base.pt", "--init link.pt"]),
    ("finetune --init {base} --method distill --teacher base.pt --out base.pt --overwrite",
     ["replace base.pt", "--teacher base.pt"]),
    ("evaluate --ckpt base.pt --csv base.pt --overwrite", ["replace base.pt", "--ckpt base.pt"]),
    ("evaluate --ckpt base.pt --csv base.csv --overwrite", ["replace base.csv", "--ckpt base.pt"]),
    ("evaluate --ckpt {base} --csv data.csv", ["--csv data.csv", "no csv of", "--overwrite"]),
    ("evaluate --ckpt {base} --json hard.pt", ["--json hard.pt", "no json of", "--overwrite"]),
    ("evaluate --ckpt base.pt --csv x --json ./x", ["--csv x --json ./x", "one file"]),
    ("evaluate --ckpt base.pt --json /proc/x", ["--json /proc/x: cannot be written"]),
])
def test_what_is_anothers_is_not_replaced(command, words, base, place, capsys):
    before = contents(place)
    error = refused(command.format(base=base), capsys)
    assert all(word in error for word in words), error
    assert contents(place) == before and os.path.islink("link.pt")
    assert not os.path.exists("new")


def test_a_name_without_pt_has_a_log_of_its_own(base, place):
    before = contents(place)
    call(f"finetune --init {base} --out base.tuned")
    assert contents(place).items() > before.items()
    assert len(rows_of("base.tuned.pt")) == 4 and load_checkpoint("base.tuned")[1]["step"] == 4


def test_a_link_is_followed(base, place):
    os.mkdir("far")
    os.symlink("far/away.pt", "k.pt")
    for _ in range(2):
        call(f"finetune --init {base} --out k.pt")
        assert os.path.islink("k.pt") and load_checkpoint("far/away.pt")[1]["step"] == 4
    assert len(rows_of("k.pt")) == 4 and os.listdir("far") == ["away.pt"]


def test_the_same_command_may_run_again_another_needs_overwrite(base, place, capsys):
    command = f"finetune --init {base} --keep-every 2 --out g.pt"
    call(command)
    first = load_checkpoint("g.pt")[1]["run"]
    assert {row["run"] for row in rows_of("g.pt")} == {first} and first.startswith("finetune-")
    call(f"{command} --log-every 1 --threads 1")  # computes the same
    before = contents(place)
    error = refused(f"{command} --seed 1", capsys)
    assert "g.pt is there, and not of this run" in error and contents(place) == before
    os.remove("g.pt")  # one of its files is enough
    assert "g.step0002.pt is there" in refused(f"{command} --seed 1", capsys)
    call(f"{command} --seed 1 --overwrite")
    second = load_checkpoint("g.pt")[1]["run"]
    assert second != first and {row["run"] for row in rows_of("g.pt")} == {second}
    assert load_checkpoint("g.step0002.pt")[1]["run"] == second


def test_a_study_makes_again_what_had_other_flags(base, place):
    call(f"finetune --init {base} --seed 1 --out g.pt")
    argv = ["--init", base, *SMALL["finetune"].split(), "--out", "./g.pt"]
    process = processes.Here(1).start(jobs.Job("tuned", "finetune", argv, "./g.pt"))
    process.join()
    assert process.exitcode == 0
    extra = load_checkpoint("g.pt")[1]
    assert extra["args"]["seed"] == 0 and extra["finished"]
    assert "--overwrite" not in extra["command"]


def test_an_evaluation_replaces_what_it_wrote_and_is_written_whole(base, place, monkeypatch,
                                                                   capsys):
    command = f"evaluate --ckpt {base} --csv e.csv --json e.json"
    for _ in range(2):
        call(command)
    before = contents(place)
    capsys.readouterr()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(model.os, "fsync", full)
    assert "e.csv: No space left on device" in refused(command, capsys)
    assert contents(place) == before and json.loads(before["e.json"])["prompts"]


def test_checkpoints_of_before_are_good_for_init_and_evaluate(base, place):
    net, extra = load_checkpoint(base)
    del extra["run"], extra["args"]["overwrite"]
    save_checkpoint("old.pt", net, **extra)
    call("finetune --init old.pt --out g.pt")
    call("evaluate --ckpt old.pt g.pt")


# ------------------------------------------------------------------------------ runs that are whole

def test_a_run_over_an_older_one_is_itself_from_its_first_moment(base, place, monkeypatch):
    """Killed before its first regular save, it goes on as the new run, not as the old one."""
    call(f"finetune --init {base} --out g.pt")
    with monkeypatch.context() as patch:
        patch.setattr("grpo.GRPO.step", lambda *args: sys.exit(9))  # as if killed: nothing is saved
        with pytest.raises(SystemExit):
            call(f"finetune --init {base} --seed 1 --overwrite --out g.pt")
        shutil.copy("g.pt", "killed.pt")
    extra = load_checkpoint("g.pt")[1]
    assert (extra["step"], extra["args"]["seed"], rows_of("g.pt")) == (0, 1, [])
    finetune.main(["--resume", "g.pt"])
    call(f"finetune --init {base} --seed 1 --out whole.pt")
    assert_same_run("whole.pt", "g.pt")


def test_the_checkpoint_is_the_new_runs_before_the_csv_is(base, place, monkeypatch):
    call(f"finetune --init {base} --out g.pt")
    with monkeypatch.context() as patch:
        patch.setattr(cli.Log, "open_table", lambda self: sys.exit(9))
        with pytest.raises(SystemExit):
            call(f"finetune --init {base} --seed 1 --overwrite --out g.pt")
    assert load_checkpoint("g.pt")[1]["args"]["seed"] == 1 and len(rows_of("g.pt")) == 4
    finetune.main(["--resume", "g.pt"])
    call(f"finetune --init {base} --seed 1 --out whole.pt")
    assert_same_run("whole.pt", "g.pt")


def stopped_run(out, base, monkeypatch, after=1, more=""):
    with monkeypatch.context() as patch:
        interrupt_after(patch, after)
        with pytest.raises(SystemExit):
            call(f"finetune --init {base} --out {out} {more}")


def test_a_csv_of_another_run_is_not_gone_on_with(base, place, monkeypatch, capsys):
    stopped_run("a.pt", base, monkeypatch)
    call(f"finetune --init {base} --seed 1 --out b.pt")
    shutil.copy("b.csv", "a.csv")
    capsys.readouterr()
    assert "a.csv is there, and not of this run" in refused("finetune --resume a.pt", capsys)
    assert (place / "a.csv").read_bytes() == (place / "b.csv").read_bytes()


def test_a_csv_is_replaced_at_once_or_not_at_all(base, place, monkeypatch):
    stopped_run("g.pt", base, monkeypatch, after=2)
    with open("g.csv", "ab") as file:  # a step that was logged, but not saved any more
        file.write((place / "g.csv").read_bytes().splitlines(True)[-1].replace(b"3", b"4", 1))
    before = (place / "g.csv").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(model.os, "replace", lambda *args: sys.exit(9))
        with pytest.raises(SystemExit):
            call("finetune --resume g.pt")
    assert (place / "g.csv").read_bytes() == before
    finetune.main(["--resume", "g.pt"])
    call(f"finetune --init {base} --out whole.pt")
    assert_same_run("whole.pt", "g.pt")


def test_what_killed_runs_left_half_written_is_swept(base, place):
    ours = ["g.pt.12.tmp", "g.csv.345.tmp", "g.step0002.pt.6.tmp"]
    others = ["gg.pt.12.tmp", "g.pt.x.tmp", "g.tmp", "g.notes.12.tmp", "g2.csv.1.tmp"]
    for name in ours + others:
        Path(name).touch()
    call(f"finetune --init {base} --out g.pt")
    left = os.listdir()
    assert not set(ours) & set(left) and set(others) <= set(left) and "g.lock" not in left


def test_a_kept_step_stays_as_it_is(base, place, capsys):
    call(f"finetune --init {base} --keep-every 2 --out g.pt")
    before = contents(place)
    for more in ("", "--out g.step0002.pt"):
        error = refused(f"finetune --resume g.step0002.pt {more}", capsys)
        assert "g.step0002.pt" in error and "name an --out" in error
    finetune.main(["--resume", "g.step0002.pt", "--out", "h.pt", "--keep-every", "0"])
    assert contents(place).items() > before.items()
    assert_same(dict(load_checkpoint("g.pt")[0].state_dict()),
                dict(load_checkpoint("h.pt")[0].state_dict()))


@pytest.mark.parametrize("command", ["finetune --init {base} --out g.pt", "pretrain --out g.pt",
                                     "pretrain --out g.pt --overwrite"])
def test_an_output_that_is_being_written_is_left_alone(command, base, place, capsys):
    with cli.lock("g.pt"):
        before = contents(place)
        error = refused(command.format(base=base), capsys)
        assert f"g.pt: is being written by process {os.getpid()} " in error
        assert contents(place) == before


def test_a_run_that_another_process_takes_further_meanwhile_is_not_set_back(base, place,
                                                                            monkeypatch, capsys):
    stopped_run("g.pt", base, monkeypatch)
    at_load, loaded = contents(place), []

    def finished_meanwhile(*args):
        if not loaded:
            loaded.append(1)
            finetune.main(["--resume", "g.pt"])
        return check_out(*args)
    check_out = cli.runs.check_out
    monkeypatch.setattr(cli.runs, "check_out", finished_meanwhile)
    error = refused("finetune --resume g.pt", capsys)
    assert "another process has just taken it further" in error
    assert load_checkpoint("g.pt")[1]["finished"] and len(rows_of("g.pt")) == 4
    assert contents(place) != at_load


# ------------------------------------------------------------------------------ one writer at once

def hold(path):
    with cli.lock(path):
        print("mine", flush=True)
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of x.pt."""
    with forked.Forked(hold, str(tmp_path / "x.pt")) as process:
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


def fork_and_hold(path):
    with cli.lock(path):
        child = os.fork()
        if child:
            print(child, flush=True)
        time.sleep(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_hold_on_to_its_parents_lock(tmp_path):
    with forked.Forked(fork_and_hold, str(tmp_path / "x.pt")) as process:
        child = int(process.stdout.readline())
        time.sleep(0.1)
        with pytest.raises(CommandError), cli.lock(str(tmp_path / "x.pt")):
            pass
        process.kill()
        process.wait()
        with cli.lock(str(tmp_path / "x.pt")):
            os.kill(child, signal.SIGKILL)


def goes_in_and_out(path, inside, times):
    """Under the lock, make a folder and take it away: whoever finds one there dies of it."""
    while times:
        with contextlib.suppress(CommandError), cli.lock(path):
            os.mkdir(inside)
            os.rmdir(inside)
            times -= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_two_are_never_inside_at_once(tmp_path):
    forked = multiprocessing.get_context("fork")
    argv = str(tmp_path / "x.pt"), str(tmp_path / "inside"), 150
    processes = [forked.Process(target=goes_in_and_out, args=argv) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert os.listdir(tmp_path) == []


def test_an_evaluation_sweeps_what_a_kill_left_of_its_files_and_no_others(base, place):
    left = {"e.csv.123.tmp", "e.json.7.tmp"}
    others = {"e.pt.123.tmp", "e.csv.notes.tmp", "ee.csv.5.tmp"}
    for name in left | others:
        with open(name, "w") as file:
            file.write("half")
    call(f"evaluate --ckpt {base} --prompts 2 --csv e.csv --json e.json")
    assert others | {"e.csv", "e.json"} <= set(os.listdir()) and not left & set(os.listdir())


def test_two_evaluations_do_not_write_one_file(base, place, capsys):
    with cli.lock("e.csv"), pytest.raises(SystemExit):
        call(f"evaluate --ckpt {base} --prompts 2 --csv e.csv")
    assert "e.csv: is being written by process" in capsys.readouterr().err
