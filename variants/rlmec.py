"""rlmec.py: RLMEC, only the tokens that a least edit would change are blamed (2401.06081).

    wrong completion   A = - blame on tokens that its edit to a right one changes, else 0
    right completion   A = praise on every token
    loss = clipped surrogate, a mean over tokens with A != 0
           - imitate * mean of w log pi(edited completion),  w = 1 where it was edited, else 1/2

An inspired core. In the paper a generative model is trained to repair solutions with few edits, and
its doubt of a token is the blame. Here one string is right: the repair is the gold solution;
what is lost is a repair that keeps another way to the end (on route, where several are right, the
repair is the first of them). After an error every later state counts as wrong, though it may follow
from what stands before it. Edits are replacements, place by place: solutions of a prompt have one
length (the release aligns by Levenshtein's distance).

Gold is shown for every prompt with a wrong completion, and counted. Half of the loss is fine-tuning
on it, so the control is `--method sft --budget-gold` with as many tokens; --imitate 0 is told where
it is wrong, but never what is right, and `--method grpo --reward process` how far it was right.
Checked against: github Timothy023/RLMEC, train/train_rlmec.py (clip 0.3, imitation 1) and
process_data/Gen_Training_Data (blame at most 0.1, praise at most 0.5, w).
Information used: gold solutions.
"""
import torch

from cli import knob
from grpo import GRPO, policy_loss
from model import token_logprobs
from tasks import TASKS


def edit_credit(written, gold):
    """Credit [R, N] of tokens written [R, N]: -1 where gold [R, S] has another or none, else 0.

    >>> edit_credit(torch.tensor([[3, 4, 9, 5]]), torch.tensor([[3, 4, 7]]))
    tensor([[ 0.,  0., -1., -1.]])
    """
    credit = -torch.ones(written.shape, device=written.device)
    credit[:, :gold.shape[1]] += (written[:, :gold.shape[1]] == gold).float()
    return credit


class RLMEC(GRPO):
    """Blames only what a least edit changes, and imitates it."""
    paper = "2401.06081"

    budget_gold = 0
    clip_low = clip_high = 0.3
    scale = aggregate = kl = beta = drop_zero_variance = None
    blame = knob(0.1, "of a token that the edit changes", low=0)
    praise = knob(0.5, "of every token of a right completion", low=0)
    imitate = knob(1.0, "weight of imitating the edited completion", low=0)

    def gold(self, group):
        return torch.from_numpy(TASKS[group.task].solutions(group.prompts)).to(self.device)

    def advantages(self, group):
        """[R, N]; and, for the loss, how much to imitate each token of the solutions [P, S]."""
        gold, wrong = self.gold(group), group.rewards != 1
        credit = edit_credit(group.completions, gold.repeat_interleave(group.size, dim=0))
        edited = credit.unflatten(0, wrong.shape)[..., :gold.shape[1]] * wrong[..., None]
        group.more["weight"] = (0.5 - 0.5 * edited).mean(1)
        shown = int(wrong.any(1).sum())
        self.spend_gold(shown, shown * gold.shape[1])
        return torch.where(wrong.view(-1, 1), self.blame * credit, self.praise) * group.mask

    def loss(self, group, logp):
        surrogate = policy_loss(self.log_ratio(group, logp), 0.0, group.advantages,
                                (group.advantages != 0).float(), self.clip_low, self.clip_high,
                                "token")
        prompts = torch.from_numpy(group.prompts).to(self.device)
        tokens = torch.cat([prompts, self.gold(group)], dim=1)
        repaired = token_logprobs(self.policy, tokens, group.start, self.temperature)
        return surrogate - self.imitate * (group.more["weight"] * repaired).mean()
