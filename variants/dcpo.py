"""dcpo.py: DCPO, a clip that depends on the probability, and memory of a prompt (2509.02333).

    q    probability of the token when it was sampled; the ratio is clipped to
         1/2 + sqrt(max(0, 1 - 4 e_low / q)) / 2  ..  min(10, 1/2 + sqrt(1 + 4 e_high / q) / 2)
    A_new    (r - mean) / std of this visit to the prompt                      0 if std is 0
    A_total  (r - mean) / std of all i visits so far, this one included        0 if std is 0
    A        the smaller in size of  (i-1)/i A_new + 1/i A_total  and  1/i A_new + (i-1)/i A_total

A rare token may rise many times over, a sure one hardly moves. And a prompt that was solved once
and not this time still teaches, by its history. Both need what one update on fresh prompts does not
have: two updates a batch here, and --pool prompts of each cell that it comes back to.

Longer than most, for it is two methods in one. Departures: with a negative advantage the release
also caps the ratio itself at 10; prompts drawn twice in a step are one visit.

Checked against: github lime-RL/DCPO, verl/trainer/ppo/core_algos.py, README.md (clip 0.16 and 0.2)
and recipe/dcpo (0.2 and 0.28). Information used: the outcome, and which prompts were seen.
"""
import numpy as np
import torch

from cli import knob
from grpo import GRPO, group_advantages, policy_loss
from model import masked_mean
from tasks import TASKS, decode


def clip_bounds(q, low=0.16, high=0.2):
    """(least, largest) ratio of tokens with these probabilities [...].

    >>> clip_bounds(torch.tensor([0.9, 0.5, 0.1, 0.001]))
    (tensor([0.7687, 0.5000, 0.5000, 0.5000]), tensor([ 1.1872,  1.3062,  2.0000, 10.0000]))
    """
    least = 0.5 + 0.5 * (1 - 4 * low / q).clamp(min=0).sqrt()
    return least, (0.5 + 0.5 * (1 + 4 * high / q).sqrt()).clamp(max=10)


def smooth_advantages(rewards, visits, mean, var):
    """(A [P, G], mean [P, 1], var [P, 1]) of rewards [P, G] and of what earlier visits left [P, 1].

    >>> memory, zero = (torch.zeros(1, 1), torch.zeros(1, 1)), torch.zeros(1, 4)
    >>> for visits, rewards in enumerate([torch.tensor([[1., 0., 0., 0.]]), zero, zero]):
    ...     A, *memory = smooth_advantages(rewards, torch.tensor([[visits]]), *memory)
    ...     print(A[0])
    tensor([ 1.5000, -0.5000, -0.5000, -0.5000])
    tensor([-0.1667, -0.1667, -0.1667, -0.1667])
    tensor([-0.0891, -0.0891, -0.0891, -0.0891])
    """
    past = visits / (visits + 1)                                         # (i - 1) / i
    step = rewards.mean(1, keepdim=True) - mean
    now = rewards.var(1, keepdim=True)
    mean, var = mean + (1 - past) * step, past * var + (1 - past) * (now + past * step.square())
    new = group_advantages(rewards)
    total = torch.where(var > 1e-9, (rewards - mean) / (var.sqrt() + 1e-6), 0.0)
    by_new, by_total = past * new + (1 - past) * total, (1 - past) * new + past * total
    return torch.where(by_new.abs() < by_total.abs(), by_new, by_total), mean, var


class DCPO(GRPO):
    """Clips by probability; remembers each prompt's rewards."""
    paper = "2509.02333"

    epochs = 2
    clip_low = 0.16
    clip_high = 0.2
    scale = None
    pool = knob(256, "prompts of each cell, to which it comes back", low=1, high=65_536)

    def __init__(self, *args, seed=0, **settings):
        super().__init__(*args, seed=seed, **settings)
        rng = np.random.default_rng([seed, 2])
        self.pools = {(task, cell): TASKS[task].sample(cell, self.pool, rng, split="train").prompts
                      for task, cell in dict.fromkeys(self.tasks)}
        self.memory = {}    # {prompt as text: [visits, mean, variance]}

    def draw(self, task, cell, n):
        return self.pools[task, cell][self.rng.choice(self.pool, n, replace=n > self.pool)]

    def advantages(self, group):
        texts = [decode(prompt) for prompt in group.prompts]
        before = group.rewards.new_tensor([self.memory.get(text, [0, 0, 0]) for text in texts])
        A, mean, var = smooth_advantages(group.rewards, *before.T.unsqueeze(2))
        after = torch.cat([before[:, :1] + 1, mean, var], dim=1)
        self.memory.update(zip(texts, after.tolist()))
        return (A - group_advantages(self.kl_cost(group), "none")).flatten()

    def bounds(self, group):
        return clip_bounds(group.old_logp.exp(), self.clip_low, self.clip_high)

    def loss(self, group, logp):
        least, largest = self.bounds(group)
        surrogate = policy_loss(self.log_ratio(group, logp), 0.0, group.advantages, group.mask,
                                1 - least, largest - 1, self.aggregate, self.longest)
        return surrogate + self.kl_penalty(group, logp)

    def clip_fraction(self, group, logp):
        (least, largest), ratio = self.bounds(group), self.log_ratio(group, logp).exp()
        A = group.advantages[:, None]
        cut = ((ratio > largest) & (A > 0)) | ((ratio < least) & (A < 0))
        return masked_mean(cut.float(), group.mask, "token").item()

    def state(self):
        return {**super().state(), "memory": self.memory}

    def load_state(self, state):
        super().load_state(state)
        self.memory = state["memory"]
