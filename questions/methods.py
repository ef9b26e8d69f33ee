"""Does another method reach what GRPO does not?

Every variant that sees no more than the outcome and the trace, from shared bases that never saw the
edge (overlap 0) or saw it once in a hundred problems, trained on id and edge in equal parts, at as
many rollouts as GRPO. The paper of the crossover (2504.13837) found that all RL methods it tried
are alike, that none reaches beyond the base, and that distillation does. All three can be asked
exactly here. A method's control is GRPO with as many updates on each batch of rollouts, for the
second update alone is worth something. Each method runs at its own defaults and at the best of
three learning rates, chosen on seed 0. sft and distill see more, and are no RL.

Rule, fixed 2026-11-21, before its runs; seeds 3 to 5. Reach: a cell counts only where the base's
exact pass@1024 on edge is below 0.9. In those, every RL method's exact pass@k on edge, k = 1024 and
2^20, minus the base's, and minus its control's: supported if one comparison has a mean above +2
points and a p-value (one-sided) below 0.05 after Holm's correction for all of the table; refuted if
every interval lies below +2 points. Judged again without the methods that aim elsewhere: passk (to
cover a prompt, not to be right), w_reinforce and ngrpo (what is wrong, first), unlikely (rare
answers), format_length (never looks at the answer), and ton (learns when to skip).
Difference: mass on id; seeds share their base, so the labels of the methods are permuted within a
seed (2000 times); a cell supports if p < 0.05 and the methods' means spread (std) more than a
method's seeds do, refutes if p > 0.05 and they spread less; the verdict is what all cells that
decide agree on. Distillation: exact pass@1024 on edge after distillation minus that of the best RL
method on the same base: a cell supports if the interval lies above +2 points, refutes if below,
with the same agreement.
"""
import math

import numpy as np

from cli import show_k
from lab import draw
from lab.jobs import chain, enough, pretraining, seeds, tuning
from lab.judge import POINTS, Verdict, above, below, by_seed, cells, decide, holm, n_seeds
from lab.judge import over_seeds, p_value, pm, unanimous

ORDER = 13
REACH = "Some RL method reaches what the base does not"
MORE = "Some RL method reaches what GRPO with as many updates does not"
DIFFER = "RL methods differ by more than seeds do"
DISTILL = "Distillation expands what RL does not"
TABLE = "Every method from the same bases"
NOT_RL = ("sft", "rft", "superhf", "distill")   # they imitate: gold, themselves, a teacher
ELSEWHERE = ("passk", "w_reinforce", "ngrpo", "unlikely", "format_length", "ton")
REACHED = 0.9            # of the edge by pass@1024: there is nothing to expand
TRIES = (1024, 2 ** 20)  # k
METHODS = (
    "grpo", "dr_grpo", "rloo", "remax", "reinforce_pp", "reinforce_pp_baseline", "dapo", "gspo",
    "cispo", "ppo", "w_reinforce", "passk", "rft", "balanced", "resets", "acereason", "apohf",
    "branch", "care", "cures", "dcpo", "disco", "format_length", "grpo_lambda", "gtpo", "guard",
    "hicra", "knapsack", "long_short", "ngrpo", "prorl", "reg", "rest_rl", "seed", "spo",
    "spo_chain", "superhf", "tempflow", "tempo", "ton", "unlikely", "xrpo")
PLACES = (("arithmetic", "depth"), ("arithmetic", "composition"), ("graph", "length"))
OVERLAPS = (0.0, 0.01)


def jobs(args):
    found = []
    rollouts = args.grpo_steps * 32 * 16
    for seed in seeds(args):
        for task, axis in PLACES:
            # distillation's teacher is clean, and saw the edge as often as the id cells
            steps = enough(args, task, axis)
            teacher = pretraining(args, seed, task, axis, overlap=0.5, noise=0.0, steps=steps)
            found.append(teacher)
            for overlap in OVERLAPS:
                base = pretraining(args, seed, task, axis, overlap=overlap, steps=steps)
                found += chain(args, base, arms(args, base, teacher, rollouts),
                               splits=("id", "edge"))
    return found


def arms(args, base, teacher, rollouts):
    """Everything that is trained from one base."""
    budget = ["--train-on", "mix", "--budget-rollouts", str(rollouts)]
    longest = 4 * args.grpo_steps   # the budget ends every run before this

    def rival(name, method, flags=(), **more):
        return tuning(args, base, f"rival-{name}", ["--method", method, *budget, *flags], longest,
                      **more)

    taught = ["--teacher", teacher.out]
    return [*(rival(method, method) for method in METHODS),
            rival("grpo-twice", "grpo", ["--epochs", "2"]),
            rival("distill", "distill", taught, needs=[teacher]),
            rival("distill-16", "distill", [*taught, "--group-size", "16"], needs=[teacher]),
            tuning(args, base, "rival-sft", ["--method", "sft", "--train-on", "mix"])]


def verdicts(runs):
    alike = [run for run in runs if run.reach("base", "edge", 1024) <= REACHED]
    less = "without those that aim elsewhere"
    return [beyond(REACH, alike, base_of), beyond(f"{REACH}, {less}", alike, base_of, ELSEWHERE),
            beyond(MORE, alike, control), beyond(f"{MORE}, {less}", alike, control, ELSEWHERE),
            methods_differ(DIFFER, runs), methods_differ(f"{DIFFER}, {less}", runs, ELSEWHERE),
            distillation_expands(alike), everything(runs)]


# ------------------------------------------------------------------------ what is held against what

def leaked(runs):
    """Those of bases that saw a little of the edge, and not so much that nothing is left to get."""
    return [run for run in runs
            if run.overlap > 0 and run.reach("base", "edge", 1024) <= REACHED]


def label(arm):
    """What a row is called: the method, and what is not its default."""
    if arm.method == "grpo" and updates(arm) == 2:
        return "grpo, two updates"
    if arm.method == "distill" and arm.group_size == 16:
        return "distill, as many updates"
    return arm.method


def updates(arm):
    return arm.epochs or 1   # a method that has no such flag makes one


def methods(runs, rl=False, but=()):
    """{label: arm's name}, in the order in which they were recorded; rl: without NOT_RL."""
    left_out = {*but, *(NOT_RL if rl else ())}
    return {label(arm): arm.name for run in runs for arm in run.arms.values()
            if arm.method not in {"pretrain", *left_out}}


def base_of(run, arm):
    return "base"


def control(run, arm):
    """The name of GRPO with as many updates as this arm; "" if it did not run, or if it is that."""
    for other in run.arms_where(method="grpo"):
        if updates(other) == updates(run.arms[arm]) and other.name != arm:
            return other.name
    return ""


def more(run, arm, split, k, than):
    """What an arm reaches beyond another, than(run, arm); nan if one of the two is not there."""
    if arm not in run.arms:
        return math.nan
    return run.reach(arm, split, k) - run.reach(than(run, arm), split, k)


# --------------------------------------------------------------------------------------- the claims

def beyond(claim, runs, than, but=()):
    """Is there a method with more exact pass@k on edge?"""
    gains = {}
    for cell, these in cells(runs).items():
        for name, arm in methods(these, rl=True, but=but).items():
            for k in TRIES:
                values = by_seed(these, lambda r: more(r, arm, "edge", k, than))
                if values:
                    gains[cell, k, name] = values
    word, p = exceeds(list(gains.values()))
    p = dict(zip(gains, p))
    table = [["cell", "k", "method with the largest gain", "gain", "p (Holm)", "above, below +2"]]
    for cell, k in dict.fromkeys(key[:2] for key in gains):
        here = {key: values for key, values in gains.items() if key[:2] == (cell, k)}
        best = max(here, key=lambda key: np.mean(here[key]))
        words = [decide(values, yes=above(POINTS), no=below(POINTS)) for values in here.values()]
        table.append([cell, show_k(k), best[2], pm(here[best]), f"{p[best]:.3f}",
                      f"{words.count('supported')}, {words.count('refuted')} of {len(words)}"])
    numbers = f"{len(gains)} comparisons"
    if gains:
        best = max(gains, key=lambda key: np.mean(gains[key]))
        numbers += f"; the largest: {best[2]}, {best[0]}, k {show_k(best[1])}: {pm(gains[best])}"
    return Verdict(claim, word, numbers if gains else "", table if gains else [],
                   n_seeds(runs) if gains else 0)


def exceeds(comparisons):
    """(verdict, Holm's p-values) on "one of them exceeds 2 points", from their numbers per seed.

    >>> exceeds([[0.10, 0.12, 0.09], [0.01, 0.0, 0.0]])[0], exceeds([[0.01, 0.0, 0.0]])[0]
    ('supported', 'refuted')
    >>> exceeds([[0.10, 0.12, 0.09], *[[0.03, -0.03, 0.0]] * 40])[0]    # p 0.006, times 41
    'undecided'
    """
    p = holm([chance(values) for values in comparisons])
    if not comparisons:
        return "not run", p
    if any(np.mean(values) > POINTS and x < 0.05 for values, x in zip(comparisons, p)):
        return "supported", p
    words = {decide(values, yes=above(POINTS), no=below(POINTS)) for values in comparisons}
    return "refuted" if words == {"refuted"} else "undecided", p


def chance(values):
    """One-sided p-value of the t test that a mean over seeds is no more than 2 points."""
    if len(values) < 2:
        return 1.0
    two_sided = p_value(values, POINTS)
    return two_sided / 2 if np.mean(values) > POINTS else 1 - two_sided / 2


def methods_differ(claim, runs, but=()):
    words, numbers, most = [], [], 0
    table = [["cell", "std of the methods' means", "std over seeds of a method, mean",
              "p (permutation)", "this cell"]]
    for cell, these in cells(runs).items():
        names = methods(these, rl=True, but=but).values()
        complete = [r for r in these if r.has(*names, split="id")]
        if len(names) < 2 or not complete:
            continue
        x = np.array([[r.reach(arm, "id") for arm in names] for r in complete])  # [seeds, methods]
        between, within, p = spread(x)
        words.append(differ(len(x), between, within, p))
        most = max(most, len(x))
        numbers.append(f"{cell}: {between:.3f} between methods, {within:.3f} between seeds")
        table.append([cell, f"{between:.3f}", f"{within:.3f}", f"{p:.3f}", words[-1]])
    return Verdict(claim, unanimous(words), "; ".join(numbers), table if words else [], most)


def spread(x, draws=2000):
    """(std of the methods' means, mean std of a method's seeds, permutation p) of x [seeds,
    methods]: how often do labels shuffled within each seed spread the means as much?"""
    rng = np.random.default_rng(0)
    between = x.mean(0).std(ddof=1)
    shuffled = [rng.permuted(x, axis=1).mean(0).std(ddof=1) for _ in range(draws)]
    p = (1 + sum(np.array(shuffled) >= between)) / (1 + draws)
    within = x.std(0, ddof=1).mean() if len(x) > 1 else math.nan
    return between, within, p


def differ(n, between, within, p):
    if n > 1 and p < 0.05 and between > within:
        return "supported"
    if n > 1 and p > 0.05 and between < within:
        return "refuted"
    return "undecided"


def distillation_expands(runs):
    words, numbers, most = [], [], 0
    table = [["cell", "base", "best RL method", "distill", "seeds"]]
    for cell, these in cells(runs).items():
        names = methods(these)
        if "distill" not in names or not methods(these, rl=True):
            continue
        distilled = by_seed(these, lambda r: r.reach(names["distill"], "edge", 1024))
        gain = by_seed(these, lambda r: r.reach(names["distill"], "edge", 1024) - best_of_rl(r))
        words.append(decide(gain, yes=above(POINTS), no=below(POINTS)))
        most = max(most, len(gain))
        numbers.append(f"{cell}: {pm(gain)}")
        table.append([cell, pm(by_seed(these, lambda r: r.reach("base", "edge", 1024)), "p"),
                      pm(by_seed(these, best_of_rl), "p"), pm(distilled, "p"),
                      str(n_seeds(these))])
    return Verdict(DISTILL, unanimous(words), "; ".join(numbers), table if words else [], most)


def best_of_rl(run):
    return max(run.reach(arm, "edge", 1024) for arm in methods([run], rl=True).values())


# ------------------------------------------------------------------------------- one row per method

def ranked(runs):
    """[(label, arm's name)] by mean mass on id over all cells, the highest first."""
    means = {pair: by_seed(runs, lambda r: r.reach(pair[1], "id"))
             for pair in methods(runs).items()}
    return sorted((pair for pair in means if means[pair]), key=lambda pair: -np.mean(means[pair]))


def everything(runs):
    """The ranking: id over all cells, and the edge of each."""
    there = cells(runs)
    table = [["", "method", "updates", "rollouts", "id pass@1", "more than its control",
              *(f"edge pass@1, {cell}" for cell in there),
              *(f"edge pass@1024, {cell}" for cell in there)]]
    for rank, (name, arm) in enumerate([("base", "base"), *ranked(runs)]):
        about = [r.arms[arm] for r in runs if arm in r.arms]
        spent = [a.rollouts for a in about if a.rollouts is not None]
        gain = by_seed(runs, lambda r: more(r, arm, "id", 1, control))
        row = [str(rank or ""), name, str(updates(about[0])) if rank else "",
               f"{np.mean(spent):,.0f}" if spent else "",
               pm(by_seed(runs, lambda r: r.reach(arm, "id")), "p"),
               pm(gain) if gain and rank else ""]
        for k in (1, 1024):
            row += [pm(by_seed(these, lambda r: r.reach(arm, "edge", k)), "p")
                    for these in there.values()]
        table.append(row)
    if len(table) == 2 or not runs:
        return Verdict(TABLE, "not run")
    return Verdict(TABLE, "a table", f"{len(methods(runs))} rows of methods", table,
                   n_seeds(runs), "Means over cells and seeds, ± over seeds. A method's "
                   "control is GRPO with as many updates on each batch.")


def figure(runs):
    """One row per method: mass on id and on the edge that one problem in a hundred showed."""
    order = ranked(runs)
    if not order:
        return None
    some = leaked(runs)
    columns = [("mass on id, all cells", runs, 1)]
    if some:
        where = " and ".join(sorted({r.place for r in some}))
        columns += [(f"edge of {where},\n1 % leaked: pass@1", some, 1),
                    ("the same: pass@1024", some, 1024)]
    fig, axes = draw.panels(1, len(columns), 0.6 + 0.14 * len(order), sharey=True)
    rows = -np.arange(len(order))
    for ax, (title, these, k) in zip(axes[0], columns):
        split = "id" if these is runs else "edge"
        start, half = over_seeds(by_seed(these, lambda r: r.reach("base", split, k)))
        ax.axvline(start, color=draw.BLACK, lw=1, label="base")
        for y, (name, arm) in zip(rows, order):
            values = by_seed(these, lambda r: r.reach(arm, split, k))
            if values:
                mean, down, up = draw.interval(values, (0, 1))
                ax.errorbar([mean], [y], xerr=[[down], [up]], marker="o", ms=3.5, capsize=1.5,
                            lw=1, color=color_of(name))
        ax.set(title=title, xlim=(-0.03, 1.03), ylim=(rows[-1] - 0.7, 0.7), yticks=rows)
    axes[0, 0].set_yticklabels([name for name, _ in order], fontsize=6.5)
    axes[0, 0].legend(loc="lower left")
    return fig


def color_of(name):
    """GRPO's rows, those that see more than RL does, and all others."""
    if name.startswith("grpo") and name != "grpo_lambda":
        return draw.BLUE
    return draw.GREEN if name.startswith(("sft", "distill")) else draw.ORANGE
