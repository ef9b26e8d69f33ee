"""bench.py: how fast is it? Tokens a second, seconds to quality, fractions of this machine's peak.

    python -m lab.bench                 the reference work, a table
    python -m lab.bench --json          the same as one line of JSON
    python -m lab.bench --recipes       beside the nanoGPT recipe, at the best of three rates
    python -m lab.bench --scaling       how a step's cost grows with depth, group size and width

Reference work: 2 layers, 64 wide, 4 heads; 32 prompts x 16 samples, 9 prompt tokens, 22 new tokens,
never stopped early; a GRPO step is rollout + verifying + one update of those 512 rows. The
vocabulary is the lab's own.

And a real run: GRPO on the id cells of the depth axis, 60 steps from a base that is trained once,
outside the clock, and kept in runs/bench/. There samples share most of what they write: how much is
counted too (distinct prefixes and completions, as shares of those sampled).

Every other figure is the median of --repeats runs after a warm-up. The peak is that of a large
matrix product measured in the same run with the same threads and dtype. A part's fraction of it
counts only the floating-point operations that the part needs (2 per weight and token, plus
attention; three times that where there is a backward pass). Machines are noisy: compare figures of
one run with each other, not with those of another day.
"""
import contextlib
import copy
import io
import json
import os
import platform
import resource
import statistics
import sys
import textwrap
import time

import numpy as np
import torch

import cli
import pretrain
from grpo import GRPO, Group
from measure import KS, eval_problems, exact_pass_at_k, log_mass, mean_masses
from model import GPT, GPTConfig, generate, load_checkpoint
from tasks import AXES, TASKS, VOCAB, Cell

CELL = Cell(3, 4)   # 9 prompt tokens
NEW = 22


class FixedLength(GRPO):
    """GRPO whose completions are never stopped, so that every step is the same work."""
    new_tokens = NEW

    def rollout(self, problems):
        task, cell, prompts = problems
        tokens = torch.as_tensor(prompts, device=self.device)
        completions, old_logp = generate(self.policy, tokens, self.new_tokens, self.temperature,
                                         self.group_size, self.generator, eos=-1)
        repeated = prompts.repeat(self.group_size, axis=0)
        verdict = TASKS[task].verify(repeated, completions.cpu().numpy())
        tokens = torch.cat([tokens.repeat_interleave(self.group_size, dim=0), completions], dim=1)
        mask = torch.ones_like(old_logp)
        return Group(task, cell, prompts, tokens, old_logp, mask, verdict)


def seconds(function, repeats, device):
    """Median seconds of function(), after three calls to warm up: the first ones still fetch memory
    from the system."""
    times = []
    for _ in range(3 + repeats):
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[3:])


def note(what):
    """Say on stderr what is being timed, for it takes a while."""
    print(f"timing {what}", file=sys.stderr, flush=True)


def flops_per_token(config, context):
    """Floating-point operations of one token's forward pass, with `context` positions attended to
    on average."""
    weights = 12 * config.n_layer * config.n_embd ** 2 + config.vocab_size * config.n_embd
    attention = config.n_layer * config.n_embd * context
    return 2 * weights + 4 * attention


def uncached(model, prompts, new_tokens, group_size):
    """Sampling the nanoGPT way: for each new token a forward pass over everything so far."""
    rows = prompts.repeat_interleave(group_size, dim=0)
    with torch.inference_mode():
        for _ in range(new_tokens):
            probabilities = torch.softmax(model(rows)[:, -1], -1)
            rows = torch.cat([rows, torch.multinomial(probabilities, 1)], dim=1)
    return rows


def time_to_mass(optimizer, lr, target, limit=float("inf"), steps=600, seed=0, weight_decay=0.0,
                 betas=None, cosine=False):
    """(seconds, steps, mass) of training until the mean exact id mass reaches target, or until
    `limit` seconds.

    Arithmetic, depth 1-3, noise 0. The time is that of training alone: measuring the mass, every 25
    steps, is not counted.
    """
    argv = ["--noise", "0", "--steps", str(steps), "--seed", str(seed)]
    args = pretrain.build_parser().parse_args(argv)
    torch.manual_seed(seed)
    model = GPT(GPTConfig(len(VOCAB)))
    optimizers = pretrain.make_optimizers(model, optimizer, lr, weight_decay)
    if betas is not None:
        optimizers[0].param_groups[0]["betas"] = betas
    mixture, spent, mass = pretrain.Mixture(args), 0.0, 0.0
    for step in range(steps):
        began = time.perf_counter()
        if cosine:  # nanoGPT: warm-up, then a cosine down to a tenth
            factor = min((step + 1) / 101, 0.55 + 0.45 * np.cos(np.pi * step / steps))
        else:
            factor = pretrain.schedule(step, steps, args.warmup, args.decay)
        pretrain.update(model, optimizers, mixture.draw(step)[2], lr * factor)
        spent += time.perf_counter() - began
        if (step + 1) % 25 == 0:
            mass = mean_masses(model, ["arithmetic"], "depth", 128, splits=["id"])["id"]
            if mass >= target or spent > limit:
                break
    return spent, step + 1, mass


class Watched(GRPO):
    """GRPO that remembers its rollouts, to be counted when the clock has stopped."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.watched = []

    def experience(self, n):
        groups = super().experience(n)
        self.watched += groups
        return groups


def distinct(group):
    """(distinct prefixes, prefixes, distinct completions, completions) of a Group's rows: a prefix
    is what stands before a sampled token."""
    prefixes, sampled = 0, int(group.mask.sum())
    for t in range(group.mask.shape[1]):
        alive = group.tokens[group.mask[:, t] == 1, :group.start + t]
        prefixes += len(torch.unique(alive, dim=0)) if len(alive) else 0
    return prefixes, sampled, len(torch.unique(group.tokens, dim=0)), len(group.tokens)


def trained_base(task, args):
    """A base of a family on the depth axis, pretrained at the first call and kept."""
    path = os.path.join("runs", "bench", "small" if args.small else "", f"{task}.pt")
    if not os.path.exists(path):
        flags = ["--task", task, "--threads", str(torch.get_num_threads()), "--out", path]
        flags += ["--steps", "20", "--eval-prompts", "4"] if args.small else []
        with contextlib.redirect_stdout(io.StringIO()):
            pretrain.main(flags)
    return load_checkpoint(path)[0]


def whole_run(task, args, device):
    """(seconds of 60 GRPO steps on id, share of distinct prefixes, share of distinct completions:
    means over the run)."""
    base = trained_base(task, args).to(device)
    cells = [(task, cell) for cell in AXES[task]["depth"]["id"]]
    method = Watched(copy.deepcopy(base), base, cells)
    optimizer = torch.optim.AdamW(method.parameters(), lr=method.lr, weight_decay=0.0)
    began = time.perf_counter()
    for _ in range(2 if args.small else 60):
        method.step(optimizer)
    spent = time.perf_counter() - began
    prefixes, tokens, completions, rows = map(sum, zip(*map(distinct, method.watched)))
    return round(spent, 2), round(prefixes / tokens, 3), round(completions / rows, 3)


def whole_runs(args, device):
    """{key: figure} of the real runs."""
    spent, prefixes, completions = whole_run("arithmetic", args, device)
    return {"grpo_run_s": spent, "distinct_prefixes": prefixes, "distinct_completions": completions,
            "grpo_graph_run_s": whole_run("graph", args, device)[0]}


def build_parser():
    p = cli.Parser(__doc__, __file__)
    add = p.add_argument
    add("--json", action="store_true", help="print one line of JSON and nothing else")
    add("--recipes", action="store_true",
        help="also time the nanoGPT recipe (AdamW) to the same mass, at three learning rates")
    add("--scaling", action="store_true",
        help="also time GRPO steps at other depths, group sizes and widths")
    add("--repeats", type=cli.number(int, 1, 1000), default=11,
        help="timed repetitions; the median counts")
    add("--target", type=cli.share, default=0.99,
        help="exact id mass that pretraining is timed to")
    add("--small", action="store_true",
        help="a tenth of the work, to see that everything runs; no figure means anything")
    cli.add_size_flags(p)
    add("--prompts", type=cli.size, default=32, help="prompts per step")
    add("--group-size", type=cli.size, default=16, help="samples per prompt")
    add("--seed", type=cli.seed, default=0, help="seed of the weights")
    cli.add_device_flags(p, threads=0)
    cli.add_speed_flags(p)
    return p


def measure(args, device):
    """{key: figure} of the reference work at the sizes of args."""
    torch.manual_seed(args.seed)
    try:
        config = GPTConfig(len(VOCAB), n_layer=args.layers, n_head=args.heads, n_embd=args.width)
    except ValueError as error:
        raise cli.CommandError(f"--width {args.width} --heads {args.heads}: {error}") from None
    cli.check_memory(config)
    note("the reference work")
    task, new, rows = TASKS["arithmetic"], 4 if args.small else NEW, args.prompts * args.group_size
    peak = matmul_peak(args, device)
    context = task.prompt_len(CELL) + new / 2   # a token's mean number of predecessors
    decode_flops = flops_per_token(config, context) * rows * new
    train_flops = 3 * decode_flops              # a prompt counts once for 16 rows: left out

    model = GPT(config).to(device).speed_up(args.compile, args.bf16)
    prompts = task.sample(CELL, args.prompts, np.random.default_rng(0)).prompts
    prompts = torch.as_tensor(prompts, device=device)
    generator = torch.Generator(device).manual_seed(0)
    method = FixedLength(model, copy.deepcopy(model), [("arithmetic", CELL)], reward="random",
                         prompts_per_step=args.prompts, group_size=args.group_size)
    method.new_tokens = new
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-4)

    def cached():
        generate(model, prompts, new, 1.0, args.group_size, generator, eos=-1)
    t_generate = seconds(cached, args.repeats, device)
    t_uncached = seconds(lambda: uncached(model, prompts, new, args.group_size),
                         min(3, args.repeats), device)
    t_step = seconds(lambda: method.step(optimizer), args.repeats, device)

    problems = task.sample(CELL, 64, np.random.default_rng(0))
    learner = GPT(config).to(device).speed_up(args.compile, args.bf16)
    optimizers = pretrain.make_optimizers(learner, "muon", 1e-4)
    t_pretrain = seconds(lambda: pretrain.update(learner, optimizers, problems, 1e-4),
                         3 * args.repeats, device)
    tokens = sum(x.size for x in problems)
    pretrain_flops = 3 * flops_per_token(config, tokens / 128) * tokens

    reserved = eval_problems("arithmetic", CELL, 100 if args.small else 1000)

    def exact_evaluation():
        masses = log_mass(model, *reserved)
        return [exact_pass_at_k(masses, k).mean() for k in KS]
    t_eval = seconds(exact_evaluation, args.repeats, device)
    return {
        "generate_tokens_per_s": round(rows * new / t_generate),
        "generate_uncached_tokens_per_s": round(rows * new / t_uncached),
        "grpo_step_s": round(t_step, 4),
        "pretrain_tokens_per_s": round(tokens / t_pretrain),
        "exact_eval_s": round(t_eval, 4),
        "matmul_peak_gflops": round(peak / 1e9, 1),
        "generate_fraction_of_peak": round(decode_flops / t_generate / peak, 3),
        "grpo_step_fraction_of_peak": round((decode_flops + train_flops) / t_step / peak, 3),
        "pretrain_fraction_of_peak": round(pretrain_flops / t_pretrain / peak, 3),
    }


def matmul_peak(args, device):
    """Floating-point operations a second of one large matrix product."""
    n = 1024 if device.type == "cpu" else 8192
    if args.small:
        n = 256
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    a = torch.randn(n, n, device=device, dtype=dtype)
    b = torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n ** 3 / seconds(lambda: a @ b, args.repeats, device)


def recipes(args, ours):
    """The nanoGPT recipe (AdamW, betas 0.9/0.95, weight decay 0.1, cosine) on the same model and
    data, at the best of three learning rates; one that has not arrived after 8 times our time
    counts as that."""
    limit = 8 * ours
    steps = 50 if args.small else 9600
    timed = {lr: time_to_mass("adamw", lr, args.target, limit, steps, weight_decay=0.1,
                              betas=(0.9, 0.95), cosine=True)
             for lr in (1e-3, 3e-3, 6e-3)}
    best = min(timed, key=lambda lr: (timed[lr][2] < args.target, timed[lr][0]))
    spent, steps, mass = timed[best]
    return {"nanogpt_recipe_seconds": round(min(spent, limit), 1),
            "nanogpt_recipe_lr": best,
            "nanogpt_recipe_steps": steps,
            "nanogpt_recipe_mass": round(mass, 3),
            "nanogpt_recipe_all": {f"{lr:g}": [round(min(t, limit), 1), n, round(m, 3)]
                                   for lr, (t, n, m) in timed.items()},
            "recipe_ratio": round(min(spent, limit) / ours, 1)}


def scaling(args, device):
    """Seconds of a GRPO step as one size changes: {name: [(value, seconds)]}."""
    def step_seconds(depth=3, group_size=16, width=64):
        note(f"a step at depth {depth}, group size {group_size}, width {width}")
        model = GPT(GPTConfig(len(VOCAB), n_embd=width)).to(device)
        method = GRPO(model, model, [("arithmetic", Cell(depth, 4))], reward="random",
                      group_size=2 if args.small else group_size)
        optimizer = torch.optim.AdamW(method.parameters(), lr=1e-5)
        return round(seconds(lambda: method.step(optimizer), args.repeats, device), 4)
    return {"depth": [(d, step_seconds(depth=d)) for d in (1, 2, 3, 4, 6)],
            "group_size": [(g, step_seconds(group_size=g)) for g in (4, 16, 64)],
            "width": [(w, step_seconds(width=w)) for w in (32, 64, 128, 256)]}


def seconds_to_quality(args):
    """{key: figure} of pretraining the reference model to --target, on a CPU."""
    spent, steps, mass = time_to_mass("muon", 1e-2, args.target, seed=args.seed,
                                      steps=50 if args.small else 600)
    name, reached = f"{round(100 * args.target):03d}", mass >= args.target
    result = {f"pretrain_seconds_to_{name}": round(spent, 1) if reached else None,
              f"pretrain_steps_to_{name}": steps if reached else None,
              "pretrain_mass": round(mass, 3)}
    if args.recipes:
        result.update(recipes(args, spent))
    return result


@cli.script
def main(argv=None):
    args = build_parser().parse_args(argv)
    device = cli.set_device(args)
    name = f"{device.type}, {platform.machine()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
    result = {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__,
              **measure(args, device)}
    if (args.layers, args.width) == (2, 64):
        note("real runs")
        result.update(whole_runs(args, device))
    if device.type == "cpu" and (args.layers, args.width) == (2, 64):
        note("pretraining to quality")
        result.update(seconds_to_quality(args))
    if args.scaling:
        result["scaling"] = scaling(args, device)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss   # bytes on a Mac, else KiB
    result["peak_rss_mb"] = round(rss / (1024 ** 2 if sys.platform == "darwin" else 1024))
    if args.json:
        return print(json.dumps(result))
    for key, value in result.items():
        print(textwrap.fill(f"{key:32s} {value}", 100, subsequent_indent=33 * " "))


if __name__ == "__main__":
    main()
