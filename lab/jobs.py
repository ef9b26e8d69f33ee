"""jobs.py: what a question may ask to be run. A job is one run of one script.

    pretraining(args, seed, ...)        a base                      CHAIN/base.pt
    tuning(args, base, arm, flags)      an arm of that base         CHAIN/ARM.pt
    evaluation(args, base, arms)        exact masses of them all    CHAIN/QUESTION.json

A chain is a base and everything made of it, and a folder of --out; its name says how they differ
from the default ones, so that a small run has folders of its own. A job that two questions share
is one job: it has one output. `args` are study.py's flags, and `args.question`, the question that
the jobs belong to.
"""
import os
import shlex
from dataclasses import dataclass, field

from tasks import SPLITS

# study.py's sizes by default: what differs from them is in the name of the chain. (--prompts is
# not: it changes no training, and an evaluation is made again in seconds.)
DEFAULTS = {"noise": 0.3, "pretrain_steps": 1000, "grpo_steps": 60, "law_steps": 240,
            "oracle_problems": 150_000}
ARM_SIZES = {"grpo_steps": "grpo", "law_steps": "law", "oracle_problems": "oracle"}

# Pretraining takes so many times --pretrain-steps where id would not be learned to the last cell
# otherwise: on demonstrations without noise every id cell reaches 0.97 (seeds 0 to 2).
LONGER = {("arithmetic", "depth"): 1.5, ("arithmetic", "tokens"): 1.5, ("arithmetic", "length"): 3}

# On one core, for the plan and for the first minute's ETA.
SECONDS_PER_STEP = {"pretrain": 0.024, "finetune": 0.08}

# GRPO with few surprises and with an end, where it is to be compared with the law of its limit.
SETTLED = ["--prompts-per-step", "64", "--scale", "none", "--lr", "5e-4", "--lr-decay"]


@dataclass(eq=False)   # hashable by identity
class Job:
    """One run of one script: its flags, what it writes, and what must be there before."""
    name: str
    script: str
    argv: list
    out: str
    needs: tuple = ()
    steps: int = 0                              # that it should take; 0 for an evaluation
    about: dict = field(default_factory=dict)   # what the chain's base is: columns of the record

    def seconds(self):
        """Expected on one core."""
        start_up = 3 if self.steps else 8
        return start_up + SECONDS_PER_STEP.get(self.script, 0) * self.steps

    def log(self):
        return os.path.splitext(self.out)[0] + ".log"

    def command(self):
        return shlex.join(["python", f"{self.script}.py", *self.argv])


def seeds(args):
    return range(args.first_seed, args.first_seed + args.seeds)


def common(args, out):
    return ["--out", out, "--threads", "1", "--device", args.device]


def enough(args, task="arithmetic", axis="depth"):
    """Steps of pretraining that this axis needs, whatever the noise."""
    return round(args.pretrain_steps * LONGER.get((task, axis), 1))


def pretraining(args, seed, task="arithmetic", axis="depth", overlap=0.0, noise=None, steps=None,
                setting="", flags=()):
    """A base. `setting` names what `flags` change; what is not given is the study's default."""
    noise = args.noise if noise is None else noise
    steps = steps or args.pretrain_steps
    differs = []
    if noise != DEFAULTS["noise"]:
        differs.append(f"noise{noise:g}")
    if steps != DEFAULTS["pretrain_steps"]:
        differs.append(f"steps{steps}")
    differs += [f"{word}{getattr(args, size)}" for size, word in ARM_SIZES.items()
                if getattr(args, size) != DEFAULTS[size]]
    words = [task, axis, f"overlap{overlap:g}", *differs, *setting.split(), f"seed{seed}"]
    out = os.path.join(args.out, "-".join(words), "base.pt")
    name = " ".join([f"{task}/{axis} overlap {overlap:g}", *differs, *setting.split(),
                     f"seed {seed}"])
    about = {"chain": "-".join(words), "task": task, "axis": axis, "overlap": overlap,
             "noise": noise, "pretrain_steps": steps, "setting": setting, "seed": seed,
             "name": name}
    argv = ["--task", task, "--axis", axis, "--overlap", f"{overlap:g}", "--noise", f"{noise:g}",
            "--steps", str(steps), *flags, "--seed", str(seed), *common(args, out)]
    return Job(f"pretrain {name}", "pretrain", argv, out, (), steps, about)


def tuning(args, base, arm, flags, steps=None, init=None, needs=()):
    """An arm: finetune.py from the base, or from another arm of it (`init`)."""
    init, steps = init or base, steps or args.grpo_steps
    out = os.path.join(os.path.dirname(base.out), f"{arm}.pt")
    argv = ["--init", init.out, *flags, "--steps", str(steps), "--eval-every", "0",
            "--seed", str(base.about["seed"]), *common(args, out)]
    return Job(f"{arm} {base.about['name']}", "finetune", argv, out,
               (init.out, *(job.out for job in needs)), steps)


def on(args, base, *splits):
    """Plain GRPO on each of these splits: the arms grpo-id, grpo-edge, ..."""
    return [tuning(args, base, f"grpo-{split}", ["--train-on", split]) for split in splits]


def settled(args, base, arm, kl="none", beta=0):
    """GRPO until it should have ended, for the laws: with a KL of this kind and strength, or
    none."""
    pull = ["--kl", kl, "--beta", f"{beta:g}"] if kl != "none" else []
    return tuning(args, base, arm, [*pull, *SETTLED], args.law_steps)


def oracle(args, base):
    """The pretraining recipe on clean edge problems, from the base: what the architecture could
    learn if it were shown."""
    out = os.path.join(os.path.dirname(base.out), "oracle.pt")
    steps = round(args.oracle_problems / 64)
    about = base.about
    argv = ["--task", about["task"], "--axis", about["axis"], "--init", base.out, "--overlap", "1",
            "--noise", "0", "--steps", str(steps), "--until", "0.9", "--until-split", "edge",
            "--eval-every", "100", "--seed", str(about["seed"]), *common(args, out)]
    # most oracles are there after a quarter of their steps
    return Job(f"oracle {about['name']}", "pretrain", argv, out, (base.out,), max(1, steps // 4))


def evaluation(args, base, arms, flags=(), splits=SPLITS):
    """Exact masses of the base and its arms on every cell of the axis; those of `splits` are kept
    with the study's numbers."""
    out = os.path.join(os.path.dirname(base.out), f"{args.question}.json")
    paths = [base.out, *(arm.out for arm in arms)]
    argv = ["--ckpt", *paths, "--prompts", str(args.prompts), *flags, "--json", out,
            "--threads", "1", "--device", args.device]
    return Job(f"evaluate {args.question} {base.about['name']}", "evaluate", argv, out,
               tuple(paths),
               about={"question": args.question, "splits": tuple(splits), **base.about})


def chain(args, base, arms, flags=(), splits=SPLITS):
    """A base, its arms, and the evaluation of them all."""
    return [base, *arms, evaluation(args, base, arms, flags, splits)]
