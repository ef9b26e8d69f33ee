"""grpo.py: every box by hand-computed numbers, by independent loops, and on a real model. The silent bugs, one by one."""
import copy

import numpy as np
import pytest
import torch

from grpo import GRPO, REWARDS, completion_mask, group_advantages, kl_estimate, masked_mean, policy_loss
from model import GPT, GPTConfig, token_logprobs
from tasks import EOS, PAD, TASKS, VOCAB, Cell
from variants.sft import SFT


def close(a, b, tolerance=1e-6):
    return torch.allclose(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), atol=tolerance, rtol=0)


# ---------------------------------------------------------------------------------------------------------- advantages

def test_advantages_by_hand():
    assert close(group_advantages(torch.tensor([[1., 0, 0, 0]])), [[1.5, -.5, -.5, -.5]], 1e-4)             # std of n - 1
    assert close(group_advantages(torch.tensor([[1., 0, 0, 0]]), "none"), [[.75, -.25, -.25, -.25]])
    rewards = torch.tensor([[1., 0, 0, 0], [1, 1, 0, 1]])
    assert close(group_advantages(2 * rewards), group_advantages(rewards), 1e-4)
    assert close(group_advantages(2 * rewards, "none"), 2 * group_advantages(rewards, "none"))
    with pytest.raises(ValueError):
        group_advantages(rewards, "mean")


@pytest.mark.parametrize("scale", ["std", "none"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3, 1e-8])
def test_an_all_equal_group_has_exactly_zero_advantage(scale, value):
    assert (group_advantages(torch.full((3, 7), value), scale) == 0).all()       # 0.1's mean is not 0.1 in floating point
    assert (group_advantages(torch.full((3, 1), value), scale) == 0).all()       # a group of one has no std


# ---------------------------------------------------------------------------------------------------------------- mask

def test_the_sampled_eos_is_trained_on_and_what_follows_is_not():
    completions = torch.tensor([[7, 8, EOS, PAD], [7, 8, 9, 10], [EOS, PAD, PAD, PAD], [7, EOS, EOS, 9]])
    mask = completion_mask(completions)
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    logp = torch.randn(4, 4, requires_grad=True)
    policy_loss(logp, logp.detach(), torch.tensor([1., -1, 2, 3]), mask).backward()
    assert torch.equal(logp.grad != 0, mask.bool())


def test_nothing_is_diluted_by_padding_and_an_empty_row_is_safe():
    logp = torch.tensor([[-1., -2, -3, -4], [-1, 0, 0, 0]])
    mask = torch.tensor([[1., 1, 1, 1], [1, 0, 0, 0]])
    assert masked_mean(logp, mask, "sequence") == (-2.5 - 1) / 2 and masked_mean(logp, mask, "token") == -11 / 5 and masked_mean(logp, mask, "constant") == -11 / 8
    longer = torch.nn.functional.pad(logp, (0, 3), value=-99.0), torch.nn.functional.pad(mask, (0, 3))
    assert masked_mean(*longer, "sequence") == masked_mean(logp, mask, "sequence")
    assert masked_mean(logp, torch.zeros(2, 4), "sequence") == masked_mean(logp, torch.zeros(2, 4), "token") == 0
    with pytest.raises(ValueError):
        masked_mean(logp, mask, "mean")


# ---------------------------------------------------------------------------------------------------------------- loss

def test_clip_by_hand():
    ratio = torch.tensor([[1.25, 0.75, 1.1, 1.25, 0.75]])
    advantages = torch.tensor([[1., 1, 1, -1, -1]])
    for high, expected in ((0.2, [1.2, 0.75, 1.1, -1.25, -0.8]), (0.28, [1.25, 0.75, 1.1, -1.25, -0.8])):  # DAPO's clip-higher: 1.25
        logp = ratio.log().requires_grad_()
        loss = policy_loss(logp, torch.zeros(1, 5), advantages, torch.ones(1, 5), 0.2, high, "token")
        assert close(loss.detach(), -sum(expected) / 5)
        loss.backward()
        assert ((logp.grad[0] == 0) == torch.tensor([high == 0.2, False, False, False, True])).all()  # a clipped token has no gradient


def test_aggregates_weigh_tokens_as_published():
    """Two completions of 2 and 6 tokens: DAPO weighs each token 1/8, GRPO 1/4 and 1/12, Dr. GRPO 1 / (rows * N)."""
    mask = torch.tensor([[1.] * 2 + [0] * 6, [1.] * 6 + [0] * 2])
    for aggregate, weights in (("token", (1 / 8, 1 / 8)), ("sequence", (1 / 4, 1 / 12)), ("constant", (1 / 16, 1 / 16))):
        logp = torch.zeros(2, 8, requires_grad=True)
        policy_loss(logp, torch.zeros(2, 8), torch.ones(2), mask, aggregate=aggregate).backward()
        assert close(-logp.grad, mask * torch.tensor(weights)[:, None])


def test_on_policy_the_gradient_is_reinforce():
    torch.manual_seed(0)
    logp, advantages, mask = torch.randn(6, 5, requires_grad=True), torch.randn(6), (torch.rand(6, 5) < 0.7).float()
    a, = torch.autograd.grad(policy_loss(logp, logp.detach(), advantages, mask, aggregate="token"), logp)
    b, = torch.autograd.grad(-(logp * advantages[:, None] * mask).sum() / mask.sum(), logp)
    assert close(a, b)


def test_what_stands_behind_the_mask_cannot_make_a_nan():
    logp = torch.tensor([[-1.0, 800.0, -torch.inf]], requires_grad=True)
    loss = policy_loss(logp, torch.tensor([[-1.0, 0.0, 0.0]]), torch.ones(1), torch.tensor([[1.0, 0.0, 0.0]]))
    loss.backward()
    assert loss == -1 and logp.grad.tolist() == [[-1, 0, 0]]


def test_what_follows_eos_has_log_prob_zero_for_policy_and_reference_too():
    """As for the sampler: a PAD that nobody sampled has an extreme log-ratio, and exp of that would make the KL a nan."""
    method = algorithm(kl="k3_loss", beta=1.0)
    group = rolled_out(method)
    after = group.mask == 0
    assert after.any() and (token_logprobs(method.policy, group.tokens, group.start)[after] < -1).all()
    assert (group.ref_logp[after] == 0).all() and (method.forward(group)[after] == 0).all()


def test_kl_estimates():
    logp, ref = torch.tensor([[0.0, -1.0]]), torch.tensor([[0.0, -3.0]])
    assert close(kl_estimate(logp, ref, "k1"), [[0, 2]]) and close(kl_estimate(logp, ref, "k2"), [[0, 2]])
    assert close(kl_estimate(logp, ref, "k3"), [[0, np.exp(-2) + 1]])
    with pytest.raises(ValueError):
        kl_estimate(logp, ref, "k4")
    # k1 and k3 have the KL as their mean under the policy, which k2 has not
    p, q = torch.log_softmax(torch.tensor([1., 2, 0]), 0), torch.log_softmax(torch.tensor([0., 0, 1]), 0)
    kl = (p.exp() * (p - q)).sum()
    assert close((p.exp() * kl_estimate(p, q, "k1")).sum(), kl) and close((p.exp() * kl_estimate(p, q, "k3")).sum(), kl)
    assert not close((p.exp() * kl_estimate(p, q, "k2")).sum(), kl, 0.01)
    assert (kl_estimate(torch.randn(99, 9), torch.randn(99, 9), "k3") >= 0).all()


# ----------------------------------------------------------------------------------------------- the class, on a model

CELL = Cell(3, 4)


def model(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    net = GPT(GPTConfig(len(VOCAB), 32, 2, 2, 16)).to(dtype)
    with torch.no_grad():
        net.embed.weight.normal_(std=0.3)
        net.embed.weight[EOS] *= 3  # an extreme logit, high in some places: completions end there, so lengths differ
    return net


def algorithm(kind=GRPO, dtype=torch.float32, tasks=(("arithmetic", CELL),), **options):
    policy = model(dtype=dtype)
    return kind(policy, copy.deepcopy(policy), list(tasks), **{"prompts_per_step": 4, "group_size": 5, "reward": "random", **options})


def rolled_out(method):
    group = method.rollout(method.problems())
    group.rewards = method.rewards(group)
    group.advantages = method.advantages(group)
    return group


def test_the_ratio_is_one_before_the_first_update():
    method = algorithm(dtype=torch.float64, temperature=0.8)
    group = rolled_out(method)
    logp = method.forward(group)
    assert ((logp - group.old_logp) * group.mask).abs().max() < 1e-10
    assert group.mask.sum(1).unique().numel() > 1  # of unequal lengths


def test_order_survives_grouping():
    """Row i of everything belongs to prompt i // G: the verifier's word on each row, and the shape of the rewards."""
    method = algorithm(reward="format", tasks=[("arithmetic", Cell(1, 2))], group_size=7, prompts_per_step=40, temperature=0.7)
    group = rolled_out(method)
    for i, (tokens, format_ok) in enumerate(zip(group.tokens, group.rewards.flatten())):
        prompt = group.prompts[i // 7]
        assert (tokens[:group.start].numpy() == prompt).all()
        alone = TASKS["arithmetic"].verify(prompt[None], group.completions[i][None].numpy())
        assert alone.well_formed[0] == format_ok.item() and alone.trace[0] == group.verdict.trace[i]
    assert group.rewards.shape == (40, 7)


@pytest.mark.parametrize("reward", list(REWARDS))
def test_every_reward(reward):
    method = algorithm(SFT, prompts_per_step=30)
    group = method.rollout(method.problems())  # gold: right in every respect
    half = group.tokens[::2].clone()
    half[:, group.start] = TASKS["arithmetic"].parse(group.prompts[::2])[1][:, 0].max() + (half[:, group.start] - 5) % 10  # another digit
    group.tokens[::2] = half
    group.verdict = TASKS["arithmetic"].verify(group.prompts, group.completions.numpy())
    rewards = algorithm(reward=reward).rewards(group).flatten()
    wrong, right = rewards[::2], rewards[1::2]
    if reward == "random":
        assert 0 < rewards.mean() < 1 and set(rewards.tolist()) == {0, 1}
    else:
        assert (right == {"inverted": 0}.get(reward, 1)).all()
        assert (wrong == {"trace": 0, "answer": 1, "process": 0, "inverted": 1, "format": 1}[reward]).all()


def loop_gradient(method, group, dtype=torch.float64):
    """GRPO's gradient, written as loops over prompts, samples and tokens from the paper's formulas; nothing from grpo.py."""
    policy, reference = method.policy, method.reference
    total, G = 0.0, method.group_size
    rewards = group.rewards.to(dtype)
    for p in range(len(group.prompts)):
        r = rewards[p]
        mean = sum(r) / G
        std = (sum((x - mean) ** 2 for x in r) / (G - 1)) ** 0.5
        for g in range(G):
            row = p * G + g
            ids = group.tokens[row]
            logits, ref_logits = policy(ids[None])[0] / method.temperature, reference(ids[None])[0].detach() / method.temperature
            A = 0.0 if std == 0 else (r[g] - mean) / (std + 1e-6)
            terms = []
            for t in range(group.start, len(ids)):
                logp = logits[t - 1, ids[t]] - torch.logsumexp(logits[t - 1], 0)
                ref = ref_logits[t - 1, ids[t]] - torch.logsumexp(ref_logits[t - 1], 0)
                ratio = torch.exp(logp - group.old_logp[row, t - group.start])
                clipped = ratio if 1 - method.clip_low <= ratio <= 1 + method.clip_high else ratio.detach().clamp(1 - method.clip_low, 1 + method.clip_high)
                surrogate = ratio * A if ratio * A < clipped * A else clipped * A
                k3 = torch.exp(ref - logp) - (ref - logp) - 1
                terms.append(-surrogate + method.beta * k3)
                if ids[t] == EOS:
                    break
            total = total + sum(terms) / len(terms)
    loss = total / (len(group.prompts) * G)
    return torch.autograd.grad(loss, list(policy.parameters()))


def test_gradient_equals_a_loop_written_grpo_off_policy():
    method = algorithm(dtype=torch.float64, kl="k3_loss", beta=0.3, temperature=0.9, group_size=4)
    group = rolled_out(method)
    torch.manual_seed(5)
    with torch.no_grad():  # as in a later epoch: the policy has moved, ratios differ from 1 and some are clipped
        for p in method.policy.parameters():
            p += 0.03 * torch.randn_like(p)
    logp = method.forward(group)
    assert method.clip_fraction(group, logp.detach()) > 0.02
    ours = torch.autograd.grad(method.loss(group, logp), list(method.policy.parameters()))
    for a, b in zip(ours, loop_gradient(method, group)):
        assert close(a, b, 1e-7)  # rewards and advantages are float32


@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
@pytest.mark.parametrize("kl", ["none", "k3_loss"])
def test_micro_batches_give_the_full_gradient(aggregate, kl):
    def step(micro_batch):
        method = algorithm(dtype=torch.float64, aggregate=aggregate, kl=kl, beta=0.5, micro_batch=micro_batch, epochs=2, max_grad_norm=1e9)
        group, numbers = method.step(torch.optim.SGD(method.parameters(), lr=0.5))
        assert group.mask.sum(1).unique().numel() > 1
        return torch.cat([p.flatten() for p in method.parameters()]), numbers["loss"]
    (full, loss), (parts, loss_of_parts) = step(0), step(3)  # four groups of five rows, in parts of three and one
    assert close(full, parts, 1e-10) and abs(loss - loss_of_parts) < 1e-10
    assert not close(full, torch.cat([p.flatten() for p in model(dtype=torch.float64).parameters()]), 1e-6)


def test_no_signal_leaves_the_weights_bit_identical():
    method = algorithm(reward="trace", tasks=[("arithmetic", Cell(4, 4))])
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.1)
    before = [p.detach().clone() for p in method.parameters()]
    for _ in range(3):
        _, numbers = method.step(optimizer)
    assert numbers["reward"] == 0 and numbers["zero_std"] == 1 and numbers["grad"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, method.parameters()))


@pytest.mark.parametrize("kl", ["none", "k3_loss"])
def test_a_group_that_says_nothing_contributes_nothing(kl):
    """All-equal groups have zero gradient; with --drop-zero-variance they leave the mean too."""
    class Fixed(GRPO):
        def rewards(self, group):
            r = torch.zeros(4, 5)
            r[1, 2] = 1
            return r
    def gradient(**options):
        method = algorithm(Fixed, dtype=torch.float64, max_grad_norm=1e9, kl=kl, **options)
        method.step(torch.optim.SGD(method.parameters(), lr=0.0))
        return torch.cat([p.grad.flatten() for p in method.parameters()])
    kept, dropped = gradient(), gradient(drop_zero_variance=True)
    assert kept.abs().max() > 0 and kept.isfinite().all()
    assert close(dropped, 4 * kept, 1e-10)  # one group of four remains; on policy, k3 has no gradient


@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
def test_groups_without_a_gradient_are_left_out_of_the_pass_but_not_of_the_mean(aggregate):
    rows = []
    class Fixed(GRPO):
        def rewards(self, group):
            r = torch.zeros(4, 5)
            r[1, 2], r[3] = 1, 1
            return r
        def forward(self, group):
            rows.append(len(group.tokens))
            return super().forward(group)
    class Thorough(Fixed):
        def teaches(self, group):
            return torch.ones(4, dtype=torch.bool)
    def gradient(cls):
        method = algorithm(cls, dtype=torch.float64, max_grad_norm=1e9, aggregate=aggregate)
        method.step(torch.optim.SGD(method.parameters(), lr=0.0))
        return torch.cat([p.grad.flatten() for p in method.parameters()])
    assert close(gradient(Fixed), gradient(Thorough), 1e-12) and rows == [5, 20]


def test_dropping_every_group_is_safe():
    method = algorithm(reward="trace", tasks=[("arithmetic", Cell(4, 4))], drop_zero_variance=True, kl="k3_loss", beta=1.0)
    _, numbers = method.step(torch.optim.SGD(method.parameters(), lr=1.0))
    assert numbers["grad"] == 0


def test_k1_reward_is_centred_and_vanishes_at_the_reference():
    method = algorithm(kl="k1_reward", beta=0.7, scale="none", dtype=torch.float64)
    group = rolled_out(method)
    assert close(group.advantages.view(4, 5), group_advantages(group.rewards, "none"), 1e-9)
    with torch.no_grad():
        for p in method.reference.parameters():
            p += 0.2 * torch.randn_like(p)
    group = rolled_out(method)
    kl = ((group.old_logp - token_logprobs(method.reference, group.tokens, group.start)) * group.mask).sum(1).view(4, 5)
    expected = group_advantages(group.rewards, "none") - 0.7 * (kl - kl.mean(1, keepdim=True))
    assert close(group.advantages.view(4, 5), expected.detach(), 1e-9) and kl.abs().max() > 0.1


def test_only_the_policy_moves_and_nothing_is_mutated():
    method = algorithm(kl="k3_loss", beta=0.1, epochs=2)
    reference = copy.deepcopy(method.reference.state_dict())
    policy = copy.deepcopy(method.policy.state_dict())
    group, _ = method.step(torch.optim.AdamW(method.parameters(), lr=1e-2))
    assert all(torch.equal(reference[k], v) for k, v in method.reference.state_dict().items())
    assert any(not torch.equal(policy[k], v) for k, v in method.policy.state_dict().items())
    prompts, rewards = group.prompts.copy(), group.rewards.clone()
    inputs = [torch.randn(3, 4), torch.randn(3, 4), torch.randn(3), torch.ones(3, 4)]
    copies = [x.clone() for x in inputs]
    policy_loss(*inputs), kl_estimate(*inputs[:2]), group_advantages(rewards), method.loss(group, method.forward(group))
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies)) and (group.prompts == prompts).all() and torch.equal(group.rewards, rewards)


def test_a_nan_never_reaches_the_weights():
    class Broken(GRPO):
        def loss(self, group, logp):
            return super().loss(group, logp) * float("nan")
    method = algorithm(Broken)
    before = [p.detach().clone() for p in method.parameters()]
    with pytest.raises(FloatingPointError):
        method.step(torch.optim.SGD(method.parameters(), lr=1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, method.parameters()))


def test_a_random_reward_has_no_drift():
    """P8: a reward that does not look at the completion has an expected gradient of zero."""
    method = algorithm(dtype=torch.float64, prompts_per_step=32, group_size=8, scale="none", max_grad_norm=1e9)
    total, squares, n = 0.0, 0.0, 40
    for _ in range(n):
        method.step(torch.optim.SGD(method.parameters(), lr=0.0))
        g = torch.cat([p.grad.flatten() for p in method.parameters()])
        total, squares = total + g, squares + g.square()
    standard_error = ((squares / n - (total / n).square()) / n).sqrt()
    z = (total / n / standard_error)[standard_error > 1e-12]
    assert z.abs().mean() < 1.1 and z.square().mean() < 1.6  # 0.8 and 1 for pure noise


def test_sft_learns_the_gold_solution():
    method = algorithm(SFT, prompts_per_step=64)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    losses = [method.step(optimizer)[1]["loss"] for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    group = method.rollout(method.problems())
    assert group.verdict.trace.all() and (group.mask == 1).all()


def test_a_variant_can_give_every_token_its_own_advantage():
    class PerToken(GRPO):
        def advantages(self, group):
            return super().advantages(group)[:, None] * torch.linspace(0, 1, group.mask.shape[1])
    method = algorithm(PerToken, dtype=torch.float64, micro_batch=2)
    group, numbers = method.step(torch.optim.SGD(method.parameters(), lr=0.1))
    assert group.advantages.shape == group.mask.shape and numbers["grad"] > 0
