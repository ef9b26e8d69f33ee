"""acereason.py: AceReason, one domain after the other (2505.16400). Inspired core.

The paper trains on mathematics alone, then on code alone, and finds that the first helps the
second and is hardly forgotten. Here the domains are task families (`--task both`: arithmetic, then
graph) or, within one family, depths, from shallow to deep:

    stage = steps done // --stage-steps, and the last one stays;  a step draws from its stage alone

Lost: the stages of growing length within mathematics, and the filtering of prompts by difficulty.
With --train-on edge of a single depth there is one stage, and this is GRPO.
Information used: the outcome, and which cells are deeper.
Checked against: from notes only.
"""
from cli import knob
from grpo import GRPO


def stages(tasks):
    """[[(family, cell)]] of a list of (family, cell): one stage for each family in the order they
    come or, if there is one family, for each depth.

    >>> from tasks import Cell
    >>> a, b, c = ("arithmetic", Cell(2, 4)), ("arithmetic", Cell(1, 4)), ("graph", Cell(1, 8))
    >>> stages([a, b]) == [[b], [a]], stages([a, b, c]) == [[a, b], [c]]
    (True, True)
    """
    families = list(dict.fromkeys(family for family, _ in tasks))
    if len(families) > 1:
        return [[pair for pair in tasks if pair[0] == family] for family in families]
    depths = sorted({cell.depth for _, cell in tasks})
    return [[pair for pair in tasks if pair[1].depth == depth] for depth in depths]


class AceReason(GRPO):
    """A curriculum: one task family or depth after another."""
    paper = "2505.16400"

    stage_steps = knob(20, "steps of each stage; the last goes on", low=1)

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.stages, self.steps_done = stages(self.tasks), 0

    def step(self, optimizer):
        stage = min(self.steps_done // self.stage_steps, len(self.stages) - 1)
        self.tasks = self.stages[stage]
        self.steps_done += 1
        return super().step(optimizer)

    def state(self):
        return {**super().state(), "steps_done": self.steps_done}

    def load_state(self, state):
        super().load_state(state)
        self.steps_done = state["steps_done"]
