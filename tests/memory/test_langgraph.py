"""The LangGraph store, held to LangGraph's own InMemoryStore and to what its base says."""

import asyncio
import importlib.util
import operator
import os
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.memory import Memory
from tenfold.memory.embedding import HashedWords
from tenfold.memory.events import SHARED
from tenfold.memory.sqlite import SqliteStore
from tenfold.memory.store import Selection

HERE = importlib.util.find_spec("langgraph") and importlib.util.find_spec("langchain_core")
if not HERE and not os.environ.get("TENFOLD_REQUIRE_ALL"):
    pytest.skip("langgraph-checkpoint is not installed", allow_module_level=True)

from langgraph.store.base import (  # noqa: E402
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore  # noqa: E402

import tenfold.memory.langgraph as adapter  # noqa: E402
from tenfold.memory.langgraph import LangGraphStore  # noqa: E402

ADA = ("memories", "ada")


@pytest.fixture
def tenant(tmp_path):
    store = SqliteStore(tmp_path)
    yield store.tenant("acme")
    store.close()


@pytest.fixture
def memory(tenant):
    return Memory(tenant, "app", embedder=HashedWords())


@pytest.fixture
def store(memory):
    return LangGraphStore(memory)


def found(items) -> list[str]:
    return [item.key for item in items]


def test_an_item_comes_back_as_it_was_put(store):
    value = {"text": "I like tea", "n": 1.5, "deep": {"x": [1, None, True, "e\u0301\x7f"]}}
    assert store.put(ADA, "one", value) is None
    item = store.get(ADA, "one")
    assert (item.value, item.key, item.namespace) == (value, "one", ADA)
    assert item.created_at == item.updated_at
    assert item.created_at.tzinfo is not None
    assert store.get(ADA, "two") is None
    assert store.get(("memories",), "one") is None


def test_a_put_replaces_and_the_versions_are_kept_until_the_item_is_deleted(store, memory):
    for n, text in enumerate(("likes marzipan", "likes nougat", "likes quince")):
        store.put(ADA, "food", {"text": text, "n": n})
    item = store.get(ADA, "food")
    assert (item.value["n"], item.created_at < item.updated_at) == (2, True)
    assert [i.value["n"] for i in store.versions(ADA, "food")] == [0, 1, 2]
    assert {i.created_at for i in store.versions(ADA, "food")} == {item.created_at}
    assert [i.value["text"] for i in store.search(ADA, query="marzipan nougat")] == ["likes quince"]
    store.delete(ADA, "food")
    assert store.get(ADA, "food") is None
    assert store.versions(ADA, "food") == []
    assert store.list_namespaces() == []
    assert memory.tenant.verify_erasure(["marzipan", "nougat", "quince"]) == []
    store.delete(ADA, "food")


def test_without_versions_what_is_replaced_is_erased(memory):
    store = LangGraphStore(memory, versions=False)
    store.put(ADA, "food", {"text": "likes marzipan"})
    first = store.get(ADA, "food").created_at
    store.put(ADA, "food", {"text": "likes nougat"})
    assert memory.tenant.verify_erasure(["marzipan"]) == []
    assert store.get(ADA, "food").value == {"text": "likes nougat"}
    assert store.get(ADA, "food").created_at == first


def test_a_query_finds_what_answers_it_in_the_fields_that_are_indexed(memory):
    store = LangGraphStore(memory, fields=["text", "notes[*].body"])
    store.put(ADA, "tea", {"text": "likes green tea", "hidden": "a telescope"})
    store.put(
        ADA, "sky", {"text": "nothing", "notes": [{"body": "x"}, {"body": "saw a telescope"}]}
    )
    store.put(ADA, "mute", {"text": "a telescope of brass"}, index=False)
    store.put(ADA, "else", {"text": "x", "more": "telescope, large"}, index=["more"])
    hits = store.search(ADA, query="telescope")
    assert set(found(hits[:2])) == {"sky", "else"}
    assert hits[0].score >= hits[1].score
    scored = {hit.key: hit.score for hit in hits}
    assert scored["mute"] is None  # not found by it, and still there to fill the page
    assert found(store.search(ADA, query="telescope", limit=1, offset=1)) == [hits[1].key]
    assert len(store.search(ADA, query="telescope", limit=2)) == 2


def test_a_query_stays_within_prefix_and_filter_however_much_lies_outside(store):
    store.put(ADA, "mine", {"text": "a red kettle", "kind": "thing"})
    store.put(ADA, "other", {"text": "a red kettle, too", "kind": "note"})
    ops = [PutOp(("memories", "bob"), f"k{n}", {"text": f"red kettle {n}"}) for n in range(300)]
    store.batch(ops)
    hits = store.search(ADA, query="red kettle", filter={"kind": "thing"})
    assert found(hits) == ["mine"]
    assert hits[0].score is not None
    assert len(store.search(("memories",), query="red kettle", limit=400)) == 302


LABELS = st.sampled_from(["a", "b", "c"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k", "l"])
VALUES = st.none() | st.fixed_dictionaries({"n": st.integers(0, 3), "s": st.sampled_from("xyz")})
PUTS = st.lists(st.tuples(NAMESPACES, KEYS, VALUES), max_size=8)
CONDITIONS = st.tuples(
    st.sampled_from(["prefix", "suffix"]),
    st.lists(LABELS | st.just("*"), min_size=1, max_size=2).map(tuple),
)
FILTERS = st.sampled_from(
    [None, {"n": 1}, {"n": {"$gt": 1}}, {"n": {"$gte": 1, "$lt": 3}}, {"s": {"$ne": "x"}},
     {"n": {"$lte": 0}, "s": {"$eq": "y"}}, {"s": "z", "n": 2}]
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(puts=PUTS, prefix=st.just(()) | NAMESPACES, conditions=st.lists(CONDITIONS, max_size=2),
       wanted=FILTERS, depth=st.none() | st.integers(1, 3))  # fmt: skip
def test_it_answers_as_langgraphs_own_store_does(
    tmp_path_factory, puts, prefix, conditions, wanted, depth
):
    tenants = SqliteStore(tmp_path_factory.mktemp("store"))
    ours = LangGraphStore(Memory(tenants.tenant("t"), "app", embedder=None))
    theirs = InMemoryStore()
    for namespace, key, value in puts:
        for one in (ours, theirs):
            if value is None:
                one.delete(namespace, key)
            else:
                one.put(namespace, key, value)
    matches = tuple(MatchCondition(how, path) for how, path in conditions)
    reads = [
        SearchOp(prefix, wanted, limit=100),
        *(GetOp(namespace, key) for namespace, key, _ in puts),
    ]
    results = [
        [
            sorted((i.namespace, i.key, i.value["n"], i.value["s"]) for i in answers[0]),
            [i and i.value for i in answers[1:]],
        ]
        for answers in (ours.batch(reads), theirs.batch(reads))
    ]
    assert results[0] == results[1]
    names = ListNamespacesOp(matches, max_depth=depth, limit=100)
    live = InMemoryStore()  # theirs goes on listing namespaces whose items are all deleted
    for item in theirs.search((), limit=1000):
        live.put(item.namespace, item.key, item.value)
    assert ours.batch([names]) == live.batch([names])
    tenants.close()


def test_a_batch_reads_first_and_of_two_puts_the_last_counts(store):
    store.put(ADA, "k", {"n": 0})
    results = store.batch(
        [PutOp(ADA, "k", {"n": 1}), GetOp(ADA, "k"), PutOp(ADA, "k", {"n": 2}), PutOp(ADA, "l", {})]
    )
    assert [r and r.value for r in results] == [None, {"n": 0}, None, None]
    assert store.get(ADA, "k").value == {"n": 2}
    assert store.get(ADA, "l").value == {}


def test_a_batch_with_an_operation_that_cannot_be_writes_nothing(store, memory):
    for bad in (
        PutOp(ADA, "k", {"x": {1}}),
        PutOp(ADA, "k", {"x": float("inf")}),
        PutOp(ADA, "k", ["x"]),
        PutOp((), "k", {}),
        PutOp(("a.b",), "k", {}),
        PutOp(("a" * 300,), "k", {}),
        PutOp(ADA, "k" * 300, {}),
        GetOp(("a.b",), "k"),
        SearchOp(ADA, {"n": {"$near": 1}}),
        SearchOp(ADA, limit=-1),
        ListNamespacesOp((MatchCondition("middle", ("a",)),)),
        "nonsense",
    ):
        store.put(("other",), "there", {"n": 1})
        if isinstance(bad, SearchOp) and bad.filter:
            store.put(ADA, "there", {"n": 1})
        before = memory.status().events
        with pytest.raises(ValueError, match=r".+") as caught:
            store.batch([PutOp(ADA, "fine", {}), bad])
        assert isinstance(caught.value, InvalidRequest)
        assert memory.status().events == before
    with pytest.raises(InvalidNamespaceError):
        store.put(("langgraph",), "k", {})


def test_a_label_can_name_the_member_and_then_nothing_reaches_beyond(tenant, memory):
    store = LangGraphStore(memory, member_at=1)
    store.put(("memories", "ada"), "k", {"text": "ada's kettle"})
    store.put(("memories", "bob", "x"), "k", {"text": "bob's kettle"})
    assert [i.value["text"] for i in store.search(("memories", "ada"), query="kettle")] == [
        "ada's kettle"
    ]
    assert store.list_namespaces(prefix=("*", "bob")) == [("memories", "bob", "x")]
    for call in (
        lambda: store.search(("memories",), query="kettle"),
        lambda: store.search(()),
        lambda: store.list_namespaces(),
        lambda: store.list_namespaces(prefix=("memories", "*")),
        lambda: store.list_namespaces(suffix=("ada",)),
        lambda: store.put(("memories",), "k", {}),
        lambda: store.get(("memories",), "k"),
    ):
        with pytest.raises(InvalidRequest, match="whose"):
            call()
    ada = Memory(tenant, "ada", embedder=HashedWords())
    assert "ada's kettle" in [e.text for e in ada.history()]
    assert ada.search("bob's kettle")[0].event.text == "ada's kettle"


def test_what_others_share_is_no_item_of_this_store(tenant, store):
    bob = LangGraphStore(Memory(tenant, "bob", embedder=None))
    bob.put(ADA, "k", {"text": "bob's"})
    Memory(tenant, "bob", embedder=None).add("shared", scope=SHARED, conversation="memories.ada")
    assert store.search(ADA) == []


class Clock(datetime):
    """Time goes on when it is told to."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.ahead


def test_an_item_expires_after_its_time_unless_it_is_read(memory, monkeypatch):
    monkeypatch.setattr(adapter, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta())
    store = LangGraphStore(memory, ttl={"default_ttl": 60, "refresh_on_read": True})
    assert store.supports_ttl
    store.put(ADA, "default", {"text": "marzipan"})
    store.put(ADA, "short", {"text": "nougat"}, ttl=1)
    store.put(ADA, "forever", {"text": "quince"}, ttl=None)
    monkeypatch.setattr(Clock, "ahead", timedelta(minutes=4))
    assert sorted(found(store.search(ADA, refresh_ttl=False))) == ["default", "forever"]
    assert store.get(ADA, "short") is None
    assert store.sweep_ttl() == 1
    assert memory.tenant.verify_erasure(["nougat"]) == []
    assert store.get(ADA, "forever").value == {"text": "quince"}
    before = memory.status().events
    store.get(ADA, "default")  # four minutes are less than a tenth of sixty: not noted
    assert memory.status().events == before
    monkeypatch.setattr(Clock, "ahead", timedelta(minutes=70))
    assert found(store.search(ADA)) == ["forever"]


def test_reading_lengthens_the_time_of_an_item_and_is_seen_by_other_processes(
    memory, monkeypatch, tenant
):
    store = LangGraphStore(memory)
    store.put(ADA, "k", {"text": "marzipan"}, ttl=0.02)  # 1.2 seconds
    written = store.get(ADA, "k", refresh_ttl=False)
    deadline = datetime.now(UTC) + timedelta(seconds=2)
    while datetime.now(UTC) < deadline:
        assert store.get(ADA, "k").value == written.value
    other = LangGraphStore(Memory(tenant, "app", embedder=None))
    assert other.get(ADA, "k", refresh_ttl=False) is not None
    assert other.get(ADA, "k").updated_at == written.updated_at


async def test_the_async_verbs_do_the_same(store):
    await asyncio.gather(
        *(store.aput(ADA, f"k{n}", {"text": f"tea {n}", "n": n}) for n in range(5))
    )
    assert (await store.aget(ADA, "k3")).value["n"] == 3
    assert found(await store.asearch(ADA, query="tea 4", limit=1)) == ["k4"]
    assert await store.alist_namespaces(max_depth=1) == [("memories",)]
    await store.adelete(ADA, "k3")
    assert await store.aget(ADA, "k3") is None
    assert sorted(found(await store.asearch(ADA))) == ["k0", "k1", "k2", "k4"]


def test_a_value_larger_than_an_event_is_kept_and_found(store):
    value = {"text": "word " * 20_000 + "telescope", "n": list(range(1000))}
    store.put(ADA, "large", value)
    store.put(ADA, "small", {"text": "nothing"})
    assert store.get(ADA, "large").value == value
    assert found(store.search(ADA, query="telescope", limit=1)) == ["large"]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_an_item_of_which_a_part_was_erased_is_absent_and_the_others_are_found(store, memory, lost):
    store.put(ADA, "big", {"text": "word " * 16_000})  # a value in three parts
    store.put(ADA, "home", {"text": "I live in Porto."})
    parts = [e for e in memory.history() if "store.part" in e.provenance]
    assert [e.provenance["store.key"] for e in parts] == ["big"] * 3 + ["home"]
    memory.erase(Selection(ids=(parts[lost].id,)))
    assert store.get(ADA, "big") is None
    assert store.versions(ADA, "big") == []
    assert found(store.search(ADA, query="where is Porto?")) == ["home"]
    store.put(ADA, "big", {"text": "small"})
    assert store.get(ADA, "big").value == {"text": "small"}
    store.delete(ADA, "big")
    assert [e for e in memory.history() if e.provenance.get("store.key") == "big"] == []


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), 1e300, 0, -1, 1e-300])
def test_a_ttl_that_is_no_time_is_refused(store, memory, ttl):
    with pytest.raises(ValueError, match="ttl") as refused:
        store.put(ADA, "home", {"text": "I live in Porto."}, ttl=ttl)
    assert refused.value.param == "ttl"
    assert list(memory.history()) == []


@pytest.mark.parametrize(
    ("namespace", "key", "text"),
    [(ADA, "k\n", "x"), (ADA, "k", "a\0b"), (ADA, "k", "\ud800"), (("a\n",), "k", "x")],
)
def test_what_no_event_takes_is_a_value_error_as_in_langgraph(store, memory, namespace, key, text):
    with pytest.raises(ValueError, match=r".+") as refused:
        store.put(namespace, key, {"text": text})
    assert isinstance(refused.value, InvalidRequest)
    assert list(memory.history()) == []


def test_what_another_process_wrote_and_erased_is_seen(store, tmp_path):
    tenants = SqliteStore(tmp_path)
    other = LangGraphStore(Memory(tenants.tenant("acme"), "app", embedder=None))
    store.put(ADA, "k", {"n": 1})
    other.put(ADA, "k", {"n": 2})
    assert store.get(ADA, "k").value == {"n": 2}
    other.delete(ADA, "k")
    assert store.get(ADA, "k") is None
    assert store.search(()) == []
    tenants.close()


@pytest.mark.parametrize(
    ("wanted", "compare"), [("$gt", operator.gt), ("$lte", operator.le), ("$ne", operator.ne)]
)
def test_operators_compare_numbers_and_texts_and_nothing_else(store, wanted, compare):
    for n in range(4):
        store.put(ADA, f"k{n}", {"n": n, "s": str(n), "x": None})
    for field, other in (("n", 2), ("s", "2")):
        chosen = found(store.search(ADA, filter={field: {wanted: other}}))
        assert sorted(chosen) == [f"k{n}" for n in range(4) if compare(n, 2)]
    assert len(found(store.search(ADA, filter={"x": {wanted: 1}}))) == 4 * (wanted == "$ne")
