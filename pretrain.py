"""pretrain.py: next-token pretraining from scratch, on a mixture that you dial.

    python pretrain.py --out runs/base.pt                       arithmetic, depth axis, noise 0.3
    python pretrain.py --overlap 0.1 --out runs/base10.pt       a tenth of it from the edge cells
    python pretrain.py --task graph --axis length --noise 0 --out runs/graph.pt
    python pretrain.py --init runs/base.pt --overlap 1 --noise 0 --until 0.9 --until-split edge
    python pretrain.py --resume runs/base.pt                    go on after Ctrl-C, bit for bit

Each step draws one cell, then a batch of problems of that cell, and trains on the solution tokens
only (prompts are random; there is nothing to learn in them). What pretraining puts there is
dialled, not hoped for:

    --overlap p    share of problems from the edge cells, in whole batches. Nested: the steps that
                   are edge steps at 0.001 are among those at 0.01 (at equal --steps and --seed),
                   and all other steps see the same problems at every p. At 0, a scan of every
                   prompt drawn proves that none was an edge problem.
    --noise q      each written step is corrupted with probability q and the error propagates. The
                   best a model can then do is to answer depth d with probability about
                   (1 - q')^d, where q' = 0.9 q is the chance that the corrupted digit really
                   differs: this dials the base's correct mass.
    --noise-kind   random errors, errors whose mode is wrong, or errors that are marked as such:
                   the one answer that counts is the same, the chain without any
    --bias b       where several answers are right, demonstrations show the alphabetically first
                   this share of the time, and else any of them: this dials what the base prefers
    --noise-symbols K   a corrupted step loses K neighbouring symbols at once, which reaches
                   masses of 0.001 to 0.05 at trained depths
    --exposure     on the tokens axis: what the shadow symbols were seen in.
    --refine p     share of id problems whose prompt tells the answer of the demonstration that
                   follows, half of them after another attempt at it: the same demonstrations, to
                   be explained or put right (--method expo and critique ask for that).

Optimiser: Muon (below) on the 2-D matrices of the blocks, AdamW on the embeddings. Measured on
these tasks it takes a fifth of the nanoGPT recipe's time (`python -m lab.bench --recipes`).

Departures from nanoGPT's train.py: argparse for flags; data keyed by (seed, step, cell) instead of
a stream, so that resuming and comparing mixtures are exact; no gradient accumulation.
"""
import cli  # first, so that Ctrl-C while torch is being imported is one line, too

import numpy as np
import torch

from measure import mean_masses
from model import GPT, GPTConfig, load_checkpoint, token_logprobs
from tasks import (AXES, NOISE, SPLITS, TASKS, VOCAB, Problems, cell_key, disguised_share,
                   families)

EXPOSURES = {
    "none": "never (a sanity zero: nothing tells which shadow stands for which digit)",
    "copy": "in problems that only copy them",
    "atoms": "at depth 1, one operation at a time",
    "full": "at every pretrained depth, which includes the edge cells",
}

ATTEMPT_NOISE = 0.5   # probability that a step of an attempt is wrong, with --refine


# ----------------------------------------------------------------------------------- the mixture

def first_ranks(share, steps, seed, purpose):
    """[steps] bool: the round(share * steps) steps with the lowest seeded rank. Nested: more share
    only adds steps. Another purpose is another permutation."""
    return np.random.default_rng([seed, purpose]).permutation(steps) < round(share * steps)


class Mixture:
    """Which problems each step trains on: a function of the flags and the step, so that a resumed
    run needs no data position."""

    def __init__(self, args):
        self.args, self.names = args, families(args.task)
        share = args.share if len(self.names) == 2 else 1
        exposed = args.exposure_share if args.exposure != "none" else 0
        self.edge = first_ranks(args.overlap, args.steps, args.seed, 1)
        self.first = first_ranks(share, args.steps, args.seed, 2)  # of the families
        self.shadow = first_ranks(exposed, args.steps, args.seed, 3)
        self.told = first_ranks(args.refine, args.steps, args.seed, 6)
        self.tried = first_ranks(0.5, args.steps, args.seed, 7)  # of those: after an attempt

    def kind(self, step):
        """(task name, kind of step 0 <= step < steps), kind in edge | copy | atoms | full | id."""
        task = self.names[0] if self.first[step] else self.names[-1]
        if self.edge[step]:
            return task, "edge"
        return task, self.args.exposure if self.shadow[step] else "id"

    def cells(self, task, kind):
        """The cells that a kind of step draws from, each with the same probability."""
        if kind in ("id", "edge"):
            return AXES[task][self.args.axis][kind]
        cells = AXES[task][self.args.axis]["id"]
        if kind == "atoms":
            cells = [cell for cell in cells if cell.depth == 1]
        return [cell._replace(alphabet="shadow") for cell in cells]

    def draw(self, step):
        """(task name, kind, Problems) of a step."""
        task, kind = self.kind(step)
        cells = self.cells(task, kind)
        cell = cells[np.random.default_rng([self.args.seed, 4, step]).integers(len(cells))]
        rng = np.random.default_rng([self.args.seed, 5, step, *cell_key(task, cell)])
        if kind == "copy":
            return task, kind, TASKS[task].copies(self.args.batch_size, cell.length, rng)
        problems = TASKS[task].sample(cell, self.args.batch_size, rng, self.args.noise, "train",
                                      self.args.noise_kind, self.args.noise_symbols,
                                      self.args.bias)
        if kind == "id" and self.told[step]:
            problems = self.tell(TASKS[task], *problems, self.tried[step], rng)
        return task, kind, problems

    def tell(self, task, prompts, solutions, tried, rng):
        """Problems with the same solutions, whose prompts tell the answer, after an attempt with
        errors if they were tried."""
        attempts = task.solutions(prompts, ATTEMPT_NOISE, rng) if tried else None
        return Problems(task.told(prompts, solutions, attempts), solutions)


def edge_problems(task, axis, prompts):
    """How many of the prompts [n, P] belong to an edge cell, told from their tokens alone."""
    edge = AXES[task][axis]["edge"]
    return int(sum(TASKS[task].matches(prompts, cell).sum() for cell in edge))


# --------------------------------------------------------------------------------- the optimizer

def orthogonalize(x, steps=5):
    """The orthogonal matrix nearest to each of x [n, rows, columns], rows <= columns, roughly:
    singular values 0.7 to 1.2.

    Newton-Schulz iteration: x becomes a x + b (x x') x + c (x x')^2 x, which drives every singular
    value towards 1. These coefficients trade exactness for speed from small values (Jordan, "Muon:
    an optimizer for hidden layers", 2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix as the update: every direction of a weight
    matrix moves alike (Jordan 2024).

    The same rule as torch.optim.Muon with adjust_lr_fn="match_rms_adamw" (updates as large as
    AdamW's, so that one learning rate serves both; Liu et al. 2502.16982), which orthogonalises one
    matrix after the other, in bfloat16: 12.9 ms for this model's eight on one core, when forward
    and backward together take 19. In float32 and by batches of one shape: 3.0 ms.
    """

    def __init__(self, matrices, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            momentum, shapes = group["momentum"], {}
            for p in group["params"]:
                if p not in self.state:
                    self.state[p]["average"] = torch.zeros_like(p)
                average = self.state[p]["average"].lerp_(p.grad, 1 - momentum)
                update = p.grad.lerp(average, momentum)  # Nesterov
                update = update if p.shape[0] <= p.shape[1] else update.T
                shapes.setdefault(update.shape, []).append((p, update))
            for shape, pairs in shapes.items():
                updates = orthogonalize(torch.stack([update for _, update in pairs]))
                for (p, _), update in zip(pairs, updates):
                    update = update if p.shape == shape else update.T
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)


def make_optimizers(model, kind, lr, weight_decay=0.0):
    """Muon on the blocks' matrices beside AdamW on the embeddings, at one learning rate; or
    ("adamw") AdamW on everything.

    Momentum 0.8: with the usual 0.95 one seed in three was at mass 0.78 when the others had arrived
    (1200 steps, noise 0); with 0.8 all five that were tried had.
    """
    if kind == "adamw":
        return [torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)]
    blocks = [p for name, p in model.named_parameters() if name.startswith("blocks")]
    rest = [p for name, p in model.named_parameters() if not name.startswith("blocks")]
    return [Muon(blocks, lr, momentum=0.8, weight_decay=weight_decay),
            torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay)]


def schedule(step, steps, warmup, decay):
    """Factor on the learning rate at step 0 <= step < steps: linear warm-up, flat, linear decay
    over the last share of the steps.

    >>> [round(schedule(step, 10, warmup=1, decay=0.5), 6) for step in (0, 1, 4, 9)]
    [0.5, 1.0, 1.0, 0.2]
    """
    return min(1.0, (step + 1) / (warmup + 1), (steps - step) / (decay * steps + 1e-9))


def update(model, optimizers, problems, lr):
    """One step on one batch of problems: (loss, gradient norm before clipping), both floats.

    Raises FloatingPointError before a loss or gradient that is not finite can reach the weights.
    """
    own = cli.ranks.share(len(problems.prompts))  # all rows, unless torchrun started several
    tokens = torch.from_numpy(np.hstack(problems)[own]).to(next(model.parameters()).device)
    logp = token_logprobs(model, tokens, problems.prompts.shape[1])
    loss = -logp.mean() * (len(tokens) / len(problems.prompts))
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    loss, = cli.ranks.add_gradients(list(model.parameters()), loss.item())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
    if not (np.isfinite(loss) and np.isfinite(norm)):
        raise FloatingPointError(f"loss {loss}, gradient norm {norm}")
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    return loss, norm


# ------------------------------------------------------------------------------------ the script

def build_parser(argv=()):  # called like that of finetune.py, which looks into argv
    p = cli.Parser(__doc__, __file__)
    add = p.add_argument
    cli.add_task_flags(p, "arithmetic", "depth")
    add("--share", type=cli.share, default=0.5,
        help="with --task both: share of arithmetic, the first of the two")
    add("--overlap", type=cli.share, default=0.0, help="share of problems from the edge cells")
    add("--noise", type=cli.share, default=0.3,
        help="probability that a written step is corrupted")
    add("--noise-kind", choices=list(NOISE), default="random",
        help="; ".join(f"{k}: {v}" for k, v in NOISE.items()))
    add("--noise-symbols", type=cli.count, default=1, metavar="K",
        help="neighbouring symbols that a corruption replaces, or all that a state has")
    add("--bias", type=cli.share, default=0.0,
        help="where a prompt has several right answers (route): share of demonstrations that show "
             "the alphabetically first; the others show any")
    add("--exposure", choices=list(EXPOSURES), default="none",
        help="tokens axis: shadow symbols seen "
             + "; ".join(f"{k}: {v}" for k, v in EXPOSURES.items()))
    add("--exposure-share", type=cli.share, default=0.25, help="share of steps given to that")
    add("--refine", type=cli.share, default=0.0,
        help="share of id problems that tell the answer first, half of them after an attempt")
    add("--steps", type=cli.count, default=1000, help="training steps")
    add("--until", type=cli.share, help="stop early once the mean exact mass reaches this")
    add("--until-split", choices=SPLITS, default="id", help="of these cells")
    add("--batch-size", type=cli.size, default=64, help="problems per step")
    add("--optimizer", choices=["muon", "adamw"], default="muon",
        help="muon: Muon on matrices, AdamW on embeddings")
    add("--lr", type=cli.learning_rate,
        help="learning rate (default: 0.01; where there is graph 0.005, which makes its sudden "
             "jump come sooner)")
    add("--weight-decay", type=cli.number(float, 0, 10), default=0.0, help="decoupled weight decay")
    add("--warmup", type=cli.natural, default=20, help="steps of linear warm-up")
    add("--decay", type=cli.share, default=1.0,
        help="share of steps, at the end, of linear decay to zero")
    add("--init", metavar="CKPT",
        help="start from these weights, and with their sizes, instead of from scratch")
    cli.add_size_flags(p)
    add("--context", type=cli.number(int, 1, 4096), default=96,
        help="longest prompt + solution, in tokens")
    add("--position", choices=["rope", "learned", "nope"], default="rope", help="position encoding")
    add("--untied", action="store_true", help="separate unembedding matrix")
    add("--out", default="runs/base.pt", metavar="FILE",
        help="checkpoint to write; its .csv holds every step")
    cli.add_run_flags(p, eval_every=250, log_every=50)
    return p


def check(args):
    """(task names, GPTConfig) of flags that fit together, or CommandError."""
    names = cli.families(args.task, args.axis)
    cli.check_context(f"--context {args.context}", args.context, names, args.axis)
    if args.exposure != "none" and args.axis != "tokens":
        raise cli.CommandError(f"--exposure {args.exposure}: only the tokens axis has shadow "
                               "symbols to expose; add --axis tokens")
    check_noise(args, names)
    check_refine(args, names)
    single = [name for name in names if not TASKS[name].several]
    if args.bias and single:
        raise cli.CommandError(f"--bias {args.bias}: prompts of {single[0]} have one right answer; "
                               "it is for a family with several")
    if args.until is not None and not args.eval_every:
        raise cli.CommandError(f"--until {args.until}: needs the mass measured along the way, so "
                               "--eval-every of at least 1")
    try:
        config = GPTConfig(len(VOCAB), args.context, args.layers, args.heads, args.width,
                           args.position, not args.untied)
    except ValueError as error:
        where = f"--width {args.width} --heads {args.heads}"
        raise cli.CommandError(f"{where}: {error}") from None
    cli.check_memory(config)
    return names, config


def check_noise(args, names):
    """CommandError for a kind of noise that one of these families does not have."""
    where = f"--noise-kind {args.noise_kind}"
    for name in names:
        if args.noise_kind not in TASKS[name].noise_kinds:
            raise cli.CommandError(f"{where}: {name} has only {', '.join(TASKS[name].noise_kinds)}")
    if args.noise_kind == "marked" and args.axis == "tokens":
        raise cli.CommandError(f"{where}: marks are shadow symbols, which the tokens axis has for "
                               "its problems; take another axis")
    most = max(TASKS[name].most_noise_symbols for name in names)
    if args.noise_symbols > most:
        raise cli.CommandError(f"--noise-symbols {args.noise_symbols}: a state of "
                               f"{' and '.join(names)} has at most {most}")


def check_refine(args, names):
    """CommandError if the longest problem that tells an attempt and an answer does not fit."""
    cells = [(TASKS[name], cell) for name in names for cell in AXES[name][args.axis]["id"]]
    for task, cell in cells if args.refine else []:
        prompts, solutions = task.sample(cell, 1, np.random.default_rng(0))
        need = task.told(prompts, solutions, solutions).shape[1] + solutions.shape[1]
        if need > args.context:
            raise cli.CommandError(f"--refine {args.refine}: with an attempt and an answer a "
                                   f"problem of {task.name} has {need} tokens; --context "
                                   f"{args.context} is too short")


def starting_model(args, config, saved):
    """The model to train: of a resumed run, of --init, or a new one."""
    if saved is not None:
        return saved[0]
    if args.init is not None:
        return load_checkpoint(args.init)[0]
    return GPT(config)


@cli.script
def main(argv=None):
    parser = build_parser()
    args, saved = cli.parse(parser, argv)
    names, config = check(args)
    args.lr = args.lr or min(TASKS[name].pretrain_lr for name in names)
    device = cli.set_device(args)
    torch.manual_seed(args.seed)
    model = starting_model(args, config, saved).to(device)
    if args.init is not None:
        cli.check_context(f"--init {args.init}", model.config.context, names, args.axis,
                          model.config.vocab_size)
    model.speed_up(args.compile, args.bf16)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    mixture, scanned = Mixture(args), {"problems": 0, "edge": 0}
    if saved is not None:
        cli.restore(args.resume, saved[1], optimizers, scanned=scanned)
        scanned = saved[1]["scanned"]
    log = cli.Log(parser, args, ["loss", *SPLITS, "lr"], saved)

    def save(step, finished=False):
        cli.save(args.out, model, **log.about(step, finished), scanned=scanned,
                 optimizers=[optimizer.state_dict() for optimizer in optimizers])

    with log.writing() as stopped:
        log.announce(f"{model.n_parameters():,} parameters on {device.type}, "
                     f"{args.batch_size} problems a step; edge steps {mixture.edge.sum()} of "
                     f"{args.steps}", save)
        for step in range(log.first, args.steps):
            # one batch of one cell
            task, kind, problems = mixture.draw(step)
            scanned["problems"] += len(problems.prompts)
            scanned["edge"] += edge_problems(task, args.axis, problems.prompts)
            lr = args.lr * schedule(step, args.steps, args.warmup, args.decay)
            loss, _ = update(model, optimizers, problems, lr)
            cli.check_finite(model.parameters())
            # how far, and how well
            numbers, done = {"loss": loss, "lr": lr}, step + 1
            finished = done == args.steps
            if args.eval_every and done % args.eval_every == 0 or finished:
                numbers.update(mean_masses(model, names, args.axis, args.eval_prompts))
                finished |= args.until is not None and numbers[args.until_split] >= args.until
            log.row(done, sum(x.size for x in problems), numbers)
            if done % args.log_every == 0 or "id" in numbers:
                log.print(done, describe(numbers))
            stop = stopped()  # asked once: a signal between two looks would not be saved
            if finished or stop or done % args.save_every == 0:
                save(done, finished)
            if finished:
                break
            if stop:
                log.interrupted(done)
    log.say(f"scan: {scanned['problems']:,} problems drawn, {scanned['edge']:,} of them from the "
            f"edge cells of the {args.axis} axis")
    if args.axis == "composition":
        log.say(f"of the held-out words of depth 2, {disguised_share(2):.0%} compute what some "
                "seen word of up to depth 3 computes too")
    log.say(f"saved {args.out} after {done} steps, {cli.duration(log.seconds())}")


def describe(numbers):
    """The parts of the log line."""
    parts = [f"loss {numbers['loss']:.3f}"]
    if "id" in numbers:
        parts.append(" ".join(f"{split} {numbers[split]:.3f}" for split in SPLITS))
    return [*parts, f"lr {numbers['lr']:.1e}"]


if __name__ == "__main__":
    main()
