"""The closed forms P1-P3: this repository's own policy_loss and kl_estimate, fed expected advantages on a tabular policy.

A tabular policy is a bare softmax over outcomes, one token each. Feeding every outcome once, with its advantage weighted
by its probability under the sampling policy, makes the loss's mean an exact expectation: no sampling noise.
Each law is a statement about the stationary point, so each test follows the gradient until it stops.
"""
import math

import pytest
import torch

from grpo import kl_estimate, policy_loss


def logit(p):
    return math.log(p / (1 - p))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def settle(loss_of, theta, steps=1000, lr=0.1):
    """Adam with a decaying rate on the logits theta [K] until the policy no longer moves; returns its log-probs [K]."""
    theta = theta.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps) ** 2
        optimizer.zero_grad()
        loss_of(torch.log_softmax(theta, 0)).backward()
        optimizer.step()
    return torch.log_softmax(theta.detach(), 0)


def expected_loss(logp, advantages, ref=None, k3_beta=0.0):
    """policy_loss with each outcome's advantage weighted by its probability now, plus the k3 term with the same weights."""
    old = logp.detach()
    K = len(logp)
    rows = logp[:, None]
    loss = policy_loss(rows, old[:, None], K * old.exp() * advantages, torch.ones(K, 1))
    if k3_beta:
        loss = loss + k3_beta * (old.exp() * kl_estimate(logp, ref, "k3")).sum()
    return loss


def base(q0, spread=(0.5, 0.3, 0.2)):
    """Reference log-probs over one right outcome of mass q0 and three wrong ones."""
    return torch.tensor([q0, *((1 - q0) * s for s in spread)], dtype=torch.float64).log()


REWARD = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)


@pytest.mark.parametrize("beta,q0,expected", [(0.3, 0.05, 0.5960), (0.3, 0.3, 0.9232), (1.0, 0.05, 0.1252), (1.0, 0.37754, 0.37754 + 0.24492)])
def test_p1_reverse_kl_in_the_reward_tilts_the_base(beta, q0, expected):
    ref = base(q0)
    logp = settle(lambda lp: expected_loss(lp, REWARD - beta * kl_estimate(lp.detach(), ref, "k1")), ref)
    q = logp[0].exp().item()
    assert abs(q - expected) < 2e-4
    assert abs(logit(q) - (logit(q0) + 1 / beta)) < 1e-3                                   # slope 1, intercept 1 / beta
    assert torch.allclose(logp[1:] - logp[1], ref[1:] - ref[1], atol=1e-3)                 # wrong outcomes keep their proportions


def test_p1_gain_is_an_inverted_u():
    gain = {q0: sigmoid(logit(q0) + 1) - q0 for q0 in (0.05, 0.2, 1 / (1 + math.exp(0.5)), 0.6, 0.95)}
    peak = max(gain, key=gain.get)
    assert abs(peak - 0.37754) < 1e-5 and abs(gain[peak] - math.tanh(0.25)) < 1e-12


def normalised(p, eps=1e-4):
    """P2's advantage: population std, eps inside the root."""
    return (REWARD - p) / math.sqrt(p * (1 - p) + eps)


def inner_maximum(p_before, ref, beta):
    """One step of the map: the policy that maximises E[A] - beta KL with A frozen at p_before."""
    A = normalised(p_before)
    logp = settle(lambda lp: expected_loss(lp, A - beta * kl_estimate(lp.detach(), ref, "k1")), ref, steps=200, lr=0.3)
    return logp[0].exp().item()


def test_p2_the_map_follows_its_closed_form():
    for beta, p_ref, p in ((1.0, 0.1, 0.3), (3.0, 0.001, 0.01), (3.0, 0.001, 0.6032)):
        predicted = sigmoid(logit(p_ref) + 1 / (beta * math.sqrt(p * (1 - p) + 1e-4)))
        assert abs(inner_maximum(p, base(p_ref), beta) - predicted) < 1e-3 * max(predicted, 0.1)


def test_p2_fixed_point_and_two_cycle_of_the_map():
    p = 0.1
    for _ in range(12):
        p = inner_maximum(p, base(0.1), 1.0)
    assert abs(p - 0.45296) < 1e-3
    p, seen = 0.001, []
    for _ in range(14):
        p = inner_maximum(p, base(0.001), 3.0)
        seen.append(p)
    assert abs(max(seen[-2:]) - 0.6032) < 5e-3 and abs(min(seen[-2:]) - 0.0020) < 2e-4     # it does not converge


@pytest.mark.parametrize("beta,p_ref,expected", [(1.0, 0.1, 0.45296), (3.0, 0.001, None), (1.0, 0.001, None)])
def test_p2_small_steps_share_the_fixed_points_and_do_not_cycle(beta, p_ref, expected):
    """Gradient steps stop at the first fixed point above p_ref, also where the map itself cycles (beta 3) or jumps over it
    to 1 (beta 1, p_ref 0.001)."""
    ref = base(p_ref)
    def loss(lp):
        A = normalised(lp[0].exp().item())
        return expected_loss(lp, A - beta * kl_estimate(lp.detach(), ref, "k1"))
    p = settle(loss, ref)[0].exp().item()
    assert p > p_ref and abs(p - sigmoid(logit(p_ref) + 1 / (beta * math.sqrt(p * (1 - p) + 1e-4)))) < 1e-3
    assert expected is None or abs(p - expected) < 1e-3


def test_p2_the_map_can_jump_to_one():
    p = 0.001
    for _ in range(4):
        p = inner_maximum(p, base(0.001), 1.0)
    assert p > 0.999


def test_p2_no_mass_is_absorbing():
    """With the base at 1e-12 the map stays within a factor e^(1 / (beta sqrt(eps))) of it at beta 10."""
    assert inner_maximum(1e-12, base(1e-12), 10.0) < 1e-12 * math.exp(1 / (10 * math.sqrt(1e-4))) * 1.01


@pytest.mark.parametrize("beta,q0,expected", [(0.3, 0.05, 0.7208), (1.0, 0.05, 0.2236), (0.3, 0.3, 0.8110), (0.1, 0.3, 1 - 0.0678)])
def test_p3_k3_as_a_loss_obeys_a_hyperbolic_law(beta, q0, expected):
    ref = base(q0)
    logp = settle(lambda lp: expected_loss(lp, REWARD, ref, k3_beta=beta), ref)
    pi = logp.exp()
    assert abs(pi[0].item() - expected) < 2e-4
    lam = (REWARD + beta * ref.exp() / pi)                                                  # pi = beta pi_ref / (lambda - A)
    assert (lam - lam.mean()).abs().max() < 1e-3
    tilted = sigmoid(logit(q0) + 1 / beta)
    assert abs(pi[0].item() - tilted) > 0.05                                                # and not the tilted policy of P1


def test_p3_gradient_of_k3_is_that_of_the_forward_kl():
    theta = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64), 0)
    logp = torch.log_softmax(theta, 0)
    as_loss, = torch.autograd.grad((logp.detach().exp() * kl_estimate(logp, ref, "k3")).sum(), theta, retain_graph=True)
    forward, = torch.autograd.grad((ref.exp() * (ref - logp)).sum(), theta, retain_graph=True)
    reverse, = torch.autograd.grad((logp.exp() * (logp - ref)).sum(), theta)
    assert torch.allclose(as_loss, forward) and not torch.allclose(as_loss, reverse, atol=1e-3)


def test_p4_no_law_lowers_any_mass():
    for q0 in (1e-9, 0.01, 0.5, 0.99):
        for beta in (0.1, 1.0, 10.0):
            assert sigmoid(logit(q0) + 1 / beta) > q0
