"""veripo.py: VerIPO, GRPO and DPO in turn, a verifier between them (2505.19000). Inspired core.

    --grpo-steps   GRPO on the --reward: is the answer right?
    --dpo-steps    a verifier sorts each prompt's completions, chosen: right, and so is every step;
                   rejected: wrong, or right after a wrong step; then

    loss = - mean over pairs of log sigmoid(beta (l_chosen - l_rejected))
    l    = log pi(y) - log pi_ref(y),  pi_ref: the policy as it was when this stage began

and over again. GRPO searches, DPO aligns quickly to what the verifier prefers; the loss of a pair
fades once it is told apart by 1 / beta nats. A prompt whose completions are all chosen, or all
rejected, has no pair: the easy ones drop out by themselves, of which the paper drops 80 %. Longer
than most, for it is two methods in turn.

Control: grpo.py with --reward trace sees what this verifier sees, all the time.
Departures: the paper sorts the rollouts that its GRPO stage has left; here a step of DPO samples
its own, with the policy, and takes all pairs of a prompt, so that a step costs what GRPO's does.
Lost: its verifier is a language model that also asks whether a chain of thought contradicts itself
or is too long, about videos. On arithmetic a right end after a wrong step hardly occurs.
Checked against: the authors' README (the loop, beta 0.1, 80 %; no training code is out).
Information used: the outcome and the truth of intermediate steps.
"""
import torch
from torch.nn.functional import logsigmoid

from cli import knob
from grpo import GRPO, group_advantages


def preference_loss(log_ratio, chosen, beta=0.1):
    """Losses [P] of log-ratios to the reference [P, G] and chosen [P, G] (bool): the mean over the
    pairs of a chosen and another one; 0 where there is no pair.

    >>> log_ratio = torch.tensor([[0., 0.], [2., -2.], [2., -2.]])
    >>> chosen = torch.tensor([[True, False], [True, False], [True, True]])
    >>> preference_loss(log_ratio, chosen)
    tensor([0.6931, 0.5130, 0.0000])
    """
    margin = log_ratio[:, :, None] - log_ratio[:, None, :]       # [P, chosen, rejected]
    pair = chosen[:, :, None] & ~chosen[:, None, :]
    loss = -logsigmoid(beta * margin) * pair
    return loss.sum((1, 2)) / pair.sum((1, 2)).clamp(min=1)


class VerIPO(GRPO):
    """GRPO and, on a verifier's pairs, DPO in turn."""
    paper = "2505.19000"
    columns = ("dpo",)

    reward = "answer"
    kl = beta = None
    grpo_steps = knob(10, "steps of GRPO in a round", low=1)
    dpo_steps = knob(5, "steps of DPO after them", low=0)
    dpo_beta = knob(0.1, "DPO's beta: the less, the further pairs are parted", above=0)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.steps_done = 0

    @property
    def in_round(self):
        """How many steps of this round are done."""
        return self.steps_done % (self.grpo_steps + self.dpo_steps)

    @property
    def preferring(self):
        """Whether this is a step of DPO."""
        return self.in_round >= self.grpo_steps

    def step(self, optimizer):
        if self.in_round == self.grpo_steps:
            self.reference.load_state_dict(self.policy.state_dict())
        groups, numbers = super().step(optimizer)
        numbers["dpo"] = float(self.preferring)
        self.steps_done += 1
        return groups, numbers

    def advantages(self, group):
        """[R]; in a step of DPO positive for the chosen ones, negative for the others, and 0 where
        there is no pair."""
        if not self.preferring:
            return super().advantages(group)
        with torch.no_grad():
            group.ref_logp = self.score(self.reference, group)
        chosen = torch.from_numpy(group.verdict.trace).to(group.rewards)
        return group_advantages(chosen.view_as(group.rewards), "none").flatten()

    def loss(self, group, logp):
        if not self.preferring:
            return super().loss(group, logp)
        log_ratio = ((logp - group.ref_logp) * group.mask).sum(1).view_as(group.rewards)
        chosen = group.advantages.view_as(group.rewards) > 0
        return preference_loss(log_ratio, chosen, self.dpo_beta).mean()

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
