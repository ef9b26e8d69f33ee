"""model.py: the transformer. Blocks, KV cache, sampling, log-probabilities, checkpoints.

A decoder-only transformer in the manner of nanoGPT, with today's defaults: pre-norm RMSNorm, rotary
positions, normed queries and keys, squared ReLU, no biases, tied embeddings. 2 layers x 64 wide has
about 100 thousand parameters and learns the tasks in half a minute.

In plain text, with h the residual stream [B, T, C]:

    h = embed(tokens)
    for each block:  h = h + attention(norm(h));  h = h + mlp(norm(h))
    logits = norm(h) @ unembed.T

`python model.py` prints the shapes along one such pass, and checks sampling against scoring.

Departures from nanoGPT: RMSNorm without a learned gain, RoPE (Su et al. 2104.09864;
`position="learned"` or "nope" on request), normed queries and keys (Henry et al. 2010.04245) and
squared ReLU (So et al. 2109.08668): with each of these two, mass after 300 steps of noise-free
arithmetic was higher at both seeds tried. No dropout; a KV cache; and sampling that returns the
log-probabilities that it sampled with, which is what GRPO needs.

>>> _ = torch.manual_seed(0)
>>> model = GPT(GPTConfig(vocab_size=66, context=32))
>>> prompts = torch.randint(3, 66, (2, 5))
>>> completions, logprobs = generate(model, prompts, max_new_tokens=4, group_size=3)
>>> completions.shape, logprobs.shape
(torch.Size([6, 4]), torch.Size([6, 4]))
"""
import io
import os
import zlib
from contextlib import nullcontext
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from tasks import EOS, PAD, TASKS, VOCAB, Cell, decode, operations_at_work

LARGEST = 1_000_000   # size of anything in a GPTConfig


@dataclass
class GPTConfig:
    vocab_size: int = 66
    context: int = 96        # longest prompt + completion; the axes' longest problem needs 65
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 64
    position: str = "rope"   # rope | learned | nope
    tied: bool = True        # one matrix embeds and unembeds

    def __post_init__(self):
        for name in ("vocab_size", "context", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= LARGEST:
                raise ValueError(f"{name} is {value!r}, must be a whole number from 1 to {LARGEST}")
        if self.position not in ("rope", "learned", "nope"):
            raise ValueError(f"position is {self.position!r}, must be rope, learned or nope")
        if self.n_embd % self.n_head or self.n_embd // self.n_head % 2:
            raise ValueError("n_embd / n_head must be an even whole number, "
                             f"got {self.n_embd} / {self.n_head}")

    def n_parameters(self):
        """How many weights a model of these sizes has, without making one."""
        C, tables = self.n_embd, 1 if self.tied else 2
        positions = self.context if self.position == "learned" else 0
        return C * (tables * self.vocab_size + positions) + self.n_layer * 12 * C * C


def inverse_rms(x):
    """1 / (rms + 1e-6), with rms the root mean square of x [..., C] over the last dimension:
    [..., 1]."""
    rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5)
    return rms.add_(1e-6).reciprocal_()


class RMSNorm(torch.autograd.Function):
    """x / (rms(x) + 1e-6) over the last dimension (Zhang and Sennrich 1910.07467), without a gain.

    F.rms_norm is the same with its derivative put together from parts: 4.8 ms forward and backward
    for 11,264 rows of 64 on one core, this 2.5; for queries and keys, 90,112 rows of 16, 11.5 ms
    and 6.2.
    """

    @staticmethod
    def forward(ctx, x):
        scale = inverse_rms(x)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx, grad):
        y, scale = ctx.saved_tensors
        return torch.addcmul(grad, y, (grad * y).mean(-1, keepdim=True), value=-1).mul_(scale)


def norm(x):
    """RMSNorm of x [..., C]; where no gradient is wanted, without the detour through autograd."""
    return RMSNorm.apply(x) if torch.is_grad_enabled() else x * inverse_rms(x)


def squared_relu(x):
    """max(x, 0)^2 (So et al. 2109.08668)."""
    return F.relu(x).square()


def rotate(x, turns):
    """Rotary position embedding: neighbours (x[2i], x[2i + 1]) of x [..., D] as complex numbers,
    turned by their position's angle. turns [..., D/2] complex, of modulus 1. The product of a query
    and a key then depends on how far apart they stand, and not on where."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2)


def attend(q, k, v, start):
    """Causal attention: softmax(q k / sqrt(D)) v, where the query at position start + t sees all
    positions up to its own.

    q [B, H, T, D], k and v [B, H, S, D] -> [B, H, T, D]. The formula itself, on a CPU also in place
    of scaled_dot_product_attention: at 20 to 45 positions a training step takes 15 % less with two
    threads (no more with one), and the attention of a decoding step, where T = 1, half.
    """
    T, S = q.shape[2], k.shape[2]
    if q.device.type != "cpu" and T == S:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    future = torch.full((T, S), -torch.inf, dtype=q.dtype, device=q.device).triu(start + 1)
    scores = torch.add(future, q @ k.transpose(-2, -1), alpha=q.shape[-1] ** -0.5)  # [B, H, T, S]
    return scores.softmax(-1) @ v


class SharedPrompt:
    """Keys and values [B, H, P, D] of B prompts in one layer, computed once; then row i of what
    follows goes on from prompt number of[i]."""

    def __init__(self, of=None):
        self.of = of

    def extend(self, k, v, start):
        """Keys and values up to the end of k and v [rows, H, T, D]: kept if they are the prompts',
        else joined to each row's prompt."""
        if start == 0:
            self.keys, self.values = k, v
            return k, v
        keys, values = (x.index_select(0, self.of) for x in (self.keys, self.values))
        return torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)


class StaticCache:
    """Keys and values [rows, H, S, D] of one layer with room for S positions, first those of
    prompts; new ones are written in place."""

    def __init__(self, prompt, S):
        # Zeros: a position still to come has weight 0, but 0 times a nan would be a nan.
        room = S - prompt.keys.shape[2]
        self.keys, self.values = (F.pad(x, (0, 0, 0, room)) for x in (prompt.keys, prompt.values))

    def extend(self, k, v, start):
        """Write k and v [rows, H, T, D] at their positions; returns everything [rows, H, S, D],
        zeros where nothing is yet."""
        end = start + k.shape[2]
        self.keys[:, :, start:end], self.values[:, :, start:end] = k, v
        return self.keys, self.values

    def keep(self, rows):
        """Go on with these rows ([n] int64), in this order, some of them several times."""
        self.keys, self.values = (x.index_select(0, rows) for x in (self.keys, self.values))


class Block(nn.Module):
    """Attention, then a two-layer network at each position; both add to the residual stream."""

    def __init__(self, config):
        super().__init__()
        C = config.n_embd
        self.n_head = config.n_head
        self.qkv = nn.Linear(C, 3 * C, bias=False)
        self.out = nn.Linear(C, C, bias=False)
        self.up = nn.Linear(C, 4 * C, bias=False)
        self.down = nn.Linear(4 * C, C, bias=False)

    def forward(self, x, rope=None, cache=None, start=0, skip=0):
        """x [B, T, C] at positions start .. start + T - 1 -> [B, T - skip, C], without the first
        `skip` positions.

        cache, a SharedPrompt or StaticCache, gives this layer's keys and values at the positions
        before start.
        """
        B, T, C = x.shape
        q, k, v = self.queries_keys_values(x, rope)                  # [B, H, T, D] each
        if cache is not None:
            k, v = cache.extend(k, v, start)
        y = attend(q, k, v, start).transpose(1, 2)                   # [B, T, H, D]
        x = x[:, skip:] + self.out(y.reshape(B, T, C)[:, skip:])
        return x + self.mlp(x)

    def queries_keys_values(self, x, rope=None):
        """q, k, v [B, H, T, D] of x [B, T, C]. Queries and keys all have one length, so that
        attention cannot saturate."""
        B, T, C = x.shape
        qkv = self.qkv(norm(x)).view(B, T, 3, self.n_head, C // self.n_head)
        qk, v = norm(qkv[:, :, :2]), qkv[:, :, 2]
        if rope is not None:
            qk = rotate(qk, rope)
        q, k = qk.unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def mlp(self, x):
        return self.down(squared_relu(self.up(norm(x))))


class GPT(nn.Module):
    """The whole model: tokens [B, T] in, logits [B, T, V] out."""

    def __init__(self, config):
        super().__init__()
        self.config, self.bf16 = config, False
        C = config.n_embd
        self.embed = nn.Embedding(config.vocab_size, C)
        self.positions = nn.Embedding(config.context, C) if config.position == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.head = None if config.tied else nn.Linear(C, config.vocab_size, bias=False)
        if config.position == "rope":
            half = C // config.n_head // 2
            speeds = 10_000.0 ** (-torch.arange(half) / half)
            angles = torch.outer(torch.arange(config.context), speeds)
            turns = torch.stack((angles.cos(), angles.sin()), dim=-1)  # [T, D/2, 2]
            self.register_buffer("turns", turns[:, None, None], persistent=False)  # beside [2, H]
        for p in self.parameters():
            nn.init.normal_(p, std=0.02)

    def speed_up(self, compile=False, bf16=False):
        """Two options, off by default. compile: the blocks, by torch.compile. bf16: matrix products
        in bfloat16.

        On two CPU cores compiling takes a minute, and then a training step 12 % less: these runs
        are over before it pays. bf16 took a fifth off a GRPO step on a CPU made for it
        (AVX512-BF16); the log-probs of a trained base then differ from float32's by 0.0007 on
        average and up to 0.06.
        """
        self.bf16 = bf16
        if compile:
            for block in self.blocks:
                block.compile()
        return self

    def n_parameters(self):
        return sum(p.numel() for p in self.parameters())

    def hidden(self, tokens, caches=None, start=0, skip=0):
        """tokens [B, T] at positions start .. start + T - 1 -> final normed hidden states
        [B, T - skip, C].

        The first `skip` positions are only attended to: the last block need not finish them. A
        graph prompt is three quarters of its problem, and this takes 12 to 27 % off the time of a
        training step there. caches: one SharedPrompt or StaticCache per block.
        """
        end, context = start + tokens.shape[1], self.config.context
        if end > context:
            raise ValueError(f"{end} tokens do not fit the model's context of {context}")
        x = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[start:end]
        rope = self.rope(start, end)
        caches = caches or [None] * len(self.blocks)
        device = tokens.device.type
        precision = torch.autocast(device, torch.bfloat16) if self.bf16 else nullcontext()
        with precision:
            for block, cache in zip(self.blocks, caches):
                is_last = block is self.blocks[-1]
                x = block(x, rope, cache, start, skip if is_last else 0)
        return norm(x)

    def rope(self, start, end):
        """Turns [T, 1, 1, D/2] (complex) of positions start .. end - 1, or None without RoPE."""
        if self.config.position != "rope":
            return None
        return torch.view_as_complex(self.turns[start:end])

    def unembed(self, hidden):
        """Hidden states [..., C] -> logits [..., V]."""
        return F.linear(hidden, self.embed.weight if self.head is None else self.head.weight)

    def forward(self, tokens):
        """tokens [B, T] int64 -> logits [B, T, V]; position t predicts token t + 1."""
        return self.unembed(self.hidden(tokens))


# -------------------------------------------------------------------------- sampling and scoring

def log_softmax(logits, temperature):
    """Log-probabilities [..., V] of the softmax at that temperature; at 0, of the greedy choice
    (0 or -inf)."""
    if temperature == 0:
        greedy = torch.full_like(logits, -torch.inf)
        return greedy.scatter_(-1, logits.argmax(-1, keepdim=True), 0.0)
    if temperature != 1:
        logits = logits / temperature
    return F.log_softmax(logits, dim=-1)


def sample(logp, at, u):
    """One token for each sample: int64 [n], from row at [n] of log-probabilities [rows, V], by
    uniform numbers u [n, 1] in 0 .. 1.

    Inverts the cumulative distribution with one uniform number per sample. One exponential per
    sample and token (the usual Gumbel trick, and what torch.multinomial does) measured 0.7 ms for
    512 x 66 on two cores; this takes 0.1 ms.

    A float32 uniform is a multiple of 2^-24: what is drawn comes at frequencies in steps of 6e-8,
    and a token whose probability is below that is as a rule never drawn.
    """
    cumulative = logp.exp().cumsum(-1)[at]                                       # [n, V]
    token = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True).squeeze(1)
    return token.clamp_(max=logp.shape[1] - 1)


@torch.inference_mode()
def generate(model, prompts, max_new_tokens, temperature=1.0, group_size=1, generator=None,
             eos=EOS):
    """Sample group_size completions of each prompt, with a KV cache; what samples share, the prompt
    or more, runs through the model once.

    prompts [B, P] int64; temperature 0 is greedy; generator is a torch.Generator on the model's
    device. Returns (completions [B * group_size, N] int64, logprobs [B * group_size, N] in the
    model's dtype) with N = max_new_tokens; the rows of one prompt are adjacent. After `eos` a row
    is PAD with log-prob 0. No token is banned. Raises ValueError if P + N exceeds the context.

    The log-probs are those of the distribution sampled from, so they equal `token_logprobs` at that
    temperature. Below 1e-7 the promise fails: a float32 uniform cannot pick out a token whose
    probability is less than about 6e-8 (see `sample`), so such a token is as good as banned.
    """
    (B, P), N, context = prompts.shape, max_new_tokens, model.config.context
    if P + N > context:
        raise ValueError(f"prompt of {P} tokens + {N} new ones do not fit the model's context "
                         f"of {context}")
    rows, V, device = B * group_size, model.config.vocab_size, prompts.device
    dtype = model.embed.weight.dtype
    completions = torch.full((rows, N), PAD, device=device)
    logprobs = torch.zeros((rows, N), dtype=dtype, device=device)

    prefill = [SharedPrompt() for _ in model.blocks]
    hidden = model.hidden(prompts, prefill, skip=P - 1)[:, 0]                    # [B, C]
    caches = [StaticCache(prompt, P + N) for prompt in prefill]

    # A group is a tree: its samples share their first tokens, and a peaked policy makes them share
    # most. The frontier has one row for each distinct prefix; every live sample stands `at` one of
    # them, and draws from its distribution with a number of its own. The distinct pairs (prefix,
    # token) are the next frontier. Numbers are drawn for all samples, also for those that have
    # ended: so the samples are those of a loop over rows.
    live = torch.arange(rows, device=device)
    at = live // group_size
    for t in range(N):
        logp = log_softmax(model.unembed(hidden), temperature)                   # [frontier, V]
        if temperature == 0:
            token = logp.argmax(-1)[at]
        else:
            u = torch.rand(rows, 1, dtype=dtype, device=device, generator=generator)
            token = sample(logp, at, u[live])
        completions[live, t], logprobs[live, t] = token, logp[at, token]
        going = token != eos
        live = live[going]
        if t + 1 == N or len(live) == 0:
            break
        pairs, at = torch.unique((at * V + token)[going], return_inverse=True)
        parent, token = pairs // V, pairs % V
        if len(hidden) >= len(parent) > 0.8 * len(hidden) and (parent.diff() > 0).all():
            # no prefix has split, few have ended: those idle, for moving the cache would cost more
            token = torch.full((len(hidden),), PAD, device=device).index_copy_(0, parent, token)
            at = parent[at]
        else:
            for cache in caches:
                cache.keep(parent)
        hidden = model.hidden(token[:, None], caches, start=P + t)[:, 0]         # [frontier, C]
    return completions, logprobs


def token_logprobs(model, tokens, start, temperature=1.0, chunk=0):
    """Log-probabilities of tokens[:, start:] given all that precedes each: [B, T - start],
    differentiable.

    tokens [B, T] int64, 1 <= start < T. Only the scored positions are unembedded. Equal rows run
    through the model once, and so does what rows next to each other share in their first `start`
    tokens, the prompt of a group. With a chunk, so many rows at a time, and the backward pass
    computes each chunk anew: a third more work, less memory.
    """
    distinct, of_row = torch.unique(tokens, dim=0, return_inverse=True)
    if len(distinct) < 0.9 * len(tokens):  # a few repeats would not pay
        logp = token_logprobs(model, distinct, start, temperature, chunk)
        return logp.index_select(0, of_row)
    if chunk and chunk < len(tokens):
        def part(rows):
            return token_logprobs(model, rows, start, temperature)
        parts = tokens.split(chunk)
        return torch.cat([checkpoint(part, rows, use_reentrant=False) for rows in parts])
    prompts, of = torch.unique_consecutive(tokens[:, :start], dim=0, return_inverse=True)
    if len(prompts) > 0.9 * len(tokens) or start == 1:
        hidden = model.hidden(tokens[:, :-1], skip=start - 1)                    # [B, T - start, C]
    else:  # the prompts' pass is only for their keys and values
        shared = [SharedPrompt(of) for _ in model.blocks]
        model.hidden(prompts[:, :-1], shared, skip=start - 1)
        hidden = model.hidden(tokens[:, start - 1:-1], shared, start=start - 1)
    logp = log_softmax(model.unembed(hidden), temperature)                       # [B, T - start, V]
    return logp.gather(-1, tokens[:, start:, None]).squeeze(-1)


def completion_mask(completions):
    """[rows, N] float: 1 up to and including the first EOS of completions [rows, N], 0 after it.

    The EOS is an action like any other: a policy that is not trained on it never learns to stop.

    >>> completion_mask(torch.tensor([[9, 9, EOS, 0], [EOS, 0, 0, 0]]))
    tensor([[1., 1., 1., 0.],
            [1., 0., 0., 0.]])
    """
    is_eos = (completions == EOS).int()
    return (is_eos.cumsum(1) - is_eos == 0).float()


def masked_mean(x, mask, aggregate, room=None):
    """Scalar mean of x [rows, N] where mask [rows, N] is 1.

    aggregate "sequence": within each row, then over rows (GRPO, 2402.03300); "token": over all
    tokens alike (DAPO, 2503.14476); "constant": the sum / (rows * room), with room N if it is not
    given, so that no row's weight depends on its length (Dr. GRPO, 2503.20783).
    """
    x = x * mask
    if aggregate == "sequence":
        return (x.sum(1) / mask.sum(1).clamp(min=1)).mean()
    if aggregate == "token":
        return x.sum() / mask.sum().clamp(min=1)
    if aggregate == "constant":
        return x.sum() / (len(x) * (room or x.shape[1]))
    raise ValueError(f"aggregate is {aggregate!r}, must be sequence, token or constant")


# ----------------------------------------------------------------------------------- checkpoints

FORMAT, OLD_FORMAT = "nanotilt-2", "nanotilt-1"   # the old one had no seal and no vocabulary
SEAL = b"nanotilt-2 crc32"   # the end of a file: this, then the checksum of all before it


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or not ours; the message names the file."""


def save_checkpoint(path, model, **extra):
    """Write model and extra (tensors, numbers, strings, and lists and dicts of them) to path,
    atomically.

    A reader, or a `kill -9` at any moment, sees the old file or the new one, never half of one.
    Raises OSError naming the path if the folder cannot be written or the disk is full; the old file
    is then untouched.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "config": asdict(model.config), "model": model.state_dict(),
                "vocabulary": VOCAB[:model.config.vocab_size], "operations": operations_at_work(),
                "extra": extra}, buffer)
    buffer.write(SEAL + checksum(buffer.getvalue()))  # torch.load does not mind what follows
    write_atomically(path, buffer.getbuffer())


def write_atomically(path, data):
    """Write bytes to path, whole or not at all; a symlink stays, and the file that it names is
    replaced. Raises OSError naming path."""
    target = os.path.realpath(path)
    partial = f"{target}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def checksum(data):
    """Four bytes, CRC-32, that no change of a single bit in data leaves as they are."""
    return zlib.crc32(data).to_bytes(4, "big")


def load_checkpoint(path, device="cpu"):
    """Read (model, extra) from path, the model on device. Executes no code from the file
    (weights_only=True).

    Raises CheckpointError, naming the file and what is wrong, if it is missing, damaged, not
    written by `save_checkpoint`, not finite, or of another vocabulary. Tokens may have been added
    at the end of VOCAB since: the model does not know them, and goes on as before.
    """
    saved = read_checkpoint(path, device)
    try:
        config = GPTConfig(**saved["config"])
        check_meanings(config, saved)
        if config.n_parameters() != sum(x.numel() for x in saved["model"].values()):
            raise ValueError("its sizes are not those of its weights")  # nor is a huge model built
        model = GPT(config).to(device)
        check_weights(model, saved["model"])
        model.load_state_dict(saved["model"])
        plain = (type(None), bool, int, float, str, list)
        if not all(isinstance(x, plain) for x in saved["extra"].get("args", {}).values()):
            raise ValueError("args, the flags of its run, are damaged")
        return model, saved["extra"]
    except KeyError as error:
        raise CheckpointError(f"{path}: has no {error}") from None
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: its parts do not fit together: {reason}") from None


def read_checkpoint(path, device):
    """The dict that `save_checkpoint` wrote to path, if not one bit has changed since."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise CheckpointError(f"{path}: is not a file")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    content, seal, crc = data[:-len(SEAL) - 4], data[-len(SEAL) - 4:-4], data[-4:]
    if seal == SEAL and crc != checksum(content):
        raise CheckpointError(f"{path}: damaged: its checksum does not hold")
    try:
        saved = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception:  # torch.load raises half a dozen types for damaged or foreign files
        raise CheckpointError(f"{path}: truncated, or not a checkpoint") from None
    if not (isinstance(saved, dict) and saved.get("format") in (FORMAT, OLD_FORMAT)):
        raise CheckpointError(f"{path}: not a checkpoint of this project "
                              f"(no format mark {FORMAT!r})")
    if saved["format"] == FORMAT and seal != SEAL:
        raise CheckpointError(f"{path}: damaged: its checksum is missing")
    return saved


def check_meanings(config, saved):
    """Raise ValueError if a token or an operation is not what it was when the model learned it."""
    theirs = saved.get("vocabulary", VOCAB[:config.vocab_size])
    moved = [i for i, token in enumerate(theirs) if VOCAB[i:i + 1] != [token]]
    if moved:
        tokens = ", ".join(f"{theirs[i]!r} was token {i}" for i in moved[:3])
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        raise ValueError(f"made with another vocabulary: {tokens}{more} (add tokens at the end)")
    if len(theirs) != config.vocab_size:
        raise ValueError(f"vocab_size is {config.vocab_size}, for a vocabulary of {len(theirs)}")
    now = operations_at_work()
    for operation, result in saved.get("operations", {}).items():
        if now.get(operation, result) != result:
            raise ValueError(f"made when {operation} gave {result}, where it now gives "
                             f"{now[operation]}")


def check_weights(model, tensors):
    """Raise ValueError, naming the tensor, unless tensors {name: tensor} are finite weights of such
    a model."""
    own = model.state_dict()
    for name in [*own, *(name for name in tensors if name not in own)]:
        if name not in own or name not in tensors:
            raise ValueError(f"{name} is " + ("missing" if name in own else "not of this model"))
        shape = getattr(tensors[name], "shape", "no tensor")
        if shape != own[name].shape:
            raise ValueError(f"{name} is {shape}, must be {own[name].shape}")
        if not tensors[name].isfinite().all():
            raise ValueError(f"{name} is not finite: it has nan or inf among its weights")


# ------------------------------------------------------------------------------------- to look at

@torch.no_grad()
def demo():
    """Print the shapes along one forward pass, then hold the fast paths against the slow one."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=len(VOCAB), n_embd=32))
    for p in model.parameters():  # as far from uniform as a trained model's: errors would show
        torch.nn.init.normal_(p, std=0.2)
    problems = TASKS["arithmetic"].sample(Cell(2, 4), 3, np.random.default_rng(1))
    prompts, solutions = (torch.as_tensor(x) for x in problems)
    print(f"A GPT of {model.config.n_layer} layers x {model.config.n_embd} wide, "
          f"{model.n_parameters()} parameters, reads {len(prompts)} problems such as\n\n    "
          f"{decode([*prompts[0], *solutions[0]])}\n")
    demo_shapes(model, torch.cat([prompts, solutions], dim=1), start=prompts.shape[1])
    demo_sampling(model, prompts, N=solutions.shape[1])


def demo_shapes(model, tokens, start):
    """What is computed on the way from tokens to log-probabilities, and of which shape."""
    def show(name, x, why):
        print(f"  {name:12s} {str(list(x.shape)):15s} {why}")

    B, T = tokens.shape
    x, block, H = model.embed(tokens), model.blocks[0], model.config.n_head
    q, k, v = block.queries_keys_values(x, model.rope(0, T))
    y = attend(q, k, v, start=0)
    heads = y.transpose(1, 2).reshape(x.shape)
    show("tokens", tokens, f"[B, T]: problems of one cell, all {T} tokens long, so no padding")
    show("embedding", x, f"[B, T, C]: {x.shape[-1]} numbers a token open the residual stream")
    print("  each block reads the stream, and adds to it twice:")
    show("  q, k, v", q, f"[B, H, T, D] each: what a position seeks, shows, tells; {H} heads")
    show("  q @ k.mT", q @ k.mT, "[B, H, T, T]: who heeds whom; RoPE makes it see distance only")
    show("  attention", y, "[B, H, T, D]: v of earlier positions, mixed by softmax of the above")
    show("  out", block.out(heads), "[B, T, C]: the heads side by side, through one matrix: added")
    x = x + block.out(heads)
    show("  up", block.up(norm(x)), "[B, T, 4 C]: each position by itself; squared ReLU follows")
    show("  mlp", block.mlp(x), "[B, T, C]: and down again: added")
    show("logits", model(tokens), "[B, T, V]: position t scores every token that may come at t + 1")
    logp = token_logprobs(model, tokens, start)
    show("log-probs", logp, "[B, S]: those of the solution; their sum is the exact log mass")


def demo_sampling(model, prompts, N, G=4):
    """Cached sampling against plain scoring, and groups that share a prompt against single rows."""
    repeated = prompts.repeat_interleave(G, dim=0)
    shared, logp = generate(model, prompts, N, 1.0, G, torch.Generator().manual_seed(0))
    alone, _ = generate(model, repeated, N, 1.0, 1, torch.Generator().manual_seed(0))
    scored = token_logprobs(model, torch.cat([repeated, shared], dim=1), prompts.shape[1])
    apart = (logp - scored)[logp != 0].abs().max()  # after <eos> a sampled row has log-prob 0
    print(f"\nSampled with a cache, scored in one plain pass: log-probs at most {apart:.0e} apart.")
    print(f"Groups of {G} that share their prompt's pass, rows that do not: "
          f"{int((shared == alone).sum())} of {shared.numel()} tokens the same.")


if __name__ == "__main__":
    demo()
