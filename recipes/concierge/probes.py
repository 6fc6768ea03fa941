"""Watch a run: accuracy of the first token of a value, by number of records and slots.

Fluency comes by itself, looking values up does not: this is the figure that tells.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from tenfold.cli.benchmarks.concierge_teacher import looked_up
from tenfold.rewards.facts import facts_of
from tenfold.types import as_messages

from .batches import Batch, collate, encode, pack
from .data import Corpus, held_out_episodes
from .episodes import Episode
from .model import evaluating

Tally = dict[tuple[int, int], tuple[int, int]]  # (records, slots) -> (right, all)
PROBES = ("lookup", "long_seen", "short_seen", "short_unseen")


def value_start_accuracy(
    model: LlamaForCausalLM, body: Callable[..., Any], batches: list[Batch]
) -> Tally:
    """Return (right, all) first tokens of values, teacher-forced, by (records, slots)."""
    tally: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    with evaluating(model), torch.autocast("cpu", torch.bfloat16):
        for batch in batches:
            rows, places = batch.starts[:, 0], batch.starts[:, 1]
            hidden = body(
                batch.tokens[:, :-1], documents=batch.documents[:, :-1], use_cache=False
            ).last_hidden_state
            logits = model.lm_head(hidden[rows, places - 1] * model.readout)
            right = logits.argmax(-1) == batch.tokens[rows, places]
            for size, hit in zip(batch.sizes, right.tolist(), strict=True):
                tally[size][0] += hit
                tally[size][1] += 1
    return {key: (right, total) for key, (right, total) in sorted(tally.items())}


def drop_repeated_names(episode: Episode) -> Episode:
    """Return the episode without the spans that only repeat a record's name: they need no look-up.

    Names that stand in the last user message or earlier in the same answer are repeated.
    """
    names = {record.name for record in facts_of(as_messages(episode.chat())).records}
    messages, asked = [], ""
    for message in episode.messages:
        asked = message.text if message.role == "user" else asked
        values = looked_up(message.text, message.values, names, asked)
        messages.append(replace(message, values=values))
    return replace(episode, messages=messages)


def probe_batches(
    corpus: Corpus, tokenizer: Tokenizer, rows: int, length: int, count: int = 48
) -> dict[str, list[Batch]]:
    """Return small held-out sets in batches of the very shape of training."""
    out = {}
    for name in PROBES:
        episodes = held_out_episodes(corpus, name, count, random.Random(f"probe-{name}"))
        encoded = [encode(tokenizer, drop_repeated_names(episode)) for episode in episodes]
        packed = pack([row for row in encoded if len(row.tokens) <= length], length)
        packed += [[]] * (-len(packed) % rows)
        out[name] = [collate(packed[i : i + rows], length, 0) for i in range(0, len(packed), rows)]
    return out
