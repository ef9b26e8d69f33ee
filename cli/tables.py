"""Tables, charts, and problems token by token: what evaluate.py and study.py print."""
import math
import os
import string
import sys
import textwrap

import numpy as np
import torch

import tasks
from cli.flags import WIDTH, CommandError
from measure import TRIES, eval_problems, exact_pass_at_k, log_mass, solution_logp, solvable_mass
from model import generate

INDENT = 18                     # column where what stands beside a label begins
SHOWN = ("64", "1024", "2^20")  # the k that tables show beside 1


def names_of(paths):
    """Short distinct names for checkpoints: file names, with their folder where those collide.

    >>> names_of(["runs/base.pt", "runs/grpo.pt"]), names_of(["a/grpo.pt", "b/grpo.pt"])
    (['base', 'grpo'], ['a/grpo', 'b/grpo'])
    """
    bare = [os.path.splitext(path)[0] for path in paths]
    for names in ([os.path.basename(path) for path in bare], bare):
        if len(set(names)) == len(names):
            return names
    return list(paths)


def show_k(k):
    """
    >>> show_k(64), show_k(2 ** 20)
    ('64', '2^20')
    """
    return f"2^{int(math.log2(k))}" if k >= 4096 else str(k)


def probability(p):
    """
    >>> [probability(p) for p in (0, 3e-9, 0.00004, 0.0123, 0.9999, 1)]
    ['0', '3e-09', '4e-05', '0.012', '1.000', '1']
    """
    if p in (0, 1):
        return f"{p:.0f}"
    return f"{p:.3f}" if p >= 0.0005 else f"{p:.0e}"


def percent(share):
    """A share in percent that is 0 or 100 only if it is none or all.

    >>> [percent(s) for s in (0, 0.001, 0.034, 0.97, 0.999, 1)]
    ['0', '<1', '3', '97', '>99', '100']
    """
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 < share < 1 else f"{100 * share:.0f}"


def shorten(text, width):
    """Text of at most that width, by leaving out its middle.

    >>> shorten("grpo.step0012", 20), shorten("a_long_name.step0012", 13)
    ('grpo.step0012', 'a_lo…step0012')
    """
    if len(text) <= width:
        return text
    front = (width - 1) * 2 // 5  # the end tells more: a step, a seed
    return text[:front] + "…" + text[len(text) - (width - 1 - front):]


def labelled(label, text, indent=INDENT):
    """A label and, from column `indent` on, text, in lines of at most WIDTH columns."""
    return textwrap.fill(text, WIDTH, initial_indent=shorten(label, indent - 1).ljust(indent),
                         subsequent_indent=" " * indent)


def table(rows, header, text=3):
    """Columns aligned: the first `text` of them to the left, the others, numbers, to the right.

    Where a line would be longer than WIDTH, the widest of the first columns is cut in the middle.

    >>> print(table([["id", "base", 0.5], ["hard", "tuned", 0.25]], ["split", "model", "mass"], 2))
    split  model  mass
    ------------------
    id     base    0.5
    hard   tuned  0.25
    """
    rows = [[str(x) for x in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    excess = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    for _ in range(excess):
        widest = max(range(text), key=lambda i: widths[i])
        widths[widest] = max(4, widths[widest] - 1)
    lines = []
    for row in rows:
        left = [shorten(x, width).ljust(width) for x, width in zip(row[:text], widths)]
        right = [x.rjust(width) for x, width in zip(row[text:], widths[text:])]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def chart(series, ks, height=12, width=63):
    """pass@k against k as lines of text: series {label: [mean pass@k at each k]}; k on a log scale,
    0 to 1 upward."""
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
    lines += ["      +" + "-" * width, "       " + "".join(axis).rstrip() + "   k",
              "      chance per prompt of a right answer in k tries"]
    lines += [f"      {mark} = {shorten(label, WIDTH - 10)}" for mark, label in zip(marks, series)]
    return "\n".join([*lines, "      * = several"])


def status(text=""):
    """Show text in place of the last status; without text take it away. Only on a terminal."""
    if sys.stdout.isatty():
        print("\r" + shorten(text, 79).ljust(79) + "\r", end="", flush=True)


def record_table(records, models, args):
    """evaluate.py's summary of one family as a table: the models in every cell, the base sampled
    colder in all cells of a split only."""
    task, axis, base = records[0]["task"], records[0]["axis"], next(iter(models))
    rows = []
    for r in tabled(records, models):
        cells, whole = tasks.AXES[task][axis][r["split"]], r["cell"] == "all"
        small = any(tasks.TASKS[task].enumerated(c) for c in cells if whole or str(c) == r["cell"])
        rows.append([r["split"], r["cell"] + "*" * small, r["model"], *numbers_of(r)])
        if "sampled" in r:
            found = [f"{r['sampled'][k]:.3f}" if k in r["sampled"] else "" for k in ("1", *SHOWN)]
            rows.append(["", "", f"sampled, {args.samples} each", *found, "", "", ""])
    header = ["split", "cell", "model", "pass@1 = mass", *(f"@{k}" for k in SHOWN),
              "fell", "stop", "entropy"]
    lines = [f"\n{task}, {axis} axis: exact pass@k at temperature {args.temperature:g}, "
             f"{args.prompts} prompts a cell,",
             "with a bootstrap 95 % interval of pass@1 over prompts", table(rows, header)]
    if any(row[1].endswith("*") for row in rows):
        lines.append("* includes cells too small to keep prompts from training (under "
                     f"{tasks.Task.ENUMERATED_BELOW:,} problems)")
    return "\n".join([*lines, f"fell: share of prompts with less mass than {shorten(base, 40)} has",
                      "stop: share of samples that end; entropy: nats per token"])


def tabled(records, models):
    """The records that tables show: not a split's only cell once more, and the base sampled colder
    in all cells of a split only."""
    for r in records:
        cells = tasks.AXES[r["task"]][r["axis"]][r["split"]]
        if r["cell"] == "all" or (len(cells) > 1 and r["model"] in models):
            yield r


def variety_table(records, models):
    """evaluate.py's numbers on several right answers of one family as a table."""
    ks, redirected = ("4", "16", "64", "1024"), "redirected" in records[0]
    rows = []
    for r in tabled(records, models):
        row = [r["split"], r["cell"], r["model"], f"{r['answers']:g}",
               *(f"{r['distinct'][k]:.2f}" for k in ks), f"{r['bits']:.2f} of {r['most_bits']:g}"]
        if redirected:
            row += [probability(r["redirected"][k]) for k in ("1", "64")]
        rows.append(row)
    header = ["split", "cell", "model", "answers", *(f"@{k}" for k in ks), "bits"]
    lines = ["\nanswers: right ones a prompt; @k: how many distinct ones k tries are expected to "
             "find;", "bits: entropy of which it is, given that it is right"]
    if redirected:
        header += ["left @1", "left @64"]
        lines[-1] += "; left: pass@k once the last edge of"
        lines.append("the path that the model itself likes best has been led elsewhere")
    return "\n".join([*lines, table(rows, header)])


def numbers_of(record):
    """The numbers of a row of that table, as texts."""
    mass, low, high = (record[key]["1"] for key in ("pass", "low", "high"))
    shares = [record.get(key) for key in ("fell", "stop", "entropy")]
    interval = f"{probability(mass)} [{probability(low)}, {probability(high)}]"
    return [interval, *(probability(record["pass"][k]) for k in SHOWN),
            *("" if share is None else f"{share:.2f}" for share in shares)]


def mass_chart(models, masses):
    """Mean pass@k of every family, split and model, from {family: {model: {split: {cell: log
    masses [n]}}}}, as a chart."""
    ks, curves = [2 ** i for i in range(21)], {}
    for task, by_model in masses.items():
        for split in tasks.SPLITS:
            for name in models:
                label = f"{split}, {name}" if len(masses) == 1 else f"{task} {split}, {name}"
                every = np.concatenate(list(by_model[name][split].values()))
                curves[label] = [exact_pass_at_k(every, k).mean() for k in ks]
    return "\n" + chart(curves, ks)


def analysis_tables(records):
    """evaluate.py's analyses of one family as four tables."""
    thresholds = [key for key in records[0]["coverage"] if key != "0.001"]
    texts = list(records[0]["perplexity"])
    covered, gaps, spreads, matched = [], [], [], []
    for r in records:
        place, gap = [r["split"], r["model"]], r["gap"]
        covered.append(place + ["|".join(map(percent, r["coverage"][key].values()))
                                for key in thresholds])
        gaps.append(place + [f"{gap['base']:.3f}", f"{gap['tuned']:.3f}",
                             f"{gap['gap']:.3f} [{gap['low']:.3f}, {gap['high']:.3f}]"])
        spreads.append(place + [f"{brief(r['perplexity'][text]['median'])} / "
                                f"{brief(r['perplexity'][text]['90%'])}" for text in texts])
        matched += [[r["split"], *matched_row(row)] for row in r["temperatures"]]
    r = records[0]
    return "\n".join([
        f"\n{r['task']}, {r['axis']} axis: each checkpoint beside the first, the base",
        "\ncoverage: % of prompts solved by base only | tuned only | both | neither. Solved: mass",
        f"of at least that; {TRIES} tries are even odds at {solvable_mass(TRIES):.4f}",
        table(covered, ["split", "tuned", *thresholds], text=2),
        f"\nefficiency gap: base pass@{TRIES} - tuned pass@1, bootstrap 95 % interval over prompts",
        table(gaps, ["split", "tuned", f"base @{TRIES}", "tuned @1", "gap"], text=2),
        "\nperplexity per token of each one's own samples and of the solution (gold),",
        "median / 90th percentile over completions",
        table(spreads, ["split", "tuned", *(text.replace(" on ", ": ") for text in texts)], text=2),
        "\nmatched temperature: exact pass@k of both, and of each at the temperature T where its",
        "entropy (nats per token) is the other's",
        table(matched, ["split", "model", "as random as", "T", "entropy", "@1",
                        *(f"@{k}" for k in SHOWN)])])


def matched_row(row):
    """The texts of one record of measure.matched_passes, from its model on."""
    name, _, other = row["model"].partition(", as random as ")
    if row["temperature"] is None:
        return [name, other, "none", *[""] * (2 + len(SHOWN))]
    return [name, other, f"{row['temperature']:.2f}", f"{row['entropy']:.3f}",
            *(probability(row["pass"][k]) for k in ("1", *SHOWN))]


def brief(x):
    """
    >>> brief(1.2345), brief(4567.8), brief(3e300)
    ('1.23', '4568', '3e+300')
    """
    if x < 1000:
        return f"{x:.3g}"
    return f"{x:.0f}" if x < 1e4 else f"{x:.0e}"


def step_table(records):
    """evaluate.py's probabilities of single steps as a table."""
    rows = []
    for r in records:
        numbers = ["" if r[key] is None else f"{r[key]:.3f}" for key in ("base", "tuned", "law")]
        rows.append([r["cell"], r["arm"], r["prefix"], r["step"], *numbers])
    return "\n".join([
        "\nprobability of the next whole step: the right one after right steps, or the one that",
        "follows from a wrong first state",
        table(rows, ["cell", "model", "prefix", "step", "base", "tuned", "law"])])


def can_colour(stream):
    """True if the stream is a terminal that shows colours to someone who wants them (NO_COLOR is
    not set: no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def colour(text, p):
    """Text in the terminal's green if the probability p is at least 0.9, yellow from 0.1 on, red
    below."""
    code = 31
    if p >= 0.1:
        code = 33
    if p >= 0.9:
        code = 32
    return f"\x1b[{code}m{text}\x1b[0m"


def token_table(tokens, rows, coloured=False):
    """Tokens (texts) in a line, and below each its probabilities, from rows {label: [p]}; in as
    many such blocks as it takes to fit WIDTH.

    >>> print(token_table(["4", "2", "<eos>"], {"base": [1.0, 0.5, 2e-7], "tuned": [1, 0.75, 0]}))
                            4      2  <eos>
      base                  1  0.500  2e-07
      tuned                 1  0.750      0
    """
    width, lines = 7, []
    per_line = (WIDTH - INDENT) // width
    for start in range(0, len(tokens), per_line):
        part = slice(start, start + per_line)
        lines.append(" " * INDENT + "".join(token.rjust(width) for token in tokens[part]))
        for label, values in rows.items():
            cells = [probability(p).rjust(width) for p in values[part]]
            if coloured:
                cells = [colour(cell, p) for cell, p in zip(cells, values[part])]
            lines.append(f"  {shorten(label, INDENT - 3)}".ljust(INDENT) + "".join(cells))
    return "\n".join(lines)


def mark_wrong(task, prompt, accepted, written):
    """One completion [N] as text, each step marked with ✗ that differs from the one of the accepted
    solutions [M, S] which it agrees with longest.

    >>> task = tasks.TASKS["arithmetic"]
    >>> texts = "<bos> 31 [+1][+1] =", "42 ; 53 <eos>", "42 ; 54 <eos> <pad>"
    >>> prompt, solution, written = (np.array(tasks.encode(text)) for text in texts)
    >>> mark_wrong(task, prompt, solution[None], written)
    '42 ; ✗54 <eos>'
    """
    solution = list(tasks.nearest(accepted[None], np.array([written]))[0])
    written = list(written)
    while written and written[-1] == tasks.PAD:
        written.pop()
    starts = [0, *map(int, task.layout(prompt[None])[0][:-1])]
    pieces = []
    for start, end in zip(starts, [*starts[1:], None]):
        step = written[start:end]
        if step:
            mark = "" if step == solution[start:end] else "✗"
            pieces.append(mark + tasks.decode(step))
    return " ".join(pieces)


def show_problem(models, task, problem, temperature, samples, generator):
    """Print one problem (Problems of one row): each token of its solution with the probability that
    every model {name: model} gives it, and what each of them writes itself."""
    (prompt, solution), family = (x[0] for x in problem), tasks.TASKS[task]
    accepted, solvable = family.accepted(problem.prompts), (solution >= 0).all()
    print(labelled("  prompt", tasks.decode(prompt), 12))
    print(labelled("  solution", tasks.decode(solution) if solvable else "it has none", 12))
    if family.several:
        print(f"            1 of {accepted.shape[1]} solutions; the mass below is that of all")
    if solvable:
        rows = {name: np.exp(solution_logp(model, *problem, temperature)[0])
                for name, model in models.items()}
        tokens = [tasks.decode([token]) for token in solution]
        print(token_table(tokens, rows, can_colour(sys.stdout)))
    for name, model in models.items():
        if solvable:
            lm = log_mass(model, problem.prompts, accepted, temperature)[0]
            tries = "".join(f", pass@{show_k(k)} {probability(exact_pass_at_k(lm, k))}"
                            for k in (64, 2 ** 20))
            print(f"  {shorten(name, 40)}: exact mass {probability(np.exp(lm))}{tries}")
        else:
            print(f"  {shorten(name, 40)}")
        prompts = torch.as_tensor(problem.prompts, device=next(model.parameters()).device)
        for label, t, n in (("greedy", 0, 1), ("sample", temperature, samples)):
            written, logp = generate(model, prompts, len(solution), t, n, generator)
            for tokens, p in zip(written.tolist(), logp.sum(1).exp().tolist()):
                text = mark_wrong(family, prompt, accepted[0], tokens)
                text += f"   p = {probability(p)}" if t else ""
                print(labelled(f"    {label}", text, 12))


def show_problems(models, names, axis, args, generator):
    """evaluate.py --show N: the first problems of each split of an axis."""
    for task in names:
        for split in tasks.SPLITS:
            cells = tasks.AXES[task][axis][split]
            for i in range(args.show):
                cell = cells[i % len(cells)]
                prompts, solutions = eval_problems(task, cell, args.prompts)
                row = i // len(cells) % len(prompts)
                print(f"\n{task} {split}, {cell}")
                problem = tasks.Problems(prompts[row:row + 1], solutions[row:row + 1])
                show_problem(models, task, problem, args.temperature, 1, generator)
    print("\n✗ marks a step that differs from the solution; "
          "an early error makes all later states wrong too")


def complete_prompt(models, args, generator):
    """evaluate.py --prompt TEXT: the same for a prompt typed by hand, and more samples."""
    task, problem = typed_problem(args.prompt)
    (_, P), (_, S) = (x.shape for x in problem)
    room = min(model.config.context for model in models.values())
    if P + S > room:
        raise CommandError(f"--prompt: {P} tokens and a solution of {S} do not fit the "
                           f"checkpoint's context of {room}")
    known = min(model.config.vocab_size for model in models.values())
    last = max(int(tokens.max()) for tokens in problem)
    if last >= known:
        raise CommandError(f"--prompt: {tasks.VOCAB[last]} is not among the {known} tokens that "
                           "the checkpoint knows")
    show_problem(models, task, problem, args.temperature, args.samples or 4, generator)


def typed_problem(text):
    """(task name, Problems of one row) of a prompt typed by hand; <bos> and the last = may be
    missing. Raises CommandError with what every family says of it, if none knows it."""
    try:
        ids = tasks.encode(text)
    except ValueError as error:
        raise CommandError(f"--prompt: {error}") from None
    if ids[:1] != [tasks.BOS]:
        ids = [tasks.BOS, *ids]
    if ids[-1:] != [tasks.EQUALS]:
        ids = [*ids, tasks.EQUALS]
    try:
        name = tasks.family_of(ids)
    except ValueError as error:
        raise CommandError(f"--prompt: {error}") from None
    prompt = np.array([ids])
    return name, tasks.Problems(prompt, tasks.TASKS[name].solutions(prompt))
