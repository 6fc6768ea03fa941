"""The memory of one member, over a real store with hashed words as vectors."""

import contextlib
import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tenfold.errors import InvalidRequest, UnknownName
from tenfold.memory.decay import HalfLives, _faded
from tenfold.memory.derive import DERIVERS
from tenfold.memory.deriving import BATCH, Deriving
from tenfold.memory.embedding import HashedWords
from tenfold.memory.events import LONGEST_TEXT, SHARED, Kind, NewEvent
from tenfold.memory.memory import CATCH_UP, Memory
from tenfold.memory.retrieval import Hit
from tenfold.memory.store import Selection

TALK = (
    "I am allergic to peanuts.",
    "The bus to Porto leaves at nine.",
    "My sister paints boats in the harbour.",
    "We bought a red kettle on Tuesday.",
)


@pytest.fixture
def tenant(store):
    return store.tenant("acme")


def memory_of(tenant, member="ada", **more) -> Memory:
    return Memory(tenant, member, embedder=HashedWords(), **more)


@pytest.fixture
def ada(tenant) -> Memory:
    memory = memory_of(tenant)
    for text in TALK:
        memory.add(text, conversation="tea")
    return memory


def texts(hits) -> list[str]:
    return [hit.event.text for hit in hits]


def test_what_was_said_is_found_verbatim_and_explained(ada):
    hits = ada.search("what does the sister paint?", 2)
    assert hits[0].event.text == TALK[2]
    assert all(sum(hit.parts.values()) == hit.score for hit in hits)


def test_a_search_is_complete_right_after_adding(ada):
    ada.derive()
    added = ada.add("The lighthouse keeper is called Ignatius.")
    assert ada.search("lighthouse keeper", 1)[0].event == added
    assert ada.status().waiting == 0


def test_nobody_else_finds_what_is_private(ada, tenant):
    bob = memory_of(tenant, "bob")
    ada.add("The shared kettle is blue.", scope=SHARED)
    assert texts(bob.search("kettle peanuts sister bus")) == ["The shared kettle is blue."]
    assert [f.object for f in bob.facts()] == []
    assert [f.object for f in ada.facts() if f.predicate == "allergic to"] == ["peanuts"]


def test_facts_are_believed_until_they_are_replaced_and_as_of_a_time(tenant):
    memory = memory_of(tenant)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    memory.add("I live in Porto.", valid_at=start)
    memory.add("I live in Lyon.", valid_at=start + timedelta(days=60))

    def home(**when):
        return [f.object for f in memory.facts("ada", **when) if f.predicate == "lives in"]

    assert home() == ["Lyon"]
    assert home(valid=start + timedelta(days=10)) == ["Porto"]
    assert home(valid=start + timedelta(days=10), recorded=start) == []


def test_a_recall_is_kept_but_nothing_is_learnt_from_it(ada):
    packed = ada.recall("allergic to what?", 400, lambda text: len(text.split()))
    assert "peanuts" in packed.text
    [kept] = ada.history(Selection(kinds=(Kind.RECALL,)))
    assert set(kept.sources) == set(packed.citations.values())
    assert len(ada.facts()) == len({(f.predicate, f.object) for f in ada.facts()})
    assert all(hit.event.kind is not Kind.RECALL for hit in ada.search("peanuts records of", 50))
    assert ada.audit().loops == ()


def test_erasing_takes_the_recalls_and_facts_along(ada):
    ada.recall("allergic to what?", 400, lambda text: len(text.split()))
    [about] = [e for e in ada.history() if e.text == TALK[0]]
    ada.erase(Selection(ids=(about.id,)))
    assert ada.tenant.verify_erasure(["peanuts"]) == []
    assert [f for f in ada.facts() if f.object == "peanuts"] == []
    assert "peanuts" not in " ".join(texts(ada.search("allergic peanuts", 50)))
    ada.add(TALK[0])  # the erased one is no leader of a cluster any more
    assert ada.audit().duplicates == ()


def test_restatements_are_found_by_the_audit_and_packed_once(tenant):
    memory = memory_of(tenant)
    first = memory.add("The green door is at the back.")
    again = memory.add("the green door is at the back")
    assert [(p.event, p.of) for p in memory.audit().duplicates] == [(again.id, first.id)]
    packed = memory.recall("green door", 400, lambda text: len(text.split()))
    assert len(packed.citations) == 1


class Failing(HashedWords):
    """Cannot embed one word."""

    def embed(self, texts):
        if any("unutterable" in text for text in texts):
            raise RuntimeError("no such sound")
        return super().embed(texts)


def test_one_event_that_cannot_be_derived_holds_up_no_other(tenant):
    memory = Memory(tenant, "ada", embedder=Failing())
    ids = [memory.add(text).id for text in ("One.", "The unutterable name.", "Three.")]
    assert memory.derive() == 3
    status = memory.status()
    assert (status.waiting, status.failed) == (0, 1)
    assert dict(memory.audit().failed) == {ids[1]: "RuntimeError: no such sound"}
    assert memory.search("name", 1)[0].event.id == ids[1]  # its words are found still


class Crash(BaseException):
    """Nothing catches it, like a kill."""


def test_a_crash_between_vectors_and_facts_is_made_good(tenant, monkeypatch):
    memory = memory_of(tenant)
    for n in range(BATCH + 5):
        memory.add(f"I like number{n}.")

    def crash(*_, **__):
        raise Crash

    with monkeypatch.context() as broken:
        broken.setattr(type(tenant), "put", crash)
        with pytest.raises(Crash):
            memory.derive()
    assert memory.status().waiting == BATCH + 5
    assert memory_of(tenant).derive() == BATCH + 5
    liked = [c.value["object"] for c in tenant.member("ada").derived("claim")]
    assert sorted(liked) == sorted(f"number{n}" for n in range(BATCH + 5))


def test_rebuilding_gives_the_same_again(ada):
    before = texts(ada.search("bus to Porto", 4)), ada.facts()
    status = ada.rebuild()
    assert (status.waiting, status.events) == (0, len(TALK))
    assert (texts(ada.search("bus to Porto", 4)), ada.facts()) == before


def test_windows_do_not_carry_private_words_to_others(tenant):
    ada, seen = memory_of(tenant), []

    class Watching(HashedWords):
        def embed(self, texts):
            seen.extend(texts)
            return super().embed(texts)

    ada.add("My password hint is walrus.", conversation="c")
    ada.add("Lunch is at one.", conversation="c", scope=SHARED)
    Deriving(tenant, Watching(), list(DERIVERS.values())).run()
    assert not [text for text in seen if "walrus" in text and "Lunch" in text]


def test_age_lowers_a_score_by_a_part_of_its_own(tenant):
    memory = memory_of(tenant, half_lives=HalfLives(default=timedelta(days=1), floor=0.0))
    long_ago = datetime.now(UTC) - timedelta(days=30)
    memory.add("The old kettle is red.", valid_at=long_ago)
    memory.add("The new kettle is red.")
    hits = memory.search("red kettle", 2)
    assert texts(hits)[0] == "The new kettle is red."
    assert hits[1].parts["age"] < 0
    for hit in hits:
        assert hit.score == sum(hit.parts.values())
    with pytest.raises(InvalidRequest, match="limit is 0"):
        memory.search("red kettle", 0)


def test_a_memory_is_opened_with_half_lives(tmp_path):
    lives = HalfLives(default=timedelta(days=1))
    with contextlib.closing(Memory.open(tmp_path, embedder="words", half_lives=lives)) as memory:
        memory.add("The kettle is red.", valid_at=datetime.now(UTC) - timedelta(days=1))
        (hit,) = memory.of("me").search("red kettle", 1)
        whole = hit.score - hit.parts["age"]
        assert hit.score == pytest.approx(whole * (0.1 + 0.9 / 2), rel=1e-3)
    with contextlib.closing(Memory.open(tmp_path, embedder="words")) as memory:
        (again,) = memory.search("red kettle", 1)
        assert again.score == pytest.approx(whole)
        assert "age" not in again.parts


def by_length(query: str, texts) -> list[float]:
    return [-len(text) for text in texts]


def test_a_re_ranker_says_the_order_and_its_word_is_a_part_of_the_score(tenant, ada):
    plain = ada.search("red kettle sister bus", 4)
    asked = []

    def watching(query, texts):
        asked.append((query, list(texts)))
        return by_length(query, texts)

    hits = ada.search("red kettle sister bus", 4, rerank=watching)
    assert asked == [("red kettle sister bus", [h.event.text for h in plain])]
    assert texts(hits) == sorted(texts(plain), key=len)
    assert [h.score for h in hits] == pytest.approx([h.score for h in plain])
    base = {h.event.id: h for h in plain}
    for hit in hits:
        assert hit.score == sum(hit.parts.values())
        rest = {name: part for name, part in hit.parts.items() if name != "rerank"}
        assert rest == base[hit.event.id].parts
    always = memory_of(tenant, rerank=by_length)
    assert [h.event for h in always.search("red kettle sister bus", 4)] == [h.event for h in hits]
    other = always.search("red kettle sister bus", 4, rerank=lambda q, t: [1.0] * len(t))
    assert other == plain  # equal ones stay as they were


def test_a_re_ranker_reads_the_first_hits_and_raises_what_fits_best(tenant, monkeypatch):
    monkeypatch.setattr("tenfold.memory.reranking.FIRST", 3)
    monkeypatch.setattr("tenfold.memory.memory.FIRST", 3)
    memory = memory_of(tenant, rerank=lambda query, texts: [float("9" in t) for t in texts])
    memory.add_all([NewEvent(f"The kettle {'very ' * n}red, number {n}") for n in range(6)])
    plain = memory_of(tenant).search("red kettle", 6)
    hits = memory.search("red kettle", 6)
    assert hits == plain  # number 9 is not there, and all are alike
    last = plain[2].event.text
    (best,) = memory.search("red kettle", 1, rerank=lambda q, t: [float(x == last) for x in t])
    assert best.event.text == last  # third of the first three, though only one was asked for
    beyond = memory.search("red kettle", 6, rerank=by_length)[3:]
    assert beyond == plain[3:]


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, 2.0, float("nan"), 4.0], [0.0] * 5])
def test_a_re_ranker_that_gives_no_score_for_each_text_is_an_error(ada, scores):
    with pytest.raises(InvalidRequest) as error:
        ada.search("red kettle sister bus", 4, rerank=lambda query, texts: scores)
    assert error.value.param == "rerank"


def test_age_comes_after_the_re_ranker(tenant):
    memory = memory_of(tenant, half_lives=HalfLives(default=timedelta(days=1)), rerank=by_length)
    memory.add("The kettle is red.", valid_at=datetime.now(UTC) - timedelta(days=30))
    memory.add("The old kettle is red, says the sister.")
    hits = memory.search("red kettle", 2)
    assert texts(hits)[0].startswith("The old")
    assert all(h.score == sum(h.parts.values()) for h in hits)


def test_messages_keep_roles_and_leave_out_what_is_no_talk(tenant):
    memory = memory_of(tenant)
    added = memory.add_messages(
        [
            {"role": "system", "content": "Be nice."},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "image_url"}]},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "content": "42"},
        ],
        conversation="c",
    )
    assert [(e.role, e.text, e.kind) for e in added] == [
        ("user", "Hello", Kind.OBSERVATION),
        ("tool", "42", Kind.TOOL),
    ]


@pytest.mark.parametrize("message", [{"content": "x"}, {"role": "user", "content": 3}])
def test_what_is_no_message_is_refused_and_nothing_is_kept(tenant, message):
    memory = memory_of(tenant)
    with pytest.raises(InvalidRequest) as caught:
        memory.add_messages([{"role": "user", "content": "first"}, message], conversation="c")
    assert caught.value.param.startswith("messages[1]")
    assert memory.status().events == 0


def test_what_is_exported_can_be_loaded_once(ada, store):
    ada.recall("bus", 400, lambda text: len(text.split()))
    out = io.StringIO()
    assert ada.export(out) == len(TALK) + 1
    bob = memory_of(store.tenant("other"), "bob")
    lines = out.getvalue().splitlines()
    for _ in range(2):
        loaded = bob.load(lines)
    assert [e.text for e in loaded] == list(TALK)
    assert [e.text for e in bob.history()] == list(TALK)
    assert {e.provenance["author"] for e in loaded} == {"ada"}
    assert [e.valid_at for e in loaded] == [e.valid_at for e in ada.history()][: len(TALK)]


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"text": 5}', '{"text": "x", "valid_at": "noon"}', "3"]
)
def test_a_line_that_is_no_event_is_named_and_nothing_is_loaded(tenant, line):
    memory = memory_of(tenant)
    with pytest.raises(InvalidRequest, match="line 2"):
        memory.load(['{"text": "fine"}', line])
    assert memory.status().events == 0


def test_an_empty_query_and_unknown_names_are_refused(ada, tmp_path):
    with pytest.raises(InvalidRequest):
        ada.search("  ")
    with pytest.raises(InvalidRequest, match="embedder"):
        Memory.open(tmp_path, embedder="telepathy")
    with pytest.raises(UnknownName):
        Memory.open(tmp_path, tenant="nobody", embedder="none", create=False)


def test_without_vectors_words_still_find(tmp_path):
    memory = Memory.open(tmp_path, embedder="none")
    memory.add_all([NewEvent(text) for text in TALK])
    assert texts(memory.search("red kettle", 1)) == [TALK[3]]
    assert np.isfinite([hit.score for hit in memory.search("kettle bus", 4)]).all()


def test_another_embedder_is_refused_until_the_memory_is_rebuilt(ada, tenant):
    ada.derive()
    other = Memory(tenant, "ada", embedder=HashedWords(64))
    with pytest.raises(InvalidRequest, match="hashed-words-512") as caught:
        other.search("kettle")
    assert caught.value.param == "embedder"
    assert other.status().failed == 0
    other.rebuild()
    assert tenant.embedder() == "hashed-words-64/1"
    assert texts(other.search("red kettle", 1)) == [TALK[3]]


def test_a_search_makes_up_for_a_few_events_only(tenant):
    memory = memory_of(tenant)
    memory.add_all([NewEvent(f"number{n} is kept") for n in range(CATCH_UP + 10)])
    assert memory.search(f"number{CATCH_UP + 5}", 1)[0].event.text.startswith(
        f"number{CATCH_UP + 5} "
    )
    assert memory.status().waiting == 10


def test_times_without_a_zone_are_refused():
    with pytest.raises(InvalidRequest, match="time zone"):
        Selection(as_of=datetime(2026, 5, 1))


def test_files_are_for_their_owner_alone(tmp_path):
    memory = Memory.open(tmp_path / "memories", embedder="none")
    memory.add("Quiet.")
    for path in [tmp_path / "memories", *(tmp_path / "memories").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_without_an_embedder_all_waits_for_one_and_facts_are_read_from_the_log(tenant):
    plain = Memory(tenant, "ada", embedder=None)
    plain.add("I live in Porto.")
    assert [f.object for f in plain.facts("Ada")] == ["Porto"]
    assert plain.search("Porto", 1)[0].event.text == "I live in Porto."
    assert plain.status().waiting == 1
    assert memory_of(tenant).derive() == 1
    assert tenant.embedder()


def test_facts_are_those_of_the_subject_not_of_who_wrote_them(tenant):
    memory = memory_of(tenant)
    memory.add("I live in Porto.")
    memory.add("I live in Lyon.", subject="carol")
    assert [f.object for f in memory.facts("carol")] == ["Lyon"]
    assert [f.object for f in memory.facts("ADA")] == ["Porto"]


class Unreachable(HashedWords):
    """A hosted embedder without a network."""

    def embed(self, texts):
        raise ConnectionError("no route")


def test_what_may_pass_is_tried_again(tenant):
    memory = Memory(tenant, "ada", embedder=Unreachable())
    memory.add("I live in Porto.")
    with pytest.raises(ConnectionError):
        memory.derive()
    assert (memory.status().waiting, memory.status().failed) == (1, 0)


@pytest.mark.parametrize("text", ["It costs $" + "9" * 400 + "k.", "\u0130" * 300, "1" * 5000])
def test_odd_texts_stop_nobody(tenant, text):
    memory_of(tenant, "bob").add(text)
    ada = memory_of(tenant)
    ada.add("I live in Porto.")
    assert [f.object for f in ada.facts("ada")] == ["Porto"]
    ada.audit()
    assert memory_of(tenant, "bob").audit().events == 1
    assert ada.status().failed == 0


def test_a_recall_is_no_longer_than_an_event(tenant):
    memory = memory_of(tenant)
    for n in range(4):
        memory.add(f"kettle {n} " + f"word{n} " * 1900)
    packed = memory.recall("kettle", 10**9, len)
    assert 0 < len(packed.text) <= LONGEST_TEXT
    assert packed.left_out


def test_age_never_lifts_a_hit_that_fits_badly():
    hit = Hit(event=None, score=-1.0, parts={"long": -1.0})
    assert _faded(hit, 0.5).score == -2.0
    assert sum(_faded(hit, 0.5).parts.values()) == -2.0


def test_what_others_wrote_changes_nothing_that_is_found(tenant):
    ada, bob = tenant.member("ada"), tenant.member("bob")
    ada.append([NewEvent("zq " * 5000), NewEvent("my boat is red")])
    alone = [(e.text, s) for q in ("zq zebrafish", "boat") for e, s in found_by(ada, q)]
    bob.append([NewEvent("a zebrafish"), *(NewEvent(f"boat {n}") for n in range(4100))])
    assert [(e.text, s) for q in ("zq zebrafish", "boat") for e, s in found_by(ada, q)] == alone
    assert len(alone) == 2


def found_by(member, query):
    found = member.find(query)
    return zip(found.events, found.lexical.tolist(), strict=True)


HALF = "kettle \ud800"


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (lambda m: m.search(HALF), "query"),
        (lambda m: m.search(b"kettle"), "query"),
        (lambda m: m.recall(HALF, 100, len), "query"),
        (lambda m: m.feedback(HALF, [], []), "text"),
        (lambda m: m.search("kettle", selection=Selection(conversation=HALF)), "conversation"),
        (lambda m: list(m.history(Selection(subject=HALF))), "subject"),
        (lambda m: list(m.history(Selection(author=5))), "author"),
        (lambda m: m.consolidate(HALF), "conversation"),
        (lambda m: m.erase(Selection(ids=(HALF,))), "ids"),
        (lambda m: m.get(5), "ids"),
        (lambda m: m.add("tea", valid_at="2026-05-01T12:00:00+00:00"), "valid_at"),
        (lambda m: m.search("tea", selection=Selection(as_of="2026")), "as_of"),
        (lambda m: m.facts(valid=datetime(2026, 5, 1)), "valid"),
        (lambda m: m.facts(recorded="yesterday"), "recorded"),
        (lambda m: m.add("tea", scope="everybody"), "scope"),
        (lambda m: m.add("tea", scope=5), "scope"),
        (lambda m: m.history(Selection(scope="everybody")), "scope"),
        (lambda m: m.add_messages(["hi"], conversation="c"), "messages[0]"),
    ],
)
def test_what_is_no_text_no_time_no_scope_and_no_message_is_refused_by_its_name(ada, ask, param):
    with pytest.raises(InvalidRequest) as error:
        ask(ada)
    assert error.value.param == param


def test_a_scope_may_be_given_by_its_name(ada):
    shared = ada.add("Tea is at four.", scope="shared")
    assert shared.scope == SHARED
    assert list(ada.of("bob").history(Selection(scope="shared"))) == [shared]
    assert shared not in list(ada.history(Selection(scope="private")))
