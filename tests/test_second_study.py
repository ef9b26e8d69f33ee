"""The claims of the second study: each says what its rule says of studies whose answers are known,
and does not fall into the trap that its rule names."""
import argparse
import math

import numpy as np
import pytest

import study
from lab.jobs import DEFAULTS
from questions import (alignment, domains, exposure, group_size, noticing, saturation, steps,
                       undertrained)
from synthetic import (KEPT, aligned, dialled, exposed, k1, mended, no_kl, noticing as noticed,
                       noticing_base, run_of, seeds, shift, spent, stopped_early, to, tuned,
                       two_domains)


def words(question, runs):
    return [v.verdict for v in question.verdicts(runs)]


def jobs_of(question, *flags):
    args = study.build_parser().parse_args(list(flags))
    return question.jobs(argparse.Namespace(**{**vars(args), "question": "it"}))


# --------------------------------------------------------------------------------------- alignment

def test_alignment():
    found, = alignment.verdicts(aligned())
    assert found.verdict == "supported" and found.n_seeds == 5
    assert float(found.numbers.split()[1]) == pytest.approx(1, abs=0.05)
    assert "positive on 5 of 5 axes; over seeds and axes" in found.numbers
    assert len(found.table) == 16
    assert words(alignment, aligned(rise=-1.0)) == ["refuted"]
    assert words(alignment, aligned(n=1)) == ["undecided"]
    assert words(alignment, aligned(rise=[3.0, 3.0, 3.0, -0.1, -0.1])) == ["undecided"]  # 3 of 5
    assert words(alignment, aligned(axes=3)) == ["undecided"]                   # two did not run
    assert words(alignment, aligned(rise=[1.0, 1.0, 1.0, 1.0, -0.1])) == ["supported"]


def test_one_shift_for_all_bases_is_no_alignment():
    """It raises the masses in the middle most, and correlates with mass in every cell."""
    runs = aligned(rise=0.0)
    gains = {q: np.mean([r.gain("grpo-id", "edge") for r in runs if r.overlap == q])
             for q in (0.001, 0.01, 0.1)}
    assert gains[0.001] < gains[0.01] < gains[0.1]
    assert words(alignment, runs) == ["undecided"]


def test_a_slope_takes_three_bases_of_one_seed():
    runs = aligned()
    two = [r for r in runs if r.overlap != 0.01 and r.noise != 0.4]
    assert words(alignment, two) == ["not run"]
    one_axis = {place: list(of) for place, of in alignment.slopes(runs).items()}
    assert one_axis["graph length"] == [0, 1, 2, 3, 4]


def test_transfer_is_the_edges_shift_over_that_of_id():
    run, = aligned(n=1, axes=1)[:1]
    assert alignment.transfer(run) == pytest.approx(1)
    run.masses["grpo-id", "id"] = run.masses["base", "id"]
    assert math.isnan(alignment.transfer(run))
    assert alignment.logit_shift(run, "grpo-id", "edge") == pytest.approx(1.0, abs=0.06)
    assert math.isnan(alignment.logit_shift(run, "grpo-edge", "edge"))


def test_the_axes_that_have_mass_anyway_are_dialled_by_noise():
    bases = [job.about for job in jobs_of(alignment) if job.script == "pretrain"]
    dials = {}
    for about in bases:
        dials.setdefault((about["task"], about["axis"]), []).append((about["overlap"],
                                                                     about["noise"]))
    assert len(dials) == 5 and {len(of_axis) for of_axis in dials.values()} == {3}
    by_overlap = [(overlap, DEFAULTS["noise"]) for overlap in alignment.OVERLAPS]
    assert dials["arithmetic", "length"] == dials["graph", "depth"] == by_overlap
    assert dials["graph", "length"] == [(0.0, noise) for noise in alignment.NOISES]


# ---------------------------------------------------------------------------------------- noticing

def test_noticing():
    with_marks, without = noticing.verdicts(noticed())
    assert [with_marks.verdict, without.verdict] == ["supported", "supported"]
    assert with_marks.n_seeds == 5 and len(with_marks.table) == 3
    assert with_marks.numbers.startswith("share after an error 0.02")
    # a base that marks its errors and is as blind as any
    assert words(noticing, noticed(marked=(1.0, "P11"))) == ["refuted", "supported"]
    assert words(noticing, noticed(unmarked=(0.0, "P1"))) == ["supported", "refuted"]
    assert words(noticing, noticed(n=1)) == ["undecided", "undecided"]


def test_noticing_asks_for_the_share_and_for_the_end():
    assert words(noticing, noticed(marked=(0.0, "P11")))[0] == "refuted"
    assert words(noticing, noticed(marked=(1.0, "P1")))[0] == "refuted"
    assert words(noticing, noticed(marked=(0.48, "P1")))[0] == "undecided"   # about a half


def test_bases_of_another_mass_are_no_pair():
    assert words(noticing, noticed(q0=0.3)) == ["not run", "not run"]
    some = noticed(n=4) + [noticing_base(4, True, 1.0, "P11", 0.3),
                           noticing_base(4, False, 1.0, "P11")]
    found = noticing.verdicts(some)[0]
    assert found.verdict == "supported" and found.n_seeds == 4
    assert "1 seeds left out" in found.numbers
    alone = [r for r in noticed() if r.setting]
    assert words(noticing, alone) == ["not run", "not run"]


def test_a_share_of_no_shift_decides_nothing():
    runs = noticed()
    for run in runs:
        for row in run.steps:
            row["tuned"] = row["base"] * (1 + 1e-3 * (run.seed - 2.2))
    assert words(noticing, runs) == ["undecided", "undecided"]


def test_ends_for_which_the_laws_agree_are_left_out():
    end, = noticing.ends([noticing_base(0, True, 0.0, "P1")])[:1]
    assert end.nearer == pytest.approx(-end.apart, abs=0.1) and end.p1 > end.p11
    assert math.isnan(end._replace(p11=end.p1 * 1.05).nearer)
    low = noticing.ends([noticing_base(0, True, 0.0, "P11")])[1]    # beta 0.3: the other way round
    assert low.beta == 0.3 and low.p1 < low.p11 and low.nearer > 0


# ---------------------------------------------------------------------------------------- exposure

def test_exposure():
    found, = exposure.verdicts(exposed())
    assert found.verdict == "supported" and found.n_seeds == 5 and len(found.table) == 9
    assert found.numbers == "arithmetic from 1 % on; graph from 1 % on"
    assert words(exposure, exposed(after=(1e-3, 1e-3, 0.6, 0.9))) == ["refuted"]   # 1 % fails
    assert words(exposure, exposed(after=(0.3, 0.4, 0.6, 0.9))) == ["refuted"]     # 0.1 % works
    assert words(exposure, exposed(n=1)) == ["undecided"]
    wavering = [to(1e-3), to(0.3), to(1e-3), to(0.2), to(1e-3)]
    runs = [r for r in exposed() if r.setting != "exposure=0.01"]
    runs += [r for task in ("arithmetic", "graph")
             for r in seeds(tuned("grpo-edge", wavering, train_on="edge"), n=5, task=task,
                            axis="tokens", setting="exposure=0.01", base=(0.5, 1e-3, 1e-6))]
    assert words(exposure, runs) == ["undecided"]


def test_one_family_is_not_both():
    graph = exposed(tasks=["graph"])
    found, = exposure.verdicts(graph)
    assert found.verdict == "undecided" and "arithmetic at no share" in found.numbers
    fails = exposed(tasks=["arithmetic"], after=(1e-3, 1e-3, 1e-3, 1e-3))
    assert words(exposure, fails + graph) == ["refuted"]


def test_mass_that_the_base_had_is_no_lift():
    assert words(exposure, exposed(base=0.9, after=(0.85, 0.85, 0.85, 0.85))) == ["refuted"]


# ----------------------------------------------------------------------------------------- domains

def test_domains():
    early, late = domains.verdicts(two_domains())
    assert [early.verdict, late.verdict] == ["supported", "undecided"]
    assert early.n_seeds == 5 and len(early.table) == 7
    assert early.numbers.startswith("being favoured is worth +1.6")   # of 2 for all against none
    assert words(domains, two_domains(worth=(-1.0, 2.0))) == ["refuted", "supported"]
    assert words(domains, two_domains(n=1)) == ["undecided", "undecided"]


def test_a_family_that_always_gains_more_is_not_favoured():
    assert words(domains, two_domains(worth=(0.0, 0.0), own=3.0))[0] == "undecided"
    assert words(domains, two_domains(worth=(2.0, 2.0), own=-9.0)) == ["supported", "supported"]


def test_favour_takes_both_bases_of_a_seed():
    one = [r for r in two_domains() if r.setting == "share=0.9"]
    assert domains.favour(one, "early") == [] and words(domains, one) == ["not run", "not run"]
    assert domains.own_share(one[0]) == 0.9 and domains.own_share(one[-1]) == 0.1


def test_early_is_a_quarter_of_late():
    arms = [job for job in jobs_of(domains) if job.script == "finetune"]
    assert [job.steps for job in arms] == [15, 60] * 3
    early, late = (job.argv for job in arms[:2])
    assert set(early) - set(late) == {arms[0].out, "15"}


# --------------------------------------------------------------------------- group size, and steps

def test_group_size():
    rare, common = group_size.verdicts(spent())
    assert [rare.verdict, common.verdict] == ["supported", "supported"]
    assert rare.numbers == "+1.00 ±0.00 logits for four times the group" and rare.n_seeds == 5
    assert [row[1] for row in rare.table[1:4]] == ["4 x 128", "16 x 32", "64 x 8"]
    assert words(group_size, spent(rare=(3.0, 2.0, 1.0)))[0] == "refuted"
    assert words(group_size, spent(common=(1.0, 1.0, 3.0)))[1] == "refuted"
    assert words(group_size, spent(common=(0.0, 1.0, 1.0)))[1] == "refuted"   # one is enough
    assert words(group_size, spent(n=1)) == ["undecided", "undecided"]
    assert words(group_size, spent(rare=(1.0, 2.0)))[0] == "not run"          # one size is missing


def test_group_size_holds_rollouts_fixed():
    """A larger group of as many prompts is more rollouts, and not what is asked."""
    arms = [job.argv for job in jobs_of(group_size)
            if job.script == "finetune" and "--group-size" in job.argv]
    spent_by = {int(argv[argv.index("--group-size") + 1])
                * int(argv[argv.index("--prompts-per-step") + 1]) for argv in arms}
    assert len(arms) == 8 and spent_by == {512}
    run = run_of(0, tuned("more", shift(9), train_on="edge", group_size=64, prompts_per_step=32))
    assert group_size.of_size(run, "edge", 64) == ""


def test_seeds_that_disagree_about_groups_decide_nothing():
    up, down = spent(n=5), spent(n=5, rare=(3.0, 2.0, 1.0))
    assert words(group_size, [r for r in up if r.seed < 3] + [r for r in down if r.seed > 2])[0] \
        == "undecided"


def test_steps():
    def found(**shifts):
        return words(steps, spent(question="steps", **shifts))

    assert found(common=(0.5, 1.0, 1.5)) == ["supported", "supported"]
    assert found(rare=(3.0, 2.0, 1.0), common=(0.5, 1.0, 1.5))[0] == "refuted"   # on one split
    assert found(common=(1.0, 1.0, 1.0), rare=(1.0, 1.0, 1.0))[0] == "undecided"
    assert found(colder=(1.5, 2.5))[1] == "refuted"
    assert found(n=1) == ["undecided", "undecided"]
    more, colder = steps.verdicts(spent(question="steps"))
    assert "edge: +1.00 ±0.00 logits for four times the steps" in more.numbers
    assert [row[2] for row in more.table[1:4]] == [
        "15 steps of 128 prompts", "60 steps of 32 prompts", "240 steps of 8 prompts"]
    assert colder.numbers == "0.7 minus 1.3: +1.00 ±0.00 logits on the edge"


def test_steps_hold_rollouts_fixed_and_are_group_sizes_bases():
    arms = [job for job in jobs_of(steps) if job.script == "finetune"]
    prompts = [job.argv[job.argv.index("--prompts-per-step") + 1]
               if "--prompts-per-step" in job.argv else "32" for job in arms]
    assert {job.steps * int(n) for job, n in zip(arms, prompts)} == {60 * 32}
    plain = {(job.out, *job.argv) for job in jobs_of(group_size) if job.script != "evaluate"}
    shared = [job for job in jobs_of(steps) if (job.out, *job.argv) in plain]
    assert len(shared) == 6   # two bases, and the default of each split


# -------------------------------------------------------------------- saturation, and undertrained

def both_kinds(change, n=3):
    return dialled(no_kl(change), n=n) + stopped_early(no_kl(change), n=n)


def test_saturation():
    constant, left = saturation.verdicts(both_kinds(mended(0.9)))
    assert [constant.verdict, left.verdict] == ["supported", "refuted"] and constant.n_seeds == 3
    assert constant.numbers.count(": slope ") == 3 and "c 0.900 ±0.000" in left.numbers
    assert len(constant.table) == 7 and constant.table[1][1].endswith(", 0.90 ±0.00")
    assert words(saturation, both_kinds(mended(0.98))) == ["supported", "supported"]
    rising = both_kinds(mended(0.7, rise=0.5))
    assert words(saturation, rising) == ["refuted", "refuted"]
    one, two, three = mended(0.9), mended(0.99), mended(0.9, rise=0.3)
    assert words(saturation, both_kinds([one, two, three])) == ["undecided", "undecided"]
    assert words(saturation, both_kinds(mended(0.9), n=1)) == ["undecided", "undecided"]
    assert words(saturation, dialled(k1(1, mended(0.9)))) == ["not run", "not run"]   # with a KL


def test_a_gain_that_shrinks_with_mass_is_no_slope_of_c():
    """The gain itself always falls as the base gets better: 1 - Q0 is left."""
    runs = both_kinds(mended(0.9))
    gains = [r.gain("none", "id") for r in runs]
    assert np.polyfit([r.reach("base", "id") for r in runs], gains, 1)[0] < -0.8
    assert words(saturation, runs)[0] == "supported"
    assert words(saturation, both_kinds(shift(3)))[0] == "refuted"   # one shift: c rises with mass


def test_one_depth_that_departs_refutes_for_all():
    runs = both_kinds(mended(0.9))
    for run in runs:
        before = run.masses["base", "id"]["d3 l4"]
        run.masses["none", "id"]["d3 l4"] = mended(0.6, rise=0.6)(before)
    assert words(saturation, runs)[0] == "refuted"


def test_a_slope_takes_bases_of_one_seed():
    two = [r for r in dialled(no_kl(mended(0.9))) if r.noise != 0.4]
    assert words(saturation, two)[0] == "not run"
    named_otherwise = no_kl(mended(0.9))
    named_otherwise[0].name = "b17"      # arms are known by their columns
    assert words(saturation, dialled(named_otherwise))[0] == "supported"


def test_undertrained():
    def found(noisy, short, **options):
        runs = dialled(no_kl(noisy)) + stopped_early(no_kl(short), **options)
        return undertrained.verdicts(runs)[0]

    assert found(mended(0.9), mended(0.95)).verdict == "supported"
    less = found(mended(0.9), mended(0.5))
    assert less.verdict == "refuted" and "difference of c -0.4" in less.numbers
    assert less.n_seeds == 3 and len(less.table) == 4
    wavering = [mended(0.9), mended(0.5), mended(0.9)]
    assert found(mended(0.9), wavering).verdict == "undecided"
    assert undertrained.verdicts(dialled(no_kl(KEPT)))[0].verdict == "not run"
    beyond = found(mended(0.9), mended(0.5), masses=(0.01, 0.02, 0.99))   # of no noisy base
    assert beyond.verdict == "not run"


def test_undertrained_bases_are_held_against_noisy_ones_of_their_own_seed():
    luck = [mended(0.2), mended(0.5), mended(0.9)]   # of a seed, for both kinds
    assert words(undertrained, both_kinds(luck)) == ["supported"]


def test_as_many_noisy_bases_as_undertrained_ones():
    made = [job for job in jobs_of(saturation) if job.script == "pretrain"]
    assert [job.about["noise"] > 0 for job in made] == [True] * 3 + [False] * 3
    steps_of = {job.steps for job in jobs_of(saturation) if job.script == "finetune"}
    assert steps_of == {480}
