import json
import re

import jsonschema
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tenfold.engine.constraint import ConstraintFactory
from tenfold.engine.sampler import SampleRow, SamplingFailed, sample
from tenfold.errors import EngineError, InvalidRequest
from tenfold.types import Constraint, SamplingParams

BOS, EOS = 0, 1
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {
            "type": "array",
            "items": {"enum": ["spa", "bar", "\u00e9t\u00e9"]},
            "maxItems": 3,
        },
        "pool": {"type": ["boolean", "null"]},
    },
    "required": ["name", "stars", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level BPE tokenizer trained on a few lines."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = ['{"name": "Hotel Bellevue", "stars": 4, "tags": ["spa", "bar"], "pool": true}']
    made.train_from_iterator(lines * 5, trainer)
    return made


@pytest.fixture(scope="module")
def token_bytes(tokenizer):
    """The bytes of each id: GPT-2's printable stand-ins undone."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    texts = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return [t.encode() if t in ("<s>", "</s>") else bytes(byte_of[c] for c in t) for t in texts]


@pytest.fixture(scope="module")
def factory(tokenizer, token_bytes):
    return ConstraintFactory(token_bytes, EOS, {BOS}, lambda text: tokenizer.encode(text).ids)


def generate(state, token_bytes, seed, most=600, padding=3):
    """Text sampled from random logits under the constraint; None if it was not ended in time."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for position in range(most):
        logits = torch.randn(1, len(token_bytes) + padding, generator=generator) * 2
        row = SampleRow(SamplingParams(), seed, 0, position, [], out, frozenset(), state)
        token = sample(logits, [row])[0].token_id
        complete = state.is_complete
        state.advance(token)
        if token == EOS:
            assert complete
            return b"".join(token_bytes[t] for t in out).decode("utf-8")
        out.append(token)
    return None


@pytest.mark.parametrize("encoder", ["own", "none"])
def test_random_logits_under_a_schema_always_validate(factory, token_bytes, encoder):
    made = factory if encoder == "own" else ConstraintFactory(token_bytes, EOS, {BOS})
    start = made.compile(Constraint("json_schema", SCHEMA))
    ended = 0
    for seed in range(15):
        text = generate(start.copy(), token_bytes, seed)
        if text is not None:
            jsonschema.validate(json.loads(text), SCHEMA)
            ended += 1
    assert ended >= 10


def test_a_tokenizers_own_pieces_are_used_where_nothing_else_can_follow(factory, tokenizer):
    state = factory.compile(Constraint("regex", "stars and tags"))
    wanted = tokenizer.encode("stars and tags").ids
    for token in wanted:
        assert state.mask()[token]
        state.advance(token)
    assert state.is_complete
    assert state.must_end


def test_json_object(factory, token_bytes):
    start = factory.compile(Constraint("json_object"))
    texts = [generate(start.copy(), token_bytes, seed) for seed in range(8)]
    ended = [t for t in texts if t is not None]
    assert ended
    assert all(isinstance(json.loads(t), dict) for t in ended)


def test_regex(factory, token_bytes):
    pattern = r"(room|suite) [1-9][0-9]{0,2}(, (spa|bar))?"
    start = factory.compile(Constraint("regex", pattern))
    for seed in range(10):
        assert re.fullmatch(pattern, generate(start.copy(), token_bytes, seed))


def test_lark_grammar(factory, token_bytes):
    grammar = 'start: item ("+" item)~0..4\nitem: NUMBER | "(" NUMBER ")"\nNUMBER: /[0-9]{1,3}/\n'
    start = factory.compile(Constraint("grammar", grammar))
    item = r"([0-9]{1,3}|\([0-9]{1,3}\))"
    for seed in range(10):
        text = generate(start.copy(), token_bytes, seed)
        assert re.fullmatch(rf"{item}(\+{item}){{0,4}}", text)


def test_forked_states_are_independent(factory, token_bytes):
    state = factory.compile(Constraint("regex", "a(b|c)d"))
    one = {bytes([b]): token_bytes.index(bytes([b])) for b in b"abcd"}
    state.advance(one[b"a"])
    before = state.mask().clone()
    fork = state.copy()
    fork.advance(one[b"b"])
    assert torch.equal(state.mask(), before)
    fork.advance(one[b"d"])
    assert fork.is_complete
    assert not state.is_complete
    state.advance(one[b"c"])
    state.advance(one[b"d"])
    assert state.must_end
    assert state.mask().nonzero().flatten().tolist() == [EOS]


def test_special_tokens_and_padding_never_match_as_text(factory, token_bytes):
    state = factory.compile(Constraint("regex", "(.|\n)+"))
    logits = torch.zeros(len(token_bytes) + 5)
    state.apply(logits)
    assert logits[BOS] == logits[EOS] == -torch.inf
    assert (logits[len(token_bytes) :] == -torch.inf).all()
    assert logits[token_bytes.index(b"a")] == 0


def test_several_ends_of_text(token_bytes):
    state = ConstraintFactory(token_bytes, [EOS, BOS]).compile(Constraint("regex", "a"))
    state.advance(token_bytes.index(b"a"))
    assert state.mask().nonzero().flatten().tolist() == [BOS, EOS]


def test_a_token_that_was_not_allowed_is_an_error(factory, token_bytes):
    state = factory.compile(Constraint("regex", "ab"))
    with pytest.raises(EngineError, match="does not fit"):
        state.advance(token_bytes.index(b"z"))


def test_a_constraint_and_forbidden_ids_that_leave_nothing_name_the_row(factory, token_bytes):
    state = factory.compile(Constraint("regex", "a"))
    state.advance(token_bytes.index(b"a"))
    rows = [
        SampleRow(SamplingParams(), 0, 0, 1, [], [], frozenset(forbid), constraint)
        for forbid, constraint in (((), None), ((EOS,), state))
    ]
    with pytest.raises(SamplingFailed, match="row 1: the constraint, forbidden ids"):
        sample(torch.zeros(2, len(token_bytes)), rows)


def nested(depth):
    """A schema of objects within objects."""
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("constraint", "param", "reason"),
    [
        (Constraint("json_schema", nested(130)), "response_format", "recursion"),
        (Constraint("json_schema", nested(30_000)), "response_format", "recursion"),
        (Constraint("regex", "[a-"), "constraint", "unclosed character class"),
        (Constraint("regex", 5), "constraint", "is text"),
        (Constraint("grammar", "start: nowhere"), "constraint", "nowhere"),
        (Constraint("json_schema", {"type": "banana"}), "response_format", "banana"),
        (Constraint("json_schema", {"type": "integer", "minimum": 5, "maximum": 3}),
         "response_format", "minimum"),
        (Constraint("json_schema", "text"), "response_format", "object"),
        (Constraint("json_schema", {"const": {1, 2}}), "response_format", "not JSON"),
        (Constraint("poem", ""), "constraint", "poem"),
    ],
)  # fmt: skip
def test_unusable_constraints_name_the_parameter_and_the_reason(factory, constraint, param, reason):
    with pytest.raises(InvalidRequest, match=reason) as caught:
        factory.compile(constraint)
    assert caught.value.param == param


def test_white_space_in_json_is_bounded(factory, token_bytes):
    state = factory.compile(Constraint("json_schema", SCHEMA))
    state.advance(token_bytes.index(b"{"))
    space = token_bytes.index(b"\n")
    count = 0
    while state.mask()[space]:
        state.advance(space)
        count += 1
        assert count < 100
    assert count > 1
