"""evaluate.py: how much is there, exactly? Correct mass, pass@k, intervals, tables, charts.

    python evaluate.py --ckpt runs/base.pt runs/grpo.pt            side by side, every cell of the axis
    python evaluate.py --ckpt runs/base.pt runs/grpo.pt --analyses reach or efficiency? coverage, matched temperature, ...
    python evaluate.py --ckpt runs/base.pt --show 5                problems, with each wrong step marked
    python evaluate.py --ckpt runs/base.pt --prompt "3141 [+1][rev] ="

Every prompt has one accepted solution, so a model's probability of answering right is a product of next-token
probabilities, read off one teacher-forced forward pass:

    Q(x) = prod_t p(solution_t | prompt, solution_<t)            log Q in float64
    pass@k = 1 - (1 - Q)^k                                       for any k, without a sample

so "the base cannot do this" (Q = 1e-12) and "nobody sampled it yet" (Q = 1e-4) are two different numbers. Published
studies (2504.13837 and what followed) estimate pass@k from at most about a thousand samples; `--samples N` prints that
unbiased estimate (Chen et al. 2107.03374, eq. 1) beside the exact value, as a check.

>>> exact_pass_at_k(np.log([0.5, 1e-12]), 2)
array([7.5e-01, 2.0e-12])
>>> pass_at_k(n=8, c=1, k=4)
array(0.5)
"""
import csv
import json
import math
import os
import string

import numpy as np
import torch

import cli
from model import generate, load_checkpoint, token_logprobs
from tasks import AXES, BOS, EOS, EQUALS, HOP, PAD, SPLITS, TASKS, Problems, decode, encode

EVAL_SEED = 20251015  # fixes the evaluation prompts: the same for every model, seed and mixture
KS = (1, 4, 16, 64, 256, 1024, 2 ** 20)
FELL = 1e-6  # a log mass that drops by less has only been rounded differently


# ------------------------------------------------------------------------------------------------------------ the maths

@torch.no_grad()
def log_mass(model, prompts, solutions, temperature=1.0, chunk=2048):
    """Exact log-probability [n] (float64) that the model writes the solution: sum_t log p(solution_t | all before it).

    prompts [n, P], solutions [n, S]: integer arrays or tensors. Every column of the solution is scored, so a PAD there is an
    ordinary token. At temperature T it is the mass under the T-scaled softmax; at 0, greedy decoding: 0.0 or -inf.
    """
    device = next(model.parameters()).device
    prompts, solutions = torch.as_tensor(prompts, device=device), torch.as_tensor(solutions, device=device)
    tokens = torch.cat([prompts, solutions], dim=1)
    parts = [token_logprobs(model, rows, prompts.shape[1], temperature).cpu().double().sum(1) for rows in tokens.split(chunk)]
    return torch.cat(parts).numpy()


def exact_pass_at_k(log_mass, k):
    """Probability [n] that at least one of k independent samples is right, from exact log masses [n]: 1 - (1 - Q)^k.

    Computed in log space, so that Q = 1e-300 and Q = 1 - 1e-15 both keep their digits.
    """
    log_mass = np.minimum(np.asarray(log_mass, dtype=np.float64), 0.0)
    with np.errstate(divide="ignore"):
        # log(1 - Q), by whichever of the two forms does not cancel
        log_miss = np.where(log_mass > -math.log(2), np.log(-np.expm1(log_mass)), np.log1p(-np.exp(log_mass)))
    return -np.expm1(k * log_miss)


def pass_at_k(n, c, k):
    """Unbiased estimate of pass@k from n samples of which c are right: 1 - C(n - c, k) / C(n, k). Broadcasts.

    Exact integer arithmetic. Raises ValueError where k > n: that many samples cannot be drawn.
    """
    def one(n, c, k):
        if k > n:
            raise ValueError(f"pass@{k} cannot be estimated from {n} samples")
        return 1 - math.comb(n - c, k) / math.comb(n, k)
    return np.vectorize(one, otypes=[np.float64])(*(np.asarray(x).astype(object) for x in (n, c, k)))


def bootstrap(values, draws=1000, seed=0):
    """95 % percentile interval (low [...], high [...]) of the mean over prompts of values [n, ...].

    It speaks of one model and other prompts; other seeds of the training run vary more, and need runs of their own.
    """
    n = len(values)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws) / n
    return tuple(np.quantile(np.tensordot(weights, values, axes=1), [0.025, 0.975], axis=0))


# ------------------------------------------------------------------------------------------------------- what to measure

def eval_problems(task, cell, n):
    """The fixed evaluation problems of a cell: reserved by hash, so that no training run has drawn one of them.

    A cell too small to reserve from (`TASKS[task].enumerated(cell)`) gives at most as many problems as it has.
    """
    key = [EVAL_SEED, sorted(TASKS).index(task), cell.depth, cell.length, *f"{cell.alphabet} {cell.words}".encode()]
    if TASKS[task].enumerated(cell):
        n = min(n, TASKS[task].size(cell))
    return TASKS[task].sample(cell, n, np.random.default_rng(key), split="eval")


def split_masses(model, task, axis, n, temperature=1.0, splits=SPLITS):
    """{split: {cell: log masses [n]}} over the cells of an axis."""
    return {split: {cell: log_mass(model, *eval_problems(task, cell, n), temperature) for cell in AXES[task][axis][split]}
            for split in splits}


def families(task, axis):
    """The task names that --task stands for. Raises CommandError if one of them has no such axis."""
    names = list(TASKS) if task == "both" else [task]
    for name in names:
        if axis not in AXES[name]:
            raise cli.CommandError(f"--axis {axis}: {name} has no such axis; it has {', '.join(AXES[name])}")
    return names


def check_context(where, context, names, axis):
    """Raise CommandError, naming where the context was set, if some cell of the axis does not fit into it."""
    for name in names:
        need = max(TASKS[name].prompt_len(c) + TASKS[name].solution_len(c) for cells in AXES[name][axis].values() for c in cells)
        if need > context:
            raise cli.CommandError(f"{where}: a context of {context} tokens is too short for the {axis} axis of {name}, which needs {need}")


def mean_masses(model, tasks, axis, n, temperature=1.0, splits=SPLITS):
    """{split: mean exact mass}, cells weighing alike, over one or several tasks: the numbers of a training log."""
    masses = [split_masses(model, task, axis, n, temperature, splits) for task in tasks]
    return {split: float(np.mean([np.exp(m).mean() for by_split in masses for m in by_split[split].values()]))
            for split in splits}


def sampled(model, problems, task, samples, temperature, generator):
    """Draw `samples` completions of each prompt: (number right [n], share that ended, entropy in nats per token)."""
    prompts = torch.as_tensor(problems.prompts, device=next(model.parameters()).device)
    right, ended, surprise, tokens = [], 0, 0.0, 0
    for rows in prompts.split(max(1, 4096 // samples)):
        completions, logp = generate(model, rows, problems.solutions.shape[1], temperature, samples, generator)
        repeated = rows.repeat_interleave(samples, dim=0).cpu().numpy()
        completions = completions.cpu().numpy()
        right.append(TASKS[task].verify(repeated, completions).trace.reshape(-1, samples).sum(1))
        is_eos = completions == EOS
        ended += is_eos.any(1).sum()
        tokens += int((is_eos.cumsum(1) - is_eos == 0).sum())
        surprise -= float(logp.sum())
    return np.concatenate(right), ended / (len(prompts) * samples), surprise / tokens


# ------------------------------------------------------------------------------------------------------ tables and charts

def show_k(k):
    return f"2^{int(math.log2(k))}" if k >= 4096 else str(k)


def probability(p):
    """
    >>> [probability(p) for p in (0, 3e-9, 0.00004, 0.0123, 0.9999, 1)]
    ['0', '3e-09', '4e-05', '0.012', '1.000', '1']
    """
    return f"{p:.0f}" if p in (0, 1) else f"{p:.3f}" if p >= 0.0005 else f"{p:.0e}"


def chart(series, ks, height=12, width=63):
    """pass@k against k as lines of text: series {label: [mean pass@k at each k]}; k on a log scale, 0 to 1 upward."""
    marks = string.ascii_letters
    grid = [[" "] * width for _ in range(height)]
    spread = math.log(ks[-1] / ks[0])
    for mark, values in zip(marks, series.values()):
        for k, value in zip(ks, values):
            column = round(math.log(k / ks[0]) / spread * (width - 1))
            row = round((1 - value) * (height - 1))
            grid[row][column] = mark if grid[row][column] in (" ", mark) else "*"
    lines = [f"{1 - i / (height - 1):5.2f} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    axis = [" "] * (width + 6)
    for power in range(0, 1 + int(math.log2(ks[-1])), 4):
        label = f"2^{power}"
        at = round(power * math.log(2) / spread * (width - 1))
        axis[at:at + len(label)] = label
    legend = [f"      {mark} = {label}" for mark, label in zip(marks, series)]
    return "\n".join([*lines, "      +" + "-" * width, "       " + "".join(axis).rstrip() + "   k, chance per prompt of a right answer in k tries",
                      *legend, "      * = several"])


def mark_wrong(task, prompt, solution, written):
    """One completion [N] as text, each step that differs from the solution [S] marked with ✗.

    >>> task = TASKS["arithmetic"]
    >>> prompt, solution = (np.array([encode(s)]) for s in ("<bos> 31 [+1][+1] =", "42 ; 53 <eos>"))
    >>> mark_wrong(task, prompt[0], solution[0], encode("42 ; 54 <eos> <pad>"))
    '42 ; ✗54 <eos>'
    """
    written, solution = list(written), list(solution)
    while written and written[-1] == PAD:
        written.pop()
    starts = [0, *map(int, task.layout(prompt[None])[0][:-1]), len(solution)]
    pieces = []
    for i, (start, end) in enumerate(zip(starts, starts[1:])):
        last = i == len(starts) - 2
        step = written[start:] if last else written[start:end]
        if step:
            pieces.append(("" if step == solution[start:end] else "✗") + decode(step))
    return " ".join(pieces)


def table(rows, header):
    """Columns aligned, the first ones to the left, numbers to the right."""
    widths = [max(len(str(r[i])) for r in [header, *rows]) for i in range(len(header))]
    def line(r):
        return "  ".join(str(x).ljust(w) if i < 3 else str(x).rjust(w) for i, (x, w) in enumerate(zip(r, widths))).rstrip()
    return "\n".join([line(header), "-" * len(line(header)), *map(line, rows)])


# -------------------------------------------------------------------------------------------------------------- the script

def build_parser():
    p = cli.Parser(__doc__, __file__)
    add = p.add_argument
    add("--ckpt", nargs="+", required=True, metavar="CKPT", help="checkpoints to compare; the first is the base")
    add("--task", choices=[*TASKS, "both"], help="task family (default: what the first checkpoint was trained on)")
    add("--axis", choices=sorted({a for axes in AXES.values() for a in axes}), help="axis (default: the first checkpoint's)")
    add("--prompts", type=cli.count, default=256, metavar="N", help="evaluation prompts per cell")
    add("--temperature", type=cli.nonnegative, default=1.0, help="sampling temperature that is measured; 0 is greedy")
    add("--cold", type=cli.nonnegative, nargs="*", default=[0.7, 0.5, 0.3, 0.0], metavar="T",
        help="the base again at these temperatures: what cold sampling alone would buy; without a number: none")
    add("--samples", type=cli.natural, default=0, metavar="N", help="also sample N completions a prompt: unbiased pass@k beside the exact one")
    add("--show", type=cli.natural, default=0, metavar="N", help="print N problems per split with every model's completion")
    add("--per-step", action="store_true", help="also the probability of each written step, after right steps and after an error (arithmetic)")
    add("--prompt", metavar="TEXT", help="complete this prompt instead, with its exact mass")
    add("--analyses", action="store_true", help="also coverage, efficiency gap, perplexity and matched temperature, beside the base (analyses.py)")
    add("--csv", metavar="FILE", help="write every prompt's log mass")
    add("--json", metavar="FILE", help="write the tables, and every prompt's log mass")
    add("--seed", type=cli.natural, default=0, help="seed of what is sampled")
    cli.add_device_flags(p)
    return p


def names_of(paths):
    """Short distinct names for checkpoints: file names, with their folder where those collide."""
    short = [os.path.splitext(os.path.basename(p))[0] for p in paths]
    return short if len(set(short)) == len(short) else [os.path.splitext(p)[0] for p in paths]


def resolve(args, extra):
    """(task names, axis) from the flags or, where they are silent, from the checkpoint's own flags."""
    saved = extra.get("args", {})
    task, axis = args.task or saved.get("task") or "arithmetic", args.axis or saved.get("axis") or "depth"
    return families(task, axis), axis


def complete_prompt(text, models, args, generator):
    """--prompt: what each model writes after a prompt typed by hand, and the exact mass of the right solution."""
    try:
        ids = encode(text)
    except ValueError as error:
        raise cli.CommandError(f"--prompt: {error}") from None
    ids = ([] if ids[:1] == [BOS] else [BOS]) + ids + ([] if ids[-1:] == [EQUALS] else [EQUALS])
    name = "graph" if HOP in ids else "arithmetic"
    prompt = np.array([ids])
    try:
        solution = TASKS[name].solutions(prompt)
    except ValueError as error:
        raise cli.CommandError(f"--prompt: {error}; such as '3141 [+1][rev] =' or '; a b ; b c = >> a ='") from None
    room = min(model.config.context for _, model in models)
    if prompt.shape[1] + solution.shape[1] > room:
        raise cli.CommandError(f"--prompt: {prompt.shape[1]} tokens and a solution of {solution.shape[1]} do not fit the "
                               f"checkpoint's context of {room}")
    solvable = (solution >= 0).all()
    print(f"prompt    {decode(ids)}\nsolution  {decode(solution[0]) if solvable else 'none: the walk leaves the listed edges'}")
    for label, model in models:
        device = next(model.parameters()).device
        rows = torch.as_tensor(prompt, device=device)
        print(f"\n{label}")
        if solvable:
            lm = log_mass(model, prompt, solution, args.temperature)[0]
            print(f"  exact mass {probability(np.exp(lm))} (log {lm:.3f}) at temperature {args.temperature:g};  "
                  + "  ".join(f"pass@{show_k(k)} {probability(exact_pass_at_k(lm, k))}" for k in KS[1:]))
        greedy, _ = generate(model, rows, solution.shape[1], 0)
        print(f"  greedy  {mark_wrong(TASKS[name], prompt[0], solution[0], greedy[0].tolist())}")
        drawn, logp = generate(model, rows, solution.shape[1], args.temperature, args.samples or 4, generator)
        for tokens, lp in zip(drawn.tolist(), logp.sum(1).tolist()):
            print(f"  sample  {mark_wrong(TASKS[name], prompt[0], solution[0], tokens)}   p = {probability(math.exp(lp))}")


def show_problems(models, tasks, axis, args, generator):
    """--show N: problems of each split with a sampled completion of every model, wrong steps marked."""
    for task in tasks:
        for split in SPLITS:
            cells = AXES[task][axis][split]
            for i in range(args.show):
                cell = cells[i % len(cells)]
                problems = eval_problems(task, cell, args.prompts)
                row = i // len(cells) % len(problems.prompts)
                problems = Problems(problems.prompts[row:row + 1], problems.solutions[row:row + 1])
                print(f"\n{task} {split}, {cell}\n  prompt    {decode(problems.prompts[0])}\n  solution  {decode(problems.solutions[0])}")
                for label, model in models:
                    rows = torch.as_tensor(problems.prompts, device=next(model.parameters()).device)
                    written, _ = generate(model, rows, problems.solutions.shape[1], args.temperature, 1, generator)
                    mass = np.exp(log_mass(model, *problems, args.temperature)[0])
                    print(f"  {label:9s} {mark_wrong(TASKS[task], problems.prompts[0], problems.solutions[0], written[0].tolist())}"
                          f"   (mass of the solution {probability(mass)})")
    print("\n✗ marks a step that differs from the solution; an early error makes all later states wrong too")


def summarise(masses, base=None):
    """One table row's numbers from log masses [n]: means, bootstrap intervals, and the share that fell below base [n]."""
    values = np.stack([exact_pass_at_k(masses, k) for k in KS], axis=1)   # [n, K]
    low, high = bootstrap(values)
    return {"prompts": len(masses), "pass": dict(zip(map(show_k, KS), values.mean(0).tolist())),
            "low": dict(zip(map(show_k, KS), low.tolist())), "high": dict(zip(map(show_k, KS), high.tolist())),
            "fell": None if base is None else float((masses < base - FELL).mean())}


@cli.script
def main(argv=None):
    import analyses  # here, for it builds on this file
    parser = build_parser()
    args = parser.parse_args(argv)
    device = cli.set_device(args)
    if len(set(args.ckpt)) < len(args.ckpt):
        raise cli.CommandError(f"--ckpt: {max(args.ckpt, key=args.ckpt.count)} is named twice")
    if args.analyses and len(args.ckpt) < 2:
        raise cli.CommandError("--analyses: compares other checkpoints with the first, the base; --ckpt must name at least two")
    if args.analyses and args.temperature == 0:
        raise cli.CommandError("--temperature 0: for --analyses it must be above 0, or there is no entropy to match")
    loaded = [load_checkpoint(path, device) for path in args.ckpt]
    models = [(name, model) for name, (model, _) in zip(names_of(args.ckpt), loaded)]
    generator = torch.Generator(device).manual_seed(args.seed)
    if args.prompt is not None:
        return complete_prompt(args.prompt, models, args, generator)

    tasks, axis = resolve(args, loaded[0][1])
    for (_, model), path in zip(models, args.ckpt):
        check_context(path, model.config.context, tasks, axis)
    if args.per_step and ("arithmetic" not in tasks or len(models) < 2):
        raise cli.CommandError("--per-step: compares checkpoints on arithmetic; name a base and at least one other")
    for path in filter(None, (args.csv, args.json)):
        cli.check_writable(path)
    if args.show:
        show_problems(models, tasks, axis, args, generator)

    records, curves, measured, all_masses, analysed, steps = [], {}, {}, {}, [], []
    for task in tasks:
        small = False
        measured[task] = {name: split_masses(model, task, axis, args.prompts, args.temperature) for name, model in models}
        cold = {f"{models[0][0]} T={t:g}" if t else f"{models[0][0]} greedy": split_masses(models[0][1], task, axis, args.prompts, t)
                for t in args.cold}
        all_masses[task] = {**measured[task], **cold}
        print(f"\n{task}, {axis} axis: exact pass@k at temperature {args.temperature:g}, {args.prompts} prompts a cell, "
              "bootstrap 95 % interval of pass@1 over prompts")
        rows = []
        base_by_split = measured[task][models[0][0]]
        for split in SPLITS:
            for name, by_split in [*measured[task].items(), *cold.items()]:
                cells = by_split[split]
                views = [("all", list(cells))] + [(str(c), [c]) for c in cells]
                for label, members in views:
                    lm = np.concatenate([cells[c] for c in members])
                    against = None if name == models[0][0] else np.concatenate([base_by_split[split][c] for c in members])
                    record = {"task": task, "axis": axis, "split": split, "cell": label, "model": name, **summarise(lm, against)}
                    if name in measured[task]:
                        drawn = [sampled(dict(models)[name], eval_problems(task, c, args.prompts), task, max(1, args.samples),
                                         args.temperature, generator) for c in members]
                        record["stop"] = float(np.mean([d[1] for d in drawn]))
                        record["entropy"] = float(np.mean([d[2] for d in drawn]))
                        if args.samples:
                            right = np.concatenate([d[0] for d in drawn])
                            record["sampled"] = {show_k(k): float(pass_at_k(args.samples, right, k).mean()) for k in KS if k <= args.samples}
                    star = "*" if any(TASKS[task].enumerated(c) for c in members) else ""
                    small |= bool(star)
                    records.append(record)
                    if label != "all" and (len(cells) == 1 or name not in measured[task]):
                        continue  # in the JSON only
                    rows.append([split, label + star, name, f"{record['pass']['1']:.3f} [{record['low']['1']:.3f}, {record['high']['1']:.3f}]",
                                 *(probability(v) for v in list(record["pass"].values())[1:]),
                                 "" if record["fell"] is None else f"{record['fell']:.2f}",
                                 *(f"{record[key]:.2f}" if key in record else "" for key in ("stop", "entropy"))])
                    if "sampled" in record:
                        estimates = [f"{v:.3f}" for v in record["sampled"].values()]
                        rows.append(["", "", f"  sampled, {args.samples} each", *estimates, *[""] * (len(KS) - len(estimates)), "", "", ""])
                if name in measured[task]:
                    prefix = f"{task} " if len(tasks) > 1 else ""
                    lm = np.concatenate(list(cells.values()))
                    curves[f"{prefix}{split}, {name}"] = [exact_pass_at_k(lm, 2 ** i).mean() for i in range(21)]
        print(table(rows, ["split", "cell", "model", "pass@1 = mass", *(f"@{show_k(k)}" for k in KS[1:]), "fell", "stop", "entropy"]))
        if small:
            print("* includes cells too small to keep prompts from training (under 10,000 problems)")
    print(f"fell: share of prompts whose mass is below {models[0][0]}'s; stop: share of samples that end; entropy: nats per token")
    print("\n" + chart(curves, [2 ** i for i in range(21)]))
    if args.analyses:
        for task in tasks:
            analysed += analyses.analyse(models, task, axis, args.prompts, args.temperature, measured[task], args.seed)
            print(f"\n{task}, {axis} axis: each checkpoint beside {models[0][0]}, at temperature {args.temperature:g}")
            analyses.show(analysed[-len(SPLITS) * (len(models) - 1):])

    if args.per_step:
        steps = analyses.steps_table(models, [extra for _, extra in loaded], axis, args.prompts, args.temperature)

    if args.csv or args.json:
        prompts = {(t, c): [decode(p) for p in eval_problems(t, c, args.prompts).prompts]
                   for t in tasks for cells in AXES[t][axis].values() for c in cells}
        per_prompt = [{"model": name, "task": task, "axis": axis, "split": split, "cell": str(cell), "prompt": text,
                       "log_mass": float(lm) if lm > -np.inf else None}  # JSON has no infinity
                      for task in tasks for name, by_split in all_masses[task].items() for split, cells in by_split.items()
                      for cell, masses in cells.items() for text, lm in zip(prompts[task, cell], masses)]
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, per_prompt[0])
            writer.writeheader()
            writer.writerows(per_prompt)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"command": cli.command(parser, args), "args": vars(args), "temperature": args.temperature, "summary": records,
                       "analyses": analysed, "steps": steps, "prompts": per_prompt}, file)


if __name__ == "__main__":
    main()
