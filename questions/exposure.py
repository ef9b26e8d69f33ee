"""How much of an unseen alphabet must pretraining have shown?

The tokens axis asks for known operations on shadow symbols, which nothing ties to the others. The
paper of the interplay (2512.07783) found that GRPO carries a skill over to a new surface only if
pretraining showed it a little: not at 0.1 % of the data or less, and from 1 % on. Here the shadow
symbols get that share of the pretraining steps, at every pretrained depth, in both families; then
GRPO on the edge, which is nothing else. (Shares are what the paper speaks of. Its 1 % are many more
problems than 15 batches of 64, so if the claim fails here it may be numbers that count, not
shares.)

Rule, fixed 2026-11-21; judged on seeds 3 to 7. "It works": GRPO on edge lifts the edge's mass by
more than 0.05. Supported if, in both families, the interval of the lift lies below 0.05 at every
share up to 0.1 % and above it at every share from 1 % on; refuted if one interval lies on the other
side.
"""
import numpy as np

from lab import draw
from lab.jobs import chain, enough, on, pretraining, seeds
from lab.judge import Verdict, above, below, by_seed, decide, every, group, mass_text, n_seeds, pm
from tasks import families

ORDER = 24
CLAIM = "GRPO reaches an alphabet that was 1 % of pretraining, and none that was 0.1 %"
SHARES = (0.001, 0.01, 0.1, 0.3)
FAILS, WORKS = 0.001, 0.01   # shares up to which it should fail, from which on it should work
ROSE = 0.05


def jobs(args):
    found = []
    for seed in seeds(args):
        for task in families("both"):
            for share in SHARES:
                flags = ["--exposure", "full", "--exposure-share", f"{share:g}"]
                base = pretraining(args, seed, task, "tokens", steps=enough(args, task, "tokens"),
                                   setting=f"exposure={share:g}", flags=flags)
                found += chain(args, base, on(args, base, "edge"), ["--cold", "--by-mass", "edge"])
    return found


def shown(runs):
    """{(task, share): runs} of the bases that were shown a share, and trained on the edge."""
    known = {f"exposure={share:g}": share for share in SHARES}
    there = [r for r in runs if r.setting in known and r.has("base", "grpo-edge", split="edge")]
    return group(there, lambda r: (r.task, known[r.setting]))


def lift(run):
    return run.gain("grpo-edge", "edge")


def judge(share, values):
    """Is this share's lift on the side of 0.05 on which the paper has it?"""
    should, should_not = above(ROSE), below(ROSE)
    if share <= FAILS:
        should, should_not = should_not, should
    return decide(values, yes=should, no=should_not)


def verdicts(runs):
    found = shown(runs)
    if not found:
        return [Verdict(CLAIM, "not run")]
    table = [["family", "share of pretraining", "base's mass on the edge", "lift by GRPO",
              "mean log10 Q* - mean log10 Q0", "as claimed", "seeds"]]
    words = []
    for (task, share), these in found.items():
        lifts = by_seed(these, lift)
        words.append(judge(share, lifts))
        base = np.concatenate([r.log_mass("base", "edge") for r in these])
        table.append([task, f"{100 * share:g} %", mass_text(base), pm(lifts),
                      pm(by_seed(these, decades), "+.1f"), words[-1], str(n_seeds(these))])
    word = every(words)
    if word == "supported" and len(found) < len(SHARES) * len(families("both")):
        word = "undecided"   # some share has not run
    return [Verdict(CLAIM, word, "; ".join(threshold(task, found) for task in families("both")),
                    table, max(n_seeds(these) for these in found.values()))]


def decades(run):
    """By how many powers of ten the edge's mass has moved, mean over prompts."""
    before, after = (run.log_mass(arm, "edge") for arm in ("base", "grpo-edge"))
    return float((after - before).mean() / np.log(10))


def threshold(task, found):
    """The least share whose mean lift exceeds 0.05, as text."""
    works = [share for (name, share), these in found.items()
             if name == task and np.mean(by_seed(these, lift)) > ROSE]
    return f"{task} from {100 * min(works):g} % on" if works else f"{task} at no share"


def figure(runs):
    """Mass on the edge before and after GRPO on it, by what pretraining had shown."""
    found = shown(runs)
    if not found:
        return None
    by_task = group(found.items(), lambda item: item[0][0])
    fig, axes = draw.panels(1, len(by_task), 3.0, sharey=True)
    for ax, (task, items) in zip(axes[0], by_task.items()):
        for arm in ("base", "grpo-edge"):
            values = [by_seed(these, lambda r: r.reach(arm, "edge")) for _, these in items]
            draw.bars(ax, [share for (_, share), _ in items], values, draw.LOOK[arm], (0, 1))
        ax.axvspan(FAILS, WORKS, color=draw.GREY, alpha=0.2, lw=0, label="the paper's threshold")
        ax.set(xscale="log", title=task, ylim=(-0.03, 1.03),
               xlabel="share of pretraining that showed the new symbols")
    axes[0, 0].set_ylabel("exact mass on the edge")
    axes[0, 0].legend()
    fig.suptitle("What GRPO makes of an alphabet that pretraining hardly showed "
                 "(± 95 % over seeds)")
    return fig
