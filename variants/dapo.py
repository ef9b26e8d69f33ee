"""dapo.py: Decoupled Clip and Dynamic sampling Policy Optimization (Yu et al. 2503.14476, equations 8 to 13).

Four changes, the first two of which are flags of GRPO itself:
1. clip higher: 1 + 0.28 above, 1 - 0.2 below, so that an unlikely token has room to rise;
2. token mean: every token of the batch weighs the same, so that long completions are not weighed down;
3. dynamic sampling: prompts whose group is all right or all wrong are dropped, and others of the same cell sampled in their
   place until the batch is full, or --refills or the budget runs out. The refills are rollouts too and count as such;
4. soft overlong penalty: with L_max the room for a completion and L_c = --overlong of it a buffer,
       0 if L <= L_max - L_c,   ((L_max - L_c) - L) / L_c  up to L_max,   -1 for one that was cut off there.
   A right completion must go free, so the room is the solution's length plus the buffer.
"""
import cli
from grpo import GRPO, group_advantages
from tasks import EOS, TASKS


class DAPO(GRPO):
    """Clip higher, token mean, refill groups without a contrast, penalise overlong completions softly."""
    paper = "2503.14476"
    defaults = {"clip_high": 0.28, "aggregate": "token", "drop_zero_variance": True}
    flags = {"refills": dict(type=cli.natural, default=3, metavar="N", help="sample at most N times more for prompts that have a contrast"),
             "overlong": dict(type=cli.natural, default=4, metavar="TOKENS", help="buffer after the solution's length, penalised linearly; 0: none")}

    def room(self, task, cell):
        return min(super().room(task, cell) + self.overlong, self.policy.config.context - TASKS[task].prompt_len(cell))

    def experience(self):
        group = super().experience()
        for _ in range(self.refills):
            missing = self.prompts_per_step - int((~self.zero_variance(group)).sum())
            if missing == 0 or self.rollouts >= self.budget:
                break
            problems = TASKS[group.task].sample(group.cell, missing, self.rng, split="train")
            more = self.rollout((group.task, group.cell, problems.prompts))
            more.rewards = self.rewards(more)
            group = group.join(more)  # `step` drops those without a contrast; the log has all that was sampled
        return group

    def advantages(self, group):
        # The penalty joins the reward here: what is dropped and refilled (equation 11) goes by the verifier's word alone.
        rewards = group.rewards + self.penalty(group).view_as(group.rewards)
        return (group_advantages(rewards, self.scale) - self.kl_cost(group)).flatten()

    def penalty(self, group):
        """[R] in -1 .. 0: equation 13."""
        length, L_max = group.mask.sum(1), group.mask.shape[1]
        cut_off = (group.completions != EOS).all(1)
        soft = ((L_max - self.overlong - length) / max(1, self.overlong)).clamp(-1, 0)
        return soft.masked_fill(cut_off & (self.overlong > 0), -1.0)

    def batch(self):
        return f"{super().batch()} with a contrast (at most {self.refills} refills)"
