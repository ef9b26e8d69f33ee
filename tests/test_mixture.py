"""pretrain.py's mixture: nested overlap, none without overlap, exposure, two families."""
import itertools

import numpy as np
import pytest

import pretrain
from tasks import AXES, EOS, TASKS, Cell


def mixture(*argv):
    return pretrain.Mixture(pretrain.build_parser().parse_args([*argv, "--batch-size", "4"]))


def test_overlap_is_nested_and_changes_nothing_else():
    draws = {p: mixture("--steps", "1000", "--overlap", str(p)) for p in (0, 0.001, 0.01, 0.1)}
    counts = [draws[p].edge.sum() for p in draws]
    assert counts == [0, 1, 10, 100]
    for small, large in itertools.pairwise(draws.values()):
        assert (large.edge | ~small.edge).all()  # what is edge at p is edge at any larger p
    for step in range(0, 1000, 37):
        if not draws[0.1].edge[step]:
            a, b = draws[0].draw(step)[2], draws[0.1].draw(step)[2]
            assert (a.prompts == b.prompts).all() and (a.solutions == b.solutions).all()
    step = int(np.flatnonzero(draws[0.001].edge)[0])
    assert (draws[0.001].draw(step)[2].prompts == draws[0.1].draw(step)[2].prompts).all()
    assert draws[0.1].draw(step)[2].prompts.shape[1] == TASKS["arithmetic"].prompt_len(Cell(4, 4))


@pytest.mark.parametrize("name,axis", [(n, a) for n, axes in AXES.items() for a in axes])
def test_no_overlap_means_no_edge_problem_and_overlap_means_some(name, axis):
    def scan(p):
        m = mixture("--task", name, "--axis", axis, "--overlap", p, "--steps", "60")
        drawn = [m.draw(step)[2].prompts for step in range(60)]
        return sum(pretrain.edge_problems(name, axis, prompts) for prompts in drawn)
    assert scan("0") == 0 and scan("0.1") == 6 * 4


@pytest.mark.parametrize("name", list(AXES))
@pytest.mark.parametrize("exposure", list(pretrain.EXPOSURES))
def test_exposure_shows_what_it_says(name, exposure):
    m = mixture("--task", name, "--axis", "tokens", "--exposure", exposure, "--steps", "80")
    draws = [m.draw(step) for step in range(80)]
    shadow_symbols = np.array(TASKS[name].shadow_symbols)
    shadow = [kind for _, kind, (prompts, _) in draws if np.isin(prompts, shadow_symbols).any()]
    assert shadow == ([] if exposure == "none" else [exposure] * 20)
    edge = sum(pretrain.edge_problems(name, "tokens", problems.prompts) for _, _, problems in draws)
    assert edge == 0 if exposure != "full" else edge > 0
    if exposure == "copy":
        prompts, solutions = next(problems for _, kind, problems in draws if kind == "copy")
        assert (prompts[:, 1:-1] == solutions[:, :-1]).all() and (solutions[:, -1] == EOS).all()


def test_two_families_share_a_base_in_the_stated_proportion():
    m = mixture("--task", "both", "--share", "0.9", "--steps", "100")
    assert sum(m.kind(step)[0] == "arithmetic" for step in range(100)) == 90
