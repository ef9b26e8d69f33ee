"""sft.py: supervised fine-tuning on gold solutions: the control that is shown the answers.

    loss = - mean log-likelihood of the one accepted solution of each prompt

Not reinforcement learning: the "rollout" is the solution itself, nothing is sampled or judged, and
the rollout budget stays at 0. What it is shown is counted instead, in gold sequences and tokens: a
method with hints has to be compared at equal gold (the control of Yue et al. 2504.13837).

Information used: gold solutions.
"""
from types import SimpleNamespace

import numpy as np
import torch

from grpo import GRPO, Group
from model import completion_mask, masked_mean
from tasks import TASKS


def likelihood_loss(method, group, logp):
    """Scalar: minus the mean of logp [R, N], each completion weighed by its advantage [R].

    >>> group = SimpleNamespace(advantages=torch.tensor([1., 2.]), mask=torch.ones(2, 1))
    >>> method = SimpleNamespace(mean=lambda x, group: masked_mean(x, group.mask, "sequence"))
    >>> likelihood_loss(method, group, torch.tensor([[-1.], [-3.]]))
    tensor(3.5000)
    """
    return -method.mean(logp * group.advantages[:, None], group)


class SFT(GRPO):
    """Not RL: gold solutions, the control shown the answers."""
    paper = "control in 2504.13837"
    columns = ("gold_sequences", "gold_tokens")

    reward = group_size = temperature = budget_rollouts = None          # nothing is sampled
    scale = clip_low = clip_high = kl = beta = drop_zero_variance = None  # and nothing judged

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.gold_sequences = self.gold_tokens = 0

    def rollout(self, problems):
        task, cell, prompts = problems
        solutions = TASKS[task].solutions(prompts, rng=self.rng)  # where several are right, any
        tokens = torch.as_tensor(np.hstack([prompts, solutions]), device=self.device)
        gold = tokens[:, prompts.shape[1]:]
        return Group(task, cell, prompts, tokens, torch.zeros(gold.shape, device=self.device),
                     completion_mask(gold), TASKS[task].verify(prompts, solutions))

    def rewards(self, group):
        return torch.ones(len(group.prompts), 1, device=self.device)

    def advantages(self, group):
        return group.rewards.flatten()

    def loss(self, group, logp):
        return likelihood_loss(self, group, logp)

    def clip_fraction(self, group, logp):
        return 0.0

    def numbers(self, groups):
        self.gold_sequences += sum(len(group.tokens) for group in groups)
        self.gold_tokens += sum(group.completions.numel() for group in groups)
        return {"gold_sequences": self.gold_sequences, "gold_tokens": self.gold_tokens}

    def state(self):
        counts = {"gold_sequences": self.gold_sequences, "gold_tokens": self.gold_tokens}
        return {**super().state(), **counts}

    def load_state(self, state):
        super().load_state(state)
        self.gold_sequences, self.gold_tokens = state["gold_sequences"], state["gold_tokens"]
