"""A whole task family in one class, as docs/write_your_own.md shows it: `<bos> 3141 =` is answered
by `3141 <eos>`. `add_to(folder)` puts it into the tasks.py of a copy of the repository."""
from pathlib import Path

TOY_FAMILY = '''
class Copycat(Task):
    """Write the digits once more."""
    name = "copycat"
    axes = {"length": {"id": cells([1], [2, 3]), "edge": cells([1], [4]), "hard": cells([1], [5])}}

    def check(self, cell):
        if cell not in cells([1], range(2, 6)):
            raise ValueError(f"impossible copycat cell {cell!r}: depth 1, length 2-5")

    def size(self, cell): return 10 ** cell.length
    def prompt_len(self, cell): return cell.length + 2
    def solution_len(self, cell): return cell.length + 1
    def belongs(self, digits, cell): return np.full(len(digits), digits.shape[1] == cell.length)
    def layout(self, prompts): return [prompts.shape[1] - 1], prompts.shape[1], prompts.shape[1] - 2

    def prompts_at(self, cell, index):
        digits = index[:, None] // 10 ** np.arange(cell.length) % 10
        return columns(BOS, digits + DIGIT0, EQUALS)

    def parse(self, prompts):
        digits = prompts[:, 1:-1]
        whole = np.array_equal(prompts, columns(BOS, digits, EQUALS))
        if not whole or (KIND[digits] != DIGIT0).any():
            raise ValueError("copycat expects <bos>, digits, =, such as '3141 ='")
        return digits

    def solutions(self, prompts, noise=0.0, rng=None):
        digits = self.parse(prompts).copy()
        if noise:  # a corrupted demonstration ends in a random digit
            corrupted = rng.random(len(digits)) < noise
            digits[corrupted, -1] = DIGIT0 + rng.integers(10, size=corrupted.sum())
        return columns(digits, EOS)
'''


def add_to(folder):
    """Insert the class into folder/tasks.py, above the line that collects the families."""
    path = Path(folder) / "tasks.py"
    before, collect, after = path.read_text(encoding="utf-8").partition("\nTASKS = ")
    assert collect
    if "class Copycat" in before:
        return   # a reader has done so already
    path.write_text(before + TOY_FAMILY + "\n" + collect + after, encoding="utf-8")
