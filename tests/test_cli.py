"""cli.py: flags and what they allow, one-line errors, resuming, the log line and its CSV. What
evaluate.py prints with it is in test_evaluate.py, whole runs are in test_scripts.py."""
import argparse
import csv
import itertools
import math
import os
import shlex
import signal
import subprocess
import sys
import threading

import pytest
import torch

import cli
from cli import CommandError, knob, knobs, number
from grpo import GRPO
from model import GPT, CheckpointError, GPTConfig, save_checkpoint
from tasks import VOCAB, Cell


# ---------------------------------------------------------------------------------- flags' types

@pytest.mark.parametrize("kind,text,value", [
    (cli.count, "3", 3), (cli.natural, "0", 0), (cli.share, "0", 0.0), (cli.share, "1", 1.0),
    (cli.positive, "1e-9", 1e-9), (cli.nonnegative, "0", 0.0), (number(float), "-2.5", -2.5),
    (cli.greedy_too, "0", 0.0), (number(float, 1, math.inf), "inf", math.inf)])
def test_a_number_that_is_allowed(kind, text, value):
    assert kind(text) == value and type(kind(text)) is type(value)


@pytest.mark.parametrize("kind,text,message", [
    (cli.count, "0", "0: must be between 1 and 1000000"),
    (cli.count, "1.5", "'1.5': must be a whole number between 1 and 1000000"),
    (cli.count, "1000000000000", "1000000000000: must be between 1 and 1000000"),
    (cli.count, "9" * 5000, f"'{'9' * 37}...': must be a whole number between 1 and 1000000"),
    (cli.size, "65537", "65537: must be between 1 and 65536"),
    (cli.natural, "-1", "-1: must be between 0 and 1000000"),
    (cli.seed, "4294967296", "4294967296: must be between 0 and 4294967295"),
    (cli.share, "1.01", "1.01: must be between 0 and 1"),
    (cli.share, "nan", "nan: must be between 0 and 1"),
    (cli.positive, "0", "0: must be above 0 and at most 1000000"),
    (cli.positive, "inf", "inf: must be above 0 and at most 1000000"),
    (cli.nonnegative, "some", "'some': must be a number between 0 and 1000000"),
    (cli.nonnegative, "1e38", "1e38: must be between 0 and 1000000"),
    (cli.learning_rate, "nan", "nan: must be above 0 and at most 10"),
    (cli.greedy_too, "1e-9", "1e-9: must be 0, or between 0.01 and 100"),
    (number(int, high=4), "5", "5: must be between -4 and 4"),
    (number(float, high=math.inf), "nan", "nan: must be between -inf and inf"),
    (number(int), "x", "'x': must be a whole number between -1000000 and 1000000")])
def test_a_number_that_is_not_allowed_says_what_is(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        kind(text)
    assert str(error.value) == message


# --------------------------------------------------------------------------------------- a parser

def parser_of(method=None):
    """A script's parser with a flag of every sort, and those that resuming needs."""
    p = cli.Parser("doc", "/somewhere/toy.py", method)
    p.add_argument("--steps", type=cli.count, default=5, help="steps")
    p.add_argument("--name", help="a name")
    p.add_argument("--cold", type=float, nargs="*", default=[0.7, 0.0], help="numbers")
    p.add_argument("--untied", action="store_true", help="a switch")
    p.add_argument("--critic", action=argparse.BooleanOptionalAction, default=True, help="on, off")
    p.add_argument("--mask", action=argparse.BooleanOptionalAction, default=False, help="off, on")
    p.add_argument("--out", default="toy.pt", help="a file")
    cli.add_run_flags(p, eval_every=10, log_every=10)
    return p


@pytest.mark.parametrize("argv", [["--step", "3"], ["--stpes", "3"], ["--steps"], ["3"]])
def test_an_error_is_a_line_that_says_where_the_flags_are(argv):
    for method, where in ((None, "--help"), ("dapo", "--method dapo --help")):
        with pytest.raises(CommandError) as error:
            parser_of(method).parse_args(argv)
        said = str(error.value)
        assert "\n" not in said and said.endswith(f" ({where} lists the flags)")
        assert all(word in said for word in argv)


def test_help_says_the_defaults_once():
    said = " ".join(parser_of().format_help().split())
    assert "usage: toy.py" in said
    for text in ("steps (default 5)", "numbers (default 0.7 0.0)", "seed of weights, data"):
        assert text in said
    assert "a name (default" not in said and "a switch (default" not in said
    assert said.count("(default 5)") == 1


@pytest.mark.parametrize("argv", [
    [], ["--steps", "7", "--untied"], ["--no-critic", "--mask"], ["--critic", "--no-mask"],
    ["--cold"], ["--cold", "0.5", "0.25", "--seed", "3"], ["--name", "it's a \"name\" with $HOME"],
    ["--threads", "1", "--out", "a folder/b.pt", "--bf16", "--compile"]])
def test_the_command_repeats_the_run(argv):
    parser = parser_of()
    args = parser.parse_args(argv)
    python, script, *words = shlex.split(cli.command(parser, args))
    assert (python, script) == ("python", "toy.py")
    assert parser.parse_args(words) == args
    assert len(words) <= len(argv)  # and says nothing that is so anyway


@pytest.mark.parametrize("width", [12, 30, 96])
def test_a_shell_reads_a_folded_command_as_the_same(width):
    words = ["a", "--out", "a folder/it's.pt", "--prompt", "31 [+1][rev] =", "$HOME", "", "-x", "é",
             "--cold", *"0.7 0.5 0.3 0.1 0.01 0.001".split(), "back\\slash", "*", "~"]
    folded = cli.fold(shlex.join(["printf", "%s|", *words]), width)
    lines = folded.split("\n")
    if width > 20:  # no word is longer
        assert max(map(len, lines)) <= width + 2
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(line.startswith("    ") for line in lines[1:]) and len(lines) > 1
    said = subprocess.run(["sh", "-c", folded], stdout=subprocess.PIPE, check=True).stdout
    assert said.decode() == "|".join(words) + "|"
    assert cli.fold("python x.py --steps 5") == "python x.py --steps 5"


# ---------------------------------------------------------------------------------- resumed runs

def saved_run(path, argv=(), **changes):
    """A checkpoint of toy.py, as a run with these flags would have left it after step 3."""
    extra = {"script": "toy.py", "args": vars(parser_of().parse_args(list(argv))), "step": 3,
             "finished": False, "seconds": 1.0, **changes}
    save_checkpoint(str(path), GPT(GPTConfig(n_layer=1, n_embd=16)), **extra)
    return str(path)


def test_without_resume_there_is_nothing_saved():
    args, saved = cli.parse(parser_of(), ["--steps", "3"])
    assert saved is None and args.steps == 3


def test_a_resumed_run_keeps_its_flags(tmp_path, monkeypatch):
    flags = ["--steps", "9", "--name", "x", "--untied", "--no-critic", "--cold", "0.5"]
    path = saved_run(tmp_path / "toy.pt", [*flags, "--out", "elsewhere.pt"])
    want = parser_of().parse_args(flags)
    monkeypatch.chdir(tmp_path)
    for argv in (["--resume", path], ["--resume"], ["--resume", path, *flags]):
        args, (model, extra) = cli.parse(parser_of(), argv)
        out = path if path in argv else "toy.pt"
        assert args == argparse.Namespace(**{**vars(want), "out": out, "resume": out})
        assert model.config.n_embd == 16 and extra["step"] == 3
    args, _ = cli.parse(parser_of(), ["--resume", "--out", path])  # of the run there
    assert args.out == path and args.steps == 9
    free = ["--out", "b.pt", "--threads", "2", "--save-every", "1", "--log-every", "3"]
    args, _ = cli.parse(parser_of(), ["--resume", path, *free])
    assert (args.out, args.threads, args.save_every, args.log_every) == ("b.pt", 2, 1, 3)


@pytest.mark.parametrize("argv,words", [
    (["--steps", "8"], ["--steps 8", "started with --steps 9", "keeps its flags"]),
    (["--name", "y"], ["--name y", "started with --name x"]),
    (["--critic"], ["--critic True", "--critic False"]),
    (["--seed", "1"], ["--seed 1", "--seed 0"])])
def test_a_flag_given_again_must_agree(argv, words, tmp_path):
    path = saved_run(tmp_path / "toy.pt", ["--steps", "9", "--name", "x", "--no-critic"])
    with pytest.raises(CommandError) as error:
        cli.parse(parser_of(), ["--resume", path, *argv])
    said = str(error.value)
    assert all(word in said for word in [*words, path]) and "\n" not in said


@pytest.mark.parametrize("changes,words", [
    ({"script": "other.py"}, ["was written by other.py, not by toy.py"]),
    ({"script": None}, ["not by toy.py"]),
    ({"finished": True}, ["finished, after 3 steps"])])
def test_a_run_that_cannot_go_on(changes, words, tmp_path):
    path = saved_run(tmp_path / "toy.pt", **changes)
    with pytest.raises(CommandError) as error:
        cli.parse(parser_of(), ["--resume", path])
    said = str(error.value)
    assert all(word in said for word in words) and path in said and "\n" not in said


def test_a_run_of_a_version_with_fewer_flags_is_refused(tmp_path):
    args = vars(parser_of().parse_args([]))
    del args["eval_prompts"]
    path = saved_run(tmp_path / "toy.pt", args=args)
    with pytest.raises(CommandError, match="another version, which had no --eval-prompts; start a"):
        cli.parse(parser_of(), ["--resume", path])
    with pytest.raises(CheckpointError, match="none.pt"):
        cli.parse(parser_of(), ["--resume", str(tmp_path / "none.pt")])


# --------------------------------------------------------------------------------------- scripts

@pytest.mark.parametrize("error,status,said", [
    (CommandError("--x 1: must be 2"), 2, "test_cli.py: error: --x 1: must be 2\n"),
    (CheckpointError("a.pt: no such checkpoint"), 2,
     "test_cli.py: error: a.pt: no such checkpoint\n"),
    (OSError(28, "No space left on device", "b.pt"), 2,
     "test_cli.py: error: b.pt: No space left on device\n"),
    (CommandError("two\nlines"), 2, "test_cli.py: error: two lines\n"),
    (MemoryError(), 2, "test_cli.py: error: out of memory; lower the sizes\n"),
    (torch.OutOfMemoryError("CUDA"), 2, "test_cli.py: error: out of memory; lower the sizes\n"),
    (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), 2,
     "test_cli.py: error: out of memory; lower the sizes\n"),
    (KeyboardInterrupt(), 130, "interrupted\n")])
def test_what_a_user_can_mend_is_one_line(error, status, said, capsys):
    @cli.script
    def main(argv=None):
        raise error
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == status and capsys.readouterr().err == said


def test_a_fault_of_ours_keeps_its_traceback():
    @cli.script
    def main(argv=None):
        return argv or [][0]
    assert main(["given"]) == ["given"]
    with pytest.raises(IndexError):
        main()

    @cli.script
    def broken(argv=None):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        broken()


def test_what_there_is_no_memory_for_is_refused_instead_of_killed():
    """Many blocks that fit each, and not together: Linux grants them, and kills who uses them."""
    code = """
import cli, torch
cli.memory.machine_memory = lambda: 2 ** 30
def main(argv=None):
    cli.memory.limit_memory()
    held = [torch.empty(2 ** 25) for _ in range(20)]
main.__code__ = main.__code__.replace(co_filename="finetune.py")
cli.script(main)()"""
    ran = subprocess.run([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    assert ran.returncode == 2 and ran.stderr == (
        "finetune.py: error: out of memory; lower --prompts-per-step, --group-size or "
        "--eval-prompts, or set --micro-batch\n")


def test_a_model_that_cannot_be_trained_here_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr(cli.flags, "machine_memory", lambda: 1e9)
    cli.check_memory(GPTConfig(n_layer=2, n_embd=1024))    # 25 million weights, 400 MB
    with pytest.raises(CommandError, match="--layers 8 --width 1024: to train 0.1 billion weights "
                                           "takes 2 GB, and there are 1; lower one of the two"):
        cli.check_memory(GPTConfig(n_layer=8, n_embd=1024))


@pytest.mark.parametrize("kind", [int, float])
def test_a_knob_has_a_range_even_if_it_does_not_say_so(kind):
    for bounds in ({}, {"low": 0}, {"above": 0}):
        allowed = knob(kind(1), "help", **bounds).options()["type"]
        assert allowed.high == 1_000_000 and not allowed.allows(1e38)
        assert not allowed.allows(math.inf) and not allowed.allows(math.nan)


def test_a_reader_who_goes_away_is_no_error():
    code = ("import cli\ndef main(argv=None):\n    while True:\n        print('x' * 999)\n"
            "cli.script(main)()")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_only_devices_that_are_there(monkeypatch):
    args = argparse.Namespace(device="cpu", threads=0)
    before = torch.get_num_threads()
    assert cli.set_device(args) == torch.device("cpu") and torch.get_num_threads() == before
    args.threads = 2
    try:
        cli.set_device(args)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    args.threads = 0
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.set_device(argparse.Namespace(device="auto", threads=0)).type == "cpu"
    with pytest.raises(CommandError, match="--device cuda: not available here; there is cpu$"):
        cli.set_device(argparse.Namespace(device="cuda", threads=0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cli.set_device(argparse.Namespace(device="auto", threads=0)).type == "cuda"


def test_the_task_and_the_axis_go_together():
    assert cli.families("both", "depth") == ["arithmetic", "graph"]
    with pytest.raises(CommandError, match="--axis composition: graph has no such axis; it has "
                                           "depth, length, tokens"):
        cli.families("both", "composition")


def test_a_context_must_hold_the_longest_cell():
    need = 4 + 6 + 2 + 6 * 5  # four digits, six operations, <bos> and =; six states
    cli.check_context("here", need, ["arithmetic"], "depth")
    with pytest.raises(CommandError, match=f"here: a context of {need - 1} .* needs {need}"):
        cli.check_context("here", need - 1, ["arithmetic"], "depth")
    with pytest.raises(CommandError, match="of graph"):
        cli.check_context("here", need, ["arithmetic", "graph"], "depth")


def test_a_place_to_write_is_tried_before_the_work(tmp_path):
    cli.check_writable(str(tmp_path / "new" / "folder" / "x.pt"))
    assert os.listdir(tmp_path / "new" / "folder") == []
    (tmp_path / "file").write_text("precious")
    cli.check_writable(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious" and len(os.listdir(tmp_path)) == 2
    with pytest.raises(OSError) as error:
        cli.check_writable(str(tmp_path / "file" / "x.pt"))
    assert error.value.filename == str(tmp_path / "file" / "x.pt")  # not a temporary file's name


# ----------------------------------------------------------------------------------------- knobs

class Parent(cli.Method):
    drop_zero_variance, kl, prompts_per_step = False, "none", 2  # as GRPO has them
    width = knob(0.5, "a width", low=0, high=1)
    names = knob("a", "a name", choices=("a", "b"))


class Child(Parent):
    width = 0.25
    depth = knob(3, "a depth", low=1)


class Grandchild(Child):
    width = None
    names = "b"
    switch = knob(True, "a switch")


class Later(Grandchild):
    width = 0.75


def method_of(cls, **settings):
    model = GPT(GPTConfig(len(VOCAB), n_layer=1, n_embd=16))
    return cls(model, model, [("arithmetic", Cell(1, 2))], **settings)


def test_a_knob_is_stated_once_and_a_subclass_changes_its_default():
    found = [{name: (k.default, k.shown) for name, k in knobs(cls).items()
              if name in ("width", "names", "depth", "switch")}
             for cls in (Parent, Child, Grandchild, Later)]
    assert found == [{"width": (0.5, True), "names": ("a", True)},
                     {"width": (0.25, True), "names": ("a", True), "depth": (3, True)},
                     {"width": (0.25, False), "names": ("b", True), "depth": (3, True),
                      "switch": (True, True)},
                     {"width": (0.75, True), "names": ("b", True), "depth": (3, True),
                      "switch": (True, True)}]
    assert knobs(Later)["width"].help == "a width" and knobs(Later)["width"].high == 1


def test_a_reward_that_a_family_refuses_is_refused_in_one_line():
    model, route = GPT(GPTConfig(len(VOCAB), n_layer=1, n_embd=16)), Cell(2, 16, branching=2)
    pairs = [("arithmetic", Cell(1, 2)), ("route", route)]
    for reward in ("trace", "process"):
        GRPO(model, model, pairs, reward=reward)
    GRPO(model, model, pairs[:1], reward="answer")
    with pytest.raises(cli.CommandError, match="--reward answer: cannot be used on route, where "
                                               "the goal stands in the prompt"):
        GRPO(model, model, pairs, reward="answer")


def test_a_method_has_its_knobs_as_attributes():
    method = method_of(Grandchild, depth=7, lr=0.5)
    assert (method.depth, method.lr, method.names, method.switch) == (7, 0.5, "b", True)
    assert method.width == 0.25  # taken away as a flag, still at what it inherits
    with pytest.raises(TypeError, match="Parent has no knob depth"):
        method_of(Parent, depth=7)


def test_knobs_are_flags():
    parser = cli.Parser("doc", "x.py", "it")
    cli.add_knobs(parser, Grandchild)
    args = vars(parser.parse_args([]))
    assert args == {"lr": 1e-3, "max_grad_norm": 1.0, "budget_rollouts": 0, "micro_batch": 0,
                    "names": "b", "depth": 3, "switch": True}
    assert "--width" not in parser.format_help() and "a depth (default 3)" in parser.format_help()
    assert not parser.parse_args(["--no-switch"]).switch
    for argv, words in ((["--depth", "0"], "--depth 0: must be between 1 and 1000000"),
                        (["--names", "c"], "invalid choice: 'c'"), (["--width", "1"], "--width")):
        with pytest.raises(CommandError, match=words):
            parser.parse_args(argv)


@pytest.mark.parametrize("body,words", [
    ({"width": 2}, "width = 2: must be between 0 and 1"),
    ({"names": "c"}, "names = 'c': is not one of a, b"),
    ({"lr": 0}, "lr = 0: must be above 0 and at most 10"),
    ({"seed": knob(1, "taken")}, "its knob 'seed' is a flag already"),
    ({"on": knob("yes", "help", kind=bool)}, "on = 'yes': is not True or False")])
def test_a_bad_knob_is_one_line(body, words):
    parser = cli.Parser("doc", "x.py", "it")
    cli.add_run_flags(parser, 1, 1)
    with pytest.raises(CommandError, match=f"--method it: .*{words}"):
        cli.add_knobs(parser, type("Bad", (Parent,), body))


def test_a_knob_without_a_default_says_its_kind():
    assert knob(None, "help").kind is str and knob(None, "help", kind=float).kind is float
    assert knob(2, "help").kind is int and knob(True, "help").kind is bool
    parser = cli.Parser("doc", "x.py", "it")
    cli.add_knobs(parser, type("Fine", (Parent,), {"cap": knob(None, "help", kind=int, low=1)}))
    assert parser.parse_args([]).cap is None and parser.parse_args(["--cap", "4"]).cap == 4


# ------------------------------------------------------------------------------------ the signals

SIGNALS = [number for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None))
           if number]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_between_two_steps_and_a_second_one_at_once(number, monkeypatch, capfd):
    before = [signal.getsignal(n) for n in SIGNALS]
    with cli.stop_signals() as stopped:
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()
        for echo in SIGNALS:  # within milliseconds, as from a shell to its whole group
            os.kill(os.getpid(), echo)
        monkeypatch.setattr(cli.runs, "SAME", 0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert [signal.getsignal(n) for n in SIGNALS] == before
    assert capfd.readouterr().err == "stopping after this step (again to stop at once)\n"


def test_a_hangup_that_is_ignored_stays_ignored():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with cli.stop_signals() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, old)


def test_a_signal_that_comes_amid_a_write_to_stderr_is_no_reentrant_call(monkeypatch, capfd):
    class Busy:
        """A stream in the middle of a write, as a handler finds it."""
        def write(self, text):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

        def fileno(self):
            return 2
    monkeypatch.setattr(sys, "stderr", Busy())
    with cli.stop_signals() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
    assert capfd.readouterr().err == "stopping after this step (again to stop at once)\n"


def test_outside_the_main_thread_no_signal_is_caught():
    found = []

    def work():
        with cli.stop_signals() as stopped:
            found.append(stopped())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


# ---------------------------------------------------------------------------------------- the log

def table_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def log_of(path, columns=(), steps=9, start=0, seconds=0.0):
    """The Log of a run of toy.py; resumed, if it is not to start at step 0."""
    parser = parser_of()
    args = parser.parse_args(["--out", str(path), "--steps", str(steps)])
    if not start:
        return cli.Log(parser, args, columns)
    args.resume = args.out
    return cli.Log(parser, args, columns, (None, {"step": start, "seconds": seconds}))


def test_every_row_is_in_the_csv(tmp_path):
    log = log_of(tmp_path / "x.pt", ["loss", "id"], 2)
    log.open_table()
    log.row(1, 100, {"loss": 1 / 3, "more": 1})
    log.row(2, 100, {"loss": 2e-7, "id": 0.5})
    rows = table_of(tmp_path / "x.csv")
    assert list(rows[0]) == ["step", "loss", "id", *cli.Log.TIMING, "run"]
    assert [(r["step"], r["loss"], r["id"]) for r in rows] == [("1", "0.333333", ""),
                                                             ("2", "2e-07", "0.5")]


def test_the_csv_is_cut_back_to_the_checkpoint(tmp_path):
    whole = log_of(tmp_path / "x.pt", ["loss"], 9)
    whole.open_table()
    for step in range(1, 8):
        whole.row(step, 10, {"loss": float(step)})
    with open(tmp_path / "x.csv", "a", encoding="utf-8") as file:
        file.write("8,0.1\r\n,\r\n")  # killed while it wrote
    again = log_of(tmp_path / "x.pt", ["loss"], 9, start=4, seconds=100.0)
    again.open_table()
    assert [r["loss"] for r in table_of(tmp_path / "x.csv")] == ["1.0", "2.0", "3.0", "4.0"]
    again.row(5, 10, {"loss": 5.5})
    rows = table_of(tmp_path / "x.csv")
    assert [r["step"] for r in rows] == list("12345") and rows[-1]["loss"] == "5.5"
    assert float(rows[-1]["seconds"]) >= 100
    log_of(tmp_path / "x.pt", ["loss"], 9).open_table()  # a new run begins a new table
    assert table_of(tmp_path / "x.csv") == []


def test_a_line_keeps_what_matters_most_within_100_columns(tmp_path, capsys):
    log = log_of(tmp_path / "x.pt", [], steps=1_000_000)
    for n in range(1, 40):
        parts = [f"part{i} {'9' * (n + i)}" for i in range(8)]
        log.print(987654321 // 8, parts)
        line, = capsys.readouterr().out.splitlines()
        assert len(line) <= 100 and line.startswith("step 123456790/1000000  part0 9")
        assert "  eta " in line
        fits = [part for part in parts if part in line]
        assert line.index(fits[-1]) > 0 and parts[0] in line
        assert len(line) > 60  # no room is left that a part would have filled
    log.print(1, ["reward 0.50", "id 0.1 edge 0.2 hard 0.3"])
    assert "reward 0.50  id 0.1 edge 0.2 hard 0.3  0 tok/s  eta " in capsys.readouterr().out


def test_the_line_of_a_method_fits_however_long_its_numbers_are(tmp_path, capsys):
    log = log_of(tmp_path / "x.pt", [], steps=100_000)
    method = method_of(type("Wordy", (Parent,), {"columns": ("critic_loss", "sampled")}))
    numbers = {name: 12345.678 for name in ("reward", "loss", "kl", "zero_std", "entropy", "grad",
                                            "clip", "stop", "len", "critic_loss")}
    log.print(99_999, method.describe({**numbers, "sampled": 123_456_789}))
    short, = capsys.readouterr().out.splitlines()
    assert "reward 12345.68  critic-loss 12345.68  sampled 123.5M  kl 12345.68" in short
    log.print(99_999, method.describe({**numbers, "id": 0.123, "edge": 1e-9, "hard": 1.0}))
    long, = capsys.readouterr().out.splitlines()
    assert "reward 12345.68  id 0.12 edge 0.00 hard 1.00  critic-loss" in long
    assert max(len(short), len(long)) <= 100
    assert method.describe({"loss": 0.25, "kl": None}) == ["loss 0.250"]


def test_silence_is_explained_now_and_then(tmp_path, capsys):
    log = log_of(tmp_path / "x.pt", [], steps=300)
    said = {}
    for step in range(1, 151):
        log.count_silence({"grad": 0.0, "loss": 0.0, "reward": 0.0})
        said[step] = capsys.readouterr().out
    assert [step for step in said if said[step]] == [1, 10, 100]
    assert "1 step without a signal" in said[1] and "10 steps without a signal" in said[10]
    assert "all rewards are equal (mean 0.00)" in said[1]
    assert max(len(line) for text in said.values() for line in text.splitlines()) <= 100
    log.count_silence({"grad": 0.1, "loss": 0.0, "reward": 1.0})
    assert capsys.readouterr().out == ""
    log.count_silence({"grad": 0.0, "loss": 0.0, "reward": 1.0})  # counted anew
    assert "1 step without a signal" in capsys.readouterr().out


def test_a_run_owns_its_output_from_its_first_moment(tmp_path, capsys):
    path, saved = tmp_path / "new" / "x.pt", []

    def save(step):
        saved.append((step, [name for name in os.listdir(path.parent) if name != "x.lock"]))
        save_checkpoint(path, GPT(GPTConfig(n_layer=1, n_embd=16)), **log.about(step, False))

    def announced():
        with log.writing():
            log.announce("so many parameters " * 9, save)
        said = capsys.readouterr().out
        assert max(map(len, said.splitlines())) <= 100
        return said.replace("\n", " ")
    log = log_of(path)
    said = announced()
    assert saved == [(0, [])]  # before the CSV
    assert said.startswith("python toy.py --steps 9 --out ") and "so many" in said
    assert f"{path.parent} is a new folder" in said
    log.row(1, 10, {})
    log = log_of(path)
    said = announced()
    assert f"note: {path} exists" in said and "new folder" not in said and len(saved) == 2
    assert table_of(tmp_path / "new" / "x.csv") == []
    save(4)
    log = log_of(path, start=4)
    assert "resumed at step 4/9 " in announced() and len(saved) == 3


@pytest.mark.parametrize("seconds,text", [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (60, "1m00s"),
                                          (3599.4, "59m59s"), (3599.6, "1h00m"), (90061, "25h01m")])
def test_durations_carry(seconds, text):
    assert cli.duration(seconds) == text


def test_the_eta_is_at_the_pace_of_this_process(tmp_path, monkeypatch):
    now = itertools.count(1000, 60)
    monkeypatch.setattr(cli.runs.time, "perf_counter", lambda: next(now))
    log = log_of(tmp_path / "x.pt", [], 100, start=40, seconds=7.0)  # at 1000
    assert log.eta(50) == 6.0 * 50     # 60 seconds for steps 41 to 50
    assert log.seconds() == 7.0 + 120
