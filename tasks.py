"""tasks.py: the problems. One vocabulary, two task families, four axes of difficulty, and a verifier.

Both families have one shape: *a state, a word of operations, write every intermediate state*.

    arithmetic   <bos> 3141 [+1][rev][x3] =              4252 ; 2524 ; 6562 <eos>
                 The state is L digits, an operation is a bijection on Z_10^L. The rules live in the weights.

    graph        <bos> ; c f ; a k ; f m = >> c =        ; c f ; f m <eos>
                 The prompt lists E edges of a random cycle through 16 nodes; each `>` is one hop, and the solution
                 quotes each edge that it uses. The rules live in the context.

Two facts about these problems carry the whole repository:

1. Every batch is one `Cell` (depth, length, alphabet, words), so all its prompts have one length and all its solutions
   have one length: no padding in front, no attention mask.
2. Every prompt has exactly one accepted solution string, so a model's probability of being right is a product of
   next-token probabilities: one forward pass, no sampling (see `evaluate.log_mass`).

The verifier (`verify`) recomputes the solution from the prompt tokens alone: it never sees the generator's answer, and
evaluates no code.

Departures from the reference paper (arXiv 2510.15990): its axes are the same four (reasoning depth, input length, token
representation, compositionality), its problems are not; these are small enough for a laptop and exact enough for proofs.

>>> rng = np.random.default_rng(0)
>>> prompts, solutions = TASKS["arithmetic"].sample(Cell(depth=2, length=4), 1, rng)
>>> prompts.shape, solutions.shape
((1, 8), (1, 10))
>>> TASKS["arithmetic"].verify(prompts, solutions).trace
array([ True])
"""
import itertools
import math
import random
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# ---------------------------------------------------------------------------------------------------------- vocabulary

DIGITS, SHADOW_DIGITS = list("0123456789"), list("⓪①②③④⑤⑥⑦⑧⑨")
NODES, SHADOW_NODES = list("abcdefghijklmnop"), list("ABCDEFGHIJKLMNOP")

# Eight bijections on strings of digits. Each takes and returns integers [n, L] in 0..9.
OPERATIONS = {
    "[+1]": lambda x: (x + 1) % 10,
    "[+3]": lambda x: (x + 3) % 10,
    "[x3]": lambda x: (x * 3) % 10,
    "[neg]": lambda x: -x % 10,
    "[rot]": lambda x: np.roll(x, -1, axis=1),                # rotate left: 3141 -> 1413
    "[rev]": lambda x: x[:, ::-1],                            # reverse: 3141 -> 1413
    "[swap]": lambda x: x[:, [1, 0, *range(2, x.shape[1])]],  # swap the first two: 3141 -> 1341
    "[sum]": lambda x: x.cumsum(axis=1) % 10,                 # prefix sum: 3141 -> 3489
}

VOCAB = ["<pad>", "<bos>", "<eos>", "=", ";", ">", *DIGITS, *SHADOW_DIGITS, *NODES, *SHADOW_NODES, *OPERATIONS]
ID = {token: i for i, token in enumerate(VOCAB)}
PAD, BOS, EOS = ID["<pad>"], ID["<bos>"], ID["<eos>"]
EQUALS, SEP, HOP = ID["="], ID[";"], ID[">"]
DIGIT0, SHADOW_DIGIT0, NODE0, SHADOW_NODE0, OP0 = ID["0"], ID["⓪"], ID["a"], ID["A"], ID["[+1]"]
N_NODES, N_OPS = len(NODES), len(OPERATIONS)

# What kind of symbol a token is: itself, or one of the digits, the shadow digits, the nodes (of either alphabet).
KIND = np.arange(len(VOCAB))
KIND[DIGIT0:DIGIT0 + 10], KIND[SHADOW_DIGIT0:SHADOW_DIGIT0 + 10], KIND[NODE0:OP0] = DIGIT0, SHADOW_DIGIT0, NODE0

_TOKEN = re.compile("|".join(re.escape(t) for t in sorted(VOCAB, key=len, reverse=True)) + r"|\s+|.", re.S)
_GLUED = [set(DIGITS + SHADOW_DIGITS), set(OPERATIONS), {">"}]  # neighbours of one kind are written without a space


def encode(text):
    """Token ids (list of int) of `text`; white space between tokens is optional. ValueError names a foreign symbol.

    >>> encode("31 [+1] = 42 <eos>")
    [9, 7, 58, 3, 10, 8, 2]
    """
    tokens = [t for t in _TOKEN.findall(text) if not t.isspace()]
    for token in tokens:
        if token not in ID:
            raise ValueError(f"{token!r} is not in the vocabulary, which is: {' '.join(VOCAB)}")
    return [ID[token] for token in tokens]


def decode(ids):
    """Readable text of token ids [T] (any sequence of integers); `encode(decode(ids)) == list(ids)`.

    >>> decode([9, 7, 58, 58, 3, 10, 8, 2])
    '31 [+1][+1] = 42 <eos>'
    """
    tokens = [VOCAB[int(i)] for i in ids]
    glued = (any(a in kind and b in kind for kind in _GLUED) for a, b in itertools.pairwise(tokens))
    return "".join(tokens[:1]) + "".join(t if g else " " + t for t, g in zip(tokens[1:], glued))


# ------------------------------------------------------------------------------------------------ the shapes of problems

class Cell(NamedTuple):
    """What all problems of one batch have in common.

    depth     number of operations (arithmetic) or hops (graph)
    length    number of digits L (arithmetic) or of listed edges E (graph)
    alphabet  "seen" symbols, their "shadow" twins, or both "mixed" in one problem
    words     "any" word of operations; "seen": every adjacent ordered pair is one that the composition axis trains on;
              "held": at least one pair is held out
    """
    depth: int
    length: int
    alphabet: str = "seen"
    words: str = "any"

    def __str__(self):
        parts = [f"d{self.depth}", f"l{self.length}"]
        parts += [self.alphabet] if self.alphabet != "seen" else []
        parts += [self.words] if self.words != "any" else []
        return " ".join(parts)


class Problems(NamedTuple):
    """prompts [n, P] and solutions [n, S], int64 tokens, of one cell."""
    prompts: np.ndarray
    solutions: np.ndarray


REWARDS = {
    "trace": "1 if the whole solution string is right",
    "answer": "1 if the last state is right and properly ended, however it was reached",
    "process": "fraction of leading steps that are right",
    "random": "a fair coin, whatever was written",
    "inverted": "1 if the trace is wrong",
    "format": "1 if it looks like a solution, right or wrong",
}


class Verdict(NamedTuple):
    """What the verifier says of n completions.

    trace        [n] bool   the whole solution string is right, ends in <eos>, and only <pad> follows
    answer       [n] bool   the last state before <eos> is right, whatever stands before it; only <pad> follows
    process      [n] float  fraction of leading steps that are right; a step includes the symbol that closes it
                            (`;` or <eos>), so process == 1 exactly where trace holds
    well_formed  [n] bool   the right number of steps of the right shape and alphabet, ended by <eos>, right or wrong
    """
    trace: np.ndarray
    answer: np.ndarray
    process: np.ndarray
    well_formed: np.ndarray

    def reward(self, kind, rng):
        """[n] float: what a `--reward` of that kind (see REWARDS) gives each completion."""
        if kind == "random":
            return (rng.random(len(self.trace)) < 0.5).astype(float)
        if kind == "inverted":
            return 1.0 - self.trace
        if kind == "format":
            return self.well_formed.astype(float)
        return getattr(self, kind).astype(float)


def reserved(prompts):
    """[n] bool: True for the eighth of all prompts [n, P] that are kept for evaluation; training never draws one.

    Membership is a hash of the tokens, so it needs no list, no seed and no coordination between scripts.
    """
    h = np.zeros(len(prompts), dtype=np.uint64)
    for column in prompts.T.astype(np.uint64):  # FNV-1a over the columns; uint64 arithmetic wraps
        h = (h ^ column) * np.uint64(0x100000001B3)
        h ^= h >> np.uint64(29)
    return (h >> np.uint64(13)) % np.uint64(8) == 0


class Task:
    """What the two families share: sampling with reserved prompts, and the verifier's comparison."""

    ENUMERATED_BELOW = 10_000  # cells with fewer problems are too small to reserve from: training may see all of them

    def enumerated(self, cell):
        """True if the cell is so small that its evaluation prompts are not kept from training."""
        return self.size(cell) < self.ENUMERATED_BELOW

    def sample(self, cell, n, rng, noise=0.0, split="all"):
        """n problems of one cell.

        noise  probability that a written step of the demonstration is corrupted (one symbol replaced by a random one
               of its alphabet); the error then propagates. The clean solution at 0. Prompts do not depend on it.
        split  "train" draws no reserved prompt, "eval" only reserved ones, "all" does not care.
               An enumerated cell has no reserved prompts: "eval" then draws without replacement where n allows.
        Returns Problems(prompts [n, P], solutions [n, S]). Raises ValueError for an impossible cell.
        """
        self.check(cell)
        prompts = self.prompts(cell, n, rng)
        if split == "eval" and self.enumerated(cell) and n <= self.size(cell):
            prompts = self.prompts_at(cell, rng.permutation(self.size(cell))[:n])
        elif split != "all" and not self.enumerated(cell):
            while (wrong := reserved(prompts) != (split == "eval")).any():
                prompts[wrong] = self.prompts(cell, int(wrong.sum()), rng)
        return Problems(prompts, self.solutions(prompts, noise, rng))

    def verify(self, prompts, completions):
        """Judge completions [n, N] of prompts [n, P] (integer arrays or CPU tensors): a `Verdict`.

        A completion shorter than the solution is wrong. After the first <eos> only <pad> is accepted.
        """
        prompts, completions = np.asarray(prompts), np.asarray(completions)
        solutions = self.solutions(prompts)
        step_ends, window, answer = self.layout(prompts)
        (n, S), N = solutions.shape, completions.shape[1]
        width = max(N, S + 1)  # one column more than the solution, so that junk after it shows
        written, gold = np.full((n, width), PAD), np.full((n, width), PAD)
        written[:, :N], gold[:, :S] = completions, solutions

        is_eos = written == EOS
        end = np.where(is_eos.any(1), is_eos.argmax(1), width)  # column of the first <eos>
        ended = is_eos.any(1) & ((written == PAD) | (np.arange(width) <= end[:, None])).all(1)

        leading = (written == gold).cumprod(1).sum(1)            # how many tokens are right before the first wrong one
        leading = np.where((leading >= S) & ~ended, S - 1, leading)
        process = (leading[:, None] >= step_ends).sum(1) / len(step_ends)
        well_formed = ended & (end == S - 1) & (KIND[written[:, :S]] == KIND[solutions]).all(1)

        # The answer: the window from the last `;` to <eos> has the right kinds of symbols, and the right answer in it.
        # A `;` in front of both strings stands for the start of a completion, which opens a state as `;` does.
        opening = np.full((n, 1), SEP)
        last = (end[:, None] + 1 + np.arange(1 - window, 1)).clip(0, width)
        last = np.take_along_axis(np.hstack([opening, written]), last, axis=1)
        right = np.hstack([opening, solutions])[:, -window:]
        answer = ended & (KIND[last] == KIND[right]).all(1) & (last == right)[:, -answer - 1:].all(1)
        return Verdict((written == gold).all(1), answer, process, well_formed)


# ------------------------------------------------------------------------------------------------------------ arithmetic

def apply_operation(op, state):
    """Apply operation number op[i] (0..7) to row i of state [n, L], integers in 0..9; returns a new [n, L]."""
    result = np.empty_like(state)
    for i, function in enumerate(OPERATIONS.values()):
        rows = op == i
        result[rows] = function(state[rows])
    return result


def word_function(word, length=4):
    """What a word (tuple of operation numbers) computes on digit strings of that length, as a hashable signature.

    All eight operations are affine over Z_10, so their values at zero and at the unit vectors tell words apart.
    """
    state = np.vstack([np.zeros((1, length), dtype=np.int64), np.eye(length, dtype=np.int64)])
    for op in word:
        state = apply_operation(np.full(length + 1, op), state)
    return state.tobytes()


@lru_cache(maxsize=None)
def pair_classes():
    """The 64 ordered pairs of operations grouped by the function they compute at L = 4: {signature: [pairs]}."""
    classes = {}
    for pair in itertools.product(range(N_OPS), repeat=2):
        classes.setdefault(word_function(pair), []).append(pair)
    return classes


@lru_cache(maxsize=None)
def held_pairs():
    """[8, 8] bool: True where the ordered pair (first, second) is held out by the composition axis.

    Whole function classes are held out, or a "held-out" pair would be a seen function in disguise. Classes that are
    the identity or a single operation are always seen. Of the others 17 are held, drawn from a fixed seed until every
    operation keeps at least three seen partners in each slot.
    """
    known = {word_function(())} | {word_function((op,)) for op in range(N_OPS)}
    free = [pairs for signature, pairs in pair_classes().items() if signature not in known]
    for seed in itertools.count():
        held = np.zeros((N_OPS, N_OPS), dtype=bool)
        for pair in itertools.chain.from_iterable(random.Random(seed).sample(free, 17)):
            held[pair] = True
        if (~held).sum(0).min() >= 3 and (~held).sum(1).min() >= 3:
            return held


@lru_cache(maxsize=None)
def word_table(depth, words):
    """[n, depth] int64: every word of that depth with no held-out pair ("seen") or at least one ("held")."""
    table = np.array(list(itertools.product(range(N_OPS), repeat=depth)))
    has_held = held_pairs()[table[:, :-1], table[:, 1:]].any(1)
    return table[has_held == (words == "held")]


def disguised_share(depth):
    """Share of held words of that depth whose function some seen word of up to depth 3 also computes."""
    seen = {word_function(w) for d in (1, 2, 3) for w in word_table(d, "seen")}
    return float(np.mean([word_function(w) in seen for w in word_table(depth, "held")]))


class Arithmetic(Task):
    """Chains of bijections on strings of L digits, every intermediate state written out."""
    name, key = "arithmetic", 0

    def check(self, cell):
        if not (1 <= cell.depth <= 6 and 2 <= cell.length <= 7 and cell.alphabet in ("seen", "shadow", "mixed")
                and (cell.words in ("any", "seen") or cell.words == "held" and cell.depth >= 2)):
            raise ValueError(f"impossible arithmetic cell {cell!r}: depth 1-6, length 2-7, alphabet seen|shadow|mixed, "
                             "words any|seen, or held from depth 2")

    def prompt_len(self, cell):
        return cell.length + cell.depth + 2

    def solution_len(self, cell):
        return cell.depth * (cell.length + 1)

    def _words(self, cell):
        return N_OPS ** cell.depth if cell.words == "any" else len(word_table(cell.depth, cell.words))

    def _masks(self, cell):  # in a mixed problem every position has its own alphabet, and both occur
        return 2 ** cell.length - 2 if cell.alphabet == "mixed" else 1

    def size(self, cell):
        """Number of distinct problems in the cell."""
        return 10 ** cell.length * self._words(cell) * self._masks(cell)

    def prompts_at(self, cell, index):
        """Prompts [n, P] number index [n] of the cell, 0 <= index < size(cell): a problem is a number."""
        index, digits = np.divmod(index, 10 ** cell.length)
        mask, word = np.divmod(index, self._words(cell))
        state = digits[:, None] // 10 ** np.arange(cell.length) % 10
        if cell.alphabet == "mixed":
            shadow = (mask[:, None] + 1) >> np.arange(cell.length) & 1
        else:
            shadow = np.full_like(state, cell.alphabet == "shadow")
        if cell.words == "any":
            ops = word[:, None] // N_OPS ** np.arange(cell.depth) % N_OPS
        else:
            ops = word_table(cell.depth, cell.words)[word]
        edge = np.ones((len(index), 1), dtype=np.int64)
        return np.hstack([BOS * edge, state + np.where(shadow, SHADOW_DIGIT0, DIGIT0), ops + OP0, EQUALS * edge])

    def prompts(self, cell, n, rng):
        return self.prompts_at(cell, rng.integers(self.size(cell), size=n))

    def parse(self, prompts):
        """(digits [n, L], first symbol of each position's alphabet [n, L], operations [n, d]) of prompts [n, P]."""
        d = int((prompts[0] >= OP0).sum())
        L = prompts.shape[1] - d - 2
        symbols, ops = prompts[:, 1:1 + L], prompts[:, 1 + L:-1] - OP0
        if not (L >= 2 and d >= 1 and (prompts[:, 0] == BOS).all() and (prompts[:, -1] == EQUALS).all()
                and (ops >= 0).all() and ((symbols >= DIGIT0) & (symbols < NODE0)).all()):
            raise ValueError("not arithmetic prompts of one cell: <bos>, L >= 2 digits, d >= 1 operations, =")
        zero = np.where(symbols >= SHADOW_DIGIT0, SHADOW_DIGIT0, DIGIT0)
        return symbols - zero, zero, ops

    def solutions(self, prompts, noise=0.0, rng=None):
        """The solution [n, S] that the prompts call for, or with noise a demonstration with propagating errors."""
        state, zero, ops = self.parse(prompts)
        (n, L), d = state.shape, ops.shape[1]
        steps = np.empty((n, d, L + 1), dtype=np.int64)
        for t in range(d):
            state = apply_operation(ops[:, t], state)
            if noise:
                rows = np.flatnonzero(rng.random(n) < noise)
                state[rows, rng.integers(L, size=len(rows))] = rng.integers(10, size=len(rows))
            steps[:, t, :L] = state + zero
        steps[:, :, L] = SEP
        steps[:, -1, L] = EOS
        return steps.reshape(n, d * (L + 1))

    def wrong_chains(self, prompts, rng):
        """[n, S]: chains whose first state has one wrong digit and whose every later step follows correctly from the one before.

        What a model that checks nothing would go on to write after an error; depth 2 or more.
        """
        state, zero, ops = self.parse(prompts)
        rows, L = np.arange(len(state)), state.shape[1]
        first = apply_operation(ops[:, 0], state)
        column = rng.integers(L, size=len(rows))
        first[rows, column] = (first[rows, column] + rng.integers(1, 10, size=len(rows))) % 10
        rest = np.hstack([prompts[:, :1], first + zero, prompts[:, 2 + L:]])   # the problem that is left from there
        return np.hstack([first + zero, np.full((len(rows), 1), SEP), self.solutions(rest)])

    def matches(self, prompts, cell):
        """[n] bool: which of the prompts [n, P] belong to the cell (used to prove what training drew)."""
        try:
            state, zero, ops = self.parse(prompts)
        except ValueError:  # not this family's, or copy problems
            return np.zeros(len(prompts), dtype=bool)
        n_shadow = (zero == SHADOW_DIGIT0).sum(1)
        alphabet = {"seen": n_shadow == 0, "shadow": n_shadow == state.shape[1],
                    "mixed": (n_shadow > 0) & (n_shadow < state.shape[1])}[cell.alphabet]
        has_held = held_pairs()[ops[:, :-1], ops[:, 1:]].any(1)
        words = {"any": True, "seen": ~has_held, "held": has_held}[cell.words]
        return alphabet & words & (state.shape[1] == cell.length) & (ops.shape[1] == cell.depth)

    def layout(self, prompts):
        """(columns after each step [d], width of the window `; 1234 <eos>`, width of the answer in it)."""
        d = int((prompts[0] >= OP0).sum())
        L = prompts.shape[1] - d - 2
        return np.arange(1, d + 1) * (L + 1), L + 2, L


# ----------------------------------------------------------------------------------------------------------------- graph

class Graph(Task):
    """Walks along listed edges of a random cycle through 16 nodes, every edge quoted."""
    name, key = "graph", 1

    def check(self, cell):
        if not (1 <= cell.depth <= cell.length <= N_NODES and cell.alphabet in ("seen", "shadow", "mixed")
                and cell.words == "any"):
            raise ValueError(f"impossible graph cell {cell!r}: 1 <= depth <= length <= {N_NODES} listed edges, "
                             "alphabet seen|shadow|mixed, words any")

    def prompt_len(self, cell):
        return 3 * cell.length + cell.depth + 4

    def solution_len(self, cell):
        return 3 * cell.depth + 1

    def size(self, cell):
        """Number of distinct problems in the cell (one alphabet mask counted)."""
        return (math.factorial(N_NODES) * math.comb(N_NODES - cell.depth, cell.length - cell.depth)
                * math.factorial(cell.length))

    def prompts(self, cell, n, rng):
        E, d = cell.length, cell.depth
        cycle = rng.random((n, N_NODES)).argsort(1)  # a random 16-cycle: cycle[i] -> cycle[i + 1]; the walk starts at cycle[0]
        shadow = np.full((n, N_NODES), cell.alphabet == "shadow")
        if cell.alphabet == "mixed":  # each node has one alphabet; the walk's first edge joins the two
            shadow = rng.random((n, N_NODES)) < 0.5
            shadow[:, 1] = ~shadow[:, 0]
        nodes = cycle + np.where(shadow, SHADOW_NODE0, NODE0)
        others = d + rng.random((n, N_NODES - d)).argsort(1)[:, :E - d]  # edges beside the d that the walk needs
        sources = rng.permuted(np.hstack([np.broadcast_to(np.arange(d), (n, d)), others]), axis=1)
        prompts = np.empty((n, self.prompt_len(cell)), dtype=np.int64)
        prompts[:, 0], prompts[:, 1:1 + 3 * E:3] = BOS, SEP
        prompts[:, 2:2 + 3 * E:3] = np.take_along_axis(nodes, sources, axis=1)
        prompts[:, 3:3 + 3 * E:3] = np.take_along_axis(nodes, (sources + 1) % N_NODES, axis=1)
        prompts[:, 1 + 3 * E], prompts[:, 2 + 3 * E:-2], prompts[:, -2], prompts[:, -1] = EQUALS, HOP, nodes[:, 0], EQUALS
        return prompts

    def parse(self, prompts):
        """(sources [n, E], destinations [n, E], start [n], d) of prompts [n, P], all in tokens."""
        E, d = int((prompts[0] == SEP).sum()), int((prompts[0] == HOP).sum())
        edges = prompts[:, 1:1 + 3 * E].reshape(len(prompts), E, -1) if prompts.shape[1] == 3 * E + d + 4 and E and d else None
        nodes = None if edges is None else np.hstack([edges[:, :, 1], edges[:, :, 2], prompts[:, -2:-1]])
        if not (edges is not None and (prompts[:, 0] == BOS).all() and (edges[:, :, 0] == SEP).all()
                and (prompts[:, [1 + 3 * E, -1]] == EQUALS).all() and (prompts[:, 2 + 3 * E:-2] == HOP).all()
                and ((nodes >= NODE0) & (nodes < OP0)).all()):
            raise ValueError("not graph prompts of one cell: <bos>, E x `; u v`, =, d x `>`, the start, =")
        return edges[:, :, 1], edges[:, :, 2], prompts[:, -2], d

    def solutions(self, prompts, noise=0.0, rng=None):
        """The solution [n, S]: `; s v1 ; v1 v2 ... <eos>`. With noise, a demonstration with wrong destinations.

        A walk can only leave the listed edges after an error: the demonstration then goes to a random node, and
        without noise (a prompt typed by hand) there is no solution, which is written as -1 and matches nothing.
        """
        sources, targets, node, d = self.parse(prompts)
        n, rows = len(prompts), np.arange(len(prompts))
        successor = np.full((n, len(VOCAB)), -1)
        successor[rows[:, None], sources] = targets
        if noise:  # the symbol of each of the 16 nodes in this problem; one that the prompt does not show is taken as its neighbours are
            symbol = np.where((sources[:, :1] >= SHADOW_NODE0), SHADOW_NODE0, NODE0) + np.arange(N_NODES)
            for shown in (sources, targets):
                symbol[rows[:, None], (shown - NODE0) % N_NODES] = shown
        steps = np.empty((n, d, 3), dtype=np.int64)
        steps[:, :, 0] = SEP
        for t in range(d):
            steps[:, t, 1] = node
            following = np.where(node >= 0, successor[rows, node], -1)
            if noise:
                astray = (rng.random(n) < noise) | (following < 0)
                following = np.where(astray, symbol[rows, rng.integers(N_NODES, size=n)], following)
            steps[:, t, 2] = node = following
        return np.hstack([steps.reshape(n, 3 * d), np.full((n, 1), EOS)])

    def matches(self, prompts, cell):
        """[n] bool: which of the prompts [n, P] belong to the cell (used to prove what training drew)."""
        try:
            sources, targets, _, d = self.parse(prompts)
        except ValueError:  # not this family's, or copy problems
            return np.zeros(len(prompts), dtype=bool)
        n_shadow = (np.hstack([sources, targets]) >= SHADOW_NODE0).sum(1)
        E = sources.shape[1]
        alphabet = {"seen": n_shadow == 0, "shadow": n_shadow == 2 * E,
                    "mixed": (n_shadow > 0) & (n_shadow < 2 * E)}[cell.alphabet]
        return alphabet & (E == cell.length) & (d == cell.depth)

    def layout(self, prompts):
        """(columns after each step [d], width of the window `; u v <eos>`, width of the answer v in it)."""
        ends = 3 * np.arange(1, int((prompts[0] == HOP).sum()) + 1)
        ends[-1] += 1  # <eos> closes the last step
        return ends, 4, 1


TASKS = {"arithmetic": Arithmetic(), "graph": Graph()}


# ----------------------------------------------------------------------------------------------------------------- axes

def _cells(depths, lengths, alphabet="seen", words="any"):
    return [Cell(d, l, alphabet, words) for l in lengths for d in depths]


# On each axis one thing changes from id (pretrained on) to edge (just beyond; --overlap leaks some of it into
# pretraining) to hard (further out), and only that.
AXES = {
    "arithmetic": {
        "depth": {"id": _cells([1, 2, 3], [4]), "edge": _cells([4], [4]), "hard": _cells([5, 6], [4])},
        "length": {"id": _cells([1, 2, 3], [2, 3, 4]), "edge": _cells([1, 2, 3], [5]),
                   "hard": _cells([1, 2, 3], [6, 7])},
        "tokens": {"id": _cells([1, 2, 3], [4]), "edge": _cells([2, 3], [4], "shadow"),
                   "hard": _cells([2, 3], [4], "mixed")},
        "composition": {"id": _cells([1, 2, 3], [4], words="seen"), "edge": _cells([2], [4], words="held"),
                        "hard": _cells([3], [4], words="held")},
    },
    "graph": {
        "depth": {"id": _cells([1, 2, 3], [8]), "edge": _cells([4], [8]), "hard": _cells([5, 6], [8])},
        "length": {"id": _cells([1, 2, 3], [6, 7, 8]), "edge": _cells([1, 2, 3], [10]),
                   "hard": _cells([1, 2, 3], [12, 14, 16])},
        "tokens": {"id": _cells([1, 2, 3], [8]), "edge": _cells([2, 3], [8], "shadow"),
                   "hard": _cells([2, 3], [8], "mixed")},
    },
}
SPLITS = ("id", "edge", "hard")


def families(task):
    """The task names that a --task stands for: one, or for "both" arithmetic and graph."""
    return ["arithmetic", "graph"] if task == "both" else [task]


def cell_key(task, cell):
    """List of int that seeds what is drawn of a cell: another one for every task and cell."""
    return [TASKS[task].key, cell.depth, cell.length, *f"{cell.alphabet} {cell.words}".encode()]


def copy_problems(n, length, rng, alphabet0):
    """Problems that show shadow symbols and nothing about them: `<bos> ③①④① =` is answered by `③①④① <eos>`.

    alphabet0 is the first token of the alphabet (SHADOW_DIGIT0 or SHADOW_NODE0). Returns Problems.
    """
    symbols = alphabet0 + rng.integers(10 if alphabet0 == SHADOW_DIGIT0 else N_NODES, size=(n, length))
    edge = np.ones((n, 1), dtype=np.int64)
    return Problems(np.hstack([BOS * edge, symbols, EQUALS * edge]), np.hstack([symbols, EOS * edge]))
