import pytest
import torch

torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives
pytest_plugins = ["two_processes"]


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A checkpoint of pretrain.py, barely trained."""
    import pretrain
    path = tmp_path_factory.mktemp("base") / "base.pt"
    pretrain.main(["--steps", "20", "--eval-every", "0", "--eval-prompts", "4", "--layers", "1",
                   "--width", "16", "--out", str(path)])
    return str(path)
