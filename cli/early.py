"""Ctrl-C while a script still imports torch, which takes seconds: one line, no page of traceback.

`cli` imports this file before anything else, and the scripts import `cli` before anything else."""
import os
import signal
import sys

SCRIPTS = ("pretrain.py", "finetune.py", "evaluate.py", "study.py")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def end(number, frame):
    """Nothing is done yet, so nothing can be lost."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def watch(program):
    """Have Ctrl-C end the process in one line, if the program (a path) is one of our scripts: a
    program that only imports them has its own way with Ctrl-C."""
    folder, name = os.path.split(os.path.abspath(program))
    ours = folder == ROOT and name in SCRIPTS
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


def restore_ctrl_c():
    """What is imported is there: Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


watch(getattr(sys.modules["__main__"], "__file__", None) or "")
