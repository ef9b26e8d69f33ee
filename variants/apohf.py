"""apohf.py: APOHF, a dueling bandit chooses what is asked (2405.17346). Inspired core.

The paper seeks an instruction by a person's preferences, without a gradient. Here a step draws from
two cells, GRPO learns from them, and the one of which more prompts had a contrast is preferred:

    first   x1 = argmax h(x)
    second  x2 = argmax over x != x1 of h(x) + sqrt(nu) * |x - x1| in the norm of V^-1
    h       theta . x, from the logistic loss of all preferences so far + lam |theta|^2 / 2
    V       lam I + sum of (x1 - x2)(x1 - x2)^T

Lost: the instructions (this policy reads none), the neural score and its gradients as features: a
cell x is its own axis, so nothing is carried from one to another. Information used: the outcome.
Checked against: the released code (arms, loss and penalty; its V keeps only the diagonal).
"""
import numpy as np

from cli import knob
from grpo import GRPO


def scores(wins, lam):
    """Scores [K] of arms from wins [K, K], how often one was preferred to another.

    >>> scores(np.array([[0., 3.], [1., 0.]]), lam=1.0).round(3)
    array([ 0.342, -0.342])
    """
    theta = np.zeros(len(wins))
    for _ in range(100):
        surprise = wins / (1 + np.exp(theta[:, None] - theta))    # wins, by the chance to lose
        gradient = surprise.sum(0) - surprise.sum(1) + lam * theta
        theta -= gradient / (lam + wins.sum() / 2)    # no longer a step than is safe
    return theta


def duel(h, wins, nu, lam):
    """(first, second) of arms with scores h [K], and wins [K, K] so far.

    >>> h, none = np.array([1.0, 0.0, 0.5]), np.zeros((3, 3))
    >>> duel(h[:2], none[:2, :2], nu=1.0, lam=1.0), duel(h, none, nu=0.0, lam=1.0)
    ((0, 1), (0, 2))
    """
    first, K = int(np.argmax(h)), len(h)
    met = wins + wins.T
    V = lam * np.eye(K) + np.diag(met.sum(1)) - met
    apart = np.eye(K) - np.eye(K)[first]
    width = np.sqrt(np.einsum("ij,jk,ik->i", apart, np.linalg.inv(V), apart))
    bound = np.where(np.arange(K) == first, -np.inf, h + np.sqrt(nu) * width)
    return first, int(np.argmax(bound))


class APOHF(GRPO):
    """A dueling bandit chooses the cells to draw from."""
    paper = "2405.17346"

    cells = None
    nu = knob(1.0, "weight of what is uncertain about a cell", low=0)
    lam = knob(1.0, "penalty on the scores", above=0)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.arms = list(dict.fromkeys(self.tasks))
        self.wins = np.zeros((len(self.arms), len(self.arms)))

    def experience(self, n):
        i, j = duel(scores(self.wins, self.lam), self.wins, self.nu, self.lam)
        self.tasks = [self.arms[i], self.arms[j]]
        groups = super().experience(n)
        contrast = {(g.task, g.cell): 1 - self.zero_variance(g).float().mean() for g in groups}
        first, second = (float(contrast.get(cell, 0)) for cell in self.tasks)
        won = (1 + np.sign(first - second)) / 2
        self.wins[i, j] += won
        self.wins[j, i] += 1 - won
        return groups

    def state(self):
        return {**super().state(), "wins": self.wins.tolist()}

    def load_state(self, state):
        super().load_state(state)
        self.wins = np.array(state["wins"])
