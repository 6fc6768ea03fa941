"""Where a model's folder is (shipped, on disk, on the Hugging Face hub), and its JSON files.

On the main path: `loading` resolves every model and adapter name here, first thing.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from tenfold.errors import CheckpointError, UnknownName

_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja"]
_HUB = "hf:"


def embedded_root() -> Path:
    """The folder of the models shipped with tenfold (it may be absent)."""
    return Path(str(resources.files("tenfold.models").joinpath("embedded")))


def embedded_names() -> list[str]:
    """Names of the models shipped with tenfold, sorted."""
    root = embedded_root()
    if not root.is_dir():
        return []
    marks = ("config.json", "adapter_config.json")
    return sorted(p.name for p in root.iterdir() if any((p / m).is_file() for m in marks))


def locate(name_or_path: str | Path) -> Path:
    """The folder that a name means: an embedded model, else a folder's path, else `hf:owner/name`.

    Raises UnknownName or CheckpointError when there is none, CheckpointError when it is a file or
    cannot be downloaded.
    """
    text = str(name_or_path)
    if text.startswith(_HUB):
        return _download(text.removeprefix(_HUB))
    names = embedded_names()
    if text in names:
        return embedded_root() / text
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file, not a model folder",
            hint="give the folder that holds config.json, tokenizer.json and model.safetensors; "
            "single-file formats (.pt, .bin, .gguf) are not read",
        )
    if text.startswith((".", "/", "~")):
        raise CheckpointError(f"there is no folder {path}", hint="is the path right?")
    if text.count("/") == 1:
        raise CheckpointError(
            f"{text!r} is neither an embedded model nor a folder here",
            hint=f"hf:{text} fetches it from the Hugging Face hub",
        )
    raise UnknownName(
        "model", text, [*names, "<path to a folder>", "hf:<owner>/<name>"], param="model"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the model folder. Raises CheckpointError if absent or broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} has no {path.name}", hint="is this a complete model folder?"
        ) from None
    except RecursionError:
        raise CheckpointError(
            f"{path} nests too deeply to be read", hint="this is no model's file; copy it again"
        ) from None
    except (OSError, ValueError) as e:  # bad UTF-8, bad JSON, a number of thousands of digits
        raise CheckpointError(f"{path} cannot be read: {e}", hint="copy the file again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object", hint="copy the file again")
    return found


def _download(repository: str) -> Path:
    """The local snapshot of a hub repository, `owner/name` or `owner/name@revision`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    name, _, revision = repository.partition("@")
    try:
        found = snapshot_download(name, revision=revision or None, allow_patterns=_FILES)
    except HFValidationError as e:
        raise CheckpointError(
            f"{repository!r} is not a hub repository: {e}", hint="write hf:owner/name"
        ) from None
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as e:
        raise CheckpointError(
            f"{name} is not in the local cache and cannot be downloaded: {type(e).__name__}: {e}",
            hint=f"on a machine with access run `hf download {name} --local-dir FOLDER`, copy the "
            "folder here and give its path",
        ) from None
    return Path(found)
