"""finetune.py: post-training. GRPO from a pretrained checkpoint, or another method in its place.

    python finetune.py --init runs/base.pt --train-on id --out runs/grpo.pt
    python finetune.py --init runs/base.pt --train-on edge --kl k1_reward --beta 1 --scale none
    python finetune.py --init runs/base.pt --train-on edge --method sft
    python finetune.py --method list                 the methods; --method dapo --help: one's flags
    python finetune.py --resume runs/grpo.pt         go on after Ctrl-C, bit for bit

The algorithm is in grpo.py, every other method in variants/. The axis and the task family are the
base's. Every step is a row of the CSV beside --out; every --eval-every steps the *exact* mass of
right answers is measured, on prompts that no training ever draws. The KLs are not the same thing:

    --kl k1_reward   beta * sum_t (log pi - log ref) is subtracted from the advantage: reverse KL,
                     whose optimum is the tilted base, logit Q* = logit Q0 + 1 / beta (--scale none)
    --kl k3_loss     beta * k3 is added to the loss, as in the GRPO paper: its gradient is that of
                     the forward KL, and the optimum is hyperbolic, not exponential (theory.py)
"""
import cli  # first, so that Ctrl-C while torch is being imported is one line, too

import copy
import math

import torch

import variants
from measure import mean_masses
from model import load_checkpoint
from tasks import AXES, SPLITS

TRAIN_ON = {"id": ["id"], "edge": ["edge"], "hard": ["hard"], "mix": ["id", "edge"]}
LOGGED = ("reward", "id", "edge", "hard", "kl", "zero_std", "entropy", "clip", "grad", "stop",
          "len", "loss")


def build_parser(argv=()):
    """The flags of this script, and the knobs of the --method in argv, or of the run it resumes."""
    out = f"runs/{variants.chosen(argv)}.pt"
    name = variants.chosen(argv, cli.resumed(argv, out))
    p = cli.Parser(__doc__, __file__, name)
    add = p.add_argument
    add("--init", metavar="CKPT", help="checkpoint to start from")
    add("--reference", metavar="CKPT", help="what a KL is measured from (default: --init)")
    add("--method", metavar="NAME", default="grpo",
        help="grpo, or the name of a file in variants/; list: show them all")
    cli.add_task_flags(p, whose="the base's")
    add("--train-on", choices=list(TRAIN_ON), default="id",
        help="cells to draw prompts from; mix is id and edge in equal parts")
    add("--depths", type=cli.count, nargs="+", metavar="D",
        help="instead: all cells of the axis with these depths, of whatever split")
    add("--steps", type=cli.count, default=60, help="training steps")
    add("--lr-decay", action="store_true", help="let the rate fall linearly to zero")
    add("--out", default=out, metavar="FILE", help="checkpoint to write, beside a .csv")
    add("--keep-every", type=cli.natural, default=0, metavar="N",
        help="also keep a checkpoint of every Nth step, as NAME.step0020.pt; 0: none")
    cli.add_run_flags(p, eval_every=10, log_every=10)
    if name != "list":
        cli.add_knobs(p, variants.load(name))
        p.epilog = f"--method {name}: {variants.summary(name)}"
    return p


def training_cells(task, axis, train_on, depths=None):
    """[(task name, cell)] to draw prompts from; shorter splits are repeated, to weigh as much."""
    cells = {split: [(name, cell) for name in cli.families(task, axis)
                     for cell in AXES[name][axis][split]] for split in SPLITS}
    if depths:
        found = [pair for split in SPLITS for pair in cells[split] if pair[1].depth in depths]
        missing = set(depths) - {cell.depth for _, cell in found}
        if missing:
            raise cli.CommandError(f"--depths {min(missing)}: no cell of the {axis} axis has it")
        return found
    splits = [cells[split] for split in TRAIN_ON[train_on]]
    common = math.lcm(*map(len, splits))
    return [pair for split in splits for pair in split * (common // len(split))]


def starting_point(args, saved):
    """(policy, reference, the flags of what it starts from)."""
    if saved is None and args.init is None:
        raise cli.CommandError("--init: name a pretrained checkpoint (pretrain.py makes one)")
    policy, extra = saved or load_checkpoint(args.init)
    reference = copy.deepcopy(policy)
    if saved is not None:
        reference.load_state_dict(extra["reference"])
    elif args.reference is not None:
        reference = load_checkpoint(args.reference)[0]
        cli.check_same_model(f"--reference {args.reference}", reference.config, policy.config)
    return policy, reference, extra.get("args", {})


def make_method(args, policy, reference):
    """The chosen method, with its knobs from the flags."""
    method = variants.load(args.method)
    settings = {name: getattr(args, name) for name, k in cli.knobs(method).items() if k.shown}
    cells = training_cells(args.task, args.axis, args.train_on, args.depths)
    return method(policy, reference, cells, seed=args.seed, **settings)


def expected_steps(args, done, budgets):
    """How many steps the run will have: --steps, or fewer if one of its budgets ends it first."""
    ends = [done + math.ceil(max(0, budget - spent) * done / spent)
            for budget, spent in budgets if spent]
    return min([args.steps, *ends])


def learning_rate(args, method, done):
    """--lr, or with --lr-decay what is left of it by the steps done or the budget spent."""
    spent = max([done / args.steps, *(spent / budget for budget, spent in method.budgets())])
    return method.lr * (1 - spent) if args.lr_decay else method.lr


@cli.script
def main(argv=None):
    parser = build_parser(cli.arguments(argv))
    args, saved = cli.parse(parser, argv)
    if args.method == "list":
        return print("\n".join(variants.listing()))
    policy, reference, base = starting_point(args, saved)
    args.task = args.task or base.get("task") or "arithmetic"
    args.axis = args.axis or base.get("axis") or "depth"
    names = cli.families(args.task, args.axis)
    cli.check_context(f"--init {args.init}", policy.config.context, names, args.axis,
                      policy.config.vocab_size)
    device = cli.set_device(args)
    torch.manual_seed(args.seed)
    for model in (policy, reference):
        model.to(device).speed_up(args.compile, args.bf16)
    method = make_method(args, policy, reference)
    optimizer = torch.optim.AdamW(method.parameters(), lr=method.lr, weight_decay=0.0)
    if saved is not None:
        cli.restore(args.resume, saved[1], [optimizer], method)
    log = cli.Log(parser, args, [*LOGGED, *method.spent(), *method.columns, "rewards"], saved)

    def save(step, finished=False, path=args.out):
        state, *others = cli.ranks.gather(method.state())  # of every process, if there are several
        cli.save(path, policy, **log.about(step, finished), method=state, others=others,
                 optimizer=optimizer.state_dict(), reference=reference.state_dict())

    cells = ", ".join(sorted({str(cell) for _, cell in method.tasks}))
    with log.writing() as stopped:
        log.announce(f"{policy.n_parameters():,} parameters on {device.type}, {method.batch()} a "
                     f"step, on {cells}", save)
        done = log.first
        log.steps = expected_steps(args, done, method.budgets())
        while done < log.steps:
            optimizer.param_groups[0]["lr"] = learning_rate(args, method, done)
            groups, numbers = method.step(optimizer)
            cli.check_finite(method.parameters())
            done += 1
            log.steps = expected_steps(args, done, method.budgets())
            last = done == log.steps
            numbers.update(method.spent())
            numbers["rewards"] = " ".join(f"{g.cell}: {g.rewards.mean():.3f};" for g in groups)
            if args.eval_every and done % args.eval_every == 0 or last:
                numbers.update(mean_masses(policy, names, args.axis, args.eval_prompts,
                                           method.temperature))
            log.row(done, sum(g.tokens.numel() for g in groups), numbers)
            if done % args.log_every == 0 or last:
                log.print(done, method.describe(numbers))
            log.count_silence(numbers)
            if args.keep_every and done % args.keep_every == 0:
                save(done, last, cli.kept_path(args.out, done))
            stop = stopped()  # asked once: a signal between two looks would not be saved
            if last or stop or done % args.save_every == 0:
                save(done, finished=last)
            if stop and not last:
                log.interrupted(done)
    spent = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in method.spent().items())
    log.say(f"saved {args.out} after {done} steps, {spent}, {cli.duration(log.seconds())}")
    if method.budgets() and all(spent < budget for budget, spent in method.budgets()):
        log.say(f"note: --steps {args.steps} ended the run before its budget was spent")


if __name__ == "__main__":
    main()
