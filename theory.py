"""theory.py: where GRPO stops, in closed form. The laws, as functions of exact masses.

Notation: Q0 the base's mass of right answers on a prompt, Q* after training, r the reward (1 if
right, else 0), beta the strength of the KL towards the base. Tests hold this repository's own
losses to these laws, and the study holds the trained transformer to them. P1 to P10 are those of a
policy free to put any probability on any string, P11 that of one that cannot tell right from wrong.

    P1   tilted        reverse KL (k1 in the reward): logit Q* = logit Q0 + 1 / beta
    P2   std_step      the same with the std-normalised advantage: a map, and its fixed points
    P3   hyperbolic    k3 used as a loss: the stationary point of the forward KL
    P10  tilted_steps  the tilted policy, step by step along a right chain
    P11  blind         one shift for every decision, on right and wrong beginnings alike: a critical
                       mass, and two stable states (blind_window, critical_mass); blind_shifts,
                       blind_betas: the same for a base's own probabilities

Under P1 to P3 alike Q* >= Q0 on every prompt, so pass@k never falls (P4). Sources: 2510.15990 (P1),
2503.06639 (P2); P3, P10 and P11 are derived here. Nothing in this file knows of a model.
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


def bisect(rising, low, high):
    """Where a function that rises from below 0 to above it is 0, between low and high."""
    for _ in range(100):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return middle


def shifted(log_mass, target):
    """Masses [n] after the one uniform logit shift that brings their mean to target: what any
    policy that moves all prompts alike would do."""
    def moved(shift):
        return np.exp(-np.logaddexp(0, -logit(log_mass) - shift))
    return moved(bisect(lambda shift: moved(shift).mean() - target, -800.0, 800.0))


# ----------------------------------------------------------------------------- P11, the blind law
# A policy that cannot tell right beginnings from wrong ones has one chance p_t of each decision t,
# Q = prod p_t, and pays its KL at every decision. Maximising Q - beta sum_t kl(p_t || p0_t):
#
#     logit p_t = logit p0_t + Q / (beta p_t)       for n decisions; one decision is P1
#     log Q = log Q0 exp(-Q / beta)                 for many, however the mass is spread over them
#
# Read backwards, from Q to the one Q0 that ends there, it needs no solving. A state is stable where
# that Q0 rises with Q; between the two turning points, if there are any, it falls.

def blind_start(q, beta, n=math.inf):
    """log Q0 of the base, of n equal decisions, for which mass 0 < q < 1 is a stationary state."""
    if n == math.inf:
        return math.log(q) * math.exp(q / beta)
    p = q ** (1 / n)
    return -n * float(np.logaddexp(0, p ** (n - 1) / beta - logit(math.log(p))))


def turning_points(beta, n=math.inf):
    """The two masses q between which no state is stable; None if every one is, which is so from
    beta = (1 - 1/n)^n on. For many decisions they are the roots of q log(1/q) = beta."""
    def hill(q):
        if n == math.inf:
            return -q * math.log(q)
        return (1 - n) * q ** (1 - 1 / n) * math.expm1(math.log(q) / n)

    peak = (1 - 1 / n) ** n if n < math.inf else 1 / math.e   # how high it is, and at which q
    if beta >= peak:
        return None
    return (bisect(lambda q: hill(q) - beta, 0.0, peak),
            bisect(lambda q: beta - hill(q), peak, 1.0))


def blind_window(beta, n=math.inf):
    """(lowest, highest) Q0 of a base with two stable states, or None. Above the highest, training
    takes off; below the lowest, it comes back down from wherever it starts.

    >>> [f"{x:.2g}" for beta in (0.3, 0.25, 0.2) for x in blind_window(beta)]
    ['0.023', '0.044', '0.0028', '0.033', '4.6e-06', '0.023']
    >>> [f"{x:.3g}" for beta in (0.3, 0.2) for x in blind_window(beta, n=12)]
    ['0.027', '0.0403', '0.000115', '0.0203']
    """
    turns = turning_points(beta, n)
    return turns and tuple(math.exp(blind_start(q, beta, n)) for q in reversed(turns))


def critical_mass(beta, n=math.inf):
    """The Q0 that a base must exceed for training with this KL to take off, however many samples
    it is given; 0.0 if there is no jump.

    >>> [f"{critical_mass(beta):.2g}" for beta in (0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01)]
    ['0.044', '0.023', '0.015', '0.0088', '0.0036', '0.0012', '0.00052']
    """
    return blind_window(beta, n)[1] if turning_points(beta, n) else 0.0


def blind(log_mass, beta, n=math.inf):
    """P11: the stable Q*, one or two, the lower first, from log Q0, for n equal decisions.

    >>> [round(q, 3) for q0 in (0.4, 0.05, 0.02) for q in blind(np.log(q0), 0.3)]
    [0.964, 0.826, 0.029]
    >>> [round(q, 3) for q in blind(np.log(0.03), 0.3)]         # from below, from above
    [0.053, 0.75]
    >>> [round(q, 3) for q0 in (0.4, 0.05, 0.02) for q in blind(np.log(q0), 0.3, n=12)]
    [0.963, 0.801, 0.031]
    """
    low, high = turning_points(beta, n) or (0.5, 0.5)
    found = []
    for first, last in ((0.0, low), (high, 1.0)):
        below = first == 0 or blind_start(first, beta, n) < log_mass
        above = last == 1 or blind_start(last, beta, n) >= log_mass
        if below and above:
            found.append(bisect(lambda q: blind_start(q, beta, n) - log_mass, first, last))
    return found


def moved(log_p, shift):
    """Log masses [n] after one shift of the logit of every decision, from log p0 [n, decisions]."""
    return -np.logaddexp(0, -logit(log_p) - shift).sum(1)


def blind_pull(log_p, shifts):
    """[len(shifts)]: beta x shift where that shift is stationary, at most 1: what reward there is
    to win for what KL, both per unit of shift. With p = sigmoid(logit p0 + s) and Q = prod_t p_t,

        J(s) = mean_x Q - beta mean_x sum_t kl(p || p0)
        J'(s) = mean_x Q sum_t (1 - p) - beta s mean_x sum_t p (1 - p)
    """
    logits, found = logit(log_p), []
    for s in shifts:
        right, wrong = (np.exp(-np.logaddexp(0, sign * (logits + s))) for sign in (-1, 1))
        found.append((right.prod(1) * wrong.sum(1)).sum() / (right * wrong).sum())
    return np.array(found)


def blind_shifts(log_p, beta, grid=500):
    """P11 for prompts that share their weights, so that one shift serves every decision: the stable
    shifts (local maxima of J), the lower first, from log p0 [n, decisions] of the right tokens. The
    masses there are `moved(log_p, shift)`.

    >>> even = np.full((1, 12), np.log(0.03) / 12)              # as blind(..., n=12) has it
    >>> [round(float(np.exp(moved(even, s))[0]), 3) for s in blind_shifts(even, 0.3)]
    [0.061, 0.68]
    >>> [round(q, 3) for q in blind(np.log(0.03), 0.3, n=12)]
    [0.061, 0.68]
    """
    at = np.linspace(0, 1 / beta, grid + 1)
    excess = blind_pull(log_p, at) - beta * at
    return [bisect(lambda s: beta * s - blind_pull(log_p, [s])[0], at[i], at[i + 1])
            for i in np.flatnonzero((excess[:-1] > 0) & (excess[1:] <= 0))]


def blind_betas(log_p, grid=600):
    """(lowest, highest) beta at which a base with log p0 [n, decisions] has two stable states, or
    None. Below the lowest it takes off from where it is; above the highest it comes down again.

    >>> even = np.full((1, 12), np.log(critical_mass(0.2, n=12)) / 12)
    >>> round(float(blind_betas(even)[0]), 3)
    0.2
    """
    shifts = np.geomspace(1e-3, 100, grid)
    beta = blind_pull(log_p, shifts) / shifts      # at which each shift is stationary
    rises = np.flatnonzero(np.diff(beta) > 0)      # there it is not stable
    return (beta[rises[0]], beta[rises[-1] + 1]) if len(rises) else None
