"""Does GRPO teach looking ahead where the base guesses, and does it carry deeper?

A dead end runs on to the goal's layer without reaching the goal: where it leaves a way, only a look
ahead tells it from the way. The base walks well and was never shown a dead end (the walker of
variety.py), so all that it can do is guess: its mass should be that of a walk along listed edges,
each alike likely, that takes the last hop to the goal. That mass is known for each prompt, without
a model: the guess g, about 1/2 here (two ways, two dead ends). Sight is the share of what guessing
misses, (Q - g) / (1 - g): 0 for one who guesses, 1 for one who sees.

GRPO on depths 2 and 3 with two dead ends (id of the axis lookahead), for --grpo-steps and for twice
--law-steps; as long on depth 4 (edge); half as long with k1 in the reward (beta 0.3); and sft, as
many problems as the longest run: what this model could learn. P12 and P11 speak of it: tens of
thousands of right samples are to be expected (P12: takes off), and with the KL the law for one
decision or two leads from a mass of 1/2 to above 0.9 (P11, and P1). Both take for granted that the
policy can raise what is right. One that does not see cannot, and stays at the guess.

Rule, fixed 2026-11-22 before any of these runs; judged on seeds 5 to 7. Intervals are Student t
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
from functools import lru_cache

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
PLACES = [(split, cell) for split in SPLITS for cell in AXES["route"][AXIS][split]]
CALLED = {"base": "base", "grpo-id": "GRPO", "grpo-id-long": "GRPO, longer",
          "grpo-edge-long": "GRPO on depth 4", "k1": "GRPO with a KL", "sft": "shown solutions"}


def jobs(args):
    return [job for seed in seeds(args) for job in of_base(args, *walker(args, seed))]


def of_base(args, reader, base):
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
    return [reader, base, *arms, replace(judged, about={**judged.about, "axis": AXIS})]


# --------------------------------------------------------------------- what a guess makes of it

def chances(prompts):
    """[n, M, depth - 1]: the chance of each hop of each accepted path but the last, if every edge
    that leaves its node is as likely as any other. The last hop is no guess: the goal is known."""
    sources, _, paths = TASKS["route"].parse(prompts)
    rows = np.arange(len(paths))[:, None]
    ways_on = np.zeros((len(paths), len(VOCAB)))
    np.add.at(ways_on, (rows, sources), 1)
    return 1 / ways_on[rows[:, None], paths[:, :, :-2]]


@lru_cache(maxsize=None)
def chances_at(cell, n):
    """The chances in the n evaluation prompts of a cell."""
    return chances(eval_problems("route", cell, n).prompts)


def guess_at(run, split, cell):
    """Mean mass of right answers of one who walks along edges at random; nan if the run has no such
    cell."""
    masses = run.masses.get(("base", split), {})
    if str(cell) not in masses:
        return math.nan
    return float(chances_at(cell, len(masses[str(cell)])).prod(2).sum(1).mean())


def mass_at(run, arm, split, cell):
    """An arm's mean mass at a cell; nan if it has none."""
    masses = run.masses.get((arm, split), {})
    return float(np.exp(masses[str(cell)]).mean()) if str(cell) in masses else math.nan


def guess(run, split):
    """Mean guess over the prompts of a split, cells weighing alike."""
    return float(np.mean([guess_at(run, split, cell) for cell in AXES["route"][AXIS][split]]))


def sight(run, arm, split):
    """Share of what guessing misses that the arm gets right; nan if there is no such arm."""
    g = guess(run, split)
    return (run.reach(arm, split) - g) / (1 - g)


# -------------------------------------------------------------------------------------- verdicts

def verdicts(runs):
    runs = judgeable(runs)
    taught = teaches(runs)
    return [base_guesses(runs), taught, carries(runs, taught.verdict), enough_samples(runs),
            blind_law(runs)]


def judgeable(runs):
    return [run for run in runs if run.axis == AXIS and run.has("base", split="id")]


def base_guesses(runs):
    more = by_seed(runs, lambda r: r.reach("base", "id") - guess(r, "id"))
    if not more:
        return Verdict(GUESSES, "not run")
    return Verdict(GUESSES, decide(more, yes=inside(CLOSE), no=outside(CLOSE)),
                   f"mass minus guess {pm(more)}", choices(runs), n_seeds(runs),
                   "Probability of the first way's next node, where its hop is a choice.")


def choices(runs):
    """Rows: the base's probability at each choice along the first way, and that of a guess."""
    table = [["cell", "hop", "the base", "a guess"]]
    for split, cell in PLACES:
        these = [run for run in runs if str(cell) in run.tokens.get(split, {})]
        for hop in range(cell.depth - 1 if these else 0):
            base = by_seed(these, lambda r: at_choice(r.tokens[split][str(cell)], hop))
            n = len(these[0].masses["base", split][str(cell)])
            alike = chances_at(cell, n)[:, 0, hop].mean()
            table.append([str(cell), str(hop + 1), pm(base, ".3f"), f"{alike:.3f}"])
    return table


def at_choice(log_p, hop):
    """Mean probability of the node that a hop leads to, from log p [n, S] of all tokens `; u v`."""
    return float(np.exp(log_p[:, 3 * hop + 2]).mean())


def teaches(runs):
    seen = by_seed(runs, lambda r: sight(r, "grpo-id-long", "id"))
    if not seen:
        return Verdict(TAUGHT, "not run")
    table = [["mass at", *(f"depth {cell.depth}" for _, cell in PLACES)],
             ["a guess", *(f"{guess_at(runs[0], *place):.3f}" for place in PLACES)]]
    for arm, label in CALLED.items():
        table.append([label, *(pm(by_seed(runs, lambda r: mass_at(r, arm, *place)), "p")
                               for place in PLACES)])
    return Verdict(TAUGHT, decide(seen, yes=above(HALF), no=below(HALF)),
                   f"sight {pm(seen, '.2f')}", table, n_seeds(runs))


def carries(runs, taught):
    runs = [run for run in runs if run.has("base", "grpo-id-long", split="edge")
            and run.reach("base", "edge") > guess(run, "edge") / 2]
    more = by_seed(runs, lambda r: sight(r, "grpo-id-long", "edge") - sight(r, "base", "edge"))
    if not more:
        return Verdict(CARRIES, "not run")
    word = decide(more, yes=above(CARRIED), no=below(CARRIED))
    if taught != "supported":
        word = "undecided"
    return Verdict(CARRIES, word, f"sight on edge {pm(more, '+.2f')}", n_seeds=n_seeds(runs))


def trials(runs):
    """[(split, E, rise of the mass)] of every run of GRPO without a KL."""
    found = []
    for run in runs:
        for arm in run.arms_where(method="grpo", kl="none"):
            split = arm.train_on
            expected = run.budget(arm.name) * run.reach("base", split)
            found.append((split, expected, run.gain(arm.name, split)))
    return found


def enough_samples(runs):
    found = trials(runs)
    if not found:
        return Verdict(ENOUGH, "not run")
    right = [(rise > ROSE) == (expected > EXPECTED) for _, expected, rise in found]
    word = "undecided"
    if n_seeds(runs) > 1 and all(right):
        word = "supported"
    if n_seeds(runs) > 1 and np.mean(right) < 0.7:
        word = "refuted"
    table = [["trained on", "right samples to expect", "rise of the mass"]]
    table += [[split, f"{expected:,.0f}", f"{rise:+.3f}"] for split, expected, rise in found]
    return Verdict(ENOUGH, word, f"P12 is right for {sum(right)} of {len(found)} runs", table,
                   n_seeds(runs))


def blind_law(runs):
    runs = [run for run in runs if run.has("k1", split="id")]
    if not runs:
        return Verdict(LAWS, "not run")
    points = [(run.seed, cell.depth, mass_at(run, "k1", "id", cell), predictions(run, cell))
              for run in runs for cell in AXES["route"][AXIS]["id"]]
    errors = {law: rms_by_seed(points, lambda p: to_logit(p[2]) - to_logit(p[3][law]),
                               seed=lambda p: p[0]) for law in points[0][3]}
    nearest = min(errors, key=lambda law: np.mean(errors[law]))
    numbers = "; ".join(f"{law}: {pm(values, '.2f')} logits off" for law, values in errors.items())
    table = [["depth", "seed", "ended", *errors]]
    for seed, depth, end, laws in sorted(points, key=lambda p: (p[1], p[0])):
        table.append([str(depth), str(seed), f"{end:.3f}", *(f"{q:.3f}" for q in laws.values())])
    return Verdict(LAWS, decide(errors["P11"], yes=below(LOGITS), no=above(LOGITS)),
                   f"{numbers}; nearest: {nearest}", table, n_seeds(runs))


def predictions(run, cell):
    """{law: mean mass} of where GRPO with the KL should end at a cell, from the base's masses."""
    log_masses = run.masses["base", "id"][str(cell)]
    return {"P11": float(np.mean([blind(q, BETA, n=cell.depth - 1)[0] for q in log_masses])),
            "P1": float(tilted(log_masses, BETA).mean()),
            "standing still": float(np.exp(log_masses).mean())}


def to_logit(mass):
    return float(logit(math.log(mass)))


# ---------------------------------------------------------------------------------------- figure

def figure(runs):
    """Mass against depth, beside the mass of a guess."""
    runs = judgeable(runs)
    if not runs:
        return None
    depths = [cell.depth for _, cell in PLACES]
    fig, axes = draw.panels(1, 1, 3.2)
    ax = axes[0, 0]
    looks = {"base": draw.Look(draw.BLACK, "o", "-", "base, never shown a dead end"),
             "grpo-id-long": draw.Look(draw.ORANGE, "^", "-.", "after GRPO on depths 2 and 3"),
             "grpo-edge-long": draw.Look(draw.BLUE, "s", "--", "after GRPO on depth 4"),
             "sft": draw.Look(draw.PURPLE, "D", ":", "after being shown depths 2 and 3")}
    for arm, look in looks.items():
        values = [by_seed(runs, lambda r: mass_at(r, arm, *place)) for place in PLACES]
        draw.bars(ax, depths, values, look, limits=(0, 1))
    ax.plot(depths, [guess_at(runs[0], *place) for place in PLACES], color=draw.GREY, lw=6,
            alpha=0.4, label="a guess at every fork")
    ax.set(xlabel="depth of the graph (each with two dead ends)", xticks=depths,
           ylabel="probability of a right answer", ylim=(-0.03, 1.03))
    ax.legend(fontsize=7)
    fig.suptitle("Does GRPO teach looking ahead, or does it go on guessing? (± 95 % over seeds)")
    return fig
