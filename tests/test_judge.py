"""lab/judge.py: intervals over seeds, borders, and the four words."""
import math

import numpy as np
import pytest

from lab.judge import (Verdict, above, below, by_seed, cells, change_table, compared, decide,
                       even_odds, every, group, holm, inside, judge_law, log10_mass, mass_text,
                       outside, over_seeds, over_seeds_and_axes, p_value, pm, ranks, rms_by_seed,
                       some, spearman, t_975, top_share, unanimous)
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


# --------------------------------------------------------------------- what the intervals cover
# Simulated: the true value is known, and an interval that is nominally of 95 % must contain it in
# 92 to 98 % of studies. The spreads are those of the study's own seeds (results/*/runs.csv).

STUDIES = 1000


def covers(intervals, truth):
    return float(np.mean([abs(mean - truth) <= half for mean, half in intervals]))


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("spread", [0.017, 0.11])     # of mean masses: median, and the widest tenth
def test_the_interval_of_a_mass_covers_it(n, spread):
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, spread * 4, (STUDIES, n))   # skewed by the logit, as masses are
    masses = 1 / (1 + np.exp(-logits))
    assert 0.92 < covers(map(over_seeds, masses), 0.5) < 0.98


@pytest.mark.parametrize("decades", [0.6, 1.3, 3.0])
def test_where_seeds_differ_by_decades_it_is_log10_that_is_covered(decades):
    """The mean mass is not: hence the rule."""
    rng = np.random.default_rng(1)
    log10 = rng.normal(-6.0, decades, (STUDIES, 5))
    assert 0.92 < covers(map(over_seeds, log10), -6.0) < 0.98
    mean = 10 ** (-6 + decades ** 2 * math.log(10) / 2)
    of_masses = covers(map(over_seeds, 10 ** log10), mean)
    assert of_masses < (0.8 if decades == 0.6 else 0.5)


@pytest.mark.parametrize("of_axes, of_seeds, rest", [
    (0.3, 0.1, 0.1), (0.1, 0.3, 0.1), (0.2, 0.2, 0.05), (1.0, 0.05, 0.3)])
def test_the_second_interval_covers_what_other_axes_and_seeds_would_give(of_axes, of_seeds, rest):
    rng = np.random.default_rng(2)

    def study():
        values = rng.normal(0, rest, (5, 5)) + rng.normal(0, of_seeds, 5)
        return values + rng.normal(0, of_axes, (5, 1))
    studies = [study() for _ in range(STUDIES)]
    assert 0.92 < covers(map(over_seeds_and_axes, studies), 0.0) < 0.985
    over_seeds_alone = covers((over_seeds(list(values.mean(0))) for values in studies), 0.0)
    assert of_axes < of_seeds or over_seeds_alone < 0.9


def test_what_does_not_vary_has_an_interval_of_nothing():
    assert over_seeds_and_axes(np.full((5, 5), 0.5)) == (0.5, 0.0)


@pytest.mark.parametrize("n", [3, 5])
def test_a_table_of_nothing_is_rarely_significant_once_corrected(n):
    rng = np.random.default_rng(3)
    tables = rng.normal(0, 0.05, (200, 10, n))
    p_values = [[p_value(values) for values in table] for table in tables]
    naive = np.mean([min(ps) < 0.05 for ps in p_values])
    corrected = np.mean([min(holm(ps)) < 0.05 for ps in p_values])
    assert naive > 0.3 and 0.02 < corrected < 0.09


def test_p_values_agree_with_the_interval():
    for values in ([0.03, 0.04, 0.035], [0.1, -0.2, 0.4, 0.3, 0.2]):
        mean, half = over_seeds(values)
        assert p_value(values, mean - half) == pytest.approx(0.05, abs=2e-4)
        assert p_value(values, mean + half) == pytest.approx(0.05, abs=2e-4)
    assert p_value([1.0, 1.0]) == 0.0 and p_value([1.0, 1.0], border=1.0) == 1.0
    assert t_975(1) == 12.706 and t_975(20) == 2.086 and t_975(120) == pytest.approx(1.98, abs=2e-3)


def test_holm_is_the_published_procedure():
    """Each p-value, smallest first, against 0.05 / (how many are left); the first that fails ends
    it."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        ps = rng.random(6) ** 3
        kept, order = set(), np.argsort(ps)
        for left, i in zip(range(6, 0, -1), order):
            if ps[i] > 0.05 / left:
                break
            kept.add(i)
        assert {i for i, p in enumerate(holm(ps)) if p <= 0.05} == kept


# ------------------------------------------------------------------------ take-off, laws, top share

def simulated_take_off(rng, n=60, slope=2.0, border=0.3):
    x = rng.uniform(-3, 3, n)
    return x, rng.random(n) < 1 / (1 + np.exp(-slope * (x - border)))


@pytest.mark.parametrize("slope", [2.0, 4.0, 50.0])     # the last one separates
def test_the_interval_of_even_odds_covers_it(slope):
    rng = np.random.default_rng(5)
    studies = [even_odds(*simulated_take_off(rng, slope=slope)) for _ in range(120)]
    inside = np.mean([low <= 0.3 <= high for _, low, high in studies])
    assert 0.92 <= inside <= (0.985 if slope < 50 else 1)
    assert np.median([where for where, _, _ in studies]) == pytest.approx(0.3, abs=0.1)


def test_even_odds_agrees_with_newton():
    rng = np.random.default_rng(6)
    x, yes = simulated_take_off(rng, n=200)
    X, w = np.stack([np.ones(200), x], 1), np.zeros(2)
    for _ in range(30):
        p = 1 / (1 + np.exp(-X @ w))
        w += np.linalg.solve(X.T @ (X * (p * (1 - p))[:, None]), X.T @ (yes - p))
    assert even_odds(x, yes)[0] == pytest.approx(-w[0] / w[1], abs=0.03)


def test_even_odds_where_the_data_are_one_sided():
    x = [-2.0, -1.0, 0.0, 1.0]
    where, low, high = even_odds(x, [False] * 4)
    assert math.isnan(where) and high == math.inf and -1 < low < 2
    where, low, high = even_odds(x, [True] * 4)
    assert math.isnan(where) and low == -math.inf and -3 < high < 0
    where, low, high = even_odds(x, [False, False, True, True])
    assert where == pytest.approx(-0.5, abs=0.05) and low < -1 and high > 0


def test_a_law_is_judged_by_its_error_and_by_its_rivals():
    close, far = [0.10, 0.12, 0.11], [0.50, 0.55, 0.60]
    assert judge_law(close, far) == "supported" and judge_law(far, close) == "refuted"
    assert judge_law(close, close) == "undecided"            # both near: none is told apart
    assert judge_law([0.30, 0.31, 0.32], far) == "undecided"     # nearer, but not near
    assert judge_law([0.1], [0.5]) == "undecided" and judge_law([], far) == "not run"
    errors = [(0, 3.0), (0, 4.0), (1, -1.0)]
    assert rms_by_seed(errors, lambda e: e[1], lambda e: e[0]) == pytest.approx([12.5 ** 0.5, 1.0])


def test_no_mean_is_quoted_of_what_one_prompt_carries():
    even, uneven = np.log(np.full(100, 1e-5)), np.log([1e-12] * 99 + [1e-4])
    assert top_share(even) == pytest.approx(0.01) and top_share(uneven) > 0.99
    assert mass_text(even) == "1e-05" and mass_text(uneven).startswith("10^-11.9 (100 % of")
    assert log10_mass(even) == pytest.approx(-5)
    assert top_share(np.array([-900.0, -900.0])) == pytest.approx(0.5)   # below what a float holds
