"""evaluate.py: how much is there, exactly? Correct mass, pass@k, intervals, tables, charts.

    python evaluate.py --ckpt runs/base.pt runs/grpo.pt              side by side, in every cell
    python evaluate.py --ckpt runs/base.pt runs/grpo.pt --show 3     token by token
    python evaluate.py --ckpt runs/base.pt runs/grpo.pt --analyses   reach, or only efficiency?
    python evaluate.py --ckpt runs/base.pt --prompt "3141 [+1][rev] ="

The first checkpoint is the base. Masses and pass@k are exact: measure.py says how. Sampled are
only stop, entropy and what --samples adds. Every k, cell and prompt is in the file of --json.
"""
import cli  # first, so that Ctrl-C while torch is being imported is one line, too

import json

import numpy as np
import torch

from cli import check_context, families, names_of, show_k
from measure import (FELL, KS, bootstrap, eval_problems, exact_pass_at_k, expected_distinct,
                     log_mass, matched_passes, mean_masses, pass_at_k, perplexities, prompt_records,
                     prompts_by_mass, reach, redirected_masses, right_entropy, sampled,
                     split_masses, step_records, string_masses, token_records,
                     totals)  # three of them for forks, which look here
from model import load_checkpoint
from tasks import AXES, SPLITS, TASKS


def build_parser(argv=()):  # called like that of finetune.py, which looks into argv
    p = cli.Parser(__doc__, __file__)
    add = p.add_argument
    add("--ckpt", nargs="+", required=True, metavar="CKPT", help="models; the first is the base")
    add("--task", choices=[*TASKS, "both"], help="task family (default: the first checkpoint's)")
    add("--axis", choices=sorted({axis for axes in AXES.values() for axis in axes}),
        help="axis (default: the first checkpoint's)")
    add("--prompts", type=cli.size, default=256, metavar="N", help="evaluation prompts per cell")
    add("--by-mass", nargs="+", choices=SPLITS, default=[],
        help="in these splits more: 4,096 a cell where the base's mass is below 0.05, and 20,000 "
             "where it is below 1e-4")
    add("--temperature", type=cli.greedy_too, default=1.0, help="of sampling; 0 is greedy")
    add("--cold", type=cli.greedy_too, nargs="*", default=[0.7, 0.5, 0.3, 0.0], metavar="T",
        help="the base again at these: what cold sampling alone would buy; without a number: none")
    add("--samples", type=cli.number(int, 0, 65_536), default=0, metavar="N",
        help="also sample N completions a prompt: unbiased pass@k beside the exact one")
    add("--show", type=cli.number(int, 0, 1000), default=0, metavar="N",
        help="show N problems per split: each token with every model's probability of it")
    add("--per-step", action="store_true",
        help="also the probability of each written step, after right steps and after an error")
    add("--per-token", nargs="+", choices=SPLITS, default=[],
        help="also the base's log-probability of every right token, in these splits (for --json)")
    add("--redirect", action="store_true",
        help="also each model's pass@k when the last edge of the path that it likes best leads "
             "elsewhere (route)")
    add("--prompt", metavar="TEXT", help="complete this prompt instead, with its exact mass")
    add("--analyses", action="store_true",
        help="also coverage, efficiency gap, perplexity and matched temperature, beside the base")
    add("--csv", metavar="FILE", help="write every prompt's log mass")
    add("--json", metavar="FILE", help="write the tables, and every prompt's log mass")
    cli.add_overwrite_flag(p)
    add("--seed", type=cli.seed, default=0, help="seed of what is sampled")
    cli.add_device_flags(p)
    return p


# ----------------------------------------------------------------------------------------- records

def measure(models, task, axis, args, generator):
    """(records, strings, redirected) of one family for models {name: model}, the base first. A
    record for each split, model and cell, and for "all" cells; log masses of each accepted string,
    {model: {split: {cell: [n, M]}}}; and with --redirect, of what is left then, [n]. In all three
    the base stands again at the temperatures of --cold."""
    base = next(iter(models))
    views = {name: (model, args.temperature) for name, model in models.items()}
    for t in args.cold:
        views[f"{base} T={t:g}" if t else f"{base} greedy"] = models[base], t
    counts = prompts_by_mass(models[base], task, axis, args.prompts, args.by_mass)
    strings = {name: string_masses(model, task, axis, counts, t)
               for name, (model, t) in views.items()}
    masses = {name: totals(found) for name, found in strings.items()}
    redirected = {name: redirected_masses(model, task, axis, strings[name], t)
                  for name, (model, t) in views.items() if args.redirect}
    draws = {name: draw_cells(name, model, task, axis, args, generator)
             for name, model in models.items()}
    records = []
    for split, cells in AXES[task][axis].items():
        for name in views:
            for label, members in [("all", cells), *((str(cell), [cell]) for cell in cells)]:
                ours, theirs = (np.concatenate([masses[model][split][cell] for cell in members])
                                for model in (name, base))
                record = {"task": task, "axis": axis, "split": split, "cell": label, "model": name,
                          **summarise(ours, None if name == base else theirs)}
                if TASKS[task].several:
                    record |= variety([strings[name][split][cell] for cell in members])
                if args.redirect:
                    left = np.concatenate([redirected[name][split][cell] for cell in members])
                    record["redirected"] = summarise(left)["pass"]
                if name in models:
                    record |= pool([draws[name][cell] for cell in members], args.samples)
                records.append(record)
    return records, strings, redirected


def draw_cells(name, model, task, axis, args, generator):
    """{cell: what `sampled` says of it}: each cell once, with a status line meanwhile."""
    cells, draws = [cell for split in SPLITS for cell in AXES[task][axis][split]], {}
    for cell in cells:
        cli.status(f"sampling {name} on {task}, {cell}: {len(draws) + 1} of {len(cells)} cells")
        problems, samples = eval_problems(task, cell, args.prompts), max(1, args.samples)
        draws[cell] = sampled(model, problems, task, samples, args.temperature, generator)
    cli.status()
    return draws


def summarise(log_masses, before=None):
    """A record's exact numbers, from log masses [n]: mean pass@k with bootstrap intervals, and the
    share of prompts that fell below the base's log masses [n]."""
    values = np.stack([exact_pass_at_k(log_masses, k) for k in KS], axis=1)   # [n, K]
    low, high = bootstrap(values)
    fell = None if before is None else float((log_masses < before - FELL).mean())
    return {"prompts": len(log_masses), "pass": by_k(values.mean(0)), "low": by_k(low),
            "high": by_k(high), "fell": fell}


def variety(cells):
    """A record's numbers on several right answers, from log masses [n, M] of its cells."""
    distinct = [np.concatenate([expected_distinct(strings, k) for strings in cells]) for k in KS]
    answers = np.concatenate([np.full(len(strings), strings.shape[1]) for strings in cells])
    return {"answers": float(answers.mean()), "distinct": by_k(map(np.mean, distinct)),
            "bits": float(np.concatenate(list(map(right_entropy, cells))).mean()),
            "most_bits": float(np.log2(answers).mean())}


def by_k(values):
    return dict(zip(map(show_k, KS), map(float, values)))


def pool(draws, samples):
    """A record's sampled numbers, from those of its cells: list of (right [n], stop, entropy)."""
    right, stop, entropy = zip(*draws)
    numbers = {"stop": float(np.mean(stop)), "entropy": float(np.mean(entropy))}
    if samples:
        estimates = {k: pass_at_k(samples, np.concatenate(right), k) for k in KS if k <= samples}
        numbers["sampled"] = {show_k(k): float(x.mean()) for k, x in estimates.items()}
    return numbers


def analyse(models, task, axis, masses, args):
    """--analyses: one record for each split and each model beside the base."""
    base, *others = models
    records = []
    for split in SPLITS:
        cells = [eval_problems(task, cell, args.prompts) for cell in AXES[task][axis][split]]
        for name in others:
            cli.status(f"analysing {name} on {task}, {split}")
            before, after = (np.concatenate(list(masses[m][split].values())) for m in (base, name))
            pair = (base, models[base]), (name, models[name])
            matched = matched_passes(*pair, task, cells, args.temperature, args.seed)
            for row in matched:
                if row["temperature"]:
                    row["pass"] = by_k(row["pass"])
            records.append({
                "task": task, "axis": axis, "split": split, "model": name, "prompts": len(after),
                **reach(before, after), "temperatures": matched, "perplexity": perplexities(
                    models[base], models[name], cells, args.temperature, args.seed)})
    cli.status()
    return records


# ------------------------------------------------------------------------------------------ script

def check(args):
    """Raise CommandError for flags that do not go together."""
    if len(set(args.ckpt)) < len(args.ckpt):
        raise cli.CommandError(f"--ckpt: {max(args.ckpt, key=args.ckpt.count)} is named twice")
    for flag, wanted in (("--analyses", args.analyses), ("--per-step", args.per_step)):
        if wanted and len(args.ckpt) < 2:
            raise cli.CommandError(f"{flag}: --ckpt must name at least two checkpoints, the base "
                                   "and at least one other")
    if args.analyses and args.temperature == 0:
        raise cli.CommandError("--temperature 0: for --analyses it must be above 0, "
                               "or there is no entropy to match")


def choose(args, saved, models):
    """(task names, axis) from the flags or, where they are silent, from those that the base was
    trained with. Raises CommandError or OSError, before any work, if it cannot be done."""
    task = args.task or saved.get("task") or next(iter(TASKS))
    axis = args.axis or saved.get("axis") or "depth"
    names = families(task, axis)
    for path, model in zip(args.ckpt, models.values()):
        check_context(path, model.config.context, names, axis, model.config.vocab_size)
    if args.per_step and not any(hasattr(TASKS[name], "wrong_chains") for name in names):
        raise cli.CommandError(f"--per-step: {task} has no wrong_chains to continue")
    if args.redirect and not all(TASKS[name].several for name in names):
        raise cli.CommandError(f"--redirect: prompts of {task} have one right answer; it is for a "
                               "family with several")
    return names, axis


def write(args, result):
    """The files of --csv and --json."""
    if args.csv:
        cli.write_text(args.csv, cli.table_text(result["prompts"][0], result["prompts"]))
    if args.json:
        cli.write_text(args.json, json.dumps(result))


def answer(command, models, trained_with, tasks, axis, args, generator):
    """Print all that is asked for; returns what --json writes."""
    result = {"command": command, "args": vars(args), "summary": [],
              "temperature": args.temperature, "analyses": [], "steps": [], "tokens": [],
              "prompts": []}
    if args.show:
        cli.show_problems(models, tasks, axis, args, generator)
    masses = {}
    for task in tasks:
        records, strings, redirected = measure(models, task, axis, args, generator)
        masses[task] = {name: totals(found) for name, found in strings.items()}
        print(cli.record_table(records, models, args))
        if TASKS[task].several:
            print(cli.variety_table(records, models))
        result["summary"] += records
        result["prompts"] += prompt_records(task, axis, strings, redirected)
        base, of_base = next(iter(models.values())), next(iter(masses[task].values()))
        result["tokens"] += token_records(base, task, of_base, args.per_token)
    print(cli.mass_chart(models, masses))
    for task in tasks:
        if args.analyses:
            records = analyse(models, task, axis, masses[task], args)
            print(cli.analysis_tables(records))
            result["analyses"] += records
        if args.per_step and hasattr(TASKS[task], "wrong_chains"):
            records = step_records(models, trained_with, task, axis, args.prompts,
                                   args.temperature)
            print(cli.step_table(records))
            result["steps"] += records
    return result


@cli.script
def main(argv=None):
    parser = build_parser()
    args = parser.parse_args(argv)
    check(args)
    device = cli.set_device(args)
    loaded = dict(zip(names_of(args.ckpt), (load_checkpoint(path, device) for path in args.ckpt)))
    models = {name: model for name, (model, _) in loaded.items()}
    trained_with = {name: extra.get("args", {}) for name, (_, extra) in loaded.items()}
    generator = torch.Generator(device).manual_seed(args.seed)
    if args.prompt is not None:
        return cli.complete_prompt(models, args, generator)

    tasks, axis = choose(args, trained_with[next(iter(models))], models)
    with cli.own_results(parser, args):
        command = cli.command(parser, args)
        write(args, answer(command, models, trained_with, tasks, axis, args, generator))


if __name__ == "__main__":
    main()
