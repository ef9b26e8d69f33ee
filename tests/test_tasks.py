"""tasks.py: the generator and the verifier against slow, separately written code; the problems of
old runs to the bit; what is reserved; a new family as one class."""
import ast
import hashlib
import inspect
import itertools
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import tasks
import toy_family
from tasks import (AXES, BOS, EOS, NODES, PAD, SHADOW_NODES, SPLITS, TASKS, VOCAB, Cell, decode,
                   encode, family_of)

ROOT = Path(tasks.__file__).parent
SHADOW_DIGITS = "⓪①②③④⑤⑥⑦⑧⑨"
EVERY_CELL = list(dict.fromkeys(
    (name, cell) for name, axes in AXES.items() for splits in axes.values()
    for cells in splits.values() for cell in cells))


def slow_solution(text):
    """The solution of one prompt, from its text, one character at a time; shares no code with
    tasks.py."""
    body = text.replace("<bos>", "").strip().rstrip("=").strip()
    if "[" in body:
        state, word = body.split(" ", 1)
        alphabets = [SHADOW_DIGITS if c in SHADOW_DIGITS else "0123456789" for c in state]
        x = [alphabet.index(c) for alphabet, c in zip(alphabets, state)]
        written = []
        for op in word.strip("[]").split("]["):
            if op == "+1": x = [(d + 1) % 10 for d in x]
            elif op == "+3": x = [(d + 3) % 10 for d in x]
            elif op == "x3": x = [d * 3 % 10 for d in x]
            elif op == "neg": x = [(10 - d) % 10 for d in x]
            elif op == "rot": x = x[1:] + x[:1]
            elif op == "rev": x = x[::-1]
            elif op == "swap": x = [x[1], x[0]] + x[2:]
            elif op == "sum": x = [sum(x[:i + 1]) % 10 for i in range(len(x))]
            else: raise AssertionError(op)
            written.append("".join(alphabet[d] for alphabet, d in zip(alphabets, x)))
        return " ; ".join(written) + " <eos>"
    edges, rest = body.split("=")
    assert ">" in rest
    follow = dict(e.split() for e in edges.strip(" ;").split(";"))
    hops, node = rest.split()
    steps = []
    for _ in hops:
        steps.append(f"; {node} {follow[node]}")
        node = follow[node]
    return " ".join(steps) + " <eos>"


def slow_routes(text):
    """All shortest ways from start to goal of one prompt of route, as sorted lists of nodes: every
    way without a circle, walked one edge after the other; shares no code with tasks.py."""
    edges, ends = text.replace("<bos>", "").strip().rstrip("=").split("=")
    edges, (start, goal) = [e.split() for e in edges.strip(" ;").split(";")], ends.split()
    ways, found = [[start]], []
    while ways and not found:
        ways = [way + [v] for way in ways for u, v in edges if u == way[-1] and v not in way]
        found = [way for way in ways if way[-1] == goal]
    return sorted(found)


def right_solutions(name, prompt):
    """All accepted strings of a prompt, as text; a family of the reader's own, which the slow ones
    do not know, is asked itself."""
    if name in ("arithmetic", "graph"):
        return [slow_solution(decode(prompt))]
    if name == "route":
        return ["; " + " ; ".join(f"{u} {v}" for u, v in itertools.pairwise(way)) + " <eos>"
                for way in slow_routes(decode(prompt))]
    return [decode(s) for s in TASKS[name].accepted(prompt[None])[0]]


def are_right(name, prompts, solutions):
    """[bool]: whether each solution is one of its prompt's."""
    return [decode(s) in right_solutions(name, p) for p, s in zip(prompts, solutions)]


@pytest.mark.parametrize("name,cell", EVERY_CELL, ids=str)
def test_every_cell_has_the_right_problems_and_solutions(name, cell):
    task = TASKS[name]
    prompts, solutions = task.sample(cell, 24, np.random.default_rng(1))
    assert prompts.dtype == solutions.dtype == np.int64
    assert prompts.shape == (24, task.prompt_len(cell))
    assert solutions.shape == (24, task.solution_len(cell))
    assert all(are_right(name, prompts, solutions))
    accepted = task.accepted(prompts)
    assert accepted.shape == (24, cell.branching, task.solution_len(cell))
    for p, s, every in zip(prompts, solutions, accepted):
        assert [decode(one) for one in every] == right_solutions(name, p)
        assert encode(decode(p)) == p.tolist() and encode(decode(s)) == s.tolist()
    assert task.matches(prompts, cell).all()
    words = [cell.words, "any"] if cell.words != "any" else ["any", "seen", "held"]  # may overlap
    others = [c for n, c in EVERY_CELL
              if n == name and not (c[:3] + c[4:] == cell[:3] + cell[4:] and c.words in words)]
    assert not any(task.matches(prompts, c).any() for c in others)
    verdict = task.verify(prompts, solutions)
    assert verdict.trace.all() and verdict.answer.all() and verdict.well_formed.all()
    assert (verdict.process == 1).all()


def has_right_answer(name, completion, gold):
    """Whether the last state of a completion (its text before <eos>) is that of gold."""
    *before, last = completion.split(";")
    if name == "arithmetic":  # a state opens at the start, or after ` ; `
        opened = not before or last[:1] == " " and before[-1][-1:] == " "
        return opened and last.strip() == gold.split(";")[-1].strip()
    nodes = last.split()
    quoted = len(nodes) == 2 and nodes[0] in NODES + SHADOW_NODES
    return bool(before) and quoted and nodes[1] == gold.split()[-1]


@pytest.mark.parametrize("name,cell", [("arithmetic", Cell(3, 4)), ("graph", Cell(3, 8)),
                                       ("arithmetic", Cell(2, 3, "mixed")),
                                       ("route", Cell(3, 16, branching=4)),
                                       ("route", Cell(4, 14, branching=2, dead_ends=1))], ids=str)
def test_verifier_against_a_slow_one_on_damaged_completions(name, cell):
    task, rng = TASKS[name], np.random.default_rng(2)
    # wrong traces, some with right answers
    prompts, solutions = task.sample(cell, 300, rng, noise=0.4)
    N = solutions.shape[1] + 3
    completions = np.full((300, N), PAD)
    completions[:, :-3] = solutions
    for row in completions[100:]:  # and damage of every kind
        where = rng.integers(N)
        row[where] = rng.choice([PAD, EOS, BOS, tasks.SEP, rng.integers(len(VOCAB))])
    verdict = task.verify(prompts, completions)
    for i, (p, c) in enumerate(zip(prompts, completions)):
        golds = right_solutions(name, p)
        end = list(c).index(EOS) if EOS in c else N
        ended = end < N and (c[end + 1:] == PAD).all()
        text = decode(c[:end + 1]) if ended else None
        assert verdict.trace[i] == (ended and text in golds)
        answer = ended and has_right_answer(name, text[:-6], golds[0][:-6])
        assert verdict.answer[i] == answer, (decode(p), decode(c))
        ends, best = task.layout(p[None])[0], 0
        for gold in map(encode, golds):
            right = [(c[:end] == gold[:end]).all() and (end < len(gold) or ended) for end in ends]
            best = max(best, [*right, False].index(False))
        assert verdict.process[i] == best / cell.depth
        assert not verdict.trace[i] or verdict.well_formed[i]
    assert 0 < verdict.trace.mean() < 1
    assert (verdict.answer & ~verdict.trace).any() and (verdict.well_formed & ~verdict.trace).any()


def judge(prompt, completion, task="arithmetic"):
    v = TASKS[task].verify(np.array([encode(prompt)]), np.array([encode(completion)]))
    return bool(v.trace[0]), bool(v.answer[0]), float(v.process[0]), bool(v.well_formed[0])


@pytest.mark.parametrize("completion,expected", [
    ("42 ; 53 <eos>", (True, True, 1.0, True)),
    ("42 ; 53 <eos> <pad> <pad>", (True, True, 1.0, True)),
    ("42 ; 53 <eos> 53", (False, False, 0.5, False)),         # trailing junk
    ("42 ; 53 <eos> <eos>", (False, False, 0.5, False)),
    ("41 ; 53 <eos>", (False, True, 0.0, True)),              # right answer, wrong trace
    ("53 <eos>", (False, True, 0.0, False)),                  # right answer, no trace
    ("42 ; 53 ;", (False, False, 0.5, False)),                # does not end
    ("42 ; 53", (False, False, 0.5, False)),                  # cut off before the end
    ("42 ; 35 <eos>", (False, False, 0.5, True)),             # well formed and wrong
    ("42 ; ⑤3 <eos>", (False, False, 0.5, False)),            # a symbol of the other alphabet
    ("42 ; 153 <eos>", (False, False, 0.5, False)),           # another number, that ends alike
    ("42 ; <pad> 53 <eos>", (False, False, 0.5, False)),
    ("<eos>", (False, False, 0.0, False)),                    # says nothing
    ("<pad> <pad>", (False, False, 0.0, False)),
])
def test_verdicts_by_hand(completion, expected):
    assert judge("<bos> 31 [+1][+1] =", completion) == expected


def test_graph_verdicts_by_hand():
    prompt = "<bos> ; c d ; a b ; b c = >> a ="
    assert judge(prompt, "; a b ; b c <eos>", "graph") == (True, True, 1.0, True)
    # an edge that is not listed
    assert judge(prompt, "; a d ; d c <eos>", "graph") == (False, True, 0.0, True)
    assert judge(prompt, "; a b ; b d <eos>", "graph") == (False, False, 0.5, True)
    assert judge(prompt, "; a b ; b c", "graph") == (False, False, 0.5, False)
    # the walk leaves the edges: nothing is right
    assert not judge("<bos> ; a b = >> a =", "; a b ; b c <eos>", "graph")[0]


# ---------------------------------------------------------------------------------------- route

DIAMOND = "<bos> ; b d ; a c ; c d ; a b = a d ="


def test_route_verdicts_by_hand():
    for right in ("; a b ; b d <eos>", "; a c ; c d <eos>"):
        assert judge(DIAMOND, right, "route") == (True, True, 1.0, True)
        assert judge(DIAMOND, right + " <pad>", "route") == (True, True, 1.0, True)
        assert judge(DIAMOND, right + " a", "route") == (False, False, 0.5, False)
    assert judge(DIAMOND, "; a c ; b d <eos>", "route") == (False, True, 0.5, True)  # two halves
    assert judge(DIAMOND, "; a d <eos>", "route") == (False, True, 0.0, False)       # not listed
    assert judge(DIAMOND, "; a c ; c b <eos>", "route") == (False, False, 0.5, True)
    longer = "<bos> ; a b ; b c ; c d ; b d = a d ="   # of two ways, only the shorter is right
    assert judge(longer, "; a b ; b d <eos>", "route")[0]
    assert not judge(longer, "; a b ; b c ; c d <eos>", "route")[0]


def test_of_all_strings_of_a_tiny_route_problem_the_accepted_ones_verify_and_no_other():
    tokens = encode("; a b c d <eos>")
    every = np.array(list(itertools.product(tokens, repeat=7)))
    assert len(every) == 6 ** 7
    prompt, right = np.array([encode(DIAMOND)]), []
    assert TASKS["route"].matches(prompt, Cell(2, 4, branching=2)).all()
    for part in np.array_split(every, 8):
        trace = TASKS["route"].verify(prompt.repeat(len(part), axis=0), part).trace
        right += [decode(s) for s in part[trace]]
    assert sorted(right) == ["; a b ; b d <eos>", "; a c ; c d <eos>"]


ROUTE_CELLS = [cell for name, cell in EVERY_CELL if name == "route"]


@pytest.mark.parametrize("cell", ROUTE_CELLS, ids=str)
def test_a_dead_end_leaves_a_path_early_and_misses_the_goal_as_deep_as_it(cell):
    for prompt in TASKS["route"].sample(cell, 40, np.random.default_rng(4)).prompts:
        ways = slow_routes(decode(prompt))
        assert len(ways) == cell.branching and {len(way) for way in ways} == {cell.depth + 1}
        assert len({way[-2] for way in ways}) == len(ways)   # each has a last edge of its own
        words = decode(prompt).split()
        edges = list(zip(words[2:3 * cell.length + 1:3], words[3:3 * cell.length + 1:3]))
        assert len(set(edges)) == cell.length
        on = set(itertools.chain(*ways))
        early = {way[t]: t for way in ways for t in range(cell.depth - 1)}
        begun = [(v, early[u]) for u, v in edges if u in early and v not in on]
        assert len(begun) == cell.dead_ends
        for node, t in begun:   # one way on, until there is the goal's layer
            for _ in range(cell.depth - t - 2):
                node, = [v for u, v in edges if u == node]
                assert node not in on
            last = [v for u, v in edges if u == node]
            assert last and words[-2] not in last


def test_a_demonstration_is_any_accepted_path_or_by_the_dial_the_first():
    task, cell = TASKS["route"], Cell(3, 16, branching=4)
    for bias, first in ((0, 0.25), (0.5, 0.625), (1, 1)):
        prompts, shown = task.sample(cell, 8000, np.random.default_rng(0), bias=bias)
        which = (task.accepted(prompts) == shown[:, None]).all(2)
        assert (which.sum(1) == 1).all()
        others = (1 - first) / 3
        assert which.mean(0) == pytest.approx([first, others, others, others], abs=0.02)
    assert (task.solutions(prompts) == task.accepted(prompts)[:, 0]).all()
    with pytest.raises(ValueError, match="graph has no bias"):
        TASKS["graph"].sample(Cell(1, 8), 1, np.random.default_rng(0), bias=0.5)


def test_noise_in_route_writes_other_destinations_and_goes_on_from_them():
    task, cell = TASKS["route"], Cell(3, 16, branching=2)
    prompts, noisy = task.sample(cell, 4000, np.random.default_rng(0), noise=0.4)
    u, v = noisy[:, 1::3][:, :3], noisy[:, 2::3]
    assert (u[:, 0] == prompts[:, -3]).all() and (u[:, 1:] == v[:, :-1]).all()
    listed = [{*zip(p[2:50:3], p[3:50:3])} for p in prompts.tolist()]
    known = np.array([[edge in edges for edge in zip(*steps)]
                      for edges, *steps in zip(listed, u.tolist(), v.tolist())])
    leads_on = np.array([[node in {a for a, _ in edges} for node in nodes]
                         for edges, nodes in zip(listed, u.tolist())])
    # of 16 nodes about 3 are listed after one that leads on
    assert known[leads_on].mean() == pytest.approx(0.6 + 0.4 * 2 / 16, abs=0.03)
    assert not known[~leads_on].any() and (~leads_on).any()


@pytest.mark.parametrize("cell", [c for c in ROUTE_CELLS if c.branching > 1], ids=str)
def test_a_redirected_path_is_gone_and_the_others_are_as_before(cell):
    task = TASKS["route"]
    prompts = task.sample(cell, 60, np.random.default_rng(0)).prompts
    accepted, choice = task.accepted(prompts), np.arange(60) % cell.branching
    changed = task.redirect(prompts, choice)
    assert ((changed != prompts).sum(1) == 1).all()
    for before, after, strings, gone in zip(prompts, changed, accepted, choice):
        kept = [decode(s) for i, s in enumerate(strings) if i != gone]
        assert right_solutions("route", after) == kept
        where, = np.flatnonzero(before != after)
        assert before[where - 1:where + 1].tolist() == strings[gone][-3:-1].tolist()


def test_the_only_path_cannot_be_redirected():
    with pytest.raises(ValueError, match="one path only"):
        TASKS["route"].redirect(np.array([encode("<bos> ; b c ; a b = a c =")]), np.array([0]))


@pytest.mark.parametrize("text", [
    "<bos> ; a b ; b c = a d =", "<bos> ; a b ; b c = a a =", "<bos> ; A b ; b c = A c =",
    "<bos> ; a b ; a b ; b c = a c =", "; a b ; b c = a c = <bos>", "<bos> a b c = a c ="])
def test_what_is_no_route_problem_is_refused(text):
    with pytest.raises(ValueError, match="route expects edges"):
        TASKS["route"].parse(np.array([encode(text)]))


@pytest.mark.parametrize("other", ["; a b ; b d ; a c ; a d = a d =",      # one hop, not two
                                   "; a b ; b d ; a c ; c b = a d ="])     # one path, not two
def test_route_prompts_of_one_batch_have_one_shape(other):
    pair = np.array([encode(DIAMOND), [BOS, *encode(other)]])
    for prompts in (pair, pair[::-1]):
        with pytest.raises(ValueError, match="route expects edges"):
            TASKS["route"].accepted(prompts)


def test_the_verifier_evaluates_no_code():
    nodes = ast.walk(ast.parse(inspect.getsource(tasks)))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    calls = {function.id for function in functions if isinstance(function, ast.Name)}
    assert not calls & {"eval", "exec", "compile", "__import__"}


def test_vocabulary():
    assert len(set(VOCAB)) == len(VOCAB) and len({PAD, BOS, EOS}) == 3
    everything = list(range(len(VOCAB)))
    assert encode(decode(everything)) == everything
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.integers(len(VOCAB), size=12).tolist()
        assert encode(decode(ids)) == ids
    with pytest.raises(ValueError, match="'Z'"):
        encode("31 Z")


@pytest.mark.parametrize("length", range(2, 8))
def test_operations_are_bijections(length):
    states = np.array(list(itertools.product(range(10), repeat=min(length, 4))))
    states = np.hstack([states, np.zeros((len(states), length - states.shape[1]), dtype=int)])
    for op in range(8):
        images = tasks.apply_operation(np.full(len(states), op), states)
        assert len(np.unique(images, axis=0)) == len(states)


def test_held_out_pairs_are_disjoint_from_seen_ones_as_functions():
    """On all 10,000 inputs, not by the signature that the split itself was made with."""
    states = np.array(list(itertools.product(range(10), repeat=4)))
    def function(word):
        x = states
        for op in word:
            x = tasks.apply_operation(np.full(len(x), op), x)
        return x.tobytes()
    held = tasks.held_pairs()
    functions = {pair: function(pair) for pair in itertools.product(range(8), repeat=2)}
    seen = {f for pair, f in functions.items() if not held[pair]}
    unseen = {f for pair, f in functions.items() if held[pair]}
    assert len(seen | unseen) == 45 and len(unseen) == 17 and not seen & unseen
    assert not unseen & {function(())} and not unseen & {function((op,)) for op in range(8)}
    assert (~held).sum(0).min() >= 3 and (~held).sum(1).min() >= 3
    for name in ("[neg]", "[rev]", "[swap]", "[x3]"):
        op = tasks.OPERATIONS.index(name)
        assert not held[op, op]
    # the fast signature tells exactly the same words apart
    assert len({tasks.word_function(p) for p in functions}) == 45
    assert 0 < tasks.disguised_share(2) < 1


def test_composition_cells_hold_what_they_say():
    rng, held, task = np.random.default_rng(3), tasks.held_pairs(), TASKS["arithmetic"]
    for split, cells in AXES["arithmetic"]["composition"].items():
        for cell in cells:
            ops = task.parse(task.sample(cell, 500, rng).prompts)[2]
            n_held = sum(held[ops[:, t], ops[:, t + 1]].astype(int) for t in range(cell.depth - 1))
            assert np.all(n_held == 0) if split == "id" else np.all(n_held > 0)


def slowly_reserved(prompt):
    """The hash of one prompt in whole numbers, which do not wrap; shares no code with tasks.py."""
    h = 0
    for token in prompt.tolist():
        h = (h ^ token) * 0x100000001B3 % 2 ** 64
        h ^= h >> 29
    return (h >> 13) % 8 == 0


LARGE_CELLS = [(name, cell) for name, cell in EVERY_CELL if not TASKS[name].enumerated(cell)]


@pytest.mark.parametrize("name,cell", LARGE_CELLS, ids=str)
def test_no_split_draws_a_prompt_of_the_other(name, cell):
    task = TASKS[name]
    for noise in (0.0, 0.3):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            train = task.sample(cell, 300, rng, noise, split="train").prompts
            test = task.sample(cell, 40, rng, noise, split="eval").prompts
            assert not any(map(slowly_reserved, train)) and all(map(slowly_reserved, test))
    everything = task.sample(cell, 2000, rng).prompts
    assert 0.09 < np.mean([slowly_reserved(p) for p in everything]) < 0.16


def test_small_cells_are_enumerated():
    task, cell = TASKS["arithmetic"], Cell(1, 2)
    assert task.size(cell) == 800 and task.enumerated(cell) and not task.enumerated(Cell(2, 3))
    prompts = task.sample(cell, 800, np.random.default_rng(0), split="eval").prompts
    assert len(np.unique(prompts, axis=0)) == 800


@pytest.mark.parametrize("name,cell,chance", [("arithmetic", Cell(3, 4), 9 / 10),
                                              ("graph", Cell(3, 8), 15 / 16),
                                              ("route", Cell(3, 16), 15 / 16)])
def test_noise_corrupts_at_the_stated_rate_and_errors_propagate(name, cell, chance):
    task = TASKS[name]
    prompts, noisy = task.sample(cell, 20_000, np.random.default_rng(5), noise=0.3)
    clean = task.sample(cell, 20_000, np.random.default_rng(5))
    assert (prompts == clean.prompts).all()  # noise does not change which problems are asked
    process = task.verify(prompts, noisy).process
    right = 1 - 0.3 * chance  # q' = q * (chance that the random symbol differs)
    for depth in (1, 2, 3):
        assert abs((process >= depth / 3 - 1e-9).mean() - right ** depth) < 0.015
    assert task.verify(prompts, noisy).well_formed.all()
    # after an error, the chain goes on consistently from the wrong state
    if name == "arithmetic":
        steps = noisy.reshape(-1, 3, 5)[:, :, :4] - tasks.DIGIT0
        ops = task.parse(prompts)[2]
        consistent = (tasks.apply_operation(ops[:, 1], steps[:, 0]) == steps[:, 1]).all(1)
        assert abs(consistent[process == 0].mean() - right) < 0.02


UNMARKED = np.arange(len(VOCAB))   # every token as it would stand in the seen alphabet
UNMARKED[[VOCAB.index(c) for c in [*SHADOW_DIGITS, *SHADOW_NODES]]] = [
    VOCAB.index(c) for c in [*"0123456789", *NODES]]


@pytest.mark.parametrize("name,cell,step", [("arithmetic", Cell(3, 4), 5),
                                            ("graph", Cell(3, 8), 3)])
def test_marked_noise_is_the_same_noise_and_says_where_it_begins(name, cell, step):
    """The same demonstrations, but that the wrong symbol and every state after it are shadows."""
    task = TASKS[name]
    for noise in (0.0, 0.4):
        prompts, plain = task.sample(cell, 400, np.random.default_rng(5), noise)
        same, marked = task.sample(cell, 400, np.random.default_rng(5), noise, noise_kind="marked")
        clean = task.solutions(prompts)
        assert (prompts == same).all() and (UNMARKED[marked] == plain).all()
        is_right = (marked == clean).all(1)
        assert (is_right == (plain == clean).all(1)).all() and is_right.any()
        shadows = (marked != UNMARKED[marked])
        assert not shadows[is_right].any() and (is_right.all() if noise == 0 else 1)
        for ours, gold, dark in zip(marked[~is_right], clean[~is_right], shadows[~is_right]):
            first = (UNMARKED[ours] != gold).argmax()
            end = first // step * step + step      # of the step that went wrong
            assert dark[first] and not dark[:first].any()
            wrong_here = UNMARKED[ours[first:end]] != gold[first:end]
            assert (dark[first:end] == wrong_here).all()
            later = np.isin(ours[end:], [tasks.SEP, EOS])
            assert (dark[end:] == ~later).all()
    with pytest.raises(ValueError, match="must be in the seen one"):
        task.sample(cell._replace(alphabet="mixed"), 9, np.random.default_rng(0), 0.5,
                    noise_kind="marked")


def test_a_marked_wrong_chain_is_one_that_marked_noise_writes():
    task, cell = TASKS["arithmetic"], Cell(3, 4)
    prompts = task.sample(cell, 50, np.random.default_rng(0)).prompts
    plain, marked = (task.wrong_chains(prompts, np.random.default_rng(1), kind)
                     for kind in ("random", "marked"))
    assert (UNMARKED[marked] == plain).all()
    dark = (marked != plain).reshape(50, 3, 5)
    assert (dark[:, 0].sum(1) == 1).all() and dark[:, 1:, :4].all() and not dark[:, :, 4].any()
    assert (dark[:, 0] == (plain != task.solutions(prompts)).reshape(50, 3, 5)[:, 0]).all()


def test_biased_noise_makes_one_operation_wrong_in_one_way():
    task, cell = TASKS["arithmetic"], Cell(1, 4)
    prompts, noisy = task.sample(cell, 8000, np.random.default_rng(5), 0.6, noise_kind="biased")
    off = (noisy - task.solutions(prompts))[:, :4] % 10
    ours = task.parse(prompts)[2][:, 0] == tasks.OPERATIONS.index("[+3]")
    assert not off[~ours].any() and not off[:, 1:].any() and set(off[:, 0]) == {0, 1}
    assert off[ours, 0].mean() == pytest.approx(0.6, abs=0.05)
    prompts, noisy = task.sample(Cell(3, 4), 8000, np.random.default_rng(5), 1.0,
                                 noise_kind="biased")
    touched = (task.parse(prompts)[2] == tasks.OPERATIONS.index("[+3]")).any(1)
    assert (task.verify(prompts, noisy).trace == ~touched).all()   # and it propagates


@pytest.mark.parametrize("symbols,most", [(1, 1), (3, 3), (7, 4)])
def test_a_corruption_can_replace_several_symbols(symbols, most):
    task = TASKS["arithmetic"]
    prompts, noisy = task.sample(Cell(1, 4), 20_000, np.random.default_rng(5), 0.5,
                                 noise_symbols=symbols)
    wrong = (noisy != task.solutions(prompts))[:, :4]
    assert wrong.all(1).any() == (most == 4) and wrong.sum(1).max() == most
    assert wrong.mean(0) == pytest.approx(4 * [0.5 * 0.9 * most / 4], abs=0.015)  # all alike
    assert (~wrong.any(1)).mean() == pytest.approx(0.5 + 0.5 * 0.1 ** most, abs=0.015)
    if most == 3:   # neighbours, around the end: never the first and the third alone
        gaps = wrong.sum(1) == 3
        assert {tuple(row) for row in wrong[gaps].astype(int)} == {
            (1, 1, 1, 0), (0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1)}


def test_noise_that_a_family_does_not_have_is_refused():
    with pytest.raises(ValueError, match="graph has no noise biased; it has random, marked"):
        TASKS["graph"].sample(Cell(1, 8), 1, np.random.default_rng(0), noise_kind="biased")
    with pytest.raises(ValueError, match="arithmetic has no noise other; it has random"):
        TASKS["arithmetic"].sample(Cell(1, 4), 1, np.random.default_rng(0), noise_kind="other")


@pytest.mark.parametrize("name,cell", EVERY_CELL, ids=str)
def test_what_is_asked_for_clean_is_clean_after_a_noisy_draw(name, cell):
    """Evaluation's gold must not remember the noise of the demonstrations drawn before it."""
    task, rng = TASKS[name], np.random.default_rng(6)
    for split in ("all", "train", "eval"):
        noisy = task.sample(cell, 40, rng, noise=0.9, split=split)
        assert not all(are_right(name, *noisy))
        for clean in (task.sample(cell, 40, rng, split=split), task.sample(cell, 40, rng, 0.0)):
            assert all(are_right(name, *clean))
            slow = [encode(right_solutions(name, p)[-1]) for p in clean.prompts]
            assert task.verify(clean.prompts, np.array(slow)).trace.all()


@pytest.mark.parametrize("name,lengths", [("arithmetic", [2, 4]), ("graph", [3, 8, 16])])
@pytest.mark.parametrize("alphabet", ["seen", "shadow"])
def test_noise_writes_symbols_of_the_alphabet_of_the_problem(name, lengths, alphabet):
    """A graph problem of 3 edges shows few of the 16 nodes; the others have an alphabet too."""
    every = {"seen": {*"0123456789", *NODES}, "shadow": {*SHADOW_DIGITS, *SHADOW_NODES}}
    for length in lengths:
        solutions = TASKS[name].sample(Cell(3, length, alphabet), 500, np.random.default_rng(0),
                                       noise=0.9).solutions
        written = {VOCAB[i] for i in np.unique(solutions)} - {";", "<eos>"}
        assert written <= every[alphabet] and len(written) == (10 if name == "arithmetic" else 16)


def test_noise_in_a_mixed_graph_keeps_the_alphabet_of_each_shown_node():
    prompts, solutions = TASKS["graph"].sample(Cell(3, 16, "mixed"), 300,
                                               np.random.default_rng(0), noise=0.9)
    for p, s in zip(prompts, solutions):  # 16 edges show every node
        assert set(decode(s).split()) <= set(decode(p).split()) | {"<eos>"}


def test_mixed_problems_mix():
    p = TASKS["arithmetic"].sample(Cell(3, 4, "mixed"), 500, np.random.default_rng(0)).prompts
    shadow = TASKS["arithmetic"].parse(p)[1] == tasks.SHADOW_DIGIT0
    assert shadow.any(1).all() and not shadow.all(1).any()
    p = TASKS["graph"].sample(Cell(3, 8, "mixed"), 500, np.random.default_rng(0)).prompts
    for row in p:
        shown = set(decode(row).split()) & set(NODES + SHADOW_NODES)
        assert any(c.isupper() for c in shown) and any(c.islower() for c in shown)
        assert not {c.lower() for c in shown if c.isupper()} & shown  # never both `a` and `A`


@pytest.mark.parametrize("name,cell", [
    ("graph", Cell(9, 8)), ("graph", Cell(2, 8, words="held")),
    ("arithmetic", Cell(1, 4, words="held")), ("arithmetic", Cell(0, 4)),
    ("arithmetic", Cell(2, 1)), ("arithmetic", Cell(2, 4, "other")),
    ("arithmetic", Cell(2, 4, branching=2)), ("graph", Cell(2, 8, dead_ends=1)),
    ("route", Cell(1, 16)), ("route", Cell(2, 16, "shadow")), ("route", Cell(3, 16, branching=8)),
    ("route", Cell(2, 3)), ("route", Cell(6, 16, branching=4, dead_ends=4)),
    ("route", Cell(2, 5, branching=2, dead_ends=1))])
def test_impossible_cells_are_refused(name, cell):
    with pytest.raises(ValueError, match=f"impossible {name} cell"):
        TASKS[name].sample(cell, 1, np.random.default_rng(0))


def test_splits_of_an_axis_are_disjoint():
    for axes in AXES.values():
        for splits in axes.values():
            cells = [c for s in SPLITS for c in splits[s]]
            assert len(set(cells)) == len(cells)


# ------------------------------------------------------------------------ the problems of old runs

def digest(*arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]


# name, cell, seed, noise, split and the digest of 200 problems, as each family's first edition drew
# them.
DRAWN = [
    ("arithmetic", Cell(3, 4), 0, 0.0, "all", "3979cf39e5ecc46b"),
    ("arithmetic", Cell(2, 4), 1, 0.3, "train", "1a41d77038dc97ef"),
    ("arithmetic", Cell(1, 2), 2, 0.0, "eval", "e7f121f89e37e2fc"),
    ("arithmetic", Cell(1, 3), 2, 0.0, "eval", "5db2700b5ac3c0c3"),
    ("arithmetic", Cell(6, 4), 3, 0.5, "eval", "b13e8cf096a2c268"),
    ("arithmetic", Cell(3, 7, "mixed"), 4, 0.1, "train", "512cb73166e0d196"),
    ("arithmetic", Cell(2, 4, "shadow"), 5, 0.3, "all", "6df0adee28cbb00c"),
    ("arithmetic", Cell(3, 4, "seen", "seen"), 6, 0.3, "train", "9cd0d06469942725"),
    ("arithmetic", Cell(3, 4, "seen", "held"), 7, 0.0, "eval", "517ab047c7d10553"),
    ("graph", Cell(3, 8), 0, 0.0, "all", "15667ecfc9e10a24"),
    ("graph", Cell(2, 8), 1, 0.3, "train", "b3ef9fc64ab6bf5f"),
    ("graph", Cell(1, 6), 2, 0.0, "eval", "32c055adaa821cfb"),
    ("graph", Cell(6, 8), 3, 0.5, "eval", "9fac7cadfbe1aa2d"),
    ("graph", Cell(3, 16), 4, 0.1, "train", "e7e322195cc3bb2e"),
    ("graph", Cell(2, 8, "shadow"), 5, 0.3, "all", "3365afcae898dd09"),
    ("graph", Cell(3, 8, "mixed"), 6, 0.3, "train", "98e32cac02fccca5"),
    ("route", Cell(3, 16, branching=4), 0, 0.0, "all", "54b73ae9dd54fb70"),
    ("route", Cell(4, 16, branching=2, dead_ends=2), 1, 0.3, "train", "89a9e75600b27f05"),
    ("route", Cell(2, 16, branching=8), 2, 0.0, "eval", "590ffb4eb9a77e31"),
]


@pytest.mark.parametrize("name,cell,seed,noise,split,expected", DRAWN)
def test_the_problems_are_those_of_old_runs(name, cell, seed, noise, split, expected):
    drawn = TASKS[name].sample(cell, 200, np.random.default_rng(seed), noise, split)
    assert digest(*drawn) == expected


@pytest.mark.parametrize("name,expected", [("arithmetic", "272ff94b2be7e811"),
                                           ("graph", "e9274442f714cd07")])
def test_the_copy_problems_are_those_of_old_runs(name, expected):
    prompts, solutions = TASKS[name].copies(200, 4, np.random.default_rng(8))
    assert digest(prompts, solutions) == expected
    assert (prompts[:, 1:-1] == solutions[:, :-1]).all() and (solutions[:, -1] == EOS).all()
    assert (prompts[:, 0] == BOS).all() and (prompts[:, -1] == tasks.EQUALS).all()


def test_wrong_chains_and_seeds_are_those_of_old_runs():
    task = TASKS["arithmetic"]
    prompts = task.sample(Cell(3, 4), 200, np.random.default_rng(9)).prompts
    assert digest(task.wrong_chains(prompts, np.random.default_rng(9))) == "931a31a30b6c4361"
    assert tasks.cell_key("arithmetic", Cell(3, 4)) == [0, 3, 4, *b"seen any"]
    assert tasks.cell_key("graph", Cell(2, 8, "shadow")) == [1, 2, 8, *b"shadow any"]
    more = tasks.cell_key("route", Cell(2, 16, branching=2, dead_ends=1))
    assert more == [zlib.crc32(b"route"), 2, 16, *b"seen any", 2, 1]
    assert tasks.disguised_share(2) == 0.32 and list(TASKS)[:2] == ["arithmetic", "graph"]


# ----------------------------------------------------------------------------------- families

def test_what_a_family_need_not_define():
    class Other(tasks.Task):
        name = "other"

        def size(self, cell):
            return 10
    other = Other()
    assert other.key == zlib.crc32(b"other") and other.pretrain_lr == 1e-2
    assert TASKS["graph"].pretrain_lr == 5e-3 and "other" not in TASKS
    with pytest.raises(ValueError, match="other has no shadow symbols"):
        other.copies(3, 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="other has no prompts_at"):
        other.prompts(Cell(1, 2), 3, np.random.default_rng(0))


@pytest.mark.parametrize("text,name", [
    ("<bos> 3141 [+1][rev] =", "arithmetic"), ("<bos> 3①4② [sum] =", "arithmetic"),
    ("<bos> ; a b ; b c = >> a =", "graph"), ("<bos> ; A b = > A =", "graph"),
    ("<bos> ; b c ; a b = a c =", "route")])
def test_the_family_of_a_prompt(text, name):
    assert family_of(encode(text)) == name
    assert tasks.families("both") == ["arithmetic", "graph"] and tasks.families(name) == [name]


@pytest.mark.parametrize("whose,texts", [
    ("arithmetic expects", ["<bos> 3141 =", "<bos> 3141 [+1]", "3141 [+1] =",
                            "<bos> 31 [+1] 4 [+1] ="]),
    ("graph expects", ["<bos> ; a b = a =", "<bos> ; a b > = a =", "<bos> ; a ; b = > a =",
                       "<bos> ; a b = > a", "; a b = > a = =", "hello"]),
    ("no problem of arithmetic or graph (", ["", "<bos>", "= =", "<bos> a [+1] =",
                                             "<bos> 3;1 [+1] =", "<bos> ; a 1 = > a ="])])
def test_a_prompt_of_no_family_hears_from_the_one_whose_symbols_it_has(whose, texts, monkeypatch):
    two = {name: TASKS[name] for name in ("arithmetic", "graph")}   # a third may know the prompt
    monkeypatch.setattr(tasks, "TASKS", two)
    for text in texts:
        with pytest.raises(ValueError) as error:
            family_of(encode(text))
        assert str(error.value).startswith(whose) and "\n" not in str(error.value)


def test_a_prompt_of_two_families_symbols_is_of_neither():
    with pytest.raises(ValueError, match="^no problem of arithmetic, graph or route"):
        family_of(encode("<bos> ; a b = b a ="))
    with pytest.raises(ValueError, match="^graph expects edges"):
        family_of(encode("<bos> ; a b = > b a ="))


def test_a_family_does_not_take_the_problems_of_another():
    for name, cell in EVERY_CELL:
        prompts = TASKS[name].sample(cell, 5, np.random.default_rng(0)).prompts
        assert all(family_of(p) == name for p in prompts)
        for other in set(TASKS) - {name}:
            cells = [c for n, c in EVERY_CELL if n == other]
            assert not any(TASKS[other].matches(prompts, c).any() for c in cells)


def run_python(folder, *argv):
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, *argv], cwd=folder, env=environment,
                          capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tasks_py_shows_a_problem_of_every_kind():
    shown = run_python(ROOT, "tasks.py")
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 100
    for name, axes in AXES.items():
        mine = shown[shown.index(f"{name}:"):]
        for axis, splits in axes.items():
            mine = mine[mine.index(f"  {axis}\n"):]
            for split, cells in splits.items():
                mine = mine[mine.index(f"    {split}"):]
                assert mine.split()[1:3] in [str(cell).split()[:2] for cell in cells]
                start = mine.index("<bos>")
                prompt, solution = mine[start:mine.index("<eos>") + 5].split(" =\n")
                prompt, solution = " ".join(prompt.split()) + " =", solution.strip()
                assert solution in right_solutions(name, np.array(encode(prompt)))
    assert shown.count("a noisy demonstration") == shown.count("cut off") == len(TASKS)
    for line in lines:  # the verdicts are those of the verifier: yes, yes, 1.00, yes of a solution
        if "a noisy demonstration" in line or "cut off" in line:
            assert " no " in line and " 1.00 " not in line


USE_THE_TOY = """
import numpy as np, torch
from measure import eval_problems, log_mass, split_masses
from model import GPT, GPTConfig
from tasks import AXES, TASKS, VOCAB, Cell, cell_key, decode, encode, families, family_of, reserved

toy, rng = TASKS["copycat"], np.random.default_rng(0)
for split, cells in AXES["copycat"]["length"].items():
    for cell in cells:
        prompts, solutions = toy.sample(cell, 50, rng, split="train")
        assert prompts.shape == (50, toy.prompt_len(cell))
        assert solutions.shape == (50, toy.solution_len(cell))
        assert (prompts[:, 1:-1] == solutions[:, :-1]).all() and toy.matches(prompts, cell).all()
        assert toy.verify(prompts, solutions).trace.all()
        noisy = toy.sample(cell, 400, rng, noise=0.5)
        verdict = toy.verify(*noisy)
        assert 0.4 < verdict.trace.mean() < 0.7 and verdict.well_formed.all()
        assert toy.enumerated(cell) or not reserved(prompts).any()
        assert toy.enumerated(cell) or reserved(eval_problems("copycat", cell, 9).prompts).all()
junk = np.array([encode("31 <eos>"), encode("13 <eos>"), encode("31 =")])
verdict = toy.verify(np.array([encode("<bos> 31 =")] * 3), junk)
assert verdict.trace.tolist() == verdict.answer.tolist() == [True, False, False]
assert verdict.process.tolist() == [1, 0, 0] and verdict.well_formed.tolist() == [True, True, False]

for nothing in ("", "<bos>", "31 ="):
    try:
        raise AssertionError(family_of(encode(nothing)))
    except ValueError as error:
        assert "copycat" in str(error)
for text, name in (("<bos> 31 =", "copycat"), ("<bos> 31 [+1] =", "arithmetic")):
    assert family_of(encode(text)) == name
assert cell_key("copycat", Cell(1, 2))[0] > 1 and families("copycat") == ["copycat"]

torch.manual_seed(0)
model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=8)).double()
prompts, solutions = toy.sample(Cell(1, 2), 5, rng)
by_hand = []
for p, s in zip(prompts, solutions):
    logp = model(torch.tensor([*p, *s])[None])[0].log_softmax(-1)
    by_hand.append(sum(logp[len(p) - 1 + t, s[t]].item() for t in range(3)))
assert np.allclose(log_mass(model, prompts, solutions), by_hand)
assert set(split_masses(model, "copycat", "length", 4)) == {"id", "edge", "hard"}
print("the toy works")
"""


def test_a_new_family_is_one_class(tmp_path):
    """The class is inserted into a copy of tasks.py and nothing else is changed."""
    for name in ("tasks.py", "theory.py", "model.py", "measure.py"):
        shutil.copy(ROOT / name, tmp_path)
    toy_family.add_to(tmp_path)
    assert toy_family.TOY_FAMILY.strip().count("\n") < 32  # the docs show it
    assert max(map(len, toy_family.TOY_FAMILY.splitlines())) <= 100
    shown = run_python(tmp_path, "tasks.py")
    assert all(f"{name}:" in shown for name in ("arithmetic", "graph", "copycat"))
    assert run_python(tmp_path, "-c", USE_THE_TOY) == "the toy works\n"
