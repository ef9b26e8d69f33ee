"""grpo.py: the algorithm. Rollout, reward, advantage, KL, loss: pure functions, and one class whose methods are the boxes.

    problems   -> one batch of prompts, all of one cell
    rollout    -> G completions of each, with the log-probabilities they were sampled with
    rewards    -> a number per completion, from the verifier                                    [P, G]
    advantages -> (reward - group mean) / group std                                             [P * G] or [P * G, N]
    forward    -> log-probabilities of the same tokens under the policy being trained           [P * G, N]
    loss       -> - mean of min(ratio * A, clip(ratio) * A)  (+ beta * KL)                      scalar

where ratio = exp(logp - old_logp) per token. That is all of GRPO (Shao et al. 2402.03300, equations 3 and 4): PPO's
clipped objective, with a group of samples in place of a learned critic. A variant is a subclass that overrides the boxes it
changes, and nothing else: the published ones are in variants/, a file each.

How this departs from the paper: no KL by default (`--kl`), and the paper's per-token k3 loss beside the KL in
the reward; one update per batch by default (`--epochs`), so that the clip never binds; a batch with no signal at all is
skipped rather than stepped on by the optimizer's momentum. The group std is the sample std (n - 1), as in TRL and verl.

>>> group_advantages(torch.tensor([[1., 0., 0., 0.], [1., 1., 1., 1.]]))
tensor([[ 1.5000, -0.5000, -0.5000, -0.5000],
        [ 0.0000,  0.0000,  0.0000,  0.0000]])
>>> completion_mask(torch.tensor([[9, 9, EOS, 0], [EOS, 0, 0, 0]]))
tensor([[1., 1., 1., 0.],
        [1., 0., 0., 0.]])
"""
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from model import generate, token_logprobs
from tasks import EOS, TASKS, Cell, Verdict

REWARDS = {
    "trace": "1 if the whole solution string is right",
    "answer": "1 if the last state is right and properly ended, however it was reached",
    "process": "fraction of leading steps that are right",
    "random": "a fair coin, whatever was written",
    "inverted": "1 if the trace is wrong",
    "format": "1 if it looks like a solution, right or wrong",
}


# ------------------------------------------------------------------------------------------------- the maths, in the open

def completion_mask(completions):
    """[rows, N] float: 1 up to and including the first EOS of completions [rows, N], 0 after it.

    The EOS is an action like any other: a policy that is not trained on it never learns to stop.
    """
    is_eos = (completions == EOS).int()
    return (is_eos.cumsum(1) - is_eos == 0).float()


def group_advantages(rewards, scale="std", eps=1e-6):
    """Advantages [P, G] of rewards [P, G]: (r - mean) / (std + eps) within each group (2402.03300, section 4.1.2).

    scale "std" divides by the sample std (n - 1); "none" only subtracts the mean (Dr. GRPO, 2503.20783). A group whose
    rewards are all equal teaches nothing: exact zeros, also where rounding or a group of one would give something else.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale == "std":
        centred = centred / (rewards.std(dim=1, correction=min(1, rewards.shape[1] - 1), keepdim=True) + eps)
    elif scale != "none":
        raise ValueError(f"scale is {scale!r}, must be std or none")
    all_equal = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)
    return torch.where(all_equal, 0.0, centred)


def whiten(x, mask, eps=1e-6):
    """(x - mean) / (std + eps) of x [rows, N] over all of the batch's tokens where mask [rows, N] is 1; 0 elsewhere.

    The std is that of the batch itself (n), not the estimate (n - 1): with thousands of tokens they are the same number.
    A batch without any contrast gives exact zeros, as in group_advantages.
    """
    values = x[mask == 1]
    if (values == values[0]).all():
        return torch.zeros_like(x)
    return (x - values.mean()) / (values.std(correction=0) + eps) * mask


def masked_mean(x, mask, aggregate):
    """Scalar mean of x [rows, N] where mask [rows, N] is 1.

    aggregate "sequence": mean within each row, then over rows (GRPO);  "token": over all tokens alike (DAPO, 2503.14476);
    "constant": sum / (rows * N), so that no row's weight depends on its length (Dr. GRPO, 2503.20783).
    """
    x = x * mask
    if aggregate == "sequence":
        return (x.sum(1) / mask.sum(1).clamp(min=1)).mean()
    if aggregate == "token":
        return x.sum() / mask.sum().clamp(min=1)
    if aggregate == "constant":
        return x.sum() / x.numel()
    raise ValueError(f"aggregate is {aggregate!r}, must be sequence, token or constant")


def policy_loss(logp, old_logp, advantages, mask, clip_low=0.2, clip_high=0.2, aggregate="sequence"):
    """PPO's clipped surrogate, negated so that lower is better (1707.06347 eq. 7; 2402.03300 eq. 3).

    logp, old_logp, mask [rows, N]; advantages [rows] (one per completion) or [rows, N] (one per token). Only logp needs
    a gradient. Returns a scalar. With logp == old_logp its gradient is that of REINFORCE with these advantages.
    """
    if advantages.dim() == 1:
        advantages = advantages[:, None]
    ratio = (logp - old_logp).masked_fill(mask == 0, 0.0).exp()  # what stands after EOS must not overflow into a nan
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -masked_mean(torch.min(ratio * advantages, clipped * advantages), mask, aggregate)


def kl_estimate(logp, ref_logp, kind="k3"):
    """Per-token estimates [rows, N] of KL(policy || reference) from tokens that the policy sampled.

    With d = ref_logp - logp:  k1 = -d (unbiased, can be negative);  k2 = d^2 / 2;  k3 = exp(d) - d - 1 (unbiased, never
    negative). As a *loss* they do not all descend the KL: k3's gradient is that of the forward KL (see finetune.py).
    Source: Schulman, "Approximating KL divergence" (2020); k3 as the loss of GRPO: 2402.03300 eq. 4.
    """
    d = ref_logp - logp
    if kind == "k1":
        return -d
    if kind == "k2":
        return d.square() / 2
    if kind == "k3":
        return d.exp() - d - 1
    raise ValueError(f"kind is {kind!r}, must be k1, k2 or k3")


# -------------------------------------------------------------------------------------------------------- the algorithm

@dataclass
class Group:
    """One step's rollouts: P prompts x G completions of one cell, P * G = R rows, the rows of one prompt adjacent."""
    task: str
    cell: Cell
    prompts: np.ndarray                      # [P, T0] int64
    tokens: torch.Tensor                     # [R, T0 + N] int64: prompt and completion
    old_logp: torch.Tensor                   # [R, N] log-probs of the sampler, at its temperature
    mask: torch.Tensor                       # [R, N] 1 up to and including EOS
    verdict: Verdict | None = None           # the verifier's word on each row
    ref_logp: torch.Tensor | None = None     # [R, N] under the frozen reference, where a KL is used
    rewards: torch.Tensor | None = None      # [P, G]
    advantages: torch.Tensor | None = None   # [R] or [R, N]
    more: dict = field(default_factory=dict)  # {name: [R, ...]}: what a variant keeps of each row

    @property
    def start(self):
        return self.prompts.shape[1]

    @property
    def size(self):
        """Rows per prompt."""
        return len(self.tokens) // len(self.prompts)

    @property
    def completions(self):
        return self.tokens[:, self.start:]

    def only(self, prompts):
        """The same group with only these prompts ([n] int64 indices) and their rows, in everything that training reads."""
        rows = (prompts[:, None] * self.size + torch.arange(self.size, device=prompts.device)).flatten()
        pick = {name: getattr(self, name)[rows] for name in ("tokens", "old_logp", "mask", "ref_logp", "advantages")
                if getattr(self, name) is not None}
        if self.rewards is not None:
            pick["rewards"] = self.rewards[prompts]
        more = {name: x[rows] for name, x in self.more.items()}
        return replace(self, prompts=self.prompts[prompts.cpu().numpy()], more=more, **pick)

    def join(self, other):
        """This group and another of the same cell as one, with everything that was set before advantages."""
        both = {name: torch.cat((getattr(self, name), getattr(other, name)))
                for name in ("tokens", "old_logp", "mask", "ref_logp", "rewards") if getattr(self, name) is not None}
        verdict = Verdict(*map(np.concatenate, zip(self.verdict, other.verdict)))
        return replace(self, prompts=np.concatenate((self.prompts, other.prompts)), verdict=verdict, **both)


class GRPO:
    """Group relative policy optimisation: the group's mean and std in place of a critic, PPO's clip.

    Each method is one box of the algorithm; `step` is the order they come in.
    """
    paper = "2402.03300"  # where the method is from
    defaults = {}         # flags of finetune.py that have another default with this method: {"clip_high": 0.28}
    ignores = ()          # flags of finetune.py that have no meaning for it: ("scale",)
    flags = {}            # flags of its own, argparse's options by name; each becomes an attribute: {"k": {"type": int, ...}}
    columns = ()          # numbers of its own, for the CSV and the log line

    def __init__(self, policy, reference, tasks, *, prompts_per_step=32, group_size=16, epochs=1, temperature=1.0,
                 reward="trace", scale="std", clip_low=0.2, clip_high=0.2, aggregate="sequence", kl="none", beta=0.0,
                 drop_zero_variance=False, micro_batch=0, max_grad_norm=1.0, seed=0, **own):
        """policy is trained; reference is frozen (the policy before training); tasks is a list of (task name, cell) to
        draw batches from, each with the same probability. The rest are the flags of `finetune.py`, same names; `own` are
        the method's own flags."""
        self.policy, self.reference, self.tasks = policy, reference, tasks
        self.prompts_per_step, self.group_size, self.epochs, self.temperature = prompts_per_step, group_size, epochs, temperature
        self.reward, self.scale, self.clip_low, self.clip_high = reward, scale, clip_low, clip_high
        self.aggregate, self.kl, self.beta = aggregate, kl, beta
        self.drop_zero_variance, self.micro_batch, self.max_grad_norm = drop_zero_variance, micro_batch, max_grad_norm
        self.device = next(policy.parameters()).device
        self.rng = np.random.default_rng([seed, 1])                                   # problems
        self.generator = torch.Generator(self.device).manual_seed(seed)               # sampled tokens
        self.rollouts, self.budget = 0, float("inf")                                  # completions sampled so far, and at most
        for name, options in self.flags.items():
            setattr(self, name, own.pop(name, options.get("default")))
        if own:
            raise TypeError(f"{type(self).__name__} knows no {', '.join(own)}")

    # --- the boxes

    def problems(self):
        """(task name, cell, prompts [P, T0]): one batch, from one cell; never a prompt reserved for evaluation."""
        task, cell = self.tasks[self.rng.integers(len(self.tasks))]
        return task, cell, TASKS[task].sample(cell, self.prompts_per_step, self.rng, split="train").prompts

    def room(self, task, cell):
        """Tokens that a completion may have: exactly the solution's length; one that has not ended by then is wrong anyway."""
        return TASKS[task].solution_len(cell)

    def sample(self, policy, problems, group_size, temperature):
        """group_size verified completions of each prompt by any policy: a Group. All sampling is here, and counted here."""
        task, cell, prompts = problems
        tokens = torch.as_tensor(prompts, device=self.device)
        completions, old_logp = generate(policy, tokens, self.room(task, cell), temperature, group_size, self.generator)
        self.rollouts += len(completions)
        verdict = TASKS[task].verify(prompts.repeat(group_size, axis=0), completions.cpu().numpy())
        tokens = torch.cat([tokens.repeat_interleave(group_size, dim=0), completions], dim=1)
        return Group(task, cell, prompts, tokens, old_logp, completion_mask(completions), verdict)

    def rollout(self, problems):
        """Sample group_size completions of each prompt from the policy: a Group without rewards yet."""
        group = self.sample(self.policy, problems, self.group_size, self.temperature)
        if self.kl != "none":
            group.ref_logp = self.reference_logp(group)
        return group

    def rewards(self, group):
        """[P, G] float: the `--reward` of each completion."""
        v = group.verdict
        values = {"trace": lambda: v.trace, "answer": lambda: v.answer, "process": lambda: v.process,
                  "random": lambda: self.rng.random(len(v.trace)) < 0.5, "inverted": lambda: ~v.trace,
                  "format": lambda: v.well_formed}[self.reward]()
        return torch.as_tensor(values, dtype=torch.float32, device=self.device).view(len(group.prompts), -1)

    def advantages(self, group):
        """[R]: each reward relative to its group, less the KL's share of it."""
        return (group_advantages(group.rewards, self.scale) - self.kl_cost(group)).flatten()

    def kl_cost(self, group):
        """[P, G]: with `--kl k1_reward`, beta times each sequence's log-ratio to the reference; else zeros.

        It is centred within the group like the reward: the group mean contains the sample itself, which shrinks
        both by the same (G - 1) / G, so that the balance between reward and KL, the tilted policy, stays where it should.
        """
        if self.kl != "k1_reward":
            return torch.zeros_like(group.rewards)
        kl = (kl_estimate(group.old_logp, group.ref_logp, "k1") * group.mask).sum(1).view_as(group.rewards)
        return self.beta * (kl - kl.mean(dim=1, keepdim=True))

    def token_rewards(self, group):
        """[R, N]: the same two where they are earned, for variants with a return at every token: the reward at the last
        token of a completion, less beta times each token's own log-ratio."""
        last = group.mask.sum(1, keepdim=True).long() - 1
        rewards = torch.zeros_like(group.mask).scatter(1, last, group.rewards.view(-1, 1))
        if self.kl == "k1_reward":
            rewards = rewards - self.beta * kl_estimate(group.old_logp, group.ref_logp, "k1") * group.mask
        return rewards

    def forward(self, group):
        """[R, N]: log-probs of the sampled tokens under the policy, at the temperature they were sampled at; 0 after EOS."""
        logp = token_logprobs(self.policy, group.tokens, group.start, self.temperature, group.size)
        return logp.masked_fill(group.mask == 0, 0.0)

    def log_ratio(self, group, logp):
        """[R, N]: how far each token has moved since it was sampled, in nats: what the loss clips; 0 after EOS."""
        return (logp - group.old_logp).masked_fill(group.mask == 0, 0.0)

    def loss(self, group, logp):
        """Scalar: the clipped surrogate, plus the KL's penalty."""
        surrogate = policy_loss(self.log_ratio(group, logp), 0.0, group.advantages, group.mask, self.clip_low, self.clip_high, self.aggregate)
        return surrogate + self.kl_penalty(group, logp)

    def kl_penalty(self, group, logp):
        """Scalar: with `--kl k3_loss`, beta times the k3 estimate; else 0."""
        if self.kl != "k3_loss":
            return 0.0
        return self.beta * masked_mean(kl_estimate(logp, group.ref_logp, "k3"), group.mask, self.aggregate)

    # --- what holds them together

    def parameters(self):
        """What the optimizer trains; a variant with a critic adds the critic's."""
        return list(self.policy.parameters())

    @torch.no_grad()
    def reference_logp(self, group):
        """[R, N]: log-probs of the sampled tokens under the frozen reference, at the rollout temperature; 0 after EOS."""
        logp = token_logprobs(self.reference, group.tokens, group.start, self.temperature, group.size)
        return logp.masked_fill(group.mask == 0, 0.0)

    def experience(self):
        """One step's rollouts with their rewards. A variant that looks at the rewards and samples again does it here."""
        group = self.rollout(self.problems())
        group.rewards = self.rewards(group)
        return group

    def step(self, optimizer):
        """One step of GRPO: sample, judge, update `epochs` times on that batch. Returns (group, numbers for the log).

        Raises FloatingPointError before a loss or gradient that is not finite can reach the weights.
        """
        group = self.experience()
        group.advantages = self.advantages(group)
        numbers = self.numbers(group)
        batch = group.only((~self.zero_variance(group)).nonzero().flatten()) if self.drop_zero_variance else group
        teaching = self.teaches(batch).nonzero().flatten()
        if len(teaching) == 0:
            return group, {**numbers, "clip": 0.0, "grad": 0.0, "loss": 0.0}  # nothing to learn from: leave the weights alone

        for _ in range(self.epochs):
            optimizer.zero_grad()
            total = clip = 0.0
            for prompts in teaching.split(self.micro_batch or len(teaching)):
                part = batch.only(prompts)
                # so that the sum over parts is the whole batch's mean, whichever way tokens are averaged
                weight = part.mask.sum().item() / batch.mask.sum().item() if self.aggregate == "token" else len(part.tokens) / len(batch.tokens)
                logp = self.forward(part)
                loss = self.loss(part, logp) * weight
                loss.backward()
                total += loss.item()
                clip += self.clip_fraction(part, logp.detach()) * weight
            norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.max_grad_norm).item()
            if not (np.isfinite(total) and np.isfinite(norm)):
                raise FloatingPointError(f"loss {total}, gradient norm {norm}")
            optimizer.step()
        return group, {**numbers, "clip": clip, "grad": norm, "loss": total}

    def batch(self):
        """What one step consumes, in words."""
        return f"{self.prompts_per_step} prompts x {self.group_size} completions"

    def teaches(self, group):
        """[P] bool: groups whose loss has a gradient. The others count in the mean, but need no forward and backward pass:
        late in training, half the groups or more are all right."""
        if self.kl == "k3_loss" or len(group.prompts) == 0:
            return torch.ones(len(group.prompts), dtype=torch.bool, device=self.device)
        return (group.advantages.view(len(group.prompts), -1) != 0).any(dim=1)

    def zero_variance(self, group):
        """[P] bool: groups whose rewards are all equal."""
        return (group.rewards == group.rewards[:, :1]).all(dim=1)

    def clip_fraction(self, group, logp):
        """Share of tokens whose gradient the clip has cut, for the log."""
        A = group.advantages if group.advantages.dim() == 2 else group.advantages[:, None]
        ratio = self.log_ratio(group, logp).exp()
        cut = ((ratio > 1 + self.clip_high) & (A > 0)) | ((ratio < 1 - self.clip_low) & (A < 0))
        return masked_mean(cut.float(), group.mask, "token").item()

    def numbers(self, group):
        """What a log line says of the rollouts, as plain floats; each is explained in the README."""
        ended = (group.completions == EOS).any(1).float()
        return {"reward": group.rewards.mean().item(),
                "zero_std": self.zero_variance(group).float().mean().item(),
                "entropy": -masked_mean(group.old_logp, group.mask, "token").item(),
                "kl": None if group.ref_logp is None else
                      masked_mean(kl_estimate(group.old_logp, group.ref_logp, "k3"), group.mask, "token").item(),
                "len": group.mask.sum(1).mean().item(), "stop": ended.mean().item()}

    def state(self):
        """What a checkpoint keeps beside weights and optimizer: with the random state in it, a resumed run draws what the
        uninterrupted one would have drawn. A variant with more to remember adds it here, and takes it back in load_state."""
        return {"numpy": self.rng.bit_generator.state, "torch": self.generator.get_state(), "rollouts": self.rollouts}

    def load_state(self, state):
        self.rollouts = state["rollouts"]
        self.rng.bit_generator.state = state["numpy"]
        self.generator.set_state(state["torch"].cpu())
