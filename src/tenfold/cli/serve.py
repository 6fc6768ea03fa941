"""`tenfold serve`."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any

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
        list[str] | None, typer.Option(help="NAME=module:function; repeatable")
    ] = None,
    adapter: Adapters = None,
    no_prefix_cache: NoPrefixCache = False,
    executor: Executor = "auto",
) -> None:
    """Serve a model over HTTP, with the playground."""
    quiet_logging(logging.INFO)
    presets = _presets(preset or [])
    out = notes()
    with out.status(f"Loading {model} ..."):
        from tenfold.server.run import serve
        from tenfold.server.settings import ServerSettings

        key = api_key or os.environ.get("TENFOLD_API_KEY")
        more: dict[str, Any] = {"presets": presets} if presets else {}
        settings = ServerSettings(
            api_keys=(key,) if key else (), allow_unauthenticated=allow_unauthenticated, **more
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
            split_pair(text, "--reward", "NAME=module:function")
            add_reward(llm.rewards, text)

    def ready(address: str) -> None:
        out.print(f"\n[bold]{llm.model.name}[/bold] is being served. Ctrl-C stops it.")
        out.print(f"  playground   [bold cyan]{address}/[/bold cyan]")
        out.print(f"  OpenAI API   {address}/v1\n")

    serve(llm, settings, host=host, port=port, ready=ready)


def _presets(pairs: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, text = split_pair(pair, "--preset", "NAME=JSON")
        found[name] = parse_object(text, f"--preset {name}")
    return found
