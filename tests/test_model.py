"""model.py: the forward pass against one written out, cached decoding against the plain forward,
sampling, order, checkpoints."""
import errno
import math
import os
import re
import runpy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import model as model_module
from model import (GPT, CheckpointError, GPTConfig, RMSNorm, generate, load_checkpoint, log_softmax,
                   norm, sample, save_checkpoint, squared_relu, token_logprobs)
from tasks import EOS, PAD, TASKS, Cell


def tiny(position="rope", tied=True, dtype=torch.float64, seed=0, **config):
    torch.manual_seed(seed)
    config = {"vocab_size": 12, "context": 24, "n_layer": 2, "n_head": 2, "n_embd": 16, **config}
    model = GPT(GPTConfig(position=position, tied=tied, **config)).to(dtype)
    for p in model.parameters():  # far from uniform, where a wrong cache would hardly show
        torch.nn.init.normal_(p, std=0.4)
    return model


# -------------------------------------------------------------------------------- the forward pass

def written_out(model, tokens):
    """Logits [T, V] of one row of tokens, position by position, in the manner of the papers:
    RMSNorm without gain, causal softmax(q k / sqrt(D)) with q and k turned by t * 10000^(-2i/D),
    squared ReLU. Shares no code with model.py."""
    def normed(x):
        return x / (math.sqrt(sum(v * v for v in x.tolist()) / len(x)) + 1e-6)

    def turned(x, t):
        out, D = x.clone(), len(x)
        for i in range(0, D, 2):
            angle = t * 10_000 ** (-i / D)
            cos, sin = math.cos(angle), math.sin(angle)
            out[i] = x[i] * cos - x[i + 1] * sin
            out[i + 1] = x[i] * sin + x[i + 1] * cos
        return out

    config = model.config
    C, H = config.n_embd, config.n_head
    stream = [model.embed.weight[token].clone() for token in tokens]
    if config.position == "learned":
        stream = [x + model.positions.weight[t] for t, x in enumerate(stream)]
    for block in model.blocks:
        mixed = [[] for _ in stream]
        projected = [block.qkv.weight @ normed(x) for x in stream]
        for h in range(H):
            part = slice(h * C // H, (h + 1) * C // H)
            q, k, v = ([x[i * C:(i + 1) * C][part] for x in projected] for i in range(3))
            q, k = [normed(x) for x in q], [normed(x) for x in k]
            if config.position == "rope":
                q, k = ([turned(x, t) for t, x in enumerate(xs)] for xs in (q, k))
            for t in range(len(stream)):
                weights = [math.exp(q[t] @ k[s] / math.sqrt(C // H)) for s in range(t + 1)]
                mixed[t].append(sum(w * v[s] for s, w in enumerate(weights)) / sum(weights))
        stream = [x + block.out.weight @ torch.cat(m) for x, m in zip(stream, mixed)]
        inside = [(block.up.weight @ normed(x)).clamp(min=0) ** 2 for x in stream]
        stream = [x + block.down.weight @ u for x, u in zip(stream, inside)]
    unembed = model.embed.weight if model.head is None else model.head.weight
    return torch.stack([unembed @ normed(x) for x in stream])


@torch.no_grad()
@pytest.mark.parametrize("position,tied", [("rope", True), ("learned", False), ("nope", True)])
def test_the_forward_pass_is_the_written_out_one(position, tied):
    model, tokens = tiny(position, tied), torch.randint(12, (2, 7))
    expected = torch.stack([written_out(model, row) for row in tokens])
    assert (model(tokens) - expected).abs().max() < 1e-5  # the turns are kept in float32


@torch.no_grad()
def test_rotary_attention_depends_on_differences_of_positions_only():
    model, x = tiny(), torch.randn(2, 6, 16, dtype=torch.float64)
    block = model.blocks[0]

    def scores(start_of_queries, start_of_keys):
        q = block.queries_keys_values(x, model.rope(start_of_queries, start_of_queries + 6))[0]
        k = block.queries_keys_values(x, model.rope(start_of_keys, start_of_keys + 6))[1]
        return q @ k.mT
    assert (scores(0, 0) - scores(17, 17)).abs().max() < 1e-5
    assert (scores(0, 3) - scores(11, 14)).abs().max() < 1e-5
    assert (scores(0, 0) - scores(3, 0)).abs().max() > 0.1  # and on them it does depend
    shifted = block(x, model.rope(17, 23))
    assert (block(x, model.rope(0, 6)) - shifted).abs().max() < 1e-5


@torch.no_grad()
def test_only_positions_tell_order():
    """The last logits of a permuted prompt: the same without positions, others with them."""
    tokens = torch.tensor([[3, 4, 5, 6, 7]])
    permuted = tokens[:, [2, 0, 3, 1, 4]]
    for position in ("rope", "learned", "nope"):
        model = tiny(position, n_layer=1)
        apart = (model(tokens) - model(permuted))[:, -1].abs().max()
        assert apart < 1e-10 if position == "nope" else apart > 0.01


@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 3.0])
def test_log_softmax_at_a_temperature(temperature):
    logits = torch.tensor([[2.0, -1.0, 0.5, 0.0]], dtype=torch.float64)
    powers = [math.exp(x / temperature) for x in logits[0].tolist()]
    expected = torch.tensor([[p / sum(powers) for p in powers]], dtype=torch.float64).log()
    assert torch.allclose(log_softmax(logits, temperature), expected, atol=1e-12)


def test_log_softmax_at_temperature_zero_is_greedy():
    logp = log_softmax(torch.tensor([[2.0, -1.0, 2.5]]), 0)
    assert logp.tolist() == [[-math.inf, -math.inf, 0.0]]


# -------------------------------------------------------------------------- sampling and scoring

@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("position,tied", [("rope", True), ("learned", True), ("nope", False)])
def test_sampler_and_scorer_agree(position, tied, temperature):
    """KV cache, shared prefill and decode attention give the plain forward's log-probs, to 1e-10 in
    float64 (silent bugs 2, 3)."""
    model = tiny(position, tied)
    prompts = torch.randint(3, 12, (5, 6))
    generator = torch.Generator().manual_seed(1)
    completions, logprobs = generate(model, prompts, 10, temperature, 4, generator)
    # wrong if groups were not adjacent (6)
    rows = torch.cat([prompts.repeat_interleave(4, dim=0), completions], dim=1)
    scored = token_logprobs(model, rows, 6, temperature)
    is_eos = completions == EOS
    mask = is_eos.int().cumsum(1) - is_eos.int() == 0
    assert is_eos.any() and mask.sum(1).unique().numel() > 2  # rows stop at different places
    assert (scored - logprobs)[mask].abs().max() < 1e-10
    plain = log_softmax(model(rows)[:, 5:-1], temperature).gather(-1, rows[:, 6:, None])[..., 0]
    assert (plain - scored).abs().max() < 1e-10
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad((x * mask).sum(), parameters) for x in (scored, plain)]
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(*gradients))
    assert (completions[~mask] == PAD).all() and (logprobs[~mask] == 0).all()
    assert logprobs.dtype == torch.float64 and completions.shape == logprobs.shape == (20, 10)


def test_logprobs_are_those_of_the_written_out_softmax():
    model, tokens = tiny(), torch.randint(12, (3, 9))
    logits = model(tokens)
    assert logits.shape == (3, 9, 12)
    powers = (logits.detach() / 0.5).exp()
    for b in range(3):
        for t in range(4, 9):
            mass = powers[b, t - 1, tokens[b, t]] / powers[b, t - 1].sum()
            logp = token_logprobs(model, tokens, 4, 0.5)[b, t - 4]
            assert abs(logp.item() - mass.log().item()) < 1e-10


def test_attention_is_causal():
    model, tokens = tiny(), torch.randint(12, (2, 9))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 12
    assert torch.equal(model(tokens)[:, :5], model(changed)[:, :5])
    assert not torch.allclose(model(tokens)[:, 5:], model(changed)[:, 5:])


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
    scored = token_logprobs(model, torch.cat([prompts, completions], 1), 4, 0)
    assert (scored[completions != PAD] == 0).all()


def plain_sampler(model, prompts, N, temperature, G, generator, eos=EOS):
    """A row for each sample, a whole pass for each token: what `generate` must equal."""
    tokens = prompts.repeat_interleave(G, dim=0)
    alive, logprobs = torch.ones(len(tokens), dtype=torch.bool), []
    while len(logprobs) < N and alive.any():
        logp = log_softmax(model(tokens)[:, -1], temperature)
        token = logp.argmax(-1)
        if temperature:
            u = torch.rand(len(tokens), 1, dtype=logp.dtype, generator=generator)
            token = sample(logp, torch.arange(len(tokens)), u)
        logprobs.append(logp.gather(1, token[:, None]) * alive[:, None])
        tokens = torch.cat([tokens, torch.where(alive, token, PAD)[:, None]], dim=1)
        alive = alive & (token != eos)
    missing = N - len(logprobs)
    return (F.pad(tokens[:, prompts.shape[1]:], (0, missing), value=PAD),
            F.pad(torch.cat(logprobs, dim=1), (0, missing)))


@pytest.mark.parametrize("B,G", [(1, 16), (2, 64), (3, 1), (8, 4), (32, 16)])
@pytest.mark.parametrize("temperature", [0, 0.7, 1, 1.3])
@pytest.mark.parametrize("family,cell", [("arithmetic", Cell(2, 3)), ("graph", Cell(1, 5))])
@torch.no_grad()
def test_the_tree_samples_what_a_loop_over_rows_samples(family, cell, temperature, B, G):
    model = tiny(vocab_size=66, context=40)
    problems = TASKS[family].sample(cell, B, np.random.default_rng(0))
    prompts, N = torch.as_tensor(problems.prompts), problems.solutions.shape[1]
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    ours = generate(model, prompts, N, temperature, G, seeds[0])
    theirs = plain_sampler(model, prompts, N, temperature, G, seeds[1])
    assert torch.equal(ours[0], theirs[0]) and (ours[1] - theirs[1]).abs().max() < 1e-10
    # as many numbers were drawn, so that what is drawn next is the same too
    assert torch.equal(torch.rand(3, generator=seeds[0]), torch.rand(3, generator=seeds[1]))


@torch.no_grad()
def test_some_samples_end_while_others_go_on_and_idle_rows_say_nothing():
    """Rows that end at different places, few at a time, so that the frontier is sometimes kept."""
    model, prompts = tiny(vocab_size=66, context=40, seed=1), torch.randint(3, 66, (4, 6))
    model.embed.weight[EOS] *= 0.3                      # likelier than another, but not by much
    seeds = [torch.Generator().manual_seed(2) for _ in range(2)]
    ours = generate(model, prompts, 20, 2.0, 32, seeds[0])
    theirs = plain_sampler(model, prompts, 20, 2.0, 32, seeds[1])
    lengths = (ours[0] != PAD).sum(1)
    assert lengths.unique().numel() > 8
    assert torch.equal(ours[0], theirs[0]) and (ours[1] - theirs[1]).abs().max() < 1e-10
    model.embed.weight[EOS] *= 50                       # and now all samples end early
    seeds = [torch.Generator().manual_seed(2) for _ in range(2)]
    ours = generate(model, prompts, 20, 2.0, 2, seeds[0])
    theirs = plain_sampler(model, prompts, 20, 2.0, 2, seeds[1])
    assert (ours[0] == EOS).any(1).all() and torch.equal(ours[0], theirs[0])
    assert torch.equal(torch.rand(3, generator=seeds[0]), torch.rand(3, generator=seeds[1]))


@torch.no_grad()
def test_every_distinct_prefix_runs_once(monkeypatch):
    model, prompts = tiny(), torch.randint(3, 12, (3, 5))
    ran, hidden = [], GPT.hidden
    def counted(self, tokens, *args, **options):
        ran.append(len(tokens))
        return hidden(self, tokens, *args, **options)
    monkeypatch.setattr(GPT, "hidden", counted)
    completions, _ = generate(model, prompts, 6, 0.3, 50, torch.Generator().manual_seed(0), eos=-1)
    rows = torch.cat([prompts.repeat_interleave(50, dim=0), completions], dim=1)
    prefixes = [len(torch.unique(rows[:, :5 + t], dim=0)) for t in range(6)]
    assert ran == prefixes and ran[0] == 3 < ran[3] < 150
    ran.clear()
    generate(model, prompts, 6, 0, 50, eos=-1)
    assert ran == [3] * 6                               # greedy samples of a prompt are one


def test_equal_rows_and_shared_prompts_are_scored_once_and_in_any_order(monkeypatch):
    model = tiny()
    prompts, endings = torch.randint(3, 12, (4, 5)), torch.randint(3, 12, (6, 4))
    pick = torch.randint(24, (40,))
    rows = torch.cat([prompts[pick // 6], endings[pick % 6]], dim=1)
    weights = torch.randn(40, 4, dtype=torch.float64)
    plain = log_softmax(model(rows)[:, 4:-1], 0.8).gather(-1, rows[:, 5:, None])[..., 0]
    ran, hidden = [], GPT.hidden
    def counted(self, tokens, *args, **options):
        ran.append(tuple(tokens.shape))
        return hidden(self, tokens, *args, **options)
    monkeypatch.setattr(GPT, "hidden", counted)
    scored = token_logprobs(model, rows, 5, 0.8)
    assert ran == [(4, 4), (len(pick.unique()), 4)] and len(pick.unique()) < 24
    in_chunks = token_logprobs(model, rows, 5, 0.8, chunk=7)
    gradients = [torch.autograd.grad((x * weights).sum(), list(model.parameters()))
                 for x in (plain, scored, in_chunks)]
    for x, gradient in zip((scored, in_chunks), gradients[1:]):
        assert (x - plain).abs().max() < 1e-12
        assert all((a - b).abs().max() < 1e-10 for a, b in zip(gradient, gradients[0]))


def test_what_has_a_static_shape_runs_on_the_meta_device():
    """A CPU tensor made by mistake would fail there, as it would on a GPU."""
    for position in ("rope", "learned", "nope"):
        model = GPT(GPTConfig(position=position)).to("meta")
        tokens = torch.zeros(4, 12, dtype=torch.long, device="meta")
        assert model(tokens).shape == (4, 12, 66)
        shared = [model_module.SharedPrompt(tokens[:, 0]) for _ in model.blocks]
        model.hidden(tokens[:, :5], shared, skip=5)
        with torch.no_grad():
            caches = [model_module.StaticCache(prompt, 12) for prompt in shared]
            assert model.hidden(tokens[:, :1], caches, start=5).shape == (4, 1, 64)
        logp = log_softmax(model(tokens), 0.7)
        assert sample(logp[:, -1], tokens[:, 0], logp[:, 0, :1]).shape == (4,)
        logp.sum().backward()


def test_the_two_options_for_speed_change_little():
    """bf16 rounds the products; compiling (here: tracing, which needs no compiler) nothing."""
    model, tokens = tiny(dtype=torch.float32), torch.randint(3, 12, (3, 9))
    plain = token_logprobs(model, tokens, 4).detach()
    coarse = token_logprobs(model.speed_up(bf16=True), tokens, 4).detach()
    assert 0 < (coarse - plain).abs().max() < 0.3
    model.speed_up()
    for block in model.blocks:
        block.compile(backend="eager")
    assert (token_logprobs(model, tokens, 4) - plain).abs().max() < 1e-5


def test_group_size_one_equals_repeated_prompts():
    model, prompts = tiny(), torch.randint(3, 12, (3, 5))
    repeated = prompts.repeat_interleave(4, dim=0)
    a = generate(model, prompts, 7, 1.0, 4, generator=torch.Generator().manual_seed(0))
    b = generate(model, repeated, 7, 1.0, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(a[0], b[0]) and torch.allclose(a[1], b[1], atol=1e-12)


def test_sampling_follows_the_distribution():
    logp = torch.log_softmax(torch.tensor([2.0, -1.0, 0.5, -60.0, 1.0], dtype=torch.float64), 0)
    at, generator = torch.zeros(200_000, dtype=torch.long), torch.Generator().manual_seed(0)
    drawn = sample(logp[None], at, torch.rand(200_000, 1, generator=generator))
    counts = torch.bincount(drawn, minlength=5) / 200_000
    assert counts[3] == 0 and (counts - logp.exp()).abs().max() < 4 * (0.25 / 200_000) ** 0.5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_generation_follows_the_distribution_at_its_temperature(temperature):
    """First tokens counted, against the logits of the plain forward."""
    model, prompt = tiny(dtype=torch.float32), torch.tensor([[3, 7, 5]])
    generator = torch.Generator().manual_seed(0)
    drawn, _ = generate(model, prompt, 1, temperature, 40_000, generator)
    counts = torch.bincount(drawn[:, 0], minlength=12) / 40_000
    powers = (model(prompt)[0, -1].detach().double() / temperature).exp()
    assert (counts - powers / powers.sum()).abs().max() < 4 * (0.25 / 40_000) ** 0.5


@pytest.mark.parametrize("dtype,largest,token", [(torch.float32, 1 - 2.0 ** -24, 1),
                                                 (torch.float64, 1 - 2.0 ** -53, 2)])
def test_a_float32_uniform_cannot_pick_a_token_below_its_grain(dtype, largest, token):
    """What `generate` says of its log-probs: not even the largest uniform reaches the last token,
    of probability 1e-9; in float64 it does."""
    logp = torch.tensor([[0.5, 0.5 - 1e-9, 1e-9]], dtype=torch.float64).log().to(dtype)
    u = torch.full((1, 1), largest, dtype=dtype)
    assert sample(logp, torch.zeros(1, dtype=torch.long), u).item() == token


def test_no_token_is_banned():
    model, prompts = tiny(), torch.randint(3, 12, (64, 2))
    completions, _ = generate(model, prompts, 6, temperature=50.0, group_size=8,
                              generator=torch.Generator().manual_seed(0))
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


# ------------------------------------------------------------------------------------ checkpoints

def test_checkpoint_round_trip(tmp_path):
    model = tiny("learned", tied=False, dtype=torch.float32)
    path = tmp_path / "new" / "folder" / "m.pt"
    save_checkpoint(path, model, step=7, args={"lr": 0.1, "name": None}, state=[torch.arange(3)])
    loaded, extra = load_checkpoint(path)
    pairs = zip(model.parameters(), loaded.parameters(), strict=True)
    assert loaded.config == model.config and all(torch.equal(a, b) for a, b in pairs)
    assert extra["step"] == 7 and extra["args"] == {"lr": 0.1, "name": None}
    assert torch.equal(extra["state"][0], torch.arange(3))
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
    odd = {"format": "nanotilt-1", "config": {"width": 3}, "model": {}, "extra": {}}
    torch.save(odd, tmp_path / "odd.pt")
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


# ---------------------------------------------------------------------- derivatives, and the demo

@pytest.mark.parametrize("function,formula", [
    (RMSNorm.apply, lambda x: x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-6)),
    (squared_relu, lambda x: F.relu(x).square())])
def test_derivatives_written_by_hand(function, formula):
    x = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(function(x), formula(x), atol=1e-12)
    assert torch.autograd.gradcheck(function, x)
    with torch.no_grad():  # as sampling has them
        assert torch.allclose(norm(x), RMSNorm.apply(x), atol=1e-12)
        assert torch.allclose(squared_relu(x.clone()), F.relu(x).square())


def test_model_py_shows_the_shapes_and_checks_the_sampler(capsys):
    runpy.run_path(model_module.__file__, run_name="__main__")
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    shapes = dict(re.findall(r"^ +(\S[^\[\n]*?) +(\[[\d, ]+\]) ", said, re.M))
    assert shapes == {
        "tokens": "[3, 18]", "embedding": "[3, 18, 32]", "q, k, v": "[3, 4, 18, 8]",
        "q @ k.mT": "[3, 4, 18, 18]", "attention": "[3, 4, 18, 8]", "out": "[3, 18, 32]",
        "up": "[3, 18, 128]", "mlp": "[3, 18, 32]", "logits": "[3, 18, 66]",
        "log-probs": "[3, 10]"}
    assert float(re.search(r"at most (\S+) apart", said)[1]) < 1e-4
    assert "120 of 120 tokens the same" in said
