"""grid.py: what the study runs. One function per question; each returns its jobs, in an order in which each follows what it needs.

    pretraining(...)  -> a base                     folder/base.pt
    tuning(...)       -> an arm of that base        folder/ARM.pt
    evaluation(...)   -> exact masses of all arms   folder/PART.json

A folder is one base and everything made of it; its name says how the base differs from the default one. A job that two questions
share is one job: it has one output.
"""
import os
import shlex
from dataclasses import dataclass, field

from tasks import AXES

SECONDS_PER_STEP = {"pretrain": 0.027, "finetune": 0.22}  # on one core, for the plan and the first minute's ETA
SPLIT_ARMS = ("id", "edge", "mix")


@dataclass(eq=False)  # hashable by identity
class Job:
    """One run of one script: its flags, what it writes, and which outputs must be there before."""
    name: str
    script: str
    argv: list
    out: str
    needs: tuple = ()
    steps: int = 0
    about: dict = field(default_factory=dict)  # an evaluation's columns in study.csv: what its base is

    def weight(self):
        """Expected seconds on one core."""
        return SECONDS_PER_STEP.get(self.script, 0) * self.steps + (3 if self.steps else 8)

    def log(self):
        return os.path.splitext(self.out)[0] + ".log"

    def command(self):
        return shlex.join(["python", f"{self.script}.py", *self.argv])


# ------------------------------------------------------------------------------------------------------- the three kinds

def common(args):
    return ["--threads", "1", "--device", args.device]


def pretraining(args, seed, task="arithmetic", axis="depth", overlap=0.0, noise=None, steps=None, setting="", flags=()):
    """A base. `setting` names what `flags` change about it; what is not given is the study's default."""
    noise = args.noise if noise is None else noise
    steps = steps or args.pretrain_steps
    short = f"-steps{steps}" if steps < args.pretrain_steps else ""
    chain = f"{task}-{axis}-overlap{overlap:g}" + (f"-noise{noise:g}" if noise != args.noise else "") + short
    chain += "".join(f"-{word}" for word in setting.split()) + f"-seed{seed}"
    out = os.path.join(args.out, chain, "base.pt")
    say = f"{task}/{axis} overlap {overlap:g}" + (f" noise {noise:g}" if noise != args.noise else "") + short.replace("-steps", " steps ")
    about = {"chain": chain, "task": task, "axis": axis, "overlap": overlap, "noise": noise, "pretrain_steps": steps, "setting": setting,
             "seed": seed, "name": say + (f" {setting}" if setting else "") + f" seed {seed}"}
    return Job(f"pretrain {about['name']}", "pretrain",
               ["--task", task, "--axis", axis, "--overlap", f"{overlap:g}", "--noise", f"{noise:g}", "--steps", str(steps), *flags,
                "--seed", str(seed), "--out", out, *common(args)], out, (), steps, about)


def tuning(args, base, arm, flags, steps=None, init=None):
    """An arm: finetune.py from a base, or from another arm of it (`init`)."""
    init, steps = init or base, steps or args.grpo_steps
    out = os.path.join(os.path.dirname(base.out), f"{arm}.pt")
    return Job(f"{arm} {base.about['name']}", "finetune",
               ["--init", init.out, *flags, "--steps", str(steps), "--eval-every", "0", "--seed", str(base.about["seed"]), "--out", out, *common(args)],
               out, (init.out,), steps)


def oracle(args, base):
    """The pretraining recipe on clean edge problems, from the base: what the architecture could learn if it were shown."""
    out = os.path.join(os.path.dirname(base.out), "oracle.pt")
    steps = round(args.oracle_problems / 64)
    return Job(f"oracle {base.about['name']}", "pretrain",
               ["--task", base.about["task"], "--axis", base.about["axis"], "--init", base.out, "--overlap", "1", "--noise", "0", "--steps", str(steps),
                "--until", "0.9", "--until-split", "edge", "--eval-every", "100", "--seed", str(base.about["seed"]), "--out", out, *common(args)],
               out, (base.out,), steps // 4)


def evaluation(args, part, base, arms, flags=()):
    """Exact masses of the base and its arms on every cell of the axis."""
    out = os.path.join(os.path.dirname(base.out), f"{part}.json")
    paths = [base.out, *(arm.out for arm in arms)]
    return Job(f"evaluate {part} {base.about['name']}", "evaluate", ["--ckpt", *paths, "--prompts", str(args.prompts), *flags, "--json", out, *common(args)],
               out, tuple(paths), about={"part": part, **base.about})


def chain(args, part, base, arms, flags=()):
    return [base, *arms, evaluation(args, part, base, arms, flags)]


def on(args, base, *splits):
    """GRPO on these splits."""
    return [tuning(args, base, f"grpo-{split}", ["--train-on", split]) for split in splits]


def seeds(args):
    return range(args.first_seed, args.first_seed + args.seeds)


# ---------------------------------------------------------------------------------------------------------- the questions

UNDERTRAINED = (150, 200, 250, 300, 400)
DOSE_ORDER = (0.0, 0.1, 0.01, 0.001)  # the contrast first, then what lies between


def quick(args):
    """One axis of one family: two bases, and GRPO on id and on edge from each."""
    return [job for seed in seeds(args) for overlap in dict.fromkeys(args.overlaps or (0.0, 0.1)) for base in [pretraining(args, seed, args.task, args.axis, overlap)]
            for job in chain(args, "quick", base, on(args, base, "id", "edge"))]


def dose(args):
    """What does a little of the edge in pretraining buy? Seven family/axis cells, four overlaps, five arms."""
    jobs = []
    for overlap in args.overlaps or DOSE_ORDER:
        for seed in seeds(args):
            for task in AXES:
                for axis in AXES[task]:
                    base = pretraining(args, seed, task, axis, overlap)
                    sft = tuning(args, base, "sft", ["--train-on", "edge", "--method", "sft"])  # on as many problems as GRPO sees prompts
                    jobs += chain(args, "dose", base, [*on(args, base, *SPLIT_ARMS), sft, oracle(args, base)])
    return jobs


SETTLED = ["--prompts-per-step", "64", "--scale", "none", "--lr", "5e-4", "--lr-decay"]  # few surprises, and an end: for the laws


def law(args, base, kind, beta=0.0, steps=None):
    flags = {"k1": ["--kl", "k1_reward"], "k3": ["--kl", "k3_loss"], "none": []}[kind] + (["--beta", f"{beta:g}"] if kind != "none" else [])
    return tuning(args, base, f"{kind}-b{beta:g}" if kind != "none" else "none", [*flags, *SETTLED], steps or args.law_steps)


def saturation(args):
    """Is the gain an inverted U in the base's mass? Mass dialled by noise, and by stopping pretraining early."""
    jobs = []
    for seed in seeds(args):
        bases = [pretraining(args, seed, noise=noise) for noise in (0.0, 0.1, 0.3, 0.5, 0.7)]
        bases += [pretraining(args, seed, noise=0.0, steps=max(1, round(steps * args.pretrain_steps / 1000))) for steps in UNDERTRAINED]
        for base in bases:
            jobs += chain(args, "saturation", base, [law(args, base, "none"), law(args, base, "k1", 1)])
    return jobs


def laws(args):
    """Does a transformer end where the theory says? Two kinds of KL, three strengths, and none; step by step (P1, P3, P10)."""
    jobs = []
    for seed in seeds(args):
        base = pretraining(args, seed)
        arms = [law(args, base, kind, beta) for beta in (1, 0.3, 0.1) for kind in ("k1", "k3")] + [law(args, base, "none")]
        jobs += chain(args, "laws", base, arms, ["--per-step", "--cold"])
    return jobs


def controls(args):
    """One thing changed at a time, cheapest first."""
    jobs = []
    for seed in seeds(args):
        plain, seen = pretraining(args, seed), pretraining(args, seed, overlap=0.1)
        rewards = [tuning(args, plain, f"reward={reward}", ["--reward", reward]) for reward in ("answer", "process", "random", "inverted", "format")]
        long = law(args, plain, "k1", 1)
        resets = tuning(args, plain, "resets", ["--method", "resets", "--reset-every", str(max(1, args.law_steps // 3)), "--kl", "k1_reward", "--beta", "1", *SETTLED], args.law_steps)
        jobs += chain(args, "controls", plain, [*on(args, plain, "id"), *rewards, tuning(args, plain, "scale=none", ["--scale", "none"]), long, resets])

        stages = []
        for depth in (4, 5, 6):
            stages.append(tuning(args, seen, f"curriculum-{depth}", ["--depths", str(depth)], init=stages[-1] if stages else seen))
        jump = tuning(args, seen, "jump-6", ["--depths", "6"], 3 * args.grpo_steps)
        balanced = tuning(args, seen, "balanced", ["--method", "balanced", "--train-on", "edge"])
        jobs += chain(args, "controls", seen, [*on(args, seen, "id", "edge"), *stages, jump, balanced])

        for position in ("learned", "nope"):
            base = pretraining(args, seed, overlap=0.1, setting=f"position={position}", flags=["--position", position])
            jobs += chain(args, "controls", base, on(args, base, "id", "edge"))
        for untied in ("", " untied"):
            for exposure in ("none", "copy", "atoms", "full"):
                if exposure + untied == "none":
                    base = pretraining(args, seed, axis="tokens")
                else:
                    base = pretraining(args, seed, axis="tokens", setting=f"exposure={exposure}{untied}", flags=["--exposure", exposure] + ["--untied"] * bool(untied))
                jobs += chain(args, "controls", base, on(args, base, "edge"))
    return jobs


def domains(args):
    """Two families in one base, in three proportions, and the same GRPO on both."""
    jobs = []
    for seed in seeds(args):
        for share in (0.9, 0.5, 0.1):
            base = pretraining(args, seed, "both", "depth", setting=f"share={share}", flags=["--share", str(share)])
            jobs += chain(args, "domains", base, on(args, base, "id"))
    return jobs


RIVALS = ("grpo", "dr_grpo", "rloo", "remax", "reinforce_pp", "reinforce_pp_baseline", "dapo", "gspo", "cispo", "ppo", "w_reinforce", "passk", "rft", "distill", "sft")
RIVAL_CELLS = (("arithmetic", "depth"), ("arithmetic", "composition"), ("graph", "length"))


def rivals(args):
    """Every method from shared bases that never saw the edge, on id and edge in equal parts, at as many rollouts as GRPO's."""
    jobs = []
    for seed in seeds(args):
        for task, axis in RIVAL_CELLS:
            base = pretraining(args, seed, task, axis)
            teacher = pretraining(args, seed, task, axis, overlap=0.5, noise=0.0)  # for distill: clean, and half of it from the edge
            arms = []
            for method in RIVALS:
                budget = [] if method == "sft" else ["--budget-rollouts", str(args.grpo_steps * 32 * 16)]
                arms.append(tuning(args, base, f"rival-{method}", ["--method", method, "--train-on", "mix", *budget], args.grpo_steps * (4 if budget else 1)))
            distill = arms[RIVALS.index("distill")]
            distill.argv += ["--teacher", teacher.out]
            distill.needs += (teacher.out,)
            jobs += [teacher, *chain(args, "rivals", base, arms)]
    return jobs


PARTS = {"dose": dose, "saturation": saturation, "laws": laws, "controls": controls, "domains": domains, "rivals": rivals}


def jobs_of(args):
    """The jobs of --grid, each output once."""
    parts = [quick] if args.grid == "quick" else PARTS.values()
    jobs = {}
    for part in parts:
        for job in part(args):
            jobs.setdefault(job.out, job)
    return list(jobs.values())
