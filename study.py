"""study.py: the study, a question at a time. Pretrain, post-train, measure, judge, draw; resumable.

    python study.py                      what did GRPO add to what pretraining had put there?
    python study.py --seeds 5            the same from five seeds, with Student t intervals
    python study.py --list               every question, in one line
    python study.py dose --plan          what a question would run, and how long it should take
    python study.py dose --seeds 3       runs, judges and draws questions/dose.py
    python study.py dose --publish       puts its numbers into results/, and rebuilds the report
    python study.py --report             the report again, from the numbers in results/

Every run is a process of its own, with one thread, through the same scripts that a person runs. Its
log, CSV and checkpoint lie in --out, and its command is at the top of its log. A run that is
done is not run again; Ctrl-C, or a crash, loses nothing; a run that fails is reported and the
others go on. With --scheduler they run on many machines (docs/clusters.md). A question's numbers
go to --out/results/, never by themselves to what is published.
"""
import cli  # first, so that Ctrl-C while torch is being imported is one line, too

import argparse
import os
import textwrap
import time

import questions
from lab import cluster, draw, museum, processes, records, report, runner
from lab.jobs import DEFAULTS
from tasks import AXES, TASKS

RESULTS = "results"   # what is published
GUIDE = os.path.join("variants", "README.md")


def build_parser():
    p = cli.Parser(__doc__, __file__)
    add = p.add_argument
    add("questions", nargs="*", metavar="QUESTION", help="what to ask (default: quick); see --list")
    add("--list", action="store_true", help="name the questions")
    add("--only", metavar="TEXT", nargs="+",
        help="only runs whose name contains all of these words, such as 'overlap 0.1', and what "
             "they need")
    add("--seeds", type=cli.number(int, 1, 1000), default=1,
        help="how many; from 2 on there are intervals")
    add("--first-seed", type=cli.seed, default=0, help="the first of them")
    add("--jobs", type=cli.number(int, 1, 1024), default=min(2, os.cpu_count() or 1),
        help="processes at once, one thread each")
    add("--scheduler", metavar="tcp://HOST:8786",
        help="run on the workers of this Dask scheduler instead, as many at once as they have "
             "threads; --out is then a folder that all machines share (docs/clusters.md)")
    add("--plan", action="store_true", help="print what would run and how long it should take")
    add("--publish", action="store_true",
        help=f"merge the numbers in --out into {RESULTS}/ and rebuild the report; runs nothing")
    add("--report", action="store_true",
        help=f"rebuild tables, verdicts and figures from {RESULTS}/; runs nothing")
    axes = dict.fromkeys(axis for of_task in AXES.values() for axis in of_task)
    add("--task", choices=list(TASKS), default="arithmetic", help="task family of quick")
    add("--axis", choices=list(axes), default="depth", help="axis of quick")
    add("--overlaps", type=cli.share, nargs="+", metavar="P",
        help="pretraining mixtures to compare (default: quick 0 0.1, dose 0 0.1 0.01 0.001)")
    add("--noise", type=cli.share, default=DEFAULTS["noise"],
        help="corruption of pretraining steps")
    add("--pretrain-steps", type=cli.count, default=DEFAULTS["pretrain_steps"], metavar="N",
        help="steps of pretraining")
    add("--grpo-steps", type=cli.count, default=DEFAULTS["grpo_steps"], metavar="N",
        help="steps of GRPO")
    add("--law-steps", type=cli.count, default=DEFAULTS["law_steps"], metavar="N",
        help="steps of GRPO where it should come to its end")
    add("--oracle-problems", type=cli.number(int, 1, 64_000_000), metavar="N",
        default=DEFAULTS["oracle_problems"],
        help="clean edge problems that the oracle gets at most")
    add("--prompts", type=cli.size, default=256, metavar="N", help="evaluation prompts per cell")
    add("--out", default="runs/study", metavar="DIR", help="where runs are kept")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="cpu", help="where to compute")
    return p


# ------------------------------------------------------------------------------------- what to run

def jobs_of(names, args):
    """{question that defines them: its jobs} of these questions."""
    found = {}
    for name in names:
        owner = questions.owner(name)
        of_owner = argparse.Namespace(**{**vars(args), "question": owner})
        found[owner] = questions.load(owner).jobs(of_owner)
    return found


def each_once(jobs):
    """The jobs, each output once. Two questions that share an output must make it alike."""
    found = {}
    for job in jobs:
        other = found.setdefault(job.out, job)
        if other.argv != job.argv:
            raise cli.CommandError(f"{job.out}: two questions make it with different flags: "
                                   f"{other.command()} and {job.command()}")
    return list(found.values())


def select(jobs, words):
    """The jobs whose name contains all of the words, and everything that they need."""
    wanted = {job.out for job in jobs if all(word in job.name for word in words)}
    for job in reversed(jobs):
        if job.out in wanted:
            wanted |= set(job.needs)
    return [job for job in jobs if job.out in wanted]


def plan(jobs, at_once):
    """Print what would run."""
    done = runner.finished(jobs)
    left = [job for job in jobs if job.out not in done]
    for job in jobs:
        state = "done" if job.out in done else "to do"
        print(f"{state:5s}  ~{cli.duration(job.seconds()):>6s}  {runner.clip(job.name, 84)}")
    total = cli.duration(sum(job.seconds() for job in left) / at_once)
    print(f"{len(jobs)} runs, {len(jobs) - len(left)} done; about {total} with --jobs {at_once}")


# ------------------------------------------------------------------------------ what came out of it

def folder_of(args, question):
    return os.path.join(args.out, "results", question)


def conclude(name, args, chains):
    """Judge and draw a question by these chains of it."""
    if not chains:
        return print(f"\n{name}: nothing is evaluated yet")
    module = questions.load(name)
    found = records.read(folder_of(args, questions.owner(name)))
    runs = [run for run in found if run.chain in chains]
    print()
    if hasattr(module, "summary"):
        print(module.summary(runs))
    else:
        print(questions.asked(name))
        for verdict in module.verdicts(runs):
            print(f"  {verdict.verdict}: {verdict.claim}")
            print(textwrap.fill(verdict.numbers, 100, initial_indent="    ",
                                subsequent_indent="    "))
    path = os.path.join(folder_of(args, name), f"{name}.png")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if draw.can_draw() and draw.save(module.figure, runs, path):
        print(f"drawn in {path}")


def publish(names, args):
    """Merge the numbers in --out into what is published."""
    owners = dict.fromkeys(map(questions.owner, names))
    if not names:   # whatever has been run
        owners = [name for name in questions.names() if name != "quick"
                  and os.path.exists(os.path.join(folder_of(args, name), "runs.csv"))]
    if not owners:
        raise cli.CommandError(f"--publish: nothing but the quick answer is in {args.out}/results")
    for owner in owners:
        folder, runs = os.path.join(RESULTS, owner), records.read(folder_of(args, owner))
        if os.path.exists(os.path.join(folder, "runs.csv")):
            differs = records.unlike(runs, records.read(folder))
            if differs:
                print(textwrap.fill(f"note: {owner} differs from what is in {folder}: {differs}",
                                    100))
        records.write(folder, runs)


def rebuild_guide():
    """variants/README.md again, from what is published of the question methods."""
    folder = os.path.join(RESULTS, "methods")
    if os.path.exists(os.path.join(folder, "runs.csv")):
        path = museum.write(questions.load("methods"), records.read(folder), GUIDE)
        print(f"wrote {path}")


# -------------------------------------------------------------------------------------- the script

@cli.script
def main(argv=None):
    args = build_parser().parse_args(argv)
    if args.list:
        for name in questions.names():
            print(f"{name:12s} {questions.asked(name)}")
        return
    if args.publish or args.report:
        with cli.lock(RESULTS):
            if args.publish:
                publish(args.questions, args)
            if not os.path.isdir(RESULTS):
                raise cli.CommandError(f"{RESULTS}: there is no such folder here; python study.py "
                                       "is to be run where study.py lies")
            print(f"wrote {report.write(RESULTS, questions)}")
            return rebuild_guide()
    if args.axis not in AXES[args.task]:
        raise cli.CommandError(f"--axis {args.axis}: {args.task} has {', '.join(AXES[args.task])}")
    if args.scheduler is None:
        cli.set_device(argparse.Namespace(device=args.device, threads=1))

    names = args.questions or ["quick"]
    by_question = jobs_of(names, args)
    jobs = each_once(job for its_jobs in by_question.values() for job in its_jobs)
    if args.only is not None:
        jobs = select(jobs, args.only)
        if not jobs:
            raise cli.CommandError(f"--only {' '.join(args.only)}: no run has that in its name; "
                                   "--plan lists them")
    if args.plan:
        return plan(jobs, args.jobs)
    cli.check_writable(os.path.join(args.out, "probe"))
    with cli.lock(args.out):
        answer(names, by_question, jobs, args)


def answer(names, by_question, jobs, args):
    """Run the jobs, keep what came of them, and say what it means."""
    began = time.perf_counter()
    place = processes.Here(args.jobs)
    if args.scheduler is not None:
        place = cluster.Cluster(args.scheduler, args.out)
    failed = runner.run(jobs, place)
    evaluated = {owner: [] for owner in by_question}
    for run in runner.collect(jobs):
        evaluated[run.question].append(run)
    for owner, runs in evaluated.items():
        if runs:
            records.write(folder_of(args, owner), runs)
    for name in names:
        conclude(name, args, {run.chain for run in evaluated[questions.owner(name)]})
    print(f"\n{cli.duration(time.perf_counter() - began)} with {place}; "
          f"everything is in {args.out},\neach run's command at the top of its log")
    if failed:
        raise SystemExit("\n  ".join([f"{len(failed)} runs failed:", *failed]))


if __name__ == "__main__":
    main()
