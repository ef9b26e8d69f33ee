"""model.py: cached decoding against the plain forward, sampling, order, checkpoints."""
import errno
import os

import pytest
import torch
import torch.nn.functional as F

import model as model_module
from model import (GPT, CheckpointError, GPTConfig, RMSNorm, generate, load_checkpoint, norm, sample, save_checkpoint, squared_relu,
                   token_logprobs)
from tasks import EOS, PAD


def tiny(position="rope", tied=True, dtype=torch.float64, seed=0, **config):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(**{"vocab_size": 12, "context": 24, "n_layer": 2, "n_head": 2, "n_embd": 16, "position": position, "tied": tied, **config})).to(dtype)
    for p in model.parameters():  # far from the near-uniform start, where a wrong cache would hardly show
        torch.nn.init.normal_(p, std=0.4)
    return model


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("position,tied", [("rope", True), ("learned", True), ("nope", False)])
def test_sampler_and_scorer_agree(position, tied, temperature):
    """KV cache, shared prefill and decode attention give the plain forward's log-probs, to 1e-10 in float64 (silent bugs 2, 3)."""
    model = tiny(position, tied)
    prompts = torch.randint(3, 12, (5, 6))
    completions, logprobs = generate(model, prompts, 10, temperature, group_size=4, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([prompts.repeat_interleave(4, dim=0), completions], dim=1)  # wrong if groups were not adjacent (6)
    scored = token_logprobs(model, rows, 6, temperature)
    is_eos = completions == EOS
    mask = is_eos.int().cumsum(1) - is_eos.int() == 0
    assert is_eos.any() and mask.sum(1).unique().numel() > 2  # rows stop at different places
    assert (scored - logprobs)[mask].abs().max() < 1e-10
    shared = token_logprobs(model, rows, 6, temperature, group_size=4)  # the prompt once per group
    assert (shared - scored).abs().max() < 1e-10
    gradients = [torch.autograd.grad((x * mask).sum(), list(model.parameters())) for x in (scored, shared)]
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(*gradients))
    assert (completions[~mask] == PAD).all() and (logprobs[~mask] == 0).all()
    assert logprobs.dtype == torch.float64 and completions.shape == logprobs.shape == (20, 10)


def test_logprobs_are_those_of_the_written_out_softmax():
    model, tokens = tiny(), torch.randint(12, (3, 9))
    logits = model(tokens)
    assert logits.shape == (3, 9, 12)
    expected = [[torch.log_softmax(logits.detach()[b, t - 1] / 0.5, -1)[tokens[b, t]] for t in range(4, 9)] for b in range(3)]
    assert torch.allclose(token_logprobs(model, tokens, 4, 0.5), torch.tensor(expected, dtype=torch.float64))


def test_attention_is_causal():
    model, tokens = tiny(), torch.randint(12, (2, 9))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 12
    assert torch.equal(model(tokens)[:, :5], model(changed)[:, :5]) and not torch.allclose(model(tokens)[:, 5:], model(changed)[:, 5:])


def test_greedy_equals_argmax_token_by_token_and_leaves_inputs_alone():
    model, prompts = tiny(seed=3), torch.randint(3, 12, (6, 4))
    before = prompts.clone()
    completions, logprobs = generate(model, prompts, 8, temperature=0)
    assert torch.equal(prompts, before)
    rows = prompts
    for _ in range(8):
        rows = torch.cat([rows, model(rows)[:, -1].argmax(-1, keepdim=True)], dim=1)
    for written, expected in zip(completions.tolist(), rows[:, 4:].tolist()):
        end = expected.index(EOS) + 1 if EOS in expected else 8
        assert written == expected[:end] + [PAD] * (8 - end)
    assert (logprobs == 0).all()  # the greedy choice is certain
    assert (token_logprobs(model, torch.cat([prompts, completions], 1), 4, 0)[completions != PAD] == 0).all()


def test_group_size_one_equals_repeated_prompts():
    model, prompts = tiny(), torch.randint(3, 12, (3, 5))
    a = generate(model, prompts, 7, group_size=4, generator=torch.Generator().manual_seed(0))
    b = generate(model, prompts.repeat_interleave(4, dim=0), 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(a[0], b[0]) and torch.allclose(a[1], b[1], atol=1e-12)


def test_sampling_follows_the_distribution():
    logp = torch.log_softmax(torch.tensor([2.0, -1.0, 0.5, -60.0, 1.0], dtype=torch.float64), 0)
    counts = torch.bincount(sample(logp.expand(200_000, 5), torch.Generator().manual_seed(0)), minlength=5) / 200_000
    assert counts[3] == 0 and (counts - logp.exp()).abs().max() < 4 * (0.25 / 200_000) ** 0.5


def test_no_token_is_banned():
    model = tiny()
    completions, _ = generate(model, torch.randint(3, 12, (64, 2)), 6, temperature=50.0, group_size=8, generator=torch.Generator().manual_seed(0))
    assert set(completions[:, 0].tolist()) == set(range(12))


def test_what_does_not_fit_the_context_is_refused():
    with pytest.raises(ValueError, match="context of 24"):
        generate(tiny(), torch.ones(1, 20, dtype=torch.long), 5)
    with pytest.raises(ValueError, match="context of 24"):
        tiny()(torch.ones(1, 25, dtype=torch.long))


@pytest.mark.parametrize("bad", [{"position": "alibi"}, {"n_head": 3}])
def test_impossible_configs_are_refused(bad):
    with pytest.raises(ValueError):
        GPTConfig(**bad)


def test_default_size():
    assert 95_000 < GPT(GPTConfig()).n_parameters() < 110_000


# --------------------------------------------------------------------------------------------------------- checkpoints

def test_checkpoint_round_trip(tmp_path):
    model, path = tiny("learned", tied=False, dtype=torch.float32), tmp_path / "new" / "folder" / "m.pt"
    save_checkpoint(path, model, step=7, args={"lr": 0.1, "name": None}, state=[torch.arange(3)])
    loaded, extra = load_checkpoint(path)
    assert loaded.config == model.config and all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters()))
    assert extra["step"] == 7 and extra["args"] == {"lr": 0.1, "name": None} and torch.equal(extra["state"][0], torch.arange(3))
    assert os.listdir(path.parent) == ["m.pt"]


def test_damaged_and_foreign_checkpoints_are_named(tmp_path):
    good = tmp_path / "good.pt"
    save_checkpoint(good, tiny())
    whole = good.read_bytes()
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)
    torch.save({"format": "nanotilt-1", "x": Evil()}, tmp_path / "evil.pt")
    torch.save({"model": {}}, tmp_path / "foreign.pt")
    torch.save({"format": "nanotilt-1", "config": {"width": 3}, "model": {}, "extra": {}}, tmp_path / "odd.pt")
    (tmp_path / "truncated.pt").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    for name in ("evil", "foreign", "odd", "truncated", "empty", "text", "missing"):
        with pytest.raises(CheckpointError, match=f"{name}.pt"):
            load_checkpoint(tmp_path / f"{name}.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch, when):
    path = tmp_path / "m.pt"
    save_checkpoint(path, tiny(), step=1)
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(model_module.os, when, full)
    with pytest.raises(OSError) as error:
        save_checkpoint(path, tiny(), step=2)
    monkeypatch.undo()
    assert error.value.filename == str(path) and error.value.errno == errno.ENOSPC
    assert load_checkpoint(path)[1]["step"] == 1 and os.listdir(tmp_path) == ["m.pt"]


@pytest.mark.parametrize("function,formula", [
    (RMSNorm.apply, lambda x: x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-6)), (squared_relu, lambda x: F.relu(x).square())])
def test_derivatives_written_by_hand(function, formula):
    x = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(function(x), formula(x), atol=1e-12) and torch.autograd.gradcheck(function, x)
    with torch.no_grad():
        assert torch.allclose(norm(x), RMSNorm.apply(x), atol=1e-12) and torch.allclose(squared_relu(x.clone()), F.relu(x).square())  # as sampling has them
