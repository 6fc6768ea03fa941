"""The address of a database, and what can be said about it without its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tenfold.errors import InvalidRequest, MissingExtra
from tenfold.memory.store import StoreError

KEYS = "~/.local/share/tenfold/keys"
PATIENCE = 10  # seconds for a server to answer a connection
_OURS = ("keys", "data")
_UNKNOWN = re.compile(r'invalid URI query parameter: "([\w-]+)"')


@dataclass(frozen=True, slots=True)
class Address:
    """`postgresql://USER@HOST:PORT/DATABASE?keys=FOLDER` and any option of libpq's.

    `keys` is the folder of key files; `data` the server's data directory, if it is to be read when
    an erasure is verified. `str()` leaves every secret out.
    """

    conninfo: str  # for libpq, secrets included: never to be shown
    shown: str
    keys: Path
    data: Path | None
    secrets: tuple[str, ...]

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    def safe(self, text: str) -> str:
        """A message without the secrets of the address."""
        for secret in self.secrets:
            text = text.replace(secret, "***").replace(quote(secret), "***")
        return text


def driver() -> Any:
    """The psycopg module. Raises MissingExtra where it, or cryptography, is not installed."""
    try:
        import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
        import psycopg
        import psycopg.conninfo
    except ImportError as e:
        raise MissingExtra(
            f"a memory in Postgres needs psycopg and cryptography: {e}",
            hint="pip install 'tenfold[postgres]'",
        ) from None
    return psycopg


def parse(address: str) -> Address:
    """Reads an address. Raises InvalidRequest for what is none, without repeating it."""
    psycopg = driver()
    try:
        parts = urlsplit(address)
        options = parse_qsl(parts.query, keep_blank_values=True)
        ours = {name: value for name, value in options if name in _OURS}
        rest = urlencode([pair for pair in options if pair[0] not in _OURS], quote_via=quote)
        conninfo = urlunsplit(parts._replace(query=rest))
        if not parts.netloc:  # urlunsplit drops the empty host of postgresql:///database
            conninfo = f"{parts.scheme}://{conninfo.partition(':')[2].removeprefix('//')}"
        said = psycopg.conninfo.conninfo_to_dict(conninfo)
    except (ValueError, psycopg.Error) as error:
        if unknown := _UNKNOWN.search(str(error)):
            raise InvalidRequest(
                f"the address of the database has an unknown parameter {unknown[1]!r}",
                param="address",
                hint="keys=FOLDER, data=FOLDER, and those of libpq, such as sslmode and"
                " connect_timeout",
            ) from None
        raise InvalidRequest(
            "the address of the database cannot be read",
            param="address",
            hint="postgresql://USER@HOST:PORT/DATABASE?keys=FOLDER, with special characters"
            " percent-encoded; the password belongs into ~/.pgpass or PGPASSWORD",
        ) from None
    secrets = tuple(str(said[part]) for part in ("password", "sslpassword") if said.get(part))
    user = f"{said['user']}@" if said.get("user") else ""
    port = f":{said['port']}" if said.get("port") else ""
    shown = f"postgresql://{user}{said.get('host', '')}{port}/{said.get('dbname', '')}"
    data = ours.get("data")
    return Address(
        conninfo,
        shown,
        Path(ours.get("keys") or KEYS).expanduser(),
        Path(data).expanduser() if data else None,
        secrets,
    )


def unreachable(address: Address, error: Exception) -> StoreError:
    """What a failed connection is about."""
    said = address.safe(str(error)).strip().splitlines()
    reason = said[-1].strip() if said else "no answer"
    hint = "look whether the server runs and listens there"
    if "authentication failed" in reason or "no password supplied" in reason:
        hint = "give the right user, and the password in ~/.pgpass or PGPASSWORD"
    elif "does not exist" in reason:
        hint = "make the role and the database first: docs/memory.md, Postgres"
    elif "too many" in reason or "remaining connection slots" in reason:
        hint = "raise max_connections, or close other clients"
    return StoreError(f"{address} cannot be reached: {reason}", hint=hint)


def explained(address: Address, error: Exception, *, committing: bool = False) -> StoreError:
    """What the server reported during a call, with what to do about it."""
    state = getattr(error, "sqlstate", None) or ""
    diagnosis = getattr(getattr(error, "diag", None), "message_primary", None)
    reason = address.safe(diagnosis or str(error)).strip() or type(error).__name__
    if state.startswith(("57", "08")) or (not state and type(error).__name__ == "OperationalError"):
        kept = "whether this call was kept is not known" if committing else "nothing of it was kept"
        return StoreError(
            f"the connection to {address} was lost: {reason}; {kept}",
            hint="repeat the call; an event with a key is not written twice",
        )
    for start, hint in _HINTS.items():
        if state.startswith(start):
            return StoreError(f"{address}: {reason}; nothing of this call was kept", hint=hint)
    return StoreError(f"{address} refused a statement: {reason} ({state or 'no code'})")


_HINTS = {  # classes and codes of appendix A of the manual
    "53": "free some disk space, memory or connections of the server, then repeat the call",
    "55P03": "another writer holds the tenant's lock; repeat the call",
    "40": "two writers met; repeat the call",
    "42501": "the role owns the schema tenfold, or has every right on it: docs/memory.md, Postgres",
    "25006": "this is a read-only replica; name the primary in the address",
    "XX00": "the server reports damage; restore a backup, then look at its log",
}
