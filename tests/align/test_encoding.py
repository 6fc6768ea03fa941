from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from tenfold.align.encoding import EncodedPair, PairEncoder, collate, encode, plan, within
from tenfold.align.pairs import Pair
from tenfold.errors import InvalidRequest, PromptTooLong
from tenfold.models.chat_template import ChatTemplate
from tenfold.models.folders import locate
from tenfold.models.loading import load_tokenizer
from tenfold.models.tokenizer import Tokenizer
from tenfold.types import Message

CONCIERGE = load_tokenizer("concierge")


def concierge(*, chat: bool = False) -> PairEncoder:
    return PairEncoder(CONCIERGE, ChatTemplate.from_folder(locate("concierge")), chat=chat)


def merging() -> Tokenizer:
    """Letters, `ab` and `abc` merged, words glued to the space before them, a beginning of text."""
    spelled = ["<s>", "</s>", "\u2581", "\n", *"abc", "ab", "abc", "\u2581ab"]
    vocabulary = {token: place for place, token in enumerate(spelled)}
    merges = [("a", "b"), ("ab", "c"), ("\u2581", "ab")]
    backend = Backend(models.BPE(vocabulary, merges, unk_token=None))
    backend.add_special_tokens(["<s>", "</s>"])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return Tokenizer(backend, config={"eos_token": "</s>", "bos_token": "<s>"})


def test_a_chat_is_encoded_as_the_engine_encodes_it_and_ends_with_the_end_of_text() -> None:
    encoder = concierge()
    said = (Message("system", "Escape is a car."), Message("user", "Which car?"))
    pair = Pair(1, said, (Message("assistant", "Escape."),), (Message("assistant", "Civic."),))
    encoded = encoder(pair)
    assert encoder.template is not None
    assert list(encoded.prompt) == CONCIERGE.encode(encoder.template.render(said))
    assert CONCIERGE.decode(encoded.chosen, skip_special=False) == "Escape.<|end|>"
    assert CONCIERGE.decode(encoded.rejected, skip_special=False) == "Civic.<|end|>"


def test_a_chat_has_the_tokens_that_trl_gives_it() -> None:
    trl = pytest.importorskip("trl.data_utils")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(str(locate("concierge")))
    row = {
        "prompt": [{"role": "user", "content": "Is it $31, or  not?"}],
        "chosen": [{"role": "assistant", "content": " Yes: $31."}],
        "rejected": [{"role": "assistant", "content": "It's $2784\u2026"}],
    }
    texts = trl.apply_chat_template(row, theirs)
    ids = {name: theirs(texts[name], add_special_tokens=False)["input_ids"] for name in row}
    said, chosen, rejected = (tuple(Message(**m) for m in row[name]) for name in row)
    encoded = concierge()(Pair(1, said, chosen, rejected))
    assert list(encoded.prompt) == ids["prompt"]
    assert list(encoded.chosen) == ids["chosen"]
    assert list(encoded.rejected) == ids["rejected"]


def test_a_text_is_completed_as_it_stands_unless_it_is_said_to_be_a_chat() -> None:
    pair = Pair(1, "Which car?", " Escape.", " Civic.")
    raw, chat = concierge()(pair), concierge(chat=True)(pair)
    assert list(raw.prompt) == CONCIERGE.encode_prompt("Which car?")
    assert CONCIERGE.decode([*raw.prompt, *raw.chosen], False) == "Which car? Escape.<|end|>"
    assert CONCIERGE.decode(chat.prompt, False).endswith("Which car?<|end|><|assistant|>")


def test_an_answer_never_merges_with_the_prompt() -> None:
    tokenizer = merging()
    encoded = PairEncoder(tokenizer)(Pair(1, "a", "bc", "ca"))
    assert tokenizer.encode_prompt("abc") != tokenizer.encode_prompt("a") + tokenizer.encode("bc")
    assert list(encoded.prompt) == tokenizer.encode_prompt("a")
    assert tokenizer.decode([*encoded.prompt, *encoded.chosen]) == "abc"
    assert tokenizer.decode([*encoded.prompt, *encoded.rejected]) == "aca"


def test_both_answers_are_cut_apart_where_one_merges_so_that_they_share_what_is_alike() -> None:
    encoded = PairEncoder(merging())(Pair(1, "aa", "bcab", "cab"))
    assert encoded.chosen[-2:] == encoded.rejected[-2:]  # `ab` and the end


@settings(max_examples=60, deadline=None)
@given(prompt=st.text("abc", min_size=1, max_size=6), answers=st.sets(
    st.text("abc ", min_size=1, max_size=6).filter(lambda t: t.strip() == t), min_size=2, max_size=2
))  # fmt: skip
def test_tokens_spell_the_texts_whatever_they_are(prompt: str, answers: set[str]) -> None:
    tokenizer = merging()
    chosen, rejected = sorted(answers)
    encoded = PairEncoder(tokenizer)(Pair(1, prompt, chosen, rejected))
    assert list(encoded.prompt) == tokenizer.encode_prompt(prompt)
    for ids, text in ((encoded.chosen, chosen), (encoded.rejected, rejected)):
        assert tokenizer.decode([*encoded.prompt, *ids]) == prompt + text
        assert ids[-1] == 1
        assert 1 not in ids[:-1]


def test_an_answer_that_ends_already_gets_no_second_end() -> None:
    encoded = concierge()(Pair(1, "Well", " yes<|end|>", " no"))
    assert encoded.chosen.count(2) == encoded.rejected.count(2) == 1


class Stub(ChatTemplate):
    """A template in this process."""

    def __init__(self, turn: str, opening: str) -> None:
        super().__init__("")
        self.turn, self.opening = turn, opening

    def render(self, messages, *_, add_generation_prompt=True, **__):  # type: ignore[no-untyped-def,override]
        text = "".join(self.turn.format(m.role, m.content) for m in messages)
        return text + (self.opening if add_generation_prompt else "")


def test_what_a_template_writes_behind_the_end_of_text_is_left_out() -> None:
    encoder = PairEncoder(CONCIERGE, Stub("{}: {}<|end|>\n", "assistant: "), chat=True)
    encoded = encoder(Pair(1, "Hi", "Yes.", "No."))
    assert CONCIERGE.decode(encoded.chosen, False) == "Yes.<|end|>"


def test_a_template_that_writes_no_end_gets_one() -> None:
    encoder = PairEncoder(CONCIERGE, Stub("{}: {}\n", "assistant: "), chat=True)
    encoded = encoder(Pair(1, "Hi", "Yes.", "No."))
    assert CONCIERGE.decode(encoded.chosen, False) == "Yes.\n<|end|>"


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    encoder = PairEncoder(CONCIERGE, Stub("{}: {}<|end|>", "helper: "), chat=True)
    with pytest.raises(InvalidRequest, match="row 7: the chat template writes the prompt otherwi"):
        encoder(Pair(7, "Hi", "Yes.", "No."))


def test_messages_without_a_template_are_refused_with_their_row() -> None:
    pair = Pair(3, (Message("user", "x"),), (Message("assistant", "a"),), (Message("user", "b"),))
    with pytest.raises(InvalidRequest, match="row 3: the pair is a chat and the model has no"):
        PairEncoder(CONCIERGE)(pair)


def test_a_template_that_fails_names_the_row() -> None:
    pair = Pair(5, (Message("tool", "x"),), (Message("assistant", "a"),), (Message("user", "b"),))
    with pytest.raises(InvalidRequest, match=r"row 5: .*the concierge knows only"):
        concierge()(pair)


def test_answers_that_become_the_same_tokens_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="row 2: chosen and rejected are the same tokens"):
        concierge()(Pair(2, "Well", " yes<|end|>", " yes"))


def test_a_tokenizer_without_an_end_of_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no end of text"):
        PairEncoder(Tokenizer(CONCIERGE.backend))


def some(*lengths: tuple[int, int, int]) -> list[EncodedPair]:
    return [
        EncodedPair(10 + i, *(tuple(range(100 * k, 100 * k + n)) for k, n in enumerate(sizes, 1)))
        for i, sizes in enumerate(lengths)
    ]


def test_rows_over_the_limit_are_refused_with_their_counts() -> None:
    pairs = some((2, 3, 1), (4, 2, 6), (9, 1, 2))
    with pytest.raises(PromptTooLong, match=r"row 11 has 10 tokens \(prompt 4.*2 of 3 rows.*11"):
        within(pairs, 9)


def test_rows_over_the_limit_can_be_left_out_and_are_named() -> None:
    pairs = some((2, 3, 1), (4, 2, 6), (9, 1, 2))
    kept, dropped = within(pairs, 10, drop=True)
    assert (kept, dropped) == (pairs[:2], [12])
    with pytest.raises(PromptTooLong, match="3 of 3"):
        within(pairs, 1, drop=True)


def test_a_batch_holds_each_row_padded_on_the_right_and_marks_its_answer_alone() -> None:
    pairs = some((2, 3, 1), (4, 2, 6))
    batch = collate(pairs, pad=7)
    assert batch.rows == [10, 11]
    assert batch.ids.shape == batch.attention.shape == batch.answer.shape == (4, 10)
    expected = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
    for place, (prompt, answer) in enumerate(expected):
        seen = batch.attention[place].bool()
        assert tuple(batch.ids[place][seen].tolist()) == prompt + answer
        assert tuple(batch.ids[place][batch.answer[place]].tolist()) == answer
        assert not bool((~seen)[:-1].logical_and(seen[1:]).any())  # no gap: padding is behind
        assert torch.all(batch.ids[place][~seen] == 7)


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=120),
    size=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_an_epoch_has_every_row_once(lengths: list[int], size: int, seed: int) -> None:
    batches = plan(lengths, size, seed)
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert all(1 <= len(b) <= size for b in batches)
    assert batches == plan(lengths, size, seed)


def test_sorting_within_windows_leaves_little_padding_and_epochs_differ() -> None:
    drawn = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 400, (2000,), generator=drawn).tolist()

    def wasted(batches: list[list[int]]) -> float:
        whole = sum(len(b) * max(lengths[i] for i in b) for b in batches)
        return 1 - sum(lengths) / whole

    plain = [list(range(i, i + 8)) for i in range(0, 2000, 8)]
    assert wasted(plain) > 0.35
    assert wasted(plan(lengths, 8, 0)) < 0.06
    assert plan(lengths, 8, 0) != plan(lengths, 8, 1)


def test_encode_takes_every_pair() -> None:
    pairs = [Pair(1, "a b", " c", " d"), Pair(4, "a", " e", " f")]
    assert [e.row for e in encode(pairs, concierge())] == [1, 4]
