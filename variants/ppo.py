"""ppo.py: PPO with a learned critic (Schulman et al. 1707.06347, equations 7 and 9; GAE: 1506.02438, equation 16).

What GRPO took out: a value head on the trunk, V_t = how good the completion will be, judged before its token t is written.

    delta_t = r_t + gamma V_{t+1} - V_t          the reward r is 0 but at the last token
    A_t     = delta_t + gamma lambda A_{t+1}     whitened over the batch's tokens
    return  = A_t + V_t (before whitening)       what the head learns, by squared error, clipped like the policy

So every token has its own advantage, and there is credit for single steps; a group is merely several samples. The log's
explained_variance is 1 - Var(return - V) / Var(return): 0 for a head that knows nothing, 1 for one that foresees everything.

Departure: beside the trunk's hidden state the head sees one number more, the lowest probability of a token written so far. The
hidden state is made to predict the next token and does not say whether those before it were right: of the reward's
variance under a noisy arithmetic base, least squares on it explains under 1 %, and on that one number 31 to 42 %.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import cli
from grpo import GRPO, masked_mean, whiten
from model import log_softmax


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
    """A learned critic in place of the group: GAE advantages per token, whitened; clipped value loss."""
    paper = "1707.06347"
    defaults = {"aggregate": "token", "epochs": 2}
    ignores = ("scale", "drop_zero_variance")
    flags = {"gamma": dict(type=cli.share, default=1.0, help="discount per token"),
             "lam": dict(type=cli.share, default=0.95, help="GAE's lambda: 0 trusts the critic, 1 the final reward"),
             "value_coef": dict(type=cli.nonnegative, default=0.1, help="weight of the value loss"),
             "value_clip": dict(type=cli.positive, default=0.2, help="a value may move by this per batch"),
             "dual_clip": dict(type=cli.nonnegative, default=0.0, metavar="C", help="cap the ratio of negative advantages at C (1912.09729: 3); 0: no cap")}
    columns = ("explained_variance",)

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.head = nn.Linear(self.policy.config.n_embd + 1, 1).to(self.device, self.policy.embed.weight.dtype)
        nn.init.zeros_(self.head.weight), nn.init.zeros_(self.head.bias)

    def parameters(self):
        return [*super().parameters(), *self.head.parameters()]

    def forward(self, group):
        """[R, N] as in GRPO; the same pass leaves the values [R, N] of the states before each token in group.more."""
        hidden = self.policy.hidden(group.tokens[:, :-1], skip=group.start - 1)
        group.more["values"] = self.value(hidden, group.old_logp) * group.mask
        logp = log_softmax(self.policy.unembed(hidden), self.temperature)
        return logp.gather(-1, group.completions[..., None]).squeeze(-1).masked_fill(group.mask == 0, 0.0)

    def value(self, hidden, old_logp):
        """[R, N] of hidden [R, N, C] and the tokens' log-probs [R, N] as sampled, of which only the earlier ones are looked at.

        Adam moves every weight by about the learning rate, so an input's scale is the speed at which its weight is learned:
        fast for the bias and the lowest probability, slow for the many hidden ones, whose noise would add up.
        """
        lowest = F.pad(old_logp[:, :-1], (1, 0)).cummin(dim=1).values.exp()
        return 10 * self.head(torch.cat((hidden / hidden.shape[-1], lowest[..., None]), dim=-1)).squeeze(-1)

    def advantages(self, group):
        """[R, N]"""
        with torch.no_grad():
            self.forward(group)
        group.more["old_values"] = values = group.more.pop("values")
        advantages = gae(self.token_rewards(group), values, self.gamma, self.lam)
        group.more["returns"] = advantages + values
        return whiten(advantages, group.mask)

    def log_ratio(self, group, logp):
        log_ratio = super().log_ratio(group, logp)
        if self.dual_clip:  # then ratio * A is never below C * A
            log_ratio = torch.where(group.advantages < 0, log_ratio.clamp(max=math.log(self.dual_clip)), log_ratio)
        return log_ratio

    def loss(self, group, logp):
        V, old, returns = (group.more[key] for key in ("values", "old_values", "returns"))
        clipped = old + (V - old).clamp(-self.value_clip, self.value_clip)
        error = torch.max((V - returns).square(), (clipped - returns).square()) / 2
        return super().loss(group, logp) + self.value_coef * masked_mean(error, group.mask, self.aggregate)

    def numbers(self, group):
        returns, error = (x[group.mask == 1] for x in (group.more["returns"], group.more["returns"] - group.more["old_values"]))
        spread = returns.var(correction=0).item()
        explained = 1 - error.var(correction=0).item() / spread if spread > 1e-6 else None  # None: no variance to explain
        return {**super().numbers(group), "explained_variance": explained}

    def state(self):
        return {**super().state(), "head": self.head.state_dict()}

    def load_state(self, state):
        super().load_state(state)
        self.head.load_state_dict(state["head"])
