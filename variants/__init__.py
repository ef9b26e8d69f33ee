"""variants/: a method = a file. Each holds one subclass of GRPO that overrides only the boxes that
it changes; a knob is a class attribute, see cli.knob.

    python finetune.py --method list               every method, in a line
    python finetune.py --method dapo --init ...    variants/dapo.py

A file dropped in here is a method at once, under its own name; nothing has to be registered. Only
the chosen file is imported. This one finds them, and says in one line what is wrong with one.
"""
import argparse
import difflib
import functools
import importlib
import inspect
import pkgutil
import re

from cli import CommandError, Method, did_you_mean, knob, knobs
from grpo import GRPO

# What some boxes return: shapes in P prompts, G completions of each, R = P * G rows, N tokens.
SHAPES = {"rewards": ("PG",), "advantages": ("R", "RN"), "forward": ("RN",), "loss": ("",)}


def names():
    """What --method accepts: grpo, and every file here."""
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return ["grpo", *sorted(n for n in files if n not in ("grpo", "list") and n[0] != "_")]


def chosen(argv, resumed=None):
    """The name of the --method in argv, else that of the resumed run (path, model, extra)."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--method", nargs="?")
    name = first.parse_known_args(list(argv))[0].method
    if name is None and resumed is not None:
        name = resumed[2].get("args", {}).get("method")
        if name not in [None, *names()]:
            raise CommandError(f"--resume {resumed[0]}: is a run of --method {name}, which is not "
                               "here (--method list names what is)")
    return name or "grpo"


def load(name):
    """The class of a method. CommandError says in one line what is wrong with a name or a file."""
    if name == "grpo":
        return GRPO
    if name not in names():
        raise CommandError(f"--method {name}: no such method{did_you_mean(name, names())} "
                           "(--method list names them)")
    where = f"--method {name}: variants/{name}.py"
    importlib.invalidate_caches()  # the file may be younger than this process
    try:
        module = importlib.import_module(f"variants.{name}")
    except Exception as error:  # whatever a foreign file can raise
        text = " ".join(str(error).split())
        raise CommandError(f"{where} cannot be imported: {type(error).__name__}: {text}") from None
    found = [x for x in vars(module).values() if inspect.isclass(x) and issubclass(x, GRPO)
             and x.__module__ == module.__name__]
    if len(found) != 1:
        raise CommandError(f"{where} defines {len(found) or 'no'} "
                           f"subclass{'es' * (len(found) > 1)} of GRPO; it must define one")
    check(found[0], where)
    return found[0]


def check(method, where):
    """CommandError for a misspelled box or knob; and its boxes check the shapes they return."""
    boxes = [n for cls in (GRPO, Method) for n, x in vars(cls).items() if inspect.isfunction(x)]
    settings = knobs(method)
    for name, value in list(vars(method).items()):
        if name[0] == "_" or isinstance(value, (knob, property, classmethod, staticmethod)):
            continue
        if inspect.isfunction(value):
            close = difflib.get_close_matches(name, boxes, 1, 0.85)
            if close and name not in boxes:
                raise CommandError(f"{where} defines {name}, which is no box; is it {close[0]}?")
            if name in SHAPES and not hasattr(value, "__wrapped__"):
                setattr(method, name, shaped(name, value, where))
        elif name not in (*settings, "paper", "columns"):
            raise CommandError(f"{where} sets {name}, which is no knob of GRPO"
                               f"{did_you_mean(name, settings)} (a new one: "
                               f'{name} = knob({value!r}, "help"))')


def shaped(name, box, where):
    """The box, with a check of the shape of what it returns."""
    @functools.wraps(box)
    def checked(self, group, *args):
        result = box(self, group, *args)
        size = {"P": len(group.prompts), "G": group.size, "R": len(group.tokens),
                "N": group.mask.shape[1]}
        allowed = [[size[letter] for letter in shape] for shape in SHAPES[name]]
        found = list(getattr(result, "shape", ["no tensor"]))
        if found not in allowed:
            wanted = " or ".join(str(shape or "a scalar") for shape in allowed)
            raise CommandError(f"{where}: {name} returned {found}, must be {wanted}")
        return result
    return checked


def overrides(method):
    """The boxes that a subclass has its own version of, in the order of grpo.py."""
    boxes = [name for name, x in vars(GRPO).items() if inspect.isfunction(x) and name[0] != "_"]
    return [name for name in boxes if getattr(method, name) is not vars(GRPO)[name]]


def summary(name):
    """The first line of a method's docstring."""
    return (load(name).__doc__ or "no docstring").strip().splitlines()[0]


def first_box(method):
    """The first box that a method changes, "knobs" if it changes none; step only if it is the only
    one, for it is often merely wrapped."""
    boxes = overrides(method)
    return ([box for box in boxes if box != "step"] or boxes or ["knobs"])[0]


def number_of(method):
    """The arXiv number of a method's paper, "own" if it has none, "" if nothing is said."""
    return re.search(r"\d{4}\.\d{5}|^own$|$", method.paper)[0]


def grouped():
    """({box: names} of the files by the first box that they change, in the order of grpo.py;
    {name: what is wrong} of those that cannot be loaded)."""
    found = {name: [] for name in [*vars(GRPO), "knobs"]}
    broken = {}
    for name in names()[1:]:   # the first is GRPO itself
        try:
            found[first_box(load(name))].append(name)
        except CommandError as error:
            broken[name] = str(error)
    return {box: its for box, its in found.items() if its}, broken


def what_it_does(box):
    """A box in a few words: the first sentence of its docstring, without shapes."""
    if box == "knobs":
        return "no box, only numbers"
    text = " ".join(vars(GRPO)[box].__doc__.split())
    return re.split(r"[.;:] |\.$", re.sub(r"^(\S+ )?(\[.*?\]|Scalar)( \w+)?: ", "", text))[0]


def listing(width=100):
    """The lines of `--method list`, grouped by the first box that a method changes."""
    found, broken = grouped()
    lines = [line_of("grpo")]
    for box, its in found.items():
        lines += ["", f"{box}: {what_it_does(box)}", *map(line_of, its)]
    lines += ["", "broken:"] if broken else []
    lines += [f"  {name:21s} {error}" for name, error in broken.items()]
    return [line[:width] for line in lines]


def line_of(name):
    return f"  {name:21s} {number_of(load(name)):10s}  {summary(name)}"
