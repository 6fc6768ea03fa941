"""`tenfold serve`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenfold.cli.arguments import (
    Adapters,
    Dtype,
    Executor,
    KvMemory,
    Load,
    MaxBatchTokens,
    MaxContext,
    MaxSequences,
    NoPrefixCache,
    add_reward,
    parse_object,
    split_pair,
)
from tenfold.cli.output import notes, quiet_logging
from tenfold.errors import InvalidRequest, UnknownName

if TYPE_CHECKING:
    from tenfold.server.settings import MemorySettings


def command(
    model: Annotated[str, typer.Argument(help="embedded name, folder or hf:owner/name")] = (
        "concierge"
    ),
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free port")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(help="required from clients; also TENFOLD_API_KEY")
    ] = None,
    allow_unauthenticated: Annotated[
        bool, typer.Option("--allow-unauthenticated", help="beyond this machine without a key")
    ] = False,
    dtype: Dtype = "auto",
    kv_memory_mb: KvMemory = 1024,
    max_context: MaxContext = None,
    max_batch_tokens: MaxBatchTokens = None,
    max_sequences: MaxSequences = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(help="NAME=JSON: a decode object served as model@NAME; repeatable"),
    ] = None,
    reward: Annotated[
        list[str] | None, typer.Option(help="NAME=module:function or NAME=FOLDER; repeatable")
    ] = None,
    adapter: Adapters = None,
    no_prefix_cache: NoPrefixCache = False,
    executor: Executor = "auto",
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="folder of memories, or postgresql://...: /v1/memory"),
    ] = None,
    memory_embedder: Annotated[
        str, typer.Option(help="minilm, words, none; default: what the vectors are of")
    ] = "",
    memory_tenant: Annotated[str, typer.Option(help="the tenant of keys without a name")] = (
        "default"
    ),
    memory_keys: Annotated[
        Path | None,
        typer.Option(help='JSON {"ada": "KEY", "acme/bob": "KEY"}: keys and whose they are'),
    ] = None,
    trust_member_header: Annotated[
        bool, typer.Option("--trust-member-header", help="X-Tenfold-Member names the member")
    ] = False,
) -> None:
    """Serve a model over HTTP, with the playground."""
    quiet_logging(logging.INFO)
    presets = _presets(preset or [])
    out = notes()
    with out.status(f"Loading {model} ..."):
        from tenfold.server.run import serve
        from tenfold.server.settings import ServerSettings

        key = api_key or os.environ.get("TENFOLD_API_KEY")
        kept = _memory(
            memory, memory_embedder, memory_tenant, memory_keys, trust=trust_member_header
        )
        keys = ((key,) if key else ()) + (tuple(kept.holders) if kept else ())
        more: dict[str, Any] = {"presets": presets} if presets else {}
        settings = ServerSettings(
            api_keys=keys,
            allow_unauthenticated=allow_unauthenticated,
            memory=kept,
            **more,
        )
        llm = Load(
            model,
            dtype,
            tuple(adapter or ()),
            executor,
            kv_memory_mb,
            max_context,
            not no_prefix_cache,
            max_batch_tokens,
            max_sequences,
        ).llm()
        for text in reward or []:
            split_pair(text, "--reward", "NAME=module:function or NAME=FOLDER")
            add_reward(llm.rewards, text)

    def ready(address: str) -> None:
        out.print(f"\n[bold]{llm.model.name}[/bold] is being served. Ctrl-C stops it.")
        out.print(f"  playground   [bold cyan]{address}/[/bold cyan]")
        out.print(f"  OpenAI API   {address}/v1")
        if kept is not None:
            out.print(f"  memory       {_said(kept)}", markup=False, soft_wrap=True)
        out.print()

    serve(llm, settings, host=host, port=port, ready=ready)


def _memory(
    folder: str | None, embedder: str, tenant: str, keys: Path | None, *, trust: bool
) -> MemorySettings | None:
    """Where memories are and whose keys open which. Raises InvalidRequest for a bad file."""
    from tenfold.server.settings import MemorySettings, Owner

    if folder is None:
        if keys is not None or trust:
            raise InvalidRequest("there is no memory to open", hint="add --memory FOLDER")
        return None
    holders: dict[str, Owner] = {}
    if keys is not None:
        try:
            text = keys.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            why = getattr(e, "strerror", None) or e
            raise InvalidRequest(f"{keys} cannot be read: {why}", param="--memory-keys") from None
        for name, key in parse_object(text, "--memory-keys").items():
            before, slash, member = name.partition("/")
            if not isinstance(key, str) or not key.strip() or key in holders:
                raise InvalidRequest(
                    f"{name!r} in {keys} needs a key of its own", param="--memory-keys"
                )
            holders[key] = Owner(before, member) if slash else Owner(tenant, name)
    owner = Owner(tenant)
    tenants = dict.fromkeys(one.tenant for one in (owner, *holders.values()))
    embedder = _embedder(folder, embedder, list(tenants))
    return MemorySettings(folder, embedder, owner, holders, trust_member_header=trust)


def _embedder(folder: str, name: str, tenants: list[str]) -> str:
    """The one for all tenants: without a name that of the first vectors that are there.

    Raises InvalidRequest where vectors of a tenant are of another one: each search would fail.
    """
    from tenfold.memory.embedders import DEFAULT, check_name, fitting_name
    from tenfold.memory.places import open_store

    check_name(name, "--memory-embedder")
    store = open_store(folder)
    for one in tenants:
        try:
            tenant = store.tenant(one, create=False)
        except UnknownName:
            continue
        try:
            if name or tenant.embedder():
                name = fitting_name(tenant, name, option="--memory-embedder")
        finally:
            tenant.close()
    return name or DEFAULT


def _said(memory: MemorySettings) -> str:
    """Where the memories are, without a password, what embeds them, and whose they are."""
    from tenfold.memory.places import shown

    whose = f"member {memory.owner.member!r} of tenant {memory.owner.tenant!r}"
    if memory.trust_member_header:
        whose = f"the member of tenant {memory.owner.tenant!r} whom X-Tenfold-Member names"
    holders = f", {len(memory.holders)} with keys of their own" if memory.holders else ""
    return f"{shown(memory.folder)}, embedder {memory.embedder}; of {whose}{holders}"


def _presets(pairs: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, text = split_pair(pair, "--preset", "NAME=JSON")
        found[name] = parse_object(text, f"--preset {name}")
    return found
