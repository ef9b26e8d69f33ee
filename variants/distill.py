"""distill.py: fine-tuning on the samples of a stronger teacher (sequence-level distillation, Kim and Rush 1606.07947).

    loss = - mean log-likelihood of completions that another checkpoint sampled, right or wrong

The control in Yue et al. (2504.13837): a teacher can bring in solutions that the student itself would never sample, which no
reweighting of its own samples can. The teacher's samples count in the rollout budget; `reward` in the log is the teacher's.
"""
import cli
from grpo import GRPO, masked_mean
from model import load_checkpoint


class Distill(GRPO):
    """Not RL: maximum likelihood of the samples of --teacher, right or wrong."""
    paper = "1606.07947"
    defaults = {"group_size": 4}
    ignores = ("scale", "clip_low", "clip_high", "kl", "beta", "drop_zero_variance")
    flags = {"teacher": dict(metavar="CKPT", help="checkpoint to learn from (distill needs one)")}

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.teacher is None:
            raise cli.CommandError("--teacher: name the checkpoint to learn from")
        self.teacher_model = load_checkpoint(self.teacher)[0].to(self.device)
        for what in ("vocab_size", "context"):
            theirs, ours = getattr(self.teacher_model.config, what), getattr(self.policy.config, what)
            if theirs != ours:
                raise cli.CommandError(f"--teacher {self.teacher}: has a {what.replace('_', ' ')} of {theirs}, must be the student's {ours}")

    def rollout(self, problems):
        return self.sample(self.teacher_model, problems, self.group_size, self.temperature)

    def advantages(self, group):
        return group.mask.new_ones(len(group.tokens))

    def loss(self, group, logp):
        return -masked_mean(logp, group.mask, self.aggregate)

    def clip_fraction(self, group, logp):
        return 0.0
