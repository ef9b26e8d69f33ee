"""ghpo.py: GHPO, hints as long as they must be (2507.10628).

A prompt that none of its G completions solves is sampled again, all G times, with the first 25 %
of the gold solution in the prompt; if that is not enough with 50 %, then with 75 %. The last such
group takes the place of the first, right or not. The hint counts as part of the prompt:

    log pi(rest | prompt, hint)        is trained, on-policy as in GRPO

One right completion without a hint, and there is none: the hints end by themselves.

Departures: the hint is the beginning of the completion here, no text in the prompt; the paper's
reward of 0.5 for a format is left out, its token mean is kept. Control: `sft` at equal gold.
Information used: the outcome, and the beginning of gold solutions where nothing is right.
Checked against: notes on the released code (stages of 25, 50 and 75 %, only if all are wrong,
no KL, token mean); the code itself was not to be had.

>>> [hint_length(8, stage / 4) for stage in (1, 2, 3)]    # of a trace of 8 tokens
[2, 4, 6]
"""
from cli import knob
from variants._hints import Hinted, hint_length, put, rows_of, unsolved, untaught, with_hint


class GHPO(Hinted):
    """All wrong? A quarter of gold, then two, then three."""
    paper = "2507.10628"

    aggregate = "token"
    stages = knob(3, "stages of hints, each a quarter of the solution longer", low=1, high=3)

    def retry(self, group, stuck):
        shown = 0
        for stage in range(1, self.stages + 1):
            k = hint_length(group.mask.shape[1], stage / 4)
            hinted = untaught(with_hint(self, group, stuck, k, group.size, before=shown))
            put(group, rows_of(stuck, group.size), hinted)
            stuck, shown = stuck[unsolved(hinted.rewards)], k
            if len(stuck) == 0:
                break
