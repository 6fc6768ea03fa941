"""What an operator may set about the HTTP server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tenfold.errors import InvalidRequest

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_BEST: Mapping[str, Any] = {"strategy": "best_of_n", "n": 8}


class Owner(NamedTuple):
    """Whose memory: a member of a tenant."""

    tenant: str = "default"
    member: str = "me"


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Where memories are and which request may use whose. Raises InvalidRequest.

    The holder of a key in `holders` is that member. Requests with another key, or without keys, are
    of `owner`, or, with `trust_member_header`, of the member of its tenant whom X-Tenfold-Member
    names: for a gateway that has checked who its users are.
    """

    folder: str | Path  # or a database's address
    embedder: str = "minilm"
    owner: Owner = field(default_factory=Owner)
    holders: Mapping[str, Owner] = field(default_factory=dict)  # API key: whose it is
    trust_member_header: bool = False
    upkeep_s: float = 3600.0  # between two times that policies are applied and feedback learnt from

    def __post_init__(self) -> None:
        if self.upkeep_s <= 0:
            raise InvalidRequest("upkeep_s must be above 0", param="memory.upkeep_s")
        for owner in (self.owner, *self.holders.values()):
            if not owner.tenant or not owner.member:
                raise InvalidRequest("tenant and member need names", param="memory")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits, keys and names. Raises InvalidRequest for impossible values.

    A preset is a `decode` object under a name; it may hold `sampling`, an object of sampling values
    (`{"strategy": "best_of_n", "n": 8, "sampling": {"temperature": 0.8}}`). It is served as the
    virtual model `<model>@<name>`.
    """

    model_name: str | None = None  # the id in /v1/models; None: the checkpoint's own name
    api_keys: tuple[str, ...] = ()
    allow_unauthenticated: bool = False  # listen beyond loopback without a key
    allowed_hosts: tuple[str, ...] = ()  # names the Host header may hold; () = any
    cors_origins: tuple[str, ...] = ()  # () = no cross-origin requests
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"best": _BEST})
    examples: tuple[Mapping[str, Any], ...] = ()  # for the playground; (): the model folder's own
    default_reward: str = "logprob"
    static_folder: Path | None = None  # None: the playground inside the package, if it is there
    memory: MemorySettings | None = None  # None: no memory
    # Limits on one request.
    max_body_bytes: int = 4 * 1024 * 1024
    body_timeout_s: float = 30.0  # a client that sends half a body is let go
    max_ms: float = 600_000.0  # the deadline of a request that names none, and the most it may ask
    max_n: int = 128  # candidates
    max_tokens: int | None = None  # tokens of one answer; None: the context
    max_budget_tokens: int | None = None  # tokens over all candidates
    max_inputs: int = 256  # prompts, embedding inputs or candidates to score in one request
    # Limits on all requests together.
    max_running: int = 64
    max_waiting: int = 256
    keep_alive_s: float = 5.0  # between comments on a silent stream
    grace_s: float = 5.0  # past its deadline a request that does not return is cancelled
    shutdown_s: float = 10.0

    def __post_init__(self) -> None:
        for name in (
            "max_body_bytes",
            "body_timeout_s",
            "max_ms",
            "max_n",
            "max_inputs",
            "max_running",
            "keep_alive_s",
            "grace_s",
        ):
            if getattr(self, name) <= 0:
                raise InvalidRequest(f"{name} must be above 0", param=name)
        if self.max_waiting < 0:
            raise InvalidRequest("max_waiting must be at least 0", param="max_waiting")
        if any(not key.strip() for key in self.api_keys):
            raise InvalidRequest("an API key must not be empty", param="api_keys")
        if any("@" in name or not name for name in self.presets):
            raise InvalidRequest("a preset's name must not be empty or hold '@'", param="presets")
        if self.memory is not None:
            self._check_holders(self.memory)

    def _check_holders(self, memory: MemorySettings) -> None:
        if set(memory.holders) - set(self.api_keys):
            raise InvalidRequest("a memory's holder has a key that opens nothing", param="api_keys")
        if len(set(self.api_keys) - set(memory.holders)) > 1:
            raise InvalidRequest(
                "several API keys would share one memory",
                param="api_keys",
                hint="say in memory.holders whose they are",
            )
