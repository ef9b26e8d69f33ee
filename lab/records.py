"""records.py: the study's numbers, to files and back. One folder holds one question.

    runs.csv      one row per base (chain), task, arm, split and cell: what the arm is, its numbers
    masses.npz    the exact log mass of every prompt, float32, as "chain|task|arm|split|cell"; where
                  asked for, that of every right token, as "chain|task|base|split|cell|tokens";
                  where several strings are right, that of each, as "...|cell|strings", and of what
                  is left without the favourite, as "...|cell|redirected"
    steps.csv     where measured: probabilities of single steps, after right and corrupted prefixes

    read(folder)           -> [Run]
    write(folder, runs)    merge these runs into what is there

What an arm is (method, KL, steps, ...) stands in columns of its own: a name is never parsed. What
an arm does not have, such as the group size of a base, is empty in the CSV and None or "" here.
"""
import csv
import math
import os
from dataclasses import dataclass, field, fields

import numpy as np

from cli import CommandError
from measure import FELL, KS, bootstrap, exact_pass_at_k, total

BASE = "base"   # the name of the arm that gains are measured from


@dataclass
class Arm:
    """What one checkpoint is, or the base sampled colder: the values of the flags that made it."""
    name: str
    method: str = "grpo"           # "pretrain" for the base and the oracle
    train_on: str = ""
    reward: str = ""
    kl: str = ""
    beta: float | None = None      # 0 where there is no KL
    scale: str = ""
    steps: int | None = None
    group_size: int | None = None
    prompts_per_step: int | None = None
    epochs: int | None = None      # updates on each batch of rollouts
    rollouts: int | None = None    # completions sampled in training; None where nobody counted
    gold: int | None = None        # tokens of gold solutions shown; None where none are
    temperature: float = 1.0       # that its mass is measured at; 0 is greedy
    init: str = ""                 # the arm that it started from; "" for the base, colder or not
    command: str = ""
    seconds: float | None = None


@dataclass(eq=False)   # hashable by identity
class Run:
    """One base and everything made of it: log masses of the same prompts, in the same order, for
    every arm. A base evaluated on two tasks is two runs."""
    question: str
    chain: str                     # the name of the base's folder
    task: str
    axis: str
    overlap: float
    noise: float
    pretrain_steps: int
    setting: str                   # what else is special about the base, such as position=nope
    seed: int
    arms: dict = field(default_factory=dict)     # {name: Arm}
    masses: dict = field(default_factory=dict)   # {(arm, split): {cell: log masses [n]}}
    tokens: dict = field(default_factory=dict)   # {split: {cell: the base's log p [n, tokens]}}
    steps: list = field(default_factory=list)    # [{column of steps.csv: value}]
    trips: str = ""                # the tripwires that the run's cell of the grid has tripped
    strings: dict = field(default_factory=dict)     # {(arm, split): {cell: log masses [n, M]}}
    redirected: dict = field(default_factory=dict)  # {(arm, split): {cell: log masses [n]}}

    @property
    def place(self):
        return f"{self.task} {self.axis}"

    def arms_where(self, **columns):
        """The arms whose columns have these values, as in arms_where(kl="k1_reward", beta=1)."""
        return [arm for arm in self.arms.values()
                if all(getattr(arm, column) == value for column, value in columns.items())]

    def has(self, *arms, split):
        return all((arm, split) in self.masses for arm in arms)

    def log_mass(self, arm, split):
        """[n] float64: all cells of the split, one after the other."""
        return np.concatenate(list(self.masses[arm, split].values()))

    def reach(self, arm, split, k=1):
        """Mean exact pass@k over the split's prompts, cells weighing alike: a float for one k, an
        array [len(k)] for a list; k = 1 is the mean mass. nan if there is no such arm."""
        if not self.has(arm, split=split):
            return math.nan if np.ndim(k) == 0 else np.full(len(k), math.nan)
        cells = self.masses[arm, split].values()
        values = np.mean([exact_pass_at_k(x[:, None], np.atleast_1d(k)).mean(0) for x in cells], 0)
        return float(values[0]) if np.ndim(k) == 0 else values

    def gain(self, arm, split, k=1):
        return self.reach(arm, split, k) - self.reach(BASE, split, k)

    def colder(self):
        """The names of the base's own rows: as it is, and at every other temperature."""
        return [arm.name for arm in self.arms_where(method="pretrain", init="")]

    def at_best_temperature(self, split, k=1):
        """The base's pass@k at whichever temperature makes it highest (for this k)."""
        there = [name for name in self.colder() if self.has(name, split=split)]
        return max((self.reach(name, split, k) for name in there), default=math.nan)

    def budget(self, arm):
        """Completions that this arm was to draw: group size x prompts x steps; 0 for a base."""
        arm = self.arms[arm]
        return (arm.group_size or 0) * (arm.prompts_per_step or 0) * (arm.steps or 0)


# -------------------------------------------------------------------------------------- the columns

RUN_COLUMNS = [f.name for f in fields(Run)][1:9]    # chain ... seed
ARM_COLUMNS = [f.name for f in fields(Arm)][1:]   # method ... seconds; the name is "arm"
KEY = ("chain", "task", "arm", "split", "cell")   # what tells rows apart
EXTRAS = ("|tokens", "|strings", "|redirected")   # beside the masses of a row
NUMBERS = ["prompts", "mass", "low", "high", *(f"p{k}" for k in KS[1:-1]), "p2^20", "fell",
           "base_mass"]
COLUMNS = [*RUN_COLUMNS, *KEY[2:], *NUMBERS, *ARM_COLUMNS]
ADDED = ("epochs", "gold")   # columns that older files lack: empty there
STEP_COLUMNS = ["chain", "seed", "arm", "kl", "beta", "depth", "step", "prefix", "base", "tuned",
                "law"]
INTEGERS = {"pretrain_steps", "seed", "steps", "group_size", "prompts_per_step", "epochs",
            "rollouts", "gold", "depth", "step"}
FLOATS = {"overlap", "noise", "beta", "temperature", "seconds", "base", "tuned", "law"}


def parsed(column, text):
    """A cell of the CSV as Python has it; None for an empty number. ValueError or OverflowError if
    it is none."""
    if column in INTEGERS:
        return int(float(text)) if text else None
    if column in FLOATS:
        value = float(text) if text else None
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{column} is {text}")
        return value
    return text


def written(value):
    """A value as the CSV has it: six digits of a float are enough, the masses keep the rest."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------ reading

def read(folder):
    """The Runs in folder. CommandError in one line if a file is missing, damaged, or not of one
    piece with the other."""
    question = os.path.basename(os.path.normpath(folder))
    remedy = f"python study.py {question} writes it again"
    table, arrays, steps_table = (os.path.join(folder, name) for name in
                                  ("runs.csv", "masses.npz", "steps.csv"))
    rows, masses, runs = read_csv(table, COLUMNS, remedy), read_masses(arrays, remedy), {}
    try:
        for row in rows:
            run = runs.setdefault((row["chain"], row["task"]), new_run(question, row))
            if row["arm"] not in run.arms:
                values = {column: parsed(column, row.get(column, "")) for column in ARM_COLUMNS}
                run.arms[row["arm"]] = Arm(row["arm"], **values)
            if row["cell"] == "all":
                continue
            key = "|".join(row[column] for column in KEY)
            if key not in masses:
                raise CommandError(f"{arrays}: has no masses of {key}; {remedy}")
            if not belongs(row, masses[key]):
                raise CommandError(f"{arrays}: its masses of {key} are not those that runs.csv "
                                   f"speaks of; {remedy}")
            cells = run.masses.setdefault((row["arm"], row["split"]), {})
            cells[row["cell"]] = masses.pop(key).astype(np.float64)
        take_extras(runs, masses)
    except CommandError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise CommandError(f"{table}: is damaged ({error}); {remedy}") from None
    if masses:
        raise CommandError(f"{table}: has no row of {min(masses)}, which masses.npz has; {remedy}")
    for run in runs.values():
        if not strings_add_up(run):
            raise CommandError(f"{arrays}: the strings of {run.chain} do not add up to its masses; "
                               f"{remedy}")
        if not is_whole(run):
            raise CommandError(f"{table}: lacks rows of {run.chain}: not every arm stands beside a "
                               f"base with the same prompts; {remedy}")
    if os.path.exists(steps_table):
        add_steps(runs, read_csv(steps_table, STEP_COLUMNS, remedy), steps_table, remedy)
    mark_tripwires(runs.values())
    return list(runs.values())


def new_run(question, row):
    return Run(question, **{column: parsed(column, row[column]) for column in RUN_COLUMNS})


def is_whole(run):
    """Whether every arm has the prompts of a base, cell by cell and split by split."""
    sizes = {(arm, split): {cell: len(masses) for cell, masses in cells.items()}
             for (arm, split), cells in run.masses.items()}
    return bool(sizes) and all(sizes.get((BASE, split)) == its for (_, split), its in sizes.items())


def take_extras(runs, arrays):
    """Move what stands beside the masses among these arrays {key: array} to the Runs that it is
    of."""
    for key in [key for key in arrays if key.endswith(EXTRAS)]:
        chain, task, arm, split, cell, what = key.split("|")
        run, place = runs.get((chain, task)), (arm, split)
        if run is None or what != "tokens" and cell not in run.masses.get(place, {}):
            continue   # of no row: it is left over
        found = getattr(run, what).setdefault(split if what == "tokens" else place, {})
        found[cell] = arrays.pop(key).astype(np.float64)


def strings_add_up(run):
    """Whether the log masses of single strings are of the same prompts as those of all of them, and
    add up to these."""
    return all(same_mass(total(strings), run.masses[place][cell])
               for place, cells in run.strings.items() for cell, strings in cells.items())


def same_mass(one, other):
    """Whether two lists of log masses are of as many prompts, and of the same mean mass."""
    return len(one) == len(other) and abs(np.exp(one).mean() - np.exp(other).mean()) < 1e-3


def belongs(row, masses):
    """Whether a row's numbers are those of these masses [n]. (One checkpoint measured on two
    machines is rounded differently: up to 1e-4 where sampling is cold.)"""
    same_mass = abs(np.exp(masses.astype(np.float64)).mean() - float(row["mass"])) < 1e-3
    return len(masses) == int(row["prompts"]) and same_mass


def add_steps(runs, rows, path, remedy):
    """Give every run the rows of steps.csv that are its own."""
    of_chain = {}
    for run in runs.values():
        of_chain.setdefault(run.chain, run)
    for row in rows:
        try:
            values = {column: parsed(column, row[column]) for column in STEP_COLUMNS}
        except (ValueError, OverflowError) as error:
            raise CommandError(f"{path}: is damaged ({error}); {remedy}") from None
        if row["chain"] in of_chain:
            of_chain[row["chain"]].steps.append(values)


def read_csv(path, columns, remedy):
    """The rows of a CSV that must have these columns, as dictionaries of text."""
    if not os.path.exists(path):
        raise CommandError(f"{path}: is not there; {remedy}")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header, rows = reader.fieldnames or [], list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: is damaged ({error}); {remedy}") from None
    missing = set(columns) - {*header, *ADDED}
    if missing:
        raise CommandError(f"{path}: has no column {min(missing)}; {remedy}")
    for i, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise CommandError(f"{path}: is damaged (line {i} has another number of columns); "
                               f"{remedy}")
        row.update({column: "" for column in set(columns) - set(header)})
    return rows


def read_masses(path, remedy):
    """{key: log masses [n] float32} of a masses.npz."""
    if not os.path.exists(path):
        raise CommandError(f"{path}: is not there; {remedy}")
    try:
        with np.load(path) as arrays:
            masses = dict(arrays)
    except Exception:  # np.load raises a dozen types for damaged or foreign files
        raise CommandError(f"{path}: is damaged, or no file of arrays; {remedy}") from None
    for key, values in masses.items():
        ndim = 2 if key.endswith(("|tokens", "|strings")) else 1
        floats = values.ndim == ndim and values.size and values.dtype.kind == "f"
        if not floats or not (values < 1e-3).all():   # of probabilities, and their rounding
            raise CommandError(f"{path}: its {key} is no list of log masses; {remedy}")
    return masses


def mark_tripwires(runs):
    """Set `trips` of the runs that have an oracle, by their cell of the grid (task, axis, overlap):
    a base's id mass outside [0.4, 0.95], averaged over seeds; an oracle below 0.9 on edge, averaged
    over all overlaps (a failure there would be the architecture's)."""
    watched = [run for run in runs if run.has("oracle", split="edge")]
    for run in watched:
        place = [r for r in watched if r.place == run.place]
        cell = [r for r in place if r.overlap == run.overlap]
        id_mass = np.mean([r.reach(BASE, "id") for r in cell])
        oracle = np.mean([r.reach("oracle", "edge") for r in place])
        words = []
        if not 0.4 <= id_mass <= 0.95:
            words.append(f"base id {id_mass:.2f}")
        if oracle < 0.9:
            words.append(f"oracle {oracle:.2f}")
        run.trips = ", ".join(words)


# ------------------------------------------------------------------------------------------ writing

def write(folder, runs):
    """Merge runs into the files in folder. A row that is there already is replaced, together with
    its masses; every other one stays. Each file is replaced whole or not at all."""
    os.makedirs(folder, exist_ok=True)
    remedy = "move it away to start afresh"
    table, arrays, steps_table = (os.path.join(folder, name) for name in
                                  ("runs.csv", "masses.npz", "steps.csv"))
    rows = {}
    if os.path.exists(table):
        rows = {key_of(row): row for row in read_csv(table, COLUMNS, remedy)}
    masses = read_masses(arrays, remedy) if os.path.exists(arrays) else {}
    steps = []
    if os.path.exists(steps_table):
        steps = read_csv(steps_table, STEP_COLUMNS, remedy)
    for run in runs:
        for row in rows_of(run):
            rows[key_of(row)] = row
        for (arm, split), cells in run.masses.items():
            for cell, values in cells.items():
                key = "|".join((run.chain, run.task, arm, split, cell))
                masses[key] = np.asarray(values, dtype=np.float32)
                for what in ("strings", "redirected"):
                    masses.pop(f"{key}|{what}", None)   # of a run that this one replaces
                    its = getattr(run, what).get((arm, split), {})
                    if cell in its:
                        masses[f"{key}|{what}"] = np.asarray(its[cell], dtype=np.float32)
        for split, cells in run.tokens.items():
            for cell, log_p in cells.items():
                key = "|".join((run.chain, run.task, BASE, split, cell, "tokens"))
                masses[key] = np.asarray(log_p, dtype=np.float32)
    made = {(run.chain, arm) for run in runs for arm in run.arms}
    steps = [row for row in steps if (row["chain"], row["arm"]) not in made]
    steps += [row for run in runs for row in run.steps]
    write_masses(arrays, masses)
    write_csv(table, COLUMNS, rows.values())
    if steps:
        write_csv(steps_table, STEP_COLUMNS, steps)


def settings(runs):
    """{what: the values that it has in these runs} of what should not differ within a study:
    prompts a cell, steps of pretraining, and steps of the arms."""
    masses = [cells.values() for run in runs for cells in run.masses.values()]
    return {"prompts": {max(map(len, of_cells)) for of_cells in masses},
            "pretraining steps": {run.pretrain_steps for run in runs},
            "steps": {arm.steps for run in runs for arm in run.arms.values()
                      if arm.init and arm.steps}}


def unlike(runs, others):
    """In words, the settings of runs that none of the others has; "" if there are none.

    >>> short, long = (Run("q", "c", "", "", 0, 0.3, steps, "", 0) for steps in (10, 1000))
    >>> unlike([short], [long]), unlike([short], [short])
    ('pretraining steps 10 (there: 1000)', '')
    """
    words, theirs = [], settings(others)
    for what, values in settings(runs).items():
        new = values - theirs[what]
        if new and theirs[what]:
            words.append(f"{what} {listed(new)} (there: {listed(theirs[what])})")
    return "; ".join(words)


def listed(values):
    return ", ".join(map(str, sorted(values)))


def key_of(row):
    return tuple(row[column] for column in KEY)


def rows_of(run):
    """The rows of a run: for every arm and split all cells together, then each."""
    about = {column: getattr(run, column) for column in RUN_COLUMNS}
    for (name, split), cells in run.masses.items():
        arm = {column: getattr(run.arms[name], column) for column in ARM_COLUMNS}
        base = run.masses[BASE, split]
        views = [("all", np.concatenate(list(cells.values())), np.concatenate(list(base.values())))]
        views += [(cell, masses, base[cell]) for cell, masses in cells.items()]
        for cell, masses, before in views:
            numbers = summary(masses, None if name == BASE else before)
            numbers["base_mass"] = float(np.exp(before).mean())
            place = {"arm": name, "split": split, "cell": cell}
            yield {column: written(value)
                   for column, value in {**about, **place, **numbers, **arm}.items()}


def summary(masses, before=None):
    """{column: number} of log masses [n]: exact pass@k, the bootstrap interval over prompts of the
    mean mass, and the share of prompts that fell below `before` [n]."""
    reach = exact_pass_at_k(np.asarray(masses)[:, None], np.array(KS))   # [n, K]
    low, high = bootstrap(reach[:, 0])
    mass, *others = reach.mean(0).tolist()
    fell = None if before is None else float((masses < before - FELL).mean())
    return {"prompts": len(masses), "mass": mass, "low": float(low), "high": float(high),
            **dict(zip(NUMBERS[4:], others)), "fell": fell}


def write_csv(path, columns, rows):
    with open(path + ".tmp", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(path + ".tmp", path)   # all or nothing


def write_masses(path, masses):
    with open(path + ".tmp", "wb") as file:
        np.savez_compressed(file, **masses)
    os.replace(path + ".tmp", path)
