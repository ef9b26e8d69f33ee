"""What test_grpo.py and test_variants.py share: a tiny model, methods on it, groups with rewards
made by hand, and the files that a run leaves."""
import contextlib
import copy
import csv
import os

import numpy as np
import torch

import cli
from grpo import GRPO, Group
from model import GPT, GPTConfig, completion_mask, load_checkpoint
from tasks import EOS, PAD, VOCAB, Cell, Verdict

CELL = Cell(3, 4)


def close(a, b, tolerance=1e-6):
    """Whether two tensors, arrays or numbers of one shape are nowhere further apart than that."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, atol=tolerance, rtol=0)


def flat(tensors):
    """All numbers of a list of tensors in one row, apart from the originals."""
    return torch.cat([x.detach().flatten() for x in tensors]).clone()


# -------------------------------------------------------------------------------------- methods

def tiny_model(dtype=torch.float32, context=32):
    torch.manual_seed(0)
    net = GPT(GPTConfig(len(VOCAB), context, 2, 2, 16)).to(dtype)
    with torch.no_grad():
        net.embed.weight.normal_(std=0.3)
        # an extreme logit, high in some places: completions end there, so lengths differ
        net.embed.weight[EOS] *= 3
    return net


def algorithm(kind=GRPO, dtype=torch.float32, cells=(CELL,), context=32, **settings):
    """A method on the tiny model: 4 prompts x 5 completions a step, rewarded by a coin."""
    policy = tiny_model(dtype, context)
    settings = {"prompts_per_step": 4, "group_size": 5, "reward": "random", **settings}
    tasks = [("arithmetic", cell) for cell in cells]
    return kind(policy, copy.deepcopy(policy), tasks, **settings)


def rewarded(kind, rewards):
    """A subclass that gives the groups of a step these rewards [P, G] or numbers, in turn."""
    class Rewarded(kind):
        def rewards(self, group):
            self.judged = getattr(self, "judged", 0) + 1
            given = torch.as_tensor(rewards[(self.judged - 1) % len(rewards)])
            shape = len(group.prompts), group.size
            return given.to(next(self.policy.parameters())).expand(shape).clone()
    return Rewarded


def ready(method, n=None):
    """The groups of a step, as they are when the loss comes: rewarded, with their advantages."""
    groups = method.experience(n or method.prompts_per_step)
    for group in groups:
        group.advantages = method.advantages(group)
    method.normalise(groups)
    return groups


def sgd(method, lr=0.0, **options):
    return torch.optim.SGD(method.parameters(), lr=lr, **options)


def gradient(method):
    """The gradient of one step, flat; the weights stay where they are."""
    method.step(sgd(method))
    return flat(p.grad for p in method.parameters())


def moved_by(x, scale):
    """Move weights at random, as other steps would have."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in x.parameters():
            p += scale * torch.randn(p.shape, generator=generator).to(p)


# --------------------------------------------------------------------------------------- groups

def by_hand(rewards, lengths=None, N=1):
    """A Group with these rewards [P, G]; completions of these lengths (all: N) in a room of N
    tokens, each token at log-prob -1."""
    rewards = torch.as_tensor(rewards, dtype=torch.float32)
    P, R = len(rewards), rewards.numel()
    completions = torch.full((R, N), 7)
    for row, length in zip(completions, lengths or [N] * R):
        row[length - 1] = EOS
        row[length:] = PAD
    mask = completion_mask(completions)
    right = rewards.flatten().numpy() == 1
    tokens = torch.cat([torch.ones(R, 3, dtype=int), completions], 1)
    return Group("arithmetic", Cell(1, 4), np.ones((P, 3), dtype=int), tokens, -mask, mask,
                 Verdict(right, right, right.astype(float), right), rewards=rewards)


def moved(group, log_ratios, advantages):
    """Gives the group these advantages; returns log-probs [R, N] that need a gradient, those of
    the sampler moved by these log-ratios."""
    group.advantages = torch.as_tensor(advantages, dtype=torch.float32)
    return (group.old_logp + torch.as_tensor(log_ratios, dtype=torch.float32)).requires_grad_()


# ----------------------------------------------------------------------------------------- runs

def rows_of(checkpoint):
    """The rows of a run's CSV, without what is measured by the clock."""
    with open(os.path.splitext(checkpoint)[0] + ".csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in cli.Log.TIMING}
                for row in csv.DictReader(file)]


def assert_same(a, b, where=""):
    """Equal bit for bit, whatever stands in them, but for times and places."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - {"seconds", "out", "command", "resume", "save_every"}:
            assert_same(a[key], b[key], f"{where} {key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for x, y in zip(a, b):
            assert_same(x, y, where)
    else:
        assert a == b, where


def assert_same_run(path_a, path_b):
    """Two runs that left the same weights, optimizer, random state and CSV."""
    (model_a, extra_a), (model_b, extra_b) = load_checkpoint(path_a), load_checkpoint(path_b)
    assert_same(dict(model_a.state_dict()), dict(model_b.state_dict()))
    assert_same(extra_a, extra_b)
    assert rows_of(path_a) == rows_of(path_b)


def interrupt_after(monkeypatch, times):
    """Make the run see a Ctrl-C after it has asked for one so many times."""
    @contextlib.contextmanager
    def signals():
        asked = []

        def stopped():
            asked.append(1)
            return len(asked) > times
        yield stopped
    monkeypatch.setattr(cli.runs, "stop_signals", signals)
