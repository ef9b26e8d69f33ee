"""lab/bench.py: every figure is there, and what is counted is what is done."""
import contextlib
import io
import json
import os
import time

import numpy as np
import pytest
import torch

from grpo import Group
from lab import bench
from model import GPT, GPTConfig
from tasks import EOS, PAD, Cell

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = ["--small", "--repeats", "1", "--threads", "1"]
FIGURES = ["generate_tokens_per_s", "generate_uncached_tokens_per_s", "grpo_step_s",
           "pretrain_tokens_per_s", "exact_eval_s", "matmul_peak_gflops",
           "generate_fraction_of_peak", "grpo_step_fraction_of_peak", "pretrain_fraction_of_peak",
           "grpo_run_s", "distinct_prefixes", "distinct_completions", "grpo_graph_run_s",
           "peak_rss_mb"]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What bench.py --json prints."""
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
        patch.chdir(tmp_path_factory.mktemp("bench"))
        with contextlib.redirect_stdout(out):
            bench.main(["--json", *SMALL])
        return out.getvalue()


def test_json_is_one_line_with_every_figure(said):
    line, = said.splitlines()
    result = json.loads(line)
    assert all(result[name] > 0 for name in FIGURES)
    assert result["threads"] == 1 and result["torch"] == torch.__version__
    # 50 steps do not get there, and then there is no time to speak of
    assert result["pretrain_seconds_to_099"] is None and result["pretrain_mass"] < 0.99


def test_the_table_fits_the_terminal(said, monkeypatch, capsys):
    """With what has been measured above; the other parts are done once each."""
    def once(function, *args):
        function()
        return 0.5
    figures = {name: json.loads(said)[name] for name in FIGURES if name != "peak_rss_mb"}
    monkeypatch.setattr(bench, "measure", lambda *args: figures)
    monkeypatch.setattr(bench, "whole_runs", lambda *args: {})
    monkeypatch.setattr(bench, "seconds", once)
    bench.main([*SMALL, "--recipes", "--scaling", "--target", "0"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    more = ["pretrain_seconds_to_000", "pretrain_steps_to_000", "nanogpt_recipe_seconds",
            "recipe_ratio", "scaling"]
    assert set(FIGURES) | set(more) <= set(names)
    assert max(map(len, lines)) <= 100
    reached = next(line for line in lines if line.startswith("pretrain_steps_to_000"))
    assert reached.split()[1] == "25"            # mass 0 is reached at the first look


def test_floating_point_operations_are_those_of_the_matrices():
    """Two per weight and token, and attention: counted by hand for one block, one wide."""
    config = GPTConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=8)
    model = GPT(config)
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    assert bench.flops_per_token(config, 0) == 2 * matrices
    # scores and values: one product of length 8 each with every earlier token
    assert bench.flops_per_token(config, 10) - bench.flops_per_token(config, 0) == 2 * 2 * 8 * 10


def test_seconds_is_the_median_after_three_calls_that_do_not_count():
    naps = iter([0.05, 0.05, 0.05, 0.0, 0.0, 0.03])
    took = bench.seconds(lambda: time.sleep(next(naps)), 3, torch.device("cpu"))
    assert took < 0.02


@pytest.mark.parametrize("argv,words", [
    (["--heads", "3"], "--heads 3"),
    (["--repeats", "0"], "--repeats"),
])
def test_bad_input_is_one_clear_line(argv, words, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and words in error and error.count("\n") == 1


def test_what_samples_share_is_counted_by_hand():
    """Two prompts x 2 samples: 5 5 | 6 7, 5 5 | 6 8 and 5 9 | <eos> twice."""
    tokens = torch.tensor([[5, 5, 6, 7], [5, 5, 6, 8], [5, 9, EOS, PAD], [5, 9, EOS, PAD]])
    mask = torch.tensor([[1., 1], [1, 1], [1, 0], [1, 0]])
    group = Group("arithmetic", Cell(1, 2), np.zeros((2, 2), dtype=int), tokens, mask, mask)
    assert bench.distinct(group) == (3, 6, 3, 4)


def test_a_base_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = bench.build_parser().parse_args(["--small"])
    first = bench.trained_base("graph", args)
    monkeypatch.setattr(bench.pretrain, "main", None)
    again = bench.trained_base("graph", args)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
