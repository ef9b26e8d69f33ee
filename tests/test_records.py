"""lab/records.py: what is written is read back; merging loses nothing and keeps nothing stale."""
import csv
import io
import math
import os

import numpy as np
import pytest

from cli import CommandError
from lab import records
from lab.records import COLUMNS, KS, Arm, Run
from measure import exact_pass_at_k


def log_masses(seed, n=6):
    return np.log(np.random.default_rng(seed).uniform(0.05, 0.95, n))


def a_run(chain="c", seed=0, arms=("base", "tuned"), splits=("id", "edge"), task="arithmetic",
          salt=0, **about):
    """A Run whose masses differ from arm to arm, split to split and cell to cell."""
    known = {"base": Arm("base", "pretrain", steps=1000, command="python pretrain.py", seconds=2.5),
             "tuned": Arm("tuned", "grpo", "mix", "trace", "k3_loss", 0.3, "none", 60, 16, 32, 1,
                          30720, init="base", command="python finetune.py --x", seconds=7.0)}
    masses = {}
    for i, arm in enumerate(arms):
        for j, split in enumerate(splits):
            masses[arm, split] = {cell: log_masses([seed, salt, i, j, k])
                                  for k, cell in enumerate(("d1 l4", "d2 l4"))}
    flags = {"axis": "depth", "overlap": 0.001, "noise": 0.3, "pretrain_steps": 1000,
             "setting": "", **about}
    return Run("dose", chain, task, seed=seed, **flags, masses=masses,
               arms={name: known.get(name) or Arm(name, init="base") for name in arms})


def same(a, b):
    """Two runs with the same columns, arms and steps, and the masses that float32 keeps."""
    for column in (*records.RUN_COLUMNS, "question", "arms", "steps"):
        assert getattr(a, column) == getattr(b, column), column
    assert a.masses.keys() == b.masses.keys()
    for key, cells in a.masses.items():
        assert list(cells) == list(b.masses[key])
        for cell, values in cells.items():
            assert b.masses[key][cell].dtype == np.float64
            assert np.array_equal(values.astype(np.float32), b.masses[key][cell])
    return True


def folder(tmp_path):
    return str(tmp_path / "dose")


def rows(place):
    with open(os.path.join(place, "runs.csv"), newline="") as file:
        return list(csv.DictReader(file))


# ----------------------------------------------------------------------------- there and back again

def test_single_tokens_are_kept_beside_the_masses(tmp_path):
    with_tokens, without = a_run("c"), a_run("other")
    log_p = -np.random.default_rng(0).random((6, 5))
    with_tokens.tokens = {"id": {"d1 l4": log_p}}
    records.write(folder(tmp_path), [with_tokens, without])
    records.write(folder(tmp_path), [a_run("third")])             # merging keeps them
    found = {run.chain: run for run in records.read(folder(tmp_path))}
    assert found["other"].tokens == found["third"].tokens == {}
    assert np.array_equal(found["c"].tokens["id"]["d1 l4"], log_p.astype(np.float32))
    assert same(with_tokens, found["c"])
    only_masses = records.read_masses(os.path.join(folder(tmp_path), "masses.npz"), "")
    only_masses["gone|arithmetic|base|id|d1 l4|tokens"] = log_p
    records.write_masses(os.path.join(folder(tmp_path), "masses.npz"), only_masses)
    with pytest.raises(CommandError, match="has no row of gone"):
        records.read(folder(tmp_path))


def test_cells_weigh_alike_whatever_their_number_of_prompts():
    run = a_run()
    few, many = np.log([0.2, 0.4]), np.log([0.8] * 40)
    run.masses["base", "edge"] = {"d1 l4": few, "d2 l4": many}
    assert run.reach("base", "edge") == pytest.approx((0.3 + 0.8) / 2)
    assert run.reach("base", "edge", [1, 2])[1] == pytest.approx((0.5 * (0.36 + 0.64) + 0.96) / 2)


def test_what_is_written_is_read_back(tmp_path):
    run = a_run(setting="exposure=full untied", seed=3)
    run.masses["base", "edge"]["d1 l4"][:] = -math.inf      # greedy, and wrong everywhere
    run.steps = [{"chain": "c", "seed": 3, "arm": "tuned", "kl": "k1_reward", "beta": 0.3,
                  "depth": 2, "step": 1, "prefix": "right", "base": 0.25, "tuned": 1 / 3,
                  "law": None}]
    other = a_run("d", 4)
    records.write(folder(tmp_path), [run, other])
    back = records.read(folder(tmp_path))
    assert len(back) == 2 and same(run, back[0]) and same(other, back[1])
    assert type(back[0].seed) is int and type(back[0].arms["tuned"].steps) is int
    assert back[0].arms["base"].group_size is None and back[0].arms["base"].kl == ""


def test_a_chain_on_two_tasks_is_two_runs_even_if_their_cells_have_one_name(tmp_path):
    one, two = a_run(task="arithmetic"), a_run(task="graph", salt=1)
    records.write(folder(tmp_path), [one])
    records.write(folder(tmp_path), [two])
    back = records.read(folder(tmp_path))
    assert same(one, back[0]) and same(two, back[1])


def test_the_numbers_of_a_row_are_those_of_its_masses(tmp_path):
    run = a_run()
    records.write(folder(tmp_path), [run])
    row = next(r for r in rows(folder(tmp_path))
               if (r["arm"], r["split"], r["cell"]) == ("tuned", "edge", "all"))
    masses, base = run.log_mass("tuned", "edge"), run.log_mass("base", "edge")
    assert int(row["prompts"]) == 12
    names = ["mass", "p4", "p16", "p64", "p256", "p1024", "p2^20"]
    for name, k in zip(names, KS, strict=True):
        assert float(row[name]) == pytest.approx(exact_pass_at_k(masses, k).mean(), rel=1e-5)
    assert float(row["low"]) < float(row["mass"]) < float(row["high"])
    assert float(row["fell"]) == pytest.approx((masses < base).mean(), abs=1e-5)
    assert float(row["base_mass"]) == pytest.approx(np.exp(base).mean(), rel=1e-5)
    assert row["method"] == "grpo" and row["train_on"] == "mix" and row["beta"] == "0.3"
    assert row["rollouts"] == "30720" and row["init"] == "base" and list(row) == COLUMNS
    bases = [r for r in rows(folder(tmp_path)) if r["arm"] == "base"]
    assert {r["fell"] for r in bases} == {""} and {r["group_size"] for r in bases} == {""}


def test_a_file_from_before_gold_was_counted_is_read_and_added_to(tmp_path):
    place, run = folder(tmp_path), a_run()
    run.arms["tuned"].gold = 1234
    records.write(place, [run])
    back, = records.read(place)
    assert back.arms["tuned"].gold == 1234 and back.arms["base"].gold is None
    older = [{name: value for name, value in row.items() if name != "gold"} for row in rows(place)]
    columns = [column for column in COLUMNS if column != "gold"]
    records.write_csv(os.path.join(place, "runs.csv"), columns, older)
    back, = records.read(place)
    assert back.arms["tuned"].gold is None
    records.write(place, [a_run("d", 1)])
    assert len(records.read(place)) == 2 and list(rows(place)[0]) == COLUMNS


# ------------------------------------------------------------------------------------------ merging

def test_merging_keeps_other_chains_arms_and_splits(tmp_path):
    place = folder(tmp_path)
    everything = a_run(arms=("base", "tuned", "other"))
    records.write(place, [everything, a_run("d", 1)])
    again = a_run(arms=("base", "tuned"), splits=("id",))    # a part of one chain, the same numbers
    records.write(place, [again])
    back = records.read(place)
    assert same(everything, back[0]) and same(a_run("d", 1), back[1])
    assert len(rows(place)) == (3 + 2) * 2 * 3               # arms, splits, two cells and all


def test_new_rows_come_with_their_new_masses(tmp_path):
    place = folder(tmp_path)
    records.write(place, [a_run(), a_run("d", 1)])
    newer = a_run(salt=7, overlap=0.5)
    newer.arms["tuned"].beta = 3.0
    records.write(place, [newer])
    back = records.read(place)
    assert same(newer, back[0]) and same(a_run("d", 1), back[1])
    row = next(r for r in rows(place) if (r["arm"], r["cell"]) == ("tuned", "d2 l4"))
    mass = np.exp(newer.masses["tuned", "id"]["d2 l4"]).mean()
    assert float(row["mass"]) == pytest.approx(mass, rel=1e-5)
    assert len(rows(place)) == 2 * 2 * 2 * 3                 # replaced, not added


def test_steps_of_an_arm_are_replaced_together(tmp_path):
    def with_steps(values, chain="c"):
        run = a_run(chain)
        run.steps = [{"chain": chain, "seed": 0, "arm": "tuned", "kl": "none", "beta": 0.0,
                      "depth": 3, "step": i, "prefix": "right", "base": v, "tuned": v, "law": None}
                     for i, v in enumerate(values, 1)]
        return run
    place = folder(tmp_path)
    records.write(place, [with_steps([0.1, 0.2, 0.3]), with_steps([0.7], "d")])
    records.write(place, [with_steps([0.5])])
    found = {run.chain: [row["base"] for row in run.steps] for run in records.read(place)}
    assert found == {"c": [0.5], "d": [0.7]}


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    place = folder(tmp_path)
    records.write(place, [a_run()])

    def full_disk(file, **masses):
        file.write(b"half of it")
        raise OSError("No space left on device")
    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError):
        records.write(place, [a_run(salt=1)])
    assert same(a_run(), records.read(place)[0])


# ------------------------------------------------------------------------------------------- damage

def spoil(path, how):
    """Remove the file, keep a part of it, or put other words into it."""
    if how == "remove":
        return os.remove(path)
    with open(path, "rb") as file:
        content = file.read()
    if how == "one array":
        content = io.BytesIO()
        np.save(content, np.zeros(3, dtype=np.float32))
        content = content.getvalue()
    elif how == "words":
        content = b"hello"
    elif isinstance(how, float):
        content = content[:int(how * len(content))]
    else:
        before, after = how
        assert before in content
        content = content.replace(before, after)
    with open(path, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("name,how,words", [
    ("runs.csv", "remove", "not there"),
    ("masses.npz", "remove", "not there"),
    ("runs.csv", 0.6, "damaged"),
    ("masses.npz", 0.6, "damaged"),
    ("runs.csv", 0.0, "no column"),
    ("masses.npz", 0.0, "damaged"),
    ("runs.csv", (b"train_on", b"part"), "no column train_on"),
    ("runs.csv", (b"30720", b"many"), "many"),
    ("runs.csv", (b"30720", b"1e400"), "damaged"),
    ("runs.csv", (b"0.001", b"nan"), "overlap is nan"),
    ("runs.csv", (b"0.3,1000", b"inf,1000"), "noise is inf"),
    ("masses.npz", "words", "damaged"),
    ("masses.npz", "one array", "damaged"),
    ("runs.csv", (b"arithmetic", b"\xff\xfe"), "damaged"),
])
def test_damage_is_one_line_that_names_the_file_and_what_to_run(name, how, words, tmp_path):
    place = folder(tmp_path)
    records.write(place, [a_run()])
    spoil(os.path.join(place, name), how)
    with pytest.raises(CommandError) as error:
        records.read(place)
    for word in [name, words, "python study.py dose"]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.array(["x"]), np.arange(3), np.zeros(0),
                                    np.array([np.nan]), np.array([0.5])])
def test_arrays_that_are_no_log_masses_are_refused(values, tmp_path):
    place = folder(tmp_path)
    records.write(place, [a_run()])
    arrays = dict(np.load(os.path.join(place, "masses.npz")))
    np.savez(os.path.join(place, "masses.npz"), **{**arrays, "c|arithmetic|base|id|d1 l4": values})
    for use in (records.read, lambda place: records.write(place, [a_run()])):
        with pytest.raises(CommandError, match="masses.npz: its c.arithmetic.base.id.d1 l4 is no"):
            use(place)


@pytest.mark.parametrize("lost", [("base", "id"), ("base", "edge", "d1 l4"),
                                  ("tuned", "id", "d2 l4")])
def test_an_arm_without_a_base_of_the_same_prompts_is_refused(lost, tmp_path):
    """Rows and their masses are gone together, as a careless hand would have left it."""
    place = folder(tmp_path)
    records.write(place, [a_run()])
    kept = [row for row in rows(place)
            if (row["arm"], row["split"], row["cell"])[:len(lost)] != lost]
    records.write_csv(os.path.join(place, "runs.csv"), COLUMNS, kept)
    left = {"|".join(row[column] for column in records.KEY) for row in kept}
    arrays = dict(np.load(os.path.join(place, "masses.npz")))
    records.write_masses(os.path.join(place, "masses.npz"),
                         {key: values for key, values in arrays.items() if key in left})
    with pytest.raises(CommandError, match="runs.csv: lacks rows of c: "):
        records.read(place)


def test_rows_and_masses_of_two_writings_are_not_taken_for_one(tmp_path):
    """Old masses beside new rows: the same names and lengths, other numbers."""
    old, new = str(tmp_path / "old" / "dose"), folder(tmp_path)
    records.write(old, [a_run(salt=1)])
    records.write(new, [a_run(salt=2)])
    os.replace(os.path.join(old, "masses.npz"), os.path.join(new, "masses.npz"))
    with pytest.raises(CommandError, match="masses.npz: its masses of c|arithmetic|base|id|d1 l4"):
        records.read(new)


@pytest.mark.parametrize("more_rows", [True, False])
def test_a_row_without_masses_or_masses_without_a_row_are_refused(more_rows, tmp_path):
    short, long = str(tmp_path / "short" / "dose"), str(tmp_path / "long" / "dose")
    records.write(short, [a_run(arms=("base",))])
    records.write(long, [a_run(arms=("base", "tuned"))])
    taken, missing = ("masses.npz", "has no masses of") if more_rows else ("runs.csv", "has no row")
    os.replace(os.path.join(short, taken), os.path.join(long, taken))
    with pytest.raises(CommandError, match=missing):
        records.read(long)


# ------------------------------------------------------------------------------ what a Run can tell

def test_an_arm_is_what_its_columns_say_whatever_its_name_says():
    run = a_run()
    run.arms["k3-b0.1 T=0.3"] = Arm("k3-b0.1 T=0.3", "grpo", "id", "trace", "k1_reward", 1.0,
                                    "none", 240, 8, 64, init="base")
    run.arms["k1-b1"] = Arm("k1-b1", "grpo", "id", "trace", "none", 0.0, "std", 60, 16, 32)
    assert run.arms_where(kl="k1_reward", beta=1) == [run.arms["k3-b0.1 T=0.3"]]
    assert run.arms_where(method="grpo", scale="none") == [run.arms["tuned"],
                                                           run.arms["k3-b0.1 T=0.3"]]
    assert run.arms_where(kl="k1_reward", beta=0.1) == []
    assert run.budget("k3-b0.1 T=0.3") == 8 * 64 * 240 and run.budget("base") == 0
    assert run.colder() == ["base"]                          # a name with T= in it is not the base


def test_the_best_temperature_is_chosen_for_each_k_among_the_rows_of_the_base():
    run = a_run(arms=("base", "tuned", "cold", "oracle"), splits=("id",))
    run.arms["cold"] = Arm("cold", "pretrain", temperature=0.0)
    run.arms["oracle"] = Arm("oracle", "pretrain", init="base")
    half, certain, wrong = np.log([0.5, 0.5]), np.array([0.0, -math.inf]), np.log([0.9, 0.99])
    for arm, masses in {"base": half, "cold": certain, "tuned": wrong, "oracle": wrong}.items():
        run.masses[arm, "id"] = {"d1 l4": masses}
    run.masses["cold", "id"] = {"d1 l4": np.log([0.999999, 0.2])}
    assert run.at_best_temperature("id") == pytest.approx((0.999999 + 0.2) / 2)
    assert run.at_best_temperature("id", 64) == pytest.approx(1.0)      # the base's, at k = 64
    assert math.isnan(run.at_best_temperature("hard"))


def test_reach_and_gain():
    run = a_run()
    before, after = run.log_mass("base", "edge"), run.log_mass("tuned", "edge")
    assert len(before) == 12 and run.reach("base", "edge") == pytest.approx(np.exp(before).mean())
    at = run.gain("tuned", "edge", [1, 64])
    assert at.shape == (2,) and at[0] == pytest.approx(np.exp(after).mean() - np.exp(before).mean())
    assert at[1] == pytest.approx(run.gain("tuned", "edge", 64))
    assert math.isnan(run.reach("none", "edge")) and np.isnan(run.reach("none", "id", [1, 2])).all()
    assert run.has("base", "tuned", split="id") and not run.has("base", split="hard")
    assert run.place == "arithmetic depth"


def test_tripwires(tmp_path):
    def watched(chain, seed, id_mass, oracle, overlap):
        run = a_run(chain, seed, arms=("base", "oracle"), overlap=overlap)
        run.arms["oracle"] = Arm("oracle", "pretrain", init="base")
        run.masses["base", "id"] = {"d1 l4": np.log([id_mass])}
        run.masses["base", "edge"] = {"d4 l4": np.log([0.1])}
        run.masses["oracle", "edge"] = {"d4 l4": np.log([oracle])}
        run.masses["oracle", "id"] = {"d1 l4": np.log([0.5])}
        return run
    runs = [watched("a", 0, 0.2, 0.99, 0.0), watched("b", 1, 0.5, 0.99, 0.0),   # 0.35 on average
            watched("c", 0, 0.5, 0.99, 0.1), a_run("d", 2, overlap=0.5)]
    records.write(folder(tmp_path), runs)
    assert [r.trips for r in records.read(folder(tmp_path))] == ["base id 0.35"] * 2 + ["", ""]
    records.write(folder(tmp_path), [watched("c", 0, 0.5, 0.5, 0.1)])
    trips = [r.trips for r in records.read(folder(tmp_path))]
    assert trips == ["base id 0.35, oracle 0.83"] * 2 + ["oracle 0.83", ""]
