from __future__ import annotations

import io
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tenfold.cli.main import main
from tenfold.errors import InvalidRequest
from tenfold.memory.memory import Memory

KETTLE = "We bought a red kettle on Tuesday."
BOATS = "My sister paints boats in the harbour."
HOME = "I live in Porto."


class Shell:
    """Runs `tenfold memory` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._patch = monkeypatch
        self.err = ""

    def __call__(self, *argv: str, stdin: str = "", code: int = 0) -> str:
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            main(["memory", *argv])
            ended = 0
        except SystemExit as e:
            ended = int(e.code or 0)
        out, self.err = self._capsys.readouterr()
        assert ended == code, (out, self.err)
        return out

    def json(self, *argv: str, stdin: str = "") -> Any:
        return json.loads(self(*argv, "--json", stdin=stdin))

    def lines(self, *argv: str) -> list[Any]:
        return [json.loads(line) for line in self(*argv, "--json").splitlines()]


@pytest.fixture
def sh(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.setenv("TENFOLD_MEMORY", str(tmp_path / "memories"))
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(capsys, monkeypatch)


def words(*argv: str) -> list[str]:
    return [*argv, "--embedder", "words"]


def test_what_is_added_is_found_verbatim_and_shown_in_history(sh: Shell) -> None:
    ids = [sh("add", text, "--conversation", "tea").strip() for text in (KETTLE, BOATS)]
    hits = sh.lines(*words("search", "what does the sister paint?"))
    assert hits[0]["event"]["text"] == BOATS
    assert hits[0]["event"]["id"] == ids[1]
    assert sum(hits[0]["parts"].values()) == pytest.approx(hits[0]["score"])
    assert datetime.fromisoformat(hits[0]["event"]["recorded_at"]).tzinfo is not None
    shown = sh("history", "--conversation", "tea")
    assert shown.index(ids[0]) < shown.index(KETTLE) < shown.index(ids[1]) < shown.index(BOATS)
    assert [e["id"] for e in sh.lines("history", "--limit", "1")] == ids[1:]
    assert [e["id"] for e in sh.lines("history", "--id", ids[0])] == ids[:1]


def test_age_counts_where_a_half_life_is_given(sh: Shell) -> None:
    old = json.dumps({"text": KETTLE, "valid_at": "2020-05-01T12:00:00+00:00"})
    sh("import", "-", stdin=old)
    (plain,) = sh.lines(*words("search", "red kettle"))
    (faded,) = sh.lines(*words("search", "red kettle", "--half-life-days", "1"))
    assert "age" not in plain["parts"]
    assert faded["parts"]["age"] < 0
    assert faded["score"] == pytest.approx(plain["score"] / 10)  # the floor
    sh("search", "red kettle", "--half-life-days", "1e300", code=2)


def test_an_explanation_adds_up_to_the_scores(sh: Shell) -> None:
    for text in (KETTLE, BOATS):
        sh("add", text)
    out = sh(*words("search", "red kettle boats", "--explain"))
    rows = {row[0]: row[1:] for line in out.splitlines() if (row := line.split())}
    table = dict(list(rows.items())[list(rows).index("reason") + 1 :])
    scores = table.pop("score")
    assert [rows["1."][0], rows["2."][0]] == scores
    assert {"lexical", "covered_around"} <= set(table)
    for i, score in enumerate(scores):
        parts = [float(row[i]) for row in table.values() if row[i] != "-"]
        assert sum(parts) == pytest.approx(float(score), abs=0.001 * len(parts))


def test_text_comes_from_standard_input_too(sh: Shell) -> None:
    event = sh.json("add", "--subject", "ada", "--scope", "shared", stdin="zwei\nZeilen é\n")
    assert (event["text"], event["subject"], event["scope"]) == ("zwei\nZeilen é", "ada", "shared")
    sh("add", stdin="\n", code=2)
    assert "text is empty" in sh.err


def test_what_is_refused_makes_no_memory(sh: Shell, tmp_path: Path) -> None:
    sh("add", "", code=2)
    sh("add", "x", "--valid-at", "2999-01-01", code=2)
    chat = '[{"role": "user", "content": 3}]'
    sh("add", "--messages", "-", "--conversation", "c", stdin=chat, code=2)
    assert not (tmp_path / "memories").exists()


def test_messages_become_events_of_a_conversation(sh: Shell, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": HOME},
        {"role": "assistant", "content": [{"type": "text", "text": "Noted."}]},
    ]
    file.write_text(json.dumps(chat))
    added = sh("add", "--messages", str(file), "--conversation", "tea").split()
    events = sh.lines("history")
    assert [e["id"] for e in events] == added
    assert [(e["role"], e["text"]) for e in events] == [("user", HOME), ("assistant", "Noted.")]
    file.write_text('{"role": "user"}')
    sh("add", "--messages", str(file), "--conversation", "tea", code=2)
    assert "no list of messages" in sh.err
    sh("add", "--messages", str(file), code=2)
    assert "--conversation" in sh.err
    sh("add", "text", "--messages", str(file), "--conversation", "tea", code=2)
    assert "brings its own" in sh.err


def test_a_key_adds_once_and_times_without_a_zone_are_local(sh: Shell) -> None:
    first = sh("add", KETTLE, "--key", "k1", "--valid-at", "2026-05-01T10:00")
    assert sh("add", KETTLE, "--key", "k1", "--valid-at", "2026-05-01T10:00") == first
    (event,) = sh.lines("history")
    said = datetime.fromisoformat(event["valid_at"])
    assert said == datetime(2026, 5, 1, 10).astimezone()
    assert "2026-05-01 10:00" in sh("history")
    assert sh.lines("history", "--until", "2026-05-01T10:00") == []
    assert len(sh.lines("history", "--since", "2026-05-01T10:00")) == 1


def test_nothing_found_is_said(sh: Shell) -> None:
    sh("add", KETTLE)
    assert sh(*words("search", "kettle", "--author", "bob")) == ""
    assert "nothing was found" in sh.err
    assert sh("history", "--subject", "bob") == ""
    assert "nothing to show" in sh.err
    assert sh(*words("facts", "bob")) == ""
    assert "nothing is believed of bob" in sh.err
    assert sh(*words("facts", "[/bold]")) == ""
    assert "nothing is believed of [/bold]" in sh.err


def test_facts_are_shown_as_they_were_at_a_time(sh: Shell) -> None:
    sh("add", HOME, "--valid-at", "2026-03-01")
    sh("add", "I live in Lyon.", "--valid-at", "2026-05-01")
    now, then = sh(*words("facts", "me")), sh(*words("facts", "me", "--valid", "2026-04-01"))
    assert "Lyon" in now
    assert "Porto" not in now
    assert "Porto" in then
    assert "Lyon" not in then
    (fact,) = sh.lines(*words("facts"))
    assert (fact["predicate"], fact["object"], fact["valid_to"]) == ("lives in", "Lyon", None)


def test_members_and_tenants_do_not_see_each_other(sh: Shell) -> None:
    sh("add", KETTLE, "--member", "ada")
    sh("add", BOATS, "--member", "ada", "--scope", "shared")
    assert [e["text"] for e in sh.lines("history", "--member", "bob")] == [BOATS]
    sh("history", "--tenant", "other", code=2)
    assert "no memory of tenant 'other'" in sh.err


def test_a_team_is_granted_and_revoked(sh: Shell) -> None:
    sh("add", KETTLE, "--member", "ada", "--scope", "team:crew", code=2)
    assert "tenfold memory grant ada crew" in sh.err
    assert sh("grant", "ada", "crew") == "ada is now in team crew\n"
    assert sh("grant", "ada", "crew") == "ada was in team crew\n"
    sh("add", KETTLE, "--member", "ada", "--scope", "team:crew")
    assert sh.lines("history", "--member", "bob") == []
    sh("grant", "bob", "crew")
    assert len(sh.lines("history", "--member", "bob")) == 1
    assert sh("revoke", "bob", "crew") == "bob is no longer in team crew\n"
    assert sh("revoke", "bob", "crew") == "bob was not in team crew\n"
    assert sh.lines("history", "--member", "bob") == []


def test_erasing_needs_to_be_told_what_and_a_yes(sh: Shell) -> None:
    sh("add", BOATS, "--conversation", "tea")
    sh("erase", "--yes", code=2)
    assert "nothing says what to erase" in sh.err
    assert "all that is yours: --since 1000-01-01" in sh.err
    for answer, code, said in (("", 2, "nobody said yes"), ("n\n", 1, "nothing was erased")):
        sh("erase", "--conversation", "tea", stdin=answer, code=code)
        assert "Erase 1 event of me" in sh.err
        assert said in sh.err
        assert len(sh.lines("history")) == 1
    assert "erased 1 event," in sh("erase", "--conversation", "tea", stdin="y\n")
    assert sh.lines("history") == []
    sh("erase", "--conversation", "tea", "--yes", code=2)
    assert "no event that can be erased" in sh.err
    for text in (BOATS, KETTLE):
        sh("add", text)
    assert "erased 2 events" in sh("erase", "--since", "1000-01-01", "--yes")
    assert sh.lines("history") == []


def test_an_erasure_is_verified_and_what_is_left_is_an_error(sh: Shell) -> None:
    sh("add", BOATS, "--conversation", "tea")
    sh("add", KETTLE)
    sh(*words("search", "boats"))
    erased = sh.json("erase", "--conversation", "tea", "--yes", "--verify", "harbour")
    assert erased["residue"] == []
    assert erased["receipt"]["events"] == 1
    assert erased["receipt"]["selection"] == {"conversation": "given"}
    sh("add", BOATS, "--conversation", "tea")
    out = sh(
        "erase", "--conversation", "tea", "-y", "--verify", "harbour", "--verify", "kettle", code=1
    )
    assert "word 2 is still in: table events" in out
    assert "word 1" not in out
    assert "kettle" not in out


def test_a_person_is_erased_from_every_members_memory(sh: Shell) -> None:
    sh("add", BOATS, "--member", "ada", "--subject", "carol")
    sh("add", KETTLE, "--member", "bob", "--subject", "carol")
    sh("erase", "--subject", "carol", "--yes", code=2)
    out = sh("erase", "--subject", "carol", "--all-members", "--yes", "--verify", "kettle")
    assert "erased 2 events" in out
    assert "none of the words is left; looked into every table" in out


def test_what_was_exported_is_imported_once(sh: Shell, tmp_path: Path) -> None:
    for text in (KETTLE, BOATS):
        sh("add", text, "--conversation", "tea", "--valid-at", "2026-05-01")
    file = tmp_path / "out.jsonl"
    sh("export", "--out", str(file))
    assert "2 events" in sh.err
    assert file.read_text() == sh("export")
    sh("export", "--out", str(file), code=2)
    assert "is there already (give a new name" in sh.err
    sh("export", "--out", str(tmp_path / "no" / "where"), code=2)
    assert "Errno" not in sh.err
    assert sh("import", str(file), "--tenant", "copy") == "2 new events, 0 here already\n"
    assert sh.json("import", str(file), "--tenant", "copy") == {"new": 0, "here_already": 2}
    more = [*file.read_text().splitlines()[:1], '{"text": "a third"}']
    out = sh("import", "-", "--tenant", "third", stdin="\n".join(more[1:]))
    assert out == "1 new event, 0 here already\n"
    out = sh("import", "-", "--tenant", "copy", "--member", "bob", stdin="\n".join(more))
    assert out == "2 new events, 0 here already\n"
    before, after = sh.lines("history"), sh.lines("history", "--tenant", "copy")
    same = ("text", "conversation", "valid_at", "role", "subject")
    assert [[e[k] for k in same] for e in after] == [[e[k] for k in same] for e in before]
    sh("import", "-", "--tenant", "copy", stdin='{"text": "a"}\n{\n', code=2)
    assert "line 2" in sh.err
    assert len(sh.lines("history", "--tenant", "copy")) == 2


def test_audit_status_and_rebuild_tell_numbers(sh: Shell) -> None:
    sh("add", "My key is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD")
    sh("add", "thanks!")
    assert sh.json("status")["waiting"] == 2
    report = sh.json(*words("audit"))
    assert (report["events"], report["empty_talk"]["count"], len(report["secrets"])) == (2, 1, 1)
    assert "50.0% are junk" in sh(*words("audit"))
    assert "sk-proj" not in sh(*words("audit"))
    assert sh.json("status")["waiting"] == 0
    assert sh.json("rebuild", "--embedder", "none")["derivers"].get("hashed-words-512") is None
    assert "2 events, 0 waiting" in sh(*words("rebuild"))


def test_another_embedder_is_refused_until_the_memory_is_rebuilt(sh: Shell, tmp_path: Path) -> None:
    from tenfold.memory.embedding import HashedWords

    sh("add", KETTLE)
    folder = tmp_path / "memories"
    memory = Memory.open(folder, embedder=HashedWords(64))
    memory.derive()
    memory.close()
    sh("add", BOATS)
    sh(*words("search", "boats"), code=2)
    assert "rebuild the memory" in sh.err
    sh("search", "boats", code=2)  # nor is there a name for what the vectors are of
    assert "has vectors of 'hashed-words-64', which is none of ours" in sh.err
    assert sh.json("status")["failed"] == 0
    sh(*words("rebuild"))
    assert sh.lines(*words("search", "boats"))[0]["event"]["text"] == BOATS


def test_the_embedder_is_by_itself_the_one_that_the_vectors_are_of(
    sh: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenfold.memory import embedders

    monkeypatch.setattr(embedders, "MiniLM", no_model)  # it is not even loaded
    monkeypatch.setattr(embedders, "minilm_folder", lambda: None)
    sh("add", BOATS)
    sh(*words("search", "boats"))
    assert sh.lines("search", "boats")[0]["event"]["text"] == BOATS
    assert "0 failed" in sh("rebuild")
    sh("search", "boats", "--embedder", "minilm", code=2)
    assert "--embedder words" in sh.err
    assert "hashed-words-512" in sh.err


def no_model(*_: object) -> None:
    raise AssertionError("a model is loaded")


no_model.name = "all-minilm-l6-v2"  # type: ignore[attr-defined]


def test_what_needs_no_vectors_loads_no_model(sh: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from tenfold.memory import embedders

    sh("search", "x", "--folder", "nowhere", "--embedder", "minilm", code=2)
    monkeypatch.setattr(embedders, "MiniLM", no_model)
    monkeypatch.setattr(embedders, "minilm_folder", lambda: None)
    sh("search", "x", code=2)
    assert "no memory of tenant" in sh.err
    memory = sh("add", HOME)
    sh("search", " ", code=2)
    assert "the query is empty" in sh.err
    sh("erase", "--id", memory.strip(), "--yes")
    assert sh("facts") == ""
    assert "nothing is believed" in sh.err


def test_an_embedder_that_cannot_be_loaded_fails_no_event(
    sh: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenfold.errors import CheckpointError
    from tenfold.memory import embedders

    def broken(*_: object) -> None:
        raise CheckpointError("the file is cut off")

    broken.name = "all-minilm-l6-v2"  # type: ignore[attr-defined]
    monkeypatch.setattr(embedders, "MiniLM", broken)
    monkeypatch.setattr(embedders, "minilm_folder", lambda: None)
    sh("add", HOME)
    sh("search", "home", code=2)
    assert "the file is cut off" in sh.err
    assert sh.json("status")["failed"] == 0


def test_stored_text_cannot_steer_the_terminal(sh: Shell) -> None:
    sh("add", "a\x1b[2Jb", "--conversation", "[bold]tea[/bold]")
    out = sh("history")
    assert "\x1b" not in out
    assert "[bold]tea[/bold]" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["status"], "no memory of tenant 'default'"),
        (["ad"], "see `tenfold memory --help`"),
        (["history", "--nothing"], "see `tenfold memory history --help`"),
        (["retain", "set", "--most", "x"], "see `tenfold memory retain set --help`"),
        (["status", "--folder", "postgresql:/db/memory"], "begins with postgresql://"),
        (["status", "--folder", "postgres:memory"], "begins with postgresql://"),
        ([], "see `tenfold memory --help`"),
        (["add", "x", "--scope", "everyone"], "there is no scope"),
        (["add", "x", "--kind", "dream"], "kind"),
        (["add", "x", "--valid-at", "soon"], "is no time"),
        (["add", "x", "--valid-at", "2999-01-01"], "in the future"),
        (["search", "x", "--embedder", "magic"], "no embedder"),
        (["search", "x", "--kind", "observatio"], "did you mean 'observation'"),
        (["history", "--id", "1"], "no event id"),
        (["import", "/no/such/file"], "cannot be read: No such file"),
        (["import", "/no/such", "--from", "mem0"], "cannot be read: No such file"),
        (["retain", "set", "--days", "-3"], "from 0.001, a minute and a half, to 1,000,000"),
        (["add", "--messages", "/no/such/file", "--conversation", "c"], "cannot be read"),
    ],
)
def test_bad_options_are_one_line(sh: Shell, argv: list[str], said: str) -> None:
    sh(*argv, code=2)
    assert said in sh.err
    assert sh.err.count("\n") == 1


def test_serve_reads_whose_keys_open_which_memory(tmp_path: Path) -> None:
    from tenfold.cli.serve import _memory
    from tenfold.server.settings import Owner

    file = tmp_path / "keys.json"
    file.write_text('{"ada": "k1", "acme/bob/x": "k2"}')
    kept = _memory(tmp_path, "words", "home", file, trust=True)
    assert kept is not None
    assert kept.owner == Owner("home", "me")
    assert kept.holders == {"k1": Owner("home", "ada"), "k2": Owner("acme", "bob/x")}
    assert kept.trust_member_header
    assert _memory(None, "words", "home", None, trust=False) is None
    for text in ('{"ada": "k1", "bob": "k1"}', '{"ada": " "}', '{"ada": 1}', "[]", "{"):
        file.write_text(text)
        with pytest.raises(InvalidRequest):
            _memory(tmp_path, "words", "home", file, trust=False)
    with pytest.raises(InvalidRequest, match="no memory to open"):
        _memory(None, "words", "home", file, trust=False)


def test_serve_takes_the_embedder_of_the_vectors_and_refuses_another(tmp_path: Path) -> None:
    from tenfold.cli.serve import _memory, _said

    place = str(tmp_path)
    kept = _memory(place, "", "home", None, trust=False)
    assert kept is not None
    assert kept.embedder == "minilm"  # nothing is there yet
    memory = Memory.open(tmp_path, tenant="home", embedder="words")
    memory.add(BOATS)
    memory.derive()
    memory.close()
    kept = _memory(place, "", "home", None, trust=False)
    assert kept is not None
    assert kept.embedder == "words"
    assert _said(kept) == f"{place}, embedder words; of member 'me' of tenant 'home'"
    for keys in (None, tmp_path / "keys.json"):
        (tmp_path / "keys.json").write_text('{"home/ada": "k1"}')
        with pytest.raises(InvalidRequest, match="has vectors of 'hashed-words-512'") as caught:
            _memory(place, "minilm", "home" if keys is None else "new", keys, trust=False)
        assert "--memory-embedder words" in str(caught.value.hint)
    with pytest.raises(InvalidRequest, match="no embedder 'magic'"):
        _memory(place, "magic", "home", None, trust=False)
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        _memory(place, "words", "home", tmp_path / "nowhere", trust=False)


def test_a_verification_says_what_it_looks_into(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    from tenfold.cli.memory_upkeep import looked_into

    assert "bytes of every file" in looked_into(str(tmp_path))
    address = "postgresql://tenfold:secret@db/memory?keys=/keys"
    assert "not into the server's files" in looked_into(address)
    assert "files in /var/pg that" in looked_into(f"{address}&data=/var/pg")
    assert "secret" not in looked_into(address)


def test_an_address_with_an_unknown_parameter_names_it(sh: Shell) -> None:
    pytest.importorskip("psycopg")
    sh("status", "--folder", "postgresql://ada:pw@db/memory?sslmod=require", code=2)
    assert "unknown parameter 'sslmod'" in sh.err
    assert "pw" not in sh.err
