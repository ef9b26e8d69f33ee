"""Studies whose answers are known: runs made from a formula, for the tests of judging and drawing.

    seeds(tuned("grpo-edge", shift(1)), n=3, base=(0.5, 0.2, 0.05))

is three Runs, one per seed, whose bases have masses spread around 0.5 on id, 0.2 on edge and 0.05
on hard, and whose arm grpo-edge lifts the logit of every prompt's mass by 1.
"""
import math

import numpy as np

from lab.records import Arm, Run, mark_tripwires
from measure import total
from questions import lookahead
from tasks import AXES, SPLITS, families
from theory import blind, blind_shifts, hyperbolic, logit, moved, tilted

PLACES = [(task, axis) for task in families("both") for axis in AXES[task]]
OVERLAPS = (0.0, 0.001, 0.01, 0.1)


def KEPT(log_mass):
    """An arm that changes nothing."""
    return log_mass


def shift(by):
    """An arm whose masses are the base's, shifted in the logit."""
    return lambda log_mass: -np.logaddexp(0, -logit(log_mass) - by)


def to(mass):
    """An arm with this mass on every prompt."""
    return lambda log_mass: np.full_like(log_mass, math.log(mass) if mass else -np.inf)


def by_hyperbolic_law(beta):
    return lambda log_mass: np.log(hyperbolic(log_mass, beta))


def tuned(name, change, **columns):
    """An arm: change is a function of log masses, or a list of one for each seed."""
    return Arm(name, **columns), change


def k1(beta, change):
    return tuned(f"k1-b{beta:g}", change, kl="k1_reward", beta=beta)


def k3(beta, change):
    return tuned(f"k3-b{beta:g}", change, kl="k3_loss", beta=beta)


def no_kl(change):
    return tuned("none", change, kl="none", beta=0.0)


def colder(temperature, change):
    name = f"base T={temperature:g}" if temperature else "base greedy"
    return tuned(name, change, method="pretrain", temperature=temperature)


def oracle(change):
    return tuned("oracle", change, method="pretrain", init="base")


def run_of(seed, *arms, base=(0.5, 0.2, 0.05), task="arithmetic", axis="depth", overlap=0.0,
           noise=0.3, steps=1500, setting="", question="dose", spread=1.0, prompts=24):
    """A Run whose base has logits spread around base = (id, edge, hard) masses."""
    rng = np.random.default_rng([seed, 7])
    words = [task, axis, f"{overlap:g}", f"{noise:g}", str(steps), setting.replace(" ", "_")]
    run = Run(question, "-".join([*words, f"seed{seed}"]), task, axis, overlap, noise, steps,
              setting, seed)
    run.arms["base"] = Arm("base", "pretrain", steps=steps)
    for split, q in zip(SPLITS, base):
        for cell in map(str, AXES[task][axis][split]):
            centre = math.log(q) - math.log1p(-q)
            before = -np.logaddexp(0, -centre - spread * rng.standard_normal(prompts))
            run.masses.setdefault(("base", split), {})[cell] = before
            for arm, change in arms:
                run.arms[arm.name] = arm
                if isinstance(change, list):
                    change = change[seed]
                run.masses.setdefault((arm.name, split), {})[cell] = change(before)
    return run


def seeds(*arms, n=3, **options):
    """n seeds of the same."""
    return [run_of(seed, *arms, **options) for seed in range(n)]


def on_splits(change):
    """GRPO on id and on edge, with the sizes of the study."""
    sizes = dict(kl="none", beta=0.0, scale="std", reward="trace", steps=60, group_size=16,
                 prompts_per_step=32, rollouts=30720)
    return [tuned("grpo-id", change, train_on="id", **sizes),
            tuned("grpo-edge", change, train_on="edge", **sizes)]


def step_rows(seed, share=1.0, off=0.0):
    """Rows of steps.csv: right prefixes move by 0.8 in the logit, corrupted ones by a share of
    that; the tuned model is off the law by so much on right ones."""
    rows = []
    for step in (2, 3):
        base = 0.6 + 0.05 * step + 0.01 * seed
        for prefix, by, law_by, wrong in (("right", 0.8, 0.8, off),
                                          ("corrupted", 0.8 * share, 0.0, 0.0)):
            after, law = (float(np.exp(shift(x)(np.log([base])))[0]) for x in (by, law_by))
            rows.append({"chain": f"c{seed}", "seed": seed, "arm": "k1-b1", "kl": "k1_reward",
                         "beta": 1.0, "depth": 3, "step": step, "prefix": prefix, "base": base,
                         "tuned": after + wrong, "law": law})
    return rows


def with_steps(shares, off=0.0):
    """A Run per seed that has rows of single steps and no masses."""
    runs = [Run("law", f"c{seed}", "arithmetic", "depth", 0.0, 0.3, 1500, "", seed)
            for seed in range(len(shares))]
    for run, share in zip(runs, shares):
        run.steps = step_rows(run.seed, share, off)
    return runs


def dialled(*arms, noises=(0.1, 0.4, 0.7), n=3):
    """Bases dialled by noise to 0.8, 0.5 and 0.2 on id."""
    return [run for noise, q in zip(noises, (0.8, 0.5, 0.2))
            for run in seeds(*arms, colder(0.5, shift(1)), n=n, noise=noise, base=(q, 0.1, 0.1),
                             question="saturation")]


def stopped_early(*arms, n=3, masses=(0.2, 0.5, 0.8)):
    """Undertrained bases of these masses on id."""
    return [run for steps, q in zip((200, 250, 300), masses)
            for run in seeds(*arms, colder(0.5, shift(0.1)), n=n, noise=0.0, steps=steps,
                             base=(q, 0.1, 0.1), question="saturation")]


def mended(share, rise=0.0):
    """An arm after which this share of every prompt's failures is gone, and `rise` more of them
    from a base that is right than from one that is wrong."""
    def change(log_mass):
        q = np.exp(log_mass)
        return np.log(q + (share + rise * (q - 0.5)) * (1 - q))
    return change


def rivals(n=3, distill=to(0.9), base=(0.5, 1e-12, 1e-12), **methods):
    """Methods from shared bases that never saw the edge."""
    arms = [tuned(f"rival-{name}", change, method=name, rollouts=30720)
            for name, change in methods.items()]
    return seeds(*arms, tuned("rival-distill", distill, method="distill"), n=n, base=base,
                 question="methods")


def blind_base(seed, q0, noise, ends, beta=0.2, decisions=12):
    """A base of equal decisions with mass q0 at depth 3, and arms at the masses ends = (from below,
    from above or None), kept after twice the steps."""
    below, above = ends
    arms = [tuned(f"below-b{beta:g}", to(below), kl="k1_reward", beta=beta, init="base")]
    if above is not None:
        arms += [tuned("free", to(0.99), kl="none", beta=0.0, init="base"),
                 tuned(f"above-b{beta:g}", to(above), kl="k1_reward", beta=beta, init="free")]
        arms += [tuned(f"{name}-twice-b{beta:g}", to(end), kl="k1_reward", beta=beta,
                       init=f"{name}-b{beta:g}") for name, end in zip(("below", "above"), ends)]
    run = run_of(seed, *arms, noise=noise, base=(q0, 0.01, 0.001), spread=0.0,
                 setting="symbols=2", question="critical_mass")
    run.tokens["id"] = {"d3 l4": np.full((1, decisions), math.log(q0) / decisions)}
    return run


def critical(n=5, law=blind, masses=(0.005, 0.01, 0.015, 0.03, 0.06, 0.1)):
    """n seeds of bases on both sides of the critical mass of 12 decisions at beta 0.2 (0.0203),
    whose arms end where the law, a function of (log Q0, beta, n), has its ends."""
    found = []
    for seed in range(n):
        for noise, q0 in zip((0.7, 0.65, 0.6, 0.5, 0.4, 0.3), masses):
            ends = law(math.log(q0), 0.2, 12)
            above = ends[1] if len(ends) == 2 else None
            found.append(blind_base(seed, q0, noise, (ends[0], above)))
    return found


def tilting(log_mass, beta, n):
    """P1 in the form of P11: it has one end for every base."""
    return [float(tilted(log_mass, beta))]


def taking_off(n=5, border=2.0, prompts=(8, 32, 128)):
    """n seeds of bases with mass 1e-11 to 0.01 on the edge, which take off from `border` right
    samples to expect on."""
    found = []
    for overlap, q0 in zip((0.0, 0.001, 0.01, 0.02, 0.1), (1e-11, 1e-9, 1e-5, 2e-4, 0.01)):
        for seed in range(n):
            q = q0 * 2 ** (seed / 2)   # seeds differ
            expected = [16 * 60 * size * q for size in prompts]
            arms = [tuned(f"edge-{size}", to(0.5) if e > border else KEPT, train_on="edge",
                          steps=60, group_size=16, prompts_per_step=size, init="base")
                    for size, e in zip(prompts, expected)]
            found.append(run_of(seed, *arms, overlap=overlap, base=(0.5, q, q / 10), spread=0.0,
                                question="takeoff"))
    return found


def four_ways(mass, share, seed, n=24):
    """Log masses [n, 4] of four right answers with this mass together, of which the first has this
    share and the others the rest, alike."""
    prompts = np.random.default_rng(seed).standard_normal(n)
    shares = np.log([share] + 3 * [(1 - share) / 3])
    return shift(0.1 * prompts)(np.full(n, math.log(mass)))[:, None] + shares


def varied(n=3, bias=0.5, redirected=None, base=(0.5, 0.6), **arms):
    """n seeds of a base that prefers the first of four ways, and arms name=(mass, share of the
    first); redirected: {arm: its mass when the favourite way is closed}, else of the other ways."""
    found = []
    for seed in range(n):
        run = Run("variety", f"bias={bias}-seed{seed}", "route", "depth", 0.25, 0.2, 300,
                  f"bias={bias}", seed)
        for name, (mass, share) in {"base": base, **arms}.items():
            run.arms[name] = Arm(name, "pretrain" if name == "base" else "grpo", rollouts=15360)
            for cell in map(str, AXES["route"]["depth"]["id"]):
                strings = four_ways(mass, share + 0.005 * seed, seed)
                left = np.log((redirected or {}).get(name, mass * (1 - share)))
                run.strings.setdefault((name, "id"), {})[cell] = strings
                run.masses.setdefault((name, "id"), {})[cell] = total(strings)
                run.redirected.setdefault((name, "id"), {})[cell] = np.full(24, left)
        found.append(run)
    return found


def seeing(n=3, prompts=8, base=0.0, deeper=None, **arms):
    """n seeds of a base with this sight, as questions/lookahead.py measures it, and arms name=sight
    trained on id, which are as good on the other splits or, if given, have the sight `deeper`."""
    found = []
    for seed in range(n):
        run = Run("lookahead", f"walker-seed{seed}", "route", "lookahead", 0.25, 0.0, 2000,
                  "walker", seed)
        run.arms["base"] = Arm("base", "pretrain")
        for name in arms:
            kl = "k1_reward" if name == "k1" else "none"
            run.arms[name] = Arm(name, "sft" if name == "sft" else "grpo", "id", kl=kl, steps=60,
                                 group_size=16, prompts_per_step=32, init="base")
        for split, cell in lookahead.PLACES:
            chances = lookahead.chances_at(cell, prompts)
            guess = chances.prod(2).sum(1)
            run.tokens.setdefault(split, {})[str(cell)] = np.zeros((prompts, 3 * cell.depth + 1))
            run.tokens[split][str(cell)][:, 2:-4:3] = np.log(chances[:, 0])
            for name, sight in {"base": base, **arms}.items():
                if deeper is not None and split != "id" and name != "base":
                    sight = deeper
                mass = guess + (sight - 0.01 * seed) * (1 - guess)
                run.masses.setdefault((name, split), {})[str(cell)] = np.log(mass)
        found.append(run)
    return found


BOUGHT = (1e-5, 1e-4, 1e-3)   # sft's mass on edge at each budget of gold: pass@1024 0.01 to 0.64


def shown_gold(n=5, sft=BOUGHT, spread=0.01, base=1e-8, setting="", **others):
    """n seeds of bases, sft, and other methods with these masses at the budgets of gold; what the
    others have differs between seeds, by so many decades from one to the next."""
    found = []
    for seed in range(n):
        arms = [oracle(to(0.95))]
        for method, masses in {"sft": sft, **others}.items():
            luck = 1.0 if method == "sft" else 10 ** (spread * (seed - (n - 1) / 2))
            arms += [tuned(f"{method}-gold{budget}", to(min(1.0, mass * luck)), method=method,
                           gold=budget + 7, rollouts=100 * budget, init="base")
                     for budget, mass in zip((500, 2000, 8000), masses)]
        found.append(run_of(seed, *arms, base=(0.5, base, base), spread=0.0, setting=setting,
                            question="gold"))
    return found


def credited(masses, n=5):
    """n seeds of arms with partial credit, and their controls, which have these masses on edge."""
    return [run_of(seed, *(tuned(f"credit-{name}", to(mass * 1.01 ** seed), rollouts=30720)
                           for name, mass in masses.items()),
                   base=(0.5, 1e-8, 1e-8), question="gold") for seed in range(n)]


LED_TO = {"arithmetic": (1e-7, 1e-5, 3e-4, 3e-3, 3e-2), "graph": (1e-9, 1e-6, 1e-4, 1e-2, 0.1)}
SHOWN = {"arithmetic": (0, 160, 640, 1280, 2560), "graph": (0, 13, 26, 52, 104)}   # tokens of gold


def climbing(n=5, border=2.0, masses=LED_TO, after=0.9):
    """n seeds of warm starts with these masses, by no gold and more and more, from which GRPO gets
    to `after` where it can expect `border` right samples; and a method whose hints end, or not."""
    found = []
    for task, amounts in SHOWN.items():
        for seed in range(n):
            arms, luck = [], 2 ** (seed / 2)   # seeds differ
            for amount, mass in zip(amounts, masses[task]):
                end = after if mass * luck * 16 * 32 * 60 > border else mass * luck
                arms += [tuned(f"warm{amount}", to(mass * luck), method="sft", gold=amount),
                         tuned(f"climb{amount}", to(end), steps=60, group_size=16,
                               prompts_per_step=32, rollouts=30720)]
            arms += [tuned(f"guide-until{until:g}", to(end), method="guide", gold=4000)
                     for until, end in ((0.02, 0.3), (1, 0.6))]
            found.append(run_of(seed, *arms[1:], task=task, spread=0.0, question="after_takeoff",
                                base=(0.5, masses[task][0] * luck, 1e-9)))
    return found


def aligned(n=5, rise=1.0, axes=5):
    """n seeds of three bases on each of so many axes, with mass 0.001 to 0.1 on the edge, of which
    GRPO on id shifts all logits by 2, and by `rise` more for a decade more of it (a list: one for
    each axis)."""
    found = []
    places = [("arithmetic", "depth"), ("arithmetic", "length"), ("graph", "depth"),
              ("arithmetic", "composition"), ("graph", "length")][:axes]
    for i, (task, axis) in enumerate(places):
        by = rise[i] if isinstance(rise, list) else rise
        for decade, q in ((-1, 0.001), (0, 0.01), (1, 0.1)):
            luck = [shift(2 + by * decade + 0.05 * math.sin(9 * seed + decade))
                    for seed in range(n)]
            dials = {"overlap": q} if i < 3 else {"noise": 0.4 - 0.3 * decade}
            found += seeds(tuned("grpo-id", luck, train_on="id"), n=n, task=task, axis=axis,
                           base=(0.5, q, q / 10), question="alignment", **dials)
    return found


def noticing_base(seed, marked, share, law, q0=0.1, decisions=12):
    """A base of equal decisions with mass q0, whose arms end where this law has it ("P1" or "P11")
    and move what follows an error by a share of what they move elsewhere."""
    log_p, arms = np.full((24, decisions), math.log(q0) / decisions), []
    for beta in (1, 0.3):
        p1 = float(tilted(math.log(q0), beta))
        p11 = float(np.exp(moved(log_p, blind_shifts(log_p, beta)[0])[0]))
        arms.append(tuned(f"deep-b{beta:g}", to({"P1": p1, "P11": p11}[law] * (0.98 + seed / 200)),
                          kl="k1_reward", beta=beta, init="base"))
    run = run_of(seed, *arms, base=(q0, 0.01, 0.001), spread=0.0, noise=0.6 if marked else 0.7,
                 setting="kind=marked" if marked else "", question="noticing")
    run.tokens["id"] = {"d3 l4": log_p}
    run.steps = [{**row, "chain": run.chain, "arm": arm.name, "beta": arm.beta}
                 for arm, _ in arms for row in step_rows(seed, share + seed / 100)]
    return run


def noticing(n=5, marked=(0.0, "P1"), unmarked=(1.0, "P11"), q0=0.1):
    """n seeds of a base that marks its errors, of mass q0, and of one of mass 0.1 that does not:
    (share, law) of each."""
    return [run for seed in range(n)
            for run in (noticing_base(seed, True, *marked, q0),
                        noticing_base(seed, False, *unmarked))]


def exposed(n=5, after=(1e-3, 0.3, 0.6, 0.9), tasks=("arithmetic", "graph"), base=1e-3):
    """n seeds of bases that were shown 0.1, 1, 10 and 30 % of the shadow symbols, with this mass on
    the edge, and these after GRPO on it."""
    return [run for task in tasks for share, mass in zip((0.001, 0.01, 0.1, 0.3), after)
            for run in seeds(tuned("grpo-edge", to(mass), train_on="edge"), n=n, task=task,
                             axis="tokens", setting=f"exposure={share:g}", base=(0.5, base, 1e-6),
                             question="exposure")]


def two_domains(n=5, worth=(2.0, 0.0), own=0.0):
    """n seeds of bases of two families, where having all of pretraining rather than none is worth
    so many logits, early and late, and arithmetic gains so many more than graph in any case."""
    found = []
    for share in (0.9, 0.5, 0.1):
        for task, its in (("arithmetic", share), ("graph", 1 - share)):
            more = own if task == "arithmetic" else 0.0
            arms = [tuned(name, [shift(1 + more + by * (its - 0.5) + 0.02 * seed * share)
                                 for seed in range(n)], train_on="id")
                    for name, by in zip(("early", "late"), worth)]
            found += seeds(*arms, n=n, task=task, setting=f"share={share}", question="domains")
    return found


def spent(n=5, rare=(1.0, 2.0, 3.0), common=(1.0, 1.0, 1.0), colder=(2.5, 1.5),
          question="group_size"):
    """n seeds of two bases, trained on edge (rare) and on id (common) in three ways at as many
    rollouts, which shift the logit by so much: groups of 4, 16, 64 for group_size; steps x0.25, x1,
    x4, and on edge temperatures 0.7 and 1.3, for steps."""
    found = []
    sizes = {"group_size": ((4, 128, 60), (16, 32, 60), (64, 8, 60)),
             "steps": ((16, 128, 15), (16, 32, 60), (16, 8, 240))}[question]
    for overlap, q in ((0.01, 0.003), (0.03, 0.03)):
        for seed in range(n):
            arms = []
            for split, shifts in (("edge", rare), ("id", common)):
                ways = (f"{split}-steps-x0.25", f"grpo-{split}", f"{split}-steps-x4")
                for way, by, (size, prompts, steps) in zip(ways, shifts, sizes):
                    name = f"grpo-{split}" if prompts == 32 else way
                    arms.append(tuned(name, shift(by + 0.01 * seed), train_on=split, steps=steps,
                                      group_size=size, prompts_per_step=prompts))
            if question == "steps":
                arms += [tuned(f"edge-T{t}", shift(by + 0.01 * seed), train_on="edge", steps=60,
                               group_size=16, prompts_per_step=32)
                         for t, by in zip((0.7, 1.3), colder)]
            found.append(run_of(seed, *arms, overlap=overlap, base=(0.5, q, q / 10),
                                question=question))
    return found


def whole_study(lift=1.0, n=2):
    """{question that owns the runs: runs}: something of every part."""
    grpo = on_splits(shift(lift))
    cold = [colder(0.7, shift(0.2)), colder(0.5, shift(0.4)), colder(0.3, shift(0.6)),
            colder(0, to(0))]
    dose = []
    for task, axis in (PLACES[0], PLACES[2], PLACES[4]):
        for overlap, q in zip(OVERLAPS, (1e-6, 1e-4, 0.02, 0.2)):
            id_mass = 0.2 if axis == "tokens" else 0.55   # one place trips a wire
            dose += seeds(*grpo, *cold, tuned("sft", shift(0.1), method="sft"),
                          oracle(to(0.95)), n=n, task=task, axis=axis, overlap=overlap,
                          base=(id_mass, q, q / 10))
    mark_tripwires(dose)
    law = seeds(k1(0.3, shift(3.3 * lift)), k1(1, shift(lift)), k3(1, by_hyperbolic_law(1)),
                no_kl(to(0.99)), n=n, question="law")
    for run in law:
        run.steps = [{**row, "chain": run.chain} for row in step_rows(run.seed, share=lift)]
    both = [no_kl(shift(lift)), k1(1, shift(lift))]
    rewards = [tuned(f"reward={reward}", shift(lift / 2), reward=reward)
               for reward in ("answer", "random")]
    stages = [tuned(name, shift(lift / 2)) for name in ("curriculum-6", "jump-6")]
    nope = seeds(*grpo, n=n, overlap=0.1, question="positions", setting="position=nope")
    return {
        "dose": dose, "law": law,
        "saturation": dialled(*both, n=n) + stopped_early(*both, n=n),
        "methods": rivals(n, ppo=shift(lift), grpo=shift(lift / 2), sft=shift(1)),
        "rewards": seeds(grpo[0], *rewards, n=n, question="rewards"),
        "curriculum": seeds(*stages, n=n, overlap=0.1, question="curriculum"),
        "advantage": seeds(grpo[0], tuned("scale=none", shift(1), scale="none"), n=n,
                           question="advantage"),
        "resets": seeds(k1(1, shift(lift)), tuned("resets", shift(2), method="resets"), n=n,
                        question="resets"),
        "balanced": seeds(grpo[1], tuned("balanced", shift(1), method="balanced"), n=n,
                          question="balanced"),
        "positions": seeds(*grpo, n=n, overlap=0.1, question="positions") + nope,
        "alignment": aligned(n), "noticing": noticing(n), "exposure": exposed(n),
        "group_size": spent(n), "steps": spent(n, question="steps"),
        "gold": shown_gold(n, guide=BOUGHT) + shown_gold(n, expo=BOUGHT, setting="told=0.3"),
        "after_takeoff": climbing(n),
        "critical_mass": critical(n), "takeoff": taking_off(n),
        "variety": [run for bias, share in ((0.5, 0.625), (0.9, 0.925))
                    for run in varied(n, bias, base=(0.5, share), grpo=(0.9, (1 + share) / 2),
                                      long=(0.95, 0.98), back=(0.9, share), passk=(0.9, share),
                                      **{"long-k1": (0.9, share)})],
        "lookahead": seeing(n, **{"grpo-id-long": 0.1, "k1": 0.1, "sft": 0.8}),
        "domains": two_domains(n)}
