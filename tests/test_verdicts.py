"""verdicts.py and figures.py: synthetic studies whose answers are known, through the same files that the study writes."""
import csv
import importlib.util
import math
import os

import numpy as np
import pytest

import readings as R
import verdicts as V
from cli import CommandError
from evaluate import exact_pass_at_k
from tasks import AXES, SPLITS

COLUMNS = ("part chain task axis overlap noise pretrain_steps setting seed arm split cell prompts mass low high p4 p16 p64 p256 p1024 p2^20 "
           "fell base_mass gold seconds command").split()


def KEPT(log_mass):
    """An arm that changes nothing."""
    return log_mass


def shift(by):
    """An arm whose masses are the base's, shifted by `by` in the logit."""
    return lambda log_mass: -np.logaddexp(0, -V.logit(log_mass) - by)


def to(mass):
    return lambda log_mass: np.full_like(log_mass, math.log(mass) if mass else -np.inf)


def make(seed=0, parts=("dose",), task="arithmetic", axis="depth", overlap=0.0, noise=0.3, steps=1500, setting="", base=(0.5, 0.2, 0.05), spread=1.0, n=24, **arms):
    """A Run whose base has logits spread around base = (id, edge, hard) masses; arms {name: function of log masses, or one for each split}."""
    rng, masses = np.random.default_rng([seed, 7]), {}
    for split, q in zip(SPLITS, base):
        for cell in map(str, AXES[task][axis][split]):
            centre = math.log(q) - math.log1p(-q)
            masses.setdefault(("base", split), {})[cell] = -np.logaddexp(0, -centre - spread * rng.standard_normal(n))
            for arm, change in arms.items():
                change = change if callable(change) else change[SPLITS.index(split)]
                masses.setdefault((arm, split), {})[cell] = change(masses["base", split][cell])
    chain = "-".join(f"{x:g}" if isinstance(x, float) else str(x) for x in (task, axis, overlap, noise, steps, setting.replace(" ", "_"), f"seed{seed}"))
    return R.Run(chain, task, axis, overlap, noise, float(steps), setting, seed, set(parts), masses)


def seeds(n=3, **options):
    """n seeds; an option that is a list has one value for each of them."""
    return [make(seed=s, **{k: v[s] if isinstance(v, list) else v for k, v in options.items()}) for s in range(n)]


def save(folder, runs, steps=()):
    """study.csv, masses.npz and steps.csv as study.py writes them."""
    arrays = {}
    with open(os.path.join(folder, "study.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for run in runs:
            for (arm, split), cells in run.masses.items():
                arrays.update({f"{run.chain}|{arm}|{split}|{cell}": values for cell, values in cells.items()})
                for cell, lm in [("all", run.log_mass(arm, split)), *cells.items()]:
                    base = run.log_mass("base", split) if cell == "all" else run.masses["base", split][cell]
                    row = {"chain": run.chain, "task": run.task, "axis": run.axis, "overlap": run.overlap, "noise": run.noise, "pretrain_steps": run.pretrain_steps,
                           "setting": run.setting, "seed": run.seed, "arm": arm, "split": split, "cell": cell, "prompts": len(lm), "mass": np.exp(lm).mean(), "low": np.exp(lm).min(), "high": np.exp(lm).max(),
                           **dict(zip(COLUMNS[16:22], exact_pass_at_k(lm[:, None], [4, 16, 64, 256, 1024, 2 ** 20]).mean(0))),
                           "fell": "" if arm == "base" else (lm < base - 1e-6).mean(), "base_mass": np.exp(base).mean(), "gold": "", "seconds": 1.0,
                           "command": run.commands.get(arm, "python finetune.py --init base.pt --steps 60")}
                    writer.writerows({"part": part, **row} for part in sorted(run.parts))
    np.savez(os.path.join(folder, "masses.npz"), **arrays)
    if steps:
        with open(os.path.join(folder, "steps.csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, list(steps[0]))
            writer.writeheader()
            writer.writerows(steps)


def step_rows(share=1.0, n=3, off=0.0, spread=0.01):
    """steps.csv: right prefixes move by 0.8 in the logit, corrupted ones by share (one number, or one per seed) of that."""
    rows = []
    for seed in range(n):
        part = share[seed] if isinstance(share, list) else share
        for step in (2.0, 3.0):
            base = 0.6 + 0.05 * step + spread * seed
            move = lambda by: float(np.exp(shift(by)(np.log([base])))[0])
            rows += [dict(chain=f"c{seed}", seed=float(seed), arm="k1-b1", kl="k1", beta=1.0, depth=3.0, step=step, prefix="right", base=base, tuned=move(0.8) + off, law=move(0.8)),
                     dict(chain=f"c{seed}", seed=float(seed), arm="k1-b1", kl="k1", beta=1.0, depth=3.0, step=step, prefix="corrupted", base=base, tuned=move(0.8 * part) + off, law=base)]
    return rows


# --------------------------------------------------------------------------------------------------------- the statistics

def test_intervals_are_student_t_over_seeds():
    mean, half = V.over_seeds([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / 3 ** 0.5, rel=1e-3) and V.over_seeds([1.0]) == (1.0, None)


def test_decisions():
    assert V.decide([0.03, 0.04, 0.035]) == "supported" and V.decide([-0.03, 0.04, 0.035], no=[(-9, 0)]) == "undecided"
    assert V.decide([5.0]) == "undecided" and V.decide([]) == "not run"  # one seed is never an interval
    assert V.decide([-3.0, -3.1], (-1, 1), [(-V.INF, -1), (1, V.INF)]) == "refuted"
    assert V.every(["supported", "not run"]) == "supported" and V.every(["supported", "refuted"]) == "refuted" and V.every(["supported", "undecided"]) == "undecided"
    assert V.some(["refuted", "supported"]) == "supported" and V.some(["refuted", "refuted"]) == "refuted" and V.some([]) == "not run"
    assert V.unanimous(["supported", "undecided"]) == "supported" and V.unanimous(["supported", "refuted"]) == "undecided"
    assert V.by_seed([make(seed=0), make(seed=0), make(seed=1)], lambda r: 1.0 + r.seed) == [1, 2]


def test_rank_correlation():
    assert R.spearman([1, 2, 3], [2, 4, 9]) == pytest.approx(1) and R.spearman([1, 2, 3], [9, 4, 2]) == pytest.approx(-1) and math.isnan(R.spearman([1, 2], [1, 1]))
    assert list(R.ranks([5, 1, 5])) == [2.5, 1, 2.5]
    assert R.spearman([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]) == pytest.approx(0.8)


def test_one_shift_reaches_the_mean():
    lm = make(spread=2).log_mass("base", "edge")
    assert V.shifted(lm, 0.4).mean() == pytest.approx(0.4, abs=1e-9)
    assert np.allclose(V.shifted(lm, np.exp(shift(1.3)(lm)).mean()), np.exp(shift(1.3)(lm)))


# ------------------------------------------------------------------------------------------------------------- the claims

def test_no_mass_no_gain():
    low = (0.5, 1e-6, 1e-9)
    def verdict(**o):
        return V.no_mass_no_gain(seeds(base=low, **o))
    flat = verdict(**{"grpo-edge": KEPT})
    assert flat.verdict == "supported" and flat.n_seeds == 3
    assert verdict(**{"grpo-edge": to(0.3)}).verdict == "refuted"
    assert verdict(**{"grpo-edge": [KEPT, KEPT, to(0.2)]}).verdict == "undecided"  # one seed took off
    assert verdict(n=1, **{"grpo-edge": KEPT}).verdict == "undecided"
    assert V.no_mass_no_gain(seeds(base=(0.5, 0.01, 0.01), **{"grpo-edge": to(0.3)})).verdict == "not run"  # a base with mass is not judged
    assert verdict(**{"grpo-edge": to(1e-3)}).verdict == "refuted"  # at pass@64, not at pass@1
    run = seeds(1, base=low, **{"grpo-edge": KEPT})[0]
    assert run.budget("grpo-edge") == 16 * 32 * 60
    run.commands["grpo-edge"] = "python finetune.py --steps 100 --group-size 8 --prompts-per-step 4"
    assert run.budget("grpo-edge") == 3200


def test_mass_predicts_gain():
    def verdict(arm, n=3):
        return V.mass_predicts_gain(seeds(n, base=(0.5, 0.01, 0.001), spread=1.5, **{"grpo-id": arm}), "grpo-id", "transfer")
    up = verdict(shift(1))
    assert up.verdict == "supported" and "+1.00" in up.numbers and up.n_seeds == 3
    assert verdict(shift(-1)).verdict == "refuted"  # who had most lost most
    mixed = V.mass_predicts_gain(seeds(base=(0.5, 0.01, 0.001), **{"grpo-id": [shift(1), shift(-1), shift(1)]}), "grpo-id", "transfer")
    assert mixed.verdict == "undecided" and verdict(shift(1), n=1).verdict == "undecided"
    assert verdict(KEPT).verdict == "not run"  # nothing moved: no correlation
    dust = V.mass_predicts_gain(seeds(base=(0.5, 1e-20, 1e-30), **{"grpo-id": shift(1)}), "grpo-id", "transfer")
    assert dust.verdict == "not run"  # outside the band of base masses


def test_overlap_buys_mass():
    def grid(edges, n=3, arm=shift(1)):
        return [r for i, (o, q) in enumerate(zip(V.OVERLAPS, edges)) for r in seeds(n, overlap=o, base=(0.5, q, q), **{"grpo-edge": arm})]
    bought = V.overlap_buys_mass(grid([1e-9, 1e-4, 0.05, 0.2]))
    assert bought.verdict == "supported" and "base mass +0." in bought.numbers
    assert 0.01 < float(bought.table[1][2].split()[0]) < 0.1  # half of the effect lies between the last two doses
    assert V.overlap_buys_mass(grid([0.2, 0.1, 0.01, 1e-4])).verdict == "refuted"
    assert V.overlap_buys_mass(grid([1e-9, 1e-4, 0.05, 0.2], n=1)).verdict == "undecided"
    assert V.overlap_buys_mass(grid([1e-9, 1e-4])).verdict == "not run"  # two doses are no trend
    noisy = [r for i, o in enumerate(V.OVERLAPS) for s in range(3) for r in [make(seed=s, overlap=o, base=(0.5, [0.1, 0.2, 0.15, 0.1][(i + 2 * s) % 4], 0.1), **{"grpo-edge": shift(1)})]]
    assert V.overlap_buys_mass(noisy).verdict == "undecided"


def test_mass_without_overlap():
    def grid(n=3, **masses):
        names = {"composition": ("arithmetic", "composition"), "graph": ("graph", "length"), "depth": ("arithmetic", "depth"), "length": ("arithmetic", "length")}
        return [r for name, q in masses.items() for r in seeds(n, task=names[name][0], axis=names[name][1], base=(0.5, q, q))]
    claimed = dict(composition=0.2, graph=0.3, depth=1e-6, length=1e-6)
    assert V.mass_without_overlap(grid(**claimed)).verdict == "supported"
    assert V.mass_without_overlap(grid(**{**claimed, "composition": 1e-5})).verdict == "refuted"
    assert V.mass_without_overlap(grid(**{**claimed, "depth": 0.2})).verdict == "refuted"
    assert V.mass_without_overlap(grid(n=1, **claimed)).verdict == "undecided"
    assert V.mass_without_overlap(grid(composition=0.2, depth=1e-6)).verdict == "undecided"  # two of four are not there
    assert V.mass_without_overlap([]).verdict == "not run"


def saturated(arm, name="k1-b1", noises=(0.1, 0.3, 0.5), n=3, short=None):
    """Bases dialled by noise to 0.8, 0.5, 0.2, with an arm; and, if asked, undertrained ones with the arm `short`."""
    runs = [r for noise, q in zip(noises, (0.8, 0.5, 0.2)) for r in seeds(n, parts=("saturation",), noise=noise, base=(q, 0.1, 0.1), **{name: arm, "base T=0.5": shift(1)})]
    return runs + ([r for r in seeds(n, parts=("saturation",), noise=0.0, steps=500, base=(0.5, 0.1, 0.1), **{name: short, "base T=0.5": shift(0.1)})] if short else [])


def test_gains_saturate():
    law = V.gains_saturate(saturated(shift(1)), "k1-b1", 1, "")
    assert law.verdict == "supported" and law.numbers == "mean absolute departure 0.000 ±0.000 (k1-b1)" and len(law.table) == 4
    assert all(row[5] == row[2] != "+0.000 ±0.000" for row in law.table[1:])  # here sampling colder gains as much, and the table says so
    assert V.gains_saturate(saturated(shift(4)), "k1-b1", 1, "").verdict == "refuted"
    assert V.gains_saturate(saturated([shift(1), shift(1), shift(2)]), "k1-b1", 1, "").verdict == "undecided"
    assert V.gains_saturate(saturated(shift(1), n=1), "k1-b1", 1, "").verdict == "undecided"
    assert V.gains_saturate(saturated(to(0.999), "none"), "none", 0, "").verdict == "supported"
    assert V.gains_saturate(saturated(shift(1), "none"), "none", 0, "").verdict == "refuted"
    assert V.gains_saturate([], "none", 0, "").verdict == "not run"


def test_undertrained():
    assert V.undertrained_gains_alike(saturated(shift(1), "none", short=shift(1))).verdict == "supported"
    less = V.undertrained_gains_alike(saturated(shift(2), "none", short=KEPT))
    assert less.verdict == "refuted" and "difference -0" in less.numbers
    assert V.undertrained_gains_alike(saturated(shift(1), "none", short=[shift(1), KEPT, shift(1.5)])).verdict == "undecided"
    assert V.undertrained_gains_alike(saturated(shift(1), "none")).verdict == "not run"
    dialled, short = R.saturation(saturated(shift(1), short=KEPT))
    assert len(dialled) == 9 and len(short) == 3


ON = [("grpo-id", "id"), ("grpo-edge", "edge")]


def sharpened_but_narrowed(lm):
    """Half of the prompts become certain, the other half impossible: pass@1 rises, pass@k falls."""
    return np.where(np.arange(len(lm)) % 2, -1e-9, -60.0)


def test_no_crossover():
    both = lambda arm, n=3: seeds(n, base=(0.3, 0.3, 0.1), **{"grpo-id": arm, "grpo-edge": arm})
    assert V.no_crossover(both(shift(1)), ON, "").verdict == "supported"
    crossed = V.no_crossover(both(sharpened_but_narrowed), ON, "")
    assert crossed.verdict == "refuted" and crossed.table[1][1] == "0.50 ±0.00" and 2 <= int(crossed.table[1][2]) <= 8
    assert V.no_crossover(both([sharpened_but_narrowed, shift(1), shift(1)]), ON, "").verdict == "undecided"
    assert V.no_crossover(both(sharpened_but_narrowed, 1), ON, "").verdict == "undecided"
    assert V.no_crossover(both(shift(1)), [("grpo-mix", "id")], "").verdict == "not run"


def test_more_than_sharpening():
    def verdict(tuned, colder, n=3, base=(0.5, 0.2, 0.05)):
        return V.more_than_sharpening(seeds(n, base=base, **{"grpo-id": tuned, "base T=0.7": colder, "base greedy": to(0)}), "grpo-id", "id")
    assert verdict(shift(3), shift(1)).verdict == "supported"
    assert verdict(shift(1), shift(3)).verdict == "refuted"  # the base, merely sampled colder, does better
    assert verdict([shift(3), shift(1), shift(0)], shift(1)).verdict == "undecided"
    assert verdict(shift(3), shift(1), n=1).verdict == "undecided"
    nothing = verdict(shift(3), shift(1), base=(1e-9, 1e-9, 1e-9))
    assert nothing.verdict == "not run" and "1 cells" in nothing.note
    only = V.more_than_sharpening(seeds(**{"grpo-id": shift(3)}), "grpo-id", "id")
    assert only.verdict == "not run"  # without a colder base there is nothing to compare


def test_laws():
    def runs(n=3, **arms):
        return seeds(n, parts=("laws",), **arms)
    p1 = V.law_holds(runs(**{"k1-b0.3": shift(1 / 0.3), "k1-b1": shift(1), "none": to(0.9)}), "k1", V.tilted, "P1")
    assert p1.verdict == "supported" and len(p1.table) == 1 + 3 * 3
    row = next(r for r in p1.table if r[0] == "0.3")
    assert row[6] == "1.00 ±0.00 (1.00)" and row[7] == "3.33 ±0.00 (3.33)"
    assert V.law_holds(runs(**{"k1-b1": shift(3)}), "k1", V.tilted, "").verdict == "refuted"
    assert V.law_holds(runs(**{"k1-b1": [shift(1), shift(1), shift(3)]}), "k1", V.tilted, "").verdict == "undecided"
    assert V.law_holds(runs(**{"none": shift(3)}), "k1", V.tilted, "").verdict == "not run"
    k3 = lambda lm: np.log(V.hyperbolic(lm, 0.3))
    assert V.law_holds(runs(**{"k3-b0.3": k3}), "k3", V.hyperbolic, "").verdict == "supported"
    assert V.law_holds(runs(**{"k3-b0.3": shift(1 / 0.3)}), "k3", V.hyperbolic, "").verdict == "refuted"
    assert V.law_holds(runs(1, **{"k3-b0.3": k3}), "k3", V.hyperbolic, "").verdict == "undecided"


def test_wrong_prefixes():
    assert V.wrong_prefixes_tilt_alike(step_rows(1.0)).verdict == "supported"
    assert V.wrong_prefixes_tilt_alike(step_rows(0.0)).verdict == "refuted"
    assert V.wrong_prefixes_tilt_alike(step_rows([0.0, 1.0, 0.5])).verdict == "undecided"
    assert V.wrong_prefixes_tilt_alike(step_rows(1.0, n=1)).verdict == "undecided" and V.wrong_prefixes_tilt_alike([]).verdict == "not run"
    unmoved = [{**r, "tuned": r["base"] * (1 + 1e-3 * (r["seed"] - 1))} for r in step_rows(1.0)]
    assert V.wrong_prefixes_tilt_alike(unmoved).verdict == "undecided"  # a share of nothing


def test_per_token_law():
    assert V.per_token_law(step_rows(0.0)).verdict == "supported"
    assert V.per_token_law(step_rows(1.0)).verdict == "refuted"
    assert V.per_token_law(step_rows([0.0, 0.0, 1.0])).verdict == "undecided" and V.per_token_law([]).verdict == "not run"


def test_rivals():
    def verdicts(n=3, distill=to(0.9), **arms):
        runs = seeds(n, parts=("rivals",), base=(0.5, 1e-12, 1e-12), **{f"rival-{name}": arm for name, arm in arms.items()}, **{"rival-distill": distill})
        return [judge(runs).verdict for judge in (V.reach_beyond_the_base, V.methods_differ, V.distillation_expands)]
    three = {"a": shift(1), "b": shift(1), "c": shift(1)}
    assert verdicts(**three)[0] == "refuted" and verdicts(**{**three, "b": to(0.5)})[0] == "supported"
    assert verdicts(**{**three, "b": [to(0.5), KEPT, KEPT]})[0] == "undecided" and verdicts(n=1, **three)[0] == "undecided"
    spread = {c: [shift(i), shift(i + 0.1), shift(i + 0.05)] for i, c in enumerate("abcd")}
    noise = {c: [shift((i * 7 + j * 5) % 4) for j in range(3)] for i, c in enumerate("abcd")}
    assert verdicts(**spread)[1] == "supported" and verdicts(**noise)[1] == "refuted" and verdicts(n=1, **spread)[1] == "undecided"
    assert verdicts(**three)[2] == "supported" and verdicts(distill=KEPT, **three)[2] == "refuted"
    assert verdicts(distill=[to(0.9), KEPT, KEPT], **three)[2] == "undecided"
    assert [judge([]).verdict for judge in (V.reach_beyond_the_base, V.methods_differ, V.distillation_expands)] == ["not run"] * 3
    runs = seeds(parts=("rivals",), **{"rival-ppo": shift(1), "rival-sft": shift(2)})
    for r in runs:
        r.rollouts = {"rival-ppo": 30720}
    assert [row[1:3] for row in V.rivals_table(runs)] == [["method", "rollouts"], ["base", ""], ["ppo", "30,720"], ["sft", ""]]


def test_spurious_reward_and_curriculum():
    random = lambda arm, n=3: V.spurious_reward(seeds(n, parts=("controls",), **{"reward=random": arm})).verdict
    assert (random(KEPT), random(shift(-2)), random([shift(1), KEPT, shift(-1)]), random(KEPT, 1)) == ("supported", "refuted", "undecided", "undecided")
    def stages(first, second, n=3):
        return V.curriculum(seeds(n, parts=("controls",), **{"curriculum-6": first, "jump-6": second})).verdict
    assert stages(shift(3), KEPT) == "supported" and stages(KEPT, shift(1)) == "refuted" and stages([shift(3), KEPT, shift(1)], KEPT) == "undecided"
    shallow = seeds(parts=("controls",), **{"curriculum-6": KEPT, "jump-6": KEPT})
    for run in shallow:
        run.masses["curriculum-6", "hard"]["d5 l4"] = np.zeros(24)
    assert V.curriculum(shallow).verdict == "refuted"  # it is depth 6 that counts
    assert V.curriculum(seeds()).verdict == V.spurious_reward(seeds()).verdict == "not run"


def test_controls_name_what_ran_and_what_did_not():
    default = seeds(**{"grpo-id": shift(2), "grpo-edge": shift(1)})
    nope = seeds(parts=("controls",), setting="position=nope", **{"grpo-id": shift(1), "grpo-edge": KEPT})
    arms = seeds(parts=("controls",), overlap=0.1, **{"grpo-id": shift(2), "reward=answer": KEPT, "surprise": KEPT})
    rows = V.controls_table(default + nope + arms)
    found = {(r[1], r[2]): r for r in rows}
    assert found["position=nope", "grpo-edge"][6].endswith("+0.000 ±0.000") and found["position=rope", "grpo-id"][4] == "3"  # the default is beside its control
    assert found["reward=trace", "grpo-id"][3] == "arithmetic depth, overlap 0.1" and found["position=learned", "not run"] and found["share=0.5", "not run"]
    assert found["surprise", "surprise"][0] == "other"  # nothing that ran is hidden


def test_tripwires():
    fine = seeds(oracle=to(0.95))
    assert R.tripwires(fine) == {}
    assert "base id 0.2" in R.tripwires(seeds(base=(0.2, 0.1, 0.1)))["arithmetic", "depth", 0.0]
    two = R.tripwires(seeds(oracle=to(0.5)) + seeds(overlap=0.1, base=(0.99, 0.1, 0.1)))
    assert two["arithmetic", "depth", 0.0] == "oracle 0.50" and two["arithmetic", "depth", 0.1].endswith("oracle 0.50") and "base id" in two["arithmetic", "depth", 0.1]


# ------------------------------------------------------------------------------------------------------------- the report

def whole_study(lift=1.0, n=2):
    """Something of every part."""
    cold = {"base T=0.7": shift(0.2), "base T=0.5": shift(0.4), "base T=0.3": shift(0.6), "base greedy": to(0.0)}
    tuned = {"grpo-id": shift(lift), "grpo-edge": shift(lift), "sft": shift(0.1), "oracle": to(0.95)}
    runs = [r for task, axis in (V.GRID[0], V.GRID[2], V.GRID[4]) for o, q in zip(V.OVERLAPS, (1e-6, 1e-4, 0.02, 0.2)) if (axis, o) != ("tokens", 0.01)
            for r in seeds(n, task=task, axis=axis, overlap=o, base=(0.55 if axis != "tokens" else 0.2, q, q / 10), **cold, **tuned)]
    runs += saturated(shift(lift), "none", n=n, noises=(0.11, 0.31, 0.51), short=KEPT) + saturated(shift(lift), n=n, noises=(0.12, 0.32, 0.52))
    runs += seeds(n, parts=("laws",), noise=0.29, **{"k1-b0.3": shift(3.3 * lift), "k1-b1": shift(lift), "k3-b1": lambda lm: np.log(V.hyperbolic(lm, 1)), "none": to(0.99)})
    runs += seeds(n, parts=("controls",), noise=0.28, overlap=0.1, **tuned, **{name: shift(lift / 2) for name in ("reward=answer", "reward=random", "curriculum-6", "jump-6", "balanced", "uniform")})
    runs += seeds(n, parts=("controls",), setting="position=nope", **tuned)
    runs += seeds(n, parts=("domains",), setting="share=0.9", **tuned)
    return runs


def test_the_files_and_back(tmp_path):
    runs = whole_study()
    save(tmp_path, runs, step_rows(n=2))
    study = V.read(tmp_path)
    assert len(study.runs) == len(runs) and len(study.steps) == 8
    again = {r.chain: r for r in study.runs}
    for run in runs:
        other = again[run.chain]
        assert other.masses.keys() == run.masses.keys() and other.parts == run.parts and (other.task, other.overlap, other.setting) == (run.task, run.overlap, run.setting)
        assert all(np.array_equal(other.masses[k][c], run.masses[k][c]) for k in run.masses for c in run.masses[k])
    assert any(r.trips for r in study.runs) and not all(r.trips for r in study.runs)


def test_a_chain_on_two_tasks_is_two_runs(tmp_path):
    two = [make(parts=("domains",), setting="share=0.5", task=task, **{"grpo-id": shift(by)}) for task, by in (("arithmetic", 1), ("graph", 2))]
    two[1].chain = two[0].chain
    save(tmp_path, two)
    read = R.read(tmp_path).runs
    assert [r.task for r in read] == ["arithmetic", "graph"] and [round(r.gain("grpo-id", "id"), 6) for r in read] == [round(r.gain("grpo-id", "id"), 6) for r in two]
    assert [row[3] for row in V.controls_table(read) if row[1] == "share=0.5"] == ["arithmetic depth, overlap 0", "graph depth, overlap 0"]


def test_the_report_says_what_the_numbers_say(tmp_path):
    texts = {}
    for lift in (1.0, -1.0):
        study = R.Study(whole_study(lift), step_rows())
        for run in study.runs:
            run.trips = R.tripwires(study.runs).get((run.task, run.axis, run.overlap), "")
        texts[lift] = V.report(study)
        found = V.verdicts(study)
        assert {v.verdict for v in found} <= {"supported", "refuted", "undecided", "not run"}
        for v in found:
            assert f"## {v.claim}: {v.verdict}" in texts[lift]
    summary = {lift: [l for l in t.split("\n") if l.startswith("| [")] for lift, t in texts.items()}
    changed = [a != b for a, b in zip(summary[1.0], summary[-1.0])]
    assert len(changed) == len(found) + 1 and sum(changed) >= 12  # the words follow the numbers
    assert "not run" in texts[1.0] and "⚠ base id" in texts[1.0] and "graph depth | 2 seeds" in texts[1.0] and "| graph tokens | not run | not run" in texts[1.0]


def test_no_claim_is_typed():
    """With nothing measured, every claim says so."""
    empty = V.verdicts(R.Study([]))
    assert {v.verdict for v in empty} == {"not run"} and not any(v.numbers or v.note or v.n_seeds for v in empty)
    assert "supported**" not in V.report(R.Study([]))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CommandError, match="study.csv and masses.npz"):
        V.read(tmp_path)
    save(tmp_path, seeds(1))
    np.savez(tmp_path / "masses.npz", other=np.zeros(3))
    with pytest.raises(CommandError, match=r"no array 'arithmetic.*\|base\|id\|d1 l4'"):
        V.read(tmp_path)


def test_a_folder_becomes_a_report_with_figures(tmp_path, monkeypatch, capsys):
    save(tmp_path, whole_study(), step_rows(n=2))
    if importlib.util.find_spec("matplotlib"):
        with open(V.write(tmp_path), encoding="utf-8") as file:
            text = file.read()
        names = {"dose.png", "gain.png", "passk.png", "saturation.png", "laws.png", "steps.png", "controls.png"}
        assert {p.name for p in tmp_path.glob("*.png")} == names and all(text.count(f"![{name}]") == 1 for name in names)
        for picture in tmp_path.glob("*.png"):
            header = picture.read_bytes()[:24]
            assert int.from_bytes(header[16:20], "big") == 900 and picture.stat().st_size < 150_000  # as wide as a README
            picture.unlink()
        import figures
        assert figures.draw(tmp_path, R.Study([], step_rows(n=2))) == ["steps.png"]
        assert figures.draw(tmp_path, R.Study([])) == []
        for picture in tmp_path.glob("*.png"):
            picture.unlink()
    save(tmp_path, seeds(1))
    monkeypatch.setattr(V.importlib.util, "find_spec", lambda name: None)
    path = V.write(tmp_path)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "matplotlib is not installed" in said and not list(tmp_path.glob("*.png"))
    with open(path, encoding="utf-8") as file:
        assert "![" not in file.read()


# ---------------------------------------------------------------------------------------------------- the committed results

RESULTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "results")


def test_the_committed_report_is_what_the_committed_numbers_give():
    """No verdict was typed: results/README.md is rebuilt from the CSVs to the letter, and the project's README quotes its first table."""
    with open(os.path.join(RESULTS, "README.md"), encoding="utf-8") as file:
        committed = file.read()
    study = V.read(RESULTS)
    assert committed == V.report(study, [name for name in sorted(os.listdir(RESULTS)) if name.endswith(".png")])
    with open(os.path.join(os.path.dirname(RESULTS), "README.md"), encoding="utf-8") as file:
        assert V.markdown(V.headline_table(study.runs)) in file.read()
