"""Checkpoints of a run: which one counts, how one replaces another, and what must match it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from .datafiles import DataError


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint of a run; a kill may have left it under its old name."""
    found = (folder / name for name in ("checkpoint", "checkpoint.old"))
    return next((path for path in found if (path / "model.safetensors").is_file()), None)


def replace_checkpoint(folder: Path) -> None:
    """Make ``checkpoint.new`` the checkpoint; at any moment a complete one has a name that counts.

    The old one goes only when there is one to take its place: after a kill between the two
    renames, ``checkpoint.old`` is the only one.
    """
    new, kept, old = (folder / n for n in ("checkpoint.new", "checkpoint", "checkpoint.old"))
    if kept.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(kept, old)
    os.replace(new, kept)


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is broken ({error}): remove its folder to go on from checkpoint.old, if there "
        "is one, or to begin anew"
    )


def read_state(path: Path) -> dict[str, Any]:
    """Return the counters kept in a checkpoint's header."""
    try:
        with safe_open(path, "pt") as opened:
            return json.loads(opened.metadata()["state"])
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors; raise DataError where the file is cut off or missing."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def load_counters(path: Path) -> Any:
    """Return what a JSON file of a checkpoint holds; raise DataError where it is cut off."""
    try:
        return json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise _broken(path, error) from error


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer in a folder; raise DataError where it is missing or broken."""
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise DataError(
            f"{path} cannot be read ({error}): run python -m recipes.concierge.tokenizer "
            f"--out {folder.parent}"
        ) from error


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return the sha256 of all a tokenizer does."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def check_tokenizer(tokenizer: Tokenizer, state: dict[str, Any], rows: int, path: Path) -> None:
    """Raise DataError unless the checkpoint at ``path``, of ``rows`` tokens, is of this one."""
    mend = "put back the tokenizer/ the run began with, or move the run's folder away to begin anew"
    size = tokenizer.get_vocab_size()
    if size != rows:
        raise DataError(f"{path} has {rows} tokens, the tokenizer {size}: {mend}")
    if state.get("tokenizer", fingerprint(tokenizer)) != fingerprint(tokenizer):
        raise DataError(f"{path} was trained with another tokenizer of the same size: {mend}")


def drop_entries_after(path: Path, steps: int) -> None:
    """Leave in a log only the entries up to ``steps``: those that follow are made again.

    A kill may have cut the last line off.
    """
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["steps"] <= steps:
            kept.append(line + "\n")
    new = path.with_suffix(".new")
    new.write_text("".join(kept))
    new.replace(path)
