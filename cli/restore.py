"""What a checkpoint says of the run that wrote it, looked at before anything is built on it: a part
that is missing or wrong is one line. Raises CheckpointError, which names the file."""
import contextlib
import math

import torch

from model import CheckpointError, check_weights


@contextlib.contextmanager
def reading(path):
    """Within it, whatever is missing or wrong in the checkpoint at path is a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"--resume {path}: has no {error}; start a new run") from None
    except (AttributeError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"--resume {path}: cannot be gone on from: {reason}; start a new "
                              "run") from None


def check_run(path, model, extra):
    """Raise CheckpointError unless extra has what every run saves, and tells of its whereabouts."""
    with reading(path):
        like = {"args": {}, "step": 0, "finished": False, "seconds": 0.0}
        check_alike({name: extra[name] for name in like}, like, "its run")
        check_alike(extra.get("run", ""), "", "run")
        ranks, others = extra.get("ranks", 1), extra.get("others", [])
        check_alike(ranks, 1, "ranks")
        check_alike(others, [], "others")
        if "others" in extra and len(others) != ranks - 1:
            raise ValueError(f"{len(others)} others for {ranks} ranks is impossible")
        if extra["step"] < 0 or not 0 <= extra["seconds"] < math.inf:
            raise ValueError(f"step {extra['step']} after {extra['seconds']} seconds is impossible")
        if "method" in extra["args"]:
            check_weights(model, extra["reference"])


def check_alike(found, fresh, name):
    """Raise ValueError or KeyError unless what was found in a checkpoint has the parts, and each
    the type, that a fresh one has. An empty dict or list, or None, stands for any."""
    if fresh is not None and type(found) is not type(fresh):
        raise ValueError(f"{name} is of type {type(found).__name__}, must be "
                         f"{type(fresh).__name__}")
    if isinstance(fresh, dict):
        for key, value in fresh.items():
            check_alike(found[key], value, f"{name} {key}")
    if isinstance(fresh, list) and fresh and len(found) != len(fresh):
        raise ValueError(f"{name} has {len(found)} parts, must have {len(fresh)}")


def restore(path, extra, optimizers, method=None, **fresh):
    """Give the optimizers, and a method, what they had when extra was saved at path; it must also
    have parts like the `fresh` ones."""
    with reading(path):
        for name, value in fresh.items():
            check_alike(extra[name], value, name)
        states = extra["optimizers"] if method is None else [extra["optimizer"]]
        check_alike(states, optimizers, "optimizers")
        for optimizer, state in zip(optimizers, states):
            restore_optimizer(optimizer, state["state"])
        if method is not None:
            check_alike(extra["method"], method.state(), "method")
            method.load_state(extra["method"])


def restore_optimizer(optimizer, state):
    """Its averages. What else it is set to follows from the flags, and stays as it is."""
    expected = kept_by(optimizer)
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    for i, averages in state.items():
        check_alike(averages, expected, f"optimizer {i}")
        for name, x in averages.items():
            if x.shape not in (parameters[i].shape, torch.Size()) or not x.isfinite().all():
                raise ValueError(f"optimizer {i} {name} is not finite, or of a wrong shape")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def kept_by(optimizer):
    """What such an optimizer keeps for each parameter, {name: tensor}, by a step."""
    p = torch.nn.Parameter(torch.zeros(1, 1))
    p.grad = torch.zeros(1, 1)
    twin = type(optimizer)([p], lr=1.0)
    twin.step()
    return dict(twin.state[p])
