"""Output that must match a JSON schema, a regex or a Lark grammar, token by token.

llguidance does the parsing: at each step it gives the set of tokens that keep the text a prefix of
something the grammar accepts. This module builds its tokenizer once per vocabulary, turns its
complaints into `InvalidRequest`, and gives the sampler a state it can mask with and fork.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from tenfold.errors import EngineError, InvalidRequest
from tenfold.types import Constraint

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

# JSON allows any amount of white space between tokens and a model at loose ends takes it; this is
# room for a line break and ten levels of four spaces.
_JSON_OPTIONS: Final[JsonCompileOptions] = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,41}"}


class ConstraintState:
    """How far one answer has come in its grammar. Mutable; `copy` it when a branch forks."""

    __slots__ = ("_allowed", "_matcher", "_vocab")

    def __init__(self, matcher: LLMatcher, vocab: int) -> None:
        self._matcher = matcher
        self._vocab = vocab
        self._allowed: torch.Tensor | None = None  # of the current position; never mutated

    def mask(self) -> torch.Tensor:
        """Which tokens may come next: bool [vocab] on the CPU, to be read only.

        End-of-text ids are among them exactly when the text is complete. Raises EngineError when
        the grammar outgrows llguidance's limits.
        """
        if self._allowed is None:
            packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            self._check()
            bits = np.unpackbits(packed, count=self._vocab, bitorder="little")
            self._allowed = torch.from_numpy(bits).view(torch.bool)
        return self._allowed

    def apply(self, logits: torch.Tensor) -> None:
        """Set what may not come next to -inf, in place; logits: [vocab], or wider when padded."""
        allowed = self.mask()
        logits[len(allowed) :] = -torch.inf
        real = logits[: len(allowed)]
        real.masked_fill_(~allowed[: len(real)].to(real.device), -torch.inf)

    def advance(self, token_id: int) -> None:
        """Record that `token_id` was generated. Raises EngineError if it was not allowed."""
        self._allowed = None
        if not self._matcher.consume_token(token_id):
            reason = _first_line(self._matcher.get_error()) or "it was not allowed"
            raise EngineError(f"token {token_id} does not fit the constraint: {reason}")

    @property
    def is_complete(self) -> bool:
        """The text so far satisfies the constraint, so that end-of-text is allowed now."""
        return bool(self._matcher.is_accepting())

    @property
    def must_end(self) -> bool:
        """Nothing but end-of-text can follow."""
        return bool(self._matcher.is_stopped())

    def copy(self) -> ConstraintState:
        """An independent state at the same position, for a forked branch."""
        other = ConstraintState(self._matcher.deep_copy(), self._vocab)
        other._allowed = self._allowed
        return other

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = _first_line(self._matcher.get_error())
            raise EngineError(f"the constraint could not be followed: {reason}")


class ConstraintFactory:
    """Compiles constraints for one tokenizer.

    `token_bytes` [vocab] holds the bytes each id stands for; ids in `special_ids` (end-of-text is
    always one) never match as text. Where the grammar leaves one continuation only, the tokens
    allowed are those `encode` would give for it, which is how the model has seen such text; without
    `encode` they are the longest that fit. Building the token trie is put off until the first
    `compile`, so a server that never constrains does not pay for it.
    """

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        eos_id: int | Sequence[int],
        special_ids: Collection[int] = (),
        encode: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        eos_ids = [eos_id] if isinstance(eos_id, int) else list(eos_id)
        self._vocabulary = _Vocabulary(token_bytes, eos_ids, special_ids, encode)
        self._tokenizer: LLTokenizer | None = None

    def compile(self, constraint: Constraint) -> ConstraintState:
        """A state at the beginning of the text.

        Raises InvalidRequest with llguidance's reason when the constraint cannot be used; `param`
        is `response_format` for the JSON kinds and `constraint` for the others.
        """
        from llguidance import LLMatcher

        param = "response_format" if constraint.kind.startswith("json") else "constraint"
        try:
            grammar = _grammar(constraint, param)
            matcher = LLMatcher(self._built(), grammar, log_level=0)
        except (ValueError, RecursionError) as e:  # nested too deeply, for one
            raise _unusable(constraint, param, str(e)) from None
        if matcher.is_error():
            raise _unusable(constraint, param, matcher.get_error())
        return ConstraintState(matcher, len(self._vocabulary.tokens))

    def _built(self) -> LLTokenizer:
        if self._tokenizer is None:
            from llguidance import LLTokenizer, TokenizerWrapper

            vocabulary = self._vocabulary
            self._tokenizer = LLTokenizer(
                TokenizerWrapper(vocabulary),
                n_vocab=len(vocabulary.tokens),
                eos_token=vocabulary.eos_ids,
            )
            if vocabulary.encode is None:
                vocabulary.encode = self._tokenizer.greedy_tokenize
        return self._tokenizer


class _Vocabulary:
    """The tokenizer in the shape llguidance reads; attribute names are its own."""

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        eos_ids: list[int],
        special_ids: Collection[int],
        encode: Callable[[str], Sequence[int]] | None,
    ) -> None:
        self.tokens = list(token_bytes)
        self.eos_ids = eos_ids
        self.eos_token_id = eos_ids[0]
        self.bos_token_id = None
        self.special_token_ids = sorted({*special_ids, *eos_ids})
        self.encode = encode

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return list(self.encode(text)) if self.encode is not None else []


def _grammar(constraint: Constraint, param: str) -> str:
    """llguidance's grammar text for the constraint."""
    from llguidance import LLMatcher

    value: Any = constraint.value
    kind = constraint.kind
    if kind == "json_object":
        value = {"type": "object"}
    if kind in ("json_schema", "json_object"):
        if not isinstance(value, dict):
            raise InvalidRequest(f"a JSON schema is an object, not {value!r}", param=param)
        try:
            schema = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as e:
            raise InvalidRequest(f"the schema is not JSON: {e}", param=param) from None
        return str(LLMatcher.grammar_from_json_schema(schema, defaults=_JSON_OPTIONS))
    if kind not in ("regex", "grammar"):
        raise InvalidRequest(
            f"unknown constraint kind {kind!r}",
            param=param,
            hint="known: json_schema, json_object, regex, grammar",
        )
    if not isinstance(value, str):
        raise InvalidRequest(f"a {kind} is text, not {value!r}", param=param)
    if kind == "regex":
        return str(LLMatcher.grammar_from_regex(value))
    return str(LLMatcher.grammar_from_lark(value))


def _unusable(constraint: Constraint, param: str, message: str) -> InvalidRequest:
    """llguidance's refusal without the parser state it appends."""
    reason = message.split("<state>")[0].strip()
    return InvalidRequest(f"the {constraint.kind} cannot be used: {reason}", param=param)


def _first_line(message: str) -> str:
    """llguidance's reason without the parser state it appends."""
    return message.strip().split("\n", 1)[0]
