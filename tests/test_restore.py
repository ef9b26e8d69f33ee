"""Checkpoints that are damaged, of another vocabulary, or lack a part: one line, at once, and the
exit status 2. What a whole one gives back is in test_model.py and test_scripts.py."""
import io
import math
import os
import time

import numpy as np
import pytest
import torch
from by_hand import assert_same

import cli
import evaluate
import finetune
import model as model_module
import pretrain
import tasks
from model import (GPT, SEAL, CheckpointError, GPTConfig, check_meanings, check_weights, checksum,
                   load_checkpoint, save_checkpoint)

SMALL = ["--steps", "5", "--eval-every", "0", "--eval-prompts", "4", "--save-every", "3"]
RUNS = {
    "pretrain": (pretrain, ["--layers", "1", "--width", "16", "--batch-size", "4"]),
    "grpo": (finetune, ["--prompts-per-step", "2", "--group-size", "2", "--reward", "random",
                        "--kl", "k1_reward"]),
    "ppo": (finetune, ["--method", "ppo", "--prompts-per-step", "2", "--group-size", "2",
                       "--reward", "random"]),
}


@pytest.fixture(scope="module")
def halves(base, tmp_path_factory):
    """{kind: checkpoint of a run that was stopped after step 3 of 5}."""
    folder, paths = tmp_path_factory.mktemp("halves"), {}

    def stop(self, step, tokens, values):
        if step == 4:
            raise KeyboardInterrupt
    for kind, (script, argv) in RUNS.items():
        paths[kind] = str(folder / f"{kind}.pt")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(cli.Log, "row", stop)
            init = ["--init", base] if script is finetune else []
            script.main([*init, *argv, *SMALL, "--out", paths[kind]])
        assert load_checkpoint(paths[kind])[1]["step"] == 3
    return paths


def write(path, saved):
    """What save_checkpoint writes, of any content."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    path.write_bytes(buffer.getvalue() + SEAL + checksum(buffer.getvalue()))


def put(saved, where, value):
    """Change, or with None take away, a part of a nested dict, at "model embed.weight"."""
    *above, last = [int(x) if x.isdigit() else x for x in where.split()]
    for name in above:
        saved = saved[name]
    if value is None:
        del saved[last]
    else:
        saved[last] = value(saved[last]) if callable(value) else value


def refused(script, argv, path, capsys):
    """The one line that a script says of the checkpoint at path, which stops it at once."""
    before, began = sorted(os.listdir(path.parent)), time.perf_counter()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        script.main([*argv, "--threads", "1"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1, said
    assert str(path) in said and time.perf_counter() - began < 2
    assert sorted(os.listdir(path.parent)) == before
    return said


def spoil(x):
    x = x.clone()
    x.view(-1)[0] = math.nan
    return x


WEIGHT = "model blocks.0.up.weight"

# What no reader of a checkpoint accepts: where, what stands there instead, words of the line.
EVERYWHERE = [
    ("config", None, "has no 'config'"), ("config", 5, "fit together"),
    ("config", [], "fit together"), ("config", {}, "sizes"),
    ("config n_layer", 10 ** 9, "from 1 to"), ("config n_layer", 10 ** 6, "sizes"),
    ("config n_layer", 0, "n_layer is 0"), ("config n_layer", -1, "n_layer is -1"),
    ("config n_layer", "1", "n_layer is '1'"), ("config n_layer", 2, "sizes"),
    ("config n_layer", 1.5, "n_layer is 1.5"), ("config n_head", 0, "n_head is 0"),
    ("config n_head", 3, "even whole number"), ("config n_head", 10 ** 30, "n_head"),
    ("config n_embd", 10 ** 9, "n_embd"), ("config n_embd", 800_000, "sizes"),
    ("config n_embd", 32, "sizes"), ("config context", 0, "context is 0"),
    ("config context", -96, "context"), ("config context", 10 ** 12, "context"),
    ("config context", "96", "context"), ("config vocab_size", 67, "vocabulary of 66"),
    ("config vocab_size", 10 ** 12, "vocab_size"), ("config vocab_size", -1, "vocab_size"),
    ("config position", "alibi", "alibi"), ("config position", [1], "position"),
    ("config position", "learned", "sizes"), ("config tied", False, "sizes"),
    ("config width", 5, "width"),
    ("model", None, "has no 'model'"), ("model", 5, "fit together"), ("model", {}, "sizes"),
    (WEIGHT, None, "sizes"), (WEIGHT, "text", "fit together"), (WEIGHT, spoil, "up.weight is not"),
    (WEIGHT, lambda x: x + math.inf, "up.weight is not finite"),
    (WEIGHT, lambda x: x.T.clone(), "up.weight is torch.Size"),
    (WEIGHT, lambda x: x.flatten(), "up.weight is torch.Size"),
    ("model embed.weight", spoil, "embed.weight is not finite"),
    ("extra", None, "has no 'extra'"), ("extra", [1], "fit together"),
    ("extra args", 5, "fit together"), ("extra args", {"task": {1: 2}}, "args"),
    ("vocabulary", 5, "fit together"), ("vocabulary", [], "vocabulary of 0"),
    ("vocabulary", ["a", "b"], "another vocabulary: 'a' was token 0, 'b' was token 1"),
    ("vocabulary", lambda x: [*x, "[+5]"], "'[+5]' was token 66"),
    ("vocabulary", lambda x: x[::-1], "and 63 more"), ("vocabulary", [1, None], "vocabulary"),
    ("operations", 5, "fit together"), ("operations [+1]", "9999", "made when [+1] gave 9999"),
    ("format", "nanotilt-3", "not a checkpoint of this project"), ("format", None, "not a check"),
]

# What only a resumed run reads.
RESUMED = [
    ("step", None, "has no 'step'"), ("step", -1, "step -1"), ("step", "3", "step is of type str"),
    ("step", 2.0, "step"),
    ("step", 5, "step 5 of 5, not finished"), ("step", 10 ** 12, "not finished"),
    ("finished", None, "has no 'finished'"), ("finished", "no", "finished"),
    ("seconds", None, "has no 'seconds'"), ("seconds", math.nan, "seconds"),
    ("seconds", -1.0, "seconds"), ("run", 5, "run is of type int"),
    ("script", None, "another program"), ("script", 5, "not by"),
    ("args", None, "has no 'args'"), ("args", {}, "another version"),
    ("args steps", None, "had no --steps"), ("args steps", "many", "flags are damaged"),
    ("args steps", 5.0, "flags are damaged: --steps '5.0': must be"),
    ("args steps", -5, "flags are damaged"),
    ("args seed", -1, "flags are damaged"), ("args threads", "x", "flags are damaged"),
    ("args task", "chess", "flags are damaged"), ("args axis", ["depth"], "flags are damaged"),
    ("args out", 7, "flags are damaged"), ("args eval_prompts", True, "flags are damaged"),
]
OF_GRPO = [
    ("optimizer", None, "has no 'optimizer'"), ("optimizer", 5, "cannot be gone on from"),
    ("optimizer state", None, "has no 'state'"), ("optimizer state", [], "cannot be gone on"),
    ("optimizer state 0 exp_avg", None, "has no 'exp_avg'"),
    ("optimizer state 0 exp_avg", lambda x: x[:1], "wrong shape"),
    ("optimizer state 0 exp_avg", spoil, "optimizer 0 exp_avg is not finite"),
    ("optimizer state 0 step", 3, "step is of type int"),
    ("optimizer state", lambda x: {99: x[0]}, "has no 99"),
    ("reference", {}, "embed.weight is missing"), ("reference", 5, "cannot be gone on from"),
    ("reference embed.weight", spoil, "embed.weight is not finite"),
    ("reference embed.weight", lambda x: x[:5], "embed.weight is torch.Size"),
    ("reference", None, "has no 'reference'"),
    ("method", None, "has no 'method'"), ("method", [], "method is of type list"),
    ("method numpy", None, "has no 'numpy'"), ("method numpy", {}, "has no 'bit_generator'"),
    ("method numpy bit_generator", "MT19937", "cannot be gone on from"),
    ("method numpy state", {}, "has no 'state'"), ("method torch", None, "has no 'torch'"),
    ("method numpy state state", -1, "cannot be gone on from"),
    ("method torch", lambda x: x[:9], "cannot be gone on"), ("method torch", 5, "torch is of type"),
    ("method torch", lambda x: x.float(), "cannot be gone on from"),
    ("method rollouts", "many", "rollouts is of type str"), ("method turn", None, "has no 'turn'"),
    ("args method", "dpo", "--method dpo, which is not"), ("args method", 5, "--method 5, which"),
    ("ranks", "two", "ranks is of type str"), ("others", 5, "others is of type int"),
    ("ranks", 3, "0 others for 3 ranks"),
    ("args beta", "much", "flags are damaged"), ("args depths", ["x"], "flags are damaged"),
]
OF_PPO = [("method head", None, "has no 'head'"),
          ("method head weight", lambda x: x[:, :3], "cannot be gone on from")]
OF_PRETRAIN = [
    ("optimizers", None, "has no 'optimizers'"), ("optimizers", [], "optimizers has 0 parts"),
    ("optimizers", 5, "optimizers is of type int"), ("scanned", None, "has no 'scanned'"),
    ("scanned edge", "x", "scanned edge is of type str"), ("scanned", {}, "has no 'problems'"),
]


@pytest.mark.parametrize("where,value,words", EVERYWHERE, ids=lambda x: str(x)[:30])
def test_a_checkpoint_that_nobody_can_read(where, value, words, halves, tmp_path, capsys):
    path = tmp_path / "broken.pt"
    saved = torch.load(halves["grpo"], weights_only=True)
    put(saved, where, value)
    write(path, saved)
    out = ["--out", str(tmp_path / "out.pt")]
    for script, argv in ((pretrain, ["--init", str(path), *out]), (evaluate, ["--ckpt", str(path)]),
                         (finetune, ["--init", str(path), *out]),
                         (finetune, ["--resume", str(path)])):
        assert words in refused(script, argv, path, capsys)


@pytest.mark.parametrize("kind,where,value,words", [
    (kind, *case) for kind, cases in (("grpo", RESUMED + OF_GRPO), ("pretrain", RESUMED),
                                      ("pretrain", OF_PRETRAIN), ("ppo", OF_PPO))
    for case in cases], ids=lambda x: str(x)[:30])
def test_a_run_that_cannot_be_resumed(kind, where, value, words, halves, tmp_path, capsys):
    path = tmp_path / "broken.pt"
    saved = torch.load(halves[kind], weights_only=True)
    put(saved["extra"], where, value)
    write(path, saved)
    assert words in refused(RUNS[kind][0], ["--resume", str(path)], path, capsys)


@pytest.mark.parametrize("kind", RUNS)
def test_those_runs_could_be_resumed(kind, halves, tmp_path):
    path = tmp_path / "whole.pt"
    write(path, torch.load(halves[kind], weights_only=True))
    RUNS[kind][0].main(["--resume", str(path)])
    assert load_checkpoint(path)[1]["finished"]


# ----------------------------------------------------------------------------------- single bits

def flipped(data, bit):
    """data with one bit changed."""
    data = bytearray(data)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def test_every_flipped_bit_is_noticed(halves, tmp_path):
    """200 anywhere, and all of the seal's: no byte of the file is out of sight."""
    whole = open(halves["grpo"], "rb").read()
    rng, path = np.random.default_rng(0), tmp_path / "flipped.pt"
    bits = [*rng.integers(8 * len(whole), size=200), *range(8 * len(whole) - 160, 8 * len(whole))]
    for bit in map(int, bits):
        path.write_bytes(flipped(whole, bit))
        with pytest.raises(CheckpointError, match="flipped.pt: (damaged|truncated|not a check)"):
            load_checkpoint(path)
    for missing in (1, 4, 20, 21, 200):
        path.write_bytes(whole[:-missing])
        with pytest.raises(CheckpointError, match="flipped.pt: (damaged|truncated)"):
            load_checkpoint(path)


def test_a_checksum_costs_little(tmp_path):
    """A model of 100 thousand weights, its optimizer and its reference: 1.6 MB."""
    net, path = GPT(GPTConfig()), tmp_path / "m.pt"
    save_checkpoint(path, net, more=[[x.detach() + i for x in net.parameters()] for i in range(3)])
    data, times = path.read_bytes(), []
    for _ in range(5):
        began = time.perf_counter()
        checksum(data)
        check_weights(net, net.state_dict())
        check_meanings(net.config, {"vocabulary": tasks.VOCAB})
        times.append(time.perf_counter() - began)
    assert len(data) > 1_500_000 and min(times) < 0.01


# ---------------------------------------------------------------------- other words, other meanings

def of_words(monkeypatch, words):
    """From now on VOCAB is this, as if tasks.py had been edited."""
    monkeypatch.setattr(model_module, "VOCAB", words)


def test_a_base_knows_which_tokens_moved(base, monkeypatch):
    at = tasks.ID["[x3]"]
    of_words(monkeypatch, [*tasks.VOCAB[:at], "[+5]", *tasks.VOCAB[at:]])
    with pytest.raises(CheckpointError, match=rf"'\[x3\]' was token {at}, .* and 3 more"):
        load_checkpoint(base)
    of_words(monkeypatch, tasks.VOCAB[:-1])
    with pytest.raises(CheckpointError, match=r"'\[sum\]' was token 65 \(add"):
        load_checkpoint(base)


def test_tokens_at_the_end_leave_a_base_as_it_was(base, tmp_path, monkeypatch):
    of_words(monkeypatch, [*tasks.VOCAB, "[+5]"])
    net, _ = load_checkpoint(base)
    assert net.config.vocab_size == 66
    save_checkpoint(tmp_path / "again.pt", net)
    saved = torch.load(tmp_path / "again.pt", weights_only=True)
    assert saved["vocabulary"] == tasks.VOCAB and "[+5]" not in saved["vocabulary"]


def test_a_base_that_lacks_tokens_of_its_task_is_named(tmp_path, capsys):
    path = tmp_path / "small.pt"
    save_checkpoint(path, GPT(GPTConfig(vocab_size=60, n_layer=1, n_embd=16)))
    out = ["--out", str(tmp_path / "out.pt")]
    for script, argv in ((pretrain, ["--init", str(path), *out]), (evaluate, ["--ckpt", str(path)]),
                         (finetune, ["--init", str(path), *out])):
        said = refused(script, argv, path, capsys)
        assert "knows the first 60 tokens only, and arithmetic also has [sum]" in said
    evaluate.main(["--ckpt", str(path), "--task", "graph", "--prompts", "2"])  # it has all of these
    with pytest.raises(SystemExit):
        evaluate.main(["--ckpt", str(path), "--prompt", "31 [rev] ="])
    assert "--prompt: [rev] is not among the 60 tokens" in capsys.readouterr().err


def test_a_checkpoint_of_before_still_loads(halves, tmp_path):
    """No seal, no vocabulary, another mark."""
    saved = torch.load(halves["grpo"], weights_only=True)
    del saved["vocabulary"], saved["operations"]
    torch.save({**saved, "format": "nanotilt-1"}, tmp_path / "old.pt")
    net, extra = load_checkpoint(tmp_path / "old.pt")
    assert_same(dict(net.state_dict()), dict(load_checkpoint(halves["grpo"])[0].state_dict()))
    assert_same(extra, load_checkpoint(halves["grpo"])[1])
    finetune.main(["--resume", str(tmp_path / "old.pt")])


@pytest.mark.parametrize("sizes", [{}, {"tied": False, "position": "learned", "n_layer": 3},
                                   {"vocab_size": 12, "n_embd": 16, "position": "nope"}])
def test_a_config_counts_its_weights_without_a_model(sizes):
    assert GPTConfig(**sizes).n_parameters() == GPT(GPTConfig(**sizes)).n_parameters()


def test_devices_and_folders_are_no_checkpoints(tmp_path):
    for path in (tmp_path, os.devnull, "/dev/zero"):
        if os.path.exists(path):
            with pytest.raises(CheckpointError, match="is not a file"):
                load_checkpoint(path)
