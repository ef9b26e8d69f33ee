"""lab/museum.py: variants/README.md, a guide to the methods, from their files and the results.

    write(question, runs, path)    the page, from questions/methods.py, its Runs, and variants/

Nothing is typed here but what has no file: other numbers, or another docstring, give another page.
"""
import inspect
import os
import re
import textwrap

import numpy as np

import variants
from lab.judge import by_seed, n_seeds, pm
from lab.report import markdown

INTRODUCTION = """# The methods, one file each

Written by `python study.py --report` from these files and from the question
[methods](../results/README.md#methods), which has the command that made its numbers. Grouped by the
first box of [grpo.py](../grpo.py) that a method changes; `python finetune.py --method list` has the
same in the terminal, `--method NAME --help` has one's flags.

*Sees*: what a method gets to know beyond sampling the policy, in its own file's words; where that
is more than the outcome, a gain may be the information's and not the rule's. *Updates*: on each
batch. *Time*: median over runs of seconds beside GRPO's from the same base, on a busy machine; all
sampled as many completions. *id*: exact pass@1 over three places and two overlaps. *Edge*: the same
at {leaked}, where one problem in a hundred was from the edge. *More on edge*: exact pass@1024
there, less what GRPO with as many updates has. ± is the 95 % interval over {seeds} seeds; a dash:
not among those runs. Methods that are shown gold, or the truth of steps, stand beside controls that
see as much in the questions [gold](../results/README.md#gold) and
[after_takeoff](../results/README.md#after_takeoff).
"""

NOT_HERE = """## Not here, and why

| system | paper | why there is no file |
| --- | --- | --- |
| GRPO-CSV (TimeSearch-R) | 2511.05489 | it has the answer given again from the evidence alone; \
here the last state is the answer, so whoever has the evidence only has to copy it |
| S-GRPO | 2505.07686 | it forces an answer after a part of the reasoning; here a chain that stops \
early is another string, and never accepted |
| RAST | (May 2025) | a rule of decoding with a second model, no training of the policy |
| IRL-LLM survey, SPARKLE, pattern selection, RewardBench | - | analyses and a benchmark: they \
propose no rule |
| LEQ, DreamerV3 on ARC | - | offline control and a world model: another family |
"""
HEADER = ["method", "what it does", "paper", "sees", "updates", "time", "id", "edge",
          "more on edge"]


def write(question, runs, path):
    """Write the guide; returns its path."""
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(page(question, runs, variants.names()))
    os.replace(path + ".tmp", path)
    return path


def page(question, runs, names):
    """The guide as text: questions/methods.py, its Runs, and the names of the methods to list."""
    rows = {name: measured(question, runs, name) for name in names}
    leaked = question.leaked(runs)
    introduction = INTRODUCTION.format(
        leaked=" and ".join(sorted({run.place for run in leaked})) or "overlap 0.01",
        seeds=n_seeds(runs))
    found, _ = variants.grouped()
    parts = [*(textwrap.fill(part, 100) for part in introduction.strip().split("\n\n")),
             markdown([HEADER, row("grpo", rows["grpo"])])]
    for box, its in found.items():
        its = [name for name in its if name in rows]
        if its:
            does = variants.what_it_does(box)
            parts += [f"## {box}", f"{does[0].upper()}{does[1:]}.",
                      markdown([HEADER, *(row(name, rows[name]) for name in its)])]
    return "\n\n".join([*parts, NOT_HERE.strip()]) + "\n"


def measured(question, runs, name):
    """The columns of a method that are numbers: updates, time, id, edge, more on edge."""
    arms = [(run, arm) for run in runs for arm in run.arms.values() if question.label(arm) == name]
    if not arms:
        return ["", "-", "-", "-", "-"]
    arm, leaked = arms[0][1].name, question.leaked(runs)
    time = [arm.seconds / run.arms["rival-grpo"].seconds for run, arm in arms
            if arm.seconds and "rival-grpo" in run.arms]
    more = by_seed(leaked, lambda r: question.more(r, arm, "edge", 1024, question.control))
    return [str(question.updates(arms[0][1])), f"{np.median(time):.1f}" if time else "-",
            pm(by_seed(runs, lambda r: r.reach(arm, "id")), "p"),
            pm(by_seed(leaked, lambda r: r.reach(arm, "edge")), "p"), pm(more)]


def row(name, numbers):
    method = variants.load(name)
    file = "../grpo.py" if name == "grpo" else f"{name}.py"
    return [f"[{name}]({file})", variants.summary(name), method.paper, sees(method), *numbers]


def sees(method):
    """What a method's file says after "Information used:".

    >>> from variants.dapo import DAPO
    >>> sees(DAPO)
    'the outcome, and lengths'
    """
    text = " ".join((inspect.getmodule(method).__doc__ or "").split())
    found = re.search(r"Information used: (.*?)\.( |$)", text)
    return found[1] if found else "the outcome"
