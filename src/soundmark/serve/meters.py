"""What a service counts, for Prometheus. With several server processes the numbers are those of all of them."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32)


class Meters:
    """Counters, gauges and histograms of one service."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "soundmark_requests", "Requests answered", ["path", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "soundmark_request_seconds", "From the headers to the whole answer", ["path"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "soundmark_refused", "Requests refused, by the code of the error", ["code"], registry=registry
        )
        self.decoding = Histogram(
            "soundmark_decode_seconds", "Decoding one recording, with waiting for a process", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.audio = Counter("soundmark_audio_seconds", "Sound decoded or streamed, in seconds", registry=registry)
        self.running = Histogram("soundmark_run_seconds", "One run of a graph", buckets=_SECONDS, registry=registry)
        self.rows = Histogram("soundmark_run_waveforms", "Waveforms in one run", buckets=_ROWS, registry=registry)
        gauges = {
            "serving": "Requests being served",
            "waiting": "Waveforms waiting for a graph",
            "streams": "Open streams",
            "decoders": "Processes that decode",
        }
        self.gauges = {
            name: Gauge(f"soundmark_{name}", text, registry=registry, multiprocess_mode="livesum")
            for name, text in gauges.items()
        }
        self.lost = Gauge(
            "soundmark_decoders_lost", "Processes lost while they decoded, since the start", ["reason"],
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip

    def ran(self, rows: int, seconds: float) -> None:
        """A graph has run."""
        self.rows.observe(rows)
        self.running.observe(seconds)

    def decoded(self, seconds: float) -> None:
        """A recording has been decoded, or not."""
        self.decoding.observe(seconds)

    def heard(self, seconds: float) -> None:
        """So much sound has come in."""
        self.audio.inc(seconds)

    def answered(self, path: str, method: str, status: int, seconds: float) -> None:
        """A request is over."""
        self.requests.labels(path, method, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
