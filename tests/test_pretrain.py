"""pretrain.py: the optimizer (what it draws and how it resumes: test_scripts.py)."""
import pytest
import torch

from model import GPT, GPTConfig
from pretrain import Muon, make_optimizers, orthogonalize


def test_orthogonalize_keeps_directions_and_levels_their_sizes():
    torch.manual_seed(0)
    x = torch.randn(3, 6, 20)
    x[0, 0] *= 50
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    sizes = torch.diagonal(u.mT @ orthogonalize(x) @ v.mT, dim1=1, dim2=2)
    assert 0.6 < sizes.min() and sizes.max() < 1.25                                  # of the same singular vectors
    assert torch.allclose(orthogonalize(x), u @ torch.diag_embed(sizes) @ v, atol=1e-4)
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))    # an unused matrix stays as it is


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_follows_torchs_own(weight_decay):
    """Wide, tall and square matrices, several of one shape; torch's computes in bfloat16."""
    def train(make):
        torch.manual_seed(0)
        matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in ((8, 32), (32, 8), (8, 8), (24, 8), (8, 32))]
        before = [m.detach().clone() for m in matrices]
        optimizer = make(matrices)
        for _ in range(4):
            for m in matrices:
                m.grad = torch.randn(m.shape)
            optimizer.step()
        return [m.detach() - b for m, b in zip(matrices, before)]
    ours = train(lambda m: Muon(m, 0.1, momentum=0.8, weight_decay=weight_decay))
    theirs = train(lambda m: torch.optim.Muon(m, lr=0.1, momentum=0.8, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    for a, b in zip(ours, theirs):
        assert (a - b).norm() < 0.02 * b.norm()


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = GPT(GPTConfig(position="learned", tied=False))
    muon, adamw = make_optimizers(model, "muon", 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    taken = [sorted(names[id(p)] for p in o.param_groups[0]["params"]) for o in (muon, adamw)]
    assert taken[1] == ["embed.weight", "head.weight", "positions.weight"] and len(taken[0]) == 8
    assert all(name.startswith("blocks") for name in taken[0])
