"""_hints.py: what the methods with hints have in common. A hint is the natural one: the first k
tokens of the gold solution are given, and the rest is sampled.

What tells the methods apart is which tokens are trained on, and at which log-probs:

    with_hint     completions that begin with the hint. The sampler did not choose its tokens, so
                  their log-prob is 0 (given: probability 1); the ratio of such a token is pi itself
    untaught      the hint's tokens leave the loss: what is trained is pi(rest | prompt, hint)

As the hint is the beginning of the trace, pi(rest | prompt, hint) is a factor of the plain policy's
pi(hint, rest | prompt): what is learned there serves without a hint, too, once the policy comes
that far by itself. What a hint can show that way ends where it does: a base that has learned depths
1 to 3 and is given half of a trace of depth 4 solves 2 % of prompts in 16 samples, with three
quarters 7 %, with 18 of 20 tokens 53 %, for it is the last step that it cannot do. Gold that is
shown is counted (method.spend_gold), each token once, however many completions begin with it.
"""
import torch

from cli import knob
from grpo import GRPO, Group
from model import completion_mask
from tasks import TASKS, Verdict
from variants._rollouts import continued


def hint_length(N, share):
    """Tokens of a solution of N that a hint of that share shows: at least one, never all.

    >>> [hint_length(8, share) for share in (0.25, 0.5, 0.75)], hint_length(5, 0.1)
    ([2, 4, 6], 1)
    """
    return min(max(1, int(share * N + 1e-9)), N - 1)


def unsolved(rewards):
    """[P] bool: groups of rewards [P, G] in which nothing is right.

    >>> unsolved(torch.tensor([[0., 1.], [0., 0.5]]))
    tensor([False,  True])
    """
    return (rewards < 1).all(1)


def rows_of(which, size):
    """[K * size]: the rows of the prompts `which` [K], in groups of that size.

    >>> rows_of(torch.tensor([0, 2]), 2)
    tensor([0, 1, 4, 5])
    """
    return (which[:, None] * size + torch.arange(size, device=which.device)).flatten()


def gold_group(method, problems):
    """A Group of an accepted solution of each prompt (where there are several, any), at log-prob 0:
    nobody sampled it."""
    task, cell, prompts = problems
    solutions = TASKS[task].solutions(prompts, rng=method.rng)
    solutions = torch.as_tensor(solutions, device=method.device)
    tokens = torch.cat([torch.as_tensor(prompts, device=method.device), solutions], dim=1)
    return Group(task, cell, prompts, tokens, torch.zeros(solutions.shape, device=method.device),
                 completion_mask(solutions), TASKS[task].verify(prompts, solutions.cpu()))


@torch.no_grad()
def with_hint(method, group, which, k, n, before=0):
    """A Group with rewards: n completions for each of the prompts `which` [K] of a group, all of
    which begin with the first k tokens of the solution, of which `before` were shown already."""
    method.spend_gold(0 if before else len(which), (k - before) * len(which))
    prompts = group.prompts[which.cpu().numpy()]
    gold = gold_group(method, (group.task, group.cell, prompts))
    rows = torch.arange(len(which), device=which.device)
    hinted = continued(method, gold, rows, torch.full_like(rows, k), n, method.temperature)
    hinted.more["hint"] = torch.full((len(hinted.tokens),), k, device=which.device)
    if method.kl != "none":
        hinted.ref_logp = method.score(method.reference, hinted)
    hinted.rewards = method.rewards(hinted)
    return hinted


def untaught(group):
    """The group, with its hints out of the loss: their mask and their log-probs become 0."""
    places = torch.arange(group.mask.shape[1], device=group.mask.device)
    given = places < group.more["hint"][:, None]
    group.mask = group.mask.masked_fill(given, 0.0)
    group.old_logp = group.old_logp * group.mask
    if group.ref_logp is not None:
        group.ref_logp = group.ref_logp * group.mask
    return group


def put(group, rows, other):
    """Let rows [K] of a group become the K rows of another of the same cell."""
    def changed(own, new):
        return own.index_copy(0, rows, new)

    for name in ("tokens", "old_logp", "mask", "ref_logp"):
        if getattr(group, name) is not None:
            setattr(group, name, changed(getattr(group, name), getattr(other, name)))
    group.more["hint"] = changed(group.more["hint"], other.more["hint"])
    rewards = changed(group.rewards.flatten(), other.rewards.flatten())
    group.rewards = rewards.view_as(group.rewards)
    for own, new in zip(group.verdict, other.verdict):
        own[rows.cpu().numpy()] = new


def behind(x, y, n):
    """[P * (n + 1), ..]: after each n rows of x [P * n, ..] one of y [P, ..]; tensors or arrays.

    >>> behind(torch.tensor([1, 2, 3, 4]), torch.tensor([9, 8]), 2)
    tensor([1, 2, 9, 3, 4, 8])
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    return torch.cat([x.unflatten(0, (-1, n)), y[:, None]], dim=1).flatten(0, 1)


def picked(group, prompts, rows):
    """A Group of these rows [P] of another, one for each of prompts [P, T0]."""
    verdict = Verdict(*(x[rows.cpu().numpy()] for x in group.verdict))
    return Group(group.task, group.cell, prompts, group.tokens[rows], group.old_logp[rows],
                 group.mask[rows], verdict)


def with_last(method, group, last):
    """A Group in which each prompt has one row more, that of the Group `last`."""
    n = group.size
    tokens, old_logp, mask = (behind(getattr(group, name), getattr(last, name), n)
                              for name in ("tokens", "old_logp", "mask"))
    verdict = Verdict(*(behind(x, y, n).numpy() for x, y in zip(group.verdict, last.verdict)))
    group = Group(group.task, group.cell, group.prompts, tokens, old_logp, mask, verdict)
    if method.kl != "none":
        group.ref_logp = method.score(method.reference, group)
    return group


class Hinted(GRPO):
    """GRPO whose unsolved prompts get help: `retry`, which a method with hints defines."""
    columns = ("hinted", "unaided")
    budget_gold = 0
    hint_until = knob(1.0, "hints end for good with the step in which more than this share of the "
                      "prompts is solved without; 1: never", low=0, high=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps_done, self.hints_ended = 0, False

    def experience(self, n):
        groups = super().experience(n)
        for group in groups:
            group.more["hint"] = torch.zeros_like(group.tokens[:, 0])
            stuck = unsolved(group.rewards)
            group.more["unaided"] = ~stuck.repeat_interleave(group.size)
            if stuck.any() and not self.hints_ended:
                self.retry(group, stuck.nonzero().flatten())
        return groups

    def retry(self, group, stuck):
        """Put other rows in place of those of the prompts `stuck` [K] of a group."""
        raise NotImplementedError

    def normalise(self, groups):
        super().normalise(groups)
        self.steps_done += 1
        self.hints_ended |= self.unaided(groups) > self.hint_until

    def unaided(self, groups):
        """Share of the prompts that a completion without a hint has solved."""
        return torch.cat([group.more["unaided"].float() for group in groups]).mean().item()

    def numbers(self, groups):
        """Shares of the prompts: with a hint in some row, and solved without any."""
        hinted = [(group.more["hint"] > 0).view(len(group.prompts), -1).any(1) for group in groups]
        return {**super().numbers(groups), "hinted": torch.cat(hinted).float().mean().item(),
                "unaided": self.unaided(groups)}

    def state(self):
        return {**super().state(), "steps_done": self.steps_done, "hints_ended": self.hints_ended}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done, self.hints_ended = state["steps_done"], state["hints_ended"]
