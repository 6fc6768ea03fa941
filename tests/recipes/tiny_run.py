"""Train the tiny model for a few steps in a process of its own, so that it can be killed.

``python -m tests.recipes.tiny_run WORK TOKENS``; every step is reported and saved.
"""

import os
import sys
import time
from pathlib import Path

import recipes.concierge.train as training
from recipes.concierge.data import CORPUS, TEMPLATES, save_corpus
from recipes.concierge.model import SHAPES
from recipes.concierge.templates import save_templates
from recipes.concierge.tokenizer import write_tokenizer

from .made_up import TINY, mined, small_corpus, small_tokenizer


def settings(tokens: int) -> training.Settings:
    return training.Settings(
        "tiny", tokens=tokens, rows=2, length=512, compile=0, save_minutes=-1, report_minutes=-1
    )


def prepare(work: Path) -> None:
    save_corpus(small_corpus(), work / CORPUS)
    save_templates(mined(), work / TEMPLATES)
    write_tokenizer(small_tokenizer(), work / "tokenizer")


def main() -> None:
    SHAPES["tiny"] = TINY
    training.probe_batches = lambda *_: {}  # they cost more than the training
    training.work_in_process(0, settings(int(sys.argv[2])), Path(sys.argv[1]), 1)


def wait_for_ever(rank: int, settings: training.Settings, work: Path, world: int) -> None:
    """Stand in for training: leave a process id behind and wait."""
    (work / f"process-{rank}").write_text(str(os.getpid()))
    time.sleep(600)


if __name__ == "__main__":
    main()
