"""pretrain.py: the mixture, the optimizer, one step, and the script's run. How a run stops and
resumes is in test_scripts.py."""
import csv
import hashlib
import itertools
import os

import numpy as np
import pytest
import torch

import pretrain
from measure import mean_masses
from model import GPT, GPTConfig, load_checkpoint
from pretrain import Muon, make_optimizers, orthogonalize, schedule
from tasks import AXES, EOS, SPLITS, TASKS, VOCAB, Cell, cell_key, reserved

TINY = ["--batch-size", "8", "--layers", "1", "--width", "16", "--eval-prompts", "4"]


def flags(*argv):
    return pretrain.build_parser().parse_args([*map(str, argv)])


def mixture(*argv):
    return pretrain.Mixture(flags("--batch-size", "4", *argv))


def rows_of(path):
    with open(os.path.splitext(path)[0] + ".csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------ the mixture

@pytest.mark.parametrize("argv,digest", [
    ("", "3f449e22f31d237c"),
    ("--overlap 0.1 --seed 3", "cbd089ee294c766e"),
    ("--task graph --axis length --noise 0", "d0bde31a0153c7a7"),
    ("--task both --axis tokens --exposure copy --share 0.3 --overlap 0.2", "53c64dde1cc1bdb2"),
    ("--task both --axis tokens --exposure atoms --exposure-share 0.5 --seed 1",
     "9c6760c03ab5bc94"),
    ("--axis tokens --exposure full", "2ef0231562683621"),
    ("--axis composition --overlap 0.5 --noise 0.7", "49e276a158925f6c")])
def test_the_problems_are_those_of_old_runs_to_the_bit(argv, digest):
    m, seen = mixture(*argv.split(), "--steps", 40), hashlib.sha256()
    for step in range(40):
        task, kind, (prompts, solutions) = m.draw(step)
        seen.update(f"{task} {kind} {prompts.shape} {solutions.shape}".encode())
        seen.update(prompts.astype("<i8").tobytes() + solutions.astype("<i8").tobytes())
    assert seen.hexdigest()[:16] == digest


def test_overlap_is_nested_and_changes_nothing_else():
    draws = {p: mixture("--steps", 1000, "--overlap", p) for p in (0, 0.001, 0.01, 0.1)}
    assert [draws[p].edge.sum() for p in draws] == [0, 1, 10, 100]
    for small, large in itertools.pairwise(draws.values()):
        assert (large.edge | ~small.edge).all()  # what is edge at p is edge at any larger p
    for step in range(0, 1000, 37):
        if not draws[0.1].edge[step]:
            a, b = draws[0].draw(step)[2], draws[0.1].draw(step)[2]
            assert (a.prompts == b.prompts).all() and (a.solutions == b.solutions).all()
    step = int(np.flatnonzero(draws[0.001].edge)[0])
    a, b = draws[0.001].draw(step)[2], draws[0.1].draw(step)[2]
    assert (a.prompts == b.prompts).all()
    assert b.prompts.shape[1] == TASKS["arithmetic"].prompt_len(Cell(4, 4))


def test_edge_family_and_shadow_steps_are_drawn_apart():
    """None tells anything of another: at half each, every two of them meet in a quarter."""
    m = mixture("--task", "both", "--axis", "tokens", "--exposure", "full", "--steps", 2000,
                "--overlap", 0.5, "--share", 0.5, "--exposure-share", 0.5)
    drawn = m.edge, m.first, m.shadow
    assert [x.sum() for x in drawn] == [1000] * 3
    for a, b in itertools.combinations(drawn, 2):
        assert 430 < (a & b).sum() < 570
    other = mixture("--steps", 2000, "--overlap", 0.5, "--seed", 1)
    assert 430 < (m.edge & other.edge).sum() < 570


@pytest.mark.parametrize("name,axis", [(n, a) for n, axes in AXES.items() for a in axes])
def test_no_overlap_means_no_edge_problem_and_overlap_means_some(name, axis):
    def scan(p):
        m = mixture("--task", name, "--axis", axis, "--overlap", p, "--steps", "60")
        drawn = [m.draw(step)[2].prompts for step in range(60)]
        return sum(pretrain.edge_problems(name, axis, prompts) for prompts in drawn)
    assert scan("0") == 0 and scan("0.1") == 6 * 4


@pytest.mark.parametrize("name,axis", [(n, a) for n, axes in AXES.items() for a in axes])
def test_no_step_draws_an_evaluation_prompt(name, axis):
    m = mixture("--task", name, "--axis", axis, "--overlap", 0.5, "--steps", 60,
                *(["--exposure", "full"] if axis == "tokens" else []))
    found = 0
    for step in range(60):
        prompts = m.draw(step)[2].prompts
        cells = [c for split in AXES[name][axis].values() for c in split]
        cells += [c._replace(alphabet="shadow") for c in cells]
        small = [c for c in cells if TASKS[name].enumerated(c)]
        if not any(TASKS[name].matches(prompts, c).any() for c in small):
            assert not reserved(prompts).any()
            found += len(prompts)
    assert found > 100


def test_a_bias_changes_which_path_is_shown_and_no_prompt():
    plain, biased = (mixture("--task", "route", "--steps", 30, "--noise", 0, *more)
                     for more in ([], ["--bias", 0.9]))
    first = []
    for step in range(30):
        (_, _, (prompts, usual)), (_, _, (same, shown)) = plain.draw(step), biased.draw(step)
        accepted = TASKS["route"].accepted(prompts)
        assert (prompts == same).all() and (accepted == shown[:, None]).all(2).any(1).all()
        first += [[(accepted[:, 0] == x).all(1).mean() for x in (usual, shown)]]
    assert np.mean(first, axis=0) == pytest.approx([0.25, 0.925], abs=0.12)


@pytest.mark.parametrize("task", ["arithmetic", "graph", "both"])
def test_a_bias_needs_several_right_answers(task, capsys):
    with pytest.raises(SystemExit):
        pretrain.main(["--task", task, "--bias", "0.5"])
    said = capsys.readouterr().err
    assert "--bias 0.5: prompts of" in said and "one right answer" in said and said.count("\n") == 1


def test_steps_draw_every_cell_and_other_steps_other_problems():
    m = mixture("--steps", 100, "--axis", "length")
    draws = [m.draw(step)[2].prompts for step in range(100)]
    shapes = {prompts.shape[1] for prompts in draws}
    assert shapes == {TASKS["arithmetic"].prompt_len(c) for c in AXES["arithmetic"]["length"]["id"]}
    assert len({prompts.tobytes() for prompts in draws}) > 90
    assert (m.draw(7)[2].prompts == m.draw(7)[2].prompts).all()  # keyed by the step alone


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_demonstrations_are_as_noisy_as_the_flag_says(noise):
    """Depth 1: a digit is drawn anew with that probability, and nine times in ten differs."""
    m = mixture("--steps", 60, "--noise", noise, "--batch-size", 64)
    right = []
    for step in range(60):
        task, _, problems = m.draw(step)
        if TASKS[task].matches(problems.prompts, Cell(1, 4)).all():
            right.append(TASKS[task].verify(*problems).trace.mean())
    assert len(right) > 10 and np.mean(right) == pytest.approx(1 - 0.9 * noise, abs=0.04)


@pytest.mark.parametrize("argv,noise", [
    ("--noise-kind marked", {"noise_kind": "marked"}),
    ("--noise-kind biased --noise-symbols 2", {"noise_kind": "biased", "noise_symbols": 2}),
    ("--noise-symbols 3 --noise 0.9", {"noise_symbols": 3})])
def test_the_kind_of_noise_reaches_what_is_drawn(argv, noise):
    m, plain = mixture("--steps", 6, *argv.split()), mixture("--steps", 6)
    for step in range(6):
        drawn, usual = m.draw(step)[2], plain.draw(step)[2]
        cells = m.cells("arithmetic", "id")
        cell = next(c for c in cells if TASKS["arithmetic"].matches(drawn.prompts, c).all())
        rng = np.random.default_rng([0, 5, step, *cell_key("arithmetic", cell)])
        own = TASKS["arithmetic"].sample(cell, 4, rng, m.args.noise, "train", **noise)
        assert (own.solutions == drawn.solutions).all() and (usual.prompts == drawn.prompts).all()


@pytest.mark.parametrize("argv,error", [
    ("--task graph --noise-kind biased", "--noise-kind biased: graph has only random, marked"),
    ("--axis tokens --noise-kind marked", "--noise-kind marked: marks are shadow symbols"),
    ("--task graph --noise-symbols 2", "--noise-symbols 2: a state of graph has at most 1"),
    ("--task both --noise-symbols 8", "8: a state of arithmetic and graph has at most 7")])
def test_noise_that_there_is_not_is_one_line(argv, error, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*argv.split(), "--out", str(tmp_path / "b.pt")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1 and error in said
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("task", [n for n in TASKS if "marked" in TASKS[n].noise_kinds])
def test_a_base_can_be_shown_marked_errors(task, tmp_path):
    for kind in ("random", "marked"):
        pretrain.main(["--task", task, "--noise-kind", kind, "--steps", "3", *TINY, "--out",
                       str(tmp_path / f"{kind}.pt")])
    weights = [load_checkpoint(tmp_path / f"{kind}.pt")[0].embed.weight
               for kind in ("random", "marked")]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("name", [name for name in AXES if "tokens" in AXES[name]])
@pytest.mark.parametrize("exposure", list(pretrain.EXPOSURES))
def test_exposure_shows_what_it_says(name, exposure):
    m = mixture("--task", name, "--axis", "tokens", "--exposure", exposure, "--steps", "80")
    draws = [m.draw(step) for step in range(80)]
    shadow_symbols = np.array(TASKS[name].shadow_symbols)
    shadow = [(kind, problems) for _, kind, problems in draws
              if np.isin(problems.prompts, shadow_symbols).any()]
    assert [kind for kind, _ in shadow] == ([] if exposure == "none" else [exposure] * 20)
    edge = sum(pretrain.edge_problems(name, "tokens", problems.prompts) for _, _, problems in draws)
    assert edge == 0 if exposure != "full" else edge > 0
    if exposure == "copy":
        prompts, solutions = shadow[0][1]
        assert (prompts[:, 1:-1] == solutions[:, :-1]).all() and (solutions[:, -1] == EOS).all()
    if exposure == "atoms":
        lengths = {c.length for c in AXES[name]["tokens"]["id"]}
        atoms = [Cell(1, length, "shadow") for length in lengths]
        assert all(any(TASKS[name].matches(p.prompts, c).all() for c in atoms) for _, p in shadow)


@pytest.mark.parametrize("name", TASKS)
def test_refine_tells_the_answer_first_and_changes_nothing_else(name):
    argv = ["--task", name, "--steps", 200, "--overlap", 0.1]
    plain, told, more = (mixture(*argv, "--refine", p) for p in (0, 0.2, 0.4))
    assert told.told.sum() == 40 and (more.told | ~told.told).all()
    task, seen = TASKS[name], {"attempt": 0, "answer": 0}
    for step in range(200):
        (_, kind, (prompts, solutions)), (_, _, new) = plain.draw(step), told.draw(step)
        assert np.array_equal(new.solutions, solutions)
        if kind == "edge" or not told.told[step]:
            assert np.array_equal(new.prompts, prompts)
            continue
        assert pretrain.edge_problems(name, "depth", new.prompts) == 0
        attempts, width = None, solutions.shape[1]
        if told.tried[step]:
            attempts = new.prompts[:, prompts.shape[1]:prompts.shape[1] + width]
            assert task.verify(prompts, attempts).well_formed.all()
            seen["attempt"] += 1
        assert np.array_equal(new.prompts, task.told(prompts, solutions, attempts))
        answer = new.prompts[:, -1 - task.layout(prompts)[2]:-1]
        assert np.array_equal(answer, solutions[:, -1 - answer.shape[1]:-1])
        seen["answer"] += 1
    assert 30 <= seen["answer"] <= 40 and 8 <= seen["attempt"] <= 30


def test_refine_asks_for_a_context_that_holds_an_attempt_and_an_answer(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        pretrain.main(["--refine", "0.3", "--context", "43", "--out", str(tmp_path / "x.pt")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "--refine 0.3: " in error
    assert "has 44 tokens; --context 43 is too short" in error


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
def test_two_families_share_a_base_in_the_stated_proportion(share):
    m = mixture("--task", "both", "--share", share, "--steps", 100)
    kinds = [m.draw(step)[0] for step in range(100)]
    assert kinds.count("arithmetic") == round(100 * share)
    assert kinds.count("graph") == 100 - round(100 * share)
    assert {mixture("--task", "graph", "--share", share).kind(step)[0] for step in range(9)} == {
        "graph"}


# ---------------------------------------------------------------------------------- the optimizer

def test_orthogonalize_keeps_directions_and_levels_their_sizes():
    torch.manual_seed(0)
    x = torch.randn(3, 6, 20)
    x[0, 0] *= 50
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    sizes = torch.diagonal(u.mT @ orthogonalize(x) @ v.mT, dim1=1, dim2=2)
    assert 0.6 < sizes.min() and sizes.max() < 1.25  # of the same singular vectors
    assert torch.allclose(orthogonalize(x), u @ torch.diag_embed(sizes) @ v, atol=1e-4)
    nothing = torch.zeros(1, 3, 4)
    assert torch.equal(orthogonalize(nothing), nothing)  # an unused matrix stays as it is


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_follows_torchs_own(weight_decay):
    """Wide, tall and square matrices, several of one shape; torch's computes in bfloat16."""
    shapes = (8, 32), (32, 8), (8, 8), (24, 8), (8, 32)

    def train(make):
        torch.manual_seed(0)
        matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        before = [m.detach().clone() for m in matrices]
        optimizer = make(matrices, lr=0.1, momentum=0.8, weight_decay=weight_decay)
        for _ in range(4):
            for m in matrices:
                m.grad = torch.randn(m.shape)
            optimizer.step()
        return [m.detach() - b for m, b in zip(matrices, before)]

    def torchs(matrices, **settings):
        return torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **settings)

    for a, b in zip(train(Muon), train(torchs)):
        assert (a - b).norm() < 0.02 * b.norm()


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = GPT(GPTConfig(position="learned", tied=False))
    muon, adamw = make_optimizers(model, "muon", 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    taken = [sorted(names[id(p)] for p in o.param_groups[0]["params"]) for o in (muon, adamw)]
    assert taken[1] == ["embed.weight", "head.weight", "positions.weight"] and len(taken[0]) == 8
    assert all(name.startswith("blocks") for name in taken[0])


# --------------------------------------------------------------------------------- steps and runs

def test_the_rate_warms_up_and_decays():
    found = [schedule(step, 10, warmup=3, decay=0.5) for step in range(10)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert [schedule(step, 5, warmup=0, decay=0) for step in range(5)] == [1] * 5


def loss_of(model, problems):
    """Mean negative log-probability of the solution's tokens, from the logits of all."""
    tokens = torch.from_numpy(np.hstack(problems))
    logits, P = model(tokens[:, :-1]), problems.prompts.shape[1]
    return torch.nn.functional.cross_entropy(logits[:, P - 1:].flatten(0, 1),
                                             tokens[:, P:].flatten())


@pytest.mark.parametrize("kind,decay", [("adamw", 0.1), ("muon", 0.0)])
def test_a_run_is_this_loop(kind, decay, tmp_path):
    """Cross-entropy on the solutions, clipped gradients, a warm-up and a decay: written out."""
    out, steps, lr = str(tmp_path / "b.pt"), 12, 0.02
    argv = [*TINY, "--steps", steps, "--optimizer", kind, "--lr", lr, "--weight-decay", decay,
            "--warmup", 4, "--decay", 0.5, "--overlap", 0.25, "--noise", 0.5, "--seed", 3]
    pretrain.main([*map(str, argv), "--out", out])
    torch.manual_seed(3)
    model = GPT(GPTConfig(len(VOCAB), 96, 1, 4, 16))
    blocks = [p for name, p in model.named_parameters() if name.startswith("blocks")]
    rest = [p for name, p in model.named_parameters() if not name.startswith("blocks")]
    if kind == "adamw":
        optimizers = [torch.optim.AdamW(model.parameters(), weight_decay=decay)]
    else:
        optimizers = [Muon(blocks, lr, momentum=0.8),
                      torch.optim.AdamW(rest, weight_decay=0.0)]
    m, losses = pretrain.Mixture(flags(*argv)), []
    for step in range(steps):
        model.zero_grad()
        loss = loss_of(model, m.draw(step)[2])
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 5, (steps - step) / 6)
            optimizer.step()
    trained = load_checkpoint(out)[0].state_dict()
    assert all(torch.allclose(trained[k], v, atol=1e-4) for k, v in model.state_dict().items())
    assert [float(r["loss"]) for r in rows_of(out)] == pytest.approx(losses, abs=1e-4)
    assert [float(r["lr"]) for r in rows_of(out)] == pytest.approx(
        [lr * x for x in (0.2, 0.4, 0.6, 0.8, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)], 1e-5)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_never_reaches_the_weights(what, monkeypatch):
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_embd=16))
    optimizers = make_optimizers(model, "muon", 0.1)
    real, problems = pretrain.token_logprobs, mixture().draw(0)[2]
    pretrain.update(model, optimizers, problems, 0.1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = [{k: v.clone() for p in o.state.values() for k, v in p.items()} for o in optimizers]

    def broken(*args):
        logp = real(*args)
        return logp * float("nan") if what == "loss" else logp + (logp * 0).abs().sqrt()
    monkeypatch.setattr(pretrain, "token_logprobs", broken)
    with pytest.raises(FloatingPointError, match="loss .*gradient norm"):
        pretrain.update(model, optimizers, problems, 0.1)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    after = [{k: v for p in o.state.values() for k, v in p.items()} for o in optimizers]
    assert all(torch.equal(x[k], y[k]) for x, y in zip(state, after) for k in x)


def test_a_diverging_run_stops_in_time(tmp_path, monkeypatch, capsys):
    real, calls = pretrain.token_logprobs, []

    def broken(*args):
        calls.append(1)
        return real(*args) * (float("nan") if len(calls) == 7 else 1)
    monkeypatch.setattr(pretrain, "token_logprobs", broken)
    out = str(tmp_path / "b.pt")
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*TINY, "--steps", "9", "--save-every", "4", "--out", out])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "step 7: loss nan" in error and "b.pt keeps the last good checkpoint" in error
    model, extra = load_checkpoint(out)
    assert extra["step"] == 4 and all(p.isfinite().all() for p in model.parameters())


def test_pretraining_learns_and_proves_what_it_drew(tmp_path, capsys):
    out = str(tmp_path / "b.pt")
    pretrain.main(["--steps", "120", "--noise", "0", "--eval-every", "0", "--eval-prompts", "8",
                   "--width", "32", "--out", out])
    losses = [float(r["loss"]) for r in rows_of(out)]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    assert "7,680 problems drawn, 0 of them from the edge cells" in capsys.readouterr().out
    assert load_checkpoint(out)[1]["scanned"] == {"problems": 7680, "edge": 0}
    pretrain.main([*TINY, "--steps", "10", "--overlap", "0.3", "--out", out, "--overwrite"])
    assert load_checkpoint(out)[1]["scanned"] == {"problems": 80, "edge": 24}
    assert "80 problems drawn, 24 of them from the edge cells" in capsys.readouterr().out


def test_the_masses_logged_are_those_of_the_model(tmp_path, capsys):
    out = str(tmp_path / "b.pt")
    pretrain.main([*TINY, "--steps", "5", "--eval-every", "2", "--task", "both", "--out", out])
    rows = rows_of(out)
    assert [bool(r["id"]) for r in rows] == [False, True, False, True, True]
    model = load_checkpoint(out)[0]
    masses = mean_masses(model, ["arithmetic", "graph"], "depth", 4)
    assert [float(rows[-1][s]) for s in SPLITS] == pytest.approx([masses[s] for s in SPLITS],
                                                                 rel=1e-5, abs=0)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in said] == ["2/5", "4/5", "5/5"]
    assert all(" loss " in line and " id 0.0" in line and " lr " in line for line in said)


def test_the_learning_rate_is_the_familys_unless_said(tmp_path):
    cases = [([], 0.01), (["--task", "graph"], 0.005), (["--task", "both"], 0.005),
             (["--task", "graph", "--lr", "0.3"], 0.3)]
    for i, (argv, lr) in enumerate(cases):
        out = str(tmp_path / f"b{i}.pt")
        pretrain.main([*TINY, *argv, "--steps", "1", "--warmup", "0", "--out", out])
        assert load_checkpoint(out)[1]["args"]["lr"] == lr == float(rows_of(out)[0]["lr"])


def test_another_seed_is_another_run(tmp_path):
    runs = []
    for seed in "010":
        out = str(tmp_path / "b.pt")
        pretrain.main([*TINY, "--steps", "2", "--seed", seed, "--out", out, "--overwrite"])
        runs.append((load_checkpoint(out)[0].state_dict(), rows_of(out)[0]["loss"]))
    (a, loss_a), (b, loss_b), (again, loss_again) = runs
    assert all(torch.equal(a[k], again[k]) for k in a) and loss_a == loss_again != loss_b
    assert not any(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("split,step", [("id", 2), ("edge", 6), ("hard", 8)])
def test_until_waits_for_its_split(split, step, tmp_path, monkeypatch):
    masses = iter([{"id": 0.6, "edge": 0.1, "hard": 0.0}, {"id": 0.7, "edge": 0.4, "hard": 0.0},
                   {"id": 0.9, "edge": 0.5, "hard": 0.0}, {"id": 0.9, "edge": 0.9, "hard": 0.1}])
    monkeypatch.setattr(pretrain, "mean_masses", lambda *args: next(masses))
    out = str(tmp_path / "b.pt")
    pretrain.main([*TINY, "--steps", "8", "--eval-every", "2", "--until", "0.5",
                   "--until-split", split, "--out", out])
    extra = load_checkpoint(out)[1]
    assert extra["step"] == step and extra["finished"] and len(rows_of(out)) == step


def test_pretraining_goes_on_from_a_checkpoint(base, tmp_path):
    """The oracle: the pretraining recipe on clean edge problems, from a base, with its sizes."""
    out, untouched = str(tmp_path / "oracle.pt"), load_checkpoint(base)[0]
    pretrain.main(["--init", base, "--overlap", "1", "--noise", "0", "--batch-size", "4",
                   "--eval-prompts", "4", "--steps", "1", "--warmup", "0", "--lr", "1e-5", "--out",
                   out])
    model, extra = load_checkpoint(out)
    assert model.config == untouched.config
    assert extra["scanned"] == {"problems": 4, "edge": 4}
    for a, b in zip(model.parameters(), untouched.parameters()):
        assert torch.allclose(a, b, atol=1e-4) and not torch.equal(a, b)
