"""tasks.py: the generator and the verifier against slow, separately written code; splits; mixtures."""
import ast
import inspect
import itertools

import numpy as np
import pytest

import pretrain
import tasks
from tasks import AXES, BOS, EOS, NODES, PAD, SHADOW_NODES, SPLITS, TASKS, VOCAB, Cell, decode, encode

EVERY_CELL = [(name, cell) for name, axes in AXES.items() for splits in axes.values() for cells in splits.values() for cell in cells]
EVERY_CELL = list(dict.fromkeys(EVERY_CELL))


def slow_solution(text):
    """The solution of one prompt, from its text, one character at a time; shares no code with tasks.py."""
    body = text.replace("<bos>", "").strip().rstrip("=").strip()
    if "[" in body:
        state, word = body.split(" ", 1)
        shadow = [c in "⓪①②③④⑤⑥⑦⑧⑨" for c in state]
        x = ["0123456789⓪①②③④⑤⑥⑦⑧⑨".index(c) % 10 for c in state]
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
            written.append("".join(("⓪①②③④⑤⑥⑦⑧⑨" if s else "0123456789")[d] for d, s in zip(x, shadow)))
        return " ; ".join(written) + " <eos>"
    edges, rest = body.split("=")
    follow = dict(e.split() for e in edges.strip(" ;").split(";"))
    hops, node = rest.split()
    steps = []
    for _ in hops:
        steps.append(f"; {node} {follow[node]}")
        node = follow[node]
    return " ".join(steps) + " <eos>"


@pytest.mark.parametrize("name,cell", EVERY_CELL, ids=str)
def test_every_cell_has_the_right_problems_and_solutions(name, cell):
    task = TASKS[name]
    prompts, solutions = task.sample(cell, 24, np.random.default_rng(1))
    assert prompts.dtype == solutions.dtype == np.int64
    assert prompts.shape == (24, task.prompt_len(cell)) and solutions.shape == (24, task.solution_len(cell))
    for p, s in zip(prompts, solutions):
        assert decode(s) == slow_solution(decode(p))
        assert encode(decode(p)) == p.tolist() and encode(decode(s)) == s.tolist()
    assert task.matches(prompts, cell).all()
    others = [c for n, c in EVERY_CELL if n == name and c != cell and c._replace(words="any") != cell._replace(words="any")]
    assert not any(task.matches(prompts, c).any() for c in others)
    verdict = task.verify(prompts, solutions)
    assert verdict.trace.all() and verdict.answer.all() and verdict.well_formed.all() and (verdict.process == 1).all()


@pytest.mark.parametrize("name,cell", [("arithmetic", Cell(3, 4)), ("arithmetic", Cell(2, 3, "mixed")), ("graph", Cell(3, 8))], ids=str)
def test_verifier_against_a_slow_one_on_damaged_completions(name, cell):
    task, rng = TASKS[name], np.random.default_rng(2)
    prompts, solutions = task.sample(cell, 300, rng, noise=0.4)  # wrong traces, some with right answers
    N = solutions.shape[1] + 3
    completions = np.full((300, N), PAD)
    completions[:, :-3] = solutions
    for row in completions[100:]:  # and damage of every kind
        where = rng.integers(N)
        row[where] = rng.choice([PAD, EOS, BOS, tasks.SEP, rng.integers(len(VOCAB))])
    verdict = task.verify(prompts, completions)
    for i, (p, c) in enumerate(zip(prompts, completions)):
        gold = slow_solution(decode(p))
        end = list(c).index(EOS) if EOS in c else N
        ended = end < N and (c[end + 1:] == PAD).all()
        text = decode(c[:end + 1]) if ended else None
        assert verdict.trace[i] == (ended and text == gold)
        inner, gold_inner = (text or "")[:-6], gold[:-6]
        if name == "arithmetic":
            answer = ended and inner.split(";")[-1].strip() == gold_inner.split(";")[-1].strip()
            answer = answer and (";" not in inner or inner[:inner.rindex(";") + 1].endswith(" ;"))
        else:
            answer = ended and len(inner.split(";")[-1].split()) == 2 and inner.split(";")[-1].split()[1] == gold_inner.split()[-1] \
                and inner.split(";")[-1].split()[0] in NODES + SHADOW_NODES and ";" in inner
        assert verdict.answer[i] == answer, (decode(p), decode(c))
        ends, right = task.layout(p[None])[0], 0
        for t, end in enumerate(ends):
            last = t == len(ends) - 1
            if (c[:end] == encode(gold)[:end]).all() and (not last or ended):
                right = t + 1
            else:
                break
        assert verdict.process[i] == right / cell.depth
        assert not verdict.trace[i] or verdict.well_formed[i]
    assert 0 < verdict.trace.mean() < 1 and (verdict.answer & ~verdict.trace).any() and (verdict.well_formed & ~verdict.trace).any()


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
    ("42 ; 153 <eos>", (False, False, 0.5, False)),           # ends in the answer's digits, but is another number
    ("42 ; <pad> 53 <eos>", (False, False, 0.5, False)),
    ("<eos>", (False, False, 0.0, False)),                    # says nothing
    ("<pad> <pad>", (False, False, 0.0, False)),
])
def test_verdicts_by_hand(completion, expected):
    assert judge("<bos> 31 [+1][+1] =", completion) == expected


def test_graph_verdicts_by_hand():
    prompt = "<bos> ; c d ; a b ; b c = >> a ="
    assert judge(prompt, "; a b ; b c <eos>", "graph") == (True, True, 1.0, True)
    assert judge(prompt, "; a d ; d c <eos>", "graph") == (False, True, 0.0, True)   # an edge that is not listed
    assert judge(prompt, "; a b ; b d <eos>", "graph") == (False, False, 0.5, True)
    assert judge(prompt, "; a b ; b c", "graph") == (False, False, 0.5, False)
    assert not judge("<bos> ; a b = >> a =", "; a b ; b c <eos>", "graph")[0]        # the walk leaves the edges: nothing is right


def test_the_verifier_evaluates_no_code():
    calls = {node.func.id for node in ast.walk(ast.parse(inspect.getsource(tasks))) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
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
        assert len(np.unique(tasks.apply_operation(np.full(len(states), op), states), axis=0)) == len(states)


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
    neg, rev, swap, x3 = (list(tasks.OPERATIONS).index(op) for op in ("[neg]", "[rev]", "[swap]", "[x3]"))
    assert not held[neg, neg] and not held[rev, rev] and not held[swap, swap] and not held[x3, x3]
    # the fast signature tells exactly the same words apart
    assert len({tasks.word_function(p) for p in functions}) == 45
    assert 0 < tasks.disguised_share(2) < 1


def test_composition_cells_hold_what_they_say():
    rng, held = np.random.default_rng(3), tasks.held_pairs()
    for words, cells in (("seen", AXES["arithmetic"]["composition"]["id"]), ("held", AXES["arithmetic"]["composition"]["edge"] + AXES["arithmetic"]["composition"]["hard"])):
        for cell in cells:
            ops = tasks.TASKS["arithmetic"].parse(TASKS["arithmetic"].sample(cell, 500, rng).prompts)[2]
            has_held = held[ops[:, :-1], ops[:, 1:]].any(1)
            assert has_held.all() if words == "held" else not has_held.any()


@pytest.mark.parametrize("name,cell", [("arithmetic", Cell(3, 4)), ("graph", Cell(2, 8))])
def test_evaluation_prompts_are_reserved(name, cell):
    train = TASKS[name].sample(cell, 4000, np.random.default_rng(0), split="train").prompts
    test = TASKS[name].sample(cell, 500, np.random.default_rng(1), split="eval").prompts
    assert not tasks.reserved(train).any() and tasks.reserved(test).all()
    everything = TASKS[name].sample(cell, 8000, np.random.default_rng(2)).prompts
    assert 0.10 < tasks.reserved(everything).mean() < 0.15


def test_small_cells_are_enumerated():
    task, cell = TASKS["arithmetic"], Cell(1, 2)
    assert task.size(cell) == 800 and task.enumerated(cell) and not task.enumerated(Cell(2, 3))
    prompts = task.sample(cell, 800, np.random.default_rng(0), split="eval").prompts
    assert len(np.unique(prompts, axis=0)) == 800


@pytest.mark.parametrize("name,cell,chance", [("arithmetic", Cell(3, 4), 9 / 10), ("graph", Cell(3, 8), 15 / 16)])
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
    if name == "arithmetic":  # after an error, the chain goes on consistently from the wrong state
        steps = noisy.reshape(-1, 3, 5)[:, :, :4] - tasks.DIGIT0
        ops = task.parse(prompts)[2]
        consistent = (tasks.apply_operation(ops[:, 1], steps[:, 0]) == steps[:, 1]).all(1)
        assert abs(consistent[process == 0].mean() - right) < 0.02


def test_mixed_problems_mix():
    p = TASKS["arithmetic"].sample(Cell(3, 4, "mixed"), 500, np.random.default_rng(0)).prompts
    shadow = TASKS["arithmetic"].parse(p)[1] == tasks.SHADOW_DIGIT0
    assert shadow.any(1).all() and not shadow.all(1).any()
    p = TASKS["graph"].sample(Cell(3, 8, "mixed"), 500, np.random.default_rng(0)).prompts
    for row in p:
        shown = set(decode(row).replace("<bos>", "")) & set("abcdefghijklmnopABCDEFGHIJKLMNOP")
        assert any(c.isupper() for c in shown) and any(c.islower() for c in shown)
        assert not {c.lower() for c in shown if c.isupper()} & shown  # never both `a` and `A`


@pytest.mark.parametrize("name,cell", [("graph", Cell(9, 8)), ("graph", Cell(2, 8, words="held")), ("arithmetic", Cell(1, 4, words="held")),
                                       ("arithmetic", Cell(0, 4)), ("arithmetic", Cell(2, 1)), ("arithmetic", Cell(2, 4, "other"))])
def test_impossible_cells_are_refused(name, cell):
    with pytest.raises(ValueError, match=f"impossible {name} cell"):
        TASKS[name].sample(cell, 1, np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------------------ mixtures

def mixture(*argv):
    return pretrain.Mixture(pretrain.build_parser().parse_args([*argv, "--batch-size", "4"]))


def test_overlap_is_nested_and_changes_nothing_else():
    draws = {p: mixture("--steps", "1000", "--overlap", str(p)) for p in (0, 0.001, 0.01, 0.1)}
    counts = [draws[p].edge.sum() for p in draws]
    assert counts == [0, 1, 10, 100]
    for small, large in itertools.pairwise(draws.values()):
        assert (large.edge | ~small.edge).all()  # what is edge at p is edge at any larger p
    for step in range(0, 1000, 37):
        if not draws[0.1].edge[step]:
            a, b = draws[0].draw(step)[2], draws[0.1].draw(step)[2]
            assert (a.prompts == b.prompts).all() and (a.solutions == b.solutions).all()
    step = int(np.flatnonzero(draws[0.001].edge)[0])
    assert (draws[0.001].draw(step)[2].prompts == draws[0.1].draw(step)[2].prompts).all()
    assert draws[0.1].draw(step)[2].prompts.shape[1] == TASKS["arithmetic"].prompt_len(Cell(4, 4))


@pytest.mark.parametrize("name,axis", [(n, a) for n, axes in AXES.items() for a in axes])
def test_no_overlap_means_no_edge_problem_and_overlap_means_some(name, axis):
    def scan(p):
        m = mixture("--task", name, "--axis", axis, "--overlap", p, "--steps", "60")
        return sum(pretrain.edge_problems(name, axis, m.draw(step)[2].prompts) for step in range(60))
    assert scan("0") == 0 and scan("0.1") == 6 * 4


@pytest.mark.parametrize("name", list(AXES))
@pytest.mark.parametrize("exposure", list(pretrain.EXPOSURES))
def test_exposure_shows_what_it_says(name, exposure):
    m = mixture("--task", name, "--axis", "tokens", "--exposure", exposure, "--steps", "80")
    lowest, highest = (tasks.SHADOW_DIGIT0, tasks.NODE0) if name == "arithmetic" else (tasks.SHADOW_NODE0, tasks.OP0)
    draws = [m.draw(step) for step in range(80)]
    shadow = [kind for _, kind, (prompts, _) in draws if ((prompts >= lowest) & (prompts < highest)).any()]
    assert shadow == ([] if exposure == "none" else [exposure] * 20)
    edge = sum(pretrain.edge_problems(name, "tokens", problems.prompts) for _, _, problems in draws)
    assert edge == 0 if exposure != "full" else edge > 0
    if exposure == "copy":
        prompts, solutions = next(problems for _, kind, problems in draws if kind == "copy")
        assert (prompts[:, 1:-1] == solutions[:, :-1]).all() and (solutions[:, -1] == EOS).all()


def test_two_families_share_a_base_in_the_stated_proportion():
    m = mixture("--task", "both", "--share", "0.9", "--steps", "100")
    assert sum(m.kind(step)[0] == "arithmetic" for step in range(100)) == 90


def test_splits_of_an_axis_are_disjoint():
    for axes in AXES.values():
        for splits in axes.values():
            cells = [c for s in SPLITS for c in splits[s]]
            assert len(set(cells)) == len(cells)
