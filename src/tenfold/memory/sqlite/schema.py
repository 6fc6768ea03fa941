"""The tables of one tenant's file.

`sequence` is the place of an event in the log and its number everywhere else. Indices over names
and texts are few and rebuilt by every erasure: SQLite's secure_delete zeroes what is deleted, but
copies that page splits leave behind in an index stay (measured; see `pages`).
"""

from __future__ import annotations

from tenfold.memory.events import Kind

APPLICATION = 0x74466D31  # "tFm1" in the file's header
VERSION = 2
FOUND = (Kind.OBSERVATION, Kind.TOOL)  # the kinds that are found and derived from
NAMED_INDICES = ("event_ids", "event_keys", "conversations")  # the ones that hold names
VECTORS = {"turn": 0, "window": 1}  # a vector's id is twice its event's sequence plus this

# What makes a file of the version after it.
UPGRADES = {
    1: (
        "CREATE TABLE settings(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE INDEX derived_kinds ON derived(kind)",
    ),
}

_FOUND = ", ".join(f"'{kind}'" for kind in FOUND)

TABLES = f"""
CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('sequence', 0), ('epoch', 0), ('stamp', 0), ('unscrubbed', 0);

CREATE TABLE events(
  sequence INTEGER PRIMARY KEY,
  id TEXT NOT NULL, author TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL,
  subject TEXT NOT NULL, recipient TEXT NOT NULL, conversation TEXT NOT NULL,
  kind TEXT NOT NULL, scope TEXT NOT NULL,
  valid_at INTEGER NOT NULL, recorded_at INTEGER NOT NULL,  -- microseconds since 1970
  key TEXT NOT NULL, sources TEXT NOT NULL, provenance TEXT NOT NULL,  -- ids; JSON
  words INTEGER NOT NULL);
CREATE UNIQUE INDEX event_ids ON events(id);
CREATE UNIQUE INDEX event_keys ON events(author, key) WHERE key <> '';
CREATE INDEX conversations ON events(conversation, sequence) WHERE conversation <> '';
CREATE TABLE links(source INTEGER, event INTEGER, PRIMARY KEY(source, event)) WITHOUT ROWID;
CREATE TABLE grants(member TEXT, team TEXT, PRIMARY KEY(member, team)) WITHOUT ROWID;

CREATE VIEW findable AS SELECT sequence, text FROM events WHERE kind IN ({_FOUND});
CREATE VIRTUAL TABLE words USING fts5(
  text, content='findable', content_rowid='sequence', tokenize='porter unicode61');
CREATE VIRTUAL TABLE occurrences USING fts5vocab(words, instance);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, row);

CREATE TABLE waiting(sequence INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, failure TEXT);
CREATE TABLE spaces(kind TEXT PRIMARY KEY, deriver TEXT NOT NULL, width INTEGER NOT NULL);
CREATE TABLE vectors(id INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, vector BLOB NOT NULL);
CREATE INDEX fresh_vectors ON vectors(stamp);
CREATE TABLE derived(
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, deriver TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE lineage(event INTEGER, derived INTEGER, PRIMARY KEY(event, derived)) WITHOUT ROWID;
CREATE INDEX origins ON lineage(derived, event);

CREATE TABLE receipts(
  id TEXT PRIMARY KEY, erased_at INTEGER NOT NULL, events INTEGER NOT NULL,
  derived INTEGER NOT NULL, rederived INTEGER NOT NULL, selection TEXT NOT NULL);
{"".join(f"{step};" for steps in UPGRADES.values() for step in steps)}
"""
