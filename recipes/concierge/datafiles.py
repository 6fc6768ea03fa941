"""Where the human dialogues lie, and whether they are whole and the ones this recipe was made with.

The checksums are those of the lines, not of the gzip files: packing them anew changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPLITS = ("train", "dev", "test")
CHECKSUMS = {
    "train": "65b69d45e3ecd26e387a561620199c4a19ebe71b1d4c064838aac8505d0e9315",
    "dev": "0b3a9af3212df20c33553de472fc8e3e8ca01c95bf36acb242df2735ad92e96d",
    "test": "4b2b13e6134ffc8784bb166503819bdef2b92b59af4d694d9eeccc9b9d366fbf",
}
OBTAIN = "copy it again, or make it with python -m recipes.concierge.sources"


class DataError(Exception):
    """Something a run needs is missing, broken or not what it began with; says what to do."""


def sgd_path(folder: Path, split: str) -> Path:
    """Return the path of one split of the Schema-Guided Dialogue data."""
    return folder / "dialogue" / f"sgd-{split}.jsonl.gz"


def data_folder() -> Path:
    """Return the folder named by TENFOLD_DATA, or raise DataError saying what is missing."""
    named = os.environ.get("TENFOLD_DATA")
    if not named:
        raise DataError("TENFOLD_DATA is not set: point it at the folder that holds dialogue/")
    folder = Path(named)
    missing = [s for s in SPLITS if not sgd_path(folder, s).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks "
            + ", ".join(f"dialogue/sgd-{s}.jsonl.gz" for s in missing)
            + ": make them with python -m recipes.concierge.sources"
        )
    return folder


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a gzip file; raise DataError where it is broken."""
    try:
        with gzip.open(path, "rb") as lines:
            yield from lines
    except EOFError as error:
        raise DataError(f"{path} ends in the middle, it was cut off: {OBTAIN}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): {OBTAIN}") from error


def raw_dialogues(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the dialogues of a split as they are written."""
    path = sgd_path(folder, split)
    for number, line in enumerate(_lines(path), 1):
        try:
            raw = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is not JSON ({error}): {OBTAIN}") from error
        if not isinstance(raw, dict) or not {"id", "services", "turns"} <= set(raw):
            raise DataError(
                f"{path}, line {number} is not a dialogue with id, services and turns: {OBTAIN}"
            )
        yield raw


def verify(folder: Path) -> None:
    """Raise DataError unless all splits are whole and those that this recipe was made with."""
    for split in SPLITS:
        path, digest = sgd_path(folder, split), hashlib.sha256()
        for line in _lines(path):
            digest.update(line)
        if digest.hexdigest() != CHECKSUMS[split]:
            raise DataError(
                f"{path} is not the file this recipe was made with: its lines have the sha256 "
                f"{digest.hexdigest()[:12]}..., not {CHECKSUMS[split][:12]}...; {OBTAIN}, or add "
                "--allow-other-data to go on with other dialogues, which give other models"
            )


def write_prepared(written: Any, path: Path) -> None:
    """Write gzipped JSON, the same bytes for the same content, all of it or nothing.

    Raises DataError where the disk does not take it.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(gzip.compress(json.dumps(written).encode(), compresslevel=6, mtime=0))
        new.replace(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}): make room and run it again"
        ) from error


def read_prepared(path: Path) -> Any:
    """Read what ``write_prepared`` wrote; raise DataError where it is missing or broken."""
    again = f"run python -m recipes.concierge.data --out {path.parent}"
    if not path.is_file():
        raise DataError(f"{path} does not exist: {again}")
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is broken ({error}): {again}") from error
