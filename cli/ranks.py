"""One run on many processes: `torchrun --nproc-per-node 2 pretrain.py ...`, or finetune.py.

Every process (a rank) holds the whole model and does its share of each step: pretrain.py its rows
of the one batch, finetune.py its prompts, drawn and sampled from random numbers of its own. What
was sampled is then shown to all, so that means, baselines and logged numbers are those of the whole
step; gradients are added up, and all make the same update. Rank 0 alone prints, measures, writes.

With `--cells one` each rank takes a cell of its own, and a budget's refills (dapo) are each rank's.
The weights are compared after every step. What ends one process ends all, in one line; a signal to
one stops all after the same step. Without torchrun nothing in here does anything.
"""
import contextlib
import io
import os
import sys
from datetime import timedelta

import numpy as np
import torch
from torch import distributed
from torch.nn.utils import parameters_to_vector, vector_to_parameters

SHARED = ("pretrain.py", "finetune.py")
PATIENCE = timedelta(minutes=10)  # with a process that does not answer
met = {}                          # "store": what the processes of this run have in common


class RankError(RuntimeError):
    """What is wrong between the processes of a run, in a line."""


def size():
    """How many processes share this run, as torchrun says: 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def rank():
    """Which of them this is: 0 .. size() - 1."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def launcher():
    """The words before the script's name that start as many processes again."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size()))
    nodes = [f"--nnodes={size() // here}"] if here < size() else []
    return ["torchrun", *nodes, f"--nproc-per-node={here}"] if size() > 1 else ["python"]


def together(function, *args, **options):
    """function(*args, **options), which waits for the others; RankError if one does not come."""
    try:
        return function(*args, **options)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).split("] ", 1)[-1][:60]  # after gloo's [file:line]
        raise RankError(f"torchrun: another process of this run has ended, or cannot be reached "
                        f"({reason}); go on with --resume") from None


@contextlib.contextmanager
def joined(script):
    """Meet the other processes, if there are any, for as long as the run takes."""
    if size() == 1:
        yield
        return
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")
    met["store"], *_ = together(lambda: next(distributed.rendezvous("env://", timeout=PATIENCE)))
    gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    together(distributed.init_process_group, "cpu:gloo,cuda:nccl" if gpus else "gloo",
             store=met["store"], rank=rank(), world_size=size(), timeout=PATIENCE)
    if script not in SHARED:
        raise RankError(f"torchrun: {script} is one process; start it with python")
    yield
    together(distributed.barrier)  # who leaves first would take the others' connections along
    distributed.destroy_process_group()


def says_why():
    """Whether this is the first process to fail: its line is enough, the others' stay unsaid."""
    if "store" not in met:
        return True
    try:
        return met["store"].add("failed", 1) == 1
    except RuntimeError:  # the process that kept the store is gone
        return True


# ------------------------------------------------------------------------------ shares of the work

def share(n):
    """slice of n rows, or prompts, that are this rank's: nearly as many as any other's. RankError
    if that leaves a rank without any."""
    if n < size():
        raise RankError(f"torchrun: a step of {n} is too small for {size()} processes; it needs "
                        "one row of the --batch-size, or of --prompts-per-step, for each")
    return slice(n * rank() // size(), n * (rank() + 1) // size())


def take_gpu():
    """Compute on a GPU of this rank's own, of those on its machine."""
    if size() > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank())) % torch.cuda.device_count())


def own_seed(seed):
    """The seed of this rank's own random numbers; rank 0's is that of a single process."""
    return int(np.random.SeedSequence([seed, rank()]).generate_state(1)[0]) if rank() else seed


# ---------------------------------------------------------------------------- what they tell others

def gather(thing):
    """[thing of rank 0, of rank 1, ...] on every rank, tensors of a GPU on this rank's own."""
    if size() == 1:
        return [thing]
    buffer, found = io.BytesIO(), [None] * size()
    torch.save(thing, buffer)
    together(distributed.all_gather_object, found, buffer.getvalue())
    parts = [torch.load(io.BytesIO(data), here, weights_only=False) for data in found]
    parts[rank()] = thing
    return parts


def here(storage, device):
    """For torch.load: CPU tensors stay, those of any GPU come to this rank's."""
    return storage if device == "cpu" else storage.cuda()


def add_gradients(parameters, *numbers):
    """Add up the gradients of all ranks, in place, and their numbers: [sum of each]."""
    if size() == 1:
        return numbers
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    sums = parameters[0].grad.new_tensor(numbers)
    parts = [sums, *(p.grad for p in parameters)]
    flat = parameters_to_vector(parts)
    together(distributed.all_reduce, flat)
    vector_to_parameters(flat, parts)
    return sums.tolist()


def check_same(parameters):
    """Raise RankError if the ranks no longer have the same weights."""
    if size() > 1:
        found = gather(sum(p.detach().double().sum() for p in parameters).item())
        if len(set(found)) > 1:
            raise RankError("torchrun: the processes' weights differ: a --method with a `step` of "
                            "its own must call gather, own and clip_gradients as grpo.py does; "
                            "if it does, their hardware is not alike")


def own_part(where, extra):
    """What a checkpoint keeps for this rank. RankError if its run has another number of ranks."""
    if extra.get("ranks", 1) != size():
        raise RankError(f"{where} that run is shared by {extra.get('ranks', 1)} processes, not by "
                        f"{size()}; a resumed run keeps their number (torchrun --nproc-per-node)")
    if rank() == 0 or "others" not in extra:
        return extra
    return {**extra, "method": extra["others"][rank() - 1]}
