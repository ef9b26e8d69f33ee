"""_told.py: completions of a policy that was told the answer, perhaps after an attempt of its own.
What expo and critique have in common: prompts such as `3141 [+1] = 4252 =` (tasks.Task.told).

A base knows them only if its pretraining had some (pretrain.py --refine); for another they are
noise, and what it would explain or refine is that: the control, and an error unless --unprepared.

Knowing the answer is not using it: to choose a step by where the chain ends is to reason backwards.
A small base (1400 steps, --refine 0.3) has mass 0.78, 0.60, 0.40 at depths 1 to 3, with the answer
told 0.90, 0.60, 0.30, and at depth 4, which it never saw, 2e-4 and 3e-11: less, not more.
"""
import numpy as np
import torch

import grpo
from cli import CommandError
from measure import log_mass
from tasks import TASKS
from variants._rollouts import judged


def check_told(method):
    """CommandError unless told prompts fit into the context, and the base, which is the reference,
    knows what to do with an answer: at depth 1, where the answer is all of the trace, the solution
    must be likelier after it than without."""
    context = method.policy.config.context
    for name, cell in sorted(set(method.tasks)):
        task, rng = TASKS[name], np.random.default_rng(0)
        prompts, solutions = task.sample(cell, 1, rng)
        need = task.told(prompts, solutions, solutions).shape[1] + solutions.shape[1]
        if need > context:
            raise CommandError(f"--init: with an attempt and an answer {name} {cell} takes {need} "
                               f"tokens, and the base's context has {context}")
        prompts, solutions = task.sample(cell._replace(depth=1, words="any"), 32, rng)
        longer = task.told(prompts, solutions)
        plain, told = (np.exp(log_mass(method.reference, x, solutions)).mean()
                       for x in (prompts, longer))
        if told <= plain and not method.unprepared:
            raise CommandError(f"--init: a base that has never been told answers: it writes {name} "
                               f"of depth 1 with mass {plain:.2g}, and with {told:.2g} after its "
                               "answer; take one of pretrain.py --refine 0.3, or --unprepared, "
                               "the control")


@torch.no_grad()
def told_samples(method, group, which, n, attempts=None):
    """A Group with rewards: n completions for each of the prompts `which` [K] of a group, written
    after their answer and, if given, attempts [K, N]; then judged, and scored by the policy, as if
    written after the plain prompt."""
    task, prompts = TASKS[group.task], group.prompts[which.cpu().numpy()]
    attempts = None if attempts is None else attempts.cpu().numpy()
    longer = task.told(prompts, task.solutions(prompts), attempts)
    completions, _ = grpo.generate(
        method.policy, torch.as_tensor(longer, device=method.device), group.mask.shape[1],
        method.temperature, n, method.generator)
    method.rollouts += len(completions)
    plain = torch.as_tensor(prompts, device=method.device).repeat_interleave(n, dim=0)
    tokens = torch.cat([plain, completions], dim=1)
    told = judged(group, prompts, tokens, torch.zeros_like(completions, dtype=torch.float32))
    told.old_logp = method.score(method.policy, told)
    if method.kl != "none":
        told.ref_logp = method.score(method.reference, told)
    told.rewards = method.rewards(told)
    return told


def answer_tokens(group, which):
    """Tokens of gold that telling the answers of the prompts `which` shows."""
    return len(which) * TASKS[group.task].layout(group.prompts)[2]
