"""lab/report.py: every question's verdicts and pictures as one page.

    write(folder, questions)    reads folder/QUESTION/, writes folder/README.md, and
                                folder/QUESTION/QUESTION.png where matplotlib is installed

`questions` is the package of that name: what can be asked, by names(), load(name), owner(name).
Nothing is typed here: other numbers give other words. Headings and rules are the docstrings of the
questions' own files.
"""
import os
import shlex
import textwrap

import numpy as np

from cli import probability
from lab import draw
from lab.judge import cells, group, n_seeds
from lab.records import read, settings

INTRODUCTION = """# What the study found

Written by `python study.py --report` from the numbers in this folder, verdicts included. Each
question is a file of [questions/](../questions), which holds its rule, what it runs and how it is
judged. *Supported* and *refuted*: the 95 % interval (±, Student t over seeds) lies inside the
range that the rule names, or inside the opposite one. *Undecided*: it does neither, or there is
one seed. Gains are differences of exact probabilities: +0.02 is 2 points. A prompt's mass is the
probability of its right answer; Q0 is the base's, Q* the tuned model's. Predictions have numbers:
P1 to P4 and P10 are laws of [theory.py](../theory.py), P8 and P9 are the study's own, each told
where it is asked. Surprises and negative results: [LOG.md](LOG.md).
"""

WHAT_RAN = """## What was run

Each row's command makes its runs again, and those of the same question that are missing here. Other
sizes than study.py's defaults (steps of pretraining, of GRPO, ...) are columns of its runs.csv.
Questions that look at the runs of another one are not listed.

⚠ marks a tripwire of runs that have an oracle, a base trained on clean edge problems, which are
those of the dose: bases outside 0.4 to 0.95 on id (nothing to gain, or too little to start from),
or an oracle below 0.9 on edge (a failure there would be the architecture's). Runs without an oracle
(-) are not watched: saturation's bases are meant to lie anywhere. Marked cells stay in every table
and every verdict.
"""
LONG = 13   # rows from which on a table is folded away


def write(folder, questions):
    """Write folder/README.md and the figures; returns the path of the report."""
    modules = in_order(questions)
    runs = gather(folder, questions, modules)
    if draw.can_draw():
        for name, module in modules.items():
            picture(folder, name, module, runs[name])
    else:
        print("no new figures: matplotlib is not installed (python -m pip install matplotlib);\n"
              "the tables have every number")
    path = os.path.join(folder, "README.md")
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(page(folder, questions, modules, runs))
    os.replace(path + ".tmp", path)
    return path


def text(folder, questions):
    """The report as text, with the figures that are there."""
    modules = in_order(questions)
    return page(folder, questions, modules, gather(folder, questions, modules))


def in_order(questions):
    """{name: module} of the questions, by their ORDER, those that have none last. One whose ORDER
    is None is a reader's own, and not in the report."""
    order = {name: getattr(questions.load(name), "ORDER", 100) for name in questions.names()}
    listed = [name for name in order if order[name] is not None]
    return {name: questions.load(name) for name in sorted(listed, key=lambda name: order[name])}


def gather(folder, questions, modules):
    """{name: runs}: each question's own, or those of the question whose jobs it has imported."""
    kept = {}
    for owner in {questions.owner(name) for name in modules}:
        there = os.path.exists(os.path.join(folder, owner, "runs.csv"))
        kept[owner] = read(os.path.join(folder, owner)) if there else []
    return {name: kept[questions.owner(name)] for name in modules}


def picture(folder, name, module, runs):
    """Draw folder/NAME/NAME.png; one that nothing supports any more is taken away."""
    path = picture_path(folder, name)
    if not draw.save(module.figure, runs, path) and os.path.exists(path):
        os.remove(path)


def picture_path(folder, name):
    return os.path.join(folder, name, f"{name}.png")


# ---------------------------------------------------------------------------------------- the page

def page(folder, questions, modules, runs):
    summary = [["claim", "verdict", "seeds", "numbers"]]
    sections = []
    for name, module in modules.items():
        found = module.verdicts(runs[name])
        sections.append(section(folder, name, module, found))
        for i, v in enumerate(found, 1):
            summary.append([f"[{v.claim}](#{name}-{i})", f"**{v.verdict}**", v.n_seeds or "",
                            v.numbers])
    own = {name: runs[name] for name in modules if questions.owner(name) == name}
    return "\n\n".join([INTRODUCTION.strip(), markdown(summary), WHAT_RAN.strip(),
                        markdown(what_ran(own)), *sections]) + "\n"


def section(folder, name, module, found):
    """One question: heading, rule, figure, and each of its verdicts."""
    question, _, body = module.__doc__.strip().partition("\n")
    parts = [f'<a id="{name}"></a>', f"## {question}", body.strip(),
             f"In [questions/{name}.py](../questions/{name}.py)."]
    if os.path.exists(picture_path(folder, name)):
        parts.append(f"![{question}]({name}/{name}.png)")
    for i, v in enumerate(found, 1):
        parts += [f'<a id="{name}-{i}"></a>', f"### {v.claim}: {v.verdict}"]
        if v.numbers:
            parts.append(textwrap.fill(f"*Numbers.* {v.numbers}.", 99))
        if len(v.table) > 1:
            parts.append(folded(v.table))
        if v.note:
            parts.append(textwrap.fill(v.note, 99))
    return "\n\n".join(parts)


def what_ran(runs_of):
    """Rows of text: what each question has run, by which command, and which of its tripwires have
    gone off."""
    table = [["question", "bases", "seeds", "cells", "prompts a cell",
              "base mass on id, lowest and highest seed", "tripwires", "command"]]
    for name, runs in runs_of.items():
        if not runs:
            table.append([f"[{name}](#{name})", "not run", "", "", "", "", "", ""])
            continue
        mass = [r.reach("base", "id") for r in runs if r.has("base", split="id")]
        tripped = [f"⚠ {these[0].place}, overlap {these[0].overlap:g}: {these[0].trips}"
                   for these in cells(runs).values() if these[0].trips]
        watched = any(r.has("oracle", split="edge") for r in runs)
        table.append([f"[{name}](#{name})", str(len(group(runs, lambda r: r.chain))),
                      str(n_seeds(runs)), str(len(cells(runs))),
                      ", ".join(map(str, sorted(settings(runs)["prompts"]))),
                      f"{probability(np.min(mass))}, {probability(np.max(mass))}" if mass else "-",
                      "; ".join(tripped) or ("none" if watched else "-"),
                      f"`{command(name, runs)}`"])
    return table


def command(name, runs):
    """The command that makes a question's runs: its seeds, prompts and, if there are several,
    overlaps."""
    first, overlaps = min(r.seed for r in runs), sorted({r.overlap for r in runs})
    words = ["python", "study.py", name, "--seeds", n_seeds(runs)]
    words += ["--first-seed", first] if first else []
    words += ["--prompts", min(settings(runs)["prompts"], default=256)]
    words += ["--overlaps", *(f"{overlap:g}" for overlap in overlaps)] if len(overlaps) > 1 else []
    return shlex.join(map(str, words))


def markdown(rows):
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def folded(rows):
    """A table as text, folded away if it is long."""
    if len(rows) <= LONG:
        return markdown(rows)
    return (f"<details><summary>{len(rows) - 1} rows</summary>\n\n{markdown(rows)}\n\n"
            "</details>")
