"""grpo.py: the algorithm, box by box. Pure functions for the maths, then one class whose methods
are the boxes; it begins with `step`, which is the order they come in.

    problems    prompts, split evenly over the cells; each cell's part is one batch     [P, T0]
    rollout     G completions of each, with the log-probs they were sampled with
    rewards     a number per completion, from the verifier                              [P, G]
    advantages  (reward - group mean) / group std                          [P * G] or [P * G, N]
    forward     log-probs of the same tokens under the policy being trained          [P * G, N]
    loss        - mean of min(ratio * A, clip(ratio) * A)  (+ beta * KL)                 scalar

where ratio = exp(logp - old_logp) per token. That is all of GRPO (Shao et al. 2402.03300, eq. 3-4):
PPO's clipped objective, with a group of samples in place of a learned critic. A variant overrides
the boxes that it changes (variants/). `python grpo.py [CKPT]` shows steps in real numbers.

Departures: 1. no KL by default (`--kl k3_loss` is the paper's); 2. one update per batch, so that
the clip never binds; 3. a step without a signal is skipped, not stepped on by momentum; 4. the
group's std is the sample std (n - 1), as in TRL and verl; 5. a step mixes the cells it trains on.

>>> group_advantages(torch.tensor([[1., 0., 0., 0.], [1., 1., 1., 1.]]))
tensor([[ 1.5000, -0.5000, -0.5000, -0.5000],
        [ 0.0000,  0.0000,  0.0000,  0.0000]])
"""
import copy
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch

from cli import Method, knob, script
from model import (GPT, GPTConfig, completion_mask, generate, load_checkpoint, masked_mean,
                   token_logprobs)
from tasks import REWARDS, TASKS, Cell, Verdict, decode


def group_advantages(rewards, scale="std", eps=1e-6):
    """Advantages [P, G] of rewards [P, G]: (r - mean) / (std + eps) per group (2402.03300, 4.1.2).

    scale "std" is the sample std (n - 1); "none" only subtracts the mean (Dr. GRPO, 2503.20783).
    All-equal rewards teach nothing: exact zeros, whatever rounding or a group of one would give.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale == "std":
        correction = min(1, rewards.shape[1] - 1)
        centred = centred / (rewards.std(dim=1, correction=correction, keepdim=True) + eps)
    elif scale != "none":
        raise ValueError(f"scale is {scale!r}, must be std or none")
    all_equal = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)
    return torch.where(all_equal, 0.0, centred)


def policy_loss(logp, old_logp, advantages, mask, clip_low=0.2, clip_high=0.2,
                aggregate="sequence", room=None):
    """PPO's clipped surrogate, negated: lower is better (1707.06347 eq. 7; 2402.03300 eq. 3).

    logp, old_logp, mask [rows, N]; advantages [rows] (one per completion) or [rows, N] (per token);
    a scalar. Only logp needs a gradient: while logp == old_logp it is that of REINFORCE.
    """
    advantages = advantages[:, None] if advantages.dim() == 1 else advantages
    ratio = (logp - old_logp).masked_fill(mask == 0, 0.0).exp()  # after EOS 1, and never a nan
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -masked_mean(torch.min(ratio * advantages, clipped * advantages), mask, aggregate, room)


def kl_estimate(logp, ref_logp, kind="k3"):
    """Estimates [rows, N] of KL(policy || reference) from each sampled token (Schulman 2020).

    With d = ref_logp - logp: k1 = -d (can be negative), k2 = d^2 / 2, k3 = exp(d) - d - 1 (never
    negative; GRPO's, 2402.03300 eq. 4). The mean of k1 and k3 is the KL, but as a *loss* k3
    descends the forward KL (theory.hyperbolic).
    """
    d = ref_logp - logp
    if kind == "k1":
        return -d
    if kind == "k2":
        return d.square() / 2
    if kind == "k3":
        return d.exp() - d - 1
    raise ValueError(f"kind is {kind!r}, must be k1, k2 or k3")


@dataclass
class Group:
    """One cell's part of a step: P prompts x G completions = R rows, those of a prompt adjacent."""
    task: str
    cell: Cell
    prompts: np.ndarray                       # [P, T0] int64
    tokens: torch.Tensor                      # [R, T0 + N] int64: prompt and completion
    old_logp: torch.Tensor                    # [R, N] log-probs of the sampler, at its temperature
    mask: torch.Tensor                        # [R, N] 1 up to and including EOS
    verdict: Verdict | None = None            # the verifier's word on each row
    ref_logp: torch.Tensor | None = None      # [R, N] under the frozen reference, if a KL is used
    rewards: torch.Tensor | None = None       # [P, G]
    advantages: torch.Tensor | None = None    # [R] or [R, N]
    more: dict = field(default_factory=dict)  # what a variant keeps of each row: {name: [R, ...]}

    @property
    def start(self):
        return self.prompts.shape[1]

    @property
    def size(self):
        return len(self.tokens) // len(self.prompts)

    @property
    def completions(self):
        return self.tokens[:, self.start:]


class GRPO(Method):
    """The group's mean and std in place of a critic."""
    paper = "2402.03300"
    prompts_per_step = knob(32, "prompts per step", low=1, high=65_536)
    group_size = knob(16, "completions per prompt", low=2, high=65_536)
    cells = knob("mixed", "a step's prompts: of all cells, or of one", choices=("mixed", "one"))
    reward = knob("trace", "; ".join(f"{k}: {v}" for k, v in REWARDS.items()), choices=REWARDS)
    temperature = knob(1.0, "of the rollouts, and of every log-probability", low=0.01, high=100)
    scale = knob("std", "divide advantages by the group's std, or not", choices=("std", "none"))
    clip_low = knob(0.2, "the ratio is clipped below 1 - this", low=0, high=1)
    clip_high = knob(0.2, "and above 1 + this", low=0)
    aggregate = knob("sequence", "tokens to one loss", choices=("sequence", "token", "constant"))
    kl = knob("none", "pull to the reference", choices=("none", "k1_reward", "k3_loss"))
    beta = knob(0.1, "strength of that pull", low=0)
    epochs = knob(1, "updates on each batch of rollouts", low=1, high=1000)
    drop_zero_variance = knob(False, "leave groups with equal rewards out of the loss's mean")

    def step(self, optimizer):
        """One step of GRPO: (groups, numbers for the log). Raises FloatingPointError before a loss
        or gradient that is not finite can reach the weights."""
        # Stage 1: sample completions of every cell's prompts, and have them judged
        groups = self.experience(self.prompts_per_step)
        # Stage 2: what is each completion worth, beside the others of its group?
        for group in groups:
            group.advantages = self.advantages(group)
        groups = self.gather(groups)
        self.normalise(groups)
        numbers = {**self.numbers(groups), "loss": 0.0, "clip": 0.0, "grad": 0.0}
        if self.drop_zero_variance:
            self.drop_silent(groups)
        teaching = [group for group in groups if self.teaches(group).any()]
        # Stage 3: update the policy, `epochs` times on these samples
        for _ in range(self.epochs if teaching else 0):
            optimizer.zero_grad()
            numbers["loss"] = numbers["clip"] = 0.0
            for group in self.own(teaching):
                share = self.share(group, groups)
                logp = self.forward(group)
                loss = self.loss(group, logp) * share
                loss.backward()
                numbers["loss"] += loss.item()
                numbers["clip"] += self.clip_fraction(group, logp.detach()) * share
            self.clip_gradients(numbers)
            if not np.isfinite(numbers["loss"] + numbers["grad"]):
                raise FloatingPointError("loss {loss}, gradient norm {grad}".format(**numbers))
            optimizer.step()
        return groups, numbers

    # the boxes
    def experience(self, n):
        """[Group]: n prompts' rollouts with their rewards, one group for each cell."""
        groups = [self.rollout(problems) for problems in self.problems(n)]
        for group in groups:
            group.rewards = self.rewards(group)
        return groups

    def problems(self, n):
        """[(task name, cell, prompts [P, T0])]: n prompts, in one part for each cell. Cells take
        turns, also across steps, so that each gets as many prompts as any other."""
        cells = self.tasks
        if self.cells == "one":
            cells = [self.tasks[self.rng.integers(len(self.tasks))]]
        parts = Counter(cells[(self.turn + i) % len(cells)] for i in range(n))
        self.turn = (self.turn + n) % len(self.tasks)
        return [(task, cell, self.draw(task, cell, P)) for (task, cell), P in parts.items()]

    def draw(self, task, cell, n):
        """[n, T0] int64: prompts of a cell, never one that is reserved for evaluation."""
        return TASKS[task].sample(cell, n, self.rng, split="train").prompts

    @torch.no_grad()
    def rollout(self, problems):
        """group_size completions of each prompt, sampled from the policy: a Group to be judged."""
        group = self.sample(self.policy, problems, self.group_size, self.temperature)
        if self.kl != "none":
            group.ref_logp = self.score(self.reference, group)
        return group

    def rewards(self, group):
        """[P, G] float: the `--reward` of each completion, from the verifier's word on it."""
        rewards = torch.from_numpy(group.verdict.reward(self.reward, self.rng))
        return rewards.float().to(self.device).view(len(group.prompts), -1)

    def advantages(self, group):
        """[R]: each reward relative to its group, less the KL's cost relative to its group's: what
        centring takes from one it takes from the other, so the policy they balance at stays."""
        kl_cost = group_advantages(self.kl_cost(group), "none")
        return (group_advantages(group.rewards, self.scale) - kl_cost).flatten()

    def kl_cost(self, group):
        """[P, G]: with `--kl k1_reward` beta * log-ratio to the reference, to be centred where the
        rewards are; else zeros."""
        if self.kl != "k1_reward":
            return torch.zeros_like(group.rewards)
        kl = (kl_estimate(group.old_logp, group.ref_logp, "k1") * group.mask).sum(1)
        return self.beta * kl.view_as(group.rewards)

    def normalise(self, groups):
        """Look at all groups of the step at once, and change advantages in place. Not in GRPO."""

    def forward(self, group):
        """[R, N]: log-probs of the sampled tokens under the policy. Rows that teach nothing keep
        the sampler's, at ratio 1: the same loss and gradient, at half of the work late in a run."""
        rows = self.teaches(group).repeat_interleave(group.size).nonzero().flatten()
        return group.old_logp.clone().index_copy(0, rows, self.score(self.policy, group, rows))

    def log_ratio(self, group, logp):
        """[R, N]: how far each token has moved since it was sampled, in nats: what is clipped."""
        return (logp - group.old_logp).masked_fill(group.mask == 0, 0.0)

    def loss(self, group, logp):
        """Scalar: the clipped surrogate, plus with `--kl k3_loss` beta times the k3 estimate."""
        # the log-ratio, a box of its own, is what policy_loss takes from logp - old_logp
        surrogate = policy_loss(self.log_ratio(group, logp), 0.0, group.advantages, group.mask,
                                self.clip_low, self.clip_high, self.aggregate, self.longest)
        return surrogate + self.kl_penalty(group, logp)

    # plumbing; what is not about GRPO is in cli.Method
    def kl_penalty(self, group, logp):
        """Scalar: with `--kl k3_loss`, beta times the k3 estimate; else 0."""
        if self.kl != "k3_loss":
            return 0.0
        return self.beta * self.mean(kl_estimate(logp, group.ref_logp), group)

    def teaches(self, group):
        """[P] bool: prompts whose rows have a gradient; the others need no forward pass."""
        moved = (group.advantages.view(len(group.prompts), -1) != 0).any(1)
        dropped = (group.mask.view(len(group.prompts), -1) == 0).all(1)
        return (moved | (self.kl == "k3_loss")) & ~dropped

    def sample(self, policy, problems, group_size, temperature):
        """A verified Group from any policy. All sampling is here, and is counted here."""
        task, cell, prompts = problems
        tokens = torch.as_tensor(prompts, device=self.device)
        completions, logp = generate(policy, tokens, self.room(task, cell), temperature, group_size,
                                     self.generator)
        self.rollouts += len(completions)
        verdict = TASKS[task].verify(prompts.repeat(group_size, axis=0), completions.cpu().numpy())
        tokens = torch.cat([tokens.repeat_interleave(group_size, dim=0), completions], dim=1)
        return Group(task, cell, prompts, tokens, logp, completion_mask(completions), verdict)


def demo(path=None):
    """Two steps in real numbers, each of one group: with a contrast, and without."""
    torch.manual_seed(0)
    base = load_checkpoint(path)[0] if path else GPT(GPTConfig(n_layer=1, n_embd=32))
    cell, rng = Cell(depth=1, length=4 if path else 2), np.random.default_rng(0)
    adam = torch.optim.AdamW(base.parameters(), lr=1e-2)
    for _ in range(0 if path else 800):  # a few seconds of pretraining: right every other time
        problems = TASKS["arithmetic"].sample(cell, 64, rng, noise=0.3)
        adam.zero_grad()
        (-token_logprobs(base, torch.from_numpy(np.hstack(problems)), 5).mean()).backward()
        adam.step()
    for contrast in (True, False):
        seed, numbers = 0, {}
        while seed < 500 and numbers.get("zero_std") != 1 - contrast:  # until such a group comes
            method = GRPO(copy.deepcopy(base), base, [("arithmetic", cell)], seed=seed,
                          prompts_per_step=1, group_size=6)
            (group,), numbers = method.step(torch.optim.AdamW(method.parameters(), lr=1e-3))
            seed += 1
        print(f"\n{decode(group.prompts[0])}       gradient norm {numbers['grad']:.3f}\n"
              "completion  reward  advantage  log-prob: sampled, after the step")
        for i, after in enumerate(method.score(method.policy, group).sum(1)):
            print(f"{decode(group.completions[i]):10s}  {group.rewards[0, i]:6.0f}  "
                  f"{group.advantages[i]:9.2f}  {group.old_logp[i].sum():17.3f}  {after:14.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    script(demo)(*sys.argv[1:2])
