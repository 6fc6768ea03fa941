"""The dataset as it is published becomes the lines the recipe reads."""

import gzip
import hashlib
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from recipes.concierge import datafiles, sources
from recipes.concierge.datafiles import SPLITS, DataError, raw_dialogues, sgd_path, verify
from recipes.concierge.sources import MADE_WITH, convert_all, fetch, numbers, obtain, opened


def action(act: str, slot: str = "", said: str = "", canonical: str = "") -> dict:
    values, meant = ([said], [canonical or said]) if said else ([], [])
    return {"act": act, "slot": slot, "values": values, "canonical_values": meant}


def state(intent: str) -> dict:
    return {"active_intent": intent, "requested_slots": [], "slot_values": {}}


def dialogue(number: int = 1) -> dict:
    """Return a dialogue as published: two services in the third turn, more results than kept."""
    found = [{"city": "Porto", "restaurant_name": f"Café {i}"} for i in range(5)]
    call = {"method": "FindRestaurants", "parameters": {"city": "Porto"}}
    wish = [
        action("INFORM", "time", "half past 7", "19:30"),
        action("INFORM_INTENT", "intent", "F"),
    ]
    eat, hear = "Restaurants_1", "Music_1"
    heard = {"service": hear, "actions": [action("SELECT")], "state": state("PlaySong")}
    turns = [
        (
            "USER",
            "Dinner at half past 7.",
            [{"service": eat, "actions": wish, "state": state("F")}],
        ),
        (
            "SYSTEM",
            "How about Café 0?",
            [
                {
                    "service": eat,
                    "actions": [action("OFFER", "restaurant_name", "Café 0")],
                    "service_call": call,
                    "service_results": found,
                }
            ],
        ),
        (
            "USER",
            "Good. ",
            [
                heard,
                {"service": eat, "actions": [action("THANK_YOU")], "state": state("Book")},
            ],
        ),
        (
            "SYSTEM",
            "That failed.",
            [
                {
                    "service": eat,
                    "actions": [action("NOTIFY_FAILURE")],
                    "service_call": {"parameters": {}, "method": "Book"},
                    "service_results": [],
                }
            ],
        ),
    ]
    written = [{"frames": f, "speaker": s, "utterance": u} for s, u, f in turns]
    return {"dialogue_id": f"{number}_00000", "services": [eat, hear], "turns": written}


# The order of keys, the absence of spaces and the letters beyond ASCII are those of the data.
EXPECTED = (
    '{"id":"1_00000","services":["Restaurants_1","Music_1"],"turns":['
    '{"speaker":"user","text":"Dinner at half past 7.","acts":[["INFORM","time",["19:30"]],'
    '["INFORM_INTENT","intent",["F"]]],"intents":["F"]},'
    '{"speaker":"system","text":"How about Café 0?","acts":'
    '[["OFFER","restaurant_name",["Café 0"]]],"call":'
    '{"method":"FindRestaurants","parameters":{"city":"Porto"}},"results":['
    '{"city":"Porto","restaurant_name":"Café 0"},{"city":"Porto","restaurant_name":"Café 1"},'
    '{"city":"Porto","restaurant_name":"Café 2"}]},'
    '{"speaker":"user","text":"Good. ","acts":[["SELECT","",[]],["THANK_YOU","",[]]],'
    '"intents":["Book","PlaySong"]},'
    '{"speaker":"system","text":"That failed.","acts":[["NOTIFY_FAILURE","",[]]],'
    '"call":{"method":"Book","parameters":{}}}]}\n'
)


@pytest.fixture
def original(tmp_path) -> Path:
    """Return a made-up original: in every split the files that are wanted and one more."""
    root = tmp_path / "original"
    for split in SPLITS:
        (root / split).mkdir(parents=True)
        (root / split / "schema.json").write_text("[]")
        for number in [*numbers(MADE_WITH[split]), 200]:
            path = root / split / f"dialogues_{number:03d}.json"
            path.write_text(json.dumps([dialogue(number)], indent=1))
    return root


def ids(out: Path, split: str) -> list[int]:
    return [int(raw["id"].split("_")[0]) for raw in raw_dialogues(out, split)]


def test_dialogues_are_converted_to_the_very_lines(original, tmp_path):
    convert_all(original, tmp_path / "out")
    with gzip.open(sgd_path(tmp_path / "out", "train"), "rt", encoding="utf-8") as lines:
        assert next(lines) == EXPECTED


def test_the_files_of_the_recipe_are_taken_in_order_or_all(original, tmp_path):
    convert_all(original, tmp_path / "out")
    assert ids(tmp_path / "out", "dev") == [*range(1, 15), 16, 19, 20]
    assert len(ids(tmp_path / "out", "train")) == 96
    convert_all(original, tmp_path / "out", everything=True)
    assert ids(tmp_path / "out", "dev")[-1] == 200


def test_converted_data_has_the_same_bytes_every_time(original, tmp_path):
    for name in ("one", "two"):
        convert_all(original, tmp_path / name)
    one, two = (sgd_path(tmp_path / name, "dev").read_bytes() for name in ("one", "two"))
    assert one == two


def zipped(original: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in original.rglob("*.json"):
            archive.write(file, "dstc8-master/" + file.relative_to(original).as_posix())
    return path


def test_a_zip_file_of_the_dataset_will_do(original, tmp_path):
    path = zipped(original, tmp_path / "sgd.zip")
    convert_all(opened(path), tmp_path / "out")
    assert ids(tmp_path / "out", "test") == numbers(MADE_WITH["test"])


def test_what_is_not_the_dataset_is_refused(original, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"has no train/dialogues_\*\.json"):
        convert_all(tmp_path, out)
    with pytest.raises(DataError, match="neither a folder nor a whole zip"):
        opened(original / "train" / "schema.json")
    (original / "dev" / "dialogues_002.json").unlink()
    with pytest.raises(DataError, match=r"lacks dialogues_002\.json \(1 of 17 files\)"):
        convert_all(original, out)
    assert not out.exists()


@pytest.mark.parametrize("content", ["{", "{}", '["x"]', "[1]", '[{"dialogue_id": "1_0"}]'])
def test_files_that_hold_something_else_are_named(original, tmp_path, content):
    (original / "train" / "dialogues_003.json").write_text(content)
    with pytest.raises(DataError, match=r"dialogues_003\.json"):
        convert_all(original, tmp_path / "out")
    assert list((tmp_path / "out" / "dialogue").iterdir()) == []  # no half of a file


def test_the_first_release_without_canonical_values_is_refused(original, tmp_path):
    path = original / "train" / "dialogues_001.json"
    path.write_text(path.read_text().replace('"canonical_values"', '"other"'))
    with pytest.raises(DataError, match=r"dialogues_001\.json lacks 'canonical_values'.*newest"):
        convert_all(original, tmp_path / "out")


class Server(BaseHTTPRequestHandler):
    """Serve ``content``, at times less of it than was announced."""

    content, missing = b"", 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) - self.missing])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(monkeypatch, original, tmp_path):
    Server.content, Server.missing = zipped(original, tmp_path / "served.zip").read_bytes(), 0
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/sgd.zip"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_dataset_is_fetched_converted_and_checked(address, monkeypatch, tmp_path, caplog):
    out = tmp_path / "data"
    monkeypatch.setattr(sources, "ARCHIVE", address)
    obtain(out, None, everything=False)
    assert "not the file this recipe was made with" in caplog.text  # made-up dialogues
    assert [p.name for p in out.iterdir()] == ["dialogue"]
    digests = {}
    for split in SPLITS:
        lines = gzip.decompress(sgd_path(out, split).read_bytes())
        digests[split] = hashlib.sha256(lines).hexdigest()
    monkeypatch.setattr(datafiles, "CHECKSUMS", digests)
    verify(out)


def test_downloads_are_whole_or_nothing(address, tmp_path):
    path = tmp_path / "fetched" / "sgd.zip"
    Server.missing = 1000
    with pytest.raises(DataError, match=r"sgd\.zip (could not be fetched|ended after)"):
        fetch(address, path)
    Server.content, Server.missing = b"<html>", 0
    with pytest.raises(DataError, match="gave no zip file"):
        fetch(address, path)
    with pytest.raises(DataError, match=r"could not be fetched .*use --from FOLDER"):
        fetch("http://127.0.0.1:9/none.zip", path)
    assert list(path.parent.iterdir()) == []
