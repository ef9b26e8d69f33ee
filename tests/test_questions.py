"""questions/: every file keeps the promises of a question, and each claim says what its rule says.

The first half runs over every file in the folder, so that a new question brings its own tests. The
second half holds each claim to studies whose answers are known. The last test adds a question.
"""
import argparse
import functools
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import questions
import study
import variants
from lab import report
from lab.judge import Verdict, change_table
from questions import (balanced, critical_mass, crossover, curriculum, dose, law, methods,
                       no_mass, per_token, positions, prediction, rewards, sharpening, takeoff,
                       unseen_mass)
from synthetic import (KEPT, OVERLAPS, blind_base, by_hyperbolic_law, colder, critical, k1,
                       k3, no_kl, on_splits, rivals, run_of, seeds, shift, step_rows,
                       taking_off, tilting, to, tuned, whole_study, with_steps)

WORDS = ("supported", "refuted", "undecided", "not run", "a table")


# --------------------------------------------------------------------------------- every question

@pytest.fixture(params=questions.names())
def question(request):
    return questions.load(request.param)


study_of = functools.cache(whole_study)   # nobody changes it


def runs_for(question, n=3):
    """The runs that a question would look at, in a study whose answers are known."""
    study = study_of(n=n)
    return study.get(question.jobs.__module__.split(".")[-1], study["dose"])


def jobs_of(question, *flags):
    args = study.build_parser().parse_args(list(flags))
    return question.jobs(argparse.Namespace(**{**vars(args), "question": "it"}))


def test_its_docstring_asks_and_says_its_rule(question):
    first, *others = question.__doc__.strip().splitlines()
    assert first.endswith("?") and len(first) < 86   # with its name it fits a line of --list
    assert any("Rule" in line for line in others)


def test_each_seed_has_bases_of_its_own(question):
    one, two = jobs_of(question), jobs_of(question, "--seeds", "2")
    assert {job.out for job in one} < {job.out for job in two}
    assert len({job.out for job in two}) == 2 * len({job.out for job in one})


def test_its_evaluations_are_of_what_was_trained(question):
    jobs = jobs_of(question)
    measured = [path for job in jobs if job.script == "evaluate" for path in job.needs]
    for job in jobs:
        teaches = any(job.out in other.needs for other in jobs if other.script != "evaluate")
        assert job.script == "evaluate" or job.out in measured or teaches


def test_without_runs_it_says_so(question):
    found = question.verdicts([])
    assert found and {v.verdict for v in found} == {"not run"}, (
        'without runs, every verdict is "not run"')
    assert not any(v.numbers or v.note or v.n_seeds or len(v.table) > 1 for v in found), (
        "a verdict that is not run has empty numbers, note and table, and n_seeds = 0")
    assert question.figure([]) is None, "without runs, figure(runs) returns None"


def test_its_verdicts_are_of_the_known_words(question):
    found = question.verdicts(runs_for(question))
    assert {v.verdict for v in found} <= set(WORDS)
    for v in found:
        assert isinstance(v, Verdict) and v.claim and "\n" not in v.numbers
        assert v.n_seeds == (0 if v.verdict == "not run" else 3)
        assert len({len(row) for row in v.table}) <= 1
        assert all(isinstance(cell, str) for row in v.table for cell in row)
        assert "nan" not in v.numbers + report.markdown(v.table or [[""]])


def test_one_seed_decides_nothing(question):
    """Prompts, cells, arms and bases by the dozen are still one seed."""
    found = question.verdicts(runs_for(question, n=1))
    assert not {v.verdict for v in found} & {"supported", "refuted"}
    assert all("±" not in v.numbers for v in found)


def test_two_claims_have_two_names():
    claims = [v.claim for name in questions.names() for v in questions.load(name).verdicts([])]
    assert len(claims) == len(set(claims))


def test_a_question_on_the_runs_of_another_has_its_jobs():
    assert [questions.owner(name) for name in ("no_mass", "per_token", "undertrained", "law")] == [
        "dose", "law", "saturation", "law"]


# -------------------------------------------------------------------------------------- each claim

def only(found):
    """The word of the one claim among these verdicts."""
    words = [v.verdict for v in found if v.verdict != "a table"]
    assert len(words) == 1
    return words[0]


def test_critical_mass():
    """Bases that follow the blind law support it, bases that follow P1 refute it."""
    found, = critical_mass.verdicts(critical())
    assert found.verdict == "supported" and found.n_seeds == 5
    assert "30 of 30 predictions right (15 to take off, 15 not; 0 near" in found.numbers
    assert "two ends kept by 15 of 15" in found.numbers and len(found.table) == 31
    assert only(critical_mass.verdicts(critical(law=tilting))) == "refuted"
    assert only(critical_mass.verdicts(critical(n=1))) == "undecided"
    assert only(critical_mass.verdicts(critical(n=2))) == "undecided"     # 6 on either side
    stays = critical(law=lambda log_mass, beta, n: [math.exp(log_mass)])  # nothing ever moves
    assert only(critical_mass.verdicts(stays)) == "refuted"               # half of them are right


def test_critical_mass_needs_two_ends_that_are_kept():
    def word(change):
        runs = critical()
        for run in runs:
            change(run)
        return only(critical_mass.verdicts(runs))

    def both_low(run):
        for key in [key for key in run.masses if "above" in key[0]]:
            run.masses[key] = run.masses["below-b0.2", key[1]]

    def not_twice(run):
        for name in [name for name in run.arms if "twice" in name]:
            del run.arms[name]

    def far_from_it(run):
        for key in [key for key in run.masses if "above-twice" in key[0]]:
            run.masses[key] = {cell: np.full(24, np.log(0.7)) for cell in run.masses[key]}

    assert [word(change) for change in (both_low, not_twice, far_from_it)] == 3 * ["undecided"]


def test_critical_mass_leaves_out_what_lies_on_its_border():
    near, far = (blind_base(0, q0, 0.6, (q0, None)) for q0 in (0.0200, 0.01))
    found = critical_mass.ends([near, far])
    assert [end.near_border for end in found] == [True, False]
    said = critical_mass.verdicts([near, far])[0].numbers
    assert "1 of 1 predictions right" in said and "1 near their border left out" in said
    without = run_of(0, *on_splits(KEPT))            # a base whose tokens nobody kept
    assert critical_mass.ends([without]) == []


def test_takeoff():
    found, = takeoff.verdicts(taking_off())
    assert found.verdict == "supported" and found.n_seeds == 5
    assert "below 0.01 0 of 30 took off" in found.numbers
    assert "only the smallest 0 times" in found.numbers
    e50 = float(found.numbers.split("E50 ")[1].split()[0])
    assert 1 < e50 < 4
    assert only(takeoff.verdicts(taking_off(border=300))) == "refuted"
    assert only(takeoff.verdicts(taking_off(border=1e-9))) == "refuted"   # whatever is expected
    assert only(takeoff.verdicts(taking_off(n=1))) == "undecided"
    assert only(takeoff.verdicts(taking_off(n=3))) == "undecided"         # 18 runs below 0.01
    hopeless = taking_off()
    hopeless[0].masses["edge-8", "edge"] = {"d4 l4": np.full(24, np.log(0.5))}
    assert only(takeoff.verdicts(hopeless)) == "undecided"


def test_takeoff_must_rise_with_the_budget_within_a_base():
    runs = taking_off(prompts=(32,))                 # one budget: nothing can rise
    assert takeoff.rises(takeoff.points(runs)) == (0, 0)
    assert takeoff.rises(takeoff.points(taking_off()))[0] > 0
    run = taking_off()[-1]
    run.masses["edge-128", "edge"] = run.masses["base", "edge"]
    assert takeoff.rises(takeoff.points([run])) == (0, 1)


def test_no_mass():
    def word(change, base=(0.5, 1e-6, 1e-9), n=3):
        return only(no_mass.verdicts(seeds(*on_splits(change), base=base, n=n)))

    assert word(KEPT) == "supported"
    assert word(to(0.3)) == "refuted"
    assert word(to(1e-3)) == "refuted"                # at pass@64, not at pass@1
    assert word([KEPT, KEPT, to(0.2)]) == "undecided"  # one seed took off
    assert word(KEPT, n=1) == "undecided"
    assert word(to(0.3), base=(0.5, 0.01, 0.01)) == "not run"   # a base with mass is not judged


def test_no_mass_counts_the_right_samples_to_expect():
    run = run_of(0, *on_splits(KEPT), base=(0.5, 1e-5, 1e-9), spread=0)
    assert no_mass.expected(run) == pytest.approx(16 * 32 * 60 * 1e-5)
    run.arms["grpo-edge"].steps = 6000
    found, = no_mass.verdicts([run])
    assert found.table[1][2] == "3e+01" and "1 or more: +0.000 (1 bases)" in found.note


def test_mass_predicts_gain():
    def transfer(change, base=(0.5, 0.01, 0.001), n=3):
        runs = seeds(*on_splits(change), base=base, n=n, spread=1.5)
        return prediction.verdicts(runs)[0]

    up = transfer(shift(1))
    assert up.verdict == "supported" and "+1.00" in up.numbers and up.n_seeds == 3
    assert transfer(shift(-1)).verdict == "refuted"    # who had most lost most
    assert transfer([shift(1), shift(-1), shift(1)]).verdict == "undecided"
    assert transfer(shift(1), n=1).verdict == "undecided"
    assert transfer(KEPT).verdict == "not run"         # nothing moved: no correlation
    assert transfer(shift(1), base=(0.5, 1e-20, 1e-30)).verdict == "not run"   # outside the band


def test_transfer_and_learning_look_at_different_arms():
    up, down = on_splits(shift(1))[0], on_splits(shift(-1))[1]
    found = prediction.verdicts(seeds(up, down, base=(0.5, 0.01, 0.001)))
    assert [v.verdict for v in found] == ["supported", "refuted"]


def test_mass_predicts_gain_needs_enough_prompts():
    arms = on_splits(shift(1))
    few, enough = (seeds(*arms, base=(0.5, 0.01, 0.001), prompts=n) for n in (19, 22))
    assert prediction.verdicts(few)[0].verdict == "not run"
    assert prediction.verdicts(enough)[0].verdict == "supported"


def doses(masses, n=3, change=shift(1)):
    return [run for overlap, q in zip(OVERLAPS, masses)
            for run in seeds(*on_splits(change), n=n, overlap=overlap, base=(0.5, q, q))]


def test_overlap_buys_mass():
    rising = [1e-9, 1e-4, 0.05, 0.2]
    bought = dose.verdicts(doses(rising))[0]
    assert bought.verdict == "supported" and "base mass +0." in bought.numbers
    half = float(bought.table[1][2].split()[0])
    assert 0.01 < half < 0.1   # half of the effect lies between the last two doses
    assert only(dose.verdicts(doses(rising[::-1]))) == "refuted"
    assert only(dose.verdicts(doses(rising, n=1))) == "undecided"
    assert only(dose.verdicts(doses(rising[:2]))) == "not run"     # two doses are no trend
    assert only(dose.verdicts(doses(rising, change=shift(-9)))) == "refuted"   # the gain falls


def test_overlap_buys_mass_needs_the_seeds_to_agree():
    masses = [0.1, 0.2, 0.15, 0.1]
    runs = [run_of(seed, *on_splits(shift(1)), overlap=overlap,
                   base=(0.5, masses[(i + 2 * seed) % 4], 0.1))
            for i, overlap in enumerate(OVERLAPS) for seed in range(3)]
    assert only(dose.verdicts(runs)) == "undecided"


def test_the_doses_tables_say_what_ran_and_what_did_not():
    study_of = whole_study()["dose"]
    before, grid, arms = dose.verdicts(study_of)[1:]
    rows = {row[0]: row for row in grid.table}
    assert rows["graph depth"][1].startswith("2 seeds, id 0.5")
    assert rows["graph tokens"][1:] == ["not run"] * 5
    assert "⚠ base id 0.2" in rows["arithmetic tokens"][1]
    assert "⚠" in {row[0]: row for row in before.table}["arithmetic tokens"][1]
    assert len(arms.table) == 1 + 3 * 4


def test_mass_without_overlap():
    places = {"composition": ("arithmetic", "composition"), "graph": ("graph", "length"),
              "depth": ("arithmetic", "depth"), "length": ("arithmetic", "length")}
    claimed = {"composition": 0.2, "graph": 0.3, "depth": 1e-6, "length": 1e-6}

    def word(masses, n=3, **options):
        return only(unseen_mass.verdicts(
            [run for name, q in masses.items()
             for run in seeds(*on_splits(KEPT), task=places[name][0], axis=places[name][1],
                              base=(0.5, q, q), n=n, **options)]))

    assert word(claimed) == "supported"
    assert word({**claimed, "composition": 1e-5}) == "refuted"
    assert word({**claimed, "depth": 0.2}) == "refuted"
    assert word(claimed, n=1) == "undecided"
    assert word({"composition": 0.2, "depth": 1e-6}) == "undecided"   # two of four are not there
    assert word(claimed, overlap=0.1) == "not run"


def narrowed(log_mass):
    """Half of the prompts become certain, the others impossible: pass@1 rises, pass@k falls."""
    return np.where(np.arange(len(log_mass)) % 2, -1e-9, -60.0)


def test_crossover():
    def found(change, n=3):
        return crossover.verdicts(seeds(*on_splits(change), n=n, base=(0.3, 0.3, 0.1)))[0]

    assert found(shift(1)).verdict == "supported"
    crossed = found(narrowed)
    assert crossed.verdict == "refuted"
    assert crossed.table[1][1] == "0.50 ±0.00" and 2 <= int(crossed.table[1][2]) <= 8
    assert found([narrowed, shift(1), shift(1)]).verdict == "undecided"
    assert found(narrowed, n=1).verdict == "undecided"
    assert crossover.verdicts(seeds(tuned("grpo-mix", shift(1))))[0].verdict == "not run"


def test_one_cell_is_enough_for_a_crossover():
    fine = seeds(*on_splits(shift(1)), base=(0.3, 0.3, 0.1))
    crossed = seeds(*on_splits(narrowed), base=(0.3, 0.3, 0.1), overlap=0.1)
    found = crossover.verdicts(fine + crossed)[0]
    assert found.verdict == "refuted" and found.numbers.startswith("supported in 2, refuted in 2")


def test_a_cell_of_one_seed_does_not_hold_up_the_others():
    arms = on_splits(shift(1))
    runs = seeds(*arms, base=(0.3, 0.3, 0.1)) + seeds(*arms, n=1, overlap=0.1)
    assert crossover.verdicts(runs)[0].verdict == "supported"


def test_the_share_of_prompts_that_fell():
    def a_third_lower(log_mass):
        return np.where(np.arange(len(log_mass)) % 3, log_mass + 1e-9, log_mass - 1)

    assert crossover.verdicts(seeds(*on_splits(a_third_lower)))[0].table[1][1] == "0.33 ±0.00"


def test_cells_that_disagree_about_sharpening_decide_nothing():
    def cell(change, cold, overlap):
        return seeds(*on_splits(change), colder(0.7, cold), overlap=overlap)

    more, less = cell(shift(3), shift(1), 0.0), cell(shift(1), shift(3), 0.1)
    assert sharpening.verdicts(more)[0].verdict == "supported"
    assert sharpening.verdicts(more + less)[0].verdict == "undecided"


def test_sharpening():
    def found(change, cold, n=3, base=(0.5, 0.2, 0.05)):
        runs = seeds(*on_splits(change), colder(0.7, cold), colder(0, to(0)), n=n, base=base)
        return sharpening.verdicts(runs)[0]

    assert found(shift(3), shift(1)).verdict == "supported"
    assert found(shift(1), shift(3)).verdict == "refuted"   # the cold base does better
    assert found([shift(3), shift(1), shift(0)], shift(1)).verdict == "undecided"
    assert found(shift(3), shift(1), n=1).verdict == "undecided"
    nothing = found(shift(3), shift(1), base=(1e-9, 1e-9, 1e-9))
    assert nothing.verdict == "not run" and "1 cells" in nothing.note
    # without a colder base there is nothing to compare
    assert sharpening.verdicts(seeds(*on_splits(shift(3))))[0].verdict == "not run"


def test_the_laws_of_the_two_kls():
    def word(kl, *arms, n=3):
        found = law.verdicts(seeds(*arms, n=n))
        return found[["k1_reward", "k3_loss"].index(kl)].verdict

    on_the_law = [k1(0.3, shift(1 / 0.3)), k1(1, shift(1)), no_kl(to(0.9))]
    assert word("k1_reward", *on_the_law) == "supported"
    assert word("k1_reward", k1(1, shift(3))) == "refuted"
    assert word("k1_reward", on_the_law[0], k1(1, shift(3))) == "refuted"   # one is enough
    assert word("k1_reward", k1(1, [shift(1), shift(1), shift(3)])) == "undecided"
    assert word("k1_reward", no_kl(shift(3))) == "not run"   # without a KL there is no law
    assert word("k3_loss", k3(0.3, by_hyperbolic_law(0.3))) == "supported"
    assert word("k3_loss", k3(0.3, shift(1 / 0.3))) == "refuted"
    assert word("k3_loss", k3(0.3, by_hyperbolic_law(0.3)), n=1) == "undecided"


def test_the_laws_table_has_the_line_through_the_prompts():
    runs = seeds(k1(0.3, shift(1 / 0.3)), k1(1, shift(1)), no_kl(to(0.9)))
    table = law.verdicts(runs)[0].table
    assert [row[0] for row in table[1:]] == ["0.3"] * 3 + ["1"] * 3 + ["no KL"] * 3
    assert table[1][6] == "1.00 ±0.00 (1.00)" and table[1][7] == "3.33 ±0.00 (3.33)"


def test_arms_are_known_by_their_columns_not_by_their_names():
    named_otherwise = k1(1, shift(1))
    named_otherwise[0].name = "b17"
    assert law.verdicts(seeds(named_otherwise))[0].verdict == "supported"


def test_wrong_prefixes():
    def word(*shares):
        return per_token.verdicts(with_steps(shares))[0].verdict

    assert word(1.0, 1.0, 1.0) == "supported"
    assert word(0.0, 0.0, 0.0) == "refuted"
    assert word(0.0, 1.0, 0.5) == "undecided"
    assert word(1.0) == "undecided" and word() == "not run"


def test_a_share_of_no_tilt_decides_nothing():
    runs = with_steps([1.0, 1.0, 1.0])
    for run in runs:
        for step in run.steps:
            step["tuned"] = step["base"] * (1 + 1e-3 * (run.seed - 1))
    assert per_token.verdicts(runs)[0].verdict == "undecided"


def test_the_per_token_law():
    def word(*shares, off=0.0):
        return per_token.verdicts(with_steps(shares, off))[1].verdict

    assert word(0.0, 0.0, 0.0) == "supported"
    assert word(1.0, 1.0, 1.0) == "refuted"       # wrong prefixes moved
    assert word(0.0, 0.0, 0.0, off=0.1) == "refuted"   # right ones moved too far
    assert word(0.0, 0.0, 1.0) == "undecided" and word() == "not run"


def test_steps_of_another_kl_are_not_looked_at():
    runs = with_steps([0.0, 0.0, 0.0])
    for run in runs:
        run.steps += [{**step, "kl": "k3_loss", "law": None} for step in step_rows(run.seed, 1.0)]
    assert [v.verdict for v in per_token.verdicts(runs)] == ["refuted", "supported"]


def test_a_reward_that_ignores_the_answer():
    def word(change, n=3):
        return only(rewards.verdicts(seeds(tuned("reward=random", change, reward="random"), n=n)))

    assert word(KEPT) == "supported" and word(shift(-2)) == "refuted"
    assert word([shift(1), KEPT, shift(-1)]) == "undecided" and word(KEPT, n=1) == "undecided"
    on_id_alone = seeds(tuned("reward=random", shift(-2), reward="random"), base=(0.5, 1e-9, 1e-9))
    assert only(rewards.verdicts(on_id_alone)) == "refuted"   # the edge had nothing to lose
    others = seeds(tuned("reward=format", shift(-2), reward="format"))
    assert only(rewards.verdicts(others)) == "not run"


def test_curriculum():
    def runs(stages, jump):
        return seeds(tuned("curriculum-6", stages), tuned("jump-6", jump))

    assert only(curriculum.verdicts(runs(shift(3), KEPT))) == "supported"
    assert only(curriculum.verdicts(runs(KEPT, shift(1)))) == "refuted"
    assert only(curriculum.verdicts(runs([shift(3), KEPT, shift(1)], KEPT))) == "undecided"
    shallow = runs(KEPT, KEPT)
    for run in shallow:
        run.masses["curriculum-6", "hard"]["d5 l4"] = np.zeros(24)
    assert only(curriculum.verdicts(shallow)) == "refuted"   # it is depth 6 that counts


def test_methods():
    three = {"a": shift(1), "b": shift(1), "c": shift(1)}

    def words(n=3, distill=to(0.9), **methods_of):
        found = methods.verdicts(rivals(n, distill, **methods_of))
        return found[0].verdict, found[6].verdict

    assert words(**three) == ("refuted", "supported")
    assert words(**{**three, "b": to(0.5)})[0] == "supported"   # one method in one cell is enough
    assert words(**{**three, "b": [to(0.5), KEPT, KEPT]})[0] == "undecided"
    assert words(distill=KEPT, **three)[1] == "refuted"
    assert words(distill=[to(0.9), KEPT, KEPT], **three)[1] == "undecided"
    assert words(n=1, **three) == ("undecided", "undecided")
    # a mass of 0.001 is not to be seen at pass@1, and plain at pass@1024
    assert words(**{**three, "b": to(1e-3)})[0] == "supported"
    # distillation is held against the best RL method, not against the base
    assert words(**{**three, "b": to(0.9)})[1] == "refuted"
    # sft, rft and distillation are not RL: what they reach does not count
    assert words(sft=to(0.9), rft=to(0.9), **three)[0] == "refuted"


def test_many_comparisons_need_a_clearer_one():
    """What one method of three shows is no finding among ninety that show nothing."""
    good = [to(4e-7), to(5e-7), to(6e-7)]   # pass@2^20: 0.34, 0.41, 0.47
    few, many = ({f"m{i}": KEPT for i in range(n)} for n in (2, 90))
    assert methods.verdicts(rivals(good=good, **few))[0].verdict == "supported"
    found = methods.verdicts(rivals(good=good, **many))[0]
    assert found.verdict == "undecided" and "the largest: good" in found.numbers


def test_a_method_is_held_against_grpo_with_as_many_updates():
    def words(**arms):
        base = (0.5, 1e-12, 1e-12)
        arms = [tuned(f"rival-{name}", change, method=name.split("_")[0], epochs=epochs)
                for name, (change, epochs) in arms.items()]
        found = methods.verdicts(seeds(*arms, base=base, question="methods"))
        return [found[i].verdict for i in (0, 2, 3)], found[7].table

    twice = {"grpo": (KEPT, 1), "grpo_twice": (to(0.5), 2)}
    # two updates reach more than the base, and no more than GRPO's second update does
    held, table = words(**twice, cispo=(to(0.5), 2))
    assert held == ["supported", "refuted", "refuted"]
    held, _ = words(grpo=(to(0.5), 1), rloo=(to(0.5), 1))
    assert held == ["supported", "refuted", "refuted"]
    held, _ = words(grpo=(KEPT, 1), passk=(to(0.5), 1))      # it aims elsewhere
    assert held == ["supported", "supported", "not run"]
    rows = {row[1]: row for row in table}
    assert rows["grpo, two updates"][2] == "2" and rows["cispo"][5].startswith("+0.000")


def test_where_the_base_reaches_all_there_is_nothing_to_expand():
    runs = rivals(base=(0.5, 0.3, 0.1), a=shift(1))
    assert {methods.verdicts(runs)[i].verdict for i in (0, 1, 2, 3, 6)} == {"not run"}


def test_methods_differ_by_more_than_seeds_do():
    def word(**changes):
        return methods.verdicts(rivals(**changes))[4].verdict

    apart = {name: [shift(i), shift(i + 0.1), shift(i + 0.05)] for i, name in enumerate("abcd")}
    noise = {name: [shift((i * 7 + seed * 5) % 4) for seed in range(3)]
             for i, name in enumerate("abcd")}
    assert word(**apart) == "supported" and word(**noise) == "refuted"


def test_every_method_that_sees_no_gold_is_asked():
    here = {*methods.METHODS, "sft", "distill"}
    assert here <= {*variants.names()} and len(here) == len(methods.METHODS) + 2


@pytest.mark.parametrize("seeds_, between, within, p, word", [
    (3, 0.2, 0.1, 0.01, "supported"),
    (3, 0.1, 0.2, 0.01, "undecided"),   # more than chance, less than seeds
    (3, 0.1, 0.2, 0.50, "refuted"),
    (3, 0.2, 0.1, 0.50, "undecided"),
    (1, 0.2, 0.1, 0.01, "undecided"),
])
def test_methods_against_seeds(seeds_, between, within, p, word):
    assert methods.differ(seeds_, between, within, p) == word


def test_labels_are_shuffled_within_a_seed():
    """Seeds that differ a lot say nothing of methods, nor hide that one is always best."""
    luck = np.array([[0.0], [10.0], [20.0], [30.0], [40.0]])
    between, within, p = methods.spread(luck + np.array([[0.0, 0.1, 0.2, 0.3]]))
    assert p < 0.01 and between < within
    noise = np.random.default_rng(1).normal(size=(5, 4))
    assert methods.spread(luck + noise)[2] > 0.05


def test_the_table_of_methods_is_a_ranking():
    runs = seeds(tuned("rival-ppo", shift(1), method="ppo", rollouts=30720),
                 tuned("rival-sft", shift(2), method="sft"))
    rows = [row[:4] for row in methods.verdicts(runs)[7].table]
    assert rows == [["", "method", "updates", "rollouts"], ["", "base", "", ""],
                    ["1", "sft", "1", ""], ["2", "ppo", "1", "30,720"]]


def test_controls_put_the_default_beside_what_was_changed():
    plain, nope = seeds(*on_splits(shift(2))), seeds(*on_splits(KEPT), setting="position=nope")
    table = positions.verdicts(plain + nope)[0].table
    found = {row[0]: row for row in table[1:]}
    assert set(found) == {f"{p}: {arm}" for p in ("position=rope", "position=nope")
                          for arm in ("grpo-id", "grpo-edge")}
    assert found["position=nope: grpo-id"][2].endswith("+0.000 ±0.000")
    assert found["position=rope: grpo-id"][5] == "3"
    assert positions.verdicts(plain + nope)[0].numbers.endswith("; learned: not run")
    kept, changed = on_splits(KEPT)[1], tuned("balanced", shift(1), method="balanced")
    assert [row[0] for row in balanced.verdicts(seeds(kept, changed))[0].table] == [
        "method", "grpo", "balanced"]
    numbered = change_table("steps", [(3000.0, "grpo-edge", seeds(kept))])
    assert numbered[1][0] == "3000.0"   # a label may be a number; a table is text


def test_half_of_an_effect():
    assert dose.half_dose([0, 0.01, 0.1], [0, 0.5, 1]) == pytest.approx(0.01)
    assert math.isnan(dose.half_dose([0, 0.01, 0.1], [0, 0.005, 0.01]))   # next to no effect
    assert math.isnan(dose.half_dose([0, 0.01, 0.1], [1, 0.5, 0.0]))


# -------------------------------------------------------------------------------- adding a question

PAGE = Path(__file__).resolve().parent.parent / "docs" / "write_your_own.md"
NEW = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[0]


def test_a_new_file_is_a_new_question(tmp_path, monkeypatch, capsys):
    """Listed, planned, run, judged, published and in the report, with no other line changed."""
    (tmp_path / "here").mkdir()
    name = "helps_of_this_test"   # a reader's questions/helps.py may be there too
    (tmp_path / "here" / f"{name}.py").write_text(NEW)
    monkeypatch.setattr(questions, "__path__", [*questions.__path__, str(tmp_path / "here")])
    monkeypatch.setattr(study, "RESULTS", str(tmp_path / "results"))
    tiny = [name, "--pretrain-steps", "4", "--grpo-steps", "2", "--prompts", "4",
            "--out", str(tmp_path / "runs")]
    try:
        study.main(["--list"])
        assert f"{name} Does GRPO help at all?" in capsys.readouterr().out
        study.main([*tiny, "--plan"])
        assert capsys.readouterr().out.count("to do") == 3
        study.main(tiny)
        said = capsys.readouterr().out
        assert "undecided: GRPO helps" in said
        study.main([*tiny, "--publish"])
    finally:
        sys.modules.pop(f"questions.{name}", None)
    page = (tmp_path / "results" / "README.md").read_text(encoding="utf-8")
    assert "## Does GRPO help at all?" in page
    assert f"[GRPO helps](#{name}-1) | **undecided**" in page
    assert f"| [{name}](#{name}) | 1 | 1 | 1 |" in page
