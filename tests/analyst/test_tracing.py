"""Spans leave with the commit of their batch, and no receiver holds up the log.

The receiver is real: an HTTP server that reads what OpenTelemetry's exporter sends, as its protocol says.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import duckdb
import pytest

from proxy.analysis.spans import Span
from proxy.analyst.tracing import NOT_INSTALLED, Tracing
from proxy.exchange.parquet import Batch
from proxy.plan.data import Tracing as Settings

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pip install 'parallax[otel]'")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

ENDPOINT = Settings("http://receiver/v1/traces")


def wait_for(true: Callable[[], Any], what: str = "it") -> None:
    until_s = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < until_s, f"waited in vain for {what}"
        time.sleep(0.002)


class Inbox:
    """A sender that keeps what it is given; `answers` are what it says, then yes for ever."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.batches: list[list[Span]] = []
        self.open = threading.Event()
        self.open.set()
        self.closed = False

    def send(self, spans: Sequence[Span]) -> bool:
        while not self.open.wait(0.01):
            if self.closed:
                return False
        taken = self.answers.pop(0) if self.answers else True
        if taken:
            self.batches.append(list(spans))
        return taken

    def close(self) -> None:
        self.closed = True

    @property
    def names(self) -> list[str]:
        return [span.name for batch in self.batches for span in batch]


@pytest.fixture
def started() -> Iterator[Callable[..., Tracing]]:
    """Make a `Tracing` that ends with the test."""
    made: list[Tracing] = []

    def start(sender: Any, settings: Settings = ENDPOINT, **options: Any) -> Tracing:
        made.append(Tracing(settings, lambda _: sender, **options))
        return made[-1]

    yield start
    for one in made:
        one.close(1.0)


def traced(world: Any, tracing: Tracing, **step: Any) -> Any:
    """A pipeline that traces, after it has read everything."""
    pipeline = world.pipeline()
    pipeline.tracing = tracing
    while pipeline.step(**step).behind:
        pass
    return pipeline


def test_a_pair_is_three_spans(world: Any, started: Any) -> None:
    """Exchange, try, shadow; each once, after the commit."""
    world.segment(world.exchange(1), world.leg(1))
    inbox = Inbox()
    tracing = started(inbox)
    traced(world, tracing).close()
    wait_for(lambda: tracing.counts["sent"] == 3)
    assert inbox.names == ["POST predict", "POST", "shadow s"]
    assert tracing.queued == 0


def test_a_lost_leg_is_a_span_too(world: Any, started: Any) -> None:
    """Its worker died: the trace shows what is missing."""
    world.segment(world.exchange(1))
    inbox = Inbox()
    tracing = started(inbox)
    pipeline = world.pipeline()
    pipeline.tracing = tracing
    pipeline.step(last=True)
    pipeline.close()
    wait_for(lambda: tracing.counts["sent"] == 3)
    assert inbox.batches[-1][-1].attributes["parallax.outcome"] == "worker_lost"


def test_a_batch_that_is_done_again_is_sent_once(world: Any, started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gives the step up; its spans wait for the commit."""
    world.segment(world.exchange(1), world.leg(1))
    inbox = Inbox()
    tracing = started(inbox)
    pipeline = world.pipeline()
    pipeline.tracing = tracing
    write_part = Batch.write_part

    def full(*_: Any) -> None:
        raise duckdb.IOException("disk full")

    monkeypatch.setattr(Batch, "write_part", full)
    assert pipeline.step().failed
    assert tracing.queued == 0
    monkeypatch.setattr(Batch, "write_part", write_part)
    pipeline.step()
    pipeline.close()
    wait_for(lambda: tracing.counts["sent"] == 3)
    assert len(inbox.names) == 3


def test_a_fraction_of_the_roots_is_sent_and_every_sampled_parent_s(world: Any, started: Any) -> None:
    """By the flag of the caller; without a caller's trace by the gate."""
    context = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "shadows": []}
    world.segment(
        world.exchange(1, shadows=[]),
        world.exchange(2, trace_parent="b7ad6b7169203331-01", **context),
        world.exchange(3, trace_parent="b7ad6b7169203331-00", **context),
    )
    inbox = Inbox()
    tracing = started(inbox, Settings("http://receiver", sample=0.0))
    traced(world, tracing).close()
    wait_for(lambda: tracing.counts["sent"] == 2)
    assert {span.trace_id for batch in inbox.batches for span in batch} == {context["trace_id"]}


def test_a_receiver_that_hangs_holds_up_nothing(world: Any, started: Any) -> None:
    """The log is read to its end, the queue stays bounded, and what found no room is counted."""
    world.segment(*(world.exchange(number, shadows=[]) for number in range(1000)))
    inbox = Inbox()
    inbox.open.clear()
    tracing = started(inbox, room=100)
    pipeline = traced(world, tracing)
    assert not world.spool()
    assert len(world.rows("exchanges", "exchange_id")) == 1000
    assert tracing.queued <= 100
    assert tracing.queued + tracing.counts["dropped"] == 2000
    pipeline.close()
    tracing.close(0.05)
    assert tracing.counts["dropped"] + tracing.counts["sent"] + tracing.counts["failed"] == 2000
    assert inbox.closed


def test_a_receiver_that_refuses_is_asked_again_and_then_given_up(world: Any, started: Any) -> None:
    """It may refuse a batch for what is in it: the next one gets its chance."""
    inbox = Inbox(False, True, False, False, False)
    tracing = started(inbox, pauses_s=(0.001, 0.001))
    for number in (1, 2, 3):
        world.segment(world.exchange(number, shadows=[]))
        traced(world, tracing).close()
        wait_for(lambda: tracing.queued == 0)
    assert (tracing.counts["sent"], tracing.counts["failed"]) == (4, 2)
    assert tracing.problem == ""


def test_nothing_is_sent_while_the_log_is_behind(world: Any, started: Any) -> None:
    """A span costs several times what a record does: first the numbers, then the traces."""
    world.segment(world.exchange(1, shadows=[]))
    inbox = Inbox()
    tracing = started(inbox)
    tracing.give_way(behind=True)
    traced(world, tracing).close()
    assert (tracing.queued, tracing.counts["sent"]) == (2, 0)
    tracing.give_way(behind=False)
    wait_for(lambda: tracing.counts["sent"] == 2)


def test_a_defect_in_a_span_costs_that_span_alone(world: Any, started: Any) -> None:
    """Neither the record nor the batch behind it nor the thread."""

    class Broken(Inbox):
        def send(self, spans: Sequence[Span]) -> bool:
            if any(span.attributes.get("url.path") == "/bad" for span in spans):
                raise ValueError("no receiver can read this")
            return super().send(spans)

    failures: list[str] = []
    inbox = Broken()
    tracing = started(inbox, report=lambda what, error: failures.append(f"{what}: {error}"))
    world.segment(world.exchange(1, shadows=[], path="/bad"))
    traced(world, tracing).close()
    wait_for(lambda: tracing.counts["failed"] == 2)
    world.segment(world.exchange(3, shadows=[]))
    tracing.add_exchange(world.exchange(2, assignments=[None]))
    traced(world, tracing).close()
    wait_for(lambda: tracing.counts["sent"] == 2)
    assert failures[0] == "sending spans: no receiver can read this"
    assert failures[1].startswith("span of an exchange: ")


def test_without_the_extra_it_says_what_to_install(world: Any) -> None:
    """The log goes on, and every span that is not sent is counted."""

    def missing(_: Settings) -> Any:
        raise ImportError("No module named 'opentelemetry'")

    world.segment(world.exchange(1), world.leg(1))
    tracing = Tracing(ENDPOINT, missing)
    traced(world, tracing).close()
    assert tracing.problem == NOT_INSTALLED
    assert tracing.counts == {"sent": 0, "failed": 0, "dropped": 3}
    tracing.close(1.0)


# -- over HTTP


class Receiver:
    """An OTLP/HTTP receiver; `statuses` are what it answers, then 200 for ever."""

    def __init__(self, *statuses: int) -> None:
        receiver = self
        self.statuses = list(statuses)
        self.paths: list[str] = []
        self.requests: list[ExportTraceServiceRequest] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["content-type"] == "application/x-protobuf"
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                receiver.paths.append(self.path)
                if status == 200:
                    receiver.requests.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def spans(self) -> list[Any]:
        found = []
        for request in self.requests:
            for of_resource in request.resource_spans:
                for of_scope in of_resource.scope_spans:
                    found += of_scope.spans
        return found


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def start(*statuses: int) -> Receiver:
        made.append(Receiver(*statuses))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def over_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Settings], Tracing]]:
    """Tracing with OpenTelemetry's exporter."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made: list[Tracing] = []

    def start(settings: Settings) -> Tracing:
        made.append(Tracing(settings))
        return made[-1]

    yield start
    for one in made:
        one.close(5.0)


def values(attributes: Any) -> dict[str, Any]:
    found = {}
    for pair in attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found


def test_a_receiver_reads_what_we_send(world: Any, receiver: Any, over_http: Any) -> None:
    """Ids, kinds, times, attributes, events and status, over the wire."""
    there = receiver()
    trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    x = world.exchange(5, trace_id=trace_id, trace_parent=f"{parent_id}-01", error_type="upstream_closed", status=502)
    world.segment(x, world.leg(5))
    tracing = over_http(Settings(there.endpoint, service="shop"))
    traced(world, tracing).close()
    wait_for(lambda: tracing.counts["sent"] == 3)
    assert there.paths == ["/v1/traces"]
    (resource,) = (one.resource for one in there.requests[0].resource_spans)
    assert values(resource.attributes)["service.name"] == "shop"
    server, client, shadow = there.spans
    assert {span.trace_id.hex() for span in there.spans} == {trace_id}
    assert server.parent_span_id.hex() == parent_id
    assert client.parent_span_id == shadow.parent_span_id == server.span_id
    assert [span.kind for span in there.spans] == [server.SPAN_KIND_SERVER, 3, 3]
    assert server.start_time_unix_nano == round(x.ts * 1e6) * 1000
    assert server.end_time_unix_nano - server.start_time_unix_nano == 5_000_000
    assert (server.status.code, server.status.message) == (2, "upstream_closed")
    assert values(server.attributes)["parallax.arms"] == ["e/b"]
    assert values(server.attributes)["http.response.status_code"] == 502
    (event,) = server.events
    assert (event.name, values(event.attributes)["feature_flag.result.variant"]) == ("feature_flag.evaluation", "b")
    assert values(shadow.attributes)["parallax.comparison"] in {"match", "mismatch", "incomparable"}


def test_a_receiver_that_is_busy_gets_the_batch_again(world: Any, receiver: Any, over_http: Any) -> None:
    """503, then it takes it: nothing is lost and nothing doubled."""
    there = receiver(503)
    world.segment(world.exchange(1, shadows=[]))
    tracing = over_http(Settings(there.endpoint))
    traced(world, tracing).close()
    wait_for(lambda: tracing.counts["sent"] == 2)
    assert len(there.paths) == 2
    assert len(there.spans) == 2
