"""posterior.py: Posterior-GRPO, steps are paid for after success alone (2508.05170).

    r = form + outcome + outcome * process

form is 1 for a completion that looks like a solution, outcome the --reward (the last state is
right), process the share of all steps that are right. A process reward by itself can be earned
without ever being right, and is then all that is learned; here it only ranks what is right anyway.
With clip-higher and the token mean of DAPO, and no KL.

So it pays no partial credit: with nothing right in a group there is only the form to learn. And
where one string alone is right (--reward trace) outcome and process are the same. With the answer
as outcome they differ where a right end stands after a wrong step: the column `lucky` has the share
of such completions, which is near 0 on arithmetic, where operations are bijections.

Control: --no-posterior pays form + outcome + process, whatever the outcome; it is GRPO with the
same rewards and no further rule. Without the form, it is near to grpo.py with --reward process.
An inspired core: the paper's process reward is a learned judge of thoughts about code, which can be
deceived; the verifier's cannot, so the gate has no cheating to prevent.
Checked against: the paper's abstract (thoughts are rewarded only where the outcome is a success);
the sum of three, the clip and the mean from notes. Information used: the outcome, the form and the
truth of intermediate steps.
"""
import torch

from cli import knob
from grpo import GRPO
from variants._steps import steps_right, well_formed


def posterior_rewards(form, outcome, process, posterior=True):
    """Rewards [...] of three parts [...], each in 0 .. 1.

    >>> outcome, process = torch.tensor([0., 1., 1.]), torch.tensor([0.9, 0.9, 0.0])
    >>> posterior_rewards(torch.ones(3), outcome, process)
    tensor([1.0000, 2.9000, 2.0000])
    >>> posterior_rewards(torch.ones(3), outcome, process, posterior=False)
    tensor([1.9000, 2.9000, 2.0000])
    """
    return form + outcome + (process * outcome if posterior else process)


class Posterior(GRPO):
    """Pays for right steps only where the outcome is right."""
    paper = "2508.05170"
    columns = ("lucky",)

    reward = "answer"
    clip_high = 0.28
    aggregate = "token"
    kl = beta = None
    posterior = knob(True, "pay for steps of right completions alone; or of all")

    def rewards(self, group):
        process = steps_right(group).mean(-1)
        return posterior_rewards(well_formed(group), super().rewards(group), process,
                                 self.posterior)

    def numbers(self, groups):
        lucky = [torch.from_numpy(group.verdict.answer & ~group.verdict.trace) for group in groups]
        return {**super().numbers(groups), "lucky": torch.cat(lucky).float().mean().item()}
