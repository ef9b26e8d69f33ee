"""theory.py's laws, held to by this repository's own losses on a tabular policy.

A tabular policy is a bare softmax over outcomes, one token each. Feeding every outcome once, with
its advantage weighted by its probability under the sampling policy, makes the mean of policy_loss
an exact expectation: no sampling noise. Each law speaks of a stationary point, so each test follows
the gradient until it stops, and compares where it stopped with theory.py.
"""
import itertools
import math

import numpy as np
import pytest
import torch

from grpo import group_advantages, kl_estimate, policy_loss
from measure import exact_pass_at_k
from theory import (blind, blind_betas, blind_shifts, blind_window, critical_mass, hyperbolic,
                    logit, moved, shifted, std_step, tilted, tilted_steps)

REWARD = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
MASSES = (1e-9, 0.001, 0.05, 0.3, 0.5, 0.9, 0.999)


def base(q0, spread=(0.5, 0.3, 0.2)):
    """Reference log-probs over one right outcome of mass q0 and three wrong ones."""
    return torch.tensor([q0, *((1 - q0) * s for s in spread)], dtype=torch.float64).log()


def settle(loss_of, theta, steps=1000, lr=0.1):
    """Adam with a decaying rate on the logits theta [K] until the policy no longer moves; returns
    its log-probs [K]."""
    theta = theta.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps) ** 2
        optimizer.zero_grad()
        loss_of(torch.log_softmax(theta, 0)).backward()
        optimizer.step()
    return torch.log_softmax(theta.detach(), 0)


def expected_loss(logp, advantages):
    """policy_loss with each outcome's advantage weighted by its probability now."""
    old, K = logp.detach(), len(logp)
    return policy_loss(logp[:, None], old[:, None], K * old.exp() * advantages, torch.ones(K, 1))


def in_the_reward(advantages, ref, beta):
    """The loss with a KL in the reward, k1, beside these advantages [K]."""
    return lambda logp: expected_loss(logp, advantages
                                      - beta * kl_estimate(logp.detach(), ref, "k1"))


def as_a_loss(ref, beta):
    """The loss with the k3 estimate as a term of its own, weighted as the samples would be."""
    def loss(logp):
        k3 = (logp.detach().exp() * kl_estimate(logp, ref, "k3")).sum()
        return expected_loss(logp, REWARD) + beta * k3
    return loss


# ------------------------------------------------------------------------- P1: the tilted policy

@pytest.mark.parametrize("beta,q0,expected", [(0.3, 0.05, 0.5960), (0.3, 0.3, 0.9232),
                                              (1.0, 0.05, 0.1252), (1.0, 0.37754, 0.62246)])
def test_p1_reverse_kl_in_the_reward_tilts_the_base(beta, q0, expected):
    ref = base(q0)
    logp = settle(in_the_reward(REWARD, ref, beta), ref)
    law = tilted(np.log(q0), beta)
    assert logp[0].exp().item() == pytest.approx(law, abs=2e-4) and abs(law - expected) < 1e-4
    # slope 1 and intercept 1 / beta on logits; the wrong outcomes keep their proportions
    assert abs(logit(logp[0].item()) - logit(np.log(q0)) - 1 / beta) < 1e-3
    assert torch.allclose(logp[1:] - logp[1], ref[1:] - ref[1], atol=1e-3)


def test_p1_gain_is_an_inverted_u():
    masses = np.linspace(0.001, 0.999, 999)
    for beta in (0.3, 1.0, 3.0):
        gain = tilted(np.log(masses), beta) - masses
        peak = 1 / (1 + math.exp(1 / (2 * beta)))
        assert masses[gain.argmax()] == pytest.approx(peak, abs=0.001)
        at_peak = tilted(np.log(peak), beta) - peak
        assert at_peak == pytest.approx(math.tanh(1 / (4 * beta)), abs=1e-12) and at_peak > 0
        assert (np.diff(gain)[masses[1:] < peak] > 0).all()
        assert (np.diff(gain)[masses[:-1] > peak] < 0).all()


def test_p1_without_a_kl_everything_is_right():
    assert (tilted(np.log([1e-9, 0.5]), 0) == 1).all()


# --------------------------------------------------------- P2: the std-normalised advantage's map

def advantages_at(p, group_size=20_000):
    """[4] what group_advantages gives each outcome in a large group of which a share p is right."""
    right = round(p * group_size)
    rewards = (torch.arange(group_size) < right).double()[None]
    advantages = group_advantages(rewards)[0]
    return torch.stack([advantages[0], *[advantages[-1]] * 3])


def with_eps(p, eps=1e-4):
    """[4] the map's own advantage: the population std with eps inside the root."""
    return (REWARD - p) / math.sqrt(p * (1 - p) + eps)


def inner_maximum(p, ref, beta, advantages=advantages_at):
    """One step of the map: the policy that maximises E[A] - beta KL with A frozen at p."""
    loss = in_the_reward(advantages(p), ref, beta)
    return settle(loss, ref, steps=200, lr=0.3)[0].exp().item()


@pytest.mark.parametrize("beta,p_ref,p", [(1.0, 0.1, 0.3), (3.0, 0.001, 0.01), (3.0, 0.001, 0.6032),
                                          (2.0, 0.1, 0.95)])
def test_p2_one_step_of_the_map(beta, p_ref, p):
    """With the map's own advantage, and with group_advantages in a large group: its sample std is
    then the population's, and its eps, beside the std, negligible, so it is the map of eps 0."""
    ref = base(p_ref)
    law = std_step(p, p_ref, beta)
    assert inner_maximum(p, ref, beta, with_eps) == pytest.approx(law, rel=2e-3)
    assert inner_maximum(p, ref, beta) == pytest.approx(std_step(p, p_ref, beta, eps=0), rel=2e-3)
    assert inner_maximum(p, ref, beta) == pytest.approx(law, rel=2e-2)


def test_p2_fixed_point_and_two_cycle_of_the_map():
    p, law = 0.1, 0.1
    for _ in range(12):
        p, law = inner_maximum(p, base(0.1), 1.0), std_step(law, 0.1, 1.0)
    assert p == pytest.approx(0.45296, abs=1e-3) and law == pytest.approx(0.45296, abs=1e-4)
    p = law = 0.001
    seen, predicted = [], []
    for _ in range(14):
        p, law = inner_maximum(p, base(0.001), 3.0), std_step(law, 0.001, 3.0)
        seen.append(p)
        predicted.append(law)
    assert max(predicted[-2:]) == pytest.approx(0.6032, abs=1e-3)
    assert min(predicted[-2:]) == pytest.approx(0.0020, abs=1e-4)
    assert max(seen[-2:]) > 0.5 and min(seen[-2:]) == pytest.approx(0.0020, abs=1e-4)  # no rest


@pytest.mark.parametrize("beta,p_ref,fixed", [(1.0, 0.1, 0.453), (3.0, 0.01, None)])
def test_p2_small_steps_share_the_fixed_points_and_do_not_cycle(beta, p_ref, fixed):
    """Gradient steps stop at the first fixed point above p_ref."""
    ref = base(p_ref)

    def loss(logp):
        advantages = advantages_at(logp[0].exp().item())
        return in_the_reward(advantages, ref, beta)(logp)
    p = settle(loss, ref, steps=600)[0].exp().item()
    assert p > p_ref and p == pytest.approx(std_step(p, p_ref, beta, eps=0), rel=5e-3)
    assert fixed is None or p == pytest.approx(fixed, abs=2e-3)


def test_p2_the_map_can_jump_to_one():
    p = law = 0.001
    for _ in range(4):
        p, law = inner_maximum(p, base(0.001), 1.0), std_step(law, 0.001, 1.0)
    assert p > 0.999 and law > 0.999


def test_p2_no_mass_is_absorbing():
    """A group without a right answer has no advantage and leaves the base as it is; the map, whose
    eps is inside the root, stays within a factor e^(1 / (beta sqrt(eps))) of it."""
    assert (advantages_at(1e-12) == 0).all()
    assert inner_maximum(1e-12, base(1e-12), 10.0) == pytest.approx(1e-12, rel=1e-3)
    assert 1e-12 < std_step(1e-12, 1e-12, 10.0) <= 1e-12 * math.exp(1 / (10 * 1e-2)) * 1.01


# ------------------------------------------------------------------------------ P3: k3 as a loss

@pytest.mark.parametrize("beta,q0,expected", [(0.3, 0.05, 0.7208), (1.0, 0.05, 0.2236),
                                              (0.3, 0.3, 0.8110), (0.1, 0.3, 0.9322)])
def test_p3_k3_as_a_loss_obeys_a_hyperbolic_law(beta, q0, expected):
    ref = base(q0)
    pi = settle(as_a_loss(ref, beta), ref).exp()
    law = hyperbolic(np.log(q0), beta)
    assert pi[0].item() == pytest.approx(law, abs=2e-4) and abs(law - expected) < 1e-4
    lam = REWARD + beta * ref.exp() / pi                        # pi = beta pi_ref / (lambda - A)
    assert (lam - lam.mean()).abs().max() < 1e-3
    assert abs(pi[0].item() - tilted(np.log(q0), beta)) > 0.05  # and it is not P1's policy


def test_p3_gradient_of_k3_is_that_of_the_forward_kl():
    theta = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64), 0)
    logp = torch.log_softmax(theta, 0)

    def gradient(loss):
        return torch.autograd.grad(loss, theta, retain_graph=True)[0]
    as_loss = gradient((logp.detach().exp() * kl_estimate(logp, ref, "k3")).sum())
    forward = gradient((ref.exp() * (ref - logp)).sum())
    reverse = gradient((logp.exp() * (logp - ref)).sum())
    assert torch.allclose(as_loss, forward) and not torch.allclose(as_loss, reverse, atol=1e-3)


# ---------------------------------------------------------------------- P4: no law lowers a mass

def test_p4_no_law_lowers_any_mass_or_pass_at_k():
    """Above the base in mass, where there is room to see it, so at every k."""
    log_masses = np.log(MASSES)
    for beta in (0.1, 1.0, 10.0):
        std = [std_step(q, q, beta) for q in MASSES]
        for law in (tilted(log_masses, beta), hyperbolic(log_masses, beta), np.array(std)):
            assert (law > MASSES).all()
            for k in (1, 64, 2 ** 20):
                gain = exact_pass_at_k(np.log(law), k) - exact_pass_at_k(log_masses, k)
                assert (gain >= 0).all() and gain.max() > 0


@pytest.mark.parametrize("q0", [0.001, 0.5, 0.99])
def test_p4_no_loss_lowers_a_mass_where_it_settles(q0):
    ref = base(q0)
    losses = (in_the_reward(REWARD, ref, 1.0), as_a_loss(ref, 1.0),
              in_the_reward(advantages_at(q0), ref, 1.0))
    for loss in losses:
        assert settle(loss, ref, steps=200)[0] > ref[0]


# ------------------------------------------------------------------------------ P10: step by step

def test_p10_the_steps_are_those_of_the_tilted_chain():
    """Three steps with two choices each, right or wrong: the chains' probabilities reweighed by
    exp(r / beta), and the conditional probability of each step read off."""
    steps = np.log(np.array([0.8, 0.3, 0.6]))
    chains = list(itertools.product([True, False], repeat=3))
    for beta in (0.3, 1.0, 3.0):
        weights = {}
        for chain in chains:
            p = np.prod([np.exp(s) if right else 1 - np.exp(s) for s, right in zip(steps, chain)])
            weights[chain] = p * math.exp(all(chain) / beta)
        after = [sum(w for chain, w in weights.items() if all(chain[:t])) for t in range(4)]
        brute = [np.log(after[t + 1] / after[t]) for t in range(3)]
        assert np.allclose(tilted_steps(steps[None], beta)[0], brute, atol=1e-12)


def test_p10_the_law_of_the_steps_is_the_law_of_the_whole():
    steps = np.log(np.random.default_rng(0).uniform(0.05, 0.95, (20, 3)))
    for beta in (0.3, 1.0, 3.0):
        moved = tilted_steps(steps, beta)
        assert np.allclose(np.exp(moved.sum(1)), tilted(steps.sum(1), beta))
        assert (moved > steps).all() and (moved < 0).all()


def test_one_shift_of_all_logits_brings_the_mean_to_its_target():
    log_masses = np.log([0.001, 0.2, 0.7])
    moved = shifted(log_masses, 0.5)
    assert moved.mean() == pytest.approx(0.5, abs=1e-9)
    assert np.ptp(logit(np.log(moved)) - logit(log_masses)) < 1e-9
    assert shifted(log_masses, np.exp(log_masses).mean()) == pytest.approx(np.exp(log_masses))


# ------------------------------------------------------------------------------- P11, the blind law

def objective(logits, logits0, beta):
    """J [n]: Q minus beta times the KL of every decision, each with one probability, by torch."""
    p, p0 = torch.sigmoid(logits), torch.sigmoid(logits0)
    kl = p * (p / p0).log() + (1 - p) * ((1 - p) / (1 - p0)).log()
    return p.prod(-1) - beta * kl.sum(-1)


def climb(logits0, start, beta, steps=400):
    """Where gradient ascent on J ends, from logits `start`, every decision on its own."""
    logits = start.clone().requires_grad_(True)
    for _ in range(steps):
        gradient, = torch.autograd.grad(objective(logits, logits0, beta).sum(), logits)
        p = torch.sigmoid(logits.detach())
        logits.data += 0.5 * gradient / (beta * p * (1 - p))   # a natural gradient: no plateaus
    return torch.sigmoid(logits.detach()).prod(-1)


@pytest.mark.parametrize("beta,q0,n", [(1, 0.4, 12), (1, 0.05, 12), (0.3, 0.4, 12), (0.3, 0.02, 12),
                                       (0.3, 0.1, 4), (0.2, 0.01, 12), (0.3, 0.03, 12)])
def test_p11_is_where_a_policy_that_pays_for_every_decision_ends(beta, q0, n):
    """From below and from above; with as many ends as the law has stable states."""
    p0 = q0 ** (1 / n)
    logits0 = torch.full((n,), math.log(p0 / (1 - p0)), dtype=torch.float64)
    ends = sorted({round(float(climb(logits0, logits0 + by, beta)), 4) for by in (0.0, 8.0)})
    assert ends == pytest.approx(blind(math.log(q0), beta, n), abs=1e-3)
    inside = blind_window(beta, n) and blind_window(beta, n)[0] < q0 < blind_window(beta, n)[1]
    assert len(ends) == (2 if inside else 1)


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.1])
def test_p11_of_one_decision_is_p1_and_of_many_the_limit(beta):
    for q0 in (0.01, 0.3, 0.9):
        assert blind(math.log(q0), beta, n=1) == pytest.approx([tilted(math.log(q0), beta)])
        limit = blind(math.log(q0), beta)
        assert limit == pytest.approx(blind(math.log(q0), beta, n=10**6), rel=1e-3)
        for q in limit:
            assert q == pytest.approx(q0 ** math.exp(-q / beta), rel=1e-9)
    assert blind_window(beta, n=1) is None


@pytest.mark.parametrize("n", [3, 12, math.inf])
def test_p11_has_a_critical_mass_only_where_the_kl_is_weak(n):
    border = (1 - 1 / n) ** n if n < math.inf else 1 / math.e
    assert blind_window(border * 1.001, n) is None and critical_mass(border * 1.001, n) == 0.0
    for beta in (border * 0.8, border / 2):
        low, high = blind_window(beta, n)
        assert critical_mass(beta, n) == high > low
        starts = low * 0.999, low * 1.001, high * 0.999, high * 1.001
        assert [len(blind(math.log(q0), beta, n)) for q0 in starts] == [1, 2, 2, 1]
        below, above = (blind(math.log(q0), beta, n)[0] for q0 in starts[2:])
        assert above > 1.5 * below                            # there it jumps


def a_base(rng, prompts=64, decisions=9, mean=-0.35):
    """log p0 [n, decisions] of prompts and decisions that are not alike; some nearly certain."""
    log_p = -np.exp(rng.normal(math.log(-mean), 0.4, (prompts, decisions)))
    log_p[:, 2::3] = -1e-6
    return log_p


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.2, 0.1])
@pytest.mark.parametrize("mean", [-0.2, -0.5, -0.8])
def test_p11_with_one_shift_for_all_finds_every_local_maximum(beta, mean):
    log_p = a_base(np.random.default_rng(0), mean=mean)
    logits0 = torch.tensor(logit(log_p))
    fine = torch.linspace(0, 1.2 / beta, 6001, dtype=torch.float64)
    J = objective(logits0 + fine[:, None, None], logits0, beta).mean(1)
    peaks = fine[1:-1][(J[1:-1] > J[:-2]) & (J[1:-1] > J[2:])]
    assert blind_shifts(log_p, beta) == pytest.approx(peaks.tolist(), abs=2 * float(fine[1]))
    q = moved(log_p, 1.5)
    assert np.exp(q) == pytest.approx(torch.sigmoid(logits0 + 1.5).prod(1).numpy(), rel=1e-6)


def test_p11_of_equal_decisions_needs_no_shared_shift():
    for q0, beta, n in ((0.03, 0.3, 12), (0.05, 0.3, 12), (0.4, 1.0, 4), (0.01, 0.2, 12)):
        even = np.full((1, n), math.log(q0) / n)
        found = [float(np.exp(moved(even, s))[0]) for s in blind_shifts(even, beta)]
        assert found == pytest.approx(blind(math.log(q0), beta, n), rel=1e-6)


@pytest.mark.parametrize("mean", [-0.5, -0.7])
def test_p11_the_betas_of_two_states_are_those_at_which_a_base_has_two(mean):
    log_p = a_base(np.random.default_rng(1), mean=mean)
    low, high = blind_betas(log_p)
    states = [len(blind_shifts(log_p, beta)) for beta in (low * 0.98, low * 1.02, high * 0.98,
                                                          high * 1.02)]
    assert states == [1, 2, 2, 1]
    taken_off, not_yet = (np.exp(moved(log_p, blind_shifts(log_p, beta)[0])).mean()
                          for beta in (low * 0.98, low * 1.02))
    assert taken_off > 0.5 > 0.3 > not_yet
    assert blind_betas(np.log([[0.9, 0.95]])) is None         # enough mass: no jump anywhere
