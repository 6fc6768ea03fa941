"""Chat messages to a prompt, by the jinja template that came with the checkpoint.

On the main path: every chat request is rendered here before it is tokenized. A template is a
program from outside: it runs in jinja's sandbox inside a separate process (`template_worker`) with
limits on memory, output and time, so that a hostile one ends in a TemplateError and never in a
stuck or swollen server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenfold.errors import CheckpointError, TemplateError
from tenfold.models.folders import read_json
from tenfold.models.template_process import TemplateProcess
from tenfold.types import Message

_TIME = 1.5  # seconds one rendering may take


class ChatTemplate:
    """A checkpoint's chat format. `source` is the jinja text, `special` the named special tokens.

    Safe to share between threads; renderings take turns in one process, started on first use.
    """

    def __init__(
        self, source: str, special: Mapping[str, str] | None = None, *, seconds: float = _TIME
    ) -> None:
        self.source = source
        self.special = dict(special or {})
        self._process = TemplateProcess(source, seconds)

    @classmethod
    def from_folder(cls, folder: Path | str, name: str = "default") -> ChatTemplate | None:
        """The template in chat_template.jinja, or in tokenizer_config.json; None if there is none.

        Where tokenizer_config.json lists several, `name` picks one. Raises CheckpointError on files
        that cannot be read.
        """
        folder = Path(folder)
        path = folder / "tokenizer_config.json"
        config = read_json(path) if path.is_file() else {}
        file = folder / "chat_template.jinja"
        source: Any = config.get("chat_template")
        if file.is_file():
            try:
                source = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as e:
                raise CheckpointError(f"{file} cannot be read: {e}", hint="copy it again") from None
        if isinstance(source, list):
            source = _named(source, name)
        if source is None:
            return None
        if not isinstance(source, str):
            raise CheckpointError(
                f"chat_template in {path} is not text",
                hint="expected text or a list of named texts",
            )
        return cls(source, _special_tokens(config))

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        variables: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """The prompt text of a conversation.

        `tools` are JSON schemas in OpenAI's form. `variables`, whose names may be any, and other
        keywords reach the template under their names.
        `continue_final` ends the prompt inside the last message, for the model to continue. Raises
        TemplateError when the template fails, refuses the conversation or exceeds its limits.
        """
        shown = [as_template_message(m) for m in messages]
        if continue_final and not (shown and shown[-1]["content"]):
            raise TemplateError(
                "there is no final message to continue", hint="give the last message some content"
            )
        given = {**(variables or {}), **more}
        context = {
            **self.special,
            **given,
            "messages": shown,
            "tools": [dict(t) for t in tools] if tools else None,
            "documents": given.get("documents"),
            "add_generation_prompt": add_generation_prompt and not continue_final,
        }
        try:
            request = json.dumps(context)
        except (TypeError, ValueError) as e:
            raise TemplateError(
                f"a template variable is not JSON: {e}", hint="pass plain values"
            ) from None
        text = self._process.render(request)
        return _cut_after(text, shown[-1]["content"]) if continue_final else text

    def close(self) -> None:
        """End the rendering process; the next `render` starts another."""
        self._process.close()


def as_template_message(message: Message) -> dict[str, Any]:
    """A message as templates expect it: OpenAI's shape, with call arguments as objects."""
    shown: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    if message.name is not None:
        shown["name"] = message.name
    if message.tool_call_id is not None:
        shown["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        shown["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return shown


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # the model wrote no JSON: show it its own words


def _cut_after(text: str, content: str) -> str:
    """`text` up to the end of the last occurrence of the final message's content."""
    final = content.strip()
    start = text.rfind(final)
    if start < 0:
        raise TemplateError(
            "the template does not show the final message as it was written",
            hint="continue_final works with templates that copy the content",
        )
    kept = text[: start + len(final)]
    trailing = content[len(content.rstrip()) :]
    return kept + trailing if text[len(kept) :].startswith(trailing) else kept


def _named(items: list[Any], name: str) -> str | None:
    """One of tokenizer_config.json's named templates; None if the list is empty."""
    found = {i.get("name"): i.get("template") for i in items if isinstance(i, Mapping)}
    if not found:
        return None
    if name not in found:
        raise CheckpointError(
            f"there is no chat template named {name!r}",
            hint=f"known: {', '.join(sorted(map(str, found)))}",
        )
    return found[name]


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and its like, which templates refer to by name."""
    found = {}
    for key, value in config.items():
        text = value.get("content") if isinstance(value, Mapping) else value
        if key.endswith("_token") and isinstance(text, str):
            found[key] = text
    return found
