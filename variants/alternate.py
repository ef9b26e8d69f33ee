"""alternate.py: fine-tuning and RL in turns, the recipes of three papers (2503.17352 and others).

    --rounds times:   --sft-steps of imitation, then --rl-steps of GRPO; after the last, GRPO

What is imitated is --data gold, the solution of each prompt, or own: right samples of the policy,
one vote per prompt as in rft.py. Each recipe is one command, its control too:

    STILL-3 (2503.04548)        a cold start, then RL      --rounds 1 --data gold
    VLAA-Thinking               is that start harmful?     the same, beside --rounds 0, RL alone
    OpenVLThinker (2503.17352)  again and again, on what   --rounds 3 --rl-steps 20 --data own
                                RL has found so far

Longer than most, for it is two methods in turn. An inspired core: the papers' data are long
thoughts of stronger models; VLAA-Thinking's claim, that imitated thoughts keep RL from finding
better ones, needs such thoughts, and with one accepted solution a prompt none are worse.
Controls: `sft` at equal gold, `grpo`.
Information used: the outcome, and with --data gold a gold solution of each prompt imitated.
Checked against: the abstracts and notes.

>>> [tuning(step, sft_steps=1, rl_steps=2, rounds=2) for step in range(7)]
[True, False, False, True, False, False, False]
"""
from cli import knob
from grpo import GRPO
from variants._hints import gold_group
from variants.rft import votes
from variants.sft import likelihood_loss


def tuning(step, sft_steps, rl_steps, rounds):
    """Whether step 0, 1, ... is one of imitation."""
    round_, place = divmod(step, sft_steps + rl_steps)
    return round_ < rounds and place < sft_steps


class Alternate(GRPO):
    """Fine-tuning and RL in turns: three papers' recipes."""
    paper = "2503.17352"
    columns = ("tuning",)

    budget_gold = 0
    drop_zero_variance = None   # what is imitated has a gradient
    sft_steps = knob(10, "steps of imitation in a round", low=0)
    rl_steps = knob(50, "steps of RL in a round", low=1)
    rounds = knob(1, "rounds, after which RL goes on", low=0)
    data = knob("gold", "what is imitated: solutions, or own right samples",
                choices=("gold", "own"))

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps_done = 0

    @property
    def is_tuning(self):
        return tuning(self.steps_done, self.sft_steps, self.rl_steps, self.rounds)

    def step(self, optimizer):
        result = super().step(optimizer)
        self.steps_done += 1
        return result

    def rollout(self, problems):
        if not self.is_tuning or self.data == "own":
            return super().rollout(problems)
        group = gold_group(self, problems)
        self.spend_gold(len(group.prompts), group.completions.numel())
        if self.kl != "none":
            group.ref_logp = self.score(self.reference, group).detach()
        return group

    def advantages(self, group):
        return votes(group.rewards).flatten() if self.is_tuning else super().advantages(group)

    def loss(self, group, logp):
        if self.is_tuning:
            return likelihood_loss(self, group, logp)
        return super().loss(group, logp)

    def numbers(self, groups):
        return {**super().numbers(groups), "tuning": float(self.is_tuning)}

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
