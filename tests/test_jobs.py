"""lab/jobs.py, lab/runner.py: what a question asks to be run, and when it need not be run again."""
import io
import json
import os
import shlex
import time

import pytest

import cli
import questions
import study
from lab import jobs, processes, runner
from lab.records import RUN_COLUMNS

EVERY = questions.names()
POINTING = ("--init", "--reference", "--teacher", "--ckpt")   # flags whose values are checkpoints


def asked(*argv):
    """{question that defines them: jobs} of study.py's flags."""
    args = study.build_parser().parse_args(list(argv))
    return study.jobs_of(args.questions, args)


def jobs_of(name, *argv):
    """All jobs of a question, each once."""
    found, = asked(name, *argv).values()
    return study.each_once(found)


def values_of(argv, flag):
    """What follows a flag, up to the next one."""
    found = []
    for word in argv[argv.index(flag) + 1:]:
        if word.startswith("--"):
            break
        found.append(word)
    return found


# ----------------------------------------------------------------------------- of every question

@pytest.mark.parametrize("name", EVERY)
def test_every_job_is_a_command_that_its_script_takes_and_needs_what_it_reads(name):
    made = set()
    for job in jobs_of(name, "--device", "auto"):
        args = runner.SCRIPTS[job.script].build_parser(job.argv).parse_args(job.argv)
        assert args.threads == 1 and args.device == "auto"
        read = [path for flag in POINTING if flag in job.argv for path in values_of(job.argv, flag)]
        assert sorted(read) == sorted(job.needs), job.name
        assert set(job.needs) <= made, f"{job.name} comes before what it needs"
        assert job.out == (args.json if job.script == "evaluate" else args.out)
        assert shlex.split(job.command()) == ["python", f"{job.script}.py", *job.argv]
        made.add(job.out)
    assert {job.script for job in jobs_of(name)} == {"pretrain", "finetune", "evaluate"}


@pytest.mark.parametrize("name", EVERY)
def test_every_seed_that_was_asked_for_is_run_and_no_other(name):
    found = jobs_of(name, "--seeds", "3", "--first-seed", "5")
    evaluations = [job for job in found if job.script == "evaluate"]
    each = [sum(job.about["seed"] == seed for job in evaluations) for seed in (5, 6, 7)]
    assert min(each) == max(each) > 0 and sum(each) == len(evaluations)
    for job in found:
        folder = os.path.dirname(job.out)
        seed, = values_of(job.argv, "--seed") if "--seed" in job.argv else [folder[-1]]
        assert folder.endswith(f"-seed{seed}") and seed in "567"


@pytest.mark.parametrize("name", EVERY)
def test_what_is_evaluated_is_a_base_and_its_arms_all_of_them(name):
    found = jobs_of(name, "--prompts", "12")
    evaluations = [job for job in found if job.script == "evaluate"]
    folders = [os.path.dirname(job.out) for job in evaluations]
    assert len(set(folders)) == len(folders)                 # one evaluation of a chain
    evaluated = {path for job in evaluations for path in job.needs}
    for job in found:
        if os.path.dirname(job.out) in folders and job.script != "evaluate":
            assert job.out in evaluated, f"{job.name} is made and never looked at"
    for job in evaluations:
        first, *others = job.needs
        assert first == os.path.join(os.path.dirname(job.out), "base.pt") and others
        assert values_of(job.argv, "--prompts") == ["12"]
        assert job.out.endswith(f"{questions.owner(name)}.json")
        assert set(RUN_COLUMNS) <= set(job.about)


def test_a_question_reads_the_runs_of_the_one_whose_jobs_it_imports():
    assert list(asked("sharpening", "dose")) == ["dose"] == [questions.owner("prediction")]
    assert questions.owner("undertrained") == "saturation"


def test_all_questions_share_bases_and_agree_on_what_they_share():
    by_question = asked(*EVERY)
    once = study.each_once(job for its_jobs in by_question.values() for job in its_jobs)
    outs = [job.out for job in once]
    assert len(set(outs)) == len(outs) < sum(map(len, by_question.values()))
    job = jobs_of("advantage")[0]
    other = jobs.Job("other", "pretrain", [*job.argv, "--untied"], job.out)
    with pytest.raises(cli.CommandError, match="base.pt: two questions"):
        study.each_once([job, other])


# -------------------------------------------------------------------------- what differs, and how

def arms_of(name, *argv):
    """{folder: {arm: what its script was told}} of a question."""
    found = {}
    for job in jobs_of(name, *argv):
        if job.script != "evaluate":
            args = runner.SCRIPTS[job.script].build_parser(job.argv).parse_args(job.argv)
            folder, file = os.path.split(job.out)
            arms = found.setdefault(os.path.basename(folder), {})
            arms[file[:-3]] = runner.arm(file[:-3], vars(args), {}, job.command(), 0.0)
    return found


def test_the_dose_has_every_cell_of_the_grid():
    """Of arithmetic and graph: another family asks its own questions."""
    evaluations = [job for job in jobs_of("dose") if job.script == "evaluate"]
    cells = [(job.about["task"], job.about["axis"], job.about["overlap"]) for job in evaluations]
    assert len(set(cells)) == len(cells) == 7 * 4
    fewer = [job.about["overlap"] for job in jobs_of("dose", "--overlaps", "0", "0.5") if job.about]
    assert set(fewer) == {0.0, 0.5}
    arms = arms_of("dose")["graph-length-overlap0.01-seed0"]
    assert {name: (arm.method, arm.train_on) for name, arm in arms.items()} == {
        "base": ("pretrain", ""), "grpo-id": ("grpo", "id"), "grpo-edge": ("grpo", "edge"),
        "grpo-mix": ("grpo", "mix"), "sft": ("sft", "edge"), "oracle": ("pretrain", "")}


def test_the_law_has_two_kinds_of_kl_at_three_strengths_and_none():
    arms, = arms_of("law", "--law-steps", "7").values()
    tuned = [arm for arm in arms.values() if arm.method == "grpo"]
    assert sorted((arm.kl, arm.beta) for arm in tuned) == [
        ("k1_reward", 0.1), ("k1_reward", 0.3), ("k1_reward", 1.0),
        ("k3_loss", 0.1), ("k3_loss", 0.3), ("k3_loss", 1.0), ("none", 0.0)]
    assert {(arm.steps, arm.scale, arm.prompts_per_step) for arm in tuned} == {(7, "none", 64)}
    evaluation = jobs_of("law")[-1]
    assert "--per-step" in evaluation.argv


@pytest.mark.parametrize("name,column,values", [
    ("rewards", "reward", {"trace", "answer", "process", "random", "inverted", "format"}),
    ("advantage", "scale", {"std", "none"}),
    ("resets", "method", {"grpo", "resets"}),
    ("balanced", "method", {"grpo", "balanced"}),
])
def test_one_thing_differs(name, column, values):
    for arms in arms_of(name).values():
        tuned = [arm for arm in arms.values() if arm.method != "pretrain"]
        assert {getattr(arm, column) for arm in tuned} == values and len(tuned) == len(values)
        same = {(arm.train_on, arm.steps, arm.prompts_per_step, arm.init) for arm in tuned}
        assert len(same) == 1


def test_the_curriculum_goes_on_from_the_stage_before_and_the_jump_takes_as_long():
    arms, = arms_of("curriculum").values()
    assert [arms[f"curriculum-{d}"].init for d in (4, 5, 6)] == ["base", "curriculum-4",
                                                                "curriculum-5"]
    assert arms["jump-6"].init == "base"
    assert arms["jump-6"].steps == sum(arms[f"curriculum-{d}"].steps for d in (4, 5, 6))
    depths = {job.out[-4]: values_of(job.argv, "--depths") for job in jobs_of("curriculum")
              if "--depths" in job.argv and "curriculum-" in job.out}
    assert depths == {"4": ["4"], "5": ["5"], "6": ["6"]}


def test_the_methods_get_what_grpo_gets():
    found = jobs_of("methods", "--grpo-steps", "10")
    arms = [job for job in found if job.script == "finetune"]
    assert len({job.name.split()[0] for job in arms}) == len(questions.load("methods").METHODS) + 4
    for job in arms:
        method, = values_of(job.argv, "--method")
        assert values_of(job.argv, "--train-on") == ["mix"]
        if method != "sft":
            assert values_of(job.argv, "--budget-rollouts") == [str(10 * 32 * 16)]
        if method == "distill":
            teacher, = values_of(job.argv, "--teacher")
            made = next(job for job in found if job.out == teacher)
            assert made.about["noise"] == 0 and made.about["overlap"] == 0.5


def test_bases_that_differ_have_folders_that_differ():
    for name in ("exposure", "positions", "domains", "saturation"):
        bases = [job for job in jobs_of(name) if job.out.endswith("base.pt")]
        told = {tuple(word for word in job.argv if word != job.out) for job in bases}
        assert len(told) == len(bases) == len({os.path.dirname(job.out) for job in bases})
    steps = {job.about["pretrain_steps"] for job in jobs_of("saturation", "--pretrain-steps", "100")
             if job.script == "evaluate"}
    assert steps == {150, 20, 25, 30}   # what depth needs, and a quarter of --pretrain-steps


@pytest.mark.parametrize("flag,value,word", [
    ("--noise", "0.2", "noise0.2"), ("--pretrain-steps", "200", "steps200"),
    ("--grpo-steps", "10", "grpo10"), ("--law-steps", "9", "law9"),
    ("--oracle-problems", "640", "oracle640")])
def test_runs_of_other_sizes_lie_in_folders_of_their_own(flag, value, word):
    usual = {job.out for job in jobs_of("quick")}
    assert "runs/study/arithmetic-depth-overlap0.1-seed0/grpo-edge.pt" in usual
    assert {job.out for job in jobs_of("quick", "--prompts", "9")} == usual
    others = jobs_of("quick", flag, value)
    assert usual.isdisjoint(job.out for job in others)
    assert all(word in os.path.dirname(job.out).split("-") and word in job.name.split()
               for job in others)


# ----------------------------------------------------------------------------------- what is done

def evaluated(tmp_path, *changes):
    """An evaluation job of two checkpoints, all three files there, made a minute apart."""
    job = jobs_of("advantage", "--out", str(tmp_path), "--prompts", "8")[-1]
    os.makedirs(os.path.dirname(job.out))
    now = time.time()
    for i, path in enumerate(job.needs):
        open(path, "wb").close()
        os.utime(path, (now - 120 + i, now - 120 + i))
    with open(job.out, "w") as file:
        args = runner.SCRIPTS["evaluate"].build_parser().parse_args(job.argv)
        json.dump({"args": vars(args)}, file)
    os.utime(job.out, (now - 60, now - 60))
    return job


def test_an_evaluation_is_kept_as_long_as_nothing_that_it_is_made_from_is_newer(tmp_path):
    job = evaluated(tmp_path)
    assert runner.is_done(job)
    for path in job.needs:                                   # any of them, the last one too
        before = os.path.getmtime(path)
        os.utime(path, (time.time(), time.time()))
        assert not runner.is_done(job), path
        os.utime(path, (before, before))
    assert runner.is_done(job)
    os.remove(job.needs[-1])
    assert not runner.is_done(job)


@pytest.mark.parametrize("flag,other", [("--prompts", "9"), ("--ckpt", None), ("--per-step", None)])
def test_an_evaluation_with_other_flags_is_made_again(flag, other, tmp_path):
    job = evaluated(tmp_path)
    if flag == "--prompts":
        job.argv[job.argv.index(flag) + 1] = other
    elif flag == "--ckpt":
        del job.argv[job.argv.index(flag) + 2]               # one arm fewer
    else:
        job.argv.append(flag)
    assert not runner.is_done(job)


def test_an_evaluation_that_cannot_be_read_is_made_again(tmp_path):
    job = evaluated(tmp_path)
    for text in ("", '{"args"', "{}", "[]", "3", '{"args": [1]}', "[" * 100_000, "\0"):
        with open(job.out, "w") as file:
            file.write(text)
        assert not runner.is_done(job)


@pytest.mark.parametrize("result", [
    {}, [], {"args": {"ckpt": []}}, {"args": {"ckpt": [1]}}, {"args": {"ckpt": ["x.pt"]}},
    {"args": {"ckpt": ["x.pt"], "cold": []}, "prompts": [3], "steps": []}])
def test_an_evaluation_that_is_damaged_is_one_line(result, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "arm_of", lambda path: None)
    job = evaluated(tmp_path)
    for text in (json.dumps(result), "{", ""):
        with open(job.out, "w") as file:
            file.write(text)
        with pytest.raises(cli.CommandError) as error:
            runner.runs_of(job)
        assert str(error.value).startswith(f"{job.out}: is damaged (")
        assert str(error.value).endswith("delete it, and it is made again")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A pretraining job and one that tunes it, with checkpoints as load_checkpoint gives them."""
    saved = {}
    monkeypatch.setattr(runner, "load_checkpoint", lambda path: (None, saved[path]))
    base, arm = jobs_of("advantage", "--out", str(tmp_path))[:2]
    os.makedirs(os.path.dirname(base.out))
    for age, job in ((20, base), (10, arm)):
        open(job.out, "wb").close()
        os.utime(job.out, (time.time() - age, time.time() - age))
        args = runner.SCRIPTS[job.script].build_parser(job.argv).parse_args(job.argv)
        saved[job.out] = {"args": vars(args), "finished": True, "step": 60}
    return base, arm, saved


def test_a_run_is_done_if_it_is_finished_and_had_these_flags(trained):
    base, arm, saved = trained
    assert runner.finished([base, arm]) == {base.out, arm.out}
    saved[arm.out]["args"]["lr"] = 0.5
    assert runner.finished([base, arm]) == {base.out}
    saved[base.out]["finished"] = False                      # then what needs it is not done either
    saved[arm.out]["args"]["lr"] = 1e-3
    assert runner.is_done(arm) and runner.finished([base, arm]) == set()


def test_an_interrupted_run_goes_on_unless_what_it_began_from_has_changed(trained):
    base, arm, saved = trained
    assert not runner.can_resume(arm)                        # it is finished
    saved[arm.out].update(finished=False, step=30)
    assert runner.can_resume(arm) and not runner.is_done(arm)
    os.utime(base.out, (time.time(), time.time()))           # another base lies there now
    assert not runner.can_resume(arm)


def test_steps_are_read_from_the_last_whole_line(tmp_path):
    job = jobs.Job("a", "pretrain", [], str(tmp_path / "a.pt"), steps=10)
    assert runner.steps_done(job) == 0
    (tmp_path / "a.csv").write_text("step,loss\n" + "".join(f"{i},0.5\n" for i in range(1, 200)))
    assert runner.steps_done(job) == 199
    (tmp_path / "a.csv").write_text("step,loss\n1,0.5\n2")
    assert runner.steps_done(job) == 1


# ------------------------------------------------------------------------------------- the status

class Screen(io.StringIO):
    def __init__(self, live):
        super().__init__()
        self.live = live

    def isatty(self):
        return self.live


@pytest.mark.parametrize("live", [True, False])
def test_the_status_fits_the_terminal_and_does_not_flood_a_log(live, tmp_path, monkeypatch):
    screen = Screen(live)
    monkeypatch.setattr("sys.stdout", screen)
    found = jobs_of("exposure", "--out", str(tmp_path))
    batch = runner.Batch(found, processes.Here(8))
    assert batch.waiting == found
    long = sorted(found, key=lambda job: -len(job.name))[:8]
    batch.running = {job: (None, 0.0) for job in long}
    clock = 1e6
    for _ in range(40):                                      # twenty seconds of it
        clock += 0.5
        monkeypatch.setattr(runner.time, "perf_counter", lambda: clock)
        batch.report()
    batch.say("  done        3s  " + 100 * "x")
    shown = [line for line in screen.getvalue().replace("\r", "\n").split("\n") if line.strip()]
    assert all(len(line) <= 100 for line in shown) and "eta" in shown[0]
    assert screen.getvalue().count("\n") == (1 if live else 2 + 1)
