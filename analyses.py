"""analyses.py: did post-training add reach, or only efficiency? What `evaluate.py --analyses` and `--per-step` print.

    python evaluate.py --ckpt runs/base.pt runs/grpo.pt --analyses             the first checkpoint is the base
    python evaluate.py --ckpt runs/base.pt runs/grpo.step*.pt --analyses       by training step (finetune.py --keep-every)
    python evaluate.py --ckpt runs/base.pt g4.pt g16.pt g64.pt --analyses      by group size, by KL, by anything: a row each

The questions are those of "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?"
(2504.13837), which answers them from up to about a thousand samples a problem. Here masses are exact, and only what speaks
of a model's own samples (their perplexity and entropy) is measured on samples.

    coverage              which prompts does only the base solve, only the tuned model, both, neither? "Solves" is a mass of
                          right answers above a threshold; the first is the mass at which 256 tries are even odds.
    efficiency gap        the base's pass@256 minus the tuned model's pass@1: what a perfect sharpener would still have to win
    perplexity            is what the tuned model writes, or the solution, something that the base might have written?
    matched temperature   a tuned model is sharper, and a sharper model reaches less at a large k for that reason alone. So:
                          heat the tuned model to the base's entropy, or cool the base to the tuned model's, and compare there.

With --per-step, where in the chain the gain is: the probability of each whole step after right steps, and of going on consistently
after an error, beside what the tilted policy would do.

>>> coverage(np.log([0.9, 0.9, 1e-9, 1e-9]), np.log([0.9, 1e-9, 0.9, 1e-9]), 0.01)
{'base only': 0.25, 'tuned only': 0.25, 'both': 0.25, 'neither': 0.25}
>>> round(match_temperature(lambda T: T ** 2, 3), 2)
1.73
"""
import math
from functools import lru_cache

import numpy as np
import torch

from evaluate import EVAL_SEED, KS, bootstrap, eval_problems, exact_pass_at_k, log_mass, probability, show_k, table
from grpo import completion_mask
from model import generate, log_softmax, token_logprobs
from tasks import AXES, SPLITS, TASKS

K = 256                                   # tries, for "solvable" and for the efficiency gap (there as in 2504.13837)
THRESHOLDS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)


# ------------------------------------------------------------------------------------------------------------ the maths

def solvable_mass(k, chance=0.5):
    """The mass Q of right answers at which k tries succeed with that chance: 1 - (1 - Q)^k = chance.

    >>> print(f"{solvable_mass(256):.6f}")
    0.002704
    """
    return -np.expm1(np.log1p(-chance) / k)


def coverage(base, tuned, threshold):
    """Shares of prompts, from log masses base and tuned [n], that reach the threshold (a mass) by one, both or neither."""
    base, tuned = (np.asarray(x) >= np.log(threshold) for x in (base, tuned))
    parts = {"base only": base & ~tuned, "tuned only": tuned & ~base, "both": base & tuned, "neither": ~base & ~tuned}
    return {name: float(part.mean()) for name, part in parts.items()}


def efficiency_gap(base, tuned, k=K):
    """[n]: the base's exact pass@k minus the tuned model's exact pass@1, from log masses [n] (2504.13837's Delta_SE, per prompt).

    >>> efficiency_gap(np.log([0.5]), np.log([0.25]), k=2)
    array([0.5])
    """
    return exact_pass_at_k(base, k) - exact_pass_at_k(tuned, 1)


@torch.no_grad()
def score(model, tokens, start, temperature=1.0, chunk=2048):
    """What the model says of the completions tokens[:, start:] of prompts tokens[:, :start]; tokens [n, T] int64.

    Returns logp, entropy, mask, each [n, T - start] float64 on the CPU: the log-probability of each token, the entropy of the
    distribution that it stands for (nats), and 1 up to and including the first EOS. Temperature above 0.
    """
    logp, entropy = [], []
    for rows in tokens.split(chunk):
        all_logp = log_softmax(model.unembed(model.hidden(rows[:, :-1], skip=start - 1)), temperature).cpu().double()  # [rows, N, V]
        logp.append(all_logp.gather(-1, rows[:, start:, None].cpu()).squeeze(-1))
        entropy.append(-(all_logp.exp() * all_logp).sum(-1))
    return torch.cat(logp), torch.cat(entropy), completion_mask(tokens[:, start:]).cpu().double()


def masked_average(x, mask, dim=None):
    """Mean of x [n, N] over the tokens where mask is 1: of each row with dim=1, of all of them alike with None."""
    return (x * mask).sum(dim) / mask.sum(dim)


def perplexity(model, tokens, start, temperature=1.0):
    """[n] float64: exp of the mean surprise per token, to the first EOS and with it, of completions tokens[:, start:]."""
    logp, _, mask = score(model, tokens, start, temperature)
    return masked_average(-logp, mask, dim=1).clamp(max=700).exp().numpy()  # JSON has no infinity


def draw(model, problems, temperature, seed):
    """[n, P + N] int64: each prompt with one completion, sampled with the random numbers of that seed."""
    device = next(model.parameters()).device
    generator, N = torch.Generator(device).manual_seed(seed), problems.solutions.shape[1]
    rows = torch.as_tensor(problems.prompts, device=device).split(4096)
    return torch.cat([torch.cat([prompts, generate(model, prompts, N, temperature, 1, generator)[0]], dim=1) for prompts in rows])


def sampling_entropy(model, cells, temperature, seed=0):
    """Nats per token that the model writes at that temperature, the mean over cells (a list of Problems).

    The contexts are sampled, one completion per prompt; the entropy in each is exact, which varies less than the surprise of
    the token sampled there. Every temperature gets the same random numbers, so that the difference of two is not their noise:
    with 256 prompts a cell, another seed moves the matched temperature by 0.3 % (standard deviation, trained base and GRPO).
    """
    values = []
    for problems in cells:
        tokens = draw(model, problems, temperature, seed)
        _, entropy, mask = score(model, tokens, problems.prompts.shape[1], temperature)
        values.append(masked_average(entropy, mask).item())
    return float(np.mean(values))


def match_temperature(entropy, target, limit=64, tolerance=0.005):
    """The temperature T at which the function entropy(T), which rises, is target; None if not between 1 / limit and limit.

    From T = 1 by factors of two until the target is between two temperatures, then by halving the interval of log T.
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
        low, high = (middle, high) if entropy(middle) < target else (low, middle)
    return min(low, high, key=lambda T: abs(entropy(T) - target))


@torch.no_grad()
def step_log_mass(model, task, prompts, solutions, temperature=1.0):
    """Exact log-probability [n, d] (float64) of each whole step of solutions [n, S], given the prompt and all steps before."""
    device = next(model.parameters()).device
    tokens = torch.as_tensor(np.hstack([prompts, solutions]), device=device)
    logp = token_logprobs(model, tokens, prompts.shape[1], temperature).cpu().double().numpy()
    ends = [*TASKS[task].layout(prompts)[0][:-1], solutions.shape[1]]
    return np.diff(logp.cumsum(1)[:, np.array(ends) - 1], axis=1, prepend=0)


def tilted_steps(steps, beta):
    """The tilted policy's log-probability [n, d] of each right step, from the base's (the per-token form of
    pi* ~ pi0 exp(r / beta); it multiplies up to logit Q* = logit Q0 + 1 / beta).

    On a right prefix pi*(step t) = pi0(step t) (1 + c V(after t)) / (1 + c V(before t)), with c = e^(1 / beta) - 1 and V the base's
    probability of still ending right: the product of the steps that are left. On a wrong prefix V is 0, and pi* = pi0.

    >>> steps = np.log([[0.8, 0.5]])
    >>> q, tilted = np.exp(steps.sum()), np.exp(tilted_steps(steps, beta=1.0).sum())
    >>> bool(np.isclose(np.log(tilted / (1 - tilted)), np.log(q / (1 - q)) + 1))
    True
    """
    before = steps[:, ::-1].cumsum(1)[:, ::-1]                       # log V before each step
    after = np.hstack([before[:, 1:], np.zeros((len(steps), 1))])
    c = math.expm1(1 / beta)
    return steps + np.log1p(c * np.exp(after)) - np.log1p(c * np.exp(before))


# --------------------------------------------------------------------------------------------------- measured and printed

def percent(share):
    """
    >>> [percent(s) for s in (0, 0.001, 0.034, 0.97, 0.999, 1)]
    ['0', '<1', '3', '97', '>99', '100']
    """
    return "<1" if 0 < share < 0.005 else ">99" if 0.995 < share < 1 else f"{100 * share:.0f}"


def quantiles(values):
    return dict(zip(("10%", "median", "90%"), np.quantile(values, [0.1, 0.5, 0.9]).tolist()))


def temperature_rows(base, tuned, cells, T, seed):
    """Exact pass@k of base and tuned, (name, model) each, at temperature T and where it has the entropy of the other at T: 4 records."""
    rows = []
    for (name, model), (other_name, other) in ((base, tuned), (tuned, base)):
        matched = match_temperature(lambda t: sampling_entropy(model, cells, t, seed), sampling_entropy(other, cells, T, seed))
        for label, t in ((name, T), (f"{name}, as random as {other_name}", matched)):
            row = {"model": label, "temperature": t}
            if t is not None:
                masses = np.concatenate([log_mass(model, *problems, t) for problems in cells])
                row["entropy"] = sampling_entropy(model, cells, t, seed)
                row["pass"] = {show_k(k): float(exact_pass_at_k(masses, k).mean()) for k in KS}
            rows.append(row)
    return rows


def analyse(models, task, axis, prompts, temperature, measured, seed=0):
    """Records, one per split and tuned checkpoint, of all four analyses.

    models is [(name, model)], the base first; measured is {name: {split: {cell: log masses}}} at that temperature.
    """
    records = []
    (base_name, base), *tuned = models
    for split in SPLITS:
        cells = [eval_problems(task, cell, prompts) for cell in AXES[task][axis][split]]
        masses = {name: np.concatenate(list(measured[name][split].values())) for name, _ in models}
        gold = [torch.as_tensor(np.hstack(problems), device=next(base.parameters()).device) for problems in cells]
        starts = [problems.prompts.shape[1] for problems in cells]
        own = {name: [draw(model, problems, temperature, seed) for problems in cells] for name, model in models}

        def spread(model, tokens):
            return quantiles(np.concatenate([perplexity(model, t, start, temperature) for t, start in zip(tokens, starts)]))

        for name, model in tuned:
            thresholds = {f"{K} tries": solvable_mass(K), **{f"{t:g}": t for t in THRESHOLDS}}
            gap = efficiency_gap(masses[base_name], masses[name])
            low, high = bootstrap(gap)
            records.append({
                "task": task, "axis": axis, "split": split, "model": name, "prompts": len(gap),
                "coverage": {label: coverage(masses[base_name], masses[name], t) for label, t in thresholds.items()},
                "gap": {"base": float(exact_pass_at_k(masses[base_name], K).mean()), "tuned": float(exact_pass_at_k(masses[name], 1).mean()),
                        "gap": float(gap.mean()), "low": float(low), "high": float(high)},
                "perplexity": {"base on its own": spread(base, own[base_name]), "base on tuned's": spread(base, own[name]),
                               "tuned on its own": spread(model, own[name]),
                               "base on gold": spread(base, gold), "tuned on gold": spread(model, gold)},
                "temperatures": temperature_rows((base_name, base), (name, model), cells, temperature, seed)})
    return records


def show(records):
    """Print the records of one task family as three tables."""
    thresholds, perplexities = list(records[0]["coverage"]), list(records[0]["perplexity"])
    print("\ncoverage: % of prompts solved by base only | tuned only | both | neither, where solved is a mass of at least\n"
          f"{solvable_mass(K):.4f} ({K} tries are even odds), 0.1, 0.01, ...")
    print(table([[r["split"], r["model"], r["prompts"], *("|".join(map(percent, r["coverage"][t].values())) for t in thresholds)] for r in records],
                ["split", "tuned", "prompts", *thresholds]))

    print(f"\nefficiency gap: base pass@{K} - tuned pass@1, bootstrap 95 % interval over prompts. Perplexity per token of samples and of\n"
          "the solution (gold): median / 90th percentile over completions")
    print(table([[r["split"], r["model"], "{gap:.3f} [{low:.3f}, {high:.3f}]".format(**r["gap"]),
                  *("{median:.2f} / {90%:.2f}".format(**r["perplexity"][p]) for p in perplexities)] for r in records],
                ["split", "tuned", "efficiency gap", *perplexities]))

    print("\nmatched temperature: exact pass@k of both, and of each at the temperature T where its entropy (nats per token) is the other's")
    rows = []
    for record in records:
        for row in record["temperatures"]:
            numbers = ["none", *[""] * (1 + len(KS))]
            if row["temperature"] is not None:
                numbers = [f"{row['temperature']:.2f}", f"{row['entropy']:.3f}", *map(probability, row["pass"].values())]
            rows.append([record["split"], row["model"], *numbers])
    print(table(rows, ["split", "model", "T", "entropy", *(f"@{show_k(k)}" for k in KS)]))


def steps_table(models, extras, axis, n, temperature):
    """--per-step: one record for each id cell, model, step and prefix: the mean probability of the next whole step.

    prefix "right": of the right step, after right ones; "corrupted": of the step that follows from a first state with one wrong
    digit. `law` is what the tilted policy would do; only a run with --kl k1_reward has one.
    """
    records = []
    for cell in AXES["arithmetic"][axis]["id"]:
        problems = eval_problems("arithmetic", cell, n)
        chains = {"right": problems.solutions}
        if cell.depth > 1:
            chains["corrupted"] = TASKS["arithmetic"].wrong_chains(problems.prompts, np.random.default_rng(EVAL_SEED))
        for prefix, solutions in chains.items():
            base = step_log_mass(models[0][1], "arithmetic", problems.prompts, solutions, temperature)
            for (name, model), extra in zip(models[1:], extras[1:]):
                tuned, saved = step_log_mass(model, "arithmetic", problems.prompts, solutions, temperature), extra.get("args", {})
                kl, beta = saved.get("kl", "none"), saved.get("beta", 0)
                law = None if kl != "k1_reward" or not beta else tilted_steps(base, beta) if prefix == "right" else base
                for t in range(prefix == "corrupted", cell.depth):
                    records.append({"cell": str(cell), "depth": cell.depth, "arm": name, "kl": kl, "beta": beta, "step": t + 1, "prefix": prefix,
                                    **{key: None if x is None else float(np.exp(x[:, t]).mean()) for key, x in (("base", base), ("tuned", tuned), ("law", law))}})
    print("\nprobability of the next whole step: the right one after right steps, or the one that follows from a wrong first state")
    print(table([[r["cell"], r["arm"], r["prefix"], r["step"], *("" if r[key] is None else f"{r[key]:.3f}" for key in ("base", "tuned", "law"))]
                 for r in records], ["cell", "model", "prefix", "step", "base", "tuned", "law"]))
    return records
