"""Does another method reach what GRPO does not?

Every method from shared bases that never saw the edge, on id and edge in equal parts, at as many
rollouts as GRPO's.
"""
from lab.jobs import chain, pretraining, seeds, tuning

METHODS = ("grpo", "dr_grpo", "rloo", "remax", "reinforce_pp", "reinforce_pp_baseline", "dapo",
           "gspo", "cispo", "ppo", "w_reinforce", "passk", "rft")
PLACES = (("arithmetic", "depth"), ("arithmetic", "composition"), ("graph", "length"))


def jobs(args):
    found = []
    budget = ["--budget-rollouts", str(args.grpo_steps * 32 * 16)]
    longest = 4 * args.grpo_steps   # the budget ends every run before this
    for seed in seeds(args):
        for task, axis in PLACES:
            base = pretraining(args, seed, task, axis)
            # distillation's teacher is clean, and saw the edge as often as the id cells
            teacher = pretraining(args, seed, task, axis, overlap=0.5, noise=0.0)
            arms = []
            for method in METHODS:
                flags = ["--method", method, "--train-on", "mix", *budget]
                arms.append(tuning(args, base, f"rival-{method}", flags, longest))
            flags = ["--method", "distill", "--teacher", teacher.out, "--train-on", "mix", *budget]
            arms.append(tuning(args, base, "rival-distill", flags, longest, needs=[teacher]))
            flags = ["--method", "sft", "--train-on", "mix"]   # as many problems as GRPO's prompts
            arms.append(tuning(args, base, "rival-sft", flags))
            found += [teacher, *chain(args, base, arms)]
    return found
