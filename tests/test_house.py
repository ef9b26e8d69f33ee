"""The house's own rules: what lies where, how long it may be, which way imports point, and what a
line may look like. Every rule is shown a piece of code that breaks it, too."""
import ast
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate
import grpo
import measure
import model
import tasks

ROOT = Path(__file__).resolve().parent.parent
FLOORS = [["tasks", "theory"], ["model"], ["measure"], ["cli"], ["grpo"], ["variants"],
          ["pretrain", "finetune", "evaluate"], ["lab"], ["questions"], ["study"]]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
LONGEST = {"grpo.py": 280, "finetune.py": 180, "evaluate.py": 260}
REQUIRED, OPTIONAL = {"torch", "numpy", "pytest"}, {"matplotlib", "distributed"}


def python_files():
    """{path from the root, such as lab/jobs.py: its text}, tests included."""
    paths = [path.relative_to(ROOT) for path in [*ROOT.glob("*.py"), *ROOT.glob("*/*.py")]]
    return {path.as_posix(): (ROOT / path).read_text(encoding="utf-8") for path in paths
            if path.parts[0] != "runs" and path.parts[0][0] != "."}


FILES = python_files()
HOUSE = {path: text for path, text in FILES.items() if not path.startswith("tests/")}


def module_of(path):
    """lab/jobs.py is lab.jobs, lab/__init__.py is lab."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(text):
    """[(module imported, within a function?)] of a file; `from lab import jobs` is lab.jobs too."""
    found = []

    def walk(node, inside):
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            found.append((node.module, inside))
            found.extend((f"{node.module}.{alias.name}", inside) for alias in node.names)
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            walk(child, inside)
    walk(ast.parse(text), False)
    return found


def arrows(files):
    """{(importing module, imported module)} between these files, however late they import."""
    names = {module_of(path): text for path, text in files.items()}
    return {(name, target) for name, text in names.items() for target, _ in imports(text)
            if target in names and target != name}


def circle(arrows):
    """Modules that import each other in a circle, as a list; [] if there are none."""
    left = {name for arrow in arrows for name in arrow}
    while left:
        free = {name for name in left if not any(a == name and b in left for a, b in arrows)}
        if not free:
            return sorted(left)
        left -= free
    return []


def upward(arrows):
    """The arrows from a lower floor to a higher, or between two files of one floor."""
    def allowed(a, b):
        top_a, top_b = a.split(".")[0], b.split(".")[0]
        return top_a == top_b or FLOOR[top_b] < FLOOR[top_a]
    return [arrow for arrow in sorted(arrows) if not allowed(*arrow)]


def nested_conditionals(text):
    """Lines of conditional expressions inside another."""
    outer = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.IfExp)]
    return [inner.lineno for node in outer for inner in ast.walk(node)
            if isinstance(inner, ast.IfExp) and inner is not node]


def dictionaries_of_lambdas(text):
    return [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Dict)
            and any(isinstance(value, ast.Lambda) for value in node.values)]


def too_wide(text):
    return [i for i, line in enumerate(text.splitlines(), 1) if len(line) > 100]


# -------------------------------------------------------------------------------- what lies where

def test_the_top_level_is_the_designs():
    top = {path.removesuffix(".py") for path in HOUSE if "/" not in path}
    assert top == set(FLOOR) - {"cli", "variants", "lab", "questions"}
    folders = {path.split("/")[0] for path in HOUSE if "/" in path}
    assert folders == {"cli", "variants", "lab", "questions"}


def test_the_tests_mirror_the_house():
    about = {Path(path).stem.removeprefix("test_") for path in FILES
             if path.startswith("tests/test_")}
    things = {Path(path).stem for path in HOUSE if path.split("/")[0] not in (
        "variants", "questions")}
    assert {name for name in FLOOR if name != "lab"} <= about
    assert about <= things | {"cli", "variants", "questions", "scripts", "house",
                              "second_study"}


@pytest.mark.parametrize("path,lines", LONGEST.items())
def test_the_files_that_a_learner_reads_are_short(path, lines):
    assert len(HOUSE[path].splitlines()) <= lines


def test_what_must_be_installed():
    listed = (ROOT / "requirements.txt").read_text().split()
    assert sorted(re.split("[=<>~!]", name)[0] for name in listed) == sorted(REQUIRED)
    own = {module_of(path).split(".")[0] for path in FILES} | {
        Path(path).stem for path in FILES if path.startswith("tests/")}
    for path, text in FILES.items():
        for name, inside in imports(text):
            top = name.split(".")[0]
            ours = top in own | REQUIRED or top in sys.stdlib_module_names
            optional = top in OPTIONAL and (inside or "matplotlib" in path)
            assert ours or optional, f"{path} imports {name}"


# --------------------------------------------------------------------------- which way they point

def test_imports_point_downwards_and_in_no_circle():
    between = arrows(HOUSE)
    assert len(between) > 30 and ("study", "questions") in between
    assert ("grpo", "model") in between and ("lab.runner", "finetune") in between
    assert upward(between) == []
    assert circle(between) == []


def test_nothing_is_imported_late_but_what_is_optional():
    late = {(path, name) for path, text in HOUSE.items() for name, inside in imports(text)
            if inside and name.split(".")[0] not in OPTIONAL}
    assert late == set()


# ------------------------------------------------------------------------ what a line may look like

@pytest.mark.parametrize("path", sorted(FILES))
def test_lines_are_plain_and_end_before_column_100(path):
    text = FILES[path]
    assert too_wide(text) == []
    assert nested_conditionals(text) == [] and dictionaries_of_lambdas(text) == []


def test_the_rules_see_what_breaks_them():
    assert nested_conditionals("x = 1 if a else 2\ny = 1 if a else (2 if b else 3)") == [2]
    assert nested_conditionals("x = f(1 if a else 2) if b else 3") == [1]
    assert dictionaries_of_lambdas("x = {1: 2}\ny = {1: lambda: 2}") == [2]
    assert too_wide("é" * 100 + "\n" + "x" * 101) == [2]
    late = "import os\ndef f():\n    from lab import jobs\n    import grpo"
    assert imports(late) == [("os", False), ("lab", True), ("lab.jobs", True), ("grpo", True)]
    files = {"tasks.py": "def f():\n    import grpo", "grpo.py": "from tasks import x",
             "lab/__init__.py": "", "lab/jobs.py": "import study", "study.py": "from lab import x",
             "pretrain.py": "import finetune", "finetune.py": ""}
    between = arrows(files)
    assert upward(between) == [("lab.jobs", "study"), ("pretrain", "finetune"), ("tasks", "grpo")]
    assert circle(between) == ["grpo", "tasks"]
    assert circle({("a", "b"), ("b", "c"), ("a", "c")}) == []


# -------------------------------------------------------------------------------- what forks import

SURFACE = [
    (model.generate, "model, prompts, max_new_tokens, temperature=1.0, group_size=1, "
                     "generator=None"),
    (model.token_logprobs, "model, tokens, start, temperature=1.0"),
    (model.save_checkpoint, "path, model, **extra"),
    (model.load_checkpoint, "path, device='cpu'"),
    (tasks.encode, "text"), (tasks.decode, "ids"),
    (tasks.Cell, "depth, length, alphabet='seen', words='any'"),
    (tasks.Task.sample, "self, cell, n, rng, noise=0.0"),
    (tasks.Task.verify, "self, prompts, completions"),
    (grpo.group_advantages, "rewards, scale='std', eps=1e-06"),
    (grpo.policy_loss, "logp, old_logp, advantages, mask, clip_low=0.2, clip_high=0.2, "
                       "aggregate='sequence'"),
    (grpo.kl_estimate, "logp, ref_logp, kind='k3'"),
    (grpo.completion_mask, "completions"),
    (grpo.GRPO.rewards, "self, group"), (grpo.GRPO.advantages, "self, group"),
    (grpo.GRPO.loss, "self, group, logp"), (grpo.GRPO.forward, "self, group"),
    (measure.log_mass, "model, prompts, solutions, temperature=1.0"),
    (measure.exact_pass_at_k, "log_mass, k"), (measure.pass_at_k, "n, c, k"),
]


@pytest.mark.parametrize("function,want", SURFACE, ids=lambda x: getattr(x, "__qualname__", ""))
def test_the_public_surface(function, want):
    """These parameters come first, with these defaults; what follows has a default of its own."""
    found = [parameter.replace(annotation=inspect.Parameter.empty)
             for parameter in inspect.signature(function).parameters.values()]
    names = want.split(", ")
    assert [str(parameter) for parameter in found[:len(names)]] == names
    assert all(p.default is not p.empty for p in found[len(names):])


def test_the_public_names_mean_what_they_meant():
    assert list(inspect.signature(model.GPTConfig).parameters)[:6] == [
        "vocab_size", "context", "n_layer", "n_head", "n_embd", "position"]
    for position in ("rope", "learned", "nope"):
        gpt = model.GPT(model.GPTConfig(n_layer=1, n_embd=16, position=position))
        problems = tasks.TASKS["arithmetic"].sample(tasks.Cell(1, 4), 3, np.random.default_rng(0))
        assert problems._fields == ("prompts", "solutions")
        assert problems.prompts.dtype == problems.solutions.dtype == np.int64
        completions, logp = model.generate(gpt, model.torch.from_numpy(problems.prompts), 5)
        assert completions.shape == logp.shape == (3, 5)
    verdict = tasks.TASKS["arithmetic"].verify(*problems)
    assert verdict._fields == ("trace", "answer", "process", "well_formed")
    assert {tasks.PAD, tasks.BOS, tasks.EOS} <= set(range(len(tasks.VOCAB)))
    assert set(tasks.TASKS) >= {"arithmetic", "graph"}
    assert all(set(splits) == {"id", "edge", "hard"} for axes in tasks.AXES.values()
               for splits in axes.values())
    assert {"rollout", "problems", "step"} <= set(vars(grpo.GRPO))
    for name in ("log_mass", "exact_pass_at_k", "pass_at_k"):  # where forks have looked so far
        assert getattr(evaluate, name) is getattr(measure, name)
