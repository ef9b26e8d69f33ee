"""cispo.py: CISPO, clip the weight and not the gradient (MiniMax-M1, 2506.13585, equations 4 and 5).

    loss = - mean over tokens of sg(min(ratio, cap)) * A * logp              sg: a constant for the gradient

PPO's clip silences a token that has moved too far; those are often the rare ones that turn a solution round. Here such a
token keeps its gradient, with a bounded importance weight. The cap is 1 + --clip-high = 5; there is no lower clip, as in the
paper's experiments. While all ratios are 1 this is GRPO with a token mean: it takes several updates per batch to differ.
"""
from grpo import GRPO, masked_mean


class CISPO(GRPO):
    """REINFORCE with a capped importance weight: no token ever loses its gradient."""
    paper = "2506.13585"
    defaults = {"epochs": 2, "clip_high": 4.0, "aggregate": "token"}
    ignores = ("clip_low",)

    def loss(self, group, logp):
        A = group.advantages if group.advantages.dim() == 2 else group.advantages[:, None]
        weight = self.log_ratio(group, logp).exp().clamp(max=1 + self.clip_high).detach()
        return -masked_mean(weight * A * logp, group.mask, self.aggregate) + self.kl_penalty(group, logp)

    def clip_fraction(self, group, logp):
        """Share of tokens whose weight is at the cap."""
        return masked_mean((self.log_ratio(group, logp).exp() > 1 + self.clip_high).float(), group.mask, "token").item()
