"""`tenfold bench memory`: does memory find, learn, forget and keep apart?

Everything goes the way a caller's goes: `Memory` over SQLite files in a temporary folder. Recall is
measured on LoCoMo, whose file is not ours to ship: `--locomo FILE`, or memory/locomo-5.json below
the folder that TENFOLD_DATA names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.cli.benchmarks import Figures, Report
from tenfold.cli.benchmarks import memory_cases as cases
from tenfold.cli.benchmarks import memory_guest as guest
from tenfold.cli.benchmarks import memory_isolation as isolation
from tenfold.cli.benchmarks import memory_locomo as locomo
from tenfold.cli.benchmarks import memory_peers as peers
from tenfold.cli.benchmarks import memory_soundness as soundness
from tenfold.cli.benchmarks import memory_speed as speed
from tenfold.cli.benchmarks.memory_feedback import Taught, curves, taught
from tenfold.cli.benchmarks.memory_locomo import AT_10, CATEGORIES, KS, Ranked, interval
from tenfold.cli.benchmarks.memory_made_up import made_up, real_words
from tenfold.cli.held_out import read_held_out, shipped
from tenfold.errors import BackendUnavailable, MissingExtra, TenfoldError
from tenfold.memory.embedding import Embedder, MiniLM, minilm_folder
from tenfold.memory.retrieval import Fixed
from tenfold.memory.sqlite import SqliteStore

BOUNDS = {
    "locomo_recall_at_10": ">= 77",
    "locomo_recall_at_10_multihop": ">= 45",
    "locomo_recall_at_10_temporal": ">= 83",
    "query_p95_ms": "<= 15",
    "query_p95_ms_100k": "<= 60",
    "ingest_turns_per_s": ">= 1000",
    "erasure_residue": "<= 0",
    "cross_tenant_leaks": "<= 0",
    "lost_events": "<= 0",
    "junk_growth": "<= 1.05",
    "feedback_gain_recall_at_10": ">= 1",
    "shuffled_feedback_gain": "<= 0.5",
    "case_memory_gain_5000": ">= 1",
    "guest_memory_ser_ratio": "<= 0.5",
    "x_mem0_recall_at_10": ">= 1.5",
}
OF_LOCOMO = ("locomo_recall_at_10", "locomo_recall_at_10_multihop", "locomo_recall_at_10_temporal",
             "feedback_gain_recall_at_10", "shuffled_feedback_gain",
             "x_mem0_recall_at_10")  # fmt: skip
NAMED = {"multihop": "multi-hop", "temporal": "temporal", "single_hop": "single-hop",
         "open_domain": "open-domain", "adversarial": "adversarial"}  # fmt: skip
SMALL, LARGE = 6_000, 100_000  # turns among which questions are timed


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; None is everything."""

    conversations: int | None
    questions: int  # that are timed
    large: int  # turns of the large memory
    ingested: int
    kills: int
    erased_from: int  # turns
    erasures: int
    looks: int  # for what is left of what was erased
    calls: int
    statements: int
    cases: int
    guests: int


FULL = Plan(
    conversations=None, questions=400, large=LARGE, ingested=6_000, kills=200, erased_from=2_000,
    erasures=1_000, looks=10, calls=10_000, statements=500, cases=5_000,
    guests=200,
)  # fmt: skip
QUICK = Plan(
    conversations=2, questions=100, large=LARGE // 5, ingested=2_000, kills=10, erased_from=300,
    erasures=50, looks=5, calls=500, statements=100, cases=0,
    guests=12,
)  # fmt: skip


@dataclass(slots=True)
class Found:
    """Figures as they come in, and why others do not."""

    figures: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def run(
    quick: bool, report: Report, locomo: Path | None = None, model: str = guest.MODEL
) -> Figures:
    """All figures; about ten minutes on two cores, with `quick` about two."""
    data = os.environ.get("TENFOLD_DATA", "")
    folder = Path(data) if data else None
    if locomo is None and folder is not None:
        locomo = folder / "memory" / "locomo-5.json"
    return measure(QUICK if quick else FULL, report, locomo=locomo, data=folder, model=model)


def measure(
    plan: Plan,
    report: Report,
    *,
    locomo: Path | None,
    data: Path | None,
    embedder: Embedder | None = None,
    model: str = guest.MODEL,
) -> Figures:
    """All figures that the plan, the data at hand and the embedder allow; MiniLM if None."""
    found = Found()
    if embedder is None:
        try:
            embedder = MiniLM()
        except MissingExtra as e:
            found.absent |= dict.fromkeys(
                (*OF_LOCOMO, "query_p95_ms", "query_p95_ms_100k", "case_memory_gain_5000"), str(e)
            )
    _soundness(plan, report, found)
    _guests(model, plan, report, found)
    if embedder is not None:
        found.settings["embedder"] = embedder.name
        _speed(plan, embedder, report, found)
        _locomo(locomo, plan, embedder, report, found)
        _cases(data, plan, embedder, report, found)
    figures = {k: found.figures[k] for k in (*BOUNDS, *found.figures) if k in found.figures}
    return Figures(figures, found.settings, BOUNDS, found.absent)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tenfold-memory-") as folder:
        yield Path(folder)


def _soundness(plan: Plan, report: Report, found: Found) -> None:
    with _folder() as folder:
        killed = soundness.killed_writers(folder / "killed", plan.kills, report=report)
        erased = soundness.erase_at_random(
            folder / "erased", plan.erased_from, plan.erasures, plan.looks, report
        )
        played = isolation.play(folder / "played", plan.calls, report)
        repeated = soundness.restate(folder / "restated", plan.statements)
        texts = list(made_up(plan.ingested))
        report("writing", 0.0)
        rates = {n: speed.ingest_rate(folder / "rates", texts, n) for n in (speed.BATCH, 1)}
    found.figures |= {
        "lost_events": killed.lost,
        "erased_events_back": killed.undead,
        "half_derived_events": killed.half,
        "erasure_residue": erased.residue,
        "cross_tenant_leaks": played.leaks,
        "withheld_events": played.missing,
        "junk_growth": repeated.after / repeated.before,
        "ingest_turns_per_s": rates[speed.BATCH],
        "ingest_turns_per_s_one_by_one": rates[1],
    }
    found.settings |= {
        "ingest_batch": speed.BATCH,
        "ingested_turns": plan.ingested,
        "killed": asdict(killed),
        "erased": asdict(erased),
        "played": asdict(played),
        "restated": asdict(repeated),
    }


def _speed(plan: Plan, embedder: Embedder, report: Report, found: Found) -> None:
    words = real_words(minilm_folder()) if isinstance(embedder, MiniLM) else []
    for key, turns in (("query_p95_ms", SMALL), ("query_p95_ms_100k", plan.large)):
        with _folder() as folder:
            times = speed.search_times(folder, turns, plan.questions, embedder, report, words)
        found.settings[key] = {"turns": turns, "questions": plan.questions, **asdict(times)}
        if key == "query_p95_ms_100k" and turns < LARGE:
            found.absent[key] = f"only {turns:,} turns were measured: {times.p95:.1f} ms"
        else:
            found.figures[key] = times.p95


def _locomo(
    file: Path | None, plan: Plan, embedder: Embedder, report: Report, found: Found
) -> None:
    if file is None or not file.exists():
        why = "no LoCoMo file: --locomo FILE, or TENFOLD_DATA with memory/locomo-5.json"
        found.absent |= dict.fromkeys(OF_LOCOMO, why)
        return
    conversations = locomo.load(file)[: plan.conversations]
    with _folder() as folder:
        store = SqliteStore(folder)
        try:
            told = locomo.Told(store.tenant("locomo"), conversations, embedder, report)
            fixed = locomo.ranked(told, lambda _: Fixed(), report, "LoCoMo, fixed weights")
            rankers = locomo.learnt(told, report)
            learnt = locomo.ranked(told, lambda n: rankers[n], report, "LoCoMo, learnt weights")
            _recalls(told, fixed, learnt, found)
            _peers(told, fixed, learnt, report, found)
            for shuffled in (False, True):
                _learning(taught(told, fixed, shuffled=shuffled, report=report), shuffled, found)
            found.settings["feedback_curve"] = {
                name: asdict(curve) for name, curve in curves(told, report).items()
            }
        finally:
            store.close()


def _recalls(told: locomo.Told, fixed: Ranked, learnt: Ranked, found: Found) -> None:
    """Recall with learnt and with fixed weights, by category, and the gain between the two."""
    questions = [q for c in told.conversations for q in c.questions]
    category = np.array([q.category for q in questions])
    numbers = {name: number for number, name in CATEGORIES.items()}
    everything = np.ones(len(questions), dtype=np.bool_)
    limits: dict[str, list[float]] = {}
    for ending, chosen in (
        ("", everything),
        *((f"_{key}", category == numbers[name]) for key, name in NAMED.items()),
    ):
        key = f"locomo_recall_at_10{ending}"
        if not chosen.any():
            found.absent[key] = "no such question among them"
            continue
        values = 100 * learnt.recall[chosen, AT_10]
        plain = 100 * fixed.recall[chosen, AT_10]
        found.figures[key] = float(values.mean())
        found.figures[f"{key}_fixed"] = float(plain.mean())
        limits[key] = [*interval(values)]
        limits[f"{key}_gain"] = [*interval(values - plain)]
    found.figures["locomo_gain_lower"] = limits["locomo_recall_at_10_gain"][0]
    found.settings["locomo"] = {
        "conversations": [c.name for c in told.conversations],
        "turns": sum(len(c.turns) for c in told.conversations),
        "questions": len(questions),
        "left_out": "the conversation of the question",
        "limits_95": limits,
        "recall": {
            name: dict(zip(map(str, KS), (100 * r.recall.mean(axis=0)).tolist(), strict=True))
            for name, r in (("learnt", learnt), ("fixed", fixed))
        },
    }


def _peers(told: locomo.Told, fixed: Ranked, learnt: Ranked, report: Report, found: Found) -> None:
    """Recall beside mem0's, with the same vectors; the fixed recipe learns from nothing at all."""
    key = "x_mem0_recall_at_10"
    try:
        peer = peers.mem0(told.conversations, told.embedder, report)
    except BackendUnavailable as e:
        found.absent[key] = str(e)
        return
    found.figures[key] = peers.times_better(learnt.recall, peer.recall)
    found.figures[f"{key}_fixed"] = peers.times_better(fixed.recall, peer.recall)
    gain = 100 * (learnt.recall[:, AT_10] - peer.recall[:, AT_10])
    found.settings[key] = {"mem0": peer.told(), "gain": gain.mean(), "limits_95": interval(gain)}


def _learning(result: Taught, shuffled: bool, found: Found) -> None:
    low, high = interval(result.gains)
    mean = float(result.gains.mean())
    if shuffled:
        found.figures["shuffled_feedback_gain"] = mean
    else:
        found.figures["feedback_gain_recall_at_10"] = low
        found.figures["feedback_gain_recall_at_10_mean"] = mean
    found.settings["shuffled_feedback" if shuffled else "feedback"] = {
        "gain": mean,
        "limits_95": [low, high],
        "shown": max(KS),
        "left_out": [asdict(one) for one in result.learnt],
    }


def _cases(data: Path | None, plan: Plan, embedder: Embedder, report: Report, found: Found) -> None:
    key = "case_memory_gain_5000"
    folder = None if data is None else data / "intent"
    if folder is None or not (folder / "banking77-train.csv").exists():
        found.absent[key] = "no BANKING77: TENFOLD_DATA with intent/banking77-{train,test}.csv"
        return
    if plan.cases < cases.CASES:
        found.absent[key] = f"measured with {cases.CASES:,} cases only, without --quick"
        return
    rows = cases.load(folder / "banking77-train.csv")
    test = cases.load(folder / "banking77-test.csv")
    train, asked = (cases.embedded(texts, embedder, report) for texts in (rows, test))
    order = cases.order_of(len(train), plan.cases)
    answers = [rows.wanted[i] for i in order]
    result = cases.streamed(train[order], answers, asked, test.wanted, report)
    by_order = cases.compared(train, rows.wanted, asked, test.wanted, plan.cases, report)
    gains = 100.0 * by_order["case_memory"] - 100.0 * by_order["knn"]  # [orders, test]
    found.figures[key] = float(gains.mean())
    found.settings[key] = {
        "cases": plan.cases,
        "delay": cases.DELAY,
        "orders": cases.ORDERS,
        "accuracy": {name: 100 * float(right.mean()) for name, right in by_order.items()},
        "limits_95": interval(gains.mean(axis=0)),
        "gain_by_order": gains.mean(axis=1).tolist(),
        "first_order": {
            "k": result.k,
            "accuracy": {name: 100 * float(r.mean()) for name, r in result.right.items()},
            "gains_95": {
                name: interval(100.0 * right - 100.0 * result.right["knn"])
                for name, right in result.right.items()
            },
            "stream": {"every": cases.LEARN_EVERY, "knn_3_and_case_memory": result.stream},
        },
    }


def _guests(model: str, plan: Plan, report: Report, found: Found) -> None:
    """Slot error rates of answers with the guest's memory, without, and with another guest's."""
    try:
        asked = read_held_out(shipped(guest.MODEL))
    except TenfoldError as e:
        found.absent["guest_memory_ser_ratio"] = str(e)
        return
    with _folder() as folder:
        answered = guest.measured(folder, asked, model, plan.guests, report)
    found.figures["guest_memory_ser_ratio"] = answered.rates["on"] / answered.rates["off"]
    found.figures |= {f"guest_memory_ser_{arm}": rate for arm, rate in answered.rates.items()}
    found.settings["guest_memory"] = {"model": model, **asdict(answered)}
