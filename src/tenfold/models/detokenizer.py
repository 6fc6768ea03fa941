"""Text that grows with the tokens: incremental decoding, exact and never half a character.

On the main path: every generated token of every branch passes through `Detokenizer.push`. The
pieces it returns add up to `Tokenizer.decode` of all ids, character for character. No torch.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from tenfold.models.tokenizer import Tokenizer, fallback_byte

_BROKEN = "\ufffd"


class _Spelling(Protocol):
    """Turns ids that are known and wanted into text; one per way tokens spell text."""

    def push(self, token_id: int) -> str: ...
    def flush(self) -> str: ...
    def copy(self) -> _Spelling: ...


class Detokenizer:
    """Decodes one growing sequence of ids.

    `prefix` are ids before the first pushed one (the prompt's): their text is not returned, but a
    sentencepiece word after them keeps its space, and a character begun in them is finished.
    `keep` are special ids to show even when special ones are skipped (marks of tool calls).
    """

    __slots__ = ("_dropped", "_shown", "_spelling")

    def __init__(
        self,
        tokenizer: Tokenizer,
        skip_special: bool = True,
        prefix: Sequence[int] = (),
        keep: Iterable[int] = (),
    ) -> None:
        self._dropped = tokenizer.special_ids - set(keep) if skip_special else frozenset[int]()
        self._spelling = _spelling(tokenizer)
        self._shown = 0  # characters still to come that belong to the prefix
        for token_id in prefix:
            self.push(token_id)
        held = self._spelling.copy().flush() if prefix else ""
        if _BROKEN not in held:
            self._shown = len(held)

    def push(self, token_id: int) -> str:
        """The text that is certain now and was not before; "" while a character is incomplete."""
        return "" if token_id in self._dropped else self._new(self._spelling.push(token_id))

    def flush(self) -> str:
        """The rest, at the end of the sequence; bytes that never became a character as U+FFFD."""
        return self._new(self._spelling.flush())

    def _new(self, text: str) -> str:
        if not self._shown or not text:
            return text
        cut = min(self._shown, len(text))
        self._shown -= cut
        return text[cut:]

    def copy(self) -> Detokenizer:
        """An independent detokenizer in the same state, for a forked branch."""
        other = object.__new__(Detokenizer)
        other._dropped, other._shown = self._dropped, self._shown
        other._spelling = self._spelling.copy()
        return other


def _spelling(tokenizer: Tokenizer) -> _Spelling:
    config = tokenizer.decoder_config
    steps = config.get("decoders", [config])
    if len(steps) == 1 and steps[0].get("type") == "ByteLevel":
        return _Bytes(tokenizer)
    plan = _piece_plan(steps)
    if plan is not None:
        return _Pieces(tokenizer, *plan)
    return _Window(tokenizer)


class _Bytes:
    """Byte-level vocabularies: concatenated bytes through an incremental UTF-8 decoder."""

    __slots__ = ("_table", "_utf8")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._table = tokenizer.all_token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        if 0 <= token_id < len(self._table):
            return self._utf8.decode(self._table[token_id])
        return ""

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)

    def copy(self) -> _Bytes:
        other = object.__new__(_Bytes)
        other._table = self._table
        other._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        other._utf8.setstate(self._utf8.getstate())
        return other


def _piece_plan(steps: Sequence[dict[str, Any]]) -> tuple[dict[str, str], bool, str, int] | None:
    """(replacements, byte fallback, character to strip, how often) of a sentencepiece-like decoder.

    None if the decoder does anything else, so that the caller decodes by window instead.
    """
    replaced: dict[str, str] = {}
    fallback, fused, strip, times = False, False, "", 0
    for step in steps:
        kind = step.get("type")
        if kind == "Replace" and not fused and not fallback and "String" in step["pattern"]:
            replaced[step["pattern"]["String"]] = step["content"]
        elif kind == "ByteFallback" and not fused:
            fallback = True
        elif kind == "Fuse":
            fused = True
        elif kind == "Strip" and fused and not strip and not step["stop"]:
            strip, times = step["content"], step["start"]
        else:
            return None
    return (replaced, fallback, strip, times) if fused else None


class _Pieces:
    """Sentencepiece-like vocabularies: pieces with "▁" for a space, unknown characters as bytes.

    A run of byte tokens is text only if the whole run is UTF-8, so it is held until the run ends.
    """

    __slots__ = ("_fallback", "_replaced", "_run", "_strip", "_strips", "_tokenizer")

    def __init__(
        self, tokenizer: Tokenizer, replaced: dict[str, str], fallback: bool, strip: str, times: int
    ) -> None:
        self._tokenizer = tokenizer
        self._replaced = replaced
        self._fallback = fallback
        self._strip = strip
        self._strips = times  # how many leading characters may still be dropped
        self._run = b""

    def push(self, token_id: int) -> str:
        token = self._tokenizer.backend.id_to_token(token_id) if token_id >= 0 else None
        if token is None:
            return ""
        for old, new in self._replaced.items():
            token = token.replace(old, new)
        byte = fallback_byte(token) if self._fallback else None
        if byte is not None:
            self._run += bytes([byte])
            return ""
        return self._emit(self._end_run() + token)

    def _end_run(self) -> str:
        run, self._run = self._run, b""
        try:
            return run.decode()
        except UnicodeDecodeError:
            return _BROKEN * len(run)

    def _emit(self, text: str) -> str:
        while self._strips and text:
            if text[0] != self._strip:
                self._strips = 0
                break
            text = text[1:]
            self._strips -= 1
        return text

    def flush(self) -> str:
        return self._emit(self._end_run())

    def copy(self) -> _Pieces:
        other = object.__new__(_Pieces)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other


class _Window:
    """Any other decoder: decode a short window twice and return the difference.

    The window starts where the last certain text started, so the cost per token is small. Exact for
    decoders that treat a token by its neighbours only.
    """

    __slots__ = ("_ids", "_known", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: tuple[int, ...] = ()  # the window
        self._known = 0  # how many of its ids have their text returned

    def push(self, token_id: int) -> str:
        if token_id < 0:
            return ""
        self._ids += (token_id,)
        text = self._new_text()
        if not text or text.endswith(_BROKEN):
            return ""
        self._ids = self._ids[self._known :]
        self._known = len(self._ids)
        return text

    def _new_text(self) -> str:
        decode = self._tokenizer.decode
        before = decode(self._ids[: self._known], skip_special=False)
        return decode(self._ids, skip_special=False)[len(before) :]

    def flush(self) -> str:
        text = self._new_text()
        self._known = len(self._ids)
        return text

    def copy(self) -> _Window:
        other = _Window(self._tokenizer)
        other._ids, other._known = self._ids, self._known
        return other
