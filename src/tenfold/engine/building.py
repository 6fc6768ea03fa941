"""From a loaded model and settings to a running engine: which executor, how much KV memory."""

from __future__ import annotations

from tenfold.engine.async_engine import AsyncEngine
from tenfold.engine.batch import Executor
from tenfold.engine.constraint import ConstraintFactory
from tenfold.engine.engine import Engine
from tenfold.engine.settings import EngineSettings
from tenfold.errors import InvalidRequest, UnknownName
from tenfold.models.decoder import Decoder
from tenfold.models.detokenizer import Detokenizer
from tenfold.models.loading import LoadedModel
from tenfold.models.tokenizer import Tokenizer
from tenfold.models.tool_calls import markers, tool_format

EXECUTORS = ("torch",)


def kv_bytes_per_block(decoder: Decoder, block_size: int) -> int:
    """Bytes of keys and values that one block holds over all layers."""
    return block_size * decoder.spec.kv_bytes_per_token(bits=8 * decoder.dtype.itemsize)


def make_executor(decoder: Decoder, settings: EngineSettings) -> Executor:
    """The executor the settings ask for. Raises UnknownName, InvalidRequest for too little memory.

    "auto" is "torch", the only one so far. Without `kv_blocks`, memory is taken up to
    `kv_memory_mb`, but no more than `max_sequences` full contexts could use.
    """
    from tenfold.engine.torch_executor import TorchExecutor

    if settings.executor not in ("auto", *EXECUTORS):
        raise UnknownName("executor", settings.executor, ("auto", *EXECUTORS), param="executor")
    longest = decoder.spec.max_positions
    if settings.max_context is not None and settings.max_context > longest:
        raise InvalidRequest(
            f"max_context {settings.max_context} is more than the model's {longest} positions",
            param="max_context",
            hint=f"at most {longest}",
        )
    blocks = settings.kv_blocks
    if blocks is None:
        fit = settings.kv_memory_mb * 2**20 // kv_bytes_per_block(decoder, settings.block_size)
        context = settings.max_context or longest
        useful = settings.max_sequences * (-(-context // settings.block_size) + 1)
        blocks = min(fit, useful)
    if blocks < 2:
        raise InvalidRequest(
            f"KV memory for {blocks} blocks of {settings.block_size} tokens is too little",
            param="kv_memory_mb",
            hint="raise --kv-memory-mb",
        )
    return TorchExecutor(decoder, num_blocks=blocks, block_size=settings.block_size)


def build_engine(model: LoadedModel, settings: EngineSettings) -> AsyncEngine:
    """An engine for the model, its end-of-text tokens and its tokenizer."""
    tokenizer = model.tokenizer
    shown = tool_marks(model)
    engine = Engine(
        make_executor(model.decoder, settings),
        lambda prompt: Detokenizer(tokenizer, prefix=prompt, keep=shown),
        eos_ids=tokenizer.eos_ids,
        context_length=settings.max_context or model.spec.max_positions,
        settings=settings,
    )
    return AsyncEngine(engine, constraint_factory(tokenizer))


def tool_marks(model: LoadedModel) -> frozenset[int]:
    """Special tokens that open and close tool calls: they must reach whoever parses the text."""
    template = model.chat_template
    form = tool_format(template.source) if template else None
    if form is None:
        return frozenset()
    ids = (model.tokenizer.backend.token_to_id(text) for text in markers(form))
    return frozenset(i for i in ids if i is not None)


def constraint_factory(tokenizer: Tokenizer) -> ConstraintFactory | None:
    """Constrained output needs an end-of-text token; None without one."""
    if not tokenizer.eos_ids:
        return None
    return ConstraintFactory(
        tokenizer.all_token_bytes,
        sorted(tokenizer.eos_ids),
        tokenizer.special_ids,
        tokenizer.encode,
    )
