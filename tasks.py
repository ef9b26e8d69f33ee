"""tasks.py: the problems. One vocabulary, three task families, axes of difficulty, a verifier.

Two families have one shape: *a state, a word of operations, write every intermediate state*. In the
third there are several right answers.

    arithmetic   <bos> 3141 [+1][rev][x3] =              4252 ; 2524 ; 6562 <eos>
                 The state is L digits, an operation is a bijection on Z_10^L. The rules live in
                 the weights.

    graph        <bos> ; c f ; a k ; f m = >> c =        ; c f ; f m <eos>
                 The prompt lists E edges of a random cycle through 16 nodes; each `>` is one hop,
                 and the solution quotes each edge that it uses. The rules live in the context.

    route        <bos> ; b e ; c d ; a c ; b d ; a b = a d =        ; a b ; b d <eos>
                 The prompt lists the edges of a layered graph, a start and a goal; any path between
                 the two is right, here also `; a c ; c d <eos>`.

Two facts about these problems carry the whole repository:

1. Every batch is one `Cell` (depth, length, alphabet, words), so all its prompts have one length
   and all its solutions have one length: no padding in front, no attention mask.
2. Every prompt has exactly one accepted solution string, or in route a few, M, so a model's
   probability of being right is a product of next-token probabilities, or the sum of M such: one
   forward pass, no sampling (see `measure.log_mass`).

The verifier (`verify`) recomputes the solution from the prompt tokens alone: it never sees the
generator's answer, and evaluates no code.

A task family is one class in this file, a subclass of `Task`, and is registered nowhere else:
nothing outside knows how many there are. `python tasks.py` prints problems of every kind.

Departures from the reference paper (arXiv 2510.15990): its axes are the same four (reasoning depth,
input length, token representation, compositionality), its problems are not; these are small enough
for a laptop and exact enough for proofs.

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
import sys
import textwrap
import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# --------------------------------------------------------------------------------------- vocabulary

DIGITS, SHADOW_DIGITS = list("0123456789"), list("⓪①②③④⑤⑥⑦⑧⑨")
NODES, SHADOW_NODES = list("abcdefghijklmnop"), list("ABCDEFGHIJKLMNOP")
OPERATIONS = ["[+1]", "[+3]", "[x3]", "[neg]", "[rot]", "[rev]", "[swap]", "[sum]"]

VOCAB = ["<pad>", "<bos>", "<eos>", "=", ";", ">",
         *DIGITS, *SHADOW_DIGITS, *NODES, *SHADOW_NODES, *OPERATIONS]
ID = {token: i for i, token in enumerate(VOCAB)}
PAD, BOS, EOS = ID["<pad>"], ID["<bos>"], ID["<eos>"]
EQUALS, SEP, HOP = ID["="], ID[";"], ID[">"]
DIGIT0, SHADOW_DIGIT0, NODE0, SHADOW_NODE0 = ID["0"], ID["⓪"], ID["a"], ID["A"]
OP0 = ID["[+1]"]
N_NODES, N_OPS = len(NODES), len(OPERATIONS)

# What kind of symbol a token is: itself, or one of the digits, the shadow digits, the nodes (of
# either alphabet).
KIND = np.arange(len(VOCAB))
KIND[DIGIT0:DIGIT0 + 10] = DIGIT0
KIND[SHADOW_DIGIT0:SHADOW_DIGIT0 + 10] = SHADOW_DIGIT0
KIND[NODE0:OP0] = NODE0

_LONGEST_FIRST = sorted(VOCAB, key=len, reverse=True)
_TOKEN = re.compile("|".join(map(re.escape, _LONGEST_FIRST)) + r"|\[\S*?\]|\s+|.", re.S)
# Neighbours of one of these kinds are written without a space.
_GLUED = [set(DIGITS + SHADOW_DIGITS), set(OPERATIONS), {">"}]


def encode(text):
    """Token ids (list of int) of `text`; white space between tokens is optional. ValueError names a
    foreign symbol.

    >>> encode("31 [+1] = 42 <eos>")
    [9, 7, 58, 3, 10, 8, 2]
    """
    tokens = [token for token in _TOKEN.findall(text) if not token.isspace()]
    for token in tokens:
        if token not in ID and token[-1] == "]":
            raise ValueError(f"{token[:14]!r} is not one of {''.join(OPERATIONS)}")
        if token not in ID:
            raise ValueError(f"{token!r} is not in the vocabulary (python tasks.py shows what is)")
    return [ID[token] for token in tokens]


def decode(ids):
    """Readable text of token ids [T], any sequence of integers: `encode(decode(ids)) == list(ids)`.

    >>> decode([9, 7, 58, 58, 3, 10, 8, 2])
    '31 [+1][+1] = 42 <eos>'
    """
    tokens = [VOCAB[int(i)] for i in ids]
    text = "".join(tokens[:1])
    for before, token in itertools.pairwise(tokens):
        glued = any(before in kind and token in kind for kind in _GLUED)
        text += token if glued else " " + token
    return text


# --------------------------------------------------------------------------- the shapes of problems

class Cell(NamedTuple):
    """What all problems of one batch have in common.

    depth      number of operations (arithmetic) or hops (graph, route)
    length     number of digits L (arithmetic) or of listed edges E (graph, route)
    alphabet   "seen" symbols, their "shadow" twins, or both "mixed" in one problem
    words      "any" word of operations; "seen": every adjacent ordered pair is one that the
               composition axis trains on; "held": at least one pair is held out
    branching  number of accepted solutions M of each prompt (more than one in route alone)
    dead_ends  number of ways that lead past the goal (route): told from a right one only by looking
               ahead, two hops or more
    """
    depth: int
    length: int
    alphabet: str = "seen"
    words: str = "any"
    branching: int = 1
    dead_ends: int = 0

    def __str__(self):
        parts = [f"d{self.depth}", f"l{self.length}"]
        parts += [self.alphabet] if self.alphabet != "seen" else []
        parts += [self.words] if self.words != "any" else []
        parts += [f"m{self.branching}"] if self.branching != 1 else []
        parts += [f"x{self.dead_ends}"] if self.dead_ends else []
        return " ".join(parts)


class Problems(NamedTuple):
    """prompts [n, P] and solutions [n, S], int64 tokens, of one cell."""
    prompts: np.ndarray
    solutions: np.ndarray


NOISE = {   # kinds of wrong demonstrations
    "random": "a corrupted symbol is any of its alphabet, and the error propagates",
    "biased": "only steps of one operation are corrupted, all of them in the same way: above 0.5 "
              "the most likely answer is a wrong one",
    "marked": "like random, but whoever reads it can tell: what is wrong, and every state after "
              "it, is written in the shadow alphabet",
}

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

    trace        [n] bool   the whole solution string is right, ends in <eos>, only <pad> follows
    answer       [n] bool   the last state before <eos> is right, whatever stands before it; only
                            <pad> follows
    process      [n] float  fraction of leading steps that are right; a step includes the symbol
                            that closes it (`;` or <eos>), so process == 1 exactly where trace holds
    well_formed  [n] bool   the right number of steps of the right shape and alphabet, ended by
                            <eos>, right or wrong
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


SPLITS = ("id", "edge", "hard")
ALPHABETS = ("seen", "shadow", "mixed")


def cells(depths, lengths, alphabet="seen", words="any", branching=1, dead_ends=0):
    """List of the cells of every length and depth given."""
    return [Cell(depth, length, alphabet, words, branching, dead_ends)
            for length in lengths for depth in depths]


def columns(*parts):
    """[n, sum of widths] int64: arrays [n, width] side by side; a lone token is a column of it.

    >>> columns(BOS, np.array([[7, 8], [9, 9]]), EQUALS)
    array([[1, 7, 8, 3],
           [1, 9, 9, 3]])
    """
    n = next(len(part) for part in parts if not isinstance(part, int))
    return np.hstack([np.full((n, 1), part) if isinstance(part, int) else part for part in parts])


def of_alphabet(alphabet, shadow):
    """[n] bool: which rows of shadow [n, symbols] (bool) are all seen, all shadow, or mixed."""
    if alphabet == "seen":
        return ~shadow.any(1)
    if alphabet == "shadow":
        return shadow.all(1)
    return shadow.any(1) & ~shadow.all(1)


def nearest(accepted, completions):
    """[n, S]: of each row's strings accepted [n, M, S] the one that completions [n, N] agree with
    longest, from the beginning; the first of them, if there are several.

    >>> nearest(np.array([[[4, 5, 6], [4, 7, 8]]]), np.array([[4, 7, 6]]))
    array([[4, 7, 8]])
    """
    if accepted.shape[1] == 1:
        return accepted[:, 0]
    width = min(accepted.shape[2], completions.shape[1])
    agree = accepted[:, :, :width] == completions[:, None, :width]
    best = agree.cumprod(axis=2).sum(axis=2).argmax(axis=1)
    return accepted[np.arange(len(accepted)), best]


def reserved(prompts):
    """[n] bool: True for the eighth of all prompts [n, P] that are kept for evaluation; training
    never draws one.

    Membership is a hash of the tokens, so it needs no list, no seed and no coordination between
    scripts.
    """
    h = np.zeros(len(prompts), dtype=np.uint64)
    for column in prompts.T.astype(np.uint64):  # FNV-1a over the columns; uint64 arithmetic wraps
        h = (h ^ column) * np.uint64(0x100000001B3)
        h ^= h >> np.uint64(29)
    return (h >> np.uint64(13)) % np.uint64(8) == 0


# --------------------------------------------------------------------------------- what a family is

class Task:
    """A task family. A subclass in this file is all that a new family needs; it defines

    name                             what --task calls it
    axes                             {axis: {"id": cells, "edge": cells, "hard": cells}}. On each
                                     axis one thing changes from id (pretrained on) to edge (just
                                     beyond; --overlap leaks some of it into pretraining) to hard
                                     (further out), and only that
    check(cell)                      raises ValueError for a cell that has no problems
    size(cell)                       number of distinct problems in the cell
    prompts_at(cell, index)          prompts [n, P] number index [n], 0 <= index < size(cell); or,
    prompts(cell, n, rng)            where problems are too many to number, n random prompts [n, P]
    prompt_len(cell)                 P, tokens in a prompt, from <bos> to the last =
    solution_len(cell)               S, tokens in a solution, with its <eos>
    parse(prompts)                   what prompts [n, P] say, in whatever form `solutions` likes;
                                     raises ValueError, "<name> expects ...", if they are not this
                                     family's, or not all of one shape
    belongs(parsed, cell)            [n] bool: which parsed prompts are problems of the cell
    solutions(prompts, noise, rng)   [n, S]: the one right solution of each prompt, told from its
                                     tokens alone; with noise, each step is wrong with that
                                     probability, and the error propagates. It also takes
                                     noise_kind and noise_symbols where there are others than
                                     "random" and 1. Where there are several, one of them, drawn
                                     with rng, or without rng the first
    layout(prompts)                  (columns after each step [d], width of the last state with the
                                     symbol on either side of it, width of the answer at its end)

    and may define

    shadow_symbols                   range of tokens: the symbols that `copies` shows. Default: none
    noise_kinds                      the kinds of NOISE that there are. Default: random alone
    most_noise_symbols               symbols of a state that noise can replace at once. Default: 1
    wrong_chains(prompts, rng)       [n, S]: solutions that go on consistently from a wrong step;
                                     with noise_kind "marked", as one with such noise writes them
    accepted(prompts)                [n, M, S]: all right solutions, where M may be above 1; then
                                     several = True, `parse` also refuses prompts that differ in M,
                                     and `solutions` takes bias: the chance that it takes the first
                                     instead of drawing. Default: the one of `solutions`, M = 1
    refused_rewards                  {reward: why it cannot be used here}. Default: none
    pretrain_lr                      pretrain.py's default learning rate
    key                              an int that seeds what is drawn. Default: a hash of the name

    Tokens are int64. The rest is shared: sampling with reserved prompts, the verifier's comparison.
    """

    shadow_symbols = range(0)
    noise_kinds, most_noise_symbols = ("random",), 1
    several, refused_rewards = False, {}
    pretrain_lr = 1e-2
    ENUMERATED_BELOW = 10_000  # smaller cells have too few problems to keep some from training

    @property
    def key(self):
        return zlib.crc32(self.name.encode())

    def prompts_at(self, cell, index):
        raise ValueError(f"{self.name} has no prompts_at, which a cell of fewer than "
                         f"{self.ENUMERATED_BELOW} problems needs: {cell!r}")

    def prompts(self, cell, n, rng):
        """n random prompts [n, P] of a cell."""
        return self.prompts_at(cell, rng.integers(self.size(cell), size=n))

    def enumerated(self, cell):
        """True if the cell is so small that its evaluation prompts are not kept from training."""
        return self.size(cell) < self.ENUMERATED_BELOW

    def accepted(self, prompts):
        """[n, M, S]: every accepted solution of prompts [n, P]."""
        return self.solutions(prompts)[:, None]

    def sample(self, cell, n, rng, noise=0.0, split="all", noise_kind="random", noise_symbols=1,
               bias=0.0):
        """n problems of one cell.

        noise  probability that a written step of the demonstration is corrupted (one symbol
               replaced by a random one of its alphabet); the error then propagates. The clean
               solution at 0. Prompts do not depend on it. noise_kind: one of NOISE;
               noise_symbols: so many neighbouring symbols are corrupted at once, or all there are.
        bias   where prompts have several solutions: the chance that the demonstration is the first
               of them (in alphabetical order); else each is as likely as any other.
        split  "train" draws no reserved prompt, "eval" only reserved ones, "all" does not care.
               An enumerated cell has no reserved prompts: "eval" then draws without replacement
               where n allows.
        Returns Problems(prompts [n, P], solutions [n, S]). ValueError for an impossible cell, and
        for noise or a bias that the family does not have.
        """
        self.check(cell)
        if noise_kind not in self.noise_kinds:
            raise ValueError(f"{self.name} has no noise {noise_kind}; it has "
                             f"{', '.join(self.noise_kinds)}")
        if bias and not self.several:
            raise ValueError(f"{self.name} has no bias: each prompt has one solution")
        prompts = self.prompts(cell, n, rng)
        if split == "eval" and self.enumerated(cell) and n <= self.size(cell):
            prompts = self.prompts_at(cell, rng.permutation(self.size(cell))[:n])
        elif split != "all" and not self.enumerated(cell):
            while (wrong := reserved(prompts) != (split == "eval")).any():
                prompts[wrong] = self.prompts(cell, int(wrong.sum()), rng)
        more = {"bias": bias} if bias else {}  # what not every family knows of
        if (noise_kind, noise_symbols) != ("random", 1):
            more |= {"noise_kind": noise_kind, "noise_symbols": noise_symbols}
        return Problems(prompts, self.solutions(prompts, noise, rng, **more))

    def copies(self, n, length, rng):
        """Problems that show shadow symbols and nothing about them: `<bos> ③①④① =` is answered by
        `③①④① <eos>`. Raises ValueError where the family has no shadow symbols."""
        if not self.shadow_symbols:
            raise ValueError(f"{self.name} has no shadow symbols to copy")
        drawn = rng.integers(len(self.shadow_symbols), size=(n, length))
        symbols = self.shadow_symbols[0] + drawn
        return Problems(columns(BOS, symbols, EQUALS), columns(symbols, EOS))

    def told(self, prompts, solutions, attempts=None):
        """Prompts [n, P'] that tell the answer of solutions [n, S] before the trace is written, and
        before that show attempts [n, N] at it, if given: to be explained, or put right.

        >>> prompts, right, wrong = (np.array([encode(x)]) for x in (
        ...     "<bos> 31 [+1] =", "42 <eos>", "43 <eos>"))
        >>> told = TASKS["arithmetic"].told
        >>> decode(told(prompts, right)[0]), decode(told(prompts, right, wrong)[0])
        ('<bos> 31 [+1] = 42 =', '<bos> 31 [+1] = 43 <eos> 42 =')
        """
        width = self.layout(prompts)[2]
        shown = [prompts] if attempts is None else [prompts, attempts]
        return columns(*shown, solutions[:, -width - 1:-1], EQUALS)

    def matches(self, prompts, cell):
        """[n] bool: which prompts [n, P] belong to the cell. It proves what training drew."""
        try:
            parsed = self.parse(prompts)
        except ValueError:  # another family's, or copy problems
            return np.zeros(len(prompts), dtype=bool)
        return self.belongs(parsed, cell)

    def verify(self, prompts, completions):
        """Judge completions [n, N] of prompts [n, P] (integer arrays or CPU tensors): a `Verdict`.

        A completion shorter than the solution is wrong. After the first <eos> only <pad> is
        accepted. Where several solutions are accepted, a completion is judged by the one that it
        agrees with longest.
        """
        prompts, completions = np.asarray(prompts), np.asarray(completions)
        solutions = nearest(self.accepted(prompts), completions)
        step_ends, window, answer_width = self.layout(prompts)
        (n, S), N = solutions.shape, completions.shape[1]
        width = max(N, S + 1)  # one column more than the solution, so that junk after it shows
        written, gold = np.full((n, width), PAD), np.full((n, width), PAD)
        written[:, :N], gold[:, :S] = completions, solutions

        is_eos = written == EOS
        end = np.where(is_eos.any(1), is_eos.argmax(1), width)  # column of the first <eos>
        quiet = (written == PAD) | (np.arange(width) <= end[:, None])
        ended = is_eos.any(1) & quiet.all(1)

        # How many tokens are right before the first wrong one; junk after <eos> makes <eos> wrong.
        leading = (written == gold).cumprod(1).sum(1)
        leading = np.where((leading >= S) & ~ended, S - 1, leading)
        process = (leading[:, None] >= step_ends).sum(1) / len(step_ends)
        same_kinds = (KIND[written[:, :S]] == KIND[solutions]).all(1)
        well_formed = ended & (end == S - 1) & same_kinds

        # The answer: the window from the last `;` to <eos> has the right kinds of symbols, and the
        # right answer in it. A `;` in front of both strings stands for the start of a completion,
        # which opens a state as `;` does.
        where = end[:, None] + 1 + np.arange(1 - window, 1)
        last = np.take_along_axis(columns(SEP, written), where.clip(0, width), axis=1)
        right = columns(SEP, solutions)[:, -window:]
        right_kinds = (KIND[last] == KIND[right]).all(1)
        answer = ended & right_kinds & (last == right)[:, -answer_width - 1:].all(1)
        return Verdict((written == gold).all(1), answer, process, well_formed)


# --------------------------------------------------------------------------------------- arithmetic

def operate(name, x):
    """One operation on states x [n, L], integers in 0..9: a bijection on strings of L digits."""
    match name:
        case "[+1]": return (x + 1) % 10
        case "[+3]": return (x + 3) % 10
        case "[x3]": return (x * 3) % 10
        case "[neg]": return -x % 10
        case "[rot]": return np.roll(x, -1, axis=1)                # rotate left: 3141 -> 1413
        case "[rev]": return x[:, ::-1]                            # reverse: 3141 -> 1413
        case "[swap]": return x[:, [1, 0, *range(2, x.shape[1])]]  # the first two: 3141 -> 1341
        case "[sum]": return x.cumsum(axis=1) % 10                 # prefix sum: 3141 -> 3489


def apply_operation(op, state):
    """Operation number op[i] (0..7) applied to row i of state [n, L], integers in 0..9: [n, L]."""
    result = np.empty_like(state)
    for i, name in enumerate(OPERATIONS):
        rows = op == i
        result[rows] = operate(name, state[rows])
    return result


def operations_at_work():
    """{operation: what it makes of 3141}, by which a checkpoint tells if one has been changed.

    >>> operations_at_work()["[rev]"]
    '1413'
    """
    results = apply_operation(np.arange(N_OPS), np.tile([3, 1, 4, 1], (N_OPS, 1)))
    return {name: "".join(map(str, row)) for name, row in zip(OPERATIONS, results.tolist())}


def word_function(word, length=4):
    """What a word (tuple of operation numbers) computes on digit strings of that length, as a
    hashable signature.

    All eight operations are affine over Z_10, so their values at zero and at the unit vectors tell
    words apart.
    """
    zero, units = np.zeros((1, length), dtype=np.int64), np.eye(length, dtype=np.int64)
    state = np.vstack([zero, units])
    for op in word:
        state = apply_operation(np.full(length + 1, op), state)
    return state.tobytes()


@lru_cache(maxsize=None)
def held_pairs():
    """[8, 8] bool: True where the ordered pair (first, second) is held out by the composition axis.

    Pairs that compute the same function at L = 4 form a class, and whole classes are held out, or a
    "held-out" pair would be a seen function in disguise. Classes that are the identity or a single
    operation are always seen. Of the others 17 are held, drawn from a fixed seed until every
    operation keeps at least three seen partners in each slot.
    """
    classes = {}
    for pair in itertools.product(range(N_OPS), repeat=2):
        classes.setdefault(word_function(pair), []).append(pair)
    known = {word_function(())} | {word_function((op,)) for op in range(N_OPS)}
    free = [pairs for signature, pairs in classes.items() if signature not in known]
    for seed in itertools.count():
        held = np.zeros((N_OPS, N_OPS), dtype=bool)
        for pair in itertools.chain.from_iterable(random.Random(seed).sample(free, 17)):
            held[pair] = True
        if (~held).sum(0).min() >= 3 and (~held).sum(1).min() >= 3:
            return held


def has_held_pair(words):
    """[n] bool: which words [n, depth] of operation numbers have a held-out pair."""
    return held_pairs()[words[:, :-1], words[:, 1:]].any(1)


@lru_cache(maxsize=None)
def word_table(depth, words):
    """[n, depth] int64: every word of that depth with no held-out pair ("seen") or one ("held")."""
    table = np.array(list(itertools.product(range(N_OPS), repeat=depth)))
    return table[has_held_pair(table) == (words == "held")]


def disguised_share(depth):
    """Share of held words of that depth whose function some seen word of up to depth 3 also
    computes."""
    seen = {word_function(word) for d in (1, 2, 3) for word in word_table(d, "seen")}
    return float(np.mean([word_function(word) in seen for word in word_table(depth, "held")]))


def check_unmarked(shadow):
    """Raise ValueError if a symbol is a shadow (bool array): marks could not be told from it."""
    if shadow.any():
        raise ValueError("noise marked writes errors in the shadow alphabet, so problems must be "
                         "in the seen one")


class Arithmetic(Task):
    """Chains of bijections on strings of L digits, every intermediate state written out."""
    name, key = "arithmetic", 0
    shadow_symbols = range(SHADOW_DIGIT0, SHADOW_DIGIT0 + 10)
    noise_kinds, most_noise_symbols = ("random", "biased", "marked"), 7
    BIASED = OPERATIONS.index("[+3]")  # which "biased" noise is about
    axes = {
        "depth": {"id": cells([1, 2, 3], [4]),
                  "edge": cells([4], [4]),
                  "hard": cells([5, 6], [4])},
        "length": {"id": cells([1, 2, 3], [2, 3, 4]),
                   "edge": cells([1, 2, 3], [5]),
                   "hard": cells([1, 2, 3], [6, 7])},
        "tokens": {"id": cells([1, 2, 3], [4]),
                   "edge": cells([2, 3], [4], "shadow"),
                   "hard": cells([2, 3], [4], "mixed")},
        "composition": {"id": cells([1, 2, 3], [4], words="seen"),
                        "edge": cells([2], [4], words="held"),
                        "hard": cells([3], [4], words="held")},
    }

    def check(self, cell):
        words = ("any", "seen", "held") if cell.depth >= 2 else ("any", "seen")
        if not (1 <= cell.depth <= 6 and 2 <= cell.length <= 7
                and cell.alphabet in ALPHABETS and cell.words in words
                and (cell.branching, cell.dead_ends) == (1, 0)):
            raise ValueError(f"impossible arithmetic cell {cell!r}: depth 1-6, length 2-7, "
                             "alphabet seen|shadow|mixed, words any|seen, or held from depth 2, "
                             "branching 1, no dead ends")

    def prompt_len(self, cell):
        return cell.length + cell.depth + 2

    def solution_len(self, cell):
        return cell.depth * (cell.length + 1)

    def n_words(self, cell):
        """Number of words of operations."""
        if cell.words == "any":
            return N_OPS ** cell.depth
        return len(word_table(cell.depth, cell.words))

    def size(self, cell):
        # In a mixed problem every position has its own alphabet, and both alphabets occur.
        masks = 2 ** cell.length - 2 if cell.alphabet == "mixed" else 1
        return 10 ** cell.length * self.n_words(cell) * masks

    def prompts_at(self, cell, index):
        index, digits = np.divmod(index, 10 ** cell.length)
        mask, word = np.divmod(index, self.n_words(cell))
        state = digits[:, None] // 10 ** np.arange(cell.length) % 10
        shadow = np.full_like(state, cell.alphabet == "shadow")
        if cell.alphabet == "mixed":
            shadow = (mask[:, None] + 1) >> np.arange(cell.length) & 1
        if cell.words == "any":
            ops = word[:, None] // N_OPS ** np.arange(cell.depth) % N_OPS
        else:
            ops = word_table(cell.depth, cell.words)[word]
        return columns(BOS, state + np.where(shadow, SHADOW_DIGIT0, DIGIT0), ops + OP0, EQUALS)

    def parse(self, prompts):
        """(digits [n, L], first symbol of each position's alphabet [n, L], operations [n, d]) of
        prompts [n, P]."""
        d = int((prompts[0] >= OP0).sum())
        L = prompts.shape[1] - d - 2
        symbols, ops = prompts[:, 1:1 + L], prompts[:, 1 + L:-1] - OP0
        if not (L >= 2 and d >= 1
                and (prompts[:, 0] == BOS).all() and (prompts[:, -1] == EQUALS).all()
                and (symbols >= DIGIT0).all() and (symbols < NODE0).all() and (ops >= 0).all()):
            raise ValueError("arithmetic expects 2 or more digits, operations: "
                             "'3141 [+1][rev] ='")
        zero = np.where(symbols >= SHADOW_DIGIT0, SHADOW_DIGIT0, DIGIT0)
        return symbols - zero, zero, ops

    def belongs(self, parsed, cell):
        state, zero, ops = parsed
        shape = state.shape[1] == cell.length and ops.shape[1] == cell.depth
        words = cell.words == "any" or has_held_pair(ops) == (cell.words == "held")
        return of_alphabet(cell.alphabet, zero == SHADOW_DIGIT0) & shape & words

    def solutions(self, prompts, noise=0.0, rng=None, noise_kind="random", noise_symbols=1):
        state, zero, ops = self.parse(prompts)
        (n, L), d = state.shape, ops.shape[1]
        if noise_kind == "marked":
            check_unmarked(zero == SHADOW_DIGIT0)
        steps = np.empty((n, d, L + 1), dtype=np.int64)
        marked = np.zeros((n, L), dtype=bool)  # which digits of the state are in the shadow
        for t in range(d):
            right = state = apply_operation(ops[:, t], state)
            if noise:
                hit = rng.random(n) < noise
                if noise_kind == "biased":
                    hit &= ops[:, t] == self.BIASED
                state = self.corrupted(right, hit, rng, noise_kind, min(noise_symbols, L))
            if noise_kind == "marked":
                marked = marked.any(1, keepdims=True) | (state != right)
            steps[:, t, :L] = state + zero + marked * (SHADOW_DIGIT0 - DIGIT0)
        steps[:, :, L] = SEP
        steps[:, -1, L] = EOS
        return steps.reshape(n, d * (L + 1))

    def corrupted(self, state, hit, rng, noise_kind, count):
        """state [n, L] with `count` neighbouring digits replaced in the rows that hit [n] names:
        any of them, by any digits; or, "biased", always the first ones, each by its successor."""
        state, rows = state.copy(), np.flatnonzero(hit)
        if noise_kind == "biased":
            state[rows, :count] = (state[rows, :count] + 1) % 10
            return state
        digits = rng.integers(10, size=(len(rows), count))
        first = rng.integers(state.shape[1], size=(len(rows), 1))
        state[rows[:, None], (first + np.arange(count)) % state.shape[1]] = digits
        return state

    def wrong_chains(self, prompts, rng, noise_kind="random"):
        """[n, S]: chains whose first state has one wrong digit and whose every later step follows
        correctly from the one before. With noise_kind "marked" they are marked as such noise is.

        What a model that checks nothing would go on to write after an error; depth 2 or more.
        """
        state, zero, ops = self.parse(prompts)
        rows, L = np.arange(len(state)), state.shape[1]
        first = apply_operation(ops[:, 0], state)
        hit = rng.integers(L, size=len(rows))
        first[rows, hit] = (first[rows, hit] + rng.integers(1, 10, size=len(rows))) % 10
        rest = columns(BOS, first + zero, prompts[:, 2 + L:])  # the problem that is left from there
        first, rest = first + zero, self.solutions(rest)
        if noise_kind == "marked":
            check_unmarked(zero == SHADOW_DIGIT0)
            first[rows, hit] += SHADOW_DIGIT0 - DIGIT0
            rest += (KIND[rest] == DIGIT0) * (SHADOW_DIGIT0 - DIGIT0)
        return columns(first, SEP, rest)

    def layout(self, prompts):
        d = int((prompts[0] >= OP0).sum())
        L = prompts.shape[1] - d - 2
        return np.arange(1, d + 1) * (L + 1), L + 2, L  # the window is `; 1234 <eos>`


# ------------------------------------------------------------------------------------------ graphs

def listed(sources, targets):
    """[n, 3 E]: edges sources [n, E] -> targets [n, E] as a prompt or a solution quotes them,
    `; a b ; b c`."""
    edges = np.stack([np.full_like(sources, SEP), sources, targets], axis=2)
    return edges.reshape(len(edges), -1)


def walks(successor, start, d, noise, rng, symbol, marks=False):
    """[n, 3 d + 1]: the solutions that quote d hops from start [n], by successor [n, V], which says
    where each token leads, or -1 for nowhere. With noise a destination is random with that
    probability: one of symbol [n, 16]. With marks, it and all that follows is a shadow."""
    n, rows, node = len(start), np.arange(len(start)), start
    steps = np.empty((n, d, 3), dtype=np.int64)
    steps[:, :, 0] = SEP
    marked = np.zeros(n, dtype=bool)  # which walks have left their way, and say so
    for t in range(d):
        steps[:, t, 1] = node + marked * (SHADOW_NODE0 - NODE0)
        following = right = np.where(node >= 0, successor[rows, node], -1)
        if noise:
            astray = (rng.random(n) < noise) | (following < 0)
            anywhere = symbol[rows, rng.integers(N_NODES, size=n)]
            following = np.where(astray, anywhere, following)
        if marks:
            marked = marked | (following != right)
        steps[:, t, 2] = following + marked * (SHADOW_NODE0 - NODE0)
        node = following
    return columns(steps.reshape(n, 3 * d), EOS)


class Graph(Task):
    """Walks along listed edges of a random cycle through 16 nodes, every edge quoted."""
    name, key = "graph", 1
    shadow_symbols = range(SHADOW_NODE0, SHADOW_NODE0 + N_NODES)
    noise_kinds = ("random", "marked")
    pretrain_lr = 5e-3  # which makes its sudden jump come sooner
    axes = {
        "depth": {"id": cells([1, 2, 3], [8]),
                  "edge": cells([4], [8]),
                  "hard": cells([5, 6], [8])},
        "length": {"id": cells([1, 2, 3], [6, 7, 8]),
                   "edge": cells([1, 2, 3], [10]),
                   "hard": cells([1, 2, 3], [12, 14, 16])},
        "tokens": {"id": cells([1, 2, 3], [8]),
                   "edge": cells([2, 3], [8], "shadow"),
                   "hard": cells([2, 3], [8], "mixed")},
    }

    def check(self, cell):
        if not (1 <= cell.depth <= cell.length <= N_NODES
                and cell.alphabet in ALPHABETS and cell.words == "any"
                and (cell.branching, cell.dead_ends) == (1, 0)):
            raise ValueError(f"impossible graph cell {cell!r}: 1 <= depth <= length <= {N_NODES} "
                             "listed edges, alphabet seen|shadow|mixed, words any, branching 1, no "
                             "dead ends")

    def prompt_len(self, cell):
        return 3 * cell.length + cell.depth + 4

    def solution_len(self, cell):
        return 3 * cell.depth + 1

    def size(self, cell):  # one alphabet mask counted
        others = math.comb(N_NODES - cell.depth, cell.length - cell.depth)
        return math.factorial(N_NODES) * others * math.factorial(cell.length)

    def prompts(self, cell, n, rng):
        E, d = cell.length, cell.depth
        # A random 16-cycle: cycle[i] -> cycle[i + 1]; the walk starts at cycle[0].
        cycle = rng.random((n, N_NODES)).argsort(1)
        shadow = np.full((n, N_NODES), cell.alphabet == "shadow")
        if cell.alphabet == "mixed":  # each node has one alphabet; the first edge joins the two
            shadow = rng.random((n, N_NODES)) < 0.5
            shadow[:, 1] = ~shadow[:, 0]
        nodes = cycle + np.where(shadow, SHADOW_NODE0, NODE0)
        needed = np.broadcast_to(np.arange(d), (n, d))
        others = d + rng.random((n, N_NODES - d)).argsort(1)[:, :E - d]  # beside those of the walk
        edges = rng.permuted(np.hstack([needed, others]), axis=1)
        sources = np.take_along_axis(nodes, edges, axis=1)
        targets = np.take_along_axis(nodes, (edges + 1) % N_NODES, axis=1)
        return self.written(sources, targets, nodes[:, 0], d)

    def written(self, sources, targets, start, d):
        """The prompts [n, P] that list edges sources [n, E] -> targets [n, E] and ask for d hops
        from start [n], all in tokens."""
        hops = np.full((len(sources), d), HOP)
        return columns(BOS, listed(sources, targets), EQUALS, hops, start[:, None], EQUALS)

    def parse(self, prompts):
        """(sources [n, E], destinations [n, E], start [n], d) of prompts [n, P], all in tokens."""
        E, d = int((prompts[0] == SEP).sum()), int((prompts[0] == HOP).sum())
        if E and d and prompts.shape[1] == 3 * E + d + 4:
            sources, targets = prompts[:, 2:2 + 3 * E:3], prompts[:, 3:3 + 3 * E:3]
            start = prompts[:, -2]
            nodes = columns(sources, targets, start[:, None])
            framed = (prompts == self.written(sources, targets, start, d)).all()
            if framed and (nodes >= NODE0).all() and (nodes < OP0).all():
                return sources, targets, start, d
        raise ValueError("graph expects edges, =, hops, where to start: '; a b ; b c = >> a ='")

    def belongs(self, parsed, cell):
        sources, targets, _, d = parsed
        shape = sources.shape[1] == cell.length and d == cell.depth
        return of_alphabet(cell.alphabet, np.hstack([sources, targets]) >= SHADOW_NODE0) & shape

    def solutions(self, prompts, noise=0.0, rng=None, noise_kind="random", noise_symbols=1):
        """The solution [n, S]: `; s v1 ; v1 v2 ... <eos>`. With noise, a demonstration with wrong
        destinations; a destination is one symbol, whatever noise_symbols.

        A walk can only leave the listed edges after an error: the demonstration then goes to a
        random node, and without noise (a prompt typed by hand) there is no solution, which is
        written as -1 and matches nothing.
        """
        sources, targets, start, d = self.parse(prompts)
        if noise_kind == "marked":
            check_unmarked(columns(sources, targets, start[:, None]) >= SHADOW_NODE0)
        successor = np.full((len(prompts), len(VOCAB)), -1)
        np.put_along_axis(successor, sources, targets, axis=1)
        symbol = self.symbols(sources, targets)
        return walks(successor, start, d, noise, rng, symbol, noise_kind == "marked")

    def symbols(self, sources, targets):
        """[n, 16]: the token of each node in each problem. One that the prompt does not show is
        taken to have the alphabet of the first source."""
        first = np.where(sources[:, :1] >= SHADOW_NODE0, SHADOW_NODE0, NODE0)
        symbol = first + np.arange(N_NODES)
        for shown in (sources, targets):
            np.put_along_axis(symbol, (shown - NODE0) % N_NODES, shown, axis=1)
        return symbol

    def layout(self, prompts):
        ends = 3 * np.arange(1, int((prompts[0] == HOP).sum()) + 1)
        ends[-1] += 1        # <eos> closes the last step
        return ends, 4, 1    # the window is `; u v <eos>`, the answer in it v



def route_plan(widths, leaving):
    """One plan of a route problem: (needed edges, filler edges), lists of pairs of places 0 to 15;
    or None if there are not so many places. Place 0 is the start, 1 the goal.

    widths   of the layers that the paths lead through, the start's (1) first, the goal's left out;
             the nodes of a layer are shared out over those of the one before
    leaving  (layer, place in it) of each dead end's beginning
    """
    depth, layers, needed, places = len(widths), [[0]], [], itertools.count(2)
    for width in widths[1:]:
        before, layer = layers[-1], [next(places) for _ in range(width)]
        needed += [(before[i * len(before) // width], node) for i, node in enumerate(layer)]
        layers.append(layer)
    needed += [(node, 1) for node in layers[-1]]
    layers.append([1])
    for t, i in leaving:  # a dead end has nodes of its own, and goes as deep as the goal
        node = layers[t][i]
        for layer in layers[t + 1:]:
            layer.append(next(places))
            needed.append((node, layer[-1]))
            node = layer[-1]
    used = next(places)
    for place in range(used, N_NODES):  # the other nodes, over all layers, the goal's first
        layers[depth - (place - used) % (depth + 1)].append(place)
    # A filler edge adds no path: it leaves a node that the start does not lead to, or is a last hop
    # that misses the goal.
    fillers = [(u, v) for t in range(depth) for u in layers[t] for v in layers[t + 1]
               if u >= used or (t == depth - 1 and v != 1 and (u, v) not in needed)]
    return (needed, fillers) if used <= N_NODES else None


@lru_cache(maxsize=None)
def route_plans(cell):
    """All plans of a cell whose edges can be its E listed ones: (edges [plans, C, 2], rank [plans,
    C]), the latter 0 for an edge that is needed, 1 for a filler, 2 for a column to be ignored."""
    plans = []
    for inner in itertools.combinations_with_replacement(range(1, cell.branching + 1),
                                                         cell.depth - 2):
        widths = [1, *inner, cell.branching]
        before_last = [(t, i) for t, width in enumerate(widths[:-1]) for i in range(width)]
        for leaving in itertools.combinations_with_replacement(before_last, cell.dead_ends):
            plan = route_plan(widths, leaving)
            if plan and len(plan[0]) <= cell.length <= len(plan[0]) + len(plan[1]):
                plans.append(plan)
    most = max((len(needed) + len(fillers) for needed, fillers in plans), default=0)
    edges = np.zeros((len(plans), most, 2), dtype=np.int64)
    rank = np.full((len(plans), most), 2)
    for i, (needed, fillers) in enumerate(plans):
        both = needed + fillers
        edges[i, :len(both)], rank[i, :len(both)] = both, 1
        rank[i, :len(needed)] = 0
    return edges, rank


class Routes(NamedTuple):
    """What n prompts of route say: sources and targets [n, E] of the listed edges, and paths [n, M,
    depth + 1], the nodes of every accepted path, in alphabetical order; all in tokens."""
    sources: np.ndarray
    targets: np.ndarray
    paths: np.ndarray


class Route(Task):
    """Any way from start to goal through a layered graph, every edge quoted."""
    name = "route"
    several = True
    refused_rewards = {"answer": "the goal stands in the prompt"}
    axes = {
        "depth": {"id": cells([2, 3], [16], branching=4),
                  "edge": cells([4], [16], branching=4),
                  "hard": cells([5, 6], [16], branching=4)},
        "length": {"id": cells([2, 3], [12, 13, 14], branching=4),
                   "edge": cells([2, 3], [16], branching=4),
                   "hard": cells([2, 3], [18, 20], branching=4)},
        "branching": {"id": cells([2], [16], branching=2),
                      "edge": cells([2], [16], branching=4),
                      "hard": cells([2], [16], branching=8)},
        "dead_ends": {"id": cells([2, 3], [16], branching=2),
                      "edge": cells([2, 3], [16], branching=2, dead_ends=1),
                      "hard": cells([2, 3], [16], branching=2, dead_ends=2)},
        "lookahead": {"id": cells([2, 3], [16], branching=2, dead_ends=2),
                      "edge": cells([4], [16], branching=2, dead_ends=2),
                      "hard": cells([5, 6], [16], branching=2, dead_ends=2)},
    }

    def check(self, cell):
        within = (2 <= cell.depth <= 6 and 4 <= cell.length <= 24 and 1 <= cell.branching <= 8
                  and 0 <= cell.dead_ends <= 4 and (cell.alphabet, cell.words) == ("seen", "any"))
        if not within or len(route_plans(cell)[0]) == 0:
            raise ValueError(f"impossible route cell {cell!r}: depth 2-6, 4-24 listed edges, "
                             "branching 1-8, 0-4 dead ends, as far as they fit into these edges "
                             f"and {N_NODES} nodes; alphabet seen, words any")

    def prompt_len(self, cell):
        return 3 * cell.length + 5

    def solution_len(self, cell):
        return 3 * cell.depth + 1

    def size(self, cell):  # at least: orders of the edges x namings of one of the M paths
        namings = math.perm(N_NODES, cell.depth + 1)
        return math.factorial(cell.length) * namings // cell.branching

    def prompts(self, cell, n, rng):
        edges, rank = route_plans(cell)
        plan = rng.integers(len(edges), size=n)
        # the needed edges and as many fillers as there is room for, in any order
        chosen = (rank[plan] + rng.random((n, rank.shape[1]))).argsort(1)[:, :cell.length]
        chosen = rng.permuted(chosen, axis=1)
        names = NODE0 + rng.random((n, N_NODES)).argsort(1)  # of the places
        rows = np.arange(n)[:, None]
        sources, targets = (names[rows, edges[plan[:, None], chosen, end]] for end in (0, 1))
        return self.written(sources, targets, names[:, 0], names[:, 1])

    def written(self, sources, targets, start, goal):
        """The prompts [n, P] that list edges sources [n, E] -> targets [n, E] and ask for a way
        from start [n] to goal [n], all in tokens."""
        edges = listed(sources, targets)
        return columns(BOS, edges, EQUALS, start[:, None], goal[:, None], EQUALS)

    def parse(self, prompts):
        """The Routes of prompts [n, P]. Accepted is each path with as few hops as the shortest; in
        a layered graph, all paths."""
        E = int((prompts[0] == SEP).sum())
        if E and prompts.shape[1] == 3 * E + 5:
            sources, targets = prompts[:, 2:2 + 3 * E:3], prompts[:, 3:3 + 3 * E:3]
            start, goal = prompts[:, -3], prompts[:, -2]
            nodes = columns(sources, targets, start[:, None], goal[:, None])
            framed = (prompts == self.written(sources, targets, start, goal)).all()
            once = (np.diff(np.sort(sources * len(VOCAB) + targets)) > 0).all()
            if framed and once and (nodes >= NODE0).all() and (nodes < SHADOW_NODE0).all():
                paths = self.shortest_paths(sources, targets, start, goal)
                if paths is not None:
                    return Routes(sources, targets, paths)
        raise ValueError("route expects edges, =, start and goal, joined by a path: "
                         "'; a b ; a c ; b d ; c d = a d ='")

    def shortest_paths(self, sources, targets, start, goal):
        """[n, M, d + 1]: see Routes. None if some row has no path, or they are not as many, or not
        as long, in every row."""
        n, rows = len(start), np.arange(len(start))
        far = np.full((n, len(VOCAB)), N_NODES)  # hops from each node to the goal, as far as known
        far[rows, goal] = d = 0
        while (far[rows, start] == N_NODES).any() and d < N_NODES:
            beyond = 1 + np.take_along_axis(far, targets, axis=1)
            np.minimum.at(far, (rows[:, None], sources), beyond)
            d += 1
        if d in (0, N_NODES) or (far[rows, start] != d).any():
            return None
        # Every path that comes nearer to the goal with every hop, of all rows at once: path i is
        # one of row of[i].
        of, paths = rows, start[:, None]
        left = np.take_along_axis(far, targets, axis=1)
        for hops in reversed(range(d)):
            onward = (sources[of] == paths[:, -1:]) & (left[of] == hops)
            which, edge = onward.nonzero()
            of = of[which]
            paths = columns(paths[which], targets[of, edge][:, None])
        paths = paths[np.lexsort((*paths.T[::-1], of))]
        M = len(paths) // n
        return paths.reshape(n, M, d + 1) if (np.bincount(of, minlength=n) == M).all() else None

    def belongs(self, parsed, cell):
        sources, targets, paths = parsed
        n, M, d = len(paths), paths.shape[1], paths.shape[2] - 1
        shape = (d, sources.shape[1], M) == (cell.depth, cell.length, cell.branching)
        # A dead end begins where an edge leaves a path before its last hop.
        early, on = np.zeros((2, n, len(VOCAB)), dtype=bool)
        rows = np.arange(n)[:, None, None]
        early[rows, paths[:, :, :-2]] = on[rows, paths] = True
        leaves = np.take_along_axis(early, sources, 1) & ~np.take_along_axis(on, targets, 1)
        plain = (cell.alphabet, cell.words) == ("seen", "any")
        return (leaves.sum(1) == cell.dead_ends) & shape & plain

    def accepted(self, prompts):
        paths = self.parse(prompts).paths
        n, M, nodes = paths.shape
        flat = paths.reshape(n * M, nodes)
        return columns(listed(flat[:, :-1], flat[:, 1:]), EOS).reshape(n, M, -1)

    def solutions(self, prompts, noise=0.0, rng=None, bias=0.0):
        """One accepted solution [n, S] of each: without rng the alphabetically first, else any of
        the M, or with probability `bias` the first. With noise, as in graph, with wrong
        destinations; after an error it follows listed edges, or where there are none goes on to a
        random node."""
        sources, targets, paths = self.parse(prompts)
        n, M, nodes = paths.shape
        choice = np.zeros(n, dtype=np.int64)
        if rng is not None:
            choice = rng.integers(M, size=n)
            choice[rng.random(n) < bias] = 0
        path = paths[np.arange(n), choice]
        successor = np.full((n, len(VOCAB)), -1)
        np.put_along_axis(successor, sources, targets, axis=1)  # the last that is listed
        np.put_along_axis(successor, path[:, :-1], path[:, 1:], axis=1)
        symbol = np.broadcast_to(NODE0 + np.arange(N_NODES), (n, N_NODES))
        return walks(successor, path[:, 0], nodes - 1, noise, rng, symbol)

    def redirect(self, prompts, choice):
        """The prompts [n, P], but that the last edge of accepted path number choice [n] leads to
        another node, so that M - 1 paths are left: if there is one, to a node from which no edge
        leads on. ValueError if there is one path only."""
        sources, targets, paths = self.parse(prompts)
        n, rows = len(prompts), np.arange(len(prompts))
        if paths.shape[1] == 1:
            raise ValueError("redirect: there is one path only, and none would be left")
        last, goal = paths[rows, choice, -2], paths[:, 0, -1]
        from_last = sources == last[:, None]
        cost = np.zeros((n, len(VOCAB)), dtype=np.int64)  # of leading to a token
        np.put_along_axis(cost, sources, 1, axis=1)
        np.put_along_axis(cost, np.where(from_last, targets, goal[:, None]), 2, axis=1)
        cost[rows, last] = 2
        other = NODE0 + cost[:, NODE0:NODE0 + N_NODES].argmin(1)
        edge = from_last & (targets == goal[:, None])
        return self.written(sources, np.where(edge, other[:, None], targets), paths[:, 0, 0], goal)

    def layout(self, prompts):
        ends = 3 * np.arange(1, self.parse(prompts[:1]).paths.shape[2])
        ends[-1] += 1        # <eos> closes the last step
        return ends, 4, 1    # the window is `; u v <eos>`, the answer in it v


# -------------------------------------------------------------------------------------- all of them

TASKS = {cls.name: cls() for cls in Task.__subclasses__()}
AXES = {name: task.axes for name, task in TASKS.items()}


def families(task):
    """The task names that a --task stands for: one, or for "both" arithmetic and graph."""
    return ["arithmetic", "graph"] if task == "both" else [task]


def cell_key(task, cell):
    """List of int that seeds what is drawn of a cell: another one for every task and cell."""
    letters = f"{cell.alphabet} {cell.words}".encode()
    routes = [cell.branching, cell.dead_ends]
    if routes == [1, 0]:  # as in every problem that was drawn before there were several solutions
        routes = []
    return [TASKS[task].key, cell.depth, cell.length, *letters, *routes]


def family_of(prompt):
    """Name of the family whose problem prompt [P] is (token ids). If there is none, the ValueError
    is that of the one family whose symbols these all are, or says that there is none.

    >>> family_of(encode("<bos> ; a b ; b c = >> a ="))
    'graph'
    """
    meant = []
    for task in TASKS.values():
        try:
            task.parse(np.array([prompt], dtype=np.int64))
            return task.name
        except ValueError as error:
            if set(KIND[prompt]) <= symbols(task):
                meant.append(str(error))
    if len(meant) == 1:  # else the symbols tell nothing
        raise ValueError(meant[0])
    *others, last = TASKS
    raise ValueError(f"no problem of {', '.join(others)} or {last} (python tasks.py shows some)")


def symbols(task):
    """The kinds of symbols that a family's prompts are written in."""
    cells = {cell for splits in task.axes.values() for cell in splits["id"]}
    rng = np.random.default_rng(0)
    return {kind for cell in cells for kind in KIND[task.sample(cell, 100, rng).prompts].flat}


# --------------------------------------------------------------------------------------- to look at

def demo():
    """Print a problem of every kind, and what the verifier says of three completions."""
    rng = np.random.default_rng(0)
    for name, task in TASKS.items():
        print(f"{name}: {task.__doc__}\n")
        for axis, splits in task.axes.items():
            print(f"  {axis}")
            for split in SPLITS:
                cell = splits[split][len(splits[split]) // 2]
                prompts, solutions = task.sample(cell, 1, rng)
                indent = " " * 24
                label = f"    {split:6s}{cell!s}".ljust(len(indent))
                print(textwrap.fill(label + decode(prompts[0]), 99, subsequent_indent=indent))
                print(f"{indent}{decode(solutions[0])}")
        demo_verifier(task, rng)


def demo_verifier(task, rng):
    """A right, a noisy and an unfinished completion of one prompt, and the verdict on each."""
    cell = max(next(iter(task.axes.values()))["id"])  # the deepest
    prompts, right = task.sample(cell, 100, rng)
    noisy = task.solutions(prompts, 0.4, rng)
    process = task.verify(prompts, noisy).process
    late = np.where(process < 1, process, -1).argmax()  # one that begins well
    prompt, right, noisy = prompts[[late]], right[late], noisy[late]
    asked = f"  the verifier, asked {decode(prompt[0])}"
    print("\n" + textwrap.fill(asked, 99, subsequent_indent=" " * 22))
    print(f"    {'completion':34s} trace  answer  process  well formed")
    for what, row in (("", right), ("a noisy demonstration", noisy), ("cut off", right[:-2])):
        verdict = task.verify(prompt, row[None])
        trace, answer, _, well_formed = ("yes" if x[0] else "no" for x in verdict)
        print(f"    {decode(row):34s} {trace:5s}  {answer:6s}  {verdict.process[0]:7.2f}"
              f"  {well_formed:11s}  {what}".rstrip())
    print()


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack the shadow digits
    demo()
