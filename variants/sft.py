"""sft.py: supervised fine-tuning on gold solutions, in the same boxes: the control that is shown the answers.

    loss = - mean log-likelihood of the one accepted solution of each prompt

Not reinforcement learning: the "rollout" is the solution itself, nothing is sampled or judged, and the rollout budget stays at
0. What it is shown is counted instead, in gold sequences and tokens: a method with hints has to be compared at equal gold
(the control of Yue et al. 2504.13837).
"""
import numpy as np
import torch

from grpo import GRPO, Group, completion_mask, masked_mean
from tasks import TASKS


class SFT(GRPO):
    """Not RL: maximum likelihood of the gold solutions, the control that is shown the answers."""
    paper = "control in 2504.13837"
    ignores = ("reward", "group_size", "temperature", "scale", "clip_low", "clip_high", "kl", "beta", "drop_zero_variance", "budget_rollouts")
    columns = ("gold_sequences", "gold_tokens")

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.gold_sequences = self.gold_tokens = 0

    def batch(self):
        return f"{self.prompts_per_step} gold solutions"

    def rollout(self, problems):
        task, cell, prompts = problems
        solutions = TASKS[task].solutions(prompts)
        self.gold_sequences += len(solutions)
        self.gold_tokens += solutions.size
        tokens = torch.as_tensor(np.hstack([prompts, solutions]), device=self.device)
        gold = tokens[:, prompts.shape[1]:]
        return Group(task, cell, prompts, tokens, torch.zeros(gold.shape, device=self.device), completion_mask(gold),
                     TASKS[task].verify(prompts, solutions))

    def rewards(self, group):
        return torch.ones(len(group.prompts), 1, device=self.device)

    def advantages(self, group):
        return group.rewards.flatten()

    def loss(self, group, logp):
        return -masked_mean(logp, group.mask, self.aggregate)

    def numbers(self, group):  # nothing is sampled or judged
        return {"reward": None, "zero_std": None, "entropy": None, "kl": None, "stop": None, "len": group.mask.sum(1).mean().item(),
                "gold_sequences": self.gold_sequences, "gold_tokens": self.gold_tokens}

    def state(self):
        return {**super().state(), "gold_sequences": self.gold_sequences, "gold_tokens": self.gold_tokens}

    def load_state(self, state):
        super().load_state(state)
        self.gold_sequences, self.gold_tokens = state["gold_sequences"], state["gold_tokens"]
