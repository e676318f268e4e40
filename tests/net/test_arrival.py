"""The moment between the end of a handshake and the first request; and what is counted of those that fail."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from proxy.net.arrival import _Early, result_of


class Heard:
    """Stands where a caller's connection stands, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connection_made(self, transport: Any) -> None:
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> None:
        self.told.append("end")

    def connection_lost(self, error: Any) -> None:
        self.told.append("lost")


@pytest.mark.parametrize("before", range(4))
def test_what_comes_early_and_what_comes_late_is_told_in_order(before: int) -> None:
    """Wherever the hand-over falls between two events: a connection that is lost then must not stay for ever."""
    early, down = _Early(), Heard()
    events = [
        lambda: early.data_received(b"one"),
        lambda: early.data_received(b"two"),
        lambda: early.connection_lost(None),
    ]
    for event in events[:before]:
        event()
    early.hand_over(down, None)  # type: ignore[arg-type]
    for event in events[before:]:
        event()
    assert down.told == ["made", b"one", b"two", "lost"]


@pytest.mark.parametrize("before", [True, False])
def test_a_caller_that_sends_no_more_is_heard_of(before: bool) -> None:
    """It may still wait for its answer."""
    early, down = _Early(), Heard()
    if before:
        early.eof_received()
    early.hand_over(down, None)  # type: ignore[arg-type]
    if not before:
        early.eof_received()
    assert down.told == ["made", "end"]


def failed(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "text")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (failed("PEER_DID_NOT_RETURN_A_CERTIFICATE"), "no_client_certificate"),
        (failed("SSLV3_ALERT_BAD_CERTIFICATE"), "refused_by_caller"),
        (failed("TLSV1_ALERT_UNKNOWN_CA"), "refused_by_caller"),
        (failed("SOMETHING_NEW"), "other"),
        (ConnectionAbortedError("taking longer"), "timeout"),
        (ConnectionResetError(), "closed"),
    ],
)
def test_a_failed_handshake_is_counted_by_one_of_a_few_words(error: Exception, result: str) -> None:
    """Whatever callers send, the label stays small."""
    assert result_of(error) == result
