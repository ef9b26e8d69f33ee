"""questions/: what the study asks. One file per question, found by its name, registered nowhere.

    python study.py --list          every question in one line
    python study.py dose            runs, judges and draws questions/dose.py

A file holds, in this order: a docstring whose first line is the question, then what is predicted,
and the rule by which it is decided, with its date; `jobs(args)`, what to run (lab/jobs.py);
`verdicts(runs)`, a list of lab.judge.Verdict; `figure(runs)`, a matplotlib Figure or None. A
question that looks at the runs of another one imports its jobs: `from questions.dose import jobs`.
It may have `summary(runs)`, a text for the terminal in place of its verdicts.
"""
import importlib
import pkgutil

from cli import CommandError, did_you_mean


def names():
    """Every question: the files here."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")


def load(name):
    """The module of a question. CommandError says in one line what is wrong with a name or file."""
    if name not in names():
        raise CommandError(f"{name}: no such question{did_you_mean(name, names())} "
                           "(study.py --list names them)")
    importlib.invalidate_caches()   # the file may be younger than this process
    try:
        module = importlib.import_module(f"questions.{name}")
    except Exception as error:      # whatever a foreign file can raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CommandError(f"questions/{name}.py: cannot be imported: {reason}") from None
    for part in ("jobs", "verdicts", "figure"):
        if not callable(getattr(module, part, None)):
            raise CommandError(f"questions/{name}.py: has no function {part}; "
                               "a question has jobs(args), verdicts(runs) and figure(runs)")
    if not (module.__doc__ or "").strip():
        raise CommandError(f"questions/{name}.py: its docstring is to begin with the question")
    return module


def asked(name):
    """The question itself: the first line of the file's docstring."""
    return load(name).__doc__.strip().splitlines()[0]


def owner(name):
    """The question that defines the jobs of this one, under which its runs are kept."""
    return load(name).jobs.__module__.split(".")[-1]
