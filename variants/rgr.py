"""rgr.py: RGR-GRPO, a rubric that rewards and guides (2511.12344). Inspired core.

    r = sum over k of w_k s_k / sum over k of w_k        s_k: how far criterion k is met

Process: the leading steps that are right; outcome: the --reward; form: it looks like a solution.
Guidance: of each prompt G - 1 completions are sampled as usual. Where none of them has all steps
right, some criterion is failed by all, and the G-th is a refinement: the best one as far as it is
right, then the step that all have failed, which is gold and counted, then sampled again. Elsewhere
the G-th is sampled as usual, so that a prompt has G rollouts. A refinement joins its group's mean
and std; its tokens are trained with p / (p + gamma) in place of the ratio, p = pi(token | prompt):

    its derivative times p is the weight of grad log p: gamma p / (p + gamma)^2, the largest at
    p = gamma; what the policy would never write, and what it is sure of, weighs little

Longer than most, for it is a reward and a way to sample.

Control: --no-guidance is GRPO with the same rewards, up to weights grpo.py with --reward process;
the guidance is supervision, to be held against sft on as much gold.
Departures: the paper's rubrics are sentences, made and scored by a large model, and its refinement
is written with the failed ones in the prompt, which takes a base that can read them: here what is
shown stands in the completion, where it is a prefix. The weights and gamma are ours (0.1 is
Critique-GRPO's). Checked against: the paper's abstract and summaries of it (factual and process
criteria; exploration assessed, self-refinement, mixed-policy GRPO); the formulas from notes.
Information used: the outcome, the truth of intermediate steps, and gold, a step at a time.
"""
import numpy as np
import torch

from cli import knob
from grpo import GRPO
from tasks import TASKS
from variants._hints import gold_group
from variants._rollouts import continued, judged
from variants._steps import well_formed


def rubric_rewards(scores, weights):
    """[...] in 0 .. 1 of the scores [..., K] of K criteria and their weights [K].

    >>> rubric_rewards(torch.tensor([1., 1., 0.]), torch.tensor([0.5, 0.3, 0.2]))
    tensor(0.8000)
    """
    return (scores * weights).sum(-1) / weights.sum()


def log_shaped(logp, gamma=0.1):
    """log(p / (p + gamma)) of log p, in place of the log-ratio of tokens that were given.

    >>> log_shaped(torch.tensor([0.01, 0.90, 1.00]).log()).exp()
    tensor([0.0909, 0.9000, 0.9091])
    """
    return logp - (logp.exp() + gamma).log()


class RGR(GRPO):
    """A rubric rewards; what all fail is shown to the best."""
    paper = "2511.12344"
    columns = ("refined",)

    budget_gold = 0
    weight_process = knob(0.5, "of the share of leading steps that are right", low=0)
    weight_outcome = knob(0.3, "of the outcome, the --reward", low=0)
    weight_form = knob(0.2, "of looking like a solution", above=0)
    guidance = knob(True, "refine the best completion where none has all steps right")
    gamma = knob(0.1, "a refinement's token of this probability has the most weight", above=0)

    @torch.no_grad()
    def rollout(self, problems):
        if not self.guidance:
            return super().rollout(problems)
        group = self.sample(self.policy, problems, self.group_size - 1, self.temperature)
        again, given = self.refined(group)
        tokens = torch.cat([group.tokens.unflatten(0, (len(given), -1)), again.tokens[:, None]], 1)
        group = judged(group, group.prompts, tokens.flatten(0, 1), again.old_logp[:1])
        group.old_logp = self.score(self.policy, group)
        if self.kl != "none":
            group.ref_logp = self.score(self.reference, group)
        group.more["refined"] = torch.zeros(len(group.tokens), device=self.device)
        group.more["refined"][self.group_size - 1::self.group_size] = (given > 0).float()
        return group

    def refined(self, group):
        """(Group of one more completion a prompt, [P]: how many of its tokens were given)."""
        gold = gold_group(self, (group.task, group.cell, group.prompts))
        step_ends = np.asarray(TASKS[group.task].layout(group.prompts)[0])
        best = group.verdict.process.reshape(len(group.prompts), -1).max(1)
        right = np.rint(best * len(step_ends)).astype(int)     # steps before the one all fail
        failed = right < len(step_ends)
        given = np.append(step_ends, 0)[right]    # what is right is the solution's own beginning
        self.spend_gold(failed.sum(), np.diff(step_ends, prepend=0)[right[failed]].sum())
        given = torch.from_numpy(given).to(self.device)
        rows = torch.arange(len(given), device=self.device)
        return continued(self, gold, rows, given, 1, self.temperature), given

    def rewards(self, group):
        outcome = super().rewards(group)
        process = torch.from_numpy(group.verdict.process).to(outcome).view_as(outcome)
        weights = (self.weight_process, self.weight_outcome, self.weight_form)
        return rubric_rewards(torch.stack([process, outcome, well_formed(group)], -1),
                              torch.tensor(weights, device=self.device))

    def log_ratio(self, group, logp):
        ratio = super().log_ratio(group, logp)
        if "refined" not in group.more:
            return ratio
        weight = log_shaped(logp, self.gamma).masked_fill(group.mask == 0, 0.0)
        return torch.where(group.more["refined"][:, None] == 1, weight, ratio)

    def numbers(self, groups):
        refined = [group.more["refined"].sum() for group in groups if "refined" in group.more]
        n = sum(len(group.prompts) for group in groups)
        return {**super().numbers(groups), "refined": float(sum(refined)) / n}
