"""One run on many processes: two ranks do together what one does alone, stop together, and go on
together."""
import contextlib
import copy
import multiprocessing
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import assert_same_run, flat, rows_of, sgd

import cli
import evaluate
import finetune
import pretrain
import variants
from cli import ranks
from grpo import GRPO
from model import load_checkpoint
from tasks import Cell

ROOT = Path(__file__).resolve().parent.parent
FORK = multiprocessing.get_context("fork")
SMALL = ["--layers", "1", "--width", "16", "--eval-prompts", "4", "--eval-every", "0"]
TUNED = ["--steps", "6", "--prompts-per-step", "5", "--group-size", "4", "--reward", "random",
         "--kl", "k1_reward", "--epochs", "2", "--eval-every", "4", "--eval-prompts", "4",
         "--log-every", "1"]


def in_child(rank, port, folder, function, args):
    """What a process of `spread` does: function(*args), as rank of 2, its words in a file."""
    if rank:
        cli.runs.save_checkpoint = cli.runs.write_text = None  # rank 0 alone writes
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True")
    sys.stdout = sys.stderr = open(f"{folder}/said{rank}", "w", buffering=1)
    try:
        function(*args)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)


def spread(folder, function, *args, started=(0, 1)):
    """[(exit status, what it said) of rank 0 and 1] of function(*args) run by both."""
    meeting = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [FORK.Process(target=in_child, args=(rank, meeting.port, folder, function, args))
                 for rank in started]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        process.kill()
        process.join()
    return [(process.exitcode, Path(f"{folder}/said{rank}").read_text())
            for rank, process in zip(started, processes)]


def lines(text):
    return text.strip().splitlines()


# ------------------------------------------------------------------------------------- what is one

@pytest.mark.parametrize("optimizer,apart", [("adamw", 1e-5), ("muon", 1e-3)])
def test_pretraining_on_two_gives_the_weights_of_one(optimizer, apart, tmp_path):
    argv = [*SMALL, "--steps", "50", "--batch-size", "9", "--optimizer", optimizer]
    alone, shared = str(tmp_path / "alone.pt"), str(tmp_path / "shared.pt")
    pretrain.main([*argv, "--out", alone])
    (status, said), (_, silence) = spread(tmp_path, pretrain.main, [*argv, "--out", shared])
    assert status == 0 and silence == "" and lines(said)[0].startswith("torchrun ")
    (a, about_a), (b, about_b) = load_checkpoint(alone), load_checkpoint(shared)
    assert (flat(a.parameters()) - flat(b.parameters())).abs().max() < apart
    assert about_a["scanned"] == about_b["scanned"] == {"problems": 450, "edge": 0}
    losses = [[float(row["loss"]) for row in rows_of(path)] for path in (alone, shared)]
    np.testing.assert_allclose(*losses, atol=1e-3)


def steps_of_all_methods(base, folder):
    """On this rank a step of every method, and what it sampled for it, into a file."""
    with ranks.joined("finetune.py"):
        found = {name: step_of(make(name, base)) for name in variants.names()}
    torch.save(found, f"{folder}/rank{ranks.rank()}")


def step_of(method):
    """(groups sampled here, gradient, numbers, what is spent, groups seen) of a step."""
    sampled, experience = [], method.experience

    def keep(n):
        sampled.extend(experience(n))
        return copy.deepcopy(sampled)
    method.experience = keep
    groups, numbers = method.step(sgd(method))
    return (sampled, flat(p.grad for p in method.parameters()), numbers, method.spent(),
            len(groups))


def make(name, base):
    (policy, _), (reference, _) = load_checkpoint(base), load_checkpoint(base)
    settings = {"distill": {"teacher": base}, "passk": {"k": 2, "group_size": 4}, "sft": {},
                "expo": {"unprepared": True, "group_size": 4},
                "critique": {"unprepared": True, "group_size": 4}}
    cells = [("arithmetic", Cell(depth, 2)) for depth in (1, 2)]
    method = variants.load(name)(policy, reference, cells, prompts_per_step=7, seed=3,
                                 **settings.get(name, {"group_size": 4}))

    def rewards(group):  # half of what a barely trained base writes is to be right
        return (group.tokens.sum(1) % 2).float().view(len(group.prompts), -1)
    if name != "sft":
        method.rewards = rewards
    return method


def test_a_step_of_two_ranks_is_that_of_one_on_all_their_groups(base, tmp_path):
    ends = spread(tmp_path, steps_of_all_methods, base, tmp_path)
    assert [status for status, _ in ends] == [0, 0], ends
    a, b = (torch.load(tmp_path / f"rank{rank}", weights_only=False) for rank in (0, 1))
    for name in variants.names():
        (mine, gradient, numbers, spent, n), (theirs, same, _, also, _) = a[name], b[name]
        assert torch.equal(gradient, same) and spent == also, name
        assert {len(g.prompts) for g in mine} != {0} and n == len(mine) + len(theirs), name
        assert not any(np.array_equal(x.prompts, y.prompts) for x in mine for y in theirs), name
        alone = make(name, base)
        alone.experience = lambda n: [*mine, *theirs]
        _, expected = alone.step(sgd(alone))
        torch.testing.assert_close(gradient, flat(p.grad for p in alone.parameters()), msg=name)
        assert numbers.keys() == expected.keys(), name
        for key, value in expected.items():
            assert numbers[key] == pytest.approx(value, rel=1e-4, abs=1e-6), (name, key)
        assert numbers["grad"] > 0, name
        if name == "sft":
            shown = [*mine, *theirs]
            assert spent == {"rollouts": 0, "gold_problems": sum(len(g.tokens) for g in shown),
                             "gold_tokens": sum(g.completions.numel() for g in shown)}
        else:
            beside = {"remax": 7, "tempflow": 7, "spo_chain": 14,  # greedy; cuts
                      "acnchor": -7, "alternate": -7,               # gold, which nobody sampled
                      "critique": 14}.get(name, 0)                    # twice 3, and trained are 4
            trained = sum(len(g.tokens) for g in [*mine, *theirs])
            retried = any("hint" in g.more and (g.more["hint"] > 0).any() for g in [*mine, *theirs])
            assert retried or spent["rollouts"] == trained + beside, name
            assert not retried or spent["rollouts"] > trained and spent["gold_tokens"] > 0, name
    assert sum(len(g.prompts) for g in [*a["grpo"][0], *b["grpo"][0]]) == 7


def test_random_numbers_of_rank_0_are_those_of_a_single_process(monkeypatch):
    assert ranks.own_seed(5) == 5 and ranks.share(7) == slice(0, 7)
    assert ranks.launcher() == ["python"]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert ranks.own_seed(5) == 5
    seeds, shares = [], []
    for rank in "012":
        monkeypatch.setenv("RANK", rank)
        seeds.append(ranks.own_seed(5))
        shares += range(7)[ranks.share(7)]
    assert len({*seeds, 6, 7}) == 5 and shares == list(range(7))
    with pytest.raises(ranks.RankError, match="step of 2 is too small for 3 processes"):
        ranks.share(2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert ranks.launcher() == ["torchrun", "--nnodes=3", "--nproc-per-node=1"]


# -------------------------------------------------------------------------------- stop, and go on

def stopped_on_rank_1(argv):
    """finetune.main, of which rank 1 alone sees a Ctrl-C, in its third step."""
    @contextlib.contextmanager
    def signals():
        asked = []

        def stopped():
            asked.append(1)
            return os.environ["RANK"] == "1" and len(asked) == 3
        yield stopped
    cli.stop_signals = cli.runs.stop_signals = signals
    finetune.main(argv)


def test_a_signal_to_one_stops_all_and_they_go_on_bit_for_bit(base, tmp_path, capsys):
    whole, halves = str(tmp_path / "whole.pt"), str(tmp_path / "halves.pt")
    argv = ["--init", base, *TUNED]
    (status, said), (_, silence) = spread(tmp_path, finetune.main, [*argv, "--out", whole])
    assert status == 0 and silence == "" and "5 prompts x 4 completions" in said
    assert [int(row["rollouts"]) for row in rows_of(whole)] == [20, 40, 60, 80, 100, 120]
    ends = spread(tmp_path, stopped_on_rank_1, [*argv, "--out", halves])
    assert [status for status, _ in ends] == [130, 130]
    said = " ".join(ends[0][1].split())
    assert f"torchrun --nproc-per-node=2 finetune.py --resume {halves}" in said
    assert load_checkpoint(halves)[1]["step"] == 3
    with pytest.raises(SystemExit):
        finetune.main(["--resume", halves])
    refusal, = lines(capsys.readouterr().err)
    assert "shared by 2 processes, not by 1" in refusal
    ends = spread(tmp_path, finetune.main, ["--resume", halves])
    assert [status for status, _ in ends] == [0, 0], ends
    assert_same_run(whole, halves)


def test_the_budget_is_that_of_all(base, tmp_path):
    out = str(tmp_path / "budget.pt")
    argv = ["--init", base, *TUNED, "--budget-rollouts", "50", "--out", out]
    assert [status for status, _ in spread(tmp_path, finetune.main, argv)] == [0, 0]
    assert [int(row["rollouts"]) for row in rows_of(out)] == [20, 40, 60]


# -------------------------------------------------------------------------------- what ends them

def nan_on_rank_1(argv):
    """finetune.main, where the loss of rank 1 is not finite."""
    loss = GRPO.loss
    nan = float("nan") if os.environ["RANK"] == "1" else 1.0
    GRPO.loss = lambda self, group, logp: nan * loss(self, group, logp)
    finetune.main(argv)


def not_shared(argv):
    evaluate.main([argv[1]])


def mistyped(argv):
    pretrain.main(["--stpes", "3"])


def unshared_step(argv):
    """finetune.main with a method whose `step` knows nothing of other processes."""
    GRPO.gather = GRPO.own = lambda self, groups: groups
    GRPO.clip_gradients = lambda self, numbers: numbers.update(grad=1.0)
    finetune.main(argv)


def killed_on_rank_1(argv):
    """finetune.main, of which rank 1 is gone in its second step."""
    step = GRPO.step

    def dies(self, optimizer):
        if self.rollouts and os.environ["RANK"] == "1":
            os.kill(os.getpid(), 9)
        return step(self, optimizer)
    GRPO.step = dies
    finetune.main(argv)


@pytest.mark.parametrize("function,why", [
    (nan_on_rank_1, "step 1: loss nan"),
    (not_shared, "evaluate.py is one process"),
    (mistyped, "is it --steps?"),
    (unshared_step, "the processes' weights differ"),
    (killed_on_rank_1, "another process of this run has ended")])
def test_what_ends_one_ends_all_in_one_line(function, why, base, tmp_path):
    argv = ["--init", base, *TUNED, "--out", str(tmp_path / "x.pt")]
    ends = spread(tmp_path, function, argv)
    assert [status for status, _ in ends] == [2, -9 if "killed" in function.__name__ else 2], ends
    errors = [line for _, said in ends for line in lines(said) if "error" in line.lower()]
    assert len(errors) == 1 and why in errors[0], ends
    assert "Traceback" not in ends[0][1] + ends[1][1]


def impatient(argv):
    ranks.PATIENCE /= 600
    pretrain.main(argv)


def test_a_process_that_does_not_come_is_not_waited_for_forever(tmp_path):
    (status, said), = spread(tmp_path, impatient, [*SMALL, "--out", str(tmp_path / "x.pt")],
                             started=[0])
    assert status == 2 and "cannot be reached" in lines(said)[-1], said
    assert not (tmp_path / "x.pt").exists() and "Traceback" not in said


def test_torchrun_itself(tmp_path):
    out, log = tmp_path / "base.pt", tmp_path / "log"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                "2", str(ROOT / "pretrain.py"), *SMALL, "--steps", "3", "--out", str(out)]
    with open(log, "w") as file:
        subprocess.run(torchrun, stdout=file, stderr=file, check=True, timeout=240)
    assert load_checkpoint(out)[1]["finished"]
    assert log.read_text().count("saved") == 1
