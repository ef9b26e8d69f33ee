"""distill.py: fine-tuning on the samples of a stronger teacher (Kim and Rush 1606.07947).

    loss = - mean log-likelihood of completions that another checkpoint sampled, right or wrong

The control in Yue et al. (2504.13837): a teacher can bring in solutions that the student itself
would never sample, which no reweighting of its own samples can. The teacher's samples count in the
rollout budget; `reward` in the log is the teacher's.

Information used: a stronger model's samples.

>>> from model import masked_mean
>>> logp, mask = torch.tensor([[-1., -2.], [-0.8, 0.]]), torch.tensor([[1., 1.], [1., 0.]])
>>> -masked_mean(logp, mask, "sequence")    # the loss of two samples: (1.5 + 0.8) / 2
tensor(1.1500)
"""
import torch

from cli import CommandError, knob
from grpo import GRPO
from model import load_checkpoint
from variants.sft import likelihood_loss


class Distill(GRPO):
    """Not RL: imitates the samples of a --teacher."""
    paper = "1606.07947"

    group_size = 4
    scale = clip_low = clip_high = kl = beta = drop_zero_variance = None
    teacher = knob(None, "checkpoint to learn from (distill needs one)", metavar="CKPT")

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        if self.teacher is None:
            raise CommandError("--teacher: name the checkpoint to learn from")
        self.teacher_model = load_checkpoint(self.teacher)[0].to(self.device)
        for what in ("vocab_size", "context"):
            theirs = getattr(self.teacher_model.config, what)
            ours = getattr(self.policy.config, what)
            if theirs != ours:
                raise CommandError(f"--teacher {self.teacher}: has a {what.replace('_', ' ')} of "
                                   f"{theirs}, must be the student's {ours}")

    def rollout(self, problems):
        return self.sample(self.teacher_model, problems, self.group_size, self.temperature)

    def advantages(self, group):
        return torch.ones_like(group.mask[:, 0])

    def loss(self, group, logp):
        return likelihood_loss(self, group, logp)

    def clip_fraction(self, group, logp):
        return 0.0
