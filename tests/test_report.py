"""lab/report.py: the page says what the numbers say, and the committed page what these files give.
"""
import functools
import os
import re
from types import SimpleNamespace

import pytest

import questions
import variants
from cli import CommandError
from lab import draw, museum, records, report
from questions import methods
from synthetic import seeds, tuned, shift, whole_study

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "results")

# The questions of the study, and one that is not in a report. A reader's own are left out: what
# they found, and whether they were run, is nobody else's business.
STUDY = SimpleNamespace(load=questions.load, owner=questions.owner, names=lambda: [
    "advantage", "after_takeoff", "alignment", "balanced", "critical_mass", "crossover",
    "curriculum", "domains", "dose", "exposure", "gold", "group_size", "law", "lookahead",
    "methods", "no_mass", "noticing", "per_token", "positions", "prediction", "quick", "resets",
    "rewards", "saturation", "sharpening", "steps", "takeoff", "undertrained", "unseen_mass",
    "variety"])

# What the first study found, claim by claim, when it was published. A claim that is worded or
# judged otherwise must say so here.
FIRST_STUDY = {
    "No mass, no gain": "undecided",
    "Mass predicts gain: transfer": "refuted",
    "Mass predicts gain: learning": "refuted",
    "Overlap buys mass": "supported",
    "Composition and graph length have mass without overlap; "
    "depth and length of arithmetic have none": "supported",
    "No crossover where GRPO was trained (P4)": "refuted",
    "No crossover where it was not trained": "refuted",
    "More than sharpening: grpo-id on id": "refuted",
    "More than sharpening: grpo-edge on edge": "undecided",
    "P1: with the KL in the reward, GRPO tilts the base": "refuted",
    "P3: with k3 as a loss, GRPO follows the hyperbolic law": "refuted",
    "The tuned model tilts wrong prefixes as it tilts right ones (against P10)": "supported",
    "P10, the per-token law, holds at every step": "refuted",
    "A reward that ignores the answer changes nothing (P8)": "refuted",
    "A curriculum 4, 5, 6 beats a jump to 6 (P9)": "refuted"}

# The same of the second study, as far as it has run.
SECOND_STUDY = {
    "P11: below a critical mass GRPO with a KL stays down, and the same base has two ends":
    "undecided",
    "Some RL method reaches what the base does not": "undecided",
    "Some RL method reaches what the base does not, without those that aim elsewhere": "undecided",
    "Some RL method reaches what GRPO with as many updates does not": "undecided",
    "Some RL method reaches what GRPO with as many updates does not, without those that aim "
    "elsewhere": "undecided",
    "RL methods differ by more than seeds do": "supported",
    "RL methods differ by more than seeds do, without those that aim elsewhere": "supported",
    "Distillation expands what RL does not": "supported"}


def summary(page):
    """{claim: (verdict, seeds, numbers)} of the table at the top of a report."""
    rows = re.findall(r"^\| \[(.+?)\]\(#\w+-\d+\) \| \*\*(.+?)\*\* \| (.*?) \| (.*?) \|$", page,
                      re.MULTILINE)
    return {claim: tuple(rest) for claim, *rest in rows}


def page_of(study):
    """The report on {question that owns the runs: runs}."""
    modules = report.in_order(STUDY)
    runs = {name: study[questions.owner(name)] for name in modules}
    return report.page("nowhere", STUDY, modules, runs)


@functools.cache   # a page takes seconds
def page_of_whole_study(lift=1.0):
    return page_of(whole_study(lift, n=3))


@functools.cache
def published_report(names):
    """The report on these questions, as these files make it from the published numbers."""
    return report.text(RESULTS, SimpleNamespace(load=questions.load, owner=questions.owner,
                                                names=lambda: names))


def save(folder, study):
    """The files of a study, as study.py --publish leaves them."""
    for name, runs in study.items():
        records.write(os.path.join(folder, name), runs)


# ----------------------------------------------------------------------------- what is published

@pytest.fixture(scope="module")
def committed():
    with open(os.path.join(RESULTS, "README.md"), encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def published():
    return published_report(tuple(name for name in STUDY.names() if name != "quick"))


def test_the_published_numbers_still_say_what_was_found(published):
    found = summary(published)
    study = {**FIRST_STUDY, **SECOND_STUDY}
    assert {claim: found[claim][0] for claim in study} == study
    others = {claim: found[claim][0] for claim in found if claim not in study}
    assert set(others.values()) <= {"a table", "not run"}


def test_the_published_numbers_to_the_printed_digit(published):
    found = summary(published)
    assert found["Overlap buys mass"][1:] == (
        "3", "base mass +0.049 ±0.018 per step of dose, gain +0.090 ±0.035 per step of dose")
    assert found["No mass, no gain"][1:] == (
        "3", "27 bases: pass@1 +0.034 ±0.139, pass@64 +0.046 ±0.158")
    assert found["RL methods differ by more than seeds do"][2].startswith(
        "arithmetic composition, overlap 0: 0.105 between methods, 0.025 between seeds")
    assert found["Undertrained bases gain like noisy ones of the same mass"][1:] == ("", "")


def test_the_published_report_is_what_the_numbers_give(committed):
    """No verdict was typed. What has a section is published, a reader's own questions too."""
    there = set(re.findall(r"\(\.\./questions/(\w+)\.py\)", committed))
    assert there >= {*STUDY.names()} - {"quick"}
    names = tuple(name for name in questions.names() if name in there)
    assert committed == published_report(names), (
        "results/README.md is not what the numbers give: python study.py --report")


def test_the_published_figures_are_all_in_the_report(committed):
    shown = set(re.findall(r"!\[.*?\]\((.*?)\)", committed))
    there = {os.path.relpath(os.path.join(folder, name), RESULTS)
             for folder, _, names in os.walk(RESULTS) for name in names if name.endswith(".png")}
    assert shown == there


# -------------------------------------------------------------------------------- any other study

def test_the_words_follow_the_numbers():
    found = {}
    for lift in (1.0, -1.0):
        page = page_of_whole_study(lift)
        found[lift] = summary(page)
        for claim, (word, *_) in found[lift].items():
            assert f"### {claim}: {word}" in page
    assert found[1.0].keys() == found[-1.0].keys() >= FIRST_STUDY.keys()
    changed = [claim for claim in FIRST_STUDY if found[1.0][claim][0] != found[-1.0][claim][0]]
    assert len(changed) >= 8


def test_every_question_has_its_section_and_every_link_its_anchor():
    page = page_of_whole_study()
    for name, module in report.in_order(STUDY).items():
        assert f"## {module.__doc__.strip().splitlines()[0]}" in page
        assert f"(../questions/{name}.py)" in page
    targets = set(re.findall(r'<a id="(.*?)"></a>', page))
    assert set(re.findall(r"\(#(.*?)\)", page)) <= targets
    assert "⚠ arithmetic tokens, overlap 0: base id 0.2" in page
    assert "quick" not in targets   # a reader's own


def test_what_was_run_says_by_which_command_and_how_closely(published):
    rows = {row.split("](")[0][3:]: row for row in published.splitlines()
            if row.startswith("| [") and "`python study.py" in row}
    assert rows["dose"].endswith(
        "| none | `python study.py dose --seeds 3 --prompts 128 --overlaps 0 0.01 0.1` |")
    assert rows.pop("critical_mass").endswith(   # from 512 on, more where there is little mass
        "| 512, 4096 | 0.085, 0.347 | - | "
        "`python study.py critical_mass --seeds 3 --first-seed 3 --prompts 512` |")
    assert rows.pop("methods").endswith(
        "| 256 | 0.532, 0.565 | - | "
        "`python study.py methods --seeds 3 --first-seed 3 --prompts 256 --overlaps 0 0.01` |")
    assert all("| 128 |" in row for row in rows.values()) and len(rows) == 8


def test_lines_that_are_not_tables_can_be_read(published):
    for page in (page_of_whole_study(), published):
        for line in page.splitlines():
            assert line.startswith(("|", "!", "#")) or len(line) <= 100, line


def test_the_files_say_what_the_runs_said(tmp_path):
    study = {name: [] for name in whole_study(n=1)}
    study.update(law=whole_study()["law"], methods=whole_study()["methods"])
    save(tmp_path, {name: runs for name, runs in study.items() if runs})
    assert summary(report.text(tmp_path, STUDY)) == summary(page_of(study))


def test_a_long_table_is_folded():
    short, long = [["a"]] + [["1"]] * 5, [["a"]] + [["1"]] * 50
    assert report.folded(short) == "| a |\n| --- |\n" + "\n".join(["| 1 |"] * 5)
    assert report.folded(long).startswith("<details><summary>50 rows</summary>\n\n| a |")
    assert report.folded(long).endswith("| 1 |\n\n</details>")


def test_nothing_measured_is_a_page_without_a_verdict(tmp_path):
    found = summary(report.text(tmp_path, questions))
    assert {word for word, *_ in found.values()} == {"not run"}
    assert not any(seeds_ or numbers for _, seeds_, numbers in found.values())


# ---------------------------------------------------------------------- the guide to the methods

def test_the_committed_guide_is_what_the_files_and_the_numbers_give():
    """A reader's own method may be missing: what has a row must be as it would be written now."""
    with open(os.path.join(ROOT, "variants", "README.md"), encoding="utf-8") as file:
        guide = file.read()
    listed = re.findall(r"^\| \[(\w+)\]\(", guide, re.M)
    assert {*methods.METHODS, "sft", "distill"} <= {*listed} <= {*variants.names()}
    runs = records.read(os.path.join(RESULTS, "methods"))
    assert guide == museum.page(methods, runs, listed), (
        "variants/README.md is not what files and numbers give: python study.py --report")


def test_the_guide_has_a_row_for_every_method_and_its_numbers():
    runs = [run for overlap in (0.0, 0.01) for run in seeds(
        tuned("rival-grpo", shift(1), method="grpo", epochs=1, seconds=10.0),
        tuned("rival-dapo", shift(2), method="dapo", epochs=1, seconds=25.0),
        overlap=overlap, base=(0.5, 1e-5, 1e-9), question="methods")]
    page = museum.page(methods, runs, variants.names())
    rows = {row.split("](")[0][3:]: row for row in page.splitlines() if row.startswith("| [")}
    assert sorted(rows) == sorted(variants.names())
    assert "2503.14476 | the outcome, and lengths | 1 | 2.5 | 0.8" in rows["dapo"]
    assert rows["gspo"].endswith("|  | - | - | - | - |")   # nothing measured
    assert "at arithmetic depth, where one" in page and "over 3 seeds" in page
    for line in page.splitlines():
        assert line.startswith(("|", "#")) or len(line) <= 100, line


def test_half_of_a_record_is_refused_in_one_line(tmp_path):
    save(tmp_path, {"dose": seeds(tuned("grpo-id", shift(1)), n=1)})
    os.remove(tmp_path / "dose" / "masses.npz")
    with pytest.raises(CommandError, match=r"dose.masses\.npz: is not there"):
        report.text(tmp_path, questions)


def test_without_matplotlib_the_page_keeps_the_pictures_that_are_there(tmp_path, monkeypatch,
                                                                      capsys):
    save(tmp_path, {"dose": seeds(tuned("grpo-id", shift(1)), n=1)})
    (tmp_path / "dose" / "dose.png").write_bytes(b"a picture")
    monkeypatch.setattr(draw, "can_draw", lambda: False)
    path = report.write(tmp_path, questions)
    assert "matplotlib is not installed" in capsys.readouterr().out
    with open(path, encoding="utf-8") as file:
        page = file.read()
    assert page == report.text(tmp_path, questions)
    assert page.count("![") == 1 and "](dose/dose.png)" in page
    assert (tmp_path / "dose" / "dose.png").read_bytes() == b"a picture"
