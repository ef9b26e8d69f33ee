"""measure.py: what a model knows, exactly. One forward pass, no sampling.

Every prompt has one accepted solution, so a model's probability of answering right is a product of
next-token probabilities, read off one teacher-forced forward pass:

    Q(x) = prod_t p(solution_t | prompt, solution_<t)       log Q in float64: the log mass
    pass@k = 1 - (1 - Q)^k                                  for any k, without a sample

so "the model cannot do this" (Q = 1e-12) and "nobody sampled it yet" (Q = 1e-4) are two different
numbers. Published studies (2504.13837 and what followed) estimate pass@k from at most about a
thousand samples; that unbiased estimate (Chen et al. 2107.03374, eq. 1) is here too, as a check.

The second half asks, after 2504.13837, whether post-training added reach or only efficiency: which
prompts are within reach of one model and not of the other, what a perfect sharpener would still
have to win, and what the base would reach if it were merely sampled as cold as the tuned model is.
Only what speaks of a model's own samples is sampled.

>>> exact_pass_at_k(np.log([0.5, 1e-12]), 2)
array([7.5e-01, 2.0e-12])
>>> pass_at_k(n=8, c=1, k=4)
array(0.5)
"""
import math
from functools import lru_cache

import numpy as np
import torch

from model import generate, log_softmax, token_logprobs
from tasks import AXES, EOS, SPLITS, TASKS, cell_key

EVAL_SEED = 20251015  # fixes the evaluation prompts: the same for every model, seed and mixture
KS = (1, 4, 16, 64, 256, 1024, 2 ** 20)
FELL = 1e-6           # a log mass that drops by less has only been rounded differently


# ------------------------------------------------------------------------------------ exact mass

@torch.no_grad()
def solution_logp(model, prompts, solutions, temperature=1.0, chunk=2048):
    """Exact log-probability [n, S] (float64) of each token of solutions [n, S], given all that
    precedes it. At temperature 0, greedy decoding: 0.0 or -inf."""
    device = next(model.parameters()).device
    prompts = torch.as_tensor(prompts, device=device)
    tokens = torch.cat([prompts, torch.as_tensor(solutions, device=device)], dim=1)
    parts = [token_logprobs(model, rows, prompts.shape[1], temperature).cpu().double()
             for rows in tokens.split(chunk)]
    return torch.cat(parts).numpy()


def log_mass(model, prompts, solutions, temperature=1.0, chunk=2048):
    """Exact log-probability [n] (float64) that the model writes the solution: the sum over tokens.

    prompts [n, P], solutions [n, S]: integer arrays or tensors. Every column of the solution is
    scored, so a PAD there is an ordinary token. At temperature T it is the mass under the T-scaled
    softmax; at 0, greedy decoding: 0.0 or -inf.
    """
    return solution_logp(model, prompts, solutions, temperature, chunk).sum(1)


def step_log_mass(model, task, prompts, solutions, temperature=1.0):
    """Exact log-probability [n, depth] (float64) of each whole step of solutions [n, S], given the
    prompt and all steps before it."""
    logp = solution_logp(model, prompts, solutions, temperature)
    ends = [*TASKS[task].layout(prompts)[0][:-1], solutions.shape[1]]
    return np.diff(logp.cumsum(1)[:, np.array(ends) - 1], axis=1, prepend=0)


def exact_pass_at_k(log_mass, k):
    """Probability [n] that at least one of k independent samples is right, from exact log masses
    [n]: 1 - (1 - Q)^k. In log space, so that Q = 1e-300 and Q = 1 - 1e-15 both keep their digits.
    """
    log_mass = np.minimum(np.asarray(log_mass, dtype=np.float64), 0.0)
    with np.errstate(divide="ignore"):
        # log(1 - Q), by whichever of the two forms does not cancel
        near_one, near_zero = np.log(-np.expm1(log_mass)), np.log1p(-np.exp(log_mass))
        log_miss = np.where(log_mass > -math.log(2), near_one, near_zero)
    return -np.expm1(k * log_miss)


def pass_at_k(n, c, k):
    """Unbiased estimate of pass@k from n samples of which c are right: 1 - C(n - c, k) / C(n, k).

    Broadcasts; exact integer arithmetic. Raises ValueError where k > n: so many cannot be drawn.
    """
    def one(n, c, k):
        if k > n:
            raise ValueError(f"pass@{k} cannot be estimated from {n} samples")
        return 1 - math.comb(n - c, k) / math.comb(n, k)
    counts = (np.asarray(x).astype(object) for x in (n, c, k))
    return np.vectorize(one, otypes=[np.float64])(*counts)


def bootstrap(values, draws=1000, seed=0):
    """95 % percentile interval (low [...], high [...]) of the mean over prompts of values [n, ...].

    It speaks of one model and other prompts; other seeds of the training run vary more, and need
    runs of their own.
    """
    n = len(values)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws) / n
    return tuple(np.quantile(np.tensordot(weights, values, axes=1), [0.025, 0.975], axis=0))


# -------------------------------------------------------------------------------- what is measured

def eval_problems(task, cell, n):
    """The fixed evaluation Problems of a cell: reserved by hash, so that no training run has drawn
    one. A cell too small to reserve from (`TASKS[task].enumerated(cell)`) gives at most as many
    problems as it has, and training may have seen them."""
    if TASKS[task].enumerated(cell):
        n = min(n, TASKS[task].size(cell))
    rng = np.random.default_rng([EVAL_SEED, *cell_key(task, cell)])
    return TASKS[task].sample(cell, n, rng, split="eval")


def split_masses(model, task, axis, n, temperature=1.0, splits=SPLITS):
    """{split: {cell: log masses [n]}} over the cells of an axis."""
    return {split: {cell: log_mass(model, *eval_problems(task, cell, n), temperature)
                    for cell in AXES[task][axis][split]} for split in splits}


def mean_masses(model, tasks, axis, n, temperature=1.0, splits=SPLITS):
    """{split: mean exact mass}, cells weighing alike, over task names: the numbers of a log."""
    masses = [split_masses(model, task, axis, n, temperature, splits) for task in tasks]
    return {split: float(np.mean([np.exp(m).mean() for by_split in masses
                                  for m in by_split[split].values()])) for split in splits}


def sampled(model, problems, task, samples, temperature, generator):
    """Draw `samples` completions of each prompt: (number right [n], share of samples that ended,
    entropy in nats per token)."""
    prompts = torch.as_tensor(problems.prompts, device=next(model.parameters()).device)
    right, ended, surprise, tokens = [], 0, 0.0, 0
    for rows in prompts.split(max(1, 4096 // samples)):
        room = problems.solutions.shape[1]
        completions, logp = generate(model, rows, room, temperature, samples, generator)
        repeated = rows.repeat_interleave(samples, dim=0).cpu().numpy()
        completions = completions.cpu().numpy()
        verdict = TASKS[task].verify(repeated, completions)
        right.append(verdict.trace.reshape(-1, samples).sum(1))
        is_eos = completions == EOS
        ended += is_eos.any(1).sum()
        tokens += int((is_eos.cumsum(1) - is_eos == 0).sum())
        surprise -= float(logp.sum())
    return np.concatenate(right), float(ended / (len(prompts) * samples)), surprise / tokens


# ---------------------------------------------------------------------------- reach or efficiency?

def solvable_mass(k, chance=0.5):
    """The mass Q of right answers at which k tries succeed with that chance: 1 - (1 - Q)^k.

    >>> print(f"{solvable_mass(256):.6f}")
    0.002704
    """
    return -np.expm1(np.log1p(-chance) / k)


def coverage(base, tuned, threshold):
    """Shares of prompts, from log masses base and tuned [n], that reach the threshold (a mass) by
    one, both or neither.

    >>> coverage(np.log([0.9, 0.9, 1e-9, 1e-9]), np.log([0.9, 1e-9, 0.9, 1e-9]), 0.01)
    {'base only': 0.25, 'tuned only': 0.25, 'both': 0.25, 'neither': 0.25}
    """
    base, tuned = (np.asarray(x) >= np.log(threshold) for x in (base, tuned))
    parts = {"base only": base & ~tuned, "tuned only": tuned & ~base,
             "both": base & tuned, "neither": ~base & ~tuned}
    return {name: float(part.mean()) for name, part in parts.items()}


def efficiency_gap(base, tuned, k=256):
    """[n]: the base's exact pass@k minus the tuned model's exact pass@1, from log masses [n]
    (2504.13837's Delta_SE, per prompt): what a perfect sharpener would still have to win.

    >>> efficiency_gap(np.log([0.5]), np.log([0.25]), k=2)
    array([0.5])
    """
    return exact_pass_at_k(base, k) - exact_pass_at_k(tuned, 1)


@torch.no_grad()
def score(model, tokens, start, temperature=1.0, chunk=2048):
    """What the model says of completions tokens[:, start:] of prompts tokens[:, :start], int64.

    Returns logp, entropy, mask, each [n, N] float64 on the CPU: the log-probability of each token,
    the entropy in nats of the distribution that it stands for, and 1 up to and including the first
    EOS. Temperature above 0.
    """
    logp, entropy = [], []
    for rows in tokens.split(chunk):
        logits = model.unembed(model.hidden(rows[:, :-1], skip=start - 1))              # [n, N, V]
        every = log_softmax(logits, temperature).cpu().double()
        logp.append(every.gather(-1, rows[:, start:, None].cpu()).squeeze(-1))
        entropy.append(-(every.exp() * every).sum(-1))
    is_eos = (tokens[:, start:] == EOS).cpu().int()
    mask = (is_eos.cumsum(1) - is_eos == 0).double()
    return torch.cat(logp), torch.cat(entropy), mask


def perplexity(model, tokens, start, temperature=1.0):
    """[n] float64: exp of the mean surprise per token, up to the first EOS and with it."""
    logp, _, mask = score(model, tokens, start, temperature)
    surprise = -(logp * mask).sum(1) / mask.sum(1)
    return surprise.clamp(max=700).exp().numpy()  # JSON has no infinity


def draw(model, problems, temperature, seed):
    """[n, P + N] int64: each prompt with one completion, sampled with that seed."""
    device = next(model.parameters()).device
    generator, N = torch.Generator(device).manual_seed(seed), problems.solutions.shape[1]
    rows = []
    for prompts in torch.as_tensor(problems.prompts, device=device).split(4096):
        completions, _ = generate(model, prompts, N, temperature, 1, generator)
        rows.append(torch.cat([prompts, completions], dim=1))
    return torch.cat(rows)


def sampling_entropy(model, cells, temperature, seed=0):
    """Nats per token that the model writes at that temperature: the mean over cells (a list of
    Problems).

    The contexts are sampled, one completion per prompt; the entropy in each is exact, which varies
    less than the surprise of the token sampled there. Every temperature gets the same random
    numbers, so that the difference of two is not their noise: with 256 prompts a cell, another seed
    moves the matched temperature by 0.3 % (standard deviation, trained base and GRPO).
    """
    values = []
    for problems in cells:
        tokens = draw(model, problems, temperature, seed)
        _, entropy, mask = score(model, tokens, problems.prompts.shape[1], temperature)
        values.append(((entropy * mask).sum() / mask.sum()).item())
    return float(np.mean(values))


def match_temperature(entropy, target, limit=64, tolerance=0.005):
    """The temperature T at which entropy(T), a function that rises, is target; None if it is not
    between 1 / limit and limit.

    From T = 1 by factors of two until the target lies between two temperatures, then by halving the
    interval of log T.

    >>> round(match_temperature(lambda T: T ** 2, 3), 2)
    1.73
    """
    entropy = lru_cache(None)(entropy)
    low = high = 1.0
    while entropy(high) < target:
        low, high = high, 2 * high
        if high > limit:
            return None
    while entropy(low) > target:
        low, high = low / 2, low
        if low < 1 / limit:
            return None
    while high / low > 1 + tolerance and entropy(low) < target < entropy(high):
        middle = (low * high) ** 0.5
        if entropy(middle) < target:
            low = middle
        else:
            high = middle
    return min(low, high, key=lambda T: abs(entropy(T) - target))
