"""lab/judge.py: intervals over seeds, borders, and the four words."""
import math

import numpy as np
import pytest

from lab.judge import (Verdict, above, below, by_seed, cells, change_table, compared, decide,
                       every, group, inside, outside, over_seeds, pm, ranks, some, spearman,
                       unanimous)
from lab.records import mark_tripwires
from synthetic import KEPT, on_splits, oracle, seeds, shift, to, tuned

WORDS = ("supported", "refuted", "undecided", "not run")


def test_intervals_are_student_t_over_seeds():
    values = [0.3, 0.5, 0.4, 0.9]
    mean, half = over_seeds(values)
    assert mean == pytest.approx(0.525)
    assert half == pytest.approx(3.182 * np.std(values, ddof=1) / 2, rel=1e-3)


def test_one_seed_is_not_an_interval():
    assert over_seeds([1.0]) == (1.0, None)
    assert pm([0.25]) == "+0.250" and pm([]) == "-"
    assert decide([5.0], yes=above(0), no=below(0)) == "undecided"
    assert decide([], yes=above(0), no=below(0)) == "not run"


def test_a_seed_counts_once_however_many_bases_it_has():
    runs = seeds(n=2) + seeds(n=1) + seeds(n=1)   # seed 0 three times, seed 1 once
    values = iter([1.0, 2.0, 6.0, 10.0])
    assert by_seed(runs, lambda r: next(values)) == [3.0, 10.0]
    assert by_seed(runs, lambda r: math.nan) == []
    assert by_seed(runs, lambda r: math.nan if r.seed else 1.0) == [1.0]   # nan is absent


@pytest.mark.parametrize("values, yes, no, word", [
    ([0.03, 0.04, 0.035], above(0.02), below(0.02), "supported"),
    ([0.01, 0.00, 0.005], above(0.02), below(0.02), "refuted"),
    ([-0.03, 0.04, 0.035], above(0.02), below(0.02), "undecided"),   # across the border
    ([0.01, 0.011, 0.009], inside(0.02), outside(0.02), "supported"),
    ([0.05, 0.051, 0.049], inside(0.02), outside(0.02), "refuted"),
    ([-0.05, -0.051, -0.049], inside(0.02), outside(0.02), "refuted"),   # on the other side too
    ([-0.05, -0.051, -0.049], inside(0.02), above(0.02), "undecided"),   # neither side named it
    ([0.0, 0.3, 0.6], inside(0.4), outside(0.4), "undecided"),   # the mean is inside: not enough
    ([-1.0, 2.0, 9.0], above(0), below(0), "undecided"),
])
def test_an_interval_against_a_border(values, yes, no, word):
    assert decide(values, yes, no) == word


def test_words_about_many():
    assert every(["supported", "not run"]) == "supported"
    assert every(["supported", "refuted", "undecided"]) == "refuted"
    assert every(["supported", "undecided"]) == "undecided"
    assert some(["refuted", "supported"]) == "supported"
    assert some(["refuted", "refuted"]) == "refuted"
    assert some(["refuted", "undecided"]) == "undecided"
    assert unanimous(["supported", "undecided"]) == "supported"
    assert unanimous(["supported", "refuted"]) == "undecided"
    assert unanimous(["undecided"]) == "undecided"
    assert every([]) == some([]) == unanimous([]) == every(["not run"]) == "not run"


def test_text_of_numbers():
    assert pm([0.1, 0.2, 0.3], ".2f") == "0.20 ±0.25"
    assert pm([1e-9, 3e-9], "p") == "2e-09 ±1e-08"
    assert pm([-0.1, -0.1]) == "-0.100 ±0.000"


def test_rank_correlation():
    assert spearman([1, 2, 3], [2, 4, 9]) == pytest.approx(1)
    assert spearman([1, 2, 3], [9, 4, 2]) == pytest.approx(-1)
    assert spearman([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]) == pytest.approx(0.8)
    assert math.isnan(spearman([1, 2], [1, 1]))
    assert list(ranks([5, 1, 5, 7])) == [2.5, 1, 2.5, 4]


def test_groups_are_sorted_by_key():
    assert group("cabAB", str.lower) == {"a": ["a", "A"], "b": ["b", "B"], "c": ["c"]}
    assert list(group("cab", str.lower)) == ["a", "b", "c"]


def test_cells_that_tripped_a_wire_are_marked():
    fine = seeds(oracle(to(0.95)))
    poor = seeds(oracle(to(0.95)), overlap=0.1, base=(0.99, 0.1, 0.1))
    mark_tripwires(fine + poor)
    assert list(cells(poor + fine)) == ["arithmetic depth, overlap 0",
                                        "arithmetic depth, overlap 0.1 ⚠"]


def test_a_table_of_changes():
    runs = seeds(*on_splits(KEPT)) + seeds(*on_splits(shift(1)), overlap=0.1)
    table = change_table("arm", [("kept", "grpo-id", runs)])
    assert [row[:2] for row in table[1:]] == [["kept", "arithmetic depth, overlap 0"],
                                              ["kept", "arithmetic depth, overlap 0.1"]]
    assert table[1][2].endswith("+0.000 ±0.000") and ", +0.1" in table[2][2]
    assert compared("", "arm", [("gone", "gone", [])]) == Verdict("", "not run")


def test_comparing_needs_seeds_for_an_interval():
    found = compared("claim", "arm", [("up", "up", seeds(tuned("up", shift(1)), n=1))])
    assert found.verdict == "a table" and found.n_seeds == 1 and "±" not in found.numbers
