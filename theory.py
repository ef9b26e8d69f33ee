"""theory.py: where GRPO stops, in closed form. The laws, as functions of exact masses.

Notation: Q0 the base's mass of right answers on a prompt, Q* after training, r the reward (1 if
right, else 0), beta the strength of the KL towards the base. Each law is that of a policy free to
put any probability on any string. Tests hold this repository's own losses to them, and the study
holds the trained transformer to them.

    P1   tilted        reverse KL (k1 in the reward): logit Q* = logit Q0 + 1 / beta
    P2   std_step      the same with the std-normalised advantage: a map, and its fixed points
    P3   hyperbolic    k3 used as a loss: the stationary point of the forward KL
    P10  tilted_steps  the tilted policy, step by step along a right chain

Under P1 to P3 alike Q* >= Q0 on every prompt, so pass@k never falls (P4). Sources: 2510.15990 (P1),
2503.06639 (P2); P3 and P10 are derived here. Nothing in this file knows of a model.
"""
import math

import numpy as np


def logit(log_mass):
    """log(Q / (1 - Q)) from log Q [n], kept finite."""
    log_mass = np.clip(log_mass, -700, -1e-12)
    return log_mass - np.log(-np.expm1(log_mass))


def tilted(log_mass, beta):
    """P1: Q* [n] from log Q0 [n]. pi*(y|x) = pi0(y|x) exp(r / beta) / Z, so the logit moves by
    1 / beta. beta 0 is no KL at all: Q* = 1.

    The gain is an inverted U in Q0, at most tanh(1 / (4 beta)), at Q0 = 1 / (1 + e^(1 / (2 beta))).

    >>> [round(float(tilted(np.log(q), b)), 4) for b, q in ((0.3, 0.05), (1, 0.05), (0.3, 0.3))]
    [0.596, 0.1252, 0.9232]
    """
    return np.exp(-np.logaddexp(0, -logit(log_mass) - 1 / beta)) if beta else np.ones_like(log_mass)


def std_step(p, p_ref, beta, eps=1e-4):
    """P2: the pass rate after one full optimisation from p, with p's own advantage
    (r - p) / sqrt(p (1 - p) + eps) held fixed.

    Fixed points lie above p_ref; convergence is not guaranteed. Gradient descent in small steps
    shares the fixed points, but cannot cycle.

    >>> p = 0.1
    >>> for _ in range(50): p = std_step(p, 0.1, beta=1)
    >>> round(p, 5), round(std_step(0.6032, 0.001, beta=3), 4)
    (0.45296, 0.002)
    """
    shift = 1 / (beta * math.sqrt(p * (1 - p) + eps))
    return 1 / (1 + (1 - p_ref) / p_ref * math.exp(-shift))


def hyperbolic(log_mass, beta):
    """P3: Q* [n] from log Q0 [n] with k3 as a loss: pi = beta pi0 / (lambda - A), where lambda
    makes pi sum to 1.

    >>> [round(float(hyperbolic(np.log(q), b)), 4) for b, q in ((0.3, 0.05), (1, 0.05), (0.3, 0.3))]
    [0.7208, 0.2236, 0.811]
    """
    return (1 - beta + np.sqrt((1 - beta) ** 2 + 4 * beta * np.exp(log_mass))) / 2


def tilted_steps(steps, beta):
    """P10: the tilted policy's log-probability [n, depth] of each right step, from the base's.

    pi*(step t) = pi0(step t) (1 + c V(after t)) / (1 + c V(before t)) on a right prefix, with
    c = e^(1 / beta) - 1 and V the base's probability of still ending right: the product of the
    steps that are left. On a wrong prefix V is 0, and pi* = pi0.

    >>> steps = np.log([[0.8, 0.5]])
    >>> q, tilted = np.exp(steps.sum()), np.exp(tilted_steps(steps, beta=1.0).sum())
    >>> bool(np.isclose(np.log(tilted / (1 - tilted)), np.log(q / (1 - q)) + 1))
    True
    """
    before = steps[:, ::-1].cumsum(1)[:, ::-1]                       # log V before each step
    after = np.hstack([before[:, 1:], np.zeros((len(steps), 1))])
    c = math.expm1(1 / beta)
    return steps + np.log1p(c * np.exp(after)) - np.log1p(c * np.exp(before))


def shifted(log_mass, target):
    """Masses [n] after the one uniform logit shift that brings their mean to target (bisection):
    what any policy that moves all prompts alike would do."""
    logits, low, high = logit(log_mass), -800.0, 800.0
    for _ in range(60):
        shift = (low + high) / 2
        moved = np.exp(-np.logaddexp(0, -logits - shift))
        if moved.mean() < target:
            low = shift
        else:
            high = shift
    return moved
