"""job_application.py: a weighted sum of criteria, and soft penalties (2511.16073). Inspired core.

    r = answer_weight * outcome + process_weight * process + form_weight * form
        - penalty where it is malformed

The paper grades job applications with a small model, by a weighted sum of criteria and with a KL to
its fine-tuned base. Its lesson: hard penalties made a model that says no to everything, a gentle
reward did not. So --penalty is 0 here; at 1 it is the harsh form.

Lost: applications, a model that grades, and a safe answer to flee to. What is left to try is how
hard bad form is punished: a completion that has not the shape of a solution, right or wrong.
Control: `finetune.py --method grpo --reward process`; here, weights 0, 1, 0 are that.
Checked against: the paper's abstract and a summary of it (a weighted sum of four criteria, the KL,
harsh penalties and their end); the weights and penalties are ours.
Information used: the outcome, the truth of intermediate steps, and the shape of the trace.
"""
import torch

from cli import knob
from grpo import GRPO
from variants._steps import well_formed


def with_penalty(rewards, form, penalty):
    """Rewards [...] less the penalty where form [...] is 0.

    >>> rewards, form = torch.tensor([1., 0., 0.]), torch.tensor([1., 1., 0.])
    >>> with_penalty(rewards, form, 1.0), with_penalty(rewards, form, 0.0)
    (tensor([ 1.,  0., -1.]), tensor([1., 0., 0.]))
    """
    return rewards - penalty * (1 - form)


class JobApplication(GRPO):
    """A weighted sum of criteria; bad form hardly punished."""
    paper = "2511.16073"

    reward = "answer"
    kl = "k3_loss"
    beta = 0.01
    answer_weight = knob(0.5, "of the --reward", low=0)
    process_weight = knob(0.3, "of the share of leading steps that are right", low=0)
    form_weight = knob(0.2, "of the form being that of a solution", low=0)
    penalty = knob(0.0, "taken off for a malformed completion; 1: harsh", low=0)

    def rewards(self, group):
        form = well_formed(group)
        process = torch.from_numpy(group.verdict.process).to(form).view_as(form)
        rewards = (self.answer_weight * super().rewards(group) + self.process_weight * process
                   + self.form_weight * form)
        return with_penalty(rewards, form, self.penalty)
