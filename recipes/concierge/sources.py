"""Get the Schema-Guided Dialogue dataset and write it as the recipe reads it.

``python -m recipes.concierge.sources --out DATA`` fetches google-research-datasets/
dstc8-schema-guided-dialogue from GitHub; ``--from FOLDER`` takes a clone, or the zip file, that is
already here. The result, ``DATA/dialogue/sgd-{train,dev,test}.jsonl.gz``, has the files of the
dataset that this recipe was made with, so that its checksums hold; ``--everything`` takes them all.
The data are licensed CC BY-SA 4.0, and so are weights trained on them. The conversion is tested on
dialogues made up in the published form; the download has only been tried against a local server.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import logging
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .datafiles import SPLITS, DataError, sgd_path, verify

log = logging.getLogger(__name__)
NAME = "google-research-datasets/dstc8-schema-guided-dialogue"
ARCHIVE = f"https://github.com/{NAME}/archive/refs/heads/master.zip"
# The numbers of the dataset's files that the checksums of datafiles.py are of.
MADE_WITH = {
    "train": "1-36 38-51 57 59 61-65 67 69 86-92 95-103 105-116 119-127",
    "dev": "1-14 16 19-20",
    "test": "1-11 13-15 17",
}
RESULTS = 3  # as many results of a search are kept
Folder = Path | zipfile.Path


def numbers(ranges: str) -> list[int]:
    """Return the numbers of ``1-3 5``: 1, 2, 3, 5."""
    out: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def convert_turn(raw: dict[str, Any]) -> dict[str, Any]:
    """Return one turn as the recipe reads it: canonical values, the frames of services joined."""
    frames = raw["frames"]
    turn: dict[str, Any] = {
        "speaker": {"USER": "user", "SYSTEM": "system"}[raw["speaker"]],
        "text": raw["utterance"],
        "acts": [
            [action["act"], action["slot"], action["canonical_values"]]
            for frame in frames
            for action in frame["actions"]
        ],
    }
    if turn["speaker"] == "user":
        turn["intents"] = sorted({frame["state"]["active_intent"] for frame in frames})
    for frame in frames:
        if "service_call" in frame:
            call = frame["service_call"]
            turn["call"] = {"method": call["method"], "parameters": call["parameters"]}
        if frame.get("service_results"):
            turn["results"] = frame["service_results"][:RESULTS]
    return turn


def convert(raw: dict[str, Any]) -> dict[str, Any]:
    """Return one dialogue of the dataset as the recipe reads it."""
    turns = [convert_turn(turn) for turn in raw["turns"]]
    return {"id": raw["dialogue_id"], "services": raw["services"], "turns": turns}


def read_file(path: Folder) -> Iterator[str]:
    """Yield the dialogues of one file of the dataset as lines."""
    try:
        dialogues = json.loads(path.read_bytes())
        if not isinstance(dialogues, list):
            raise TypeError("not a list")
        for raw in dialogues:
            yield json.dumps(convert(raw), separators=(",", ":"), ensure_ascii=False) + "\n"
    except KeyError as error:
        raise DataError(
            f"{path} lacks {error}: this is not the Schema-Guided Dialogue dataset, or a version "
            f"before the one with canonical values; get the newest from {NAME}"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} does not hold dialogues ({error}): get the dataset again from {NAME}"
        ) from error


def chosen_files(original: Folder, split: str, everything: bool) -> list[Folder]:
    """Return the files of a split in their order; raise DataError where some are missing."""
    folder = original / split
    found = {p.name: p for p in folder.iterdir()} if folder.is_dir() else {}
    found = {name: p for name, p in found.items() if name.startswith("dialogues_")}
    if not found:
        raise DataError(
            f"{original} has no {split}/dialogues_*.json: it is not {NAME}; name the folder that "
            "holds train/, dev/ and test/"
        )
    if everything:
        return [found[name] for name in sorted(found)]
    wanted = [f"dialogues_{number:03d}.json" for number in numbers(MADE_WITH[split])]
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing[:5])} ({len(missing)} of {len(wanted)} files): "
            "get the dataset again, or add --everything to take what there is"
        )
    return [found[name] for name in wanted]


def write_lines(lines: Iterable[str], path: Path) -> int:
    """Write the lines gzipped, all of them or nothing; return how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new, count = path.with_name(path.name + ".new"), 0
    try:
        with new.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as out:
            for line in lines:
                out.write(line.encode())
                count += 1
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return count


def convert_all(original: Folder, out: Path, everything: bool = False) -> None:
    """Convert all splits of the dataset into ``out``; nothing is written if a file is missing."""
    files = {split: chosen_files(original, split, everything) for split in SPLITS}
    for split, paths in files.items():
        lines = (line for path in paths for line in read_file(path))
        count = write_lines(lines, sgd_path(out, split))
        log.info("%s: %d dialogues", sgd_path(out, split), count)


def opened(path: Path) -> Folder:
    """Return the folder of the dataset in a clone or a zip file of it."""
    if path.is_dir():
        return path
    try:
        archive = zipfile.Path(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is neither a folder nor a whole zip file: {error}") from error
    inside = list(archive.iterdir())  # GitHub puts all into one folder
    return inside[0] if len(inside) == 1 else archive


def fetch(address: str, path: Path) -> None:
    """Download to ``path``, all of it or nothing, and show progress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, last = path.with_name(path.name + ".part"), time.monotonic()
    try:
        with urllib.request.urlopen(address, timeout=60) as source, part.open("wb") as out:
            total = int(source.headers.get("Content-Length") or 0)
            while chunk := source.read(1 << 18):
                out.write(chunk)
                if time.monotonic() - last > 2:
                    of = f" of {total / 1e6:.0f}" if total else ""
                    log.info("%.0f%s MB", out.tell() / 1e6, of)
                    last = time.monotonic()
            if total and out.tell() != total:
                raise DataError(f"{address} ended after {out.tell()} of {total} bytes: try again")
        if not zipfile.is_zipfile(part):
            raise DataError(
                f"{address} gave no zip file: try again, or clone {NAME} and use --from"
            )
        part.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise DataError(
            f"{address} could not be fetched ({error}): try again, or clone {NAME} elsewhere and "
            "use --from FOLDER"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def obtain(out: Path, original: Path | None, everything: bool) -> None:
    """Fetch the dataset unless ``original`` names it, convert it and check the result."""
    archive = out / "sgd.zip"
    if original is None:
        log.info("fetching %s", ARCHIVE)
        fetch(ARCHIVE, archive)
    folder = opened(original or archive)
    convert_all(folder, out, everything)
    if original is None:
        archive.unlink()
    try:
        verify(out)
    except DataError as error:
        log.warning("%s", error)
    log.info(
        "Schema-Guided Dialogue, CC BY-SA 4.0, Google Research. Now: export TENFOLD_DATA=%s", out
    )


def main() -> int:
    """Get and convert the dataset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="receives dialogue/")
    parser.add_argument("--from", dest="original", type=Path, help="a clone or zip of the dataset")
    parser.add_argument("--everything", action="store_true", help="all files of the dataset")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        obtain(options.out, options.original, options.everything)
    except DataError as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
