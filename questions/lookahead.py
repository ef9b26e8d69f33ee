"""Does GRPO teach looking ahead where the base guesses, and does it carry deeper?

A dead end runs on to the goal's layer without reaching the goal: where it leaves a way, only a look
ahead tells it from the way. The base walks well and was never shown a dead end (the walker of
variety.py), so all that it can do is guess: its mass should be that of a walk along listed edges,
each alike likely, that takes the last hop to the goal. That mass is known for each prompt, without
a model: the guess g, about 1/2 here (two ways, two dead ends). Sight is the share of what guessing
misses, (Q - g) / (1 - g): 0 for one who guesses, 1 for one who sees.

GRPO on depths 2 and 3 with two dead ends (id of the axis lookahead), for --grpo-steps and for twice
--law-steps; as long on depth 4 (edge); half as long with k1 in the reward (beta 0.3); and sft, as
many problems as the longest run: what this model could learn. P12 and P11 speak of it: tens of thousands of right samples
are to be expected (P12: takes off), and with the KL the law for one decision or two leads from a
mass of 1/2 to above 0.9 (P11, and P1). Both take for granted that the policy can raise what is
right. One that does not see cannot, and stays at the guess.

Rule, fixed 2026-11-22 before any of these runs; judged on seeds 3 and up. Intervals are Student t
over seeds; means are over a split's prompts, cells alike. Guesses: the base's mean mass minus the
mean guess, on id: supported if the interval lies inside ±0.15, refuted if outside. Taught: sight on
id after the longer run of GRPO on id: supported if the interval lies above 1/2, refuted if below.
Carries: sight on edge after that run minus the base's: supported if the interval lies above 0.1,
refuted if below; undecided unless Taught is supported, and not run where the base has less than
half of the guess on edge (it cannot walk that far). P12: each run of GRPO on a split (id: 60 steps,
long; edge: long), E its rollouts times Q0 on that split; E > 2 says that the mass rises by more
than 0.05; supported if all runs of at least two seeds do as P12 says, refuted if fewer than 7 of 10
do. P11: where the run with k1 ends on id, in the logit of the mean mass, against three
predictions from the base's masses, cell by cell: the blind law (P11; depth - 1 equal decisions),
tilting (P1) and standing still. Supported if P11's error (root mean square over cells) has an
interval below 0.5, refuted if above; which of the three is nearest is told beside it.
"""
import math
from dataclasses import replace

import numpy as np

from lab import draw
from lab.jobs import evaluation, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, decide, inside, n_seeds, outside, pm
from lab.judge import rms_by_seed
from measure import eval_problems
from questions.variety import walker
from tasks import AXES, SPLITS, TASKS, VOCAB
from theory import blind, logit, tilted

ORDER = 28
GUESSES = "A base that never saw a dead end guesses"
TAUGHT = "GRPO teaches it to look ahead"
CARRIES = "Looking ahead carries to a deeper graph"
ENOUGH = "P12: where right samples are to be expected, GRPO takes off, though it must see first"
LAWS = "P11: with a KL, GRPO ends where the blind law says"
AXIS = "lookahead"
BETA = 0.3
CLOSE, HALF, CARRIED = 0.15, 0.5, 0.1   # mass, sight, sight
EXPECTED, ROSE = 2, 0.05                # right samples (P12); mass
LOGITS = 0.5
CALLED = {"base": "base", "grpo-id": "GRPO", "grpo-id-long": "GRPO, longer",
          "grpo-edge-long": "GRPO on depth 4", "k1": "GRPO with a KL", "sft": "shown solutions"}


def jobs(args):
    return [job for seed in seeds(args) for job in of_base(args, walker(args, seed))]


def of_base(args, base):
    """The walker, its arms on problems with dead ends, and all of them judged there."""
    def arm(name, split, flags=(), steps=2 * args.law_steps):
        return tuning(args, base, name, ["--axis", AXIS, "--train-on", split, *flags], steps)

    arms = [arm("grpo-id", "id", steps=args.grpo_steps),
            arm("grpo-id-long", "id"),
            arm("grpo-edge-long", "edge"),
            arm("k1", "id", ["--kl", "k1_reward", "--beta", f"{BETA:g}", "--scale", "none"],
                args.law_steps),
            arm("sft", "id", ["--method", "sft"])]
    flags = ["--axis", AXIS, "--cold", "--per-token", "id", "edge"]
    judged = evaluation(args, base, arms, flags)
    return [base, *arms, replace(judged, about={**judged.about, "axis": AXIS})]


# ------------------------------------------------------------------------------- what a guess makes

def chances(prompts):
    """[n, M, depth - 1]: the chance of each hop of each accepted path but the last, if every edge
    that leaves its node is as likely as any other. The last hop is no guess: the goal is known."""
    sources, _, paths = TASKS["route"].parse(prompts)
    n = len(paths)
    ways_on = np.zeros((n, len(VOCAB)))
    np.add.at(ways_on, (np.arange(n)[:, None], sources), 1)
    nodes = paths[:, :, :-2]
    return 1 / ways_on[np.arange(n)[:, None, None], nodes]


def guesses(prompts):
    """[n]: the mass of right answers of one who walks along edges at random."""
    return chances(prompts).prod(2).sum(1)


def cells_of(split):
    """{name: Cell} of a split."""
    return {str(cell): cell for cell in AXES["route"][AXIS][split]}


def guess(run, split):
    """Mean guess over the prompts of a split, cells weighing alike."""
    cells = run.masses["base", split]
    return float(np.mean([guesses(prompts_of(split, cell, len(log_masses))).mean()
                          for cell, log_masses in cells.items()]))


def prompts_of(split, cell, n):
    """The n evaluation prompts of the cell of that name."""
    return eval_problems("route", cells_of(split)[cell], n).prompts


def sight(run, arm, split):
    """Share of what guessing misses that the arm gets right; nan if there is no such arm."""
    g = guess(run, split)
    return (run.reach(arm, split) - g) / (1 - g)


# ----------------------------------------------------------------------------------------- verdicts

def verdicts(runs):
    runs = [run for run in runs if run.axis == AXIS and run.has("base", split="id")]
    taught = teaches(runs)
    return [base_guesses(runs), taught, carries(runs, taught.verdict), enough_samples(runs),
            blind_law(runs)]


def judged(claim, word, numbers, runs, table=(), note=""):
    if word == "not run":
        return Verdict(claim, word)
    return Verdict(claim, word, numbers, list(table), n_seeds(runs), note)


def base_guesses(runs):
    more = by_seed(runs, lambda r: r.reach("base", "id") - guess(r, "id"))
    word = decide(more, yes=inside(CLOSE), no=outside(CLOSE))
    numbers = f"mass minus guess {pm(more)}" if more else ""
    return judged(GUESSES, word, numbers, runs, choices(runs),
                  "Probability of the first way's next node, where its hop is a choice.")


def choices(runs):
    """Rows: the base's probability at each choice along the first way, and that of a guess."""
    table = [["cell", "hop", "the base", "a guess"]]
    for split in SPLITS:
        for name, cell in cells_of(split).items():
            these = [run for run in runs if name in run.tokens.get(split, {})]
            for hop in range(cell.depth - 1 if these else 0):
                at = 2 + 3 * hop   # the column of the hop's next node
                base = by_seed(these, lambda r: np.exp(r.tokens[split][name][:, at]).mean())
                alike = by_seed(these, lambda r: chances(prompts_of(
                    split, name, len(r.masses["base", split][name])))[:, 0, hop].mean())
                table.append([name, str(hop + 1), pm(base, "p"), pm(alike, "p")])
    return table if len(table) > 1 else []


def teaches(runs):
    seen = by_seed(runs, lambda r: sight(r, "grpo-id-long", "id"))
    word = decide(seen, yes=above(HALF), no=below(HALF))
    table = [["model", *(f"depth {cell.depth}: mass" for cell in every_cell().values())]]
    table.append(["a guess", *(pm(by_seed(runs, lambda r: guess_at(r, name)), "p")
                               for name in every_cell())])
    for arm, label in CALLED.items():
        table.append([label, *(pm(by_seed(runs, lambda r: mass_at(r, arm, name)), "p")
                               for name in every_cell())])
    return judged(TAUGHT, word, f"sight {pm(seen, '.2f')}", runs, table)


def every_cell():
    """{name: Cell} of all splits, from the shallowest on."""
    return {name: cell for split in SPLITS for name, cell in cells_of(split).items()}


def mass_at(run, arm, name):
    """An arm's mean mass at a cell; nan if it has none."""
    for split in SPLITS:
        masses = run.masses.get((arm, split), {})
        if name in masses:
            return float(np.exp(masses[name]).mean())
    return math.nan


def guess_at(run, name):
    for split in SPLITS:
        masses = run.masses.get(("base", split), {})
        if name in masses:
            return float(guesses(prompts_of(split, name, len(masses[name]))).mean())
    return math.nan


def carries(runs, taught):
    runs = [run for run in runs if run.has("base", "grpo-id-long", split="edge")
            and run.reach("base", "edge") > guess(run, "edge") / 2]
    more = by_seed(runs, lambda r: sight(r, "grpo-id-long", "edge") - sight(r, "base", "edge"))
    word = decide(more, yes=above(CARRIED), no=below(CARRIED))
    if more and taught != "supported":
        word = "undecided"
    return judged(CARRIES, word, f"sight on edge {pm(more)}" if more else "", runs)


def trials(runs):
    """[(run, split, E, rise of the mass)] of every run of GRPO without a KL."""
    found = []
    for run in runs:
        for arm in run.arms_where(method="grpo", kl="none"):
            split = arm.train_on
            if run.has("base", arm.name, split=split):
                expected = run.budget(arm.name) * run.reach("base", split)
                found.append((run, split, expected, run.gain(arm.name, split)))
    return found


def enough_samples(runs):
    found = trials(runs)
    if not found:
        return Verdict(ENOUGH, "not run")
    right = [(rise > ROSE) == (expected > EXPECTED) for _, _, expected, rise in found]
    word = "undecided"
    if n_seeds(runs) > 1 and all(right):
        word = "supported"
    if n_seeds(runs) > 1 and np.mean(right) < 0.7:
        word = "refuted"
    table = [["trained on", "right samples to expect", "rise of the mass"]]
    table += [[split, f"{expected:,.0f}", f"{rise:+.3f}"] for _, split, expected, rise in found]
    return Verdict(ENOUGH, word, f"P12 is right for {sum(right)} of {len(found)} runs", table,
                   n_seeds(runs))


def blind_law(runs):
    runs = [run for run in runs if run.has("base", "k1", split="id")]
    if not runs:
        return Verdict(LAWS, "not run")
    points = [(run.seed, cell, ended(run, name), predictions(run, name, cell.depth))
              for run in runs for name, cell in cells_of("id").items()]
    errors = {law: rms_by_seed(points, lambda p: to_logit(p[2]) - to_logit(p[3][law]),
                               seed=lambda p: p[0]) for law in points[0][3]}
    nearest = min(errors, key=lambda law: np.mean(errors[law]))
    word = decide(errors["P11"], yes=below(LOGITS), no=above(LOGITS))
    numbers = "; ".join(f"{law}: {pm(values, '.2f')} logits off" for law, values in errors.items())
    table = [["depth", "seed", "base", "ended", "P11", "P1"]]
    for seed, cell, end, law in sorted(points, key=lambda p: (p[1].depth, p[0])):
        masses = law["standing still"], end, law["P11"], law["P1"]
        table.append([str(cell.depth), str(seed), *(f"{q:.3f}" for q in masses)])
    return Verdict(LAWS, word, f"{numbers}; nearest: {nearest}", table, n_seeds(runs))


def ended(run, name):
    return mass_at(run, "k1", name)


def predictions(run, name, depth):
    """{law: mean mass} of where GRPO with the KL should end at a cell, from the base's masses."""
    log_masses = run.masses["base", "id"][name]
    return {"P11": float(np.mean([blind(q, BETA, n=depth - 1)[0] for q in log_masses])),
            "P1": float(tilted(log_masses, BETA).mean()),
            "standing still": float(np.exp(log_masses).mean())}


def to_logit(mass):
    return float(logit(math.log(mass)))


# ------------------------------------------------------------------------------------------- figure

def figure(runs):
    """Mass against depth, beside the mass of a guess."""
    runs = [run for run in runs if run.axis == AXIS and run.has("base", split="id")]
    if not runs:
        return None
    names, depths = list(every_cell()), [cell.depth for cell in every_cell().values()]
    fig, axes = draw.panels(1, 1, 3.2)
    ax = axes[0, 0]
    looks = {"base": draw.Look(draw.BLACK, "o", "-", "base, never shown a dead end"),
             "grpo-id-long": draw.Look(draw.ORANGE, "^", "-.", "after GRPO on depths 2 and 3"),
             "grpo-edge-long": draw.Look(draw.BLUE, "s", "--", "after GRPO on depth 4"),
             "sft": draw.Look(draw.PURPLE, "D", ":", "after being shown solutions, 2 and 3")}
    for arm, look in looks.items():
        values = [by_seed(runs, lambda r: mass_at(r, arm, name)) for name in names]
        draw.bars(ax, depths, values, look, limits=(0, 1))
    alike = [np.mean([guess_at(run, name) for run in runs]) for name in names]
    ax.plot(depths, alike, color=draw.GREY, lw=6, alpha=0.4, label="a guess at every fork")
    ax.set(xlabel="depth of the graph (every one has dead ends)", xticks=depths,
           ylabel="probability of a right answer", ylim=(-0.03, 1.03))
    ax.legend(fontsize=7)
    fig.suptitle("Does GRPO teach looking ahead, or does it go on guessing? (± 95 % over seeds)")
    return fig
