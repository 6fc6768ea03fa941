"""Prometheus metrics, in a registry of their own: two servers in one process must not clash."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tenfold.engine.stats import EngineStats

_FIRST = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_EACH = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class EngineCollector(Collector):
    """Reads the engine's own counters when Prometheus asks, instead of copying them every step."""

    def __init__(
        self, model: str, stats: Callable[[], EngineStats], waiting: Callable[[], int]
    ) -> None:
        self._model = model
        self._stats = stats
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        s = self._stats()
        kv = s.occupancy
        gauges = {
            "num_requests_running": ("sequences in the running batch", kv.running),
            "num_requests_waiting": (
                "sequences waiting in the engine and requests waiting for a place",
                kv.waiting + self._waiting(),
            ),
            "num_requests_paused": ("sequences held between two extensions", kv.paused),
            "kv_cache_usage_perc": (
                "share of the KV blocks in use, 0 to 1",
                kv.blocks_used / max(1, kv.blocks_total),
            ),
            "kv_cache_blocks_cached": ("blocks holding reusable prefixes", kv.blocks_cached),
            "tokens_per_second": ("generated over the last seconds", s.tokens_per_second),
        }
        counters = {
            "prompt_tokens": ("prompt tokens received", s.prompt_tokens),
            "generation_tokens": ("tokens generated, dropped ones too", s.generated_tokens),
            "dropped_tokens": ("tokens of candidates that were dropped", s.dropped_tokens),
            "prefix_cache_queries": ("prompt tokens looked up", s.prompt_tokens),
            "prefix_cache_hits": ("prompt tokens found", s.cached_tokens),
            "num_preemptions": ("sequences preempted", s.preemptions),
            "engine_steps": ("forward passes", s.steps),
        }
        for name, (doc, value) in gauges.items():
            gauge = GaugeMetricFamily(f"tenfold_{name}", doc, labels=["model_name"])
            gauge.add_metric([self._model], value)
            yield gauge
        for name, (doc, value) in counters.items():
            counter = CounterMetricFamily(f"tenfold_{name}", doc, labels=["model_name"])
            counter.add_metric([self._model], value)
            yield counter


class Metrics:
    """What the server measures itself; `text()` is the answer of GET /metrics."""

    def __init__(
        self, model: str, stats: Callable[[], EngineStats], waiting: Callable[[], int]
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(model, stats, waiting))
        self.requests = Counter(
            "tenfold_http_requests",
            "requests by route and status",
            ["path", "status"],
            registry=self.registry,
        )
        self.finished = Counter(
            "tenfold_request_success",
            "answers by how they ended",
            ["finished_reason"],
            registry=self.registry,
        )
        self.first_token = Histogram(
            "tenfold_time_to_first_token_seconds",
            "from a request's arrival to its first token",
            buckets=_FIRST,
            registry=self.registry,
        )
        self.each_token = Histogram(
            "tenfold_time_per_output_token_seconds",
            "mean time per token of one answer after its first",
            buckets=_EACH,
            registry=self.registry,
        )
        self.latency = Histogram(
            "tenfold_e2e_request_latency_seconds",
            "from a request's arrival to its last token",
            buckets=_FIRST,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)
