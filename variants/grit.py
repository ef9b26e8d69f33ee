"""grit.py: GRPO-GR, the grounded reasoning of GRIT (2505.15879). Inspired core.

    r = accuracy + (ended + well formed) / 2 + grounding

    grounding = 1/2 if a region is cited, and 1 more if as many are cited as were asked for

No label says which regions are the right ones: to cite any is what pays. There a region is four
numbers, a box in an image; here it is an edge that a solution quotes, `; c f`, and it counts if the
prompt lists it (the release does not look whether a box is in the picture). Asked for are as many
as the prompt has hops. The states of arithmetic cite nothing: there the other terms are left.
A wrong walk along listed edges has all of the grounding: it is form, not truth.

Lost: images, the model that grades answers, and that the right number of boxes was the answer to
counting questions. The term against runs of 8 words that stand twice in a row is the same for all
completions of fewer than 16, which these are, so it is left out.
Control: --grounding 0, GRPO with the same other terms; `--method grpo --reward answer`, accuracy.
Checked against: github eric-ai-lab/GRIT, grpo-gr/rewards.py (0.5 for each form, 0.5 and 1 for
regions). Information used: the outcome, and the shape of the trace beside the prompt.
"""
import torch

from cli import knob
from grpo import GRPO
from tasks import EOS, HOP, SEP
from variants._steps import well_formed


def cited(prompts, completions):
    """[R] how many of the pairs that completions [R, N] quote are listed in prompts [R, T]. A pair
    is quoted by `; u v` and what ends it, `;` or <eos>.

    >>> from tasks import encode
    >>> prompt = torch.tensor([encode("<bos> ; a b ; b c = >> a =")])
    >>> answers = ["; a b ; b c <eos>", "; a b ; c a <eos>", "; b a ; c b <eos>"]
    >>> cited(prompt.expand(3, -1), torch.tensor([encode(answer) for answer in answers]))
    tensor([2, 1, 0])
    """
    quotes = torch.nn.functional.pad(completions, (0, 3)).unfold(1, 4, 1)    # [R, N, 4]
    listed = prompts.unfold(1, 3, 1)                                         # [R, T - 2, 3]
    known = (quotes[:, :, None, :3] == listed[:, None]).all(-1).any(-1)
    closed = (quotes[..., 3] == SEP) | (quotes[..., 3] == EOS)
    return (known & closed & (quotes[..., 0] == SEP)).sum(1)


def grounding_reward(found, asked):
    """Rewards [...] of citing so many regions where so many are asked for.

    >>> grounding_reward(torch.tensor([2, 1, 0]), asked=2)
    tensor([1.5000, 0.5000, 0.0000])
    """
    return 0.5 * (found > 0) + 1.0 * ((found > 0) & (found == asked))


class GRIT(GRPO):
    """Pays for citing the prompt, whatever is cited."""
    paper = "2505.15879"
    columns = ("cited",)

    reward = "answer"
    grounding = knob(1.0, "weight of the term for citing", low=0)

    def rewards(self, group):
        prompts = group.tokens[:, :group.start]
        asked = (prompts == HOP).sum(1)
        grounded = grounding_reward(cited(prompts, group.completions), asked)
        ended = (group.completions == EOS).any(1) / 2
        terms = self.grounding * grounded + ended
        return super().rewards(group) + well_formed(group) / 2 + terms.view(len(group.prompts), -1)

    def numbers(self, groups):
        found = [cited(group.tokens[:, :group.start], group.completions) for group in groups]
        return {**super().numbers(groups), "cited": torch.cat(found).float().mean().item()}
