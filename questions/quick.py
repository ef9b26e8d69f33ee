"""What did GRPO add to what pretraining had already put there?

The quick answer, in a minute. Two bases, alike but for one thing: the first never saw an edge
problem (overlap 0), for the second a tenth of pretraining were such problems (overlap 0.1). From
each, GRPO on the pretrained cells ("id") and on the edge cells themselves ("edge"). Then the exact
pass@k of everything, on problems that no run has drawn.
"""
from lab.jobs import chain, on, pretraining, seeds


def jobs(args):
    found = []
    for seed in seeds(args):
        for overlap in dict.fromkeys(args.overlaps or (0.0, 0.1)):
            base = pretraining(args, seed, args.task, args.axis, overlap)
            found += chain(args, base, on(args, base, "id", "edge"))
    return found
