"""variants/: each rival by the numbers of its paper, through its own boxes; discovery, budget, resume; the README's example."""
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_grpo import algorithm, close
from test_scripts import ROOT, assert_same_run, interrupt_after, rows_of

import finetune
import variants
from grpo import GRPO, Group, completion_mask, group_advantages, whiten
from model import GPT, GPTConfig, load_checkpoint, save_checkpoint
from tasks import EOS, PAD, TASKS, Cell, Verdict
from variants.ppo import gae

TINY = ["--steps", "2", "--prompts-per-step", "4", "--group-size", "4", "--eval-prompts", "4", "--eval-every", "0"]


def make(name, **options):
    """The method on a tiny model, with its own defaults."""
    kind = variants.load(name)
    return algorithm(kind, **{**kind.defaults, **options})


def by_hand(rewards, lengths=None, N=1, ended=True):
    """A Group with these rewards [P, G]; completions of these lengths (all: N) in a room of N tokens, each token at log-prob -1."""
    rewards = torch.as_tensor(rewards, dtype=torch.float32)
    P, R = len(rewards), rewards.numel()
    completions = torch.full((R, N), 7)
    for row, length in zip(completions, [N] * R if lengths is None else lengths):
        row[length:] = PAD
        row[length - 1] = EOS if ended else 7
    mask = completion_mask(completions)
    right = rewards.flatten().numpy() == 1
    return Group("arithmetic", Cell(1, 4), np.ones((P, 3), dtype=int), torch.cat([torch.ones(R, 3, dtype=int), completions], 1), -mask, mask,
                 Verdict(right, right, right.astype(float), right), rewards=rewards)


def moved(group, log_ratios, advantages):
    """The group with these advantages, and the log-probs [R, N], needing a gradient, after a move by these log-ratios."""
    group.advantages = torch.as_tensor(advantages, dtype=torch.float32)
    return (group.old_logp + torch.as_tensor(log_ratios, dtype=torch.float32)).requires_grad_()


# -------------------------------------------------------------------------------------------- advantages, as published

THIRD, SEVENTH = 1 / 3, 1 / 7
ADVANTAGES = [
    ("grpo", {}, [[1, 0, 0, 0]], [1.5, -.5, -.5, -.5]),
    ("dr_grpo", {}, [[1, 0, 0, 0]], [.75, -.25, -.25, -.25]),
    ("dr_grpo", {}, [[2, 0, 0, 0]], [1.5, -.5, -.5, -.5]),                                                  # GRPO's would not double
    ("rloo", {}, [[1, 0, 0, 0]], [1, -THIRD, -THIRD, -THIRD]),
    ("rloo", {}, [[1], [0]], [0, 0]),                                                                       # nobody to compare with
    ("reinforce_pp", {}, [[1, 0, 0, 0], [1, 1, 0, 0]], [1.2910, -.7746, -.7746, -.7746, 1.2910, 1.2910, -.7746, -.7746]),
    ("reinforce_pp", {}, [[.1, .1], [.1, .1]], [0, 0, 0, 0]),
    ("reinforce_pp_baseline", {}, [[1, 0, 0, 0], [1, 1, 0, 0]], [1.6036, -.5345, -.5345, -.5345, 1.0690, 1.0690, -1.0690, -1.0690]),
    ("w_reinforce", {}, [[1, 0], [0, 0], [1, 1]], [.1, -1, -1, -1, .1, .1]),
    ("w_reinforce", {"weight_right": 0.0}, [[1, 0]], [0, -1]),                                              # NSR
    ("passk", {"k": 2}, [[1, 0, 0, 0]], [1, -THIRD, -THIRD, -THIRD]),
    ("passk", {"k": 4, "group_size": 8}, [[1, 1, 0, 1, 1, 0, 0, 0]], [.1204, .1204, -.1204, .1204, .1204, -.1204, -.1204, -.1204]),
    ("passk", {"k": 4, "group_size": 8}, [[0, 1, 0, 0, 0, 0, 0, 0]], [-SEVENTH, 1, *[-SEVENTH] * 6]),
    ("passk", {"k": 4, "group_size": 8}, [[1, 1, 1, 1, 1, 0, 0, 0], [0] * 8], [0] * 16),                    # no subset can fail; none can succeed
    ("rft", {}, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], [6, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0]),          # one vote per solved prompt
    ("rft", {}, [[0, 0]], [0, 0]),
]


@pytest.mark.parametrize("name,options,rewards,expected", ADVANTAGES)
def test_advantages_by_hand(name, options, rewards, expected):
    method, group = make(name, **options), by_hand(rewards)
    assert close(method.advantages(group).flatten(), expected, 1e-4)


@pytest.mark.parametrize("greedy,expected", [(1, [0, -1]), (0, [1, 0])])
def test_remax_compares_with_the_greedy_completion(greedy, expected, monkeypatch):
    method, group = make("remax", reward="trace"), by_hand([[1, 0]])
    asked = []
    monkeypatch.setattr(method, "sample", lambda policy, problems, group_size, temperature: asked.append((group_size, temperature)) or by_hand([[greedy]]))
    assert close(method.advantages(group), expected) and asked == [(1, 0)]


def test_remax_samples_the_baseline_greedily():
    method = make("remax", reward="format", group_size=3)
    group, _ = method.step(torch.optim.SGD(method.parameters(), lr=0.0))
    a, b = (method.sample(method.policy, (group.task, group.cell, group.prompts), 1, 0) for _ in range(2))
    assert torch.equal(a.tokens, b.tokens)
    assert method.rollouts == 4 * (3 + 1) + 4 + 4


def test_whiten_counts_tokens_and_only_those():
    x, mask = torch.tensor([[1., 2, 99], [3, 99, 99]]), torch.tensor([[1., 1, 0], [1, 0, 0]])
    assert close(whiten(x, mask), [[-1.2247, 0, 0], [1.2247, 0, 0]], 1e-4)


def test_reinforce_pp_puts_the_kl_where_it_is_earned():
    """The return at t has the log-ratios from t on, not those before."""
    method, group = make("reinforce_pp", kl="k1_reward", beta=0.5), by_hand([[1, 0]], N=2)
    group.ref_logp = group.old_logp + torch.tensor([[-.2, -.4], [0, 0]])  # the policy is more sure than the reference: a cost
    returns = torch.tensor([[1 - .5 * .6, 1 - .5 * .4], [0, 0]])
    assert close(method.advantages(group), whiten(returns, group.mask), 1e-5)


def test_the_kl_of_the_other_variants_is_the_one_of_grpo():
    group = by_hand([[1, 0, 0, 0]], N=2)
    group.ref_logp = group.old_logp - torch.rand(4, 2)
    cost = GRPO.kl_cost(algorithm(kl="k1_reward", beta=0.5), group)
    assert cost.abs().max() > 0.01 and close(cost.sum(), 0)
    for name, share in (("dr_grpo", 1), ("rloo", 4 / 3), ("passk", 1), ("w_reinforce", 1), ("dapo", 1)):
        free, tied = (make(name, kl=kl, beta=0.5, overlong=0) if name == "dapo" else make(name, kl=kl, beta=0.5) for kl in ("none", "k1_reward"))
        assert close(free.advantages(group) - tied.advantages(group), share * cost.flatten()), name


# ------------------------------------------------------------------------------------------------ losses, as published

def test_dr_grpo_divides_by_a_constant():
    method, group = make("dr_grpo"), by_hand([[1, 0]], lengths=[2, 6], N=8)
    logp = moved(group, 0, [1., 1.])
    method.loss(group, logp).backward()
    assert close(-logp.grad, group.mask / 16)


def test_dapo_clips_higher_and_weighs_tokens_alike():
    group = by_hand([[1, 0]], lengths=[2, 6], N=8)
    logp = moved(group, 0, [1., 1.])
    make("dapo").loss(group, logp).backward()
    assert close(-logp.grad, group.mask / 8)
    group = by_hand([[1]])
    logp = moved(group, [[np.log(1.25)]], [1.])
    assert close(-make("dapo").loss(group, logp).item(), 1.25) and close(-make("grpo").loss(group, logp).item(), 1.20)


def test_dapo_penalises_overlong_completions_softly():
    method = make("dapo", overlong=16)
    lengths = [40, 48, 49, 56, 64]
    assert close(method.penalty(by_hand([[1] * 5], lengths, N=64)), [0, 0, -1 / 16, -.5, -1])
    assert close(method.penalty(by_hand([[1]], N=64, ended=False)), [-1]) and close(make("dapo", overlong=0).penalty(by_hand([[1]], N=64)), [0])
    assert close(method.advantages(by_hand([[1, 1]], [48, 56], N=64)), group_advantages(torch.tensor([[1, .5]])).flatten())
    group = method.experience()  # a solution ends where the penalty begins
    assert group.mask.shape[1] == min(GRPO.room(method, group.task, group.cell) + 16, 32 - group.start)


@pytest.mark.parametrize("refills", [0, 2, 50])
def test_dapo_refills_what_has_no_contrast(refills):
    class Rare(variants.load("dapo")):
        def rewards(self, group):  # every third prompt that was ever sampled has a contrast
            self.seen = getattr(self, "seen", 0) + len(group.prompts)
            rewards = torch.zeros(len(group.prompts), 5)
            rewards[torch.arange(self.seen - len(group.prompts), self.seen) % 3 == 0, 0] = 1
            return rewards
    method = algorithm(Rare, refills=refills, prompts_per_step=6, **Rare.defaults)
    group = method.experience()
    contrast = int((~method.zero_variance(group)).sum())
    assert method.rollouts == len(group.tokens) == 5 * len(group.prompts) == 5 * method.seen
    assert contrast == {0: 2, 2: 4, 50: 6}[refills] and len(group.prompts) == {0: 6, 2: 6 + 4 + 2, 50: 16}[refills]
    assert len(group.verdict.trace) == len(group.old_logp) == len(group.mask) == len(group.tokens)
    for i, row in enumerate(group.tokens):
        assert (row[:group.start].numpy() == group.prompts[i // 5]).all()
    group.advantages = method.advantages(group)
    rare = by_hand([[1, 0]])  # joining keeps the order: first one, then the other
    assert torch.equal(rare.join(by_hand([[0, 0]])).rewards, torch.tensor([[1., 0], [0, 0]]))


def test_gspo_has_one_ratio_per_sequence():
    method, group = make("gspo", clip_high=0.5), by_hand([[1, 0]], lengths=[2, 1], N=3)
    logp = moved(group, [[.1, .3, 0], [0, 0, 0]], [2., -1.])
    assert close(method.log_ratio(group, logp).exp()[0], [1.2214, 1.2214, 1], 1e-4)
    loss = method.loss(group, logp)
    loss.backward()
    assert close(loss.item(), -(2 * 1.2214 - 1) / 2, 1e-4) and close(-logp.grad[0], [1.2214 * 2 / 2 / 2] * 2 + [0], 1e-4)  # s A / L, over 2 rows
    assert method.clip_fraction(group, logp) == 0 and close(make("gspo", clip_high=0.2).clip_fraction(group, logp), 2 / 3)


def test_rloo_has_one_action_per_completion():
    method, group = make("rloo"), by_hand([[1, 0]], lengths=[2, 1], N=3)
    logp = moved(group, [[.05, .1, 0], [0, 0, 0]], [2., -1.])
    method.loss(group, logp).backward()
    assert close(-logp.grad[0], [2 * np.exp(.15) / 2] * 2 + [0], 1e-4)


def test_cispo_never_loses_a_gradient():
    group = by_hand([[1]])
    for name, coefficient in (("cispo", 5), ("grpo", 0)):
        logp = moved(group, [[np.log(6)]], [1.])
        make(name).loss(group, logp).backward()
        assert close(-logp.grad, [[coefficient]], 1e-4)
    assert make("cispo").clip_fraction(group, logp) == 1
    logp = moved(group, [[np.log(.1)]], [-1.])  # and there is no lower clip
    make("cispo").loss(group, logp).backward()
    assert close(-logp.grad, [[-.1]], 1e-4)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A checkpoint with the shape of test_grpo's model."""
    path = str(tmp_path_factory.mktemp("teacher") / "teacher.pt")
    save_checkpoint(path, algorithm().policy)
    return path


@pytest.mark.parametrize("name", ["rft", "distill", "sft"])
def test_the_imitators_maximise_likelihood(name, teacher):
    method = make(name, **{"teacher": teacher} if name == "distill" else {})
    group = by_hand([[1, 0]], lengths=[1, 2], N=2)
    group.advantages = method.advantages(group)
    logp = moved(group, [[-.5, 0], [.2, .2]], group.advantages)                                   # log-probs -1.5 and -.8, -.8
    assert close(method.loss(group, logp).item(), 1.5 if name == "rft" else (1.5 + .8) / 2)


def test_the_teacher_samples_and_the_student_pays(teacher):
    method = make("distill", teacher=teacher, group_size=3)
    with torch.no_grad():
        for p in method.policy.parameters():
            p.zero_()
    group = method.experience()
    expected = GRPO.forward(algorithm(), group)                                                   # the teacher is this model
    assert close(group.old_logp, expected.detach(), 1e-5) and method.rollouts == 4 * 3


def test_sft_is_shown_gold_and_counts_it():
    method = make("sft")
    group = method.experience()
    method.experience()
    assert group.verdict.trace.all() and (method.gold_sequences, method.gold_tokens, method.rollouts) == (8, 2 * group.mask.sum(), 0)


# ----------------------------------------------------------------------------------------------------------------- PPO

def test_gae_by_hand():
    rewards, values = torch.tensor([[0., 0, 1]]), torch.tensor([[.2, .5, .8]])
    assert close(gae(rewards, values, 1.0, 1.0), [[.8, .5, .2]]) and close(gae(rewards, values, 1.0, 0.95), [[.7655, .49, .2]])
    assert close(gae(rewards, values, 0.9, 0.0), [[.9 * .5 - .2, .9 * .8 - .5, 1 - .8]])           # lambda 0: the one-step error
    torch.manual_seed(0)
    rewards, values = torch.randn(3, 6), torch.randn(3, 6)
    for row in range(3):
        for t in range(6):  # the definition: the sum of (gamma lambda)^i delta_{t+i}
            V = [*values[row].tolist(), 0.0]
            delta = [rewards[row, i].item() + .9 * V[i + 1] - V[i] for i in range(6)]
            assert close(gae(rewards, values, .9, .7)[row, t], sum((.9 * .7) ** (i - t) * delta[i] for i in range(t, 6)), 1e-5)


def test_ppo_sees_the_value_before_the_token_and_the_reward_at_its_end():
    method = make("ppo", lam=0.9, reward="format", temperature=0.7)
    with torch.no_grad():
        method.head.weight.normal_()
    group = method.experience()
    advantages = method.advantages(group)
    lengths = group.mask.sum(1).long()
    assert lengths.unique().numel() > 1 and close(advantages[group.mask == 1].mean(), 0) and close(advantages[group.mask == 1].std(correction=0), 1, 1e-4)
    assert (advantages[group.mask == 0] == 0).all() and (group.more["old_values"][group.mask == 0] == 0).all()
    for row in range(len(group.tokens)):
        n = int(lengths[row])
        hidden = method.policy.hidden(group.tokens[row:row + 1, :group.start + n - 1])[0, group.start - 1:]
        lowest = torch.stack([group.old_logp[row, :i].min().exp() if i else torch.tensor(1.) for i in range(n)])
        V = 10 * method.head(torch.cat([hidden / 16, lowest[:, None]], 1)).flatten()
        assert close(group.more["old_values"][row, :n].detach(), V.detach(), 1e-5)
        r = torch.zeros(n)
        r[-1] = group.rewards.flatten()[row]
        assert close(group.more["returns"][row, :n], (gae(r[None], V[None].detach(), 1.0, .9) + V.detach())[0], 1e-4)
    assert close(method.forward(group).detach(), GRPO.forward(method, group).detach(), 1e-5)


def test_ppo_value_loss_by_hand():
    group = by_hand([[1, 0]], N=1)
    group.more = {"old_values": torch.tensor([[0.], [0.]]), "returns": torch.tensor([[1.], [.5]]), "values": torch.tensor([[.6], [.1]])}
    logp = moved(group, 0, [0., 0.])
    clipped = ((1 - .2) ** 2 + (.5 - .1) ** 2) / 2 / 2                                            # .6 is held to .2; .1 is within it
    assert close(make("ppo", value_coef=0.5).loss(group, logp).item(), 0.5 * clipped)
    assert close(make("ppo", value_coef=0.5, value_clip=9.).loss(group, logp).item(), 0.5 * (.4 ** 2 + .4 ** 2) / 2 / 2)


def test_ppo_dual_clip_caps_a_negative_advantage():
    group = by_hand([[1, 0]], N=1)
    group.more = {name: torch.zeros(2, 1) for name in ("old_values", "returns", "values")}
    for dual_clip, surrogate, gradient in ((0.0, -5, 5), (3.0, -3, 0)):
        logp = moved(group, [[0.], [np.log(5)]], [[0.], [-1.]])
        loss = make("ppo", dual_clip=dual_clip).loss(group, logp)
        loss.backward()
        assert close(loss.item(), -surrogate / 2, 1e-5) and close(logp.grad[1], [gradient / 2], 1e-4)


@pytest.mark.parametrize("values,expected", [([1., 0, .5], 1), ([.5, .5, .5], 0), ([0., 1, .5], -3)])
def test_explained_variance_by_hand(values, expected):
    group = by_hand([[1, 0, .5]], N=1)
    group.more = {"returns": torch.tensor([[1.], [0], [.5]]), "old_values": torch.tensor(values)[:, None]}
    assert close(make("ppo").numbers(group)["explained_variance"], expected)
    group.more["returns"] = torch.full((3, 1), .1)
    assert make("ppo").numbers(group)["explained_variance"] is None                                # nothing to explain


def test_ppo_learns_to_foresee_the_reward():
    """A reward that improbable tokens cost, and a frozen policy: explained variance rises from 0 towards 1."""
    class Readable(variants.load("ppo")):
        def rewards(self, group):
            lowest = group.old_logp.min(dim=1).values
            return (lowest > lowest.median()).float().view(len(group.prompts), -1)
    method = algorithm(Readable, prompts_per_step=16, temperature=0.3, **{**Readable.defaults, "epochs": 4})
    optimizer = torch.optim.AdamW(method.head.parameters(), lr=1e-2)
    seen = [method.step(optimizer)[1]["explained_variance"] for _ in range(9)]
    assert seen[0] == 0 and np.mean(seen[-5:]) > 0.15, seen


# ------------------------------------------------------------------------------------------ controls of the study

def test_balanced_keeps_the_prompts_nearest_one_half(monkeypatch):
    masses = np.random.default_rng(0).uniform(size=4 * 6)
    monkeypatch.setattr("variants.balanced.log_mass", lambda model, prompts, *rest: np.log(masses[:len(prompts)]))
    seen = []
    method = make("balanced", prompts_per_step=4, pool=6)
    kind, sample = TASKS[method.tasks[0][0]], TASKS[method.tasks[0][0]].sample
    monkeypatch.setattr(kind, "sample", lambda *args, **options: seen.append(sample(*args, **options)) or seen[-1])
    _, _, prompts = method.problems()
    nearest = sorted(range(24), key=lambda i: abs(masses[i] - 0.5))[:4]
    assert (prompts == seen[0].prompts[nearest]).all() and len(seen[0].prompts) == 24


def test_a_reset_makes_the_policy_its_own_reference_and_forgets_the_momentum():
    method = make("resets", reset_every=2, kl="k1_reward", beta=1.0, scale="none", reward="random")
    optimizer = torch.optim.SGD(method.parameters(), lr=0.5, momentum=0.9)
    apart = []
    for _ in range(5):
        group, numbers = method.step(optimizer)
        apart.append(numbers["kl"])
    assert max(map(abs, apart[::2])) < 1e-6 and min(apart[1::2]) > 1e-5, apart  # measured before each update
    method.load_state({**method.state(), "steps_done": 2})
    method.step(optimizer)
    assert method.steps_done == 3


# ----------------------------------------------------------------------------------------------------------- discovery

ALL = ["balanced", "cispo", "dapo", "distill", "dr_grpo", "gspo", "passk", "ppo", "reinforce_pp", "reinforce_pp_baseline", "remax", "resets", "rft", "rloo", "sft", "w_reinforce"]


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


def test_list_from_any_folder_and_only_the_chosen_file_is_imported(tmp_path):
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import finetune; finetune.build_parser().parse_args(['--method', 'dapo']); "
            "print([m for m in sys.modules if m.startswith('variants.')]); finetune.main(['--method', 'list'])")
    done = subprocess.run([sys.executable, "-c", code, ROOT], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and not os.listdir(tmp_path)
    first, *lines = done.stdout.splitlines()
    assert first == "['variants.dapo']"
    assert [line.split(":")[0] for line in lines if line[0] != " "] == ["grpo", *ALL]
    for line in lines:
        assert "broken" not in line
        if line[0] != " ":
            assert re.search(r": .{20,}\. \(.*\d{4}\.\d{5}\)$", line), line


def test_list_computes_what_is_overridden(folder, capsys):
    (folder / "mine.py").write_text("from grpo import GRPO\nclass Mine(GRPO):\n    '''Halves.'''\n    paper = 'none yet'\n    defaults = {'clip_high': 0.3}\n"
                                    "    def loss(self, group, logp):\n        return super().loss(group, logp) / 2\n    def helper(self):\n        pass\n")
    (folder / "bad.py").write_text("import nothing_of_the_kind\n")
    (folder / "_private.py").write_text("1 / 0\n")
    finetune.main(["--method", "list"])
    said = capsys.readouterr().out
    assert "mine: Halves. (none yet)\n    overrides: loss\n    defaults: --clip-high 0.3\n" in said
    assert "bad\n    broken: --method bad: variants/bad.py cannot be imported: ModuleNotFoundError" in said and "private" not in said


BROKEN = [
    ("import nothing_of_the_kind", ["variants/it.py", "cannot be imported", "nothing_of_the_kind"]),
    ("class X(:", ["variants/it.py", "SyntaxError"]),
    ("x = 1", ["variants/it.py", "no subclass of GRPO"]),
    ("from variants.sft import SFT", ["variants/it.py"]),                        # not in this folder
    ("from grpo import GRPO\nclass A(GRPO): pass\nclass B(GRPO): pass", ["variants/it.py", "2 subclasses"]),
    ("from grpo import GRPO\nclass A(GRPO):\n    defaults = {'cliphigh': 1}", ["variants/it.py", "'cliphigh'", "--help"]),
    ("from grpo import GRPO\nclass A(GRPO):\n    ignores = ('nothing',)", ["variants/it.py", "'nothing'"]),
    ("from grpo import GRPO\nclass A(GRPO):\n    flags = {'lr': dict(type=float)}", ["variants/it.py", "'lr'", "already"]),
]


@pytest.mark.parametrize("text,words", BROKEN)
def test_a_broken_file_gets_one_clear_line(text, words, folder, base, tmp_path, capsys):
    (folder / "it.py").write_text(text + "\n")
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--init", base, "--method", "it", "--out", str(tmp_path / "o.pt")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and all(word in error for word in ["--method it", *words]), error


BAD = [
    (["--method", "dpo"], ["--method dpo", "grpo", "dapo", "sft"]),
    (["--method", "passk", "--k", "16"], ["--k 16", "--group-size 16"]),
    (["--method", "grpo", "--k", "2"], ["--k"]),
    (["--method", "ppo", "--lam", "2"], ["--lam", "at most 1"]),
    (["--method", "rloo", "--scale", "std"], ["--scale std", "rloo"]),
    (["--method", "sft", "--budget-rollouts", "9"], ["--budget-rollouts 9", "sft"]),
    (["--budget-rollouts", "0"], ["--budget-rollouts", "at least 1"]),
    (["--method", "distill"], ["--teacher"]),
    (["--method", "distill", "--teacher", "{dir}/none.pt"], ["none.pt", "no such checkpoint"]),
    (["--method", "distill", "--teacher", "{short}"], ["--teacher", "short.pt", "context of 40", "96"]),
    (["--method", "distill", "--teacher", "{foreign}"], ["--teacher", "foreign.pt", "vocab size of 9", "66"]),
]


@pytest.mark.parametrize("argv,words", BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_gets_one_clear_line(argv, words, base, tmp_path, capsys):
    places = {name: str(tmp_path / f"{name}.pt") for name in ("short", "foreign")}
    save_checkpoint(places["short"], GPT(GPTConfig(context=40, n_embd=16)), args={})
    save_checkpoint(places["foreign"], GPT(GPTConfig(vocab_size=9, n_embd=16)), args={})
    with pytest.raises(SystemExit) as stop:
        finetune.main(["--init", base, "--out", str(tmp_path / "o.pt"), *(a.format(dir=tmp_path, **places) for a in argv)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and all(word in error for word in words), error
    assert sorted(os.listdir(tmp_path)) == ["foreign.pt", "short.pt"]


def test_help_and_command_know_the_method(capsys):
    parser = finetune.build_parser()
    with pytest.raises(SystemExit):
        finetune.main(["--method", "dapo", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--refills" in said and "(default 0.28 with --method dapo)" in said and "(default 3)" in said
    args = parser.parse_args(["--method", "dapo", "--refills", "5", "--clip-high", "0.2"])
    command = finetune.cli.command(parser, args)
    assert command == "python finetune.py --method dapo --clip-high 0.2 --refills 5"
    assert finetune.cli.command(parser, parser.parse_args(command.split()[2:])) == command


# ------------------------------------------------------------------------------------------------------ runs and budget

@pytest.mark.parametrize("name", ["grpo", *ALL])
def test_every_method_takes_two_steps(name, base, tmp_path, capsys):
    out = str(tmp_path / "o.pt")
    argv = {"sft": ["--group-size", "16"], "distill": ["--teacher", base], "passk": ["--reward", "random", "--k", "2"]}.get(name, ["--reward", "random"])
    finetune.main(["--init", base, "--method", name, *TINY, *argv, "--out", out])
    before, after = load_checkpoint(base)[0], load_checkpoint(out)[0]
    assert all(p.isfinite().all() for p in after.parameters()) and any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters()))
    rows, said = rows_of(out), capsys.readouterr().out
    per_step = {"sft": 0, "remax": 4 * 5}.get(name, 16)
    if name != "dapo":
        assert [int(row["rollouts"]) for row in rows] == [per_step, 2 * per_step]
    assert "explained-variance" in said if name == "ppo" else "explained" not in said
    if name == "sft":
        assert rows[-1]["gold_sequences"] == "8" and int(rows[-1]["gold_tokens"]) > 8 and "gold-tokens" in said


def test_a_budget_ends_the_run_with_the_step_that_spends_it(base, tmp_path, capsys):
    out = str(tmp_path / "o.pt")
    finetune.main(["--init", base, *TINY, "--steps", "50", "--budget-rollouts", "50", "--out", out])  # 16 a step
    assert [row["rollouts"] for row in rows_of(out)] == ["16", "32", "48", "64"] and rows_of(out)[-1]["id"] != ""
    said, extra = capsys.readouterr().out, load_checkpoint(out)[1]
    assert extra["finished"] and extra["step"] == 4 and "step 4/4" in said and "after 4 steps, 64 rollouts" in said
    with pytest.raises(SystemExit):
        finetune.main(["--resume", out])
    assert "finished" in capsys.readouterr().err
    finetune.main(["--init", base, *TINY, "--budget-rollouts", "50", "--out", out])                   # --steps 2 comes first
    assert "step 2/2" in (said := capsys.readouterr().out) and "note: --steps 2 ended the run before" in said


def test_every_refill_counts_in_the_budget(base, tmp_path):
    out = str(tmp_path / "o.pt")
    finetune.main(["--init", base, "--method", "dapo", "--train-on", "hard", *TINY, "--steps", "9", "--refills", "2", "--budget-rollouts", "97", "--out", out])
    assert [row["rollouts"] for row in rows_of(out)] == ["48", "96", "112"]  # nothing is ever right: 16 and two refills of 16, but none once the budget is spent


def test_the_expected_steps_are_those_of_the_pace_so_far():
    args = finetune.build_parser().parse_args(["--steps", "60", "--budget-rollouts", "100"])
    assert [finetune.expected_steps(args, *pair) for pair in ((0, 0), (1, 10), (5, 40), (7, 100), (7, 120), (59, 60))] == [60, 10, 13, 7, 7, 60]


@pytest.mark.parametrize("name,argv", [("ppo", ["--lam", "0.9", "--epochs", "2"]), ("dapo", ["--lr-decay", "--budget-rollouts", "300"]), ("sft", [])])
def test_stop_and_resume_equals_the_uninterrupted_run(name, argv, base, tmp_path, monkeypatch):
    whole, halves = str(tmp_path / "whole.pt"), str(tmp_path / "halves.pt")
    argv = ["--init", base, "--method", name, *argv, "--steps", "12", "--prompts-per-step", "8", "--eval-every", "4", "--eval-prompts", "4", "--save-every", "100"]
    argv += [] if name == "sft" else ["--group-size", "2", "--reward", "random"]  # half of DAPO's groups have no contrast: it refills
    finetune.main([*argv, "--out", whole])
    with monkeypatch.context() as patch:
        interrupt_after(patch, 8)
        with pytest.raises(SystemExit):
            finetune.main([*argv, "--out", halves])
    assert 2 < load_checkpoint(halves)[1]["step"] < 6
    finetune.main(["--resume", halves])
    assert_same_run(whole, halves)
    state = load_checkpoint(whole)[1]["method"]
    if name == "ppo":
        assert state["head"]["weight"].abs().max() > 0 and len(load_checkpoint(whole)[1]["optimizer"]["state"]) == 2 + sum(1 for _ in load_checkpoint(base)[0].parameters())
    if name == "dapo":
        assert load_checkpoint(whole)[1]["step"] < 12 and 300 <= state["rollouts"] == int(rows_of(whole)[-1]["rollouts"])
        rates = [row["rollouts"] for row in rows_of(whole)]
        assert len({int(b) - int(a) for a, b in zip(rates, rates[1:])}) > 1


# -------------------------------------------------------------------------------------------------------------- README

def readme():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        return file.read()


def test_the_readme_example_works_as_it_stands(folder, base, tmp_path, capsys):
    section = readme().split("## Write your own variant")[1].split("\n## ")[0]
    text = re.search(r"```python\n(.*?)```", section, re.S)[1]
    name, = re.findall(r"variants/(\w+)\.py", text.splitlines()[0])
    assert len(text.splitlines()) <= 30
    (folder / f"{name}.py").write_text(text)
    out = str(tmp_path / "o.pt")
    finetune.main(["--init", base, "--method", name, "--focus", "3", "--reward", "random", *TINY, "--out", out])
    assert load_checkpoint(out)[1]["args"]["focus"] == 3 and float(rows_of(out)[-1]["grad"]) > 0
    A = make(name, focus=2.0).advantages(by_hand([[1, 0, 0, 0]]))
    assert close(A, torch.tensor([.75, -.25, -.25, -.25]) * .75 ** 2, 1e-5)
    finetune.main(["--method", "list"])
    assert f"{name}: " in capsys.readouterr().out


def test_the_readme_table_names_every_method_and_its_paper():
    section = readme().split("## The rivals")[1].split("\n## ")[0]
    rows = {row[1]: row[0] for row in re.findall(r"^(\| `(\w+)` \|.*)$", section, re.M)}
    assert sorted(rows) == variants.names()[1:] == ALL
    for name, row in rows.items():
        assert re.search(r"\d{4}\.\d{5}", variants.load(name).paper)[0] in row
