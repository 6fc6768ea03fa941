"""Data that is missing, broken or altered is refused, with the file, the fault and the remedy."""

import gzip
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from recipes.concierge import data, datafiles
from recipes.concierge.datafiles import (
    SPLITS,
    DataError,
    data_folder,
    raw_dialogues,
    read_prepared,
    sgd_path,
    verify,
    write_prepared,
)

from .made_up import RAW


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return a data folder with the made-up dialogue in every split, which the checksums fit."""
    (tmp_path / "dialogue").mkdir()
    line = json.dumps(RAW) + "\n"
    for split in SPLITS:
        sgd_path(tmp_path, split).write_bytes(gzip.compress(line.encode() * 50))
    digest = hashlib.sha256(line.encode() * 50).hexdigest()
    monkeypatch.setattr(datafiles, "CHECKSUMS", dict.fromkeys(SPLITS, digest))
    monkeypatch.setenv("TENFOLD_DATA", str(tmp_path))
    return tmp_path


def test_missing_data_is_said_clearly(monkeypatch, tmp_path):
    monkeypatch.delenv("TENFOLD_DATA", raising=False)
    with pytest.raises(DataError, match="TENFOLD_DATA is not set"):
        data_folder()
    (tmp_path / "dialogue").mkdir()
    sgd_path(tmp_path, "train").write_bytes(gzip.compress(b""))
    monkeypatch.setenv("TENFOLD_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"lacks dialogue/sgd-dev\.jsonl\.gz, dialogue/sgd-test"):
        data_folder()


def test_whole_data_passes_however_it_is_packed(folder):
    verify(folder)
    path = sgd_path(folder, "dev")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    verify(folder)


@pytest.mark.parametrize("left", [0.5, 0.98])
def test_a_file_that_was_cut_off_is_named(folder, left):
    path = sgd_path(folder, "dev")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * left)])
    for read in (verify, lambda f: list(raw_dialogues(f, "dev"))):
        with pytest.raises(DataError, match=r"sgd-dev.*(cut off|not a whole).*copy it again"):
            read(folder)


def test_a_file_that_is_no_gzip_file_is_named(folder):
    sgd_path(folder, "test").write_bytes(b"{}\n")
    with pytest.raises(DataError, match=r"sgd-test.*not a whole gzip file"):
        verify(folder)


def test_a_flipped_bit_is_noticed(folder):
    path = sgd_path(folder, "train")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="sgd-train"):
        verify(folder)


def test_altered_data_is_refused_unless_it_is_meant(folder, monkeypatch, tmp_path, caplog):
    path = sgd_path(folder, "train")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"Porto", b"Lagos")))
    with pytest.raises(DataError, match=r"sgd-train.*not the file this.*--allow-other-data"):
        verify(folder)
    out = tmp_path / "work"
    monkeypatch.setattr(sys, "argv", ["data", "--out", str(out)])
    assert data.main() == 2
    assert "--allow-other-data" in caplog.text
    assert not out.exists()
    monkeypatch.setattr(sys, "argv", ["data", "--out", str(out), "--allow-other-data"])
    assert data.main() == 0
    assert len(data.load_corpus(out).train) == 50


@pytest.mark.parametrize("line", [b"{not json\n", b"[1]\n", b'{"id": "1"}\n', b"\xff\n"])
def test_lines_that_are_no_dialogues_are_named(folder, line):
    path = sgd_path(folder, "dev")
    path.write_bytes(gzip.compress(json.dumps(RAW).encode() + b"\n" + line))
    with pytest.raises(DataError, match=r"sgd-dev\.jsonl\.gz, line 2"):
        list(raw_dialogues(folder, "dev"))


def test_prepared_files_are_whole_or_refused(tmp_path):
    path = tmp_path / "work" / "corpus.json.gz"
    with pytest.raises(DataError, match=r"does not exist: run python -m recipes\.concierge\.data"):
        read_prepared(path)
    write_prepared({"a": [1] * 1000}, path)
    assert read_prepared(path) == {"a": [1] * 1000}
    assert [p.name for p in path.parent.iterdir()] == ["corpus.json.gz"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"is broken .*run python -m recipes\.concierge\.data"):
        read_prepared(path)


def test_the_checksums_are_those_of_the_data(tmp_path):
    if not os.environ.get("TENFOLD_DATA"):
        pytest.skip("TENFOLD_DATA is not set: the human dialogues are not part of the repository")
    verify(data_folder())
    shutil.copytree(data_folder() / "dialogue", tmp_path / "dialogue")
    path = sgd_path(tmp_path, "dev")
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.chmod(0o644)
    path.write_bytes(gzip.compress(b"".join(lines[:-1]), compresslevel=1))
    with pytest.raises(DataError, match="sgd-dev"):
        verify(tmp_path)
