"""How a run ends: by signals, by a reader who goes away, by a weight that is not finite; and how a
finished one is made longer. The log itself is in test_cli.py."""
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from by_hand import assert_same_run, rows_of

import cli
import finetune
import forked
import pretrain
from cli import early
from model import load_checkpoint

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--prompts-per-step", "4", "--group-size", "4", "--eval-prompts", "4", "--eval-every", "2",
         "--reward", "random", "--threads", "1"]
SMALL_BASE = ["--batch-size", "8", "--layers", "1", "--width", "16", "--eval-prompts", "4",
              "--eval-every", "2", "--threads", "1"]


def started(script, *argv, **options):
    """A process of a script."""
    return subprocess.Popen([sys.executable, ROOT / script, *map(str, argv)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def for_long(base, out):
    """The flags of a run that takes minutes."""
    return ["--init", base, *SMALL, "--steps", "4000", "--log-every", "1", "--eval-every", "0",
            "--out", out]


# --------------------------------------------------------------------------------- from outside

@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
@pytest.mark.parametrize("numbers", [[signal.SIGHUP], [signal.SIGTERM, signal.SIGINT],
                                     [signal.SIGINT] * 3])
def test_a_signal_saves_also_if_others_follow_at_once(numbers, base, tmp_path):
    out = tmp_path / "g.pt"
    with forked.script(finetune, for_long(base, out)) as process:
        while "step 3/" not in process.stdout.readline():
            pass
        for number in numbers:
            process.send_signal(number)
        said, complaint = process.communicate()
    assert process.returncode == 130
    assert complaint == "stopping after this step (again to stop at once)\n"
    step = load_checkpoint(out)[1]["step"]
    assert step >= 3 and len(rows_of(str(out))) == step
    assert f"interrupted after step {step}/4000, saved; go on with" in said
    assert sorted(os.listdir(tmp_path)) == ["g.csv", "g.pt"]


def test_a_reader_who_goes_away_stops_the_run_and_it_is_saved(base, tmp_path):
    """python finetune.py | head -1"""
    out = tmp_path / "g.pt"
    with started("finetune.py", *for_long(base, out)) as process:
        while "step 2/" not in process.stdout.readline():
            pass
        process.stdout.close()
        complaint = process.stderr.read()
        assert process.wait() == 141
    step = load_checkpoint(out)[1]["step"]
    assert step >= 2 and len(rows_of(str(out))) == step
    assert re.fullmatch(f"interrupted after step {step}/4000, saved; go on with: "
                        "python finetune.py --resume .*g.pt\n", complaint)


SLOW = "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"


@pytest.mark.parametrize("script", early.SCRIPTS)
def test_ctrl_c_while_torch_is_imported_is_one_line(script, tmp_path):
    (tmp_path / "torch.py").write_text(SLOW)
    (tmp_path / "numpy.py").write_text(SLOW)
    with started(script, "--help", env={**os.environ, "PYTHONPATH": str(tmp_path)}) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == "interrupted\n" and process.returncode == 130


def test_who_imports_the_scripts_keeps_his_ctrl_c():
    assert signal.getsignal(signal.SIGINT) is not early.end
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for other in ("", "somewhere/finetune.py", ROOT / "mine.py"):
            early.watch(str(other))
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        early.watch(str(ROOT / "study.py"))
        assert signal.getsignal(signal.SIGINT) is early.end
        early.restore_ctrl_c()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, old)


# ------------------------------------------------------------------------------------ from within

def test_weights_that_are_not_finite_are_seen():
    weights = [torch.zeros(3), torch.ones(2, 2)]
    cli.check_finite(weights)
    for bad in (float("nan"), float("inf"), -float("inf")):
        weights[1][0, 1] = bad
        with pytest.raises(FloatingPointError, match="a weight is no longer finite"):
            cli.check_finite(weights)


@pytest.mark.parametrize("script", ["pretrain", "finetune"])
def test_a_checkpoint_is_always_finite(script, base, tmp_path, monkeypatch, capsys):
    """The third update goes to infinity; its loss and gradient were fine."""
    out, steps = str(tmp_path / "x.pt"), []
    real = pretrain.Muon.step if script == "pretrain" else torch.optim.AdamW.step

    def step(self, *args):
        real(self, *args)
        steps.append(1)
        if len(steps) == 3:
            self.param_groups[0]["params"][0].data[0, 0] = float("inf")
    monkeypatch.setattr(pretrain.Muon if script == "pretrain" else torch.optim.AdamW, "step", step)
    with pytest.raises(SystemExit) as stop:
        if script == "pretrain":
            pretrain.main([*SMALL_BASE, "--steps", "9", "--save-every", "1", "--out", out])
        else:
            finetune.main(["--init", base, *SMALL, "--steps", "9", "--save-every", "1",
                           "--keep-every", "1", "--out", out])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "step 3: a weight is no longer finite" in error
    assert "x.pt keeps the last good checkpoint" in error
    kept, extra = load_checkpoint(out)
    assert extra["step"] == 2 and all(p.isfinite().all() for p in kept.parameters())
    assert not os.path.exists(tmp_path / "x.step0003.pt")


# -------------------------------------------------------------------------------- for longer still

def test_a_finished_run_can_be_extended(base, tmp_path, capsys):
    whole, longer = str(tmp_path / "whole.pt"), str(tmp_path / "longer.pt")
    finetune.main(["--init", base, *SMALL, "--steps", "4", "--out", longer])
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--resume", longer])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "finished, after 4 steps (more --steps go on" in said
    with pytest.raises(SystemExit):
        finetune.main(["--resume", longer, "--steps", "3"])
    finetune.main(["--resume", longer, "--steps", "10"])
    said = capsys.readouterr().out
    assert "extended from 4 steps to 10\n" in said and "note" not in said
    finetune.main(["--init", base, *SMALL, "--steps", "10", "--out", whole])
    assert_same_run(whole, longer)


def test_a_finished_pretraining_can_be_extended_and_says_what_differs(tmp_path, capsys):
    whole, longer, decayed = (str(tmp_path / f"{name}.pt") for name in ("whole", "longer", "decay"))
    flat = [*SMALL_BASE, "--decay", "0", "--warmup", "0"]
    pretrain.main([*flat, "--steps", "4", "--out", longer])
    pretrain.main(["--resume", longer, "--steps", "8"])
    assert "extended from 4 steps to 8\n" in capsys.readouterr().out
    pretrain.main([*flat, "--steps", "8", "--out", whole])
    assert_same_run(whole, longer)
    pretrain.main([*SMALL_BASE, "--steps", "4", "--out", decayed])
    capsys.readouterr()
    pretrain.main(["--resume", decayed, "--steps", "8"])
    said = capsys.readouterr().out.replace("\n", " ")
    assert "extended from 4 steps to 8; note: a rate that decays over --steps" in said


def test_a_run_that_ended_before_its_steps_is_not_extended(base, tmp_path, capsys):
    out = str(tmp_path / "g.pt")
    finetune.main(["--init", base, *SMALL, "--steps", "9", "--budget-rollouts", "20", "--out", out])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--resume", out, "--steps", "20"])
    assert stop.value.code == 2
    assert "finished, after 2 steps (before its --steps)" in capsys.readouterr().err
