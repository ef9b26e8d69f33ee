"""Which edges have mass although pretraining never showed them?

"Out of distribution" is not one thing. At overlap 0 no base has seen a problem from the edge, yet
some edges are close to what it has seen: new words made of known operations, longer graphs. We
expect mass there without any overlap, and none where a longer chain or longer numbers are asked
for.

Rule, fixed before the runs of the first study, 2026-11-21; seeds 0 to 2. Base edge mass at overlap
0: supported if its interval lies above 0.01 for composition of arithmetic and length of graph, and
below 0.01 for depth and length of arithmetic; refuted if one lies on the other side (the border of
0.01 is ours). All four must have run.
"""
from lab import draw
from lab.judge import Verdict, above, below, by_seed, decide, every, group, n_seeds, pm
from questions.dose import jobs

ORDER = 4
CLAIM = ("Composition and graph length have mass without overlap; "
         "depth and length of arithmetic have none")
BORDER = 0.01
HAVE_MASS = ("arithmetic composition", "graph length")
HAVE_NONE = ("arithmetic depth", "arithmetic length")
ARMS = ("base", "grpo-id", "grpo-edge")


def verdicts(runs):
    places = group([r for r in runs if r.overlap == 0], lambda r: r.place)
    words, numbers, seeds = [], [], [0]
    table = [["cell, overlap 0", *(f"{arm} on edge" for arm in ARMS), "as claimed", "seeds"]]
    for place, these in places.items():
        on_edge = [pm(by_seed(these, lambda r: r.reach(arm, "edge")), "p") for arm in ARMS]
        word = judge(place, by_seed(these, lambda r: r.reach("base", "edge")))
        table.append([place, *on_edge, word, str(n_seeds(these))])
        if word != "no claim":
            words.append(word)
            numbers.append(f"{place} {on_edge[0]}")
            seeds.append(n_seeds(these))
    word = every(words)
    if word == "supported" and len(words) < len(HAVE_MASS + HAVE_NONE):
        word = "undecided"
    return [Verdict(CLAIM, word, ", ".join(numbers), table if words else [], max(seeds))]


def judge(place, base_mass):
    """The verdict on one cell: is the base's edge mass on the side that is claimed?"""
    if place in HAVE_MASS:
        return decide(base_mass, yes=above(BORDER), no=below(BORDER))
    if place in HAVE_NONE:
        return decide(base_mass, yes=below(BORDER), no=above(BORDER))
    return "no claim"


def figure(runs):
    """Mass on the edge at overlap 0, place by place."""
    places = group([r for r in runs if r.overlap == 0], lambda r: r.place)
    if not places:
        return None
    fig, axes = draw.panels(1, 1, 3.0)
    for i, arm in enumerate(ARMS):
        values = [by_seed(these, lambda r: r.reach(arm, "edge")) for these in places.values()]
        at = [x + 0.12 * (i - 1) for x in range(len(places))]
        draw.bars(axes[0, 0], at, values, draw.LOOK[arm], limits=(0, 1), ls="")
    axes[0, 0].axhline(BORDER, color=draw.GREY, ls=":", label=f"the border, {BORDER:g}")
    axes[0, 0].set(ylabel="exact mass on edge", xticks=range(len(places)), ylim=(-0.03, 1.03),
                   xticklabels=[place.replace(" ", "\n") for place in places])
    axes[0, 0].legend()
    fig.suptitle("Edge cells that pretraining never showed (± 95 % over seeds)")
    return fig
