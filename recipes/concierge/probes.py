"""Watch a run: accuracy of the first token of a value, by number of records and slots.

Fluency comes by itself, looking values up does not: this is the figure that tells.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from .batches import Batch, collate, encode
from .data import Corpus, held_out_episodes

Tally = dict[tuple[int, int], tuple[int, int]]  # (records, slots) -> (right, all)


@torch.no_grad()
def value_start_accuracy(model: LlamaForCausalLM, batches: list[Batch]) -> Tally:
    """Return (right, all) first tokens of values, teacher-forced, by (records, slots)."""
    tally: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    model.eval()
    for batch in batches:
        if not len(batch.starts):
            continue
        rows, places = batch.starts[:, 0], batch.starts[:, 1]
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(batch.tokens, use_cache=False).last_hidden_state
            guess = model.lm_head(hidden[rows, places - 1]).argmax(-1)
        right = (guess == batch.tokens[rows, places]).tolist()
        for row, hit in zip(rows.tolist(), right, strict=True):
            cell = tally[batch.rows[row].records, batch.rows[row].slots]
            cell[0] += hit
            cell[1] += 1
    model.train()
    return {key: (right, total) for key, (right, total) in sorted(tally.items())}


def probe_batches(
    corpus: Corpus, tokenizer: Tokenizer, max_length: int, count: int = 60
) -> dict[str, list[Batch]]:
    """Return small held-out sets: look-ups in 1 and in up to 3 records, dialogues seen, unseen."""
    sets = {
        "lookup1": held_out_episodes(corpus, "lookup", count, 5, records=1),
        "lookup3": held_out_episodes(corpus, "lookup", count, 5, records=3),
        "seen": held_out_episodes(corpus, "seen", count, 5),
        "unseen": held_out_episodes(corpus, "unseen", count, 5),
    }
    out = {}
    for name, episodes in sets.items():
        rows = sorted((encode(tokenizer, e) for e in episodes), key=lambda r: len(r.tokens))
        rows = [r for r in rows if len(r.tokens) <= max_length]
        out[name] = [collate(rows[i : i + 12], 0.0) for i in range(0, len(rows), 12)]
    return out
