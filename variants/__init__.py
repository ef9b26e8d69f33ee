"""variants/: the rivals. One file per method, each a subclass of GRPO that overrides only the boxes it changes.

    python finetune.py --method list                      every method, what it overrides, which defaults and flags it has
    python finetune.py --method dapo --init ...           variants/dapo.py

A file dropped in here is a method at once, under its own name; nothing has to be registered. It holds one subclass of GRPO,
whose class attributes `paper`, `defaults`, `ignores`, `flags` and `columns` are explained in grpo.py; only the chosen file is
imported. This one finds them.
"""
import importlib
import inspect
import pkgutil

from cli import CommandError
from grpo import GRPO


def names():
    """What --method accepts: grpo, and every file here."""
    return ["grpo", *sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in ("grpo", "list") and m.name[0] != "_")]


def load(name):
    """The class of a method. CommandError says in one line what is wrong with a name or a file."""
    if name == "grpo":
        return GRPO
    if name not in names():
        raise CommandError(f"--method {name}: no such method; there are {', '.join(names())} (and any file put into variants/)")
    importlib.invalidate_caches()  # the file may be younger than this process
    try:
        module = importlib.import_module(f"variants.{name}")
    except Exception as error:  # whatever a foreign file can raise
        raise CommandError(f"--method {name}: variants/{name}.py cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}") from None
    found = [x for x in vars(module).values() if inspect.isclass(x) and issubclass(x, GRPO) and x.__module__ == module.__name__]
    if len(found) != 1:
        raise CommandError(f"--method {name}: variants/{name}.py defines {len(found) or 'no'} subclass{'es' * (len(found) > 1)} of GRPO; it must define one")
    return found[0]


def overrides(method):
    """The names of the methods of GRPO that a subclass has its own version of, in the order of grpo.py."""
    return [name for name, box in vars(GRPO).items() if inspect.isfunction(box) and name[0] != "_" and getattr(method, name) is not box]


def describe(name):
    """The lines of `--method list` on one method: what it is, from its class alone."""
    try:
        method = load(name)
    except CommandError as error:
        return f"{name}\n    broken: {error}"
    flag = "--{}".format
    parts = [("overrides", overrides(method)), ("defaults", [f"{flag(k)} {v}" for k, v in method.defaults.items()]),
             ("own flags", [flag(k) for k in method.flags]), ("ignores", [flag(k) for k in method.ignores])]
    summary = (method.__doc__ or "no docstring").strip().splitlines()[0]
    lines = [f"    {what}: {', '.join(items).replace('_', '-') if '--' in str(items) else ', '.join(items)}" for what, items in parts if items]
    return "\n".join([f"{name}: {summary} ({method.paper})", *lines])
