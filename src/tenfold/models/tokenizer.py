"""Text to token ids and back, from a model folder's tokenizer.json.

On the main path: prompts are encoded here, and the bytes of each token feed grammars; what comes
back token by token goes through `detokenizer.Detokenizer`. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer as Backend

from tenfold.errors import CheckpointError
from tenfold.models.folders import read_json
from tenfold.models.values import CONFIG, token_ids

Style = Literal["byte_level", "pieces", "other"]


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2 §2.2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


_ALPHABET = _byte_alphabet()


class Tokenizer:
    """A tokenizer with the ids that begin and end text. Immutable; safe to share between threads.

    `config` is tokenizer_config.json; `bos_id` and `eos_ids` are what the model folder declares.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        config: Mapping[str, Any] | None = None,
        bos_id: int | None = None,
        eos_ids: Sequence[int] = (),
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.config = dict(config or {})
        tokens = backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(tokens.values(), default=-1) + 1  # ids are below this
        self.bos_id = self.named_id("bos_token") if bos_id is None else bos_id
        eos = self.named_id("eos_token")
        self.eos_ids = frozenset(eos_ids) | ({eos} if eos is not None else frozenset())
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        self._added_ids = frozenset(added)

    @classmethod
    def from_folder(cls, folder: Path | str) -> Tokenizer:
        """Read tokenizer.json and the configs beside it. Raises CheckpointError if it cannot."""
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            slow = [
                n for n in ("tokenizer.model", "vocab.json", "vocab.txt") if (folder / n).exists()
            ]
            hint = "load it with transformers' AutoTokenizer and save_pretrained to convert it"
            raise CheckpointError(
                f"{folder} has no tokenizer.json" + (f", only {slow[0]}" if slow else ""),
                hint=hint if slow else "is this a complete model folder?",
            )
        try:
            backend = Backend.from_file(str(path))
        except Exception as e:  # noqa: BLE001  (the library raises bare Exception on any bad file)
            raise CheckpointError(
                f"{path} cannot be read: {e}", hint="the file is damaged or of an unknown kind"
            ) from None
        generation, model = "generation_config.json", _config(folder / CONFIG)
        found = cls(backend, config=_config(folder / "tokenizer_config.json"))
        # The embeddings may have more rows than there are tokens.
        rows = model.get("vocab_size")
        size = max(found.vocab_size, rows if isinstance(rows, int) else 0)
        eos = token_ids(_config(folder / generation), "eos_token_id", size, generation)
        found.eos_ids |= {*eos, *token_ids(model, "eos_token_id", size)}
        if found.bos_id is None:
            ids = token_ids(model, "bos_token_id", size)
            found.bos_id = ids[0] if ids else None
        return found

    def named_id(self, key: str) -> int | None:
        """Id of a special token tokenizer_config.json names, such as `bos_token`; None if none."""
        value = self.config.get(key)
        text = value.get("content") if isinstance(value, Mapping) else value
        return self.backend.token_to_id(text) if isinstance(text, str) else None

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a text. Special tokens written out in the text become their ids.

        Halves of surrogate pairs, which JSON can smuggle in, count as U+FFFD.
        """
        try:
            found = self.backend.encode(text, add_special_tokens=add_special_tokens)
        except (TypeError, UnicodeEncodeError):
            whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            found = self.backend.encode(whole, add_special_tokens=add_special_tokens)
        return list(found.ids)

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a raw prompt, begun as the model was trained (usually by the bos token).

        What the tokenizer would put behind a text (eos) is left out: the text is to be continued.
        """
        return [*self.prompt_prefix, *self.encode(text)]

    @cached_property
    def prompt_prefix(self) -> tuple[int, ...]:
        """The ids put before a raw prompt: tokenizer.json's, unless `add_bos_token` says else."""
        whole = self.backend.encode("a", add_special_tokens=True)
        prefix = []
        for token, special in zip(whole.ids, whole.special_tokens_mask, strict=True):
            if not special:
                break
            prefix.append(int(token))
        wanted = self.config.get("add_bos_token")
        if self.bos_id is not None and wanted is True and self.bos_id not in prefix:
            return (self.bos_id, *prefix)
        if wanted is False:
            prefix = [t for t in prefix if t != self.bos_id]
        return tuple(prefix)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of the ids; bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary are
        left out."""
        return str(self.backend.decode(list(ids), skip_special_tokens=skip_special))

    @cached_property
    def decoder_config(self) -> dict[str, Any]:
        """The `decoder` object of tokenizer.json."""
        found = json.loads(self.backend.to_str()).get("decoder")
        return found if isinstance(found, dict) else {}

    @cached_property
    def style(self) -> Style:
        """How tokens spell text: byte-level alphabets, sentencepiece pieces ("▁"), or otherwise."""
        steps = self.decoder_config.get("decoders", [self.decoder_config])
        kinds = {step.get("type") for step in steps}
        if "ByteLevel" in kinds:
            return "byte_level"
        if kinds & {"ByteFallback", "Metaspace", "Replace"}:
            return "pieces"
        return "other"

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token adds to a text; b"" for ids outside the vocabulary.

        A piece's leading "▁" counts as a space even where decoding would drop it at a text's start.
        """
        token = self.backend.id_to_token(token_id)
        if token is None:
            return b""
        if self.style == "byte_level":
            return spell_byte_level(token)
        if self.style == "pieces" and token_id not in self._added_ids:
            byte = fallback_byte(token)
            return bytes([byte]) if byte is not None else token.replace("▁", " ").encode()
        return str(token).encode()

    @cached_property
    def all_token_bytes(self) -> tuple[bytes, ...]:
        """`token_bytes` of every id below `vocab_size`; built once, on first use."""
        return tuple(self.token_bytes(i) for i in range(self.vocab_size))

    def check_fits(self, vocab_size: int) -> None:
        """Raise CheckpointError if the model has no row for some token."""
        if self.vocab_size > vocab_size:
            raise CheckpointError(
                f"the tokenizer has ids up to {self.vocab_size - 1}, the model's vocabulary ends "
                f"at {vocab_size - 1}",
                hint="tokenizer.json belongs to another model, or the embeddings were not resized",
            )


def spell_byte_level(token: str) -> bytes:
    """Bytes of a byte-level token; one with a character outside the alphabet spells itself."""
    try:
        return bytes(_ALPHABET[c] for c in token)
    except KeyError:
        return token.encode()


def fallback_byte(token: str) -> int | None:
    """The byte a "<0x0A>" token stands for, or None."""
    if len(token) != 6 or not token.startswith("<0x") or not token.endswith(">"):
        return None
    try:
        return int(token[3:5], 16)
    except ValueError:
        return None


def _config(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one if the file is absent. Raises CheckpointError if broken."""
    return read_json(path) if path.is_file() else {}
