"""Token rows: what counts in them, how they are packed, and the stream they come from."""

import random

import pytest
import torch

from recipes.concierge.batches import (
    END_WEIGHT,
    START_WEIGHT,
    EpisodeStream,
    Row,
    collate,
    encode,
    pack,
    repeat_row,
    value_start,
)
from recipes.concierge.episodes import Episode, Limits, Message
from recipes.concierge.lookups import lookup_episode

from .made_up import POOLS, small_corpus, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def drawn_rows(count: int, seed: int, longest: int = 300) -> list[Row]:
    rng = random.Random(seed)
    sizes = [rng.randint(1, longest) for _ in range(count)]
    return [Row([9] * n, [False] * n, [], [], [], "made-up", i, n) for i, n in enumerate(sizes)]


def test_rows_mark_answers_and_the_first_token_of_values(tokenizer):
    episode = lookup_episode(POOLS, Limits(1, 3, 4), 0.0, random.Random(3))
    row = encode(tokenizer, episode)
    assert len(row.starts) == sum(len(m.values) for m in episode.messages)
    assert all(row.answer[place] for place in row.starts)
    assert len(row.tokens) == len(row.answer)


def test_starts_are_the_first_letter_or_digit_of_each_value(tokenizer):
    text = "It is $250, at 7:30 pm, in Porto."
    places = [(6, 10), (15, 22), (27, 32)]
    assert [text[value_start(text, *p)] for p in places] == ["2", "7", "P"]
    chat = [Message("user", "How much?"), Message("assistant", text, places)]
    row = encode(tokenizer, Episode(chat, "made-up", 1, 1))
    for place, value in zip(row.starts, ("250,", "7:30 pm", "Porto"), strict=True):
        rest = tokenizer.decode(row.tokens[place:], skip_special_tokens=False)
        assert rest.lstrip().startswith(value)


def test_an_answer_ends_with_its_end_token(tokenizer):
    chat = [Message("user", "Hello"), Message("assistant", "Hello there")]
    row = encode(tokenizer, Episode(chat, "made-up", 0, 0))
    end, speaker = tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("<|assistant|>")
    assert row.tokens[-1] == end
    assert row.answer[-1]
    assert not row.answer[row.tokens.index(speaker)]
    assert not any(row.answer[: row.tokens.index(speaker)])


def test_repeats_are_said_twice():
    row = repeat_row(50, random.Random(0))
    half = row.tokens[1 : 1 + len(row.tokens) // 2]
    assert row.tokens == [1, *half, *half]
    assert [t for t, spoken in zip(row.tokens, row.answer, strict=True) if spoken] == half


@pytest.mark.parametrize("seed", range(20))
def test_packing_keeps_every_row_once_and_never_overflows(seed):
    rows = drawn_rows(200, seed)
    packed = pack(rows, 512)
    assert all(sum(len(r.tokens) for r in line) <= 512 for line in packed)
    assert sorted(r.records for line in packed for r in line) == list(range(200))


@pytest.mark.parametrize("seed", range(5))
def test_packing_wastes_little(seed):
    rows = drawn_rows(320, seed)
    tokens = sum(len(r.tokens) for r in rows)
    assert len(pack(rows, 768)) <= 1.03 * tokens / 768 + 1


def test_packing_nothing_gives_nothing():
    assert pack([], 100) == []


def test_collating_lays_documents_side_by_side():
    one = Row([1, 10, 11, 12], [False, False, True, True], [2], [2], [3], "a", 3, 4)
    two = Row([1, 20, 21], [False, True, True], [1, 2], [2], [], "b", 1, 2)
    batch = collate([[one, two], []], 9, 0.0)
    assert batch.tokens.tolist() == [[1, 10, 11, 12, 1, 20, 21, 0, 0], [0] * 9]
    assert batch.documents.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0, 0], [0] * 9]
    high = START_WEIGHT
    assert batch.weights.tolist() == [[0, 0, high, END_WEIGHT, 0, 1, high, 0, 0], [0] * 9]
    assert batch.starts.tolist() == [[0, 2], [0, 5], [0, 6]]
    assert batch.sizes == [(3, 4), (1, 2), (1, 2)]


def test_a_fourth_of_the_prompt_counts_a_little():
    row = Row([5] * 400, [False] * 399 + [True], [], [], [], "a", 0, 0)
    weights = collate([[row]], 400, 0.2).weights[0, :-1]
    counted = weights[weights > 0]
    assert 95 <= len(counted) <= 100
    torch.testing.assert_close(counted, torch.full_like(counted, 0.2))


def test_first_tokens_of_documents_never_count():
    rows = [Row([1, 7, 8, 9], [True] * 4, [], [], [], "a", 0, 0) for _ in range(3)]
    weights = collate([rows], 12, 1.0).weights[0]
    assert weights.reshape(3, 4)[:, 0].tolist() == [0, 0, 0]
    assert (weights.reshape(3, 4)[:, 1:] == 1).all()


def stream(tokenizer, seed: str = "1", rows: int = 2, length: int = 640) -> EpisodeStream:
    return EpisodeStream(small_corpus(), tokenizer, seed, rows, length)


def same(one, two) -> bool:
    return torch.equal(one.tokens, two.tokens) and torch.equal(one.weights, two.weights)


def test_streams_go_on_where_they_were_left(tokenizer):
    first = stream(tokenizer)
    for _ in range(3):
        first.next(0.0, 0.2)
    second = stream(tokenizer)
    second.restore(first.state())
    for _ in range(3):
        # progress has moved on, but the pool in hand was drawn before
        assert same(first.next(0.5, 0.2), second.next(0.5, 0.2))
    assert second.state() == first.state()


def test_streams_depend_on_their_seed(tokenizer):
    batches = [stream(tokenizer, seed).next(1.0, 0.2) for seed in ("1-0", "1-0", "1-1")]
    assert same(batches[0], batches[1])
    assert not same(batches[0], batches[2])


def test_streams_follow_the_curriculum(tokenizer):
    def families(progress: float) -> set[str]:
        source = stream(tokenizer, rows=1)
        source.next(progress, 0.2)
        return {row.family for batch in source._batches for line in batch for row in line}

    assert families(0.0) == {"lookup", "repeat"}
    assert families(1.0) == {"lookup", "human", "long", "general", "repeat"}


def test_batches_keep_their_shape(tokenizer):
    source = stream(tokenizer, rows=7)
    while source.pool < 1:
        assert source.next(0.0, 0.2).tokens.shape == (7, 640)
