"""`tenfold doctor`."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from tenfold import __version__
from tenfold.cli.arguments import AsJson
from tenfold.cli.machine import machine
from tenfold.cli.output import console, write_json

_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "fastapi", "uvicorn", "llguidance")
_OPTIONAL = {
    "transformers": "training recipes, comparisons",
    "peft": "training adapters",
    "matplotlib": "plots",
}


def command(as_json: AsJson = False) -> None:
    """Show what runs here and why."""
    found = report()
    if as_json:
        write_json(found)
    else:
        _print(found)


def report() -> dict[str, Any]:
    """Everything `tenfold doctor` knows, as JSON."""
    from tenfold import kernels
    from tenfold.kernels import library

    return {
        "tenfold": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "optional": {name: _version(name) for name in _OPTIONAL},
        "machine": machine(),
        "cpu_features": library.cpu_features(),
        "native_library": {
            "loaded": library.absent() is None,
            "reason": library.absent(),
            "isa": library.isa(),
            "compiler": library.compiler(),
        },
        "backends": [asdict(r) for op in kernels.ops() for r in kernels.backends(op)],
        "models": _models(),
        "playground": _playground(),
        "api_key_set": bool(os.environ.get("TENFOLD_API_KEY")),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _models() -> list[dict[str, Any]]:
    from tenfold.models.checkpoint import Checkpoint
    from tenfold.models.folders import embedded_names, embedded_root
    from tenfold.models.spec import DecoderSpec

    models = []
    for name in embedded_names():
        folder = embedded_root() / name
        megabytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
        entry: dict[str, Any] = {"name": name, "megabytes": round(megabytes, 1)}
        if (folder / "config.json").is_file():
            spec = DecoderSpec.from_hf(Checkpoint(folder).config)
            token = 2 * spec.layers * spec.kv_heads * spec.head_dim * 4
            entry["kv_bytes_per_token_fp32"] = token
            entry["kv_tokens_in_1024_mb"] = 1024 * 2**20 // token
        models.append(entry)
    return models


def _playground() -> bool:
    spec = find_spec("tenfold.server")
    folders = spec.submodule_search_locations if spec else None
    return any(os.path.isfile(os.path.join(f, "static", "index.html")) for f in folders or ())


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    m = found["machine"]
    out.print(f"[bold]tenfold {found['tenfold']}[/bold]  Python {found['python']}")
    out.print(f"{m['cpu']}, {m['cores']} cores, {m['memory_gb']} GB")
    out.print(f"features: {' '.join(found['cpu_features']) or 'unknown (no native library)'}")
    packages = {**found["packages"], **found["optional"]}
    out.print(", ".join(f"{n} {v}" for n, v in packages.items() if v))
    for name, v in found["optional"].items():
        if v is None:
            out.print(f"not installed: {name} ({_OPTIONAL[name]})", style="yellow")
    lib = found["native_library"]
    if lib["loaded"]:
        out.print(f"native library: {lib['isa']} kernels, built with {lib['compiler']}")
    else:
        out.print(Text(f"no native library: {lib['reason']}", style="bold yellow"))

    table = Table("operation", "backend", "", "why", title="Backends")
    for b in found["backends"]:
        state = "[green]picked[/green]" if b["picked"] else "ready" if b["available"] else "absent"
        table.add_row(b["op"], b["backend"], state, b["reason"] or "")
    out.print(table)

    models = Table("model", "MB", "KV bytes a token", "tokens in 1 GiB", title="Embedded models")
    for entry in found["models"]:
        keys = ("name", "megabytes", "kv_bytes_per_token_fp32", "kv_tokens_in_1024_mb")
        models.add_row(*(str(entry.get(k, "-")) for k in keys))
    if found["models"]:
        out.print(models)
    else:
        out.print("no embedded models in this build: give --model a folder", style="yellow")
    if not found["playground"]:
        out.print("the playground's bundle is absent: `make playground` builds it", style="yellow")
