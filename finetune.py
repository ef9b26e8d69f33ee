"""finetune.py: post-training. GRPO from a pretrained checkpoint, or a rival in the same boxes.

    python finetune.py --init runs/base.pt --train-on id --out runs/grpo.pt
    python finetune.py --init runs/base.pt --train-on edge --kl k1_reward --beta 1 --scale none --out runs/kl.pt
    python finetune.py --init runs/base.pt --train-on edge --method sft --out runs/sft.pt
    python finetune.py --method list                                         the rivals; --method dapo --help: one's flags
    python finetune.py --resume runs/grpo.pt                                 go on after Ctrl-C, bit for bit

Every step draws prompts of one cell, samples a group of completions of each, has them verified, and updates the policy
(see grpo.py, where the algorithm is). The axis and the task family are those of the base. Every step is a row of the CSV
beside --out; every --eval-every steps the *exact* mass of right answers is measured on prompts that no training ever draws.

--kl chooses which KL pulls towards the reference, and they are not the same thing (Q is the mass of right answers):

    none        no pull
    k1_reward   beta * sum_t (log pi - log ref) subtracted from the advantage: descends the reverse KL. The optimum is the
                tilted base: logit Q* = logit Q0 + 1 / beta (with --scale none).
    k3_loss     beta * k3 added to the loss, as in the GRPO paper: its gradient is that of the forward KL, and the optimum
                is hyperbolic, not exponential.
"""
import argparse
import copy
import math
import os

import numpy as np
import torch

import cli
import variants
from evaluate import check_context, families, mean_masses
from grpo import GRPO, REWARDS
from model import load_checkpoint, save_checkpoint
from tasks import AXES, SPLITS, TASKS

TRAIN_ON = {"id": ["id"], "edge": ["edge"], "hard": ["hard"], "mix": ["id", "edge"]}


class Parser(cli.Parser):
    """The flags below, and those of the chosen --method (or of the resumed run's), which also has defaults of its own."""
    method, name, own = GRPO, "grpo", ()

    def parse_known_args(self, argv=None, namespace=None):
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--method", nargs="?")
        name = first.parse_known_args(argv)[0].method or getattr(namespace, "method", "grpo")
        if name not in ("list", self.name):
            self.adopt(name)
        return super().parse_known_args(argv, namespace)

    def adopt(self, name):
        self.name, self.method = name, variants.load(name)
        known = {action.dest: action for action in self._actions}
        for key in [*self.method.defaults, *self.method.ignores]:
            if key not in known:
                raise cli.CommandError(f"--method {name}: variants/{name}.py speaks of {key!r}, which is no flag; --help lists them")
        for key, value in self.method.defaults.items():
            known[key].help = known[key].help.split(" (default")[0] + f" (default {value} with --method {name})"
        self.set_defaults(**self.method.defaults)
        for key, options in self.method.flags.items():
            if key in known:
                raise cli.CommandError(f"--method {name}: variants/{name}.py adds a flag {key!r}, which is there already")
            self.add_argument("--" + key.replace("_", "-"), **options)
        self.own = tuple(self.method.flags)
        self.epilog = f"--method {name}: {(self.method.__doc__ or '').strip()}"


def build_parser():
    p = Parser(__doc__, __file__)
    add = p.add_argument
    add("--init", metavar="CKPT", help="checkpoint to start from; it is also the reference")
    add("--method", metavar="NAME", default="grpo", help="grpo, or the name of a file in variants/; list: show them all")
    add("--task", choices=[*TASKS, "both"], help="task family to train on (default: the base's)")
    add("--axis", choices=sorted({a for axes in AXES.values() for a in axes}), help="axis (default: the base's)")
    add("--train-on", choices=list(TRAIN_ON), default="id", help="cells to draw prompts from; mix is id and edge in equal parts")
    add("--depths", type=cli.count, nargs="+", metavar="D", help="instead: all cells of the axis with these depths, of whatever split")
    add("--reward", choices=list(REWARDS), default="trace", help="; ".join(f"{k}: {v}" for k, v in REWARDS.items()))
    add("--steps", type=cli.count, default=60, help="training steps")
    add("--budget-rollouts", type=cli.count, metavar="N", help="end with the step in which the N-th completion is sampled, if --steps does not end it before")
    add("--prompts-per-step", type=cli.count, default=32, metavar="P", help="prompts per step")
    add("--group-size", type=cli.count, default=16, metavar="G", help="completions per prompt")
    add("--epochs", type=cli.count, default=1, help="updates on each batch of rollouts")
    add("--micro-batch", type=cli.natural, default=0, metavar="P", help="prompts per backward pass, to save memory; 0: all at once")
    add("--lr", type=cli.positive, default=1e-3, help="AdamW's learning rate")
    add("--lr-decay", action="store_true", help="let it fall linearly to zero")
    add("--max-grad-norm", type=cli.positive, default=1.0, help="clip the gradient's norm to this")
    add("--temperature", type=cli.positive, default=1.0, help="of the rollouts, and of every log-probability")
    add("--scale", choices=["std", "none"], default="std", help="divide advantages by the group's std, or do not (Dr. GRPO)")
    add("--clip-low", type=cli.nonnegative, default=0.2, help="the ratio is clipped below 1 - this")
    add("--clip-high", type=cli.nonnegative, default=0.2, help="and above 1 + this")
    add("--aggregate", choices=["sequence", "token", "constant"], default="sequence", help="how token losses become one number")
    add("--kl", choices=["none", "k1_reward", "k3_loss"], default="none", help="pull towards the reference, see above")
    add("--beta", type=cli.nonnegative, default=0.1, help="its strength")
    add("--drop-zero-variance", action="store_true", help="leave groups with equal rewards out of the loss's mean")
    add("--out", default="runs/grpo.pt", metavar="FILE", help="checkpoint to write; its .csv holds every step")
    add("--keep-every", type=cli.natural, default=0, metavar="N",
        help="also keep a checkpoint of every Nth step, beside --out as NAME.step0020.pt; 0: none")
    cli.add_run_flags(p, eval_every=10, log_every=1)
    return p


def training_cells(task, axis, train_on, depths=None):
    """[(task name, cell)] to draw batches from, each split with the same weight: shorter splits are repeated."""
    if depths:
        cells = [(t, c) for t in (TASKS if task == "both" else [task]) for s in SPLITS for c in AXES[t][axis][s] if c.depth in depths]
        missing = set(depths) - {c.depth for _, c in cells}
        if missing:
            raise cli.CommandError(f"--depths {min(missing)}: the {axis} axis has no cell of that depth")
        return cells
    splits = [[(t, c) for t in (TASKS if task == "both" else [task]) for c in AXES[t][axis][s]] for s in TRAIN_ON[train_on]]
    common = int(np.lcm.reduce([len(s) for s in splits]))
    return [pair for split in splits for pair in split * (common // len(split))]


def starting_point(args, saved):
    """(policy, reference, base flags, extra of an interrupted run or None)."""
    if saved is None:
        if args.init is None:
            raise cli.CommandError("--init: name the pretrained checkpoint to start from (python pretrain.py makes one)")
        policy, extra = load_checkpoint(args.init)
        return policy, copy.deepcopy(policy), extra.get("args", {}), None
    policy, extra = saved
    reference = copy.deepcopy(policy)
    reference.load_state_dict(extra["reference"])
    return policy, reference, extra["args"], extra


def build_method(parser, args, policy, reference, tasks):
    """The chosen method, with the flags it needs."""
    for key in parser.method.ignores:
        if getattr(args, key) != parser.get_default(key):
            raise cli.CommandError(f"--{key.replace('_', '-')} {getattr(args, key)}: has no meaning for --method {args.method}; leave it out")
    return parser.method(policy, reference, tasks, **{k: getattr(args, k) for k in (
        "prompts_per_step", "group_size", "epochs", "temperature", "reward", "scale", "clip_low", "clip_high", "aggregate", "kl", "beta",
        "drop_zero_variance", "micro_batch", "max_grad_norm", "seed", *parser.own)})


def expected_steps(args, done, rollouts):
    """How many steps the run will have: --steps, or fewer if --budget-rollouts ends it first at the pace of the steps done."""
    if args.budget_rollouts is None or rollouts == 0:
        return args.steps
    return min(args.steps, done + math.ceil(max(0, args.budget_rollouts - rollouts) * done / rollouts))


@cli.script
def main(argv=None):
    parser = build_parser()
    args, saved = cli.parse(parser, argv)
    if args.method == "list":
        return print("\n".join(variants.describe(name) for name in variants.names()))
    policy, reference, base, saved = starting_point(args, saved)
    args.task, args.axis = args.task or base.get("task") or "arithmetic", args.axis or base.get("axis") or "depth"
    names = families(args.task, args.axis)
    check_context(f"--init {args.init}", policy.config.context, names, args.axis)
    device = cli.set_device(args)
    torch.manual_seed(args.seed)
    method = build_method(parser, args, policy.to(device).speed_up(args.compile, args.bf16),
                          reference.to(device).speed_up(args.compile, args.bf16), training_cells(args.task, args.axis, args.train_on, args.depths))
    cli.check_writable(args.out)
    method.budget = args.budget_rollouts or math.inf
    optimizer = torch.optim.AdamW(method.parameters(), lr=args.lr, weight_decay=0.0)
    start, seconds = 0, 0.0
    if saved is not None:
        start, seconds = saved["step"], saved["seconds"]
        optimizer.load_state_dict(saved["optimizer"])
        method.load_state(saved["method"])

    run = cli.command(parser, args)
    columns = ["loss", "reward", *SPLITS, "kl", "entropy", "clip", "zero_std", "len", "stop", "grad", "rollouts", *method.columns, "task", "cell"]
    log = cli.Log(args.out, columns, args.steps, start, seconds)

    def save(step, finished=False, path=args.out):
        save_checkpoint(path, policy, script=parser.prog, command=run, args=vars(args), step=step, finished=finished,
                        seconds=log.seconds(), optimizer=optimizer.state_dict(), method=method.state(),
                        reference=reference.state_dict())

    print(f"{run}\n{policy.n_parameters():,} parameters on {device.type}, {method.batch()} a step, "
          f"on {', '.join(sorted({str(c) for _, c in method.tasks}))}", flush=True)
    log.announce(args.out, start, save)
    done, silent = start, 0
    log.steps = expected_steps(args, done, method.rollouts)
    with cli.stop_signals() as stopped:
        while done < log.steps:
            if args.lr_decay:
                spent = method.rollouts / args.budget_rollouts if args.budget_rollouts else 0.0
                optimizer.param_groups[0]["lr"] = args.lr * (1 - max(done / args.steps, spent))
            try:
                group, numbers = method.step(optimizer)
            except FloatingPointError as error:
                raise cli.CommandError(f"step {done + 1}: {error}; stopped, {args.out} keeps the last good checkpoint "
                                       "(try a lower --lr)") from None
            numbers["rollouts"] = method.rollouts
            done += 1
            log.steps = expected_steps(args, done, method.rollouts)
            last = done == log.steps
            silent = silent + 1 if numbers["zero_std"] == 1 and numbers["grad"] == 0 else 0
            if args.eval_every and done % args.eval_every == 0 or last:
                numbers.update(mean_masses(policy, names, args.axis, args.eval_prompts, args.temperature))
            log.row(done, group.tokens.numel(), {**numbers, "task": group.task, "cell": str(group.cell)})
            if done % args.log_every == 0 or "id" in numbers:
                log.print(done, describe(numbers, method.columns))
            if silent in (1, 10, 100):
                print(f"  {silent} step{'s' if silent > 1 else ''} without a signal: in every group all completions got the same reward "
                      f"(mean {numbers['reward']:.2f}), so all advantages are 0 and the weights stay as they are", flush=True)
            if args.keep_every and done % args.keep_every == 0:
                save(done, last, f"{os.path.splitext(args.out)[0]}.step{done:04d}.pt")
            if last or done % args.save_every == 0 or stopped():
                save(done, finished=last)
            if stopped() and not last:
                raise SystemExit(cli.interrupted(parser.prog, done, log.steps, args.out))
    print(f"saved {args.out} after {done} steps, {method.rollouts:,} rollouts, {cli.duration(log.seconds())}")
    if args.budget_rollouts and method.rollouts < args.budget_rollouts:
        print(f"note: --steps {args.steps} ended the run before its --budget-rollouts {args.budget_rollouts} were spent")


def describe(numbers, columns=()):
    """The log line; the README says what each number means and what is healthy. What a method does not have is left out."""
    n = {key: value for key, value in numbers.items() if value is not None}
    parts = [f"loss {n['loss']:.3f}" if "reward" not in n else f"reward {n['reward']:.2f}"]
    if "id" in n:
        parts.append(f"mass {' '.join(f'{s} {n[s]:.2f}' for s in SPLITS)}")
    parts += [f"{key.replace('_', '-')} {n[key]:.{digits}f}" for key, digits in
              (("kl", 3), ("entropy", 2), ("clip", 2), ("zero_std", 2), ("len", 1), ("stop", 2), ("grad", 2)) if key in n]
    parts += [f"rollouts {cli.quantity(n['rollouts'])}"] if n["rollouts"] else []
    parts += [f"{key.replace('_', '-')} {n[key]:.2f}" if isinstance(n[key], float) else f"{key.replace('_', '-')} {cli.quantity(n[key])}"
              for key in columns if key in n]
    return " | ".join(parts)


if __name__ == "__main__":
    main()
