"""questions/gold.py and after_takeoff.py: their verdicts on studies whose answers are known."""
import argparse

import pytest

import study
import variants
from cli import knobs
from lab.runner import SCRIPTS
from questions import after_takeoff, gold
from questions.after_takeoff import climb, warm
from questions.gold import BUDGETS, CONTROLS, CREDITED, METHODS
from questions.takeoff import rises
from synthetic import BOUGHT, LED_TO, climbing, credited, shown_gold


def times(factor):
    """Masses that are so many times those that sft buys."""
    return tuple(factor * mass for mass in BOUGHT)



def claim(runs):
    return gold.verdicts(runs)[0]


# -------------------------------------------------------------------- does a hint buy more than sft

def test_a_method_that_reaches_further_at_equal_gold_supports_the_claim():
    found = claim(shown_gold(guide=times(10), nurl=times(0.1)))
    assert found.verdict == "supported" and found.n_seeds == 5
    assert "the largest: Guide-GRPO, arithmetic depth, 500 tokens" in found.numbers
    assert "6 comparisons, 3 intervals below +0.1 decades, 3 below 0" in found.numbers
    assert len(found.table) == 7


def test_it_is_refuted_only_if_no_method_at_any_budget_can_be_further():
    assert claim(shown_gold(guide=times(0.1), nurl=times(1))).verdict == "refuted"
    wide = claim(shown_gold(guide=times(0.1), nurl=times(1), spread=0.5))
    assert wide.verdict == "undecided"


def test_a_twentieth_more_is_no_more():
    assert claim(shown_gold(guide=times(1.05))).verdict == "refuted"


def test_one_seed_decides_nothing():
    for factor in (0.1, 10):
        found = claim(shown_gold(n=1, guide=times(factor)))
        assert found.verdict == "undecided" and "±" not in found.numbers


def test_many_methods_need_smaller_p_values():
    """What is clear by itself may be luck among thirty."""
    alone = claim(shown_gold(spread=0.04, expo=times(1.6)))
    assert alone.verdict == "supported" and "3 comparisons" in alone.numbers
    others = {method: times(1) for method in METHODS}
    among = claim(shown_gold(spread=0.04, **{**others, "expo": times(1.6)}))
    assert among.verdict == "undecided" and "30 comparisons" in among.numbers


def test_where_sft_has_reached_the_edge_nothing_is_compared():
    found = claim(shown_gold(sft=(1e-5, 1e-4, 0.3), guide=times(0.1)))
    assert "2 comparisons" in found.numbers
    everywhere = gold.verdicts(shown_gold(sft=(0.3, 0.3, 0.3), guide=(0.9, 0.9, 0.9)))
    assert [v.verdict for v in everywhere] == ["not run", "a table", "not run"]


def test_a_base_that_reaches_the_edge_by_itself_does_not_count():
    assert claim(shown_gold(guide=times(10), base=0.01)).verdict == "not run"


def test_a_base_of_its_own_has_a_control_of_its_own():
    """ExPO beats the sft of the other base, and not that of its own: they are never mixed."""
    plain = shown_gold(sft=times(0.01), guide=times(0.005))
    told = shown_gold(expo=times(0.5), setting="told=0.3")
    found = claim(plain + told)
    assert found.verdict == "refuted"
    assert {row[0] for row in found.table[1:]} == {"arithmetic depth",
                                                   "arithmetic depth, answers told"}
    better = shown_gold(expo=times(5), setting="told=0.3")
    assert claim(plain + better).verdict == "supported"


def test_no_mass_at_all_is_a_number_too():
    found = claim(shown_gold(guide=(0.0, 0.0, 0.0)))
    assert found.verdict == "refuted" and "inf" not in found.numbers
    assert found.table[1][3].startswith("-7.0")    # pass@1024 of 1e-2, and at least 1e-9


def test_the_table_has_what_was_spent_beside_what_it_bought():
    table = gold.verdicts(shown_gold(guide=times(10)))[1].table
    rows = {(row[1], row[2]): row for row in table}
    assert rows["Guide-GRPO", "2,000"][3:5] == ["2,007", "200,000"]
    assert rows["fine-tuning on gold", "500"][3] == "507"
    assert rows["base", ""][3:5] == ["", ""] and rows["oracle", ""][5].startswith("0.950")


# ------------------------------------------------------------------ partial credit and its controls

def test_a_partial_reward_stands_beside_grpo_with_that_reward():
    """Rank-GRPO is no better than the process reward alone, Posterior-GRPO worse than its own."""
    found = gold.verdicts(credited({"trace": 1e-8, "process": 1e-4, "rank": 1e-4,
                                    "no-gate": 1e-4, "posterior": 1e-7}))[2]
    assert found.verdict == "a table" and found.n_seeds == 5
    assert "2 comparisons" in found.numbers
    assert "above +0.1: 0, below -0.1: 1" in found.numbers
    rows = {row[1]: row for row in found.table}
    assert rows["rank"][2] == "grpo --reward process" and rows["rank"][7].startswith("+0.00")
    assert rows["posterior"][2] == "posterior --no-posterior"
    assert rows["posterior"][7].startswith("-2.98") and "GRPO, --reward trace" in rows


def test_a_method_without_its_control_is_not_compared():
    assert gold.verdicts(credited({"rank": 1e-4, "no-gate": 1e-4}))[2].verdict == "not run"


# ---------------------------------------------------------------------------------------- what runs

def jobs_of(question):
    args = study.build_parser().parse_args(["--first-seed", "3"])
    return question.jobs(argparse.Namespace(**{**vars(args), "question": "it"}))


def flags_of(job):
    return vars(SCRIPTS[job.script].build_parser(job.argv).parse_args(job.argv))


def test_every_method_has_as_much_gold_and_as_many_prompts_as_sft():
    paid = [flags for flags in map(flags_of, (j for j in jobs_of(gold) if j.script == "finetune"))
            if flags.get("budget_gold")]
    assert {flags["method"] for flags in paid} == {"sft", *METHODS}
    for method in {flags["method"] for flags in paid}:
        own = [flags for flags in paid if flags["method"] == method]
        assert {flags["budget_gold"] for flags in own} == set(BUDGETS)
        assert {(flags["prompts_per_step"], flags["train_on"]) for flags in own} == {(8, "edge")}


def test_partial_credit_sees_no_gold_and_draws_what_grpo_draws():
    paid = [job for job in jobs_of(gold) if job.out.split("/")[-1].startswith("credit-")]
    assert len(paid) == len(CONTROLS) + len(CREDITED)
    for flags in map(flags_of, paid):
        assert not knobs(variants.load(flags["method"]))["budget_gold"].shown
        assert (flags["steps"], flags["prompts_per_step"], flags["group_size"]) == (60, 32, 16)


def test_each_climb_starts_where_its_gold_has_led():
    jobs = {job.out: job for job in jobs_of(after_takeoff)}
    climbs = [job for job in jobs.values() if "/climb" in job.out]
    assert len(climbs) == 2 + sum(map(len, after_takeoff.GOLD.values()))
    for job in climbs:
        start, amount = flags_of(job)["init"], job.out.split("/climb")[1].split(".")[0]
        assert start.split("/")[-1] == f"{warm(int(amount))}.pt"
        if int(amount):
            assert flags_of(jobs[start])["budget_gold"] == int(amount)


# ------------------------------------------------------------------------------- after the take-off

def word(runs):
    return after_takeoff.verdicts(runs)[0].verdict


def test_a_climb_that_begins_at_two_right_samples_is_what_p12_says():
    found = after_takeoff.verdicts(climbing())[0]
    assert found.verdict == "supported" and found.n_seeds == 5 and "50 runs" in found.numbers
    where, low, high = after_takeoff.borders(after_takeoff.points(climbing()))
    assert low < 2 < high and low < where < high
    assert "arithmetic depth: 640 tokens, graph depth: 26 tokens" in found.numbers
    assert ["arithmetic depth", "640"] in [row[:2] for row in found.table]


def test_one_that_needs_hundreds_or_none_is_not():
    assert word(climbing(border=600)) == "refuted"
    assert word(climbing(border=1e-3)) == "refuted"
    assert word(climbing(border=60)) == "undecided"   # its interval reaches across
    assert word(climbing(n=1)) == "undecided"


def test_expected_samples_are_those_of_the_warm_start_not_of_the_base():
    point, = [p for p in after_takeoff.points(climbing(n=1)) if p[1] == 1280]
    assert point[2] == pytest.approx(3e-3 * 16 * 32 * 60)


def test_a_warm_start_that_is_there_already_is_left_out():
    high = {**LED_TO, "graph": (1e-9, 1e-6, 1e-4, 1e-2, 0.6)}
    runs = climbing(n=1, masses=high)
    assert {p[1] for p in after_takeoff.points(runs) if p[0].task == "graph"} == {0, 13, 26, 52}


def test_what_gold_alone_has_brought_is_no_take_off():
    """From 0.03 to 0.06 is a climb of 0.03, though it is 0.06 more than the base has."""
    runs = climbing(n=1, after=0.06)
    took = {p[1]: p[3] for p in after_takeoff.points(runs) if p[0].task == "arithmetic"}
    assert took == {0: False, 160: False, 640: True, 1280: True, 2560: False}


def test_take_off_must_rise_with_gold_within_a_base():
    runs = climbing()
    up, down = rises(after_takeoff.points(runs), after_takeoff.GOLD_SHOWN)
    assert (up, down) == (10, 0)
    for run in runs:                       # the largest amount fails, and GRPO alone climbs
        amounts = after_takeoff.amounts(run)
        run.masses[climb(amounts[-1]), "edge"] = run.masses[warm(amounts[-1]), "edge"]
        run.masses[climb(0), "edge"] = run.masses[climb(amounts[-2]), "edge"]
    assert rises(after_takeoff.points(runs), after_takeoff.GOLD_SHOWN) == (0, 10)
    assert word(runs) != "supported"


def test_hints_that_end_stand_beside_the_warm_starts():
    table = after_takeoff.verdicts(climbing())[1]
    rows = {(row[0].split(",")[0], row[1]): row for row in table.table[1:]}
    early = rows["arithmetic depth", "Guide-GRPO, hints until 2% are solved"]
    assert early[2] == "4,000" and early[4].startswith("0.300")
    assert ("graph depth", "Guide-GRPO, hints to the end") in rows
    assert rows["arithmetic depth", "GRPO alone"][2] == "0"


def test_without_runs_nothing_is_said():
    for question in (gold, after_takeoff):
        assert {v.verdict for v in question.verdicts([])} == {"not run"}
        assert question.figure([]) is None
