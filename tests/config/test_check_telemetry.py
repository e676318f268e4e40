"""The access log and the spans, as they are written in the file."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.config.advice import warnings
from proxy.config.parse import parse
from proxy.http.attributes import ACCESS_DEFAULT
from proxy.plan.compile import compile_deployment, compile_plan
from proxy.plan.data import AccessLog, Tracing

BASE = """
upstreams: {a: 127.0.0.1:9001}
routes: [{name: r, upstream: a, unit: [{header: x-user-id}, client_address]}]
"""


def read(text: str) -> Any:
    return parse(BASE + text, file="f.yaml", env={})


def test_both_are_off_unless_they_are_asked_for() -> None:
    """An upgrade must not begin to write or to send."""
    config = read("")
    assert compile_plan(config).access_log is None
    assert compile_deployment(config).tracing is None


def test_a_path_alone_is_an_access_log() -> None:
    """With every field by default, bounded on the disk."""
    assert compile_plan(read("access_log: /var/log/a.jsonl")).access_log == AccessLog(
        "/var/log/a.jsonl", fields=list(ACCESS_DEFAULT), rotate_bytes=100 * 1024**2
    )


def test_everything_about_the_access_log_reaches_the_plan() -> None:
    """In the program's units."""
    config = read("""
access_log:
  path: stderr
  sample: 5%
  errors: off
  slow: 250ms
  fields: [url.path]
  rotate: {size: off, age: 1d, keep: 9}
""")
    assert compile_plan(config).access_log == AccessLog(
        "stderr", 0.05, False, 0.25, ["url.path"], rotate_bytes=0, rotate_s=86_400.0, rotate_keep=9
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://collector/", "http://collector/v1/traces"),
        ("https://[::1]:4318/x/v1/traces", "https://[::1]:4318/x/v1/traces"),
    ],
)
def test_the_path_of_a_receiver_may_be_left_out(written: str, meant: str) -> None:
    """By convention it is that of the signal."""
    assert compile_deployment(read(f"tracing: '{written}'")).tracing == Tracing(meant)


def test_a_worker_hears_of_tracing_only_where_it_writes_headers() -> None:
    """Another receiver is not another plan."""
    plans = [compile_plan(read(f"tracing: http://h:{port}")) for port in (1, 2)]
    assert plans[0] == plans[1]
    ours = compile_plan(read("tracing: {endpoint: 'http://h', propagate: ours, sample: 1%}"))
    assert ours.tracing == Tracing("http://h/v1/traces", 0.01, propagate_ours=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("access_log: {path: stdout, fields: [url.pth]}", "access_log.fields[0]: got 'url.pth', must be"),
        ("access_log: {path: stdout, sample: 2}", "access_log.sample: got 2, must be between 0 and 1"),
        ("access_log: {path: a, rotate: {size: 1KiB}}", "access_log.rotate.size: got '1KiB', must be ≥ 64KiB, or off"),
        ("access_log: {path: a, rotate: {age: 5s}}", "access_log.rotate.age: got '5s', must be ≥ 1m, or off"),
        ("tracing: 127.0.0.1:4318", "tracing: got '127.0.0.1:4318', must be an http or https URL"),
        ("tracing: http://me:secret@h/", "tracing: got 'http://me:secret@h/', must be an http or https URL"),
        ("tracing: {endpoint: 'http://h', propagate: no}", "tracing.propagate: got 'no', must be unchanged or ours"),
    ],
)
def test_what_cannot_be_meant_is_refused(problems: Any, text: str, message: str) -> None:
    """With its place, its value and what it must be."""
    assert any(message in problem for problem in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "access_log: {path: stdout, fields: [client.address]}",
            "access_log.fields: client.address is a unit of route r, so its lines tell whose the hashes are",
        ),
        ("log: {enabled: off}\ntracing: http://h", "tracing: no span is sent, they are made from the log"),
        ("analyst: off\ntracing: http://h", "by the analyst, and analyst is off"),
    ],
)
def test_what_is_probably_not_meant_is_warned_about(text: str, message: str) -> None:
    """It is allowed, and said."""
    assert any(message in str(problem) for problem in warnings(read(text)))
