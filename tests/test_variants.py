"""variants/: the numbers of a variant are its doctest. Here: tests that run over every file of the
folder, so that a new file adds its own; what a doctest cannot show; and what is wrong with a file.
"""
import doctest
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from by_hand import (CELL, algorithm, assert_same, by_hand, close, flat, gradient, moved, moved_by,
                     ready, rewarded, rows_of, sgd, tiny_model)

import finetune
import variants
from cli import CommandError, flag, knobs
from grpo import GRPO, group_advantages
from model import (GPT, GPTConfig, completion_mask, load_checkpoint, save_checkpoint,
                   token_logprobs)
from tasks import EOS, PAD, SEP, TASKS, Cell, reserved
from variants._rollouts import judged
from variants._steps import steps_right
from variants.ppo import gae
from variants.reinforce_pp import whiten
from variants.rft import votes
from variants.tw_grpo import soft_rewards

ROOT = Path(__file__).resolve().parent.parent
TWO_CELLS = (Cell(1, 4), CELL)
EVERY = pytest.mark.parametrize("name", variants.names())


def shown(kind):
    """The knobs of a method that are flags."""
    return {name: knob for name, knob in knobs(kind).items() if knob.shown}


def asked_for(kind, checkpoint):
    """Settings that a method cannot do without, by what its knobs ask for: a checkpoint, or the
    word that the base need not be prepared for it."""
    settings = {name: checkpoint for name, knob in shown(kind).items()
                if knob.default is None and knob.metavar == "CKPT"}
    if "unprepared" in shown(kind):   # whose prompts tell the answer, and an attempt: they are long
        settings.update(unprepared=True, context=64)
    return settings


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(name, change, **settings): the method, or what change(its class) makes of it, on the
    tiny model; if it asks for a checkpoint, it gets that same model."""
    checkpoint = str(tmp_path_factory.mktemp("tiny") / "tiny.pt")
    save_checkpoint(checkpoint, tiny_model())

    def made(name, change=None, **settings):
        kind = variants.load(name)
        settings = {**asked_for(kind, checkpoint), **settings}
        return algorithm(change(kind) if change else kind, **settings)
    return made


# =============================================================================== every variant

def flags_for(name, base):
    """A small run's flags: of those that the method has."""
    kind = variants.load(name)
    settings = {"prompts_per_step": 4, "group_size": 5, "reward": "random",
                "budget_rollouts": BUDGET, "warmup_steps": 1, **asked_for(kind, base)}
    words = [(flag(key), *([] if value is True else [str(value)]))
             for key, value in settings.items() if key in shown(kind)]
    return ["--init", base, "--method", name, "--steps", str(STEPS), "--eval-every", "2",
            "--eval-prompts", "4", "--lr-decay", "--depths", "1", "2", *sum(words, ())]


STEPS, BUDGET = 6, 100


@pytest.fixture(scope="module", params=variants.names())
def run(request, base, tmp_path_factory):
    """(name, checkpoint, completions sampled) of a small run of a method."""
    out = str(tmp_path_factory.mktemp("run") / "whole.pt")
    sampled = []
    with pytest.MonkeyPatch.context() as patch:
        generate = sys.modules["grpo"].generate

        def counted(*args, **options):
            sampled.append(generate(*args, **options))
            return sampled[-1]
        patch.setattr("grpo.generate", counted)
        finetune.main([*flags_for(request.param, base), "--keep-every", "2", "--out", out])
    return request.param, out, sum(len(completions) for completions, _ in sampled)


def test_a_run_moves_the_weights_and_logs_every_step(run, base):
    name, out, _ = run
    before, after = (flat(load_checkpoint(path)[0].parameters()) for path in (base, out))
    assert after.isfinite().all() and not torch.equal(before, after), "it moves no weights"
    rows = rows_of(out)
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    for column in ("loss", "grad", "id", "rewards", *variants.load(name).columns):
        assert rows[-1][column] != "", f"numbers(groups) never gives the column {column!r}"
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    assert any(float(row["grad"]) > 0 for row in rows)


def test_every_completion_is_counted_and_a_budget_ends_the_run(run):
    name, out, sampled = run
    rows, extra = rows_of(out), load_checkpoint(out)[1]
    rollouts = [int(row["rollouts"]) for row in rows]
    assert rollouts[-1] == sampled == extra["method"]["rollouts"], "self.rollouts is miscounted"
    assert extra["finished"]
    assert "generate" not in vars(inspect.getmodule(variants.load(name))) or name == "grpo", (
        "sample with self.sample(...) of GRPO, which counts, not with generate(...)")
    if "budget_rollouts" in shown(variants.load(name)):
        assert rollouts[-2] < BUDGET and (rollouts[-1] >= BUDGET or len(rows) == STEPS)
    else:
        assert len(rows) == STEPS and sampled == 0   # nothing to pay for


def test_going_on_from_a_kept_step_equals_the_uninterrupted_run(run, tmp_path):
    """A run that is stopped saves the same as one that keeps a step: test_scripts.py stops some."""
    _, whole, _ = run
    again = str(tmp_path / "again.pt")
    kept = whole.replace(".pt", ".step0002.pt")
    assert len(rows_of(whole)) > 2 == load_checkpoint(kept)[1]["step"]
    finetune.main(["--resume", kept, "--out", again])
    assert rows_of(again) == rows_of(whole)[2:]
    (model_a, extra_a), (model_b, extra_b) = load_checkpoint(whole), load_checkpoint(again)
    assert_same(dict(model_a.state_dict()), dict(model_b.state_dict()))
    assert_same(extra_a, extra_b)   # if not: state() and load_state() forget something


def test_gold_is_counted_where_it_is_shown_and_a_budget_ends_the_run(run, base, tmp_path, capsys):
    """Whoever asks for gold solutions has to say so, and then has columns and a budget for them.
    Where nothing is right, which is when a hint is given, the first token of gold ends this run."""
    name, out, _ = run
    rows, kept, kind = rows_of(out), load_checkpoint(out)[1]["method"], variants.load(name)
    if "budget_gold" not in shown(kind):
        assert "gold_tokens" not in rows[0] and "gold_tokens" not in kept
        with pytest.raises(TypeError, match="budget_gold = 0"):
            algorithm(kind, context=96, **asked_for(kind, base)).spend_gold(1, 1)
        return
    assert all(int(rows[-1][column]) == kept[column] for column in ("gold_problems", "gold_tokens"))
    short = str(tmp_path / "short.pt")
    hard = ["--reward", "trace"] if "reward" in shown(kind) else []
    finetune.main([*flags_for(name, base), *hard, "--budget-gold", "1", "--out", short])
    gold = [int(row["gold_tokens"]) for row in rows_of(short)]
    assert set(gold[:-1]) <= {0} and gold[-1] >= int(rows_of(short)[-1]["gold_problems"]) > 0
    assert load_checkpoint(short)[1]["finished"] and len(gold) <= 2
    assert f"{gold[-1]:,} gold tokens" in capsys.readouterr().out


@EVERY
def test_a_group_without_contrast_has_a_gradient_only_where_the_class_says_so(name, make):
    """It says so by taking away --drop-zero-variance, which would delete that gradient."""
    def change(kind):
        class Watched(kind):
            def rewards(self, group):
                rewards = torch.full((len(group.prompts), group.size), self.equal_reward)
                rewards[0] = 0.0   # the first prompt has a contrast: one right completion
                rewards[0, 0] = 1.0
                return rewards if group.size > 1 else torch.ones(len(group.prompts), 1)

            def forward(self, group):
                logp = super().forward(group)
                if logp.requires_grad:
                    logp.retain_grad()
                    seen.append((group, logp))
                return logp
        return Watched

    has_gradient = False
    for value in (0.0, 1.0, 1 / 3):
        method, seen = make(name, change, prompts_per_step=3), []
        method.equal_reward = value
        method.step(sgd(method))
        assert any((logp.grad[:group.size] != 0).any() for group, logp in seen)
        for group, logp in seen:
            equal = (group.rewards == group.rewards[:, :1]).all(1).repeat_interleave(group.size)
            has_gradient |= bool((logp.grad[equal] != 0).any())
    if "drop_zero_variance" in shown(variants.load(name)):
        assert not has_gradient, (
            "rows of equal rewards have a gradient here: set drop_zero_variance = None")
    else:
        assert has_gradient, ("rows of equal rewards have no gradient here: "
                              "leave --drop-zero-variance to its users, without `= None`")


@EVERY
def test_no_evaluation_prompt_is_ever_drawn(name, make):
    method = make(name, cells=TWO_CELLS, reward="trace", prompts_per_step=60)
    groups, _ = method.step(sgd(method))   # nothing is right: what can be refilled is
    for group in groups:
        assert not reserved(group.prompts).any()
        assert TASKS[group.task].matches(group.prompts, group.cell).all()
    assert sum(len(group.prompts) for group in groups) >= 60


@EVERY
def test_help_names_its_knobs_and_no_others(name, capsys):
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--method", name, "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    for key, knob in knobs(variants.load(name)).items():
        listed = re.search(rf"^  {flag(key)}\b", said, re.M)
        assert bool(listed) == knob.shown, key
        assert not knob.shown or " ".join(knob.help.split()[:3]) in " ".join(said.split())


@pytest.mark.parametrize("name", [name for name in variants.names() if name != "grpo"])
def test_a_file_says_what_it_is(name):
    """A title, the paper (or that it is one's own), what the method is told beyond the outcome, an
    example that runs; and no more than 80 lines, unless it says why."""
    kind = variants.load(name)
    module = inspect.getmodule(kind)
    text = Path(module.__file__).read_text(encoding="utf-8")
    about = " ".join(module.__doc__.split())
    assert about.startswith(f"{name}.py: "), f'begin the file with """{name}.py: what it does'
    assert "Information used: " in about, 'say "Information used: the outcome." or what else it is'
    paper = re.search(r"\d{4}\.\d{5}", kind.paper)
    assert paper or kind.paper == "own", 'paper = an arXiv number such as "2402.03300", or "own"'
    assert not paper or paper[0] in about, f"name the paper, {kind.paper}, in the file's docstring"
    assert kind.__doc__, "the class needs a docstring of one line: --method list prints it"
    assert re.search(r"^ *>>> ", text, re.M), "show an example that runs as a doctest: >>> ..."
    lines = text.splitlines()
    assert len(lines) <= (130 if "Longer than most" in about else 80), (
        'no more than 80 lines; 130 if the docstring says "Longer than most" and why')
    assert max(map(len, lines)) <= 100, "no line longer than 100 columns"


def test_list_from_any_folder_and_only_the_chosen_file_is_imported(tmp_path):
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import finetune\n"
            "finetune.build_parser(['--method', 'dapo']).parse_args(['--method', 'dapo'])\n"
            "print([m for m in sys.modules if m.startswith('variants.')])\n"
            "finetune.main(['--method', 'list'])")
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and not os.listdir(tmp_path)
    imported, *lines = done.stdout.splitlines()
    assert imported == "['variants.dapo']"
    methods = [line for line in lines if line.startswith("  ")]
    assert sorted(line.split()[0] for line in methods) == sorted(variants.names())
    for line in methods:
        assert re.search(r" (\d{4}\.\d{5}|own)  ", line), line
        assert len(line) < 100, f"shorten the first line of the class's docstring: {line}"
    assert "broken" not in done.stdout and "  grpo " in lines[0]


def test_list_is_grouped_by_the_first_box_that_a_method_changes(tmp_path, monkeypatch):
    boxes = {box: its for box, its in variants.grouped()[0].items()}
    assert "reinforce_pp" in boxes["advantages"] and "gspo" in boxes["log_ratio"]
    assert "dapo" in boxes["experience"]     # and advantages, later
    assert "resets" in boxes["step"]         # it changes nothing else
    assert "acereason" in boxes["step"] and "dr_grpo" in boxes["knobs"]
    assert list(boxes) == [box for box in [*vars(GRPO), "knobs"] if box in boxes]
    (tmp_path / "odd.py").write_text("import nothing_of_this_name")
    monkeypatch.setattr(variants, "__path__", [*variants.__path__, str(tmp_path)])
    lines = variants.listing()
    assert lines[-2] == "broken:" and lines[-1].startswith("  odd ") and len(lines[-1]) <= 100
    assert sum(line.startswith("  ") for line in lines) == len(variants.names())


# ============================================================ what a doctest cannot show, by method

# ------------------------------------------------------------------------- KL, baseline, batch

@pytest.mark.parametrize("name,prize", [("grpo", 1), ("dr_grpo", 1), ("rloo", 1), ("remax", 1),
                                        ("w_reinforce", 1.1)])
def test_k1_reward_pulls_to_one_and_the_same_tilt(name, prize, make, monkeypatch):
    """At log pi = log ref + prize * r / beta + constant no completion of a prompt is better than
    another: the KL costs what the reward brings. w_reinforce pays 0.1 + 1 for right over wrong."""
    beta, method = 0.5, make(name, kl="k1_reward", beta=0.5, scale="none", reward="trace")
    greedy = by_hand([[0]])
    monkeypatch.setattr(method, "sample", lambda *args, **options: greedy)
    lone = shown(type(method))["group_size"].low == 1   # no group is needed: one sample a prompt
    for shape in [(1, 4)] + [(4, 1)] * lone:
        group = by_hand(torch.tensor([1., 0, 0, 1]).view(shape))
        tilt = prize * group.rewards.view(4, 1) / beta
        group.ref_logp = group.old_logp - tilt + 0.3
        balanced = method.advantages(group)
        assert close(balanced, balanced[:1].expand(4), 1e-5)
        group.ref_logp = group.old_logp - 0.9 * tilt + 0.3   # not there yet
        right, wrong = method.advantages(group)[:2]
        assert right - wrong > 0.05


def test_remax_compares_with_the_greedy_completion_and_pays_for_it(make):
    method = make("remax", reward="format", group_size=3)
    asked, sample = [], method.sample

    def watched(policy, problems, group_size, temperature):
        asked.append((policy is method.policy, group_size, temperature))
        return sample(policy, problems, group_size, temperature)
    method.sample = watched
    group, = ready(method)
    assert asked == [(True, 3, 1.0), (True, 1, 0)] and method.rollouts == 4 * (3 + 1)
    problems = (group.task, group.cell, group.prompts)
    a, b = (sample(method.policy, problems, 1, 0) for _ in range(2))
    assert torch.equal(a.tokens, b.tokens)


@pytest.mark.parametrize("greedy,expected", [(1, [0, -1]), (0, [1, 0])])
def test_remax_by_hand(greedy, expected, make, monkeypatch):
    method = make("remax", reward="trace")
    monkeypatch.setattr(method, "sample", lambda *args, **options: by_hand([[greedy]]))
    assert close(method.advantages(by_hand([[1, 0]])), expected)


def test_reinforce_pp_puts_the_kl_where_it_is_earned(make):
    """The return at t has the log-ratios from t on, not those before."""
    method, group = make("reinforce_pp", kl="k1_reward", beta=0.5), by_hand([[1, 0]], N=2)
    # the policy is more sure than the reference: a cost
    group.ref_logp = group.old_logp + torch.tensor([[-.2, -.4], [0, 0]])
    assert close(method.advantages(group), [[1 - .5 * .6, 1 - .5 * .4], [0, 0]])


@pytest.mark.parametrize("name", ["reinforce_pp", "reinforce_pp_baseline", "ppo"])
def test_advantages_are_whitened_over_the_whole_step(name, make):
    method = make(name, cells=TWO_CELLS)
    groups = method.experience(4)
    raw = [method.advantages(group) for group in groups]
    tokens = torch.cat([x[group.mask == 1] for x, group in zip(raw, groups)])
    mean, std = tokens.mean(), tokens.std(correction=0)
    for group, x in zip(groups, raw):
        group.advantages = x
    method.normalise(groups)
    for group, x in zip(groups, raw):
        assert close(group.advantages, (x - mean) / (std + 1e-6) * group.mask, 1e-5)
    assert len(groups) == 2 and std > 0


def test_whiten_counts_tokens_and_only_those():
    x, mask = torch.tensor([[1., 2, 99], [3, 99, 99]]), torch.tensor([[1., 1, 0], [1, 0, 0]])
    assert close(whiten([x], [mask])[0], [[-1.2247, 0, 0], [1.2247, 0, 0]], 1e-4)
    parts = whiten([x[:1], x[1:]], [mask[:1], mask[1:]])
    assert close(torch.cat(parts), whiten([x], [mask])[0])
    equal = torch.full((2, 3), 0.1)
    assert (whiten([equal], [mask])[0] == 0).all()


# ---------------------------------------------------------------------- losses, as published

def test_dr_grpo_divides_by_the_longest_room_of_all_cells(make):
    """And not by each cell's own, which would be a division by length between cells."""
    method, group = make("dr_grpo", cells=TWO_CELLS), by_hand([[1, 0]], lengths=[2, 4], N=5)
    logp = moved(group, 0, [1., 1.])
    method.loss(group, logp).backward()
    assert method.longest == 15 and close(-logp.grad, group.mask / (2 * 15))


def test_gspo_has_one_ratio_per_sequence(make):
    method, group = make("gspo", clip_high=0.5), by_hand([[1, 0]], lengths=[2, 1], N=3)
    logp = moved(group, [[.1, .3, 0], [0, 0, 0]], [2., -1.])
    ratio = method.log_ratio(group, logp).exp()
    assert close(ratio.detach()[0], [1.2214, 1.2214, 1], 1e-4)
    loss = method.loss(group, logp)
    loss.backward()
    assert close(loss.item(), -(2 * 1.2214 - 1) / 2, 1e-4)
    assert close(-logp.grad[0], [1.2214 * 2 / 2 / 2] * 2 + [0], 1e-4)   # s A / L, over 2 rows
    assert method.clip_fraction(group, logp) == 0
    assert close(make("gspo", clip_high=0.2).clip_fraction(group, logp), 2 / 3)


def test_rloo_has_one_action_per_completion(make):
    method, group = make("rloo"), by_hand([[1, 0]], lengths=[2, 1], N=3)
    logp = moved(group, [[.05, .1, 0], [0, 0, 0]], [2., -1.])
    method.loss(group, logp).backward()
    assert close(-logp.grad[0], [2 * np.exp(.15) / 2] * 2 + [0], 1e-4)


def test_cispo_never_loses_a_gradient(make):
    group = by_hand([[1]])
    for name, log_ratio, advantage, coefficient in (
            ("cispo", np.log(6), 1., 5),     # capped, and there
            ("cispo", np.log(.1), -1., -.1),   # and there is no lower clip
            ("grpo", np.log(6), 1., 0)):
        logp = moved(group, [[log_ratio]], [advantage])
        method = make(name)
        method.loss(group, logp).backward()
        assert close(-logp.grad, [[coefficient]], 1e-4)
        assert method.clip_fraction(group, logp.detach()) == (log_ratio > 1)


# ------------------------------------------------------------------------------------ passk, rft

def test_a_fractional_reward_is_not_a_right_answer(make):
    """Process rewards, for example: where right and wrong are counted, only 1 is right."""
    whole, half = by_hand([[1, 0, 0, 0, 0]]), by_hand([[1, .9, .5, 0, 0]])
    for name in ("passk", "rft"):
        method = make(name)
        assert torch.equal(method.advantages(half), method.advantages(whole))
        assert method.advantages(half)[0] > 0
    assert close(votes(torch.tensor([[.5, .9], [1, .9]])), [[0, 0], [2, 0]])
    assert close(make("w_reinforce").advantages(half), [.1, .09 - .1, .05 - .5, -1, -1])


def test_passk_rests_where_every_subset_succeeds(make):
    method = make("passk", k=4)
    assert (method.advantages(by_hand([[1, 1, 0, 0, 0], [0] * 5, [1] * 5])) == 0).all()
    assert method.advantages(by_hand([[1, 0, 0, 0, 0]])).tolist()[0] > 0


def test_rft_gives_every_solved_prompt_of_the_step_one_vote(make):
    method = make("rft")
    groups = [by_hand([[1, 0, 0, 0], [1, 1, 0, 0]]), by_hand([[0, 0, 0, 0]])]
    for group in groups:
        group.advantages = method.advantages(group)
    method.normalise(groups)
    weights = torch.cat([group.advantages for group in groups])
    assert close(weights, [6, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0])
    method.normalise(groups[1:])
    assert (groups[1].advantages == 0).all()   # nobody was right: no vote, no nan


# -------------------------------------------------------------------------------------------- dapo

class Rare:
    """Every third prompt that is ever sampled has a contrast."""
    def rewards(self, group):
        first = getattr(self, "seen", 0)
        self.seen = first + len(group.prompts)
        rewards = torch.zeros(len(group.prompts), group.size)
        rewards[torch.arange(first, self.seen) % 3 == 0, 0] = 1
        return rewards


def rare(kind):
    return type("RareContrast", (Rare, kind), {})


@pytest.mark.parametrize("refills,contrast,prompts", [(0, 2, 6), (2, 4, 12), (50, 6, 16)])
def test_dapo_refills_what_has_no_contrast(refills, contrast, prompts, make):
    method = make("dapo", rare, cells=TWO_CELLS, refills=refills, prompts_per_step=6)
    groups, _ = method.step(sgd(method))
    kept = [~method.zero_variance(group) for group in groups]
    assert sum(int(x.sum()) for x in kept) == contrast
    assert sum(len(group.prompts) for group in groups) == prompts == method.seen
    assert method.rollouts == 5 * prompts
    assert {group.cell for group in groups} == set(TWO_CELLS)
    for group, contrasts in zip(groups, kept):   # what says nothing is not in the mean
        assert torch.equal(group.mask.any(1), contrasts.repeat_interleave(5))


def test_dapo_takes_the_mean_over_the_tokens_of_what_is_left(make):
    """However many refills there were, and however they fall into groups."""
    def change(kind):
        class Watched(rare(kind)):
            def forward(self, group):
                logp = super().forward(group)
                logp.retain_grad()
                seen.append((group, logp))
                return logp
        return Watched
    method, seen = make("dapo", change, cells=TWO_CELLS, refills=9, prompts_per_step=6), []
    groups, _ = method.step(sgd(method))
    tokens = sum(group.mask.sum() for group in groups)
    assert len(seen) > 2
    for group, logp in seen:
        assert close(-logp.grad, group.advantages[:, None] * group.mask / tokens, 1e-6)


def test_dapo_stops_refilling_when_the_budget_is_spent(make):
    method = make("dapo", lambda kind: rewarded(kind, [0.0]), refills=9, budget_rollouts=30)
    groups = method.experience(4)
    assert method.rollouts == 40 and len(groups) == 2   # 20, and one refill of 20


@pytest.mark.parametrize("context,buffer", [(96, 4), (32, 2), (30, 0)])
def test_dapo_never_penalises_a_right_answer_whatever_the_context(context, buffer, make):
    """Depth 4 of length 4 takes 10 tokens to ask and 20 to answer."""
    cell = Cell(4, 4)
    method = make("dapo", cells=[cell], context=context, reward="trace")
    problems = TASKS["arithmetic"].sample(cell, 4, np.random.default_rng(0))
    assert method.room("arithmetic", cell) == 20 + buffer
    group = method.rollout(("arithmetic", cell, problems.prompts))
    solutions = torch.from_numpy(problems.solutions)
    group.tokens[::5, group.start:] = PAD
    group.tokens[::5, group.start:group.start + 20] = solutions   # one of five is right
    group.completions[1::5] = 7                                    # and one never ends
    group.mask = completion_mask(group.completions)
    prompts = group.prompts.repeat(5, axis=0)
    group.verdict = TASKS["arithmetic"].verify(prompts, group.completions.numpy())
    group.rewards = method.rewards(group)
    assert group.rewards[:, 0].tolist() == [1] * 4 and group.rewards.sum() == 4
    penalised = group.rewards.clone()
    for row in range(20):
        length, cut_off = group.mask[row].sum(), not (group.completions[row] == EOS).any()
        if buffer:
            soft = max(-1, min(0, (20 - length) / buffer))
            penalised.view(-1)[row] += -1 if cut_off else soft
    assert torch.equal(penalised[:, 0], group.rewards[:, 0])
    assert close(method.advantages(group), group_advantages(penalised).flatten(), 1e-5)


def test_dapo_penalises_overlong_completions_softly(make):
    group = by_hand([[1, 1, 1]], lengths=[5, 7, 9], N=9)
    assert close(make("dapo", cells=[Cell(1, 4)]).advantages(group),
                 group_advantages(torch.tensor([[1, .5, 0]])).flatten())
    spared = make("dapo", cells=[Cell(1, 4)], overlong=0)
    assert (spared.advantages(group) == 0).all()


def test_dapo_clips_higher_and_weighs_tokens_alike(make):
    group = by_hand([[1, 0]], lengths=[2, 6], N=8)
    logp = moved(group, 0, [1., 1.])
    make("dapo").loss(group, logp).backward()
    assert close(-logp.grad, group.mask / 8)
    group = by_hand([[1]])
    logp = moved(group, [[np.log(1.25)]], [1.])
    assert close(-make("dapo").loss(group, logp).item(), 1.25)
    assert close(-make("grpo").loss(group, logp).item(), 1.20)


# -------------------------------------------------------------------------------------------- ppo

def test_gae_is_the_sum_of_discounted_errors():
    torch.manual_seed(0)
    rewards, values = torch.randn(3, 6), torch.randn(3, 6)
    for row in range(3):
        V = [*values[row].tolist(), 0.0]
        delta = [rewards[row, i].item() + .9 * V[i + 1] - V[i] for i in range(6)]
        for t in range(6):
            expected = sum((.9 * .7) ** (i - t) * delta[i] for i in range(t, 6))
            assert close(gae(rewards, values, .9, .7)[row, t], expected, 1e-5)


def test_ppo_sees_the_value_before_the_token_and_the_reward_at_its_end(make):
    method = make("ppo", lam=0.9, temperature=0.7)
    with torch.no_grad():
        method.head.weight.normal_()
    group, = method.experience(4)
    advantages = method.advantages(group)
    lengths = group.mask.sum(1).long()
    assert lengths.unique().numel() > 1 and (group.more["old_values"][group.mask == 0] == 0).all()
    for row, n in enumerate(lengths.tolist()):
        before_last = group.tokens[row:row + 1, :group.start + n - 1]
        hidden = method.policy.hidden(before_last)[0, group.start - 1:]
        lowest = [group.old_logp[row, :i].min().exp() if i else torch.tensor(1.)
                  for i in range(n)]
        inputs = torch.cat([hidden / 16, torch.stack(lowest)[:, None]], 1)
        V = 10 * method.head(inputs).flatten().detach()
        assert close(group.more["old_values"][row, :n], V, 1e-5)
        r = torch.zeros(n)
        r[-1] = group.rewards.flatten()[row]
        expected = gae(r[None], V[None], 1.0, .9)[0]
        assert close(advantages[row, :n], expected, 1e-4)
        assert close(group.more["returns"][row, :n], expected + V, 1e-4)
    group.advantages = advantages
    assert close(method.forward(group).detach(), GRPO.forward(method, group).detach(), 1e-5)


def test_ppo_value_loss_by_hand(make):
    group = by_hand([[1, 0]])
    values = {"old_values": [0., 0.], "returns": [1., .5], "values": [.6, .1]}
    group.more = {name: torch.tensor(x)[:, None] for name, x in values.items()}
    logp = moved(group, 0, [0., 0.])
    clipped = ((1 - .2) ** 2 + (.5 - .1) ** 2) / 2 / 2   # .6 is held to .2; .1 is within it
    free = (.4 ** 2 + .4 ** 2) / 2 / 2
    assert close(make("ppo", value_coef=0.5).loss(group, logp).item(), 0.5 * clipped)
    method = make("ppo", value_coef=0.5, value_clip=9.)
    assert close(method.loss(group, logp).item(), 0.5 * free)


@pytest.mark.parametrize("dual_clip,surrogate,slope", [(float("inf"), -5, 5), (3.0, -3, 0)])
def test_ppo_dual_clip_caps_a_negative_advantage(dual_clip, surrogate, slope, make):
    group = by_hand([[1, 0]])
    group.more = {name: torch.zeros(2, 1) for name in ("old_values", "returns", "values")}
    logp = moved(group, [[0.], [np.log(5)]], [[0.], [-1.]])
    loss = make("ppo", dual_clip=dual_clip).loss(group, logp)
    loss.backward()
    assert close(loss.item(), -surrogate / 2, 1e-5) and close(logp.grad[1], [slope / 2], 1e-4)


@pytest.mark.parametrize("values,expected", [([1., 0, .5], 1), ([.5] * 3, 0), ([0., 1, .5], -3)])
def test_explained_variance_by_hand(values, expected, make):
    group = by_hand([[1, 0, .5]])
    group.more = {"returns": torch.tensor([[1.], [0], [.5]]),
                  "old_values": torch.tensor(values)[:, None]}
    assert close(make("ppo").numbers([group])["explained_variance"], expected)
    group.more["returns"] = torch.full((3, 1), .1)   # nothing to explain
    assert make("ppo").numbers([group])["explained_variance"] is None


@pytest.mark.parametrize("lam", [0.95, 1.0])
def test_ppo_trains_its_critic_on_a_batch_that_is_all_right(lam, make):
    method = make("ppo", lambda kind: rewarded(kind, [1.0]), cells=TWO_CELLS, lam=lam)
    groups, numbers = method.step(sgd(method, lr=0.01))
    assert all((group.advantages == 0).all() for group in groups) == (lam == 1.0)
    assert numbers["grad"] > 0 and method.head.bias.item() > 0


def test_ppo_learns_to_foresee_the_reward(make):
    """A reward that improbable tokens cost, a frozen policy: explained variance rises from 0."""
    def change(kind):
        class Readable(kind):
            def rewards(self, group):
                lowest = group.old_logp.min(dim=1).values
                return (lowest > lowest.median()).float().view(len(group.prompts), -1)
        return Readable
    method = make("ppo", change, prompts_per_step=16, temperature=0.3, epochs=4)
    optimizer = torch.optim.AdamW(method.head.parameters(), lr=1e-2)
    seen = [method.step(optimizer)[1]["explained_variance"] for _ in range(9)]
    assert seen[0] == 0 and np.mean(seen[-5:]) > 0.15, seen


# ----------------------------------------------------------------------- imitation, and controls

@pytest.mark.parametrize("name,loss", [("rft", 1.5), ("distill", (1.5 + .8) / 2),
                                       ("sft", (1.5 + .8) / 2)])
def test_the_imitators_maximise_likelihood(name, loss, make):
    method, group = make(name), by_hand([[1, 0]], lengths=[1, 2], N=2)
    if name == "sft":
        group.rewards = torch.ones(1, 2)
    group.advantages = method.advantages(group)
    method.normalise([group])
    logp = (group.old_logp + torch.tensor([[-.5, 0], [.2, .2]]))   # -1.5; -.8, -.8
    assert close(method.loss(group, logp), loss)


def test_the_teacher_samples_at_the_temperature_and_the_student_pays(make):
    method = make("distill", group_size=3, temperature=0.5)
    moved_by(method.policy, 0.3)
    group, = method.experience(4)
    teacher = token_logprobs(tiny_model(), group.tokens, group.start, temperature=0.5)
    assert close(group.old_logp, (teacher * group.mask).detach(), 1e-4)
    assert method.rollouts == 4 * 3
    student = token_logprobs(method.policy, group.tokens, group.start, temperature=0.5)
    group.advantages = method.advantages(group)
    assert close(method.forward(group).detach(), (student * group.mask).detach(), 1e-4)
    assert not close(student.detach(), teacher.detach(), 0.1)


def test_sft_is_shown_gold_counts_it_and_learns_it(make):
    method = make("sft", prompts_per_step=64, cells=[Cell(1, 4)])
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    steps = [method.step(optimizer) for _ in range(40)]
    losses = [numbers["loss"] for _, numbers in steps]
    assert losses[-1] < 0.5 * losses[0]
    for (group,), _ in steps:
        assert group.verdict.trace.all() and (group.mask == 1).all()
    assert method.spent() == {"rollouts": 0, "gold_problems": 40 * 64, "gold_tokens": 40 * 64 * 5}


def test_balanced_keeps_the_prompts_nearest_one_half(make, monkeypatch):
    masses, seen, method = np.random.default_rng(0).uniform(size=24), [], make("balanced", pool=6)

    def log_mass(model, prompts, solutions, temperature):
        assert model is method.reference and temperature == 1.0
        assert TASKS["arithmetic"].verify(prompts, solutions[:, 0]).trace.all()
        seen.append(prompts)
        return np.log(masses)
    monkeypatch.setattr("variants.balanced.log_mass", log_mass)
    (_, _, prompts), = method.problems(4)
    nearest = sorted(range(24), key=lambda i: abs(masses[i] - 0.5))[:4]
    assert (prompts == seen[0][nearest]).all() and method.rollouts == 0


def test_a_reset_makes_the_policy_its_own_reference(make):
    method = make("resets", reset_every=2, kl="k1_reward", beta=1.0, scale="none")
    optimizer = sgd(method, lr=0.5)
    apart = [method.step(optimizer)[1]["kl"] for _ in range(5)]   # measured before each update
    assert max(map(abs, apart[::2])) < 1e-6 and min(apart[1::2]) > 1e-5, apart


def test_a_reset_forgets_the_momentum(make):
    method = make("resets", reset_every=2, max_grad_norm=1e9)
    optimizer = sgd(method, lr=0.5, momentum=0.9)
    for step in range(4):
        before = flat(method.parameters())
        method.step(optimizer)
        plain = before - 0.5 * flat(p.grad for p in method.parameters())
        first = step in (0, 2)   # after a reset, the first step is one of plain descent
        assert close(flat(method.parameters()), plain, 1e-6) == first


# ====================================================================== a new file, a broken file

@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A variants folder of its own; what is imported from it is forgotten afterwards."""
    path = tmp_path / "variants"
    path.mkdir()
    monkeypatch.setattr(variants, "__path__", [str(path)])
    before = set(sys.modules)
    yield path
    for name in set(sys.modules) - before:
        if name.startswith("variants."):
            del sys.modules[name]


HALF = '''"""half.py: half of the loss.

>>> 1 / 2
0.5
"""
from cli import knob
from grpo import GRPO


class Half(GRPO):
    """Halves the loss."""
    paper = "2402.03300"

    clip_high = 0.3
    part = knob(0.5, "what is left of the loss", above=0)
    scale = None

    def loss(self, group, logp):
        return self.part * super().loss(group, logp)

    def helper(self):
        return 0
'''


def test_the_readmes_variant_works_as_it_stands(folder, base, tmp_path, capsys):
    """And passes what every file of the folder must: it moves weights, says what it is, resumes."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Write your own")[1]
    text = re.search(r"```python\n(.*?)```", section, re.S)[1]
    name, = re.findall(r"variants/(\w+)\.py", section.split("```python")[0])
    assert text.startswith(f'"""{name}.py: ') and len(text.splitlines()) <= 35
    (folder / f"{name}.py").write_text(text)
    out = str(tmp_path / "o.pt")
    finetune.main(["--init", base, "--method", name, "--power", "3", "--reward", "random",
                   "--steps", "2", "--eval-prompts", "4", "--out", out])
    assert load_checkpoint(out)[1]["args"]["power"] == 3 and float(rows_of(out)[-1]["grad"]) > 0
    module = sys.modules[f"variants.{name}"]
    assert doctest.testmod(module) == (0, 1)
    assert "Information used" in module.__doc__
    assert re.search(r"\d{4}\.\d{5}", variants.load(name).paper)
    group = by_hand([[1, 0, 0, 0]])
    method = algorithm(variants.load(name), power=2.0)
    assert close(method.advantages(group), torch.tensor([.75, -.25, -.25, -.25]) * .75 ** 2, 1e-5)
    tied = algorithm(variants.load(name), power=0.0, kl="k1_reward", beta=0.5)
    group.ref_logp = group.old_logp - torch.tensor([[.1], [.5], [.2], [.9]])
    advantages = tied.advantages(group)      # its reward is centred, so its KL must be too
    assert close(advantages.sum(), 0, 1e-6) and not close(advantages[1], advantages[2], 0.1)


def test_a_new_file_is_a_method_at_once(folder, base, tmp_path, capsys):
    (folder / "half.py").write_text(HALF)
    (folder / "bad.py").write_text("import nothing_of_the_kind\n")
    (folder / "_private.py").write_text("1 / 0\n")
    assert variants.names() == ["grpo", "bad", "half"]
    finetune.main(["--method", "list"])
    said = capsys.readouterr().out.splitlines()
    grpo, _, box, half, _, broken, bad = [line.split() for line in said]
    assert box[0] == "loss:" and half == ["half", "2402.03300", "Halves", "the", "loss."]
    assert broken == ["broken:"] and bad[0] == "bad" and "cannot be imported" in " ".join(bad)
    out = str(tmp_path / "o.pt")
    flags = ["--init", base, "--method", "half", "--steps", "2", "--reward", "random",
             "--eval-prompts", "4"]
    finetune.main([*flags, "--part", "0.25", "--out", out])
    extra = load_checkpoint(out)[1]
    assert extra["args"]["part"] == 0.25 and extra["args"]["clip_high"] == 0.3
    assert "--part 0.25" in extra["command"].replace("\\\n", "")
    assert float(rows_of(out)[-1]["grad"]) > 0
    quarter, whole = (gradient(algorithm(kind, max_grad_norm=1e9))
                      for kind in (variants.load("half"), GRPO))
    assert close(quarter, whole / 2, 1e-6)
    with pytest.raises(SystemExit):
        finetune.main([*flags, "--scale", "std", "--out", out])
    assert "--scale" in capsys.readouterr().err


def body(text, base="GRPO"):
    """A file whose class has this body."""
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    return ("import torch\nfrom cli import knob\nfrom grpo import GRPO\n\n\n"
            f"class A({base}):\n    paper = '2402.03300'\n{lines}\n")


BROKEN = {
    "import": ("import nothing_of_the_kind", ["cannot be imported", "nothing_of_the_kind"]),
    "syntax": ("class X(:", ["cannot be imported", "SyntaxError"]),
    "raises": ("1 / 0", ["cannot be imported", "ZeroDivisionError"]),
    "no class": ("x = 1", ["no subclass of GRPO", "must define one"]),
    "only another's": ("from variants.half import Half", ["no subclass of GRPO"]),
    "two": (body("pass") + "\n\nclass B(GRPO): pass", ["2 subclasses of GRPO"]),
    "box": (body("def reward(self, group):\n    pass"), ["defines reward", "is it rewards?"]),
    "box 2": (body("def advantage(self, group):\n    pass"), ["is it advantages?"]),
    "knob": (body("clip_hihg = 0.3"), ["sets clip_hihg", "is it clip_high?"]),
    "no knob": (body("focus = 2.0"), ["sets focus", 'focus = knob(2.0, "help")']),
    "default": (body("clip_low = 3.0"), ["clip_low = 3.0"]),
    "choice": (body("kl = 'k2'"), ["kl = 'k2'", "k3_loss"]),
    "kind": (body("epochs = 'two'"), ["epochs = 'two'"]),
    "group": (body("group_size = 1"), ["group_size = 1"]),
    "a box as a knob": (body("def scale(self): pass"), ["scale ="]),
    "a flag already": (body("seed = knob(3, 'a seed')"), ["'seed'", "is a flag already"]),
    "rewards": (body("def rewards(self, group):\n    return torch.zeros(3)"),
                ["rewards returned [3]", "must be [2, 4]"]),
    "advantages": (body("def advantages(self, group):\n    return group.rewards"),
                   ["advantages returned [2, 4]", "must be [8] or [8, 5]"]),
    "forward": (body("def forward(self, group):\n    return group.old_logp.sum(1)"),
                ["forward returned [8]", "must be [8, 5]"]),
    "loss": (body("def loss(self, group, logp):\n    return logp.sum(1)"),
             ["loss returned [8]", "must be a scalar"]),
    "nothing": (body("def rewards(self, group):\n    pass"), ["rewards returned", "no tensor"]),
}


@pytest.mark.parametrize("text,words", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gets_one_clear_line(text, words, folder, base, tmp_path, capsys):
    (folder / "half.py").write_text(HALF)
    (folder / "it.py").write_text(text + "\n")
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--init", base, "--method", "it", "--depths", "1", "--prompts-per-step", "2",
                       "--group-size", "4", "--reward", "random", "--out", str(tmp_path / "o.pt")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert all(word in error for word in ["--method it", *words]), error


BAD = [
    (["--method", "dappo"], ["--method dappo", "is it dapo?", "--method list"]),
    (["--group-size", "1"], ["--group-size 1", "between 2 and 65536"]),
    (["--method", "passk", "--k", "16"], ["--k 16", "--group-size 16"]),
    (["--method", "grpo", "--k", "2"], ["--k"]),
    (["--method", "ppo", "--lam", "2"], ["--lam 2", "between 0 and 1"]),
    (["--method", "ppo", "--dual-clip", "0.5"], ["--dual-clip 0.5", "between 1 and inf"]),
    (["--method", "rloo", "--scale", "std"], ["--scale std", "rloo"]),
    (["--method", "dapo", "--kl", "k3_loss"], ["--kl k3_loss", "dapo"]),
    (["--method", "sft", "--budget-rollouts", "9"], ["--budget-rollouts 9", "sft"]),
    (["--method", "reinforce_pp", "--drop-zero-variance"], ["--drop-zero-variance"]),
    (["--drop-zero-variance", "--kl", "k1_reward"], ["--drop-zero-variance --kl k1_reward"]),
    (["--method", "distill"], ["--teacher"]),
    (["--method", "distill", "--teacher", "{dir}/none.pt"], ["none.pt", "no such checkpoint"]),
    (["--method", "distill", "--teacher", "{short}"], ["--teacher", "context of 40", "96"]),
    (["--method", "distill", "--teacher", "{foreign}"], ["--teacher", "vocab size of 9", "66"]),
]


@pytest.mark.parametrize("argv,words", BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_bad_input_gets_one_clear_line(argv, words, base, tmp_path, capsys):
    places = {name: str(tmp_path / f"{name}.pt") for name in ("short", "foreign")}
    save_checkpoint(places["short"], GPT(GPTConfig(context=40, n_embd=16)), args={})
    save_checkpoint(places["foreign"], GPT(GPTConfig(vocab_size=9, n_embd=16)), args={})
    argv = [word.format(dir=tmp_path, **places) for word in argv]
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--init", base, "--out", str(tmp_path / "o.pt"), *argv])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1, error
    assert all(word in error for word in words), error
    assert sorted(os.listdir(tmp_path)) == ["foreign.pt", "short.pt"]


def test_a_budget_ends_the_run_with_the_step_that_spends_it(base, tmp_path, capsys):
    out = str(tmp_path / "o.pt")
    small = ["--init", base, "--prompts-per-step", "4", "--group-size", "4", "--eval-prompts", "4",
             "--budget-rollouts", "50", "--out", out]
    finetune.main([*small, "--steps", "50"])   # 16 a step
    assert [row["rollouts"] for row in rows_of(out)] == ["16", "32", "48", "64"]
    said, extra = capsys.readouterr().out, load_checkpoint(out)[1]
    assert extra["finished"] and extra["step"] == 4 and "after 4 steps, 64 rollouts" in said
    finetune.main([*small, "--steps", "2"])    # --steps comes first
    assert "note: --steps 2 ended the run before" in capsys.readouterr().out


def test_the_expected_steps_are_those_of_the_pace_so_far():
    args = finetune.build_parser().parse_args(["--steps", "60"])
    pace = [finetune.expected_steps(args, done, [(100, rollouts)]) for done, rollouts in
            ((0, 0), (1, 10), (5, 40), (7, 100), (7, 120), (59, 60))]
    assert pace == [60, 10, 13, 7, 7, 60]


def test_the_seed_of_a_run_is_that_of_its_problems_and_samples(base, tmp_path):
    states = []
    for seed in ("3", "3", "4"):
        out = str(tmp_path / "o.pt")
        finetune.main(["--init", base, "--steps", "1", "--prompts-per-step", "4", "--eval-prompts",
                       "4", "--seed", seed, "--out", out, "--overwrite"])
        states.append(load_checkpoint(out)[1]["method"])
    first, again, other = states
    assert first["numpy"] == again["numpy"] != other["numpy"]
    assert torch.equal(first["torch"], again["torch"])
    assert not torch.equal(first["torch"], other["torch"])


def test_the_help_tells_a_methods_own_defaults(capsys):
    with pytest.raises(SystemExit):
        finetune.main(["--method", "dapo", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "above 1 + this (default 0.28)" in said and "--refills" in said
    argv = ["--method", "dapo", "--clip-high", "0.2", "--refills", "5"]
    parser = finetune.build_parser(argv)
    command = finetune.cli.command(parser, parser.parse_args(argv))
    assert command.split()[:4] == ["python", "finetune.py", "--method", "dapo"]
    assert sorted(command.split()[2:]) == sorted(argv)


def test_a_method_refuses_a_setting_that_it_does_not_have(make):
    with pytest.raises(TypeError, match="no knob refils"):
        make("dapo", refils=3)
    with pytest.raises(CommandError, match="--k 5"):
        make("passk", k=5)


# ------------------------------------------------------------- rollouts of other shapes, by method

@pytest.mark.parametrize("name", ["knapsack", "xrpo", "cures"])
def test_an_allocation_spends_exactly_the_budget_and_not_evenly(name, make):
    method = make(name, cells=TWO_CELLS, prompts_per_step=6, group_size=7)
    prompts = []
    draw = method.draw
    method.draw = lambda *args: prompts.append(draw(*args)) or prompts[-1]
    groups = method.experience(6)
    assert method.rollouts == sum(len(group.tokens) for group in groups) == 6 * 7
    sizes = {group.size for group in groups}
    assert len(sizes) > 1 and min(sizes) >= 4    # the pilot
    kept = {tuple(row) for group in groups for row in group.prompts}
    assert kept == {tuple(row) for part in prompts for row in part}
    for group in groups:
        rows = np.repeat(group.prompts, group.size, axis=0)
        assert (group.tokens[:, :group.start].numpy() == rows).all()
        logp = method.score(method.policy, group).detach()
        assert close(group.old_logp, logp, 1e-4)
        assert group.rewards.shape == (len(group.prompts), group.size)


@pytest.mark.parametrize("name", ["branch", "spo"])
def test_the_leaves_of_a_tree_share_their_beginnings_and_all_are_paid_for(name, make):
    method = make(name, group_size=17, temperature=3.0)
    leaves, branch = method.branch ** method.levels, method.branch
    group, = method.experience(4)
    assert leaves == 16 == group.size and method.rollouts == 4 * leaves
    completions, N = group.completions, group.mask.shape[1]
    assert close(group.old_logp, method.score(method.policy, group).detach(), 1e-4)
    assert group.verdict.trace.shape == (4 * leaves,)
    for level in range(1, method.levels):
        cut = N * level // method.levels
        families = completions.unflatten(0, (-1, branch ** (method.levels - level)))
        assert (families[:, :, :cut] == families[:, :1, :cut]).all()
        assert not (families[:, :, cut:] == families[:, :1, cut:]).all()


def test_a_token_has_the_advantage_of_the_segment_it_lies_in(make):
    method, group = make("spo", group_size=4, branch=2), by_hand([[1, 0, 0, 0]], N=4)
    assert close(method.advantages(group)[:, :2], [[.25] * 2] * 2 + [[-.25] * 2] * 2)
    assert close(method.advantages(group)[:, 2:], [[.5] * 2, [-.5] * 2, [0] * 2, [0] * 2])


def test_spo_chain_values_its_cuts_by_rollouts_and_trains_unsure_tokens(make):
    method = make("spo_chain", group_size=9, segments=2, reward="random")
    group, = ready(method)
    assert group.size == 1 and method.rollouts == 4 * (1 + 2 * 4)
    values, unsure = group.more["values"], group.more["unsure"] == 1
    assert values.shape == (4, 2) and unsure.any()
    expected = torch.cat([values, group.rewards], 1).diff(dim=1).gather(1, group.more["segment"])
    assert close(group.advantages, expected * unsure)
    assert (group.old_logp.exp()[unsure] < 0.9).all()


def test_a_restart_keeps_the_beginning_of_a_best_one_and_does_not_train_it(make):
    method = make("rest_rl", rewarded_half, prompts_per_step=8)
    groups = method.experience(8)
    assert method.rollouts == 8 * 5 and sum(len(group.prompts) for group in groups) == 8
    plain, again = groups[:2]
    best = plain.completions.unflatten(0, (-1, 5))[:, 2]       # the only right one
    for i, start in enumerate(best):
        rows = again.completions[i * 5:i * 5 + 5]
        given = int((again.mask[i * 5] == 0).cumprod(0).sum())
        assert given >= 1 and (rows[:, :given] == start[:given]).all()
        assert (again.old_logp[i * 5:i * 5 + 5, :given] == 0).all()
    assert (again.prompts == plain.prompts).all()


def rewarded_half(kind):
    """The third completion of five is right."""
    return rewarded(kind, [[0., 0., 1., 0., 0.]])


def test_tempflow_branches_differ_by_one_choice(make):
    method = make("tempflow", group_size=6, reward="random")
    group, = ready(method)
    assert group.size == 5 and method.rollouts == 4 * 6
    for rows, branched in zip(group.completions.unflatten(0, (-1, 5)),
                              group.more["branched"].unflatten(0, (-1, 5))):
        t = int(branched[0].argmax())
        assert (branched.sum(1) == 1).all() and (branched[:, t] == 1).all()
        assert (rows[:, :t] == rows[:1, :t]).all()
        same = rows[:, t] == rows[0, t]
        assert (rows[same] == rows[0]).all()       # the same choice, and greedy from there
    assert ((group.advantages != 0) <= (group.more["branched"] == 1)).all()
    assert close(group.old_logp, method.score(method.policy, group).detach(), 1e-4)


def test_superhf_imitates_the_best_and_only_that(make):
    method, group = make("superhf", kl="none"), by_hand([[0, 1, 0]], lengths=[2, 2, 2], N=2)
    group.advantages = method.advantages(group)
    logp = (group.old_logp - torch.tensor([[3.], [0.5], [9.]])).requires_grad_()
    loss = method.loss(group, logp)
    loss.backward()
    assert close(loss.detach(), 1.5) and (logp.grad[[0, 2]] == 0).all()


def test_prorl_resets_when_rewards_stall_and_remembers_it(make):
    method = make("prorl", lambda kind: rewarded(kind, [[1., 0., 0., 0., 0.]]), patience=2)
    optimizer = sgd(method, lr=0.5)
    steps = [method.step(optimizer)[1] for _ in range(6)]
    assert [numbers["resets"] for numbers in steps] == [0, 0, 0, 0, 1, 1]
    assert abs(steps[4]["kl"]) < 1e-6 < abs(steps[3]["kl"])    # measured before the update


def test_acereason_draws_from_one_stage_at_a_time(make):
    method = make("acereason", cells=TWO_CELLS, stage_steps=2)
    drawn = [{group.cell for group in method.step(sgd(method))[0]} for _ in range(5)]
    assert drawn == [{TWO_CELLS[0]}] * 2 + [{TWO_CELLS[1]}] * 3


def test_format_length_never_looks_at_the_answer(make):
    method = make("format_length", cells=[Cell(1, 4)], context=40)
    prompts, right = TASKS["arithmetic"].sample(Cell(1, 4), 6, np.random.default_rng(0))
    wrong = right.copy()
    wrong[:, :4] = 6 + (wrong[:, :4] - 6 + 1) % 10       # other digits, the same form
    by_answer = []
    for completions in (right, wrong):
        tokens = torch.from_numpy(np.hstack([prompts, np.pad(completions, ((0, 0), (0, 5)))]))
        group = by_hand(np.zeros((6, 1)))
        group.tokens, group.prompts = tokens, prompts
        group.mask = completion_mask(tokens[:, group.start:])
        group.verdict = TASKS["arithmetic"].verify(prompts, tokens[:, group.start:])
        by_answer.append(method.rewards(group))
    assert method.room("arithmetic", Cell(1, 4)) == 10
    assert torch.equal(*by_answer) and close(by_answer[0], torch.full((6, 1), 2.0))


def test_ton_forgets_thoughts_first_and_then_rewards_the_answer(make):
    method, thoughts = make("ton", dropout_steps=1, prompts_per_step=60, temperature=3.0), []
    for stage in ("imitation", "grpo"):
        assert method.fine_tuning == (stage == "imitation")
        (group,), numbers = method.step(sgd(method))
        thoughts.append((group.completions == SEP).any(1).float().mean())
        negative = (group.advantages < 0).any()
        assert negative == (stage == "grpo") and 0 < numbers["at_once"] < 1
    assert 0.3 < thoughts[0] / thoughts[1] < 0.7


def test_ton_drops_the_base_s_thoughts_not_those_that_it_has_learned_to_drop(make):
    method, asked = make("ton", dropout_steps=1), []
    sample = method.sample
    method.sample = lambda policy, *args: asked.append(policy) or sample(policy, *args)
    for _ in range(2):
        method.experience(4)
        method.steps_done += 1
    assert asked[0] is method.reference and asked[-1] is method.policy


# ------------------------------------------------------------------------ hints, and told answers

HINTED = pytest.mark.parametrize("name", ["ghpo", "guide", "nurl", "scaf", "start"])


def of_one_step(method):
    """A method's one group on its first cell, as a step would sample it, past any warm-up."""
    method.steps_done = 100
    group, = method.experience(method.prompts_per_step)
    group.advantages = method.advantages(group)
    return group


@HINTED
def test_a_hint_is_the_beginning_of_the_solution_and_its_gold_is_counted_once(name, make):
    method = make(name, reward="trace", prompts_per_step=6)
    group = of_one_step(method)
    gold = torch.as_tensor(TASKS["arithmetic"].solutions(group.prompts)).repeat_interleave(5, 0)
    hint = group.more["hint"]
    assert (hint > 0).any() and not group.more["unaided"].any()
    for row, k in enumerate(hint):
        assert torch.equal(group.completions[row, :k], gold[row, :k])
    longest = hint.view(6, 5).amax(1)
    most = max(longest.tolist())
    assert method.gold_problems == 6 and longest.sum() <= method.gold_tokens <= 6 * most
    verdict = TASKS["arithmetic"].verify(group.prompts.repeat(5, 0), group.completions)
    for found, expected in zip(group.verdict, verdict):
        assert np.array_equal(found, expected)
    assert torch.equal(group.rewards.flatten() == 1, torch.as_tensor(verdict.trace))


@HINTED
def test_what_is_trained_after_a_hint_and_at_which_log_probs(name, make):
    """guide and start train the hint's tokens, at probability 1 when they were given; the others
    leave them out. The rest is on-policy, as without a hint."""
    method = make(name, reward="trace")
    group = of_one_step(method)
    plain = token_logprobs(method.policy, group.tokens, group.start).detach()
    given = torch.arange(15) < group.more["hint"][:, None]
    ended = completion_mask(group.completions) == 0
    assert close(group.old_logp[~given & ~ended], plain[~given & ~ended], 1e-4)
    assert (group.old_logp[given] == 0).all() and (plain[given] < 0).all()
    assert (group.mask[given] == (name in ("guide", "start"))).all()
    assert torch.equal(group.mask[~given] == 0, ended[~given])


def test_a_solved_prompt_gets_no_hint(make):
    for name in ("ghpo", "guide", "nurl", "scaf", "start"):
        method = make(name, rewarded_with_one_hit, prompts_per_step=3)
        group = of_one_step(method)
        assert (group.more["hint"] == 0).all() and group.more["unaided"].all()
        assert method.spent() == {"rollouts": 15, "gold_problems": 0, "gold_tokens": 0}


def rewarded_with_one_hit(kind):
    return rewarded(kind, [torch.tensor([[1., 0, 0, 0, 0]] * 3)])


def judged_by_hint(least):
    """A change of a class: right is what begins with a hint of so many tokens."""
    def change(kind):
        class ByHint(kind):
            def rewards(self, group):
                long = group.more.get("hint", torch.zeros(len(group.tokens))) >= least
                return long.float().view(len(group.prompts), -1)
        return ByHint
    return change


def test_ghpo_goes_on_to_longer_hints_until_one_helps(make):
    group = of_one_step(make("ghpo", judged_by_hint(7), prompts_per_step=3))
    assert (group.more["hint"] == 7).all() and (group.rewards == 1).all()   # 3, then 7 of 15
    method = make("ghpo", judged_by_hint(99), prompts_per_step=3)
    assert (of_one_step(method).more["hint"] == 11).all()
    assert method.spent() == {"rollouts": 15 * 4, "gold_problems": 3, "gold_tokens": 3 * 11}


def test_scaf_puts_one_completion_with_the_least_hint_in_place_of_a_wrong_one(make):
    method = make("scaf", judged_by_hint(6), prompts_per_step=3)
    group = of_one_step(method)
    assert group.more["hint"].view(3, 5).tolist() == [[6, 0, 0, 0, 0]] * 3   # of 1, 3, 5, 6, ..
    assert group.rewards.tolist() == [[1, 0, 0, 0, 0]] * 3
    assert method.spent() == {"rollouts": 15 + 3 * 4, "gold_problems": 3, "gold_tokens": 3 * 6}
    early = make("scaf", judged_by_hint(6))
    early.experience(4)
    assert early.gold_tokens == 0   # it is warming up


def test_nurl_leaves_one_completion_plain(make):
    group = of_one_step(make("nurl", reward="trace", prompts_per_step=3))
    assert group.more["hint"].view(3, 5).tolist() == [[3, 3, 3, 3, 0]] * 3


def test_guide_has_the_plain_policys_ratio_and_logs_what_it_counts_for(make):
    method = make("guide", reward="trace", prompts_per_step=3)
    group = of_one_step(method)
    logp = method.forward(group).detach()
    plain = token_logprobs(method.policy, group.tokens, group.start).detach().exp()[:, :7]
    weight = method.numbers([group])["weight"]
    assert weight == pytest.approx(plain.mean().item(), rel=1e-4) and 0 < weight < 1
    group.advantages = torch.ones(15)
    logp = token_logprobs(method.policy, group.tokens, group.start) * group.mask
    assert close(method.log_ratio(group, logp).exp()[:, :7], plain, 1e-5)


def test_hints_end_when_enough_is_solved_without(make):
    method = make("ghpo", rewarded_with_one_hit, prompts_per_step=3, hint_until=0.9)
    method.step(sgd(method))
    assert method.hints_ended and method.state()["hints_ended"]
    hard = make("ghpo", judged_by_hint(99), hint_until=0.9)
    hard.load_state(method.state())
    hard.step(sgd(hard))
    assert hard.gold_tokens == 0
    never = make("ghpo", rewarded_with_one_hit, prompts_per_step=3)
    never.step(sgd(never))
    assert not never.hints_ended


@pytest.mark.parametrize("ratio,trained", [("one", "policy"), ("policy", "given")])
def test_acnchor_has_gold_in_the_group(ratio, trained, make):
    method = make("acnchor", reward="trace", ratio=ratio, kl="k1_reward", beta=0.0)
    group = of_one_step(method)
    last = torch.arange(4, 24, 5)
    assert group.verdict.trace.sum() == 4 and group.verdict.trace[last].all()
    assert group.rewards.tolist() == [[0, 0, 0, 0, 1]] * 4 and group.ref_logp.shape == (20, 15)
    plain = token_logprobs(method.policy, group.tokens, group.start).detach()[last]
    assert close(group.old_logp[last], plain if trained == "policy" else 0 * plain, 1e-4)
    assert method.spent() == {"rollouts": 16, "gold_problems": 4, "gold_tokens": 4 * 15}


def told_what(monkeypatch):
    """(prompts, completions): lists that fill with what is sampled, and after what."""
    asked, written, generate = [], [], sys.modules["grpo"].generate

    def watched(model, prompts, *args):
        asked.append(prompts)
        completions, logp = generate(model, prompts, *args)
        written.append(completions)
        return completions, logp
    monkeypatch.setattr("grpo.generate", watched)
    return asked, written


def test_expo_imitates_what_it_wrote_knowing_the_answer(make, monkeypatch):
    asked, _ = told_what(monkeypatch)
    method = make("expo", reward="trace", prompts_per_step=3, explain=2.0, decay=0.5)
    group, = method.experience(3)
    solutions = TASKS["arithmetic"].solutions(group.prompts)
    assert np.array_equal(asked[1], TASKS["arithmetic"].told(group.prompts, solutions))
    assert method.spent() == {"rollouts": 15 + 3, "gold_problems": 3, "gold_tokens": 3 * 4}
    method.steps_done = 1
    assert method.advantages(group).view(3, 5).tolist() == [[1, 0, 0, 0, 0]] * 3
    plain = token_logprobs(method.policy, group.tokens, group.start).detach() * group.mask
    assert close(group.old_logp, plain, 1e-4)
    strict = make("expo", reward="trace", verified=True)
    assert (strict.advantages(strict.experience(3)[0]) == 0).all()   # none of them is right
    solved = make("expo", rewarded_with_one_hit)
    assert (solved.experience(3)[0].more["explained"] == -1).all()


def test_critique_keeps_the_best_refinement_of_its_own_attempts(make, monkeypatch):
    asked, written = told_what(monkeypatch)
    best = rewarded_in_turn([torch.tensor([[0.], [1.], [0.], [0.]] * 3), torch.zeros(3, 5)])
    method = make("critique", best, prompts_per_step=3)
    group, = method.experience(3)
    task, samples = TASKS["arithmetic"], torch.arange(15) % 5 != 4
    prompts = group.prompts.repeat(4, 0)
    attempts = group.completions[samples].numpy()
    assert np.array_equal(asked[1], task.told(prompts, task.solutions(prompts), attempts))
    assert method.spent() == {"rollouts": 24, "gold_problems": 3, "gold_tokens": 12}
    assert torch.equal(group.more["refined"], ~samples)
    assert torch.equal(group.completions[~samples], written[1][1::4])   # the second of each four
    group.advantages = torch.ones(15)
    logp = group.old_logp.clone().requires_grad_()
    method.loss(group, logp).backward()
    p = group.old_logp.exp()
    gradient = torch.where(samples[:, None], torch.ones(()), 0.1 * p / (p + 0.1) ** 2) * group.mask
    assert close(-logp.grad, gradient / (15 * 15), 1e-6)


def rewarded_in_turn(rewards):
    return lambda kind: rewarded(kind, rewards)


@pytest.mark.parametrize("name", ["expo", "critique"])
def test_a_base_that_was_never_told_answers_is_refused(name, make, monkeypatch):
    with pytest.raises(CommandError, match="takes 44 tokens, and the base's context has 32"):
        make(name, context=32)
    monkeypatch.setattr("variants._told.log_mass", lambda model, prompts, solutions: np.log(
        [0.2 if prompts.shape[1] == 7 else 0.1]))   # at depth 1, and with an answer in it
    with pytest.raises(CommandError, match="mass 0.2, and with 0.1 after.*--refine 0.3.*--unprep"):
        make(name, unprepared=False)
    monkeypatch.setattr("variants._told.log_mass", lambda model, prompts, solutions: np.log(
        [0.2 if prompts.shape[1] == 7 else 0.3]))
    make(name, unprepared=False)


@pytest.mark.parametrize("data", ["gold", "own"])
def test_alternate_imitates_and_reinforces_in_turns(data, make):
    method = make("alternate", prompts_per_step=3, sft_steps=1, rl_steps=2, rounds=2, data=data)
    method.rewards = lambda group: torch.eye(5)[0].repeat(3, 1)[:, :group.size]   # one hit
    optimizer, stages, spent = sgd(method), [], []
    for _ in range(7):
        (group,), numbers = method.step(optimizer)
        stages.append(numbers["tuning"])
        spent.append((method.rollouts, method.gold_tokens))
        imitated = (group.advantages >= 0).all()   # RL blames four of five
        assert imitated == bool(numbers["tuning"])
    assert stages == [1, 0, 0, 1, 0, 0, 0]
    if data == "gold":
        assert spent[0] == (0, 45) and spent[2] == (30, 45) and spent[-1] == (75, 90)
    else:
        assert spent[-1] == (7 * 15, 0)


# -------------------------------------------------- what a setting takes away leaves another method

@pytest.mark.parametrize("name,settings,other,others", [
    ("guard", {"epochs": 1}, "grpo", {}),   # ratios of 1 need no centre
    ("hicra", {"alpha": 0.0}, "dr_grpo", {}),
    ("seed", {"alpha": 0.0}, "dr_grpo", {}),
    ("unlikely", {"rank_weight": 0.0}, "grpo", {}),
])
def test_it_is_another_method_without_what_it_adds(name, settings, other, others, make):
    ends = []
    for method in (make(name, **settings), make(other, **others)):
        verify_by_sum(method)
        method.step(sgd(method, lr=0.1))
        ends.append(flat(method.parameters()))
    torch.testing.assert_close(*ends)
    assert not close(ends[0], flat(make(other).parameters()))   # it did move


def verify_by_sum(method):
    """Half of what a barely trained model writes is to be right: what has an even sum."""
    sample = method.sample

    def judged(*args):
        group = sample(*args)
        right = (group.tokens.sum(1) % 2 == 0).numpy()
        group.verdict = group.verdict._replace(trace=right)
        return group
    method.sample = judged

# ========================================================= partial credit: told of the steps

TWO_STEPS = Cell(2, 4)
GRAPH = Cell(2, 6)


def method_of(name, **settings):
    """A method on the tiny model; nothing that it samples is right."""
    return algorithm(variants.load(name), **{"cells": [TWO_STEPS], **settings})


def written_down(change, P=1, task="arithmetic", cell=TWO_STEPS):
    """A judged Group of P prompts: change(solution [S]) is the list of a prompt's completions."""
    prompts, solutions = TASKS[task].sample(cell, P, np.random.default_rng(0))
    rows = np.stack([row for solution in solutions for row in change(solution)])
    tokens = np.hstack([prompts.repeat(len(rows) // P, axis=0), rows])
    where = SimpleNamespace(task=task, cell=cell)
    group = judged(where, prompts, torch.from_numpy(tokens), torch.full(rows.shape, -1.0))
    group.rewards = torch.from_numpy(group.verdict.trace).float().view(P, -1)
    return group


def wrong_at(solution, *columns):
    """The solution with other digits in these columns."""
    row = solution.copy()
    row[list(columns)] = 6 + (row[list(columns)] - 5) % 10
    return row


def four(solution):
    """Right; wrong at the end; wrong before a right end; all wrong."""
    return [solution, wrong_at(solution, 5), wrong_at(solution, 0), wrong_at(solution, 0, 5)]


@pytest.mark.parametrize("task,cell,last", [("arithmetic", TWO_STEPS, 5), ("graph", GRAPH, 5)])
def test_each_step_is_judged_at_its_own_place(task, cell, last):
    def change(solution):
        rows = [solution.copy() for _ in range(4)]
        rows[1][1] += 1
        rows[2][last] += 1
        rows[3][-1] = PAD    # <eos> belongs to the last step
        return rows
    group = written_down(change, task=task, cell=cell)
    assert steps_right(group).tolist() == [[[1, 1], [0, 1], [1, 0], [1, 0]]]


# ------------------------------------------------------------------------------------- rewards

def test_posterior_pays_for_steps_of_right_answers_alone():
    group = written_down(four)
    assert method_of("posterior", reward="answer").rewards(group).tolist() == [[3, 1, 2.5, 1]]
    ungated = method_of("posterior", reward="answer", posterior=False)
    assert ungated.rewards(group).tolist() == [[3, 1.5, 2.5, 1]]
    assert method_of("posterior").numbers([group])["lucky"] == 0.25


def test_multi_objective_sums_what_it_weighs_and_short_pays_for_being_wrong():
    def change(solution):
        return [*four(solution), [*solution[:4], EOS, *[PAD] * 5]]
    weights = dict(weight_right=8, weight_steps=4, weight_form=2, weight_short=1)
    method, group = method_of("multi_objective", reward="trace", **weights), written_down(change)
    assert method.rewards(group).tolist() == [[14, 4, 4, 2, 0.5]]
    group.rewards = method.rewards(group)
    assert close(method.advantages(group), group_advantages(group.rewards).flatten())


def test_normalised_each_part_counts_by_its_weight_whatever_its_scale():
    group = written_down(four)
    settings = dict(normalise_by="each", reward="trace", weight_steps=0.0, weight_form=0.0,
                    weight_short=0.0)
    A = [method_of("multi_objective", weight_right=w, **settings).advantages(group) for w in (1, 3)]
    assert close(A[0], group_advantages(torch.tensor([[1., 0, 0, 0]])).flatten())
    assert close(A[1], 3 * A[0], 1e-5)


def test_pref_looks_at_the_order_alone_and_is_grpo_where_that_is_all_there_is():
    method = method_of("pref")
    near, far = by_hand([[.1, .2, .2, .9]]), by_hand([[.1, .11, .11, .12]])
    assert close(method.advantages(near), method.advantages(far))
    assert not close(method.advantages(near), algorithm(GRPO).advantages(near), 0.1)
    binary = by_hand([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert close(method.advantages(binary), algorithm(GRPO).advantages(binary), 1e-5)


def test_cgpo_pays_nothing_for_what_breaks_a_constraint_or_goes_too_far():
    method, group = method_of("cgpo", reward="process", judge="well_formed"), written_down(four)
    group.old_logp = method.score(method.reference, group).detach()    # no KL at all
    sigmoid = torch.tensor([0., -.5, -1, -1]).sigmoid()
    assert close(method.rewards(group), sigmoid[None], 1e-5)
    group.old_logp = group.old_logp + 0.25 * group.mask    # 10 tokens: 2.5 nats
    assert close(method.rewards(group), sigmoid[None] / 2, 1e-4)
    group.old_logp = group.old_logp + 0.5 * group.mask
    assert (method.rewards(group) == 0).all()
    answers = method_of("cgpo", reward="process", judge="answer")
    group.old_logp = method.score(method.reference, group).detach()
    assert close(answers.rewards(group), [[.5, 0, torch.tensor(-1.).sigmoid(), 0]], 1e-5)


def test_cgpo_compares_over_the_batch_not_in_a_group():
    method, groups = method_of("cgpo"), [by_hand([[.5, .3]]), by_hand([[.2, .2], [.1, .5]])]
    for group in groups:
        group.advantages = method.advantages(group)
    method.normalise(groups)
    assert close(groups[0].advantages, [.2, 0]) and close(groups[1].advantages, [-.1, -.1, -.2, .2])


# -------------------------------------------------------------------------------------- rgr

def test_rgr_shows_the_best_the_step_that_all_have_failed_and_counts_it():
    method = method_of("rgr", group_size=5, reward="trace")
    group, = ready(method)    # nothing is right: the first step is shown
    refined, completions = group.more["refined"], group.completions
    solutions = torch.from_numpy(TASKS["arithmetic"].solutions(group.prompts))
    assert refined.tolist() == [0, 0, 0, 0, 1] * 4
    assert torch.equal(completions[refined == 1, :5], solutions[:, :5])
    assert (completions[:, :5] == solutions[:, :5].repeat_interleave(5, 0)).all(1).sum() == 4
    assert method.spent() == {"rollouts": 20, "gold_problems": 4, "gold_tokens": 4 * 5}
    assert (group.advantages[refined == 1] > 0).all()
    assert close(group.old_logp, method.score(method.policy, group).detach(), 1e-5)
    assert method.numbers([group])["refined"] == 1


@pytest.mark.parametrize("best,given,tokens", [(0, 10, 0), (1, 10, 5), (3, 5, 5)])
def test_rgr_goes_on_from_the_best_and_leaves_alone_what_is_solved(best, given, tokens):
    """The best completion has every step right, then one of two, then none."""
    method = method_of("rgr", group_size=3)
    tries = written_down(lambda solution: [four(solution)[3], four(solution)[best]])
    again, shown = method.refined(tries)
    assert shown.tolist() == [given if tokens else 0] and method.gold_tokens == tokens
    assert method.gold_problems == (tokens > 0) and method.rollouts == 1
    solution = TASKS["arithmetic"].solutions(tries.prompts)[0]
    kept = int(shown)
    assert (again.completions[0, :kept].numpy() == solution[:kept]).all()


def test_rgr_weighs_a_refinement_by_its_probability_and_never_clips_it():
    method, group = method_of("rgr", gamma=0.1), by_hand([[0, 1]])
    group.more["refined"] = torch.tensor([1., 0.])
    logp = torch.tensor([[0.01], [0.2]]).log().requires_grad_()
    group.old_logp = logp.detach().clone()
    group.advantages = torch.tensor([2., 0.])
    method.loss(group, logp).backward()
    assert close(-logp.grad[:, 0], [2 * .1 * .01 / .11 ** 2 / 2, 0], 1e-5)
    assert close(method.log_ratio(group, logp).detach().exp(), [[.01 / .11], [1]], 1e-5)


def test_rgr_without_guidance_needs_no_gold():
    method = method_of("rgr", guidance=False, reward="answer")
    group, = ready(method)
    assert method.gold_tokens == 0 and method.numbers([group])["refined"] == 0
    assert close(method.rewards(written_down(four)), [[1, .5 / 2 + .2, .3 + .2, .2]])


# ------------------------------------------------------------------------------ rank, tw_grpo

def test_rank_gives_each_step_its_own_credit():
    method, group = method_of("rank", reward="answer"), written_down(four)
    group.rewards = torch.tensor([[0., 1, 1, 0]])    # which decide of the last step
    A = method.advantages(group)
    first, last = group_advantages(torch.tensor([[1., 1, 0, 0], [0, 1, 1, 0]]))
    assert close(A, torch.cat([first[:, None].expand(-1, 5), last[:, None].expand(-1, 5)], 1), 1e-5)
    to_go = method_of("rank", reward="answer", credit="to_go").advantages(group)
    returns = torch.tensor([[1, 1 + .6309, .6309, 0]])    # the second rank counts 1 / log2(3)
    assert close(to_go[:, 0], group_advantages(returns)[0], 1e-3)
    assert close(to_go[:, 5:], A[:, 5:], 1e-5)


def test_rank_has_one_ratio_per_step_and_a_contrast_in_any_of_them():
    method, group = method_of("rank"), written_down(four)
    logp = moved(group, torch.arange(10.)[None] / 10, [0.] * 4)
    ratio = method.log_ratio(group, logp)
    assert close(ratio.detach()[0], [.2] * 5 + [.7] * 5)
    ratio[0, 0].backward()
    assert close(logp.grad[0], [.2] * 5 + [0] * 5)
    group.rewards = torch.zeros(1, 4)
    assert method.zero_variance(group).tolist() == [False]
    same = written_down(lambda solution: [wrong_at(solution, 5)] * 2)
    assert method.zero_variance(same).tolist() == [True]
    assert (method.advantages(same) == 0).all()


@pytest.mark.parametrize("task,cell,state", [("arithmetic", TWO_STEPS, 4), ("graph", GRAPH, 3)])
def test_tw_grpo_pays_for_ending_before_anything_is_wrong(task, cell, state):
    def change(solution):
        early, late = np.full((2, len(solution)), PAD)
        early[:state], early[state] = solution[:state], EOS
        late[:state + 1], late[state + 1] = solution[:state + 1], EOS    # within the next state
        silent = np.full(len(solution), PAD)
        silent[0] = EOS
        wrong = early.copy()
        wrong[state - 1] += 1
        return [solution, early, late, silent, wrong]
    group = written_down(change, task=task, cell=cell)
    method = algorithm(variants.load("tw_grpo"), reward="soft", cells=[TWO_STEPS])
    assert method.rewards(group).tolist() == [[1, .5, 0, 0, 0]]
    assert soft_rewards(group.completions[1:2], group.completions[:1], 2).tolist() == [.5]


def test_tw_grpo_weighs_places_where_the_group_disagrees():
    method = method_of("tw_grpo", temperature=2.0)
    group, = ready(method)
    A = group_advantages(group.rewards).flatten()[:, None]
    taught = (A != 0) & (group.mask == 1)
    weights = (group.advantages / A)[:, :1][taught[:, :1]]
    assert close(weights, torch.ones_like(weights), 1e-5)   # one prompt: no disagreement yet
    weights = (group.advantages / A)[taught]
    assert weights.min() > 0.999 and 1.6 < weights.max() < 1.701
    for row in range(len(A)):    # one weight for a place, whichever completion
        peers = slice(row // 5 * 5, row // 5 * 5 + 5)
        here = taught[row] & taught[peers].all(0)
        assert close((group.advantages[row] / A[row])[here],
                     (group.advantages[peers] / A[peers])[0][here], 1e-4)


def test_tw_grpo_without_weights_is_grpo_with_that_reward():
    ends = []
    for name, settings in (("tw_grpo", {"token_weight": 1.0}), ("grpo", {"aggregate": "token"})):
        method = method_of(name, reward="random", **settings)
        method.step(sgd(method, lr=0.1))
        ends.append(flat(method.parameters()))
    torch.testing.assert_close(*ends)


# ------------------------------------------------------------------------------------- veripo

def half_right(method):
    """Completions with an even sum are right in every step; all have a right answer."""
    sample = method.sample

    def judge(*args):
        group = sample(*args)
        right = (group.tokens.sum(1) % 2 == 0).numpy()
        group.verdict = group.verdict._replace(trace=right, answer=np.ones_like(right))
        return group
    method.sample = judge
    return method


def test_veripo_takes_turns_and_dpo_begins_at_the_policy_it_has():
    method = half_right(method_of("veripo", reward="random", grpo_steps=2, dpo_steps=2))
    optimizer = sgd(method, lr=0.5)
    steps = [method.step(optimizer) for _ in range(6)]
    assert [numbers["dpo"] for _, numbers in steps] == [0, 0, 1, 1, 0, 0]
    for at, (groups, numbers) in enumerate(steps[2:4]):
        chosen = (groups[0].advantages.view(4, 5) > 0)
        pairs = chosen.any(1).float().mean().item()    # prompts that have one
        assert pairs > 0 and close(numbers["loss"], pairs * np.log(2), 1e-5) == (at == 0)
        assert torch.equal(chosen.flatten(), torch.from_numpy(groups[0].verdict.trace)
                           & (groups[0].advantages != 0))
    other = method_of("veripo", grpo_steps=2, dpo_steps=2)
    other.load_state(method.state())
    assert other.steps_done == 6 and other.preferring


def test_veripo_raises_what_it_has_chosen():
    """And is told apart by the steps, where all answers are right: GRPO has no signal there."""
    method = half_right(method_of("veripo", reward="answer", dpo_steps=1, grpo_steps=1))
    before = flat(method.parameters())
    method.step(sgd(method, lr=0.1))
    assert torch.equal(before, flat(method.parameters()))
    moved_by(method.policy, 0.1)
    (group,), _ = method.step(sgd(method, lr=0.05))
    gain = (method.score(method.policy, group) - group.old_logp).sum(1)
    A = group.advantages
    assert gain[A > 0].mean() > gain[A < 0].mean()
