"""measure.py: what a model knows, exactly. One forward pass, no sampling.

Every prompt has one accepted solution, so a model's probability of answering right is a product of
next-token probabilities, read off one teacher-forced forward pass:

    Q(x) = prod_t p(solution_t | prompt, solution_<t)       the mass; log Q in float64
    pass@k = 1 - (1 - Q)^k                                  for any k, without a sample

or where M solutions are accepted (route) Q = q_1 + ... + q_M, each q_j such a product, and besides

    sum_j 1 - (1 - q_j)^k                       distinct right answers to expect in k tries
    - sum_j q_j / Q log2 q_j / Q                entropy of a right answer, of log2 M bits

so "the model cannot do this" (Q = 1e-12) and "nobody sampled it yet" (Q = 1e-4) are two different
numbers. Published studies (2504.13837 and what followed) estimate pass@k from at most about a
thousand samples; that unbiased estimate (Chen et al. 2107.03374, eq. 1) is here too, as a check.

>>> exact_pass_at_k(np.log([0.5, 1e-12]), 2)
array([7.5e-01, 2.0e-12])
>>> pass_at_k(n=8, c=1, k=4)
array(0.5)
"""
import math

import numpy as np
import torch

from model import completion_mask, generate, log_softmax, token_logprobs
from tasks import AXES, EOS, SPLITS, TASKS, cell_key, decode
from theory import tilted_steps

EVAL_SEED = 20251015  # fixes the evaluation prompts: the same for every model, seed and mixture
KS = (1, 4, 16, 64, 256, 1024, 2 ** 20)
FELL = 1e-6           # a log mass that drops by less has only been rounded differently
TRIES = 256           # for "solvable" and for the efficiency gap, as in 2504.13837
THRESHOLDS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
MORE_PROMPTS = ((0.05, 4_096), (1e-4, 20_000))  # below this mean mass of a cell, so many
TOKEN_PROMPTS = 512   # of which single tokens are kept


# ------------------------------------------------------------------------------------ exact mass

@torch.no_grad()
def solution_logp(model, prompts, solutions, temperature=1.0, chunk=2048):
    """Exact log-probability [n, S] (float64) of each token of solutions [n, S] after prompts [n, P]
    and the solution's tokens before it, under the T-scaled softmax. Integer arrays or tensors.

    Every column is scored: a PAD is an ordinary token. At temperature 0 (greedy) it is 0.0 or -inf.
    """
    device = next(model.parameters()).device
    prompts = torch.as_tensor(prompts, device=device)
    tokens = torch.cat([prompts, torch.as_tensor(solutions, device=device)], dim=1)
    parts = [token_logprobs(model, rows, prompts.shape[1], temperature).cpu().double()
             for rows in tokens.split(chunk)]
    return torch.cat(parts).numpy()


def string_log_mass(model, prompts, accepted, temperature=1.0, chunk=2048):
    """Exact log-probability [n, M] (float64) of each whole string of accepted [n, M, S]: the sum
    over tokens of `solution_logp`."""
    n, M, S = accepted.shape
    repeated = torch.as_tensor(prompts).repeat_interleave(M, dim=0)
    strings = torch.as_tensor(accepted).reshape(n * M, S)
    return solution_logp(model, repeated, strings, temperature, chunk).sum(1).reshape(n, M)


def log_mass(model, prompts, solutions, temperature=1.0, chunk=2048):
    """Exact log-probability [n] (float64) that the model writes the solution of [n, S], or any of
    the solutions of [n, M, S] (`Task.accepted`): the log of the sum over them."""
    accepted = solutions if solutions.ndim == 3 else solutions[:, None]
    return total(string_log_mass(model, prompts, accepted, temperature, chunk))


def total(string_log_masses):
    """Log masses [n] of a right answer, from those of each of its strings [n, M].

    >>> np.exp(total(np.log([[0.5, 0.25], [1e-9, 1e-9]])))
    array([7.5e-01, 2.0e-09])
    """
    return np.logaddexp.reduce(string_log_masses, axis=1)


def expected_distinct(string_log_masses, k):
    """How many different right answers [n] are to be expected among k samples, from exact log
    masses [n, M] of each: sum_j 1 - (1 - q_j)^k.

    >>> expected_distinct(np.log([[0.5, 0.25], [0.75, 1e-9]]), 2)
    array([1.1875, 0.9375])
    """
    return exact_pass_at_k(string_log_masses, k).sum(1)


def right_entropy(string_log_masses):
    """Entropy [n] in bits of which right answer it is, given that it is right, from exact log
    masses [n, M] of each: 0 for always the same, log2 M for all alike. 0 where none is possible.

    >>> right_entropy(np.log([[0.25, 0.25], [0.1, 1e-300], [0.3, 0.1]])).round(3)
    array([1.   , 0.   , 0.811])
    """
    log_q = np.asarray(string_log_masses, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        log_share = log_q - total(log_q)[:, None]
    share = np.exp(np.nan_to_num(log_share, nan=-np.inf, neginf=-np.inf))
    bits = -share * np.log2(share, where=share > 0, out=np.zeros_like(share))
    return bits.sum(1) + 0.0  # no -0.0


def step_log_mass(model, task, prompts, solutions, temperature=1.0):
    """Exact log-probability [n, depth] (float64) of each whole step of solutions [n, S], given the
    prompt and all steps before it."""
    logp = solution_logp(model, prompts, solutions, temperature)
    ends = [*TASKS[task].layout(prompts)[0][:-1], solutions.shape[1]]
    return np.diff(logp.cumsum(1)[:, np.array(ends) - 1], axis=1, prepend=0)


def step_chains(task, cell, problems, noise_kind="random"):
    """{prefix: chains [n, S]} whose steps are measured: the solutions are "right"; "corrupted" is
    an error in the first state, followed through (from depth 2 on), and marked if the base was
    shown marked ones."""
    chains = {"right": problems.solutions}
    if cell.depth > 1:
        rng = np.random.default_rng(EVAL_SEED)
        how = {"noise_kind": "marked"} if noise_kind == "marked" else {}
        chains["corrupted"] = TASKS[task].wrong_chains(problems.prompts, rng, **how)
    return chains


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
    runs of their own. From 10,000 prompts on, when drawing takes seconds, it is its normal limit.
    """
    n = len(values)
    if n >= 10_000:
        mean, half = np.mean(values, axis=0), 1.96 * np.std(values, axis=0) / n ** 0.5
        return mean - half, mean + half
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


def string_masses(model, task, axis, n, temperature=1.0, splits=SPLITS):
    """{split: {cell: log masses [n, M] of each accepted string}} over the cells of an axis; n is a
    number, or {cell: n}."""
    def masses(cell):
        prompts = eval_problems(task, cell, n if isinstance(n, int) else n[cell]).prompts
        return string_log_mass(model, prompts, TASKS[task].accepted(prompts), temperature)
    return {split: {cell: masses(cell) for cell in AXES[task][axis][split]} for split in splits}


def totals(strings):
    """{split: {cell: log masses [n]}} of {split: {cell: log masses [n, M]}}."""
    return {split: {cell: total(found) for cell, found in cells.items()}
            for split, cells in strings.items()}


def split_masses(model, task, axis, n, temperature=1.0, splits=SPLITS):
    """{split: {cell: log masses [n]}} over the cells of an axis; n is a number, or {cell: n}."""
    return totals(string_masses(model, task, axis, n, temperature, splits))


def redirected_masses(model, task, axis, strings, temperature=1.0):
    """{split: {cell: log masses [n]}} on the same prompts, from the model's own log masses
    strings {split: {cell: [n, M]}}, but that the last edge of the path that the model likes best
    leads elsewhere: M - 1 solutions are left (`Route.redirect`)."""
    def masses(cell, found):
        prompts = eval_problems(task, cell, len(found)).prompts
        prompts = TASKS[task].redirect(prompts, found.argmax(1))
        return log_mass(model, prompts, TASKS[task].accepted(prompts), temperature)
    return {split: {cell: masses(cell, found) for cell, found in cells.items()}
            for split, cells in strings.items()}


def prompts_by_mass(model, task, axis, n, splits):
    """{cell: number of evaluation prompts}: n, but in the cells of these splits more where the
    model's mean mass on n prompts is small, because few prompts carry it (MORE_PROMPTS)."""
    counts = {cell: n for cells in AXES[task][axis].values() for cell in cells}
    for cell in (cell for split in splits for cell in AXES[task][axis][split]):
        prompts = eval_problems(task, cell, n).prompts
        mass = np.exp(log_mass(model, prompts, TASKS[task].accepted(prompts))).mean()
        counts[cell] = max([n, *(more for border, more in MORE_PROMPTS if mass < border)])
    return counts


def prompt_records(task, axis, strings, redirected):
    """One record for the log mass of every prompt, from log masses of each accepted string,
    strings {model: {split: {cell: [n, M]}}}; where M can be above 1 these too, as log_masses, in
    the order of `Task.accepted`; and what is redirected {model: {split: {cell: [n]}}}, if it is."""
    records = []
    for name, by_split in strings.items():
        for split, cells in by_split.items():
            for cell, found in cells.items():
                prompts = eval_problems(task, cell, len(found)).prompts
                for i, (prompt, each, lm) in enumerate(zip(prompts, found, total(found))):
                    record = {"model": name, "task": task, "axis": axis, "split": split,
                              "cell": str(cell), "prompt": decode(prompt), "log_mass": finite(lm)}
                    if TASKS[task].several:
                        record["log_masses"] = list(map(finite, each))
                    if redirected:
                        record["redirected"] = finite(redirected[name][split][cell][i])
                    records.append(record)
    return records


def finite(log_mass):
    """A log mass for JSON, which has no infinity: None for log 0."""
    return float(log_mass) if log_mass > -np.inf else None


def token_records(model, task, masses, splits):
    """One record for each cell of these splits: log_p, the log-probabilities [n, S] (lists) of the
    solution's tokens, for the first TOKEN_PROMPTS of the prompts of masses {split: {cell: [n]}}."""
    records = []
    for split in splits:
        for cell, log_masses in masses[split].items():
            problems = eval_problems(task, cell, len(log_masses))
            log_p = solution_logp(model, *(x[:TOKEN_PROMPTS] for x in problems))
            records.append({"task": task, "split": split, "cell": str(cell),
                            "log_p": log_p.tolist()})
    return records


def step_records(models, trained_with, task, axis, n, temperature):
    """One record for each id cell, model of {name: model} beside the first, the base, prefix and
    step: the mean probability of the next whole step, on n prompts a cell, after "right" ones and
    after "corrupted" ones (an error in the first). trained_with: {name: its run's flags}. law: what
    the tilted policy would do, at which only --kl k1_reward aims."""
    base, *others = models
    records = []
    for cell in AXES[task][axis]["id"]:
        problems = eval_problems(task, cell, n)
        noise_kind = trained_with[base].get("noise_kind", "random")
        for prefix, chain in step_chains(task, cell, problems, noise_kind).items():
            steps = {name: step_log_mass(model, task, problems.prompts, chain, temperature)
                     for name, model in models.items()}
            for name in others:
                kl, beta = (trained_with[name].get(key) for key in ("kl", "beta"))
                columns = {"base": steps[base], "tuned": steps[name]}
                if kl == "k1_reward" and isinstance(beta, (int, float)) and beta:
                    tilted = tilted_steps(steps[base], beta)
                    columns["law"] = tilted if prefix == "right" else steps[base]
                for t in range(prefix == "corrupted", cell.depth):
                    means = {key: float(np.exp(x[:, t]).mean()) for key, x in columns.items()}
                    records.append({"task": task, "cell": str(cell), "depth": cell.depth,
                                    "arm": name, "kl": kl or "none", "beta": beta or 0,
                                    "step": t + 1, "prefix": prefix, "law": None, **means})
    return records


def mean_masses(model, tasks, axis, n, temperature=1.0, splits=SPLITS):
    """{split: mean exact mass}, cells weighing alike, over task names: the numbers of a log."""
    means = {split: [] for split in splits}
    for task in tasks:
        for split, cells in split_masses(model, task, axis, n, temperature, splits).items():
            means[split] += [np.exp(log_masses).mean() for log_masses in cells.values()]
    return {split: float(np.mean(values)) for split, values in means.items()}


def sampled(model, problems, task, samples, temperature, generator):
    """Draw `samples` completions of each prompt: (number right [n], share of samples that ended,
    surprise in nats per token written, which estimates the entropy)."""
    prompts = torch.as_tensor(problems.prompts, device=next(model.parameters()).device)
    right, ended, surprise, tokens = [], 0, 0.0, 0
    for rows in prompts.split(max(1, 4096 // samples)):
        room = problems.solutions.shape[1]
        completions, logp = generate(model, rows, room, temperature, samples, generator)
        repeated = rows.repeat_interleave(samples, dim=0).cpu()
        trace = TASKS[task].verify(repeated, completions.cpu()).trace
        right.append(trace.reshape(-1, samples).sum(1))
        ended += int((completions == EOS).any(1).sum())
        surprise -= float(logp.sum())  # after EOS it is 0
        tokens += int(completion_mask(completions).sum())
    return np.concatenate(right), ended / (len(prompts) * samples), surprise / tokens


# ---------------------------------------------------------------------------- reach or efficiency?
# The questions of 2504.13837. Only what speaks of a model's own samples is sampled.

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


def efficiency_gap(base, tuned, k=TRIES):
    """[n]: the base's exact pass@k minus the tuned model's exact pass@1, from log masses [n]
    (2504.13837's Delta_SE, per prompt): what a perfect sharpener would still have to win.

    >>> efficiency_gap(np.log([0.5]), np.log([0.25]), k=2)
    array([0.5])
    """
    return exact_pass_at_k(base, k) - exact_pass_at_k(tuned, 1)


def reach(base, tuned):
    """What log masses base and tuned [n] say of it: coverage where 256 tries are even odds and at
    each of the THRESHOLDS, and the mean efficiency gap with its bootstrap interval."""
    thresholds = {f"{TRIES} tries": solvable_mass(TRIES), **{f"{t:g}": t for t in THRESHOLDS}}
    gap = efficiency_gap(base, tuned)
    low, high = map(float, bootstrap(gap))
    return {"coverage": {name: coverage(base, tuned, t) for name, t in thresholds.items()},
            "gap": {"base": float(exact_pass_at_k(base, TRIES).mean()),
                    "tuned": float(exact_pass_at_k(tuned, 1).mean()),
                    "gap": float(gap.mean()), "low": low, "high": high}}


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
    return torch.cat(logp), torch.cat(entropy), completion_mask(tokens[:, start:]).cpu().double()


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


def perplexities(base, tuned, cells, temperature, seed):
    """{who on whose completions: {quantile: perplexity}}, over cells (list of Problems): is what a
    model writes, or the solution (gold), something that the base might have written?"""
    ours, theirs = ([draw(model, problems, temperature, seed) for problems in cells]
                    for model in (base, tuned))
    gold = [torch.as_tensor(np.hstack(problems), device=ours[0].device) for problems in cells]
    pairs = {"base on its own": (base, ours), "base on tuned's": (base, theirs),
             "tuned on its own": (tuned, theirs),
             "base on gold": (base, gold), "tuned on gold": (tuned, gold)}
    starts = [problems.prompts.shape[1] for problems in cells]
    found = {}
    for key, (model, texts) in pairs.items():
        values = [perplexity(model, *text, temperature) for text in zip(texts, starts)]
        quantiles = np.quantile(np.concatenate(values), [0.1, 0.5, 0.9]).tolist()
        found[key] = dict(zip(("10%", "median", "90%"), quantiles))
    return found


def sampling_entropy(model, cells, temperature, seed=0):
    """Nats per token that the model writes at that temperature: the mean over cells (list of
    Problems). Contexts are sampled, one completion per prompt; the entropy in each is exact.

    Every temperature gets the same random numbers, so that the difference of two is not their
    noise: with 256 prompts a cell, another seed moves the matched temperature by 0.3 % (standard
    deviation, trained base and GRPO).
    """
    values = []
    for problems in cells:
        tokens = draw(model, problems, temperature, seed)
        _, entropy, mask = score(model, tokens, problems.prompts.shape[1], temperature)
        values.append(((entropy * mask).sum() / mask.sum()).item())
    return float(np.mean(values))


def match_temperature(entropy, target, limit=256, tolerance=0.005):
    """The temperature T at which entropy(T), a function that rises, is target, to within the
    tolerance (relative): by halving the interval of log T. None outside 1 / limit to limit.

    >>> round(match_temperature(lambda T: T ** 2, 3), 2)
    1.73
    """
    low, high = 1 / limit, limit
    if not entropy(low) <= target <= entropy(high):
        return None
    while high / low > 1 + tolerance:
        middle = (low * high) ** 0.5
        found = entropy(middle)
        if found == target:
            return middle
        if found < target:
            low = middle
        else:
            high = middle
    return (low * high) ** 0.5


def matched_passes(base, tuned, task, cells, T, seed):
    """Four records of the exact pass at each k of KS, over cells (list of Problems): of base and of
    tuned, (name, model) each, at temperature T, and at the one where it is as random as the other.
    A sharper model reaches less at a large k for that reason alone; this tells the two apart."""
    records = []
    for (name, model), (other_name, other) in ((base, tuned), (tuned, base)):
        matched = match_temperature(lambda t: sampling_entropy(model, cells, t, seed),
                                    sampling_entropy(other, cells, T, seed))
        for label, t in ((name, T), (f"{name}, as random as {other_name}", matched)):
            record = {"model": label, "temperature": t}
            if t is not None:
                masses = np.concatenate([log_mass(model, prompts, TASKS[task].accepted(prompts), t)
                                         for prompts, _ in cells])
                record["entropy"] = sampling_entropy(model, cells, t, seed)
                record["pass"] = [float(exact_pass_at_k(masses, k).mean()) for k in KS]
            records.append(record)
    return records
