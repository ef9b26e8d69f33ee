"""ppo.py: PPO with a learned critic (1707.06347, eq. 7 and 9; GAE: 1506.02438, eq. 16).

What GRPO took out: a value head on the trunk, V_t = how good the completion will be, judged before
its token t is written.

    delta_t = r_t + gamma V_{t+1} - V_t         the reward r is 0 but at the last token
    A_t     = delta_t + gamma lambda A_{t+1}    whitened over the tokens of the whole step
    return  = A_t + V_t (before whitening)      what the head learns, by squared error, clipped

So every token has its own advantage, and there is credit for single steps; a group is merely
several samples. The log's explained_variance is 1 - Var(return - V) / Var(return): 0 for a head
that knows nothing, 1 for one that foresees everything. Longer than most variants, for a critic is a
second model to train, log and save.

Departure: beside the trunk's hidden state the head sees one number more, the lowest probability of
a token written so far. The hidden state is made to predict the next token and does not say whether
those before it were right: of the reward's variance under a noisy arithmetic base, least squares on
it explains under 1 %, and on that one number 31 to 42 %. Information used: the outcome.
"""
import math
from dataclasses import replace

import torch
import torch.nn as nn
import torch.nn.functional as F

from cli import knob
from grpo import GRPO
from model import log_softmax
from variants.reinforce_pp import ReinforcePP, token_rewards


def gae(rewards, values, gamma, lam):
    """Advantages [R, N] of rewards and values [R, N], both 0 after the end of a row.
    >>> gae(torch.tensor([[0., 0., 1.]]), torch.tensor([[.2, .5, .8]]), gamma=1.0, lam=0.95)
    tensor([[0.7655, 0.4900, 0.2000]])
    """
    delta = rewards + gamma * F.pad(values[:, 1:], (0, 1)) - values
    advantages = torch.zeros_like(delta)
    running = torch.zeros_like(delta[:, 0])
    for t in reversed(range(delta.shape[1])):
        running = delta[:, t] + gamma * lam * running
        advantages[:, t] = running
    return advantages


class PPO(GRPO):
    """A learned critic in place of the group: GAE per token."""
    paper = "1707.06347"
    columns = ("explained_variance",)

    aggregate = "token"
    epochs = 2
    group_size = replace(GRPO.group_size, low=1)
    scale = drop_zero_variance = micro_batch = None
    gamma = knob(1.0, "discount per token", low=0, high=1)
    lam = knob(0.95, "GAE's lambda: 0 trusts the critic, 1 the final reward", low=0, high=1)
    value_coef = knob(0.1, "weight of the value loss", low=0)
    value_clip = knob(0.2, "a value may move by this per batch", above=0)
    dual_clip = knob(math.inf, "cap negative advantages' ratio (1912.09729)", low=1, high=math.inf)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        width, dtype = self.policy.config.n_embd + 1, self.policy.embed.weight.dtype
        self.head = nn.Linear(width, 1).to(self.device, dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def parameters(self):
        return [*super().parameters(), *self.head.parameters()]

    def teaches(self, group):
        """[P] bool: every group, for the critic learns from one without a contrast too."""
        return torch.ones(len(group.prompts), dtype=torch.bool, device=self.device)

    def forward(self, group):
        """[R, N] as in GRPO; the same pass leaves the values [R, N] of the states before each token
        in group.more."""
        hidden = self.policy.hidden(group.tokens[:, :-1], skip=group.start - 1)
        group.more["values"] = self.value(hidden, group.old_logp) * group.mask
        logp = log_softmax(self.policy.unembed(hidden), self.temperature)
        logp = logp.gather(-1, group.completions[..., None]).squeeze(-1)
        return logp.masked_fill(group.mask == 0, 0.0)

    def value(self, hidden, old_logp):
        """[R, N] of hidden [R, N, C] and the tokens' log-probs [R, N] as sampled, of which only the
        earlier ones are looked at. Under Adam an input's scale is the speed at which its weight is
        learned: fast for bias and lowest probability, slow for the many noisy hidden ones."""
        lowest = F.pad(old_logp[:, :-1], (1, 0)).cummin(dim=1).values.exp()
        inputs = torch.cat((hidden / hidden.shape[-1], lowest[..., None]), dim=-1)
        return 10 * self.head(inputs).squeeze(-1)

    def advantages(self, group):
        """[R, N]"""
        with torch.no_grad():
            self.forward(group)
        group.more["old_values"] = values = group.more.pop("values")
        advantages = gae(token_rewards(self, group), values, self.gamma, self.lam)
        group.more["returns"] = advantages + values
        return advantages

    normalise = ReinforcePP.normalise    # whitened over the step

    def log_ratio(self, group, logp):
        """[R, N]; where the advantage is negative no more than log --dual-clip, so that
        ratio * A is never below dual_clip * A."""
        log_ratio = super().log_ratio(group, logp)
        capped = log_ratio.clamp(max=math.log(self.dual_clip))
        return torch.where(group.advantages < 0, capped, log_ratio)

    def loss(self, group, logp):
        V, old, returns = (group.more[key] for key in ("values", "old_values", "returns"))
        clipped = old + (V - old).clamp(-self.value_clip, self.value_clip)
        error = torch.max((V - returns).square(), (clipped - returns).square()) / 2
        return super().loss(group, logp) + self.value_coef * self.mean(error, group)

    def numbers(self, groups):
        def variance(value):
            return torch.cat([value(g.more)[g.mask == 1] for g in groups]).var(correction=0)
        spread = variance(lambda more: more["returns"])
        error = variance(lambda more: more["returns"] - more["old_values"])
        explained = (1 - error / spread).item() if spread > 1e-6 else None  # nothing to explain
        return {**super().numbers(groups), "explained_variance": explained}

    def state(self):
        return {**super().state(), "head": self.head.state_dict()}

    def load_state(self, state):
        super().load_state(state)
        self.head.load_state_dict(state["head"])
