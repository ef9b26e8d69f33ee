"""Knobs: settings of a method that are flags of finetune.py; and Method, the part of GRPO and its
variants that is not the algorithm."""
import argparse
from dataclasses import dataclass, replace

import numpy as np
import torch

import cli.ranks as ranks
from cli.flags import CommandError, flag, number
from cli.runs import quantity
from model import masked_mean, token_logprobs
from tasks import EOS, SPLITS, TASKS


@dataclass(frozen=True)
class knob:
    """A setting of a method and, under the same name, a flag of finetune.py.

    It is stated once, as a class attribute. In a subclass a new knob is a new flag, another value
    is another default, and None takes the flag away: the method then runs at the default that it
    inherits.
    """
    default: object
    help: str
    low: float | None = None      # the least value allowed
    above: float | None = None    # or: only more than this
    high: float | None = None     # the largest; a million if it is not said
    choices: object = None        # or: one of these
    metavar: str | None = None
    kind: type | None = None      # int, float, bool or str; that of the default, if not given
    shown: bool = True

    def __post_init__(self):
        kind = str if self.default is None else type(self.default)
        object.__setattr__(self, "kind", self.kind or kind)

    def options(self):
        """What argparse is to know of it."""
        if self.kind is bool:
            return {"action": argparse.BooleanOptionalAction}
        if self.choices is not None:
            return {"choices": list(self.choices)}
        if self.kind is str:
            return {"metavar": self.metavar}
        high = {} if self.high is None else {"high": self.high}
        return {"type": number(self.kind, self.low, above=self.above, **high)}


def knobs(method):
    """{name: knob} of a method's class, each with the default that the class gives it."""
    found = {}
    for cls in reversed(method.__mro__):
        for name, value in vars(cls).items():
            if isinstance(value, knob):
                found[name] = value
            elif name in found and value is None:
                found[name] = replace(found[name], shown=False)
            elif name in found:
                found[name] = replace(found[name], default=value, shown=True)
    return found


def add_knobs(parser, method):
    """A method's knobs as flags of a parser. CommandError names one that does not fit."""
    for name, own in knobs(method).items():
        if not own.shown:
            continue
        if any(flag(name) in action.option_strings for action in parser._actions):
            raise CommandError(f"--method {parser.method}: its knob {name!r} is a flag already")
        problem = misfit(own)
        if problem:
            raise CommandError(f"--method {parser.method}: {name} = {own.default!r}: {problem}")
        parser.add_argument(flag(name), default=own.default, help=own.help, **own.options())


def misfit(own):
    """What is wrong with a knob's default, as text; "" if nothing is."""
    value = own.default
    if value is None:
        return ""
    if own.choices is not None:
        return "" if value in own.choices else f"is not one of {', '.join(own.choices)}"
    if own.kind is bool:
        return "" if isinstance(value, bool) else "is not True or False"
    allowed = own.options().get("type", str)
    try:
        allowed(str(value))
    except argparse.ArgumentTypeError:
        return f"must be {allowed.range()}"
    return ""


class Method:
    """What is not the algorithm about a method: its knobs as attributes, its random numbers, its
    counts and logged numbers, and what a resumed run needs. GRPO (grpo.py) is one."""
    paper = ""    # where the method is from
    columns = ()  # numbers of its own, for the CSV and the log line

    lr = knob(1e-3, "AdamW's learning rate", above=0, high=10)
    max_grad_norm = knob(1.0, "clip the gradient's norm to this", above=0)
    budget_rollouts = knob(0, "end with the step in which this many completions are sampled, if "
                           "--steps does not end it before; 0: never", low=0, high=10 ** 12)
    micro_batch = knob(0, "prompts per pass through the model: a third more work, less memory; 0: "
                       "all", low=0)

    def __init__(self, policy, reference, tasks, *, seed=0, **settings):
        """policy is trained, reference is frozen; tasks is a list of (task name, cell) to train on,
        each with the same weight. settings are the method's knobs, by name."""
        self.policy, self.reference, self.tasks = policy, reference, tasks
        self.device = next(policy.parameters()).device
        seed = ranks.own_seed(seed)
        self.rng = np.random.default_rng([seed, 1])                      # problems
        self.generator = torch.Generator(self.device).manual_seed(seed)  # sampled tokens
        self.rollouts = self.rollouts_before = 0  # completions sampled so far, and before this step
        for name, own in knobs(type(self)).items():
            setattr(self, name, settings.pop(name, own.default))
        if settings:
            raise TypeError(f"{type(self).__name__} has no knob {', '.join(settings)}")
        own = ranks.share(self.prompts_per_step)
        self.all_prompts, self.prompts_per_step = self.prompts_per_step, own.stop - own.start
        self.turn = own.start  # whose turn it is among the cells
        reward = getattr(self, "reward", None)
        for name, _ in tasks:
            if reward in TASKS[name].refused_rewards:
                raise CommandError(f"--reward {reward}: cannot be used on {name}, where "
                                   f"{TASKS[name].refused_rewards[reward]}")
        if self.drop_zero_variance and self.kl != "none":
            raise CommandError(f"--drop-zero-variance --kl {self.kl}: a group with equal rewards "
                               "still has the gradient of the KL; leave one of the two out")
        self.longest = max(self.room(task, cell) for task, cell in tasks)  # completion, in tokens

    def room(self, task, cell):
        """Tokens that a completion may have: the solution's; one that goes on is wrong anyway."""
        return TASKS[task].solution_len(cell)

    def parameters(self):
        """What the optimizer trains; a variant with a critic adds the critic's."""
        return list(self.policy.parameters())

    def score(self, model, group, rows=slice(None)):
        """[rows, N]: log-probs of a group's tokens under a model, at the rollout temperature; 0
        after EOS."""
        logp = token_logprobs(model, group.tokens[rows], group.start, self.temperature,
                              self.micro_batch * group.size)
        return logp.masked_fill(group.mask[rows] == 0, 0.0)

    def mean(self, x, group):
        """Scalar mean of x [R, N], as `--aggregate` says; "constant" has one divisor for all cells,
        the longest room of those trained on."""
        return masked_mean(x, group.mask, self.aggregate, self.longest)

    def share(self, group, groups):
        """What a group's mean counts for in the step's: its share of the rows, or of the tokens;
        rows that were dropped (their mask is 0) do not count."""
        if self.aggregate == "token":
            return float(group.mask.sum() / sum(g.mask.sum() for g in groups))
        return len(group.tokens) / sum(int(g.mask.any(1).sum()) for g in groups)

    def gather(self, groups):
        """[Group] of all processes of the run, which all look at; each trains on its `own`."""
        before = self.rollouts_before
        found = ranks.gather((groups, self.rollouts - before))
        self.rollouts = self.rollouts_before = before + sum(sampled for _, sampled in found)
        self.sampled_here = found[ranks.rank()][0]
        return [group for groups, _ in found for group in groups]

    def own(self, groups):
        """Those of the groups that this process sampled: all, if it is alone."""
        return [group for group in groups if any(group is own for own in self.sampled_here)]

    def clip_gradients(self, numbers):
        """Clip the gradient to --max-grad-norm and note its norm before; what the processes of
        the run have each, gradients and numbers, is added up first."""
        sums = ranks.add_gradients(self.parameters(), numbers["loss"], numbers["clip"])
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.max_grad_norm)
        numbers["loss"], numbers["clip"], numbers["grad"] = *sums, norm.item()

    def zero_variance(self, group):
        """[P] bool: prompts whose completions all got the same reward."""
        return (group.rewards == group.rewards[:, :1]).all(dim=1)

    def batch(self):
        """What a step trains on, in words."""
        sampled = knobs(type(self))["group_size"].shown
        completions = f"x {self.group_size} completions" if sampled else "with their solutions"
        return f"{self.all_prompts} prompts {completions}"

    def drop_silent(self, groups):
        """Leave groups with equal rewards out of the loss's mean: their mask becomes 0."""
        for group in groups:
            silent = self.zero_variance(group).repeat_interleave(group.size)
            group.mask = group.mask.masked_fill(silent[:, None], 0.0)

    def clip_fraction(self, group, logp):
        """Share of tokens whose gradient the clip has cut, for the log."""
        A = group.advantages.view(len(group.tokens), -1)
        ratio = self.log_ratio(group, logp).exp()
        cut = ((ratio > 1 + self.clip_high) & (A > 0)) | ((ratio < 1 - self.clip_low) & (A < 0))
        return masked_mean(cut.float(), group.mask, "token").item()

    def numbers(self, groups):
        """What the log line says of a step's rollouts, as floats; the README explains them."""
        def rows(value):
            return torch.cat([value(group).flatten().float() for group in groups])

        length = rows(lambda g: g.mask.sum(1))
        surprise = rows(lambda g: -(g.old_logp * g.mask).sum(1))
        ended = rows(lambda g: (g.completions == EOS).any(1))
        numbers = {"reward": rows(lambda g: g.rewards).mean(),
                   "zero_std": rows(self.zero_variance).mean(),
                   "entropy": surprise.sum() / length.sum(),
                   "len": length.mean(), "stop": ended.mean()}
        if self.kl != "none":
            d = rows(lambda g: (g.ref_logp - g.old_logp) * g.mask)
            numbers["kl"] = (d.exp() - d - 1).sum() / length.sum()   # k3
        return {name: value.item() for name, value in numbers.items()}

    def describe(self, numbers):
        """The parts of the log line, the most important first; what is None is left out."""
        n = {name: value for name, value in numbers.items() if value is not None}
        parts = [f"reward {n['reward']:.2f}" if "reward" in n else f"loss {n['loss']:.3f}"]
        if "id" in n:
            parts.append(" ".join(f"{split} {n[split]:.2f}" for split in SPLITS))
        for name in (*self.columns, "kl", "zero_std", "entropy", "grad", "clip", "stop", "len"):
            if name in n:
                value = quantity(n[name]) if isinstance(n[name], int) else f"{n[name]:.2f}"
                parts.append(f"{name.replace('_', '-')} {value}")
        return parts

    def state(self):
        """What a checkpoint keeps beside weights and optimizer: with the random state in it, a
        resumed run draws what the uninterrupted one would have drawn. A variant with more to
        remember adds it here, and takes it back in load_state."""
        return {"numpy": self.rng.bit_generator.state, "torch": self.generator.get_state(),
                "rollouts": self.rollouts, "turn": self.turn}

    def load_state(self, state):
        self.rollouts = self.rollouts_before = state["rollouts"]
        self.turn = state["turn"]
        self.rng.bit_generator.state = state["numpy"]
        self.generator.set_state(state["torch"].cpu())
