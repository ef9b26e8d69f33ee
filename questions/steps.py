"""What do more steps, or colder rollouts, buy at as many rollouts?

The same 30,720 completions, in groups of 16, can be spent on 15 large steps, 60 or 240 small ones.
Small steps see more noise and move more often: an optimiser like Adam moves about as far at each of
them, however sure it is. And rollouts can be drawn colder: a base whose most likely answer is right
then finds more right samples, which is what take-off needs (prediction P12); but what it learns is
the colder policy, and has to survive at temperature 1, at which all is measured here.

Rule, fixed 2026-11-21; judged on seeds 3 to 7. Arithmetic depth with overlap 0.01 and 0.03. Steps:
slope of the logit shift (mean over prompts, mean over the two bases) on log4 of the steps, of edge
after GRPO on edge and of id after GRPO on id: supported if both intervals lie above 0, refuted if
one lies below. Temperature: the edge's logit shift after GRPO on edge at 0.7 minus that at 1.3:
supported if the interval lies above 0, refuted if below.
"""
import math

from lab import draw
from lab.jobs import chain, on, seeds, tuning
from lab.judge import Verdict, above, below, by_seed, decide, every, group, n_seeds, pm
from questions.alignment import logit_shift
from questions.group_size import SPLITS, bases, slope

ORDER = 27
STEPS_CLAIM = "More and smaller steps gain more at as many rollouts"
COLDER_CLAIM = "Colder rollouts gain more at as many rollouts"
FACTORS = (0.25, 1, 4)     # of --grpo-steps; and of 32 prompts, the inverse
DEFAULT = "1"              # the temperature of the arm that has no name of its own
COLDER = {"0.7": "edge-T0.7", DEFAULT: "grpo-edge", "1.3": "edge-T1.3"}   # arms on edge


def jobs(args):
    found = []
    for seed in seeds(args):
        for base in bases(args, seed):
            arms = on(args, base, "id", "edge")   # 32 prompts, temperature 1: the defaults
            arms += [spread_over(args, base, split, factor) for split in SPLITS
                     for factor in FACTORS if factor != 1]
            arms += [tuning(args, base, name, ["--train-on", "edge", "--temperature", t])
                     for t, name in COLDER.items() if t != DEFAULT]
            found += chain(args, base, arms, ["--cold", "--by-mass", "edge"])
    return found


def spread_over(args, base, split, factor):
    """GRPO with a factor of the steps, and so many fewer prompts in each."""
    flags = ["--train-on", split, "--prompts-per-step", str(round(32 / factor))]
    return tuning(args, base, arm_of(split, factor), flags, max(1, round(args.grpo_steps * factor)))


def arm_of(split, factor):
    return f"grpo-{split}" if factor == 1 else f"{split}-steps-x{factor:g}"


def shift(run, split, factor):
    return logit_shift(run, arm_of(split, factor), split)


# ------------------------------------------------------------------------------------- the verdicts

def verdicts(runs):
    return [more_steps(runs), colder(runs)]


def more_steps(runs):
    slopes = {split: by_seed(runs, lambda r: slope([shift(r, split, x) for x in FACTORS]))
              for split in SPLITS}
    if not all(slopes.values()):
        return Verdict(STEPS_CLAIM, "not run")
    word = every([decide(values, yes=above(0), no=below(0)) for values in slopes.values()])
    numbers = "; ".join(f"{split}: {pm(values, '+.2f')} logits for four times the steps"
                        for split, values in slopes.items())
    rows = [(split, f"{run_steps(runs, split, x)} steps of {round(32 / x)} prompts",
             arm_of(split, x)) for split in SPLITS for x in FACTORS]
    return Verdict(STEPS_CLAIM, word, numbers, table_of(runs, rows), len(slopes["edge"]))


def run_steps(runs, split, factor):
    """How many steps the arms with this factor had."""
    return next(r.arms[arm_of(split, factor)].steps for r in runs
                if arm_of(split, factor) in r.arms)


def colder(runs):
    more = by_seed(runs, lambda r: logit_shift(r, COLDER["0.7"], "edge")
                   - logit_shift(r, COLDER["1.3"], "edge"))
    if not more:
        return Verdict(COLDER_CLAIM, "not run")
    rows = [("edge", f"temperature {t}", name) for t, name in COLDER.items()]
    return Verdict(COLDER_CLAIM, decide(more, yes=above(0), no=below(0)),
                   f"0.7 minus 1.3: {pm(more, '+.2f')} logits on the edge", table_of(runs, rows),
                   len(more))


def table_of(runs, rows):
    """A row of text for each base and arm of rows [(split, label, arm)]."""
    table = [["overlap", "GRPO on", "how", "base", "after", "logit shift", "seeds"]]
    for overlap, these in group(runs, lambda r: r.overlap).items():
        for split, label, arm in rows:
            there = [r for r in these if r.has("base", arm, split=split)]
            if not there:
                continue
            masses = [pm(by_seed(there, lambda r: r.reach(name, split)), "p")
                      for name in ("base", arm)]
            shifts = by_seed(there, lambda r: logit_shift(r, arm, split))
            table.append([f"{overlap:g}", split, label, *masses, pm(shifts, "+.2f"),
                          str(n_seeds(there))])
    return table


def figure(runs):
    """Logit shift against the number of steps, and against the temperature of the rollouts."""
    if not any(not math.isnan(shift(r, split, x)) for r in runs for split in SPLITS
               for x in FACTORS):
        return None
    fig, axes = draw.panels(1, 2, 3.0)
    steps, temperatures = axes[0]
    for (overlap, these), line in zip(group(runs, lambda r: r.overlap).items(), "-:"):
        for split in SPLITS:
            look = draw.LOOK[f"grpo-{split}"]
            draw.bars(steps, FACTORS, [by_seed(these, lambda r: shift(r, split, x))
                                       for x in FACTORS],
                      look._replace(line=line, label=f"{look.label}, overlap {overlap:g}"))
        look = draw.LOOK["grpo-edge"]._replace(line=line, label=f"overlap {overlap:g}")
        draw.bars(temperatures, [float(t) for t in COLDER],
                  [by_seed(these, lambda r: logit_shift(r, arm, "edge"))
                   for arm in COLDER.values()], look)
    steps.set(xscale="log", xlabel="steps, as a multiple of the default", ylabel="logit shift",
              xticks=FACTORS, xticklabels=[f"{x:g}" for x in FACTORS])
    steps.minorticks_off()
    temperatures.set(xlabel="temperature of the rollouts", ylabel="logit shift of the edge")
    for ax in axes[0]:
        ax.legend(fontsize=8)
    fig.suptitle("What steps and temperature buy at as many rollouts (± 95 % over seeds)")
    return fig
