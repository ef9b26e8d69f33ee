"""questions/variety.py and questions/lookahead.py: each claim says what its rule says, and the
masses of single strings reach them from evaluate.py's file."""
import json
import os

import numpy as np
import pytest

from cli import CommandError
from lab import records, runner
from lab.jobs import Job
from questions import lookahead, variety
from synthetic import four_ways, run_of, seeing, varied
from tasks import TASKS, Cell


def word(question, claim, runs):
    """The verdict on one claim."""
    return {v.claim: v.verdict for v in question.verdicts(runs)}[claim]


# ------------------------------------------------------------------------------- single strings

def test_masses_of_single_strings_are_kept_and_come_back(tmp_path):
    place, run = str(tmp_path / "variety"), varied(1, grpo=(0.9, 0.8))[0]
    records.write(place, [run, run_of(7)])     # a run of another family has none
    found = {r.chain: r for r in records.read(place)}
    back = found[run.chain]
    assert back.strings.keys() == back.redirected.keys() == {("base", "id"), ("grpo", "id")}
    for what in ("strings", "redirected"):
        for key, cells in getattr(run, what).items():
            for cell, values in cells.items():
                assert np.array_equal(getattr(back, what)[key][cell], values.astype(np.float32))
    other, = [r for r in found.values() if r.seed == 7]
    assert other.strings == other.redirected == {}


def test_a_run_that_is_replaced_leaves_no_strings_behind(tmp_path):
    place, run = str(tmp_path / "variety"), varied(1)[0]
    records.write(place, [run])
    run.strings, run.redirected = {}, {}
    records.write(place, [run])
    assert records.read(place)[0].strings == {}


def changed(place, change):
    """Let change({key: array}) alter a folder's masses.npz."""
    path = os.path.join(place, "masses.npz")
    arrays = records.read_masses(path, "")
    change(arrays)
    records.write_masses(path, arrays)


@pytest.mark.parametrize("what, change, words", [
    ("other masses", lambda key, arrays: arrays.update({key: arrays[key] - 0.5}), "do not add up"),
    ("fewer prompts", lambda key, arrays: arrays.update({key: arrays[key][:5]}), "do not add up"),
    ("no list a prompt", lambda key, arrays: arrays.update({key: arrays[key][:, 0]}),
     "no list of log masses"),
    ("of no arm", lambda key, arrays: arrays.update({key.replace("base", "gone"): arrays[key]}),
     "has no row of")])
def test_strings_that_do_not_belong_are_refused(what, change, words, tmp_path):
    place, run = str(tmp_path / "variety"), varied(1)[0]
    records.write(place, [run])
    key = next(iter(key for key in records.read_masses(
        os.path.join(place, "masses.npz"), "") if key.endswith("|strings")))
    changed(place, lambda arrays: change(key, arrays))
    with pytest.raises(CommandError, match=words):
        records.read(place)


def test_they_are_taken_from_what_evaluate_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "arm_of", lambda path: records.Arm(runner.name_of(path)))
    row = {"model": "base", "task": "route", "split": "id", "cell": "d2 l16 m4"}
    rows = [{**row, "log_mass": -0.5, "log_masses": [-0.6, None], "redirected": None},
            {**row, "log_mass": None, "log_masses": [None, None], "redirected": -2.0}]
    result = {"args": {"ckpt": ["base.pt"], "cold": []}, "prompts": rows, "steps": []}
    about = {column: 0 for column in records.RUN_COLUMNS}
    job = Job("evaluate", "evaluate", [], str(tmp_path / "x.json"),
              about={**about, "question": "variety"})
    with open(job.out, "w", encoding="utf-8") as file:
        json.dump(result, file)
    run, = runner.runs_of(job)
    assert np.array_equal(run.strings["base", "id"]["d2 l16 m4"],
                          [[-0.6, -np.inf], [-np.inf, -np.inf]])
    assert np.array_equal(run.redirected["base", "id"]["d2 l16 m4"], [-np.inf, -2.0])


# -------------------------------------------------------------------------------------- variety

def at_both(**arms):
    return varied(bias=0.5, **arms) + varied(bias=0.9, **arms)


def test_variety_is_the_entropy_of_a_right_answer():
    run, = varied(1, base=(0.3, 0.25), grpo=(0.9, 0.97))
    assert variety.bits(run, "base") == pytest.approx(2)
    assert variety.bits(run, "grpo") == pytest.approx(
        -0.97 * np.log2(0.97) - 0.03 * np.log2(0.01))
    assert np.isnan(variety.bits(run, "passk"))
    assert variety.distinct(run, "base", 10 ** 6) == pytest.approx(4)


def test_the_distance_is_that_of_the_proportions_alone():
    ours, theirs = four_ways(0.2, 0.4, 0), four_ways(0.9, 0.7, 1)
    assert np.allclose(variety.apart(ours, four_ways(0.9, 0.4, 1)), 0)
    assert np.allclose(variety.apart(ours, theirs), 0.3)


@pytest.mark.parametrize("share, expected", [(0.9, "supported"), (0.6, "refuted"),
                                             (0.64, "undecided")])
def test_narrowing(share, expected):
    """From 60 % to 90 % of the same way is 0.85 bits; to 64 % about 0.07, at either bias 0.1."""
    runs = at_both(grpo=(0.9, share))
    if expected == "undecided":   # one bias narrows, the seeds of the other scatter
        runs = varied(grpo=(0.9, 0.9)) + [varied(seed + 1, bias=0.9, grpo=(0.9, s))[seed]
                                          for seed, s in enumerate((0.6, 0.65, 0.8))]
    assert word(variety, variety.NARROWS, runs) == expected


@pytest.mark.parametrize("pulled, free, expected", [
    (0.61, 0.95, "supported"), (0.95, 0.95, "refuted"), (0.61, 0.61, "undecided")])
def test_proportions_under_a_kl(pulled, free, expected):
    """Kept without the KL too, they are no work of it."""
    arms = {"long-k1": (0.9, pulled), "long": (0.9, free)}
    assert word(variety, variety.KEEPS, at_both(**arms)) == expected


@pytest.mark.parametrize("low, end, expected", [
    (0.95, 0.62, "supported"), (0.95, 0.93, "refuted"), (0.61, 0.6, "undecided")])
def test_coming_back(low, end, expected):
    """Where nothing was lost nothing can come back."""
    assert word(variety, variety.BACK,
                at_both(long=(0.95, low), back=(0.95, end))) == expected


@pytest.mark.parametrize("mass, share, expected", [
    (0.9, 0.6, "supported"), (0.7, 0.6, "refuted"), (0.9, 0.9, "refuted")])
def test_a_method_keeps_variety_only_if_it_keeps_up(mass, share, expected):
    arms = {"grpo": (0.9, 0.9), "passk": (mass, share), "unlikely": (0.9, 0.9)}
    assert word(variety, variety.KEPT, at_both(**arms)) == expected


def test_one_bias_is_enough_for_a_method_to_keep_variety_and_not_for_grpo_to_narrow_it():
    narrow, wide = {"grpo": (0.9, 0.9)}, {"grpo": (0.9, 0.6), "passk": (0.9, 0.6)}
    runs = varied(bias=0.5, passk=(0.9, 0.6), **narrow) + varied(bias=0.9, **wide)
    assert word(variety, variety.KEPT, runs) == "supported"
    assert word(variety, variety.NARROWS, runs) == "refuted"


@pytest.mark.parametrize("left, expected", [(0.02, "supported"), (0.12, "supported"),
                                            (0.2, "refuted")])
def test_a_closed_way_costs_where_pass_at_some_k_falls(left, expected):
    """0.02 is less than the base's 0.2; of 0.12 nothing is left to see at k = 64; 0.2 is as much,
    and no loss at any k."""
    runs = at_both(grpo=(0.9, 0.9), redirected={"base": 0.2, "grpo": left})
    assert word(variety, variety.COSTS, runs) == expected


def test_every_method_has_its_row_in_words():
    table = variety.verdicts(at_both(grpo=(0.9, 0.9), passk=(0.8, 0.7)))[-1].table
    assert [row[1] for row in table[1:]] == 2 * ["base", "GRPO", "pass@k training"]


def test_its_arms_have_names_and_equal_rollouts():
    import argparse

    import study
    args = study.build_parser().parse_args([])
    jobs = variety.jobs(argparse.Namespace(**{**vars(args), "question": "variety"}))
    arms = [job for job in jobs if job.script == "finetune"]
    assert {os.path.basename(job.out)[:-3] for job in arms} == set(variety.CALLED) - {"base"}
    for job in arms:
        flags = runner.SCRIPTS["finetune"].build_parser(job.argv).parse_args(job.argv)
        assert flags.prompts_per_step == 16 and getattr(flags, "group_size", 16) in (16, None)


# ------------------------------------------------------------------------------------ lookahead

def test_the_guess_is_that_of_every_walk_at_random():
    """Against walking along edges, each time another one, on problems of three hops."""
    rng, route = np.random.default_rng(0), TASKS["route"]
    prompts, _ = route.sample(Cell(3, 16, branching=2, dead_ends=2), 3, rng)
    guesses = lookahead.chances(prompts).prod(2).sum(1)
    for i, guess in enumerate(guesses):
        sources, targets, paths = (x[0] for x in route.parse(prompts[i:i + 1]))
        start, goal = paths[0, 0], paths[0, -1]
        right, walks = 0, 4000
        for _ in range(walks):
            node = start
            for _ in range(2):
                node = rng.choice(targets[sources == node])
            right += goal in targets[sources == node]
        assert right / walks == pytest.approx(guess, abs=0.03)
    assert (guesses < 1).all()


def test_sight_is_nothing_for_a_guess_and_one_for_who_is_always_right():
    run, = seeing(1, **{"grpo-id-long": 1.0})
    assert lookahead.sight(run, "base", "id") == pytest.approx(0)
    assert lookahead.sight(run, "grpo-id-long", "edge") == pytest.approx(1)
    assert np.isnan(lookahead.sight(run, "sft", "id"))


@pytest.mark.parametrize("base, expected", [(0.0, "supported"), (0.9, "refuted")])
def test_a_base_guesses_if_its_mass_is_that_of_a_guess(base, expected):
    runs = seeing(base=base)
    assert word(lookahead, lookahead.GUESSES, runs) == expected
    table = lookahead.verdicts(runs)[0].table
    assert [row[:2] for row in table[1:4]] == [["d2 l16 m2 x2", "1"], ["d3 l16 m2 x2", "1"],
                                               ["d3 l16 m2 x2", "2"]]
    assert all(row[2].split()[0] == row[3] for row in table[1:])   # made from the guess itself


@pytest.mark.parametrize("sight, deeper, taught, carries", [
    (0.9, 0.5, "supported", "supported"), (0.9, 0.0, "supported", "refuted"),
    (0.1, 0.5, "refuted", "undecided")])
def test_looking_ahead_is_taught_and_carries(sight, deeper, taught, carries):
    runs = seeing(deeper=deeper, **{"grpo-id-long": sight})
    assert word(lookahead, lookahead.TAUGHT, runs) == taught
    assert word(lookahead, lookahead.CARRIES, runs) == carries


def test_what_the_base_cannot_walk_is_not_asked_for():
    runs = seeing(deeper=0.5, **{"grpo-id-long": 0.9})
    for run in runs:
        for cell in run.masses["base", "edge"]:
            run.masses["base", "edge"][cell] = np.full(8, np.log(1e-6))
    assert word(lookahead, lookahead.CARRIES, runs) == "not run"


@pytest.mark.parametrize("sights, expected", [
    ((0.5, 0.9), "supported"), ((0.0, 0.0), "refuted"), ((0.0, 0.9), "refuted"),
    ((0.0, 0.9, 0.9, 0.9), "undecided")])
def test_right_samples_are_enough_only_if_every_run_takes_off(sights, expected):
    """One of two runs is half of them, and fewer than 7 of 10; three of four are more."""
    runs = seeing(**dict(zip(("grpo-id", "grpo-id-long", "grpo-a", "grpo-b"), sights)))
    assert word(lookahead, lookahead.ENOUGH, runs) == expected
    split, needed, _ = lookahead.trials(runs)[0]
    assert split == "id" and 60 * 16 * 32 * 0.4 < needed < 60 * 16 * 32 * 0.6


def ending_at(law):
    """Runs whose arm with a KL ends at the prediction of that law."""
    runs = seeing(k1=0.0)
    for run in runs:
        for cell in (cell for split, cell in lookahead.PLACES if split == "id"):
            end = lookahead.predictions(run, cell)[law] - 0.001 * run.seed
            run.masses["k1", "id"][str(cell)] = np.full(8, np.log(end))
    return runs


@pytest.mark.parametrize("law, expected", [("P11", "supported"), ("standing still", "refuted")])
def test_the_law_that_it_ends_by_is_the_nearest(law, expected):
    runs = ending_at(law)
    found, = [v for v in lookahead.verdicts(runs) if v.claim == lookahead.LAWS]
    assert found.verdict == expected and found.numbers.endswith(f"nearest: {law}")


def test_depth_two_is_one_decision_and_depth_three_two():
    """One decision is tilted; two of chance 1/2 end where logit p = Q / (beta p)."""
    run, = seeing(1)
    shallow, deep = (cell for split, cell in lookahead.PLACES if split == "id")
    laws = lookahead.predictions(run, shallow)
    assert laws["P11"] == pytest.approx(laws["P1"])
    run.masses["base", "id"][str(deep)] = np.full(8, np.log(0.25))
    p = lookahead.predictions(run, deep)["P11"] ** 0.5
    assert np.log(p / (1 - p)) == pytest.approx(p / lookahead.BETA, rel=1e-3)
