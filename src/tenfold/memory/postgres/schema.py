"""The tables of all tenants, and the policy that lets a transaction see one tenant's rows.

No statement names a tenant: each transaction sets `tenfold.tenant`, rows get it by default, and the
policy (forced, so that it binds the owner of the tables too) hides all others. Without the setting
every statement fails. `sealed` is ciphertext, see `sealing`; id, author, subject, conversation, key
and member are keyed hashes, empty for "".
"""

from __future__ import annotations

VERSION = 1
SEGMENT = 256  # events whose words are hashed under one key; what an erasure indexes anew
OWN = ("counters", "events", "links", "grants", "settings", "segments", "terms", "waiting",
       "spaces", "vectors", "derived", "lineage", "receipts", "shreds")  # fmt: skip
COUNTERS = ("sequence", "epoch", "stamp", "derived", "erasures")

_TENANT = "tenant int NOT NULL DEFAULT current_setting('tenfold.tenant')::int"

TABLES = f"""
CREATE SCHEMA IF NOT EXISTS tenfold;
CREATE TABLE tenfold.about(version int NOT NULL);
INSERT INTO tenfold.about VALUES ({VERSION});
CREATE TABLE tenfold.tenants(
  number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
  identity bytea NOT NULL);

CREATE TABLE tenfold.counters({_TENANT}, name text, value bigint NOT NULL,
  PRIMARY KEY (tenant, name));
CREATE TABLE tenfold.events({_TENANT}, sequence bigint,
  id bytea NOT NULL, author bytea NOT NULL, subject bytea NOT NULL, conversation bytea NOT NULL,
  key bytea NOT NULL, kind text NOT NULL, scope text NOT NULL,
  valid_at bigint NOT NULL, recorded_at bigint NOT NULL,  -- microseconds since 1970
  words int NOT NULL, sources int NOT NULL, sealed bytea NOT NULL,
  PRIMARY KEY (tenant, sequence));
CREATE UNIQUE INDEX event_ids ON tenfold.events(tenant, id);
CREATE UNIQUE INDEX event_keys ON tenfold.events(tenant, author, key) WHERE key <> '';
CREATE INDEX conversations ON tenfold.events(tenant, conversation, sequence)
  WHERE conversation <> '';
CREATE TABLE tenfold.links({_TENANT}, event bigint, place int, source bigint NOT NULL,
  sealed bytea NOT NULL, PRIMARY KEY (tenant, event, place));
CREATE INDEX cited ON tenfold.links(tenant, source, event);
CREATE TABLE tenfold.grants({_TENANT}, member bytea, team text, PRIMARY KEY (tenant, member, team));
CREATE TABLE tenfold.settings({_TENANT}, name text, value text NOT NULL,
  PRIMARY KEY (tenant, name));

CREATE TABLE tenfold.segments({_TENANT}, number int, generation int NOT NULL, mark bytea NOT NULL,
  PRIMARY KEY (tenant, number));
CREATE TABLE tenfold.terms({_TENANT}, term bigint, sequence bigint, times int NOT NULL,
  PRIMARY KEY (tenant, term, sequence) INCLUDE (times));
CREATE INDEX term_places ON tenfold.terms(tenant, sequence);

CREATE TABLE tenfold.waiting({_TENANT}, sequence bigint, epoch bigint NOT NULL, failure bytea,
  PRIMARY KEY (tenant, sequence));
CREATE TABLE tenfold.spaces({_TENANT}, kind text, deriver text NOT NULL, width int NOT NULL,
  PRIMARY KEY (tenant, kind));
CREATE TABLE tenfold.vectors({_TENANT}, kind text, sequence bigint, previous bigint NOT NULL,
  stamp bigint NOT NULL, sealed bytea NOT NULL, PRIMARY KEY (tenant, kind, sequence));
ALTER TABLE tenfold.vectors ALTER COLUMN sealed SET STORAGE PLAIN;
CREATE INDEX fresh_vectors ON tenfold.vectors(tenant, kind, stamp);
CREATE TABLE tenfold.derived({_TENANT}, id bigint, kind text NOT NULL, deriver text NOT NULL,
  mark bytea NOT NULL, sealed bytea NOT NULL, PRIMARY KEY (tenant, id));
CREATE UNIQUE INDEX derived_marks ON tenfold.derived(tenant, mark);
CREATE INDEX derived_kinds ON tenfold.derived(tenant, kind);
CREATE TABLE tenfold.lineage({_TENANT}, event bigint, derived bigint,
  PRIMARY KEY (tenant, event, derived));
CREATE INDEX origins ON tenfold.lineage(tenant, derived, event);

CREATE TABLE tenfold.receipts({_TENANT}, place bigint GENERATED ALWAYS AS IDENTITY,
  id text NOT NULL,
   erased_at bigint NOT NULL, events int NOT NULL, derived int NOT NULL, rederived int NOT NULL,
  selection text NOT NULL, PRIMARY KEY (tenant, place));
CREATE TABLE tenfold.shreds({_TENANT}, sequence bigint, PRIMARY KEY (tenant, sequence));
""" + "".join(
    f"ALTER TABLE tenfold.{table} ENABLE ROW LEVEL SECURITY;"
    f"ALTER TABLE tenfold.{table} FORCE ROW LEVEL SECURITY;"
    f"CREATE POLICY own ON tenfold.{table}"
    " USING (tenant = current_setting('tenfold.tenant')::int);"
    for table in OWN
)
