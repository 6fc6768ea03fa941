"""What a person may set about an engine."""

from __future__ import annotations

from dataclasses import dataclass

from tenfold.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Sizes and limits. Raises InvalidRequest for impossible ones."""

    executor: str = "auto"  # "torch", or "auto": the best that runs here
    block_size: int = 16  # tokens in a KV block
    kv_blocks: int | None = None  # None: as many as fit in kv_memory_mb
    kv_memory_mb: int = 1024
    max_context: int | None = None  # None: the model's own
    max_batch_tokens: int = 2048  # prefill and decode tokens in one step
    max_sequences: int = 256  # sequences in one step
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        least = {"kv_blocks": 2, "max_context": 2}
        for name in (*least, "block_size", "kv_memory_mb", "max_batch_tokens", "max_sequences"):
            value, low = getattr(self, name), least.get(name, 1)
            if value is not None and value < low:
                raise InvalidRequest(f"{name} must be at least {low}, not {value}", param=name)
        if self.max_batch_tokens < self.max_sequences:
            raise InvalidRequest(
                "max_batch_tokens must not be below max_sequences",
                param="max_batch_tokens",
                hint="every sequence in a step needs at least one token",
            )
