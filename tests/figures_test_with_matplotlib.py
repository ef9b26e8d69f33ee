"""Every question's figure, drawn. Needs matplotlib, which is optional, so pytest does not collect
this file by itself: `python -m pytest tests/figures_test_with_matplotlib.py` where it is installed,
as .ci/run does in its second step.
"""
import numpy as np
import pytest

import questions
from lab import draw, records, report
from lab.judge import over_seeds
from synthetic import on_splits, seeds, shift, whole_study

NONE_OF_ITS_OWN = {"undertrained"}   # shown in the picture of saturation


@pytest.fixture(params=[name for name in questions.names() if name not in NONE_OF_ITS_OWN])
def question(request):
    return questions.load(request.param)


def runs_for(question, n=2):
    study = whole_study(n=n)
    return study.get(question.jobs.__module__.split(".")[-1], study["dose"])


@pytest.mark.parametrize("n", [1, 3])
def test_a_figure_is_as_wide_as_a_readme(question, tmp_path, n):
    path = tmp_path / "new" / "figure.png"
    assert draw.save(question.figure, runs_for(question, n), path)
    header = path.read_bytes()[:24]
    assert int.from_bytes(header[16:20], "big") == 900
    assert path.stat().st_size < 150_000


def test_every_axis_says_what_it_shows(question):
    figure = question.figure(runs_for(question))
    shown = [ax for ax in figure.axes if ax.axison]
    assert shown and all(ax.has_data() for ax in shown)
    words = [ax.get_xlabel() + ax.get_ylabel() + ax.get_title() for ax in shown]
    assert all(words) or figure._supxlabel


def test_without_runs_there_is_no_figure(question, tmp_path):
    assert not draw.save(question.figure, [], tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()


def colors_of(ax):
    """{label in the legend: colour}"""
    handles, labels = ax.get_legend_handles_labels()
    return {label: getattr(h, "lines", [h])[0].get_color() for h, label in zip(handles, labels)}


def test_base_and_tuned_have_the_same_colours_in_every_figure():
    for name in ("dose", "crossover", "unseen_mass", "per_token"):
        question = questions.load(name)
        found = colors_of(question.figure(runs_for(question)).axes[0])
        assert found["base"] == draw.BLACK
        assert found.get("after GRPO on edge", found.get("tuned")) == draw.ORANGE


def test_bars_are_the_intervals_that_are_judged_and_stay_probabilities():
    figure, axes = draw.panels(1, 1)
    values = [[0.2, 0.3, 0.4], [], [0.9, 1.0, 0.95]]
    draw.bars(axes[0, 0], [0, 1, 2], values, draw.LOOK["base"], limits=(0, 1))
    points, _, (lines,) = axes[0, 0].containers[0]
    assert np.allclose(points.get_xydata(), [[0, 0.3], [2, 0.95]])
    ends = [segment[:, 1] for segment in lines.get_segments()]
    mean, half = over_seeds(values[0])
    assert np.allclose(ends[0], [mean - half, mean + half])
    assert ends[1][1] == pytest.approx(1)   # not above, though the interval reaches there


def test_a_change_of_nothing_does_not_look_like_one():
    runs = seeds(*on_splits(shift(1e-9)))
    axes = draw.changes([("GRPO", "grpo-id", runs)], "Nothing").axes
    assert all(ax.get_xlim()[0] <= -0.05 and ax.get_xlim()[1] >= 0.05 for ax in axes)


def test_a_whole_study_becomes_a_page_with_its_figures(tmp_path):
    for name, runs in whole_study(n=1).items():
        records.write(tmp_path / name, runs)
    (tmp_path / "undertrained").mkdir()
    (tmp_path / "undertrained" / "undertrained.png").write_bytes(b"of an earlier edition")
    with open(report.write(tmp_path, questions), encoding="utf-8") as file:
        page = file.read()
    drawn = {path.stem for path in tmp_path.glob("*/*.png")}
    assert drawn == set(report.in_order(questions)) - NONE_OF_ITS_OWN
    assert all(page.count(f"]({name}/{name}.png)") == 1 for name in drawn)


def test_the_picture_of_gold_names_every_method_once():
    figure = questions.load("gold").figure(whole_study()["gold"])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["ExPO", "Guide-GRPO", "base", "fine-tuning on gold", "oracle"]
