"""Proof that a system does its job, before anything is measured.

The same user meets the same upstream twenty times over, both upstreams are seen, bodies of any bytes pass
unchanged both ways, and with a mirror the second server gets as many requests as were sent.
"""

from __future__ import annotations

import http.client
import http.server
import random
import re
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from loadtests.bench import load
from loadtests.bench.running import SystemFailed

REPEATS = 20
USERS = 12  # all of them on one of two halves: 2 in 4096
ECHO_SIZES = (0, 1, 84, 5_000, 100_000)
SETTLE_S = 10.0
QUIET_READINGS = 4  # the same number 0.3 s long: a mirrored copy may come after its answer


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


def start_echo(port: int) -> http.server.ThreadingHTTPServer:
    """A server behind the model servers that answers with the body it was sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@contextmanager
def connected(port: int, count: int = 1) -> Iterator[list[http.client.HTTPConnection]]:
    """Keep-alive connections to a port, closed in the end."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def ask(connection: http.client.HTTPConnection, user: str, target: str, body: bytes) -> bytes:
    """The body of the answer to one POST.

    Raises:
        SystemFailed: no answer, or not 200.
    """
    try:
        connection.request("POST", target, body, {"Content-Type": "application/json", "x-user-id": user})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise SystemFailed(f"POST {target} of {user} was not answered: {error!r}") from error
    if response.status != 200:
        raise SystemFailed(f"POST {target} of {user}: got status {response.status}, expected 200: {answer[:200]!r}")
    return answer


def mirrored_requests(status_port: int) -> int:
    """How many requests the mirrored server has seen, with this question for it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{status_port}/", timeout=5) as response:
        found = re.search(r"\n\s*\d+\s+\d+\s+(\d+)", response.read().decode())
    return int(found[1]) if found else 0


def settled_mirror(status_port: int, at_least: int, since: int) -> int:
    """How many requests were mirrored since the reading `since`, once they are enough and no more come."""
    seen: list[int] = []
    deadline = time.monotonic() + SETTLE_S
    while True:
        seen.append(mirrored_requests(status_port) - since - len(seen) - 1)
        quiet = len(seen) >= QUIET_READINGS and len(set(seen[-QUIET_READINGS:])) == 1
        if quiet and (seen[-1] >= at_least or time.monotonic() > deadline):
            return seen[-1]
        time.sleep(0.1)


def mirror_baseline(status_port: int) -> int:
    """A reading to count from, taken once the requests of before have all arrived."""
    settled_mirror(status_port, 0, mirrored_requests(status_port))
    return mirrored_requests(status_port)


def verify_split(port: int, target: str = load.TARGET, answers: Mapping[str, bytes] = load.ANSWERS) -> int:
    """Check stickiness and that both upstreams are used; returns the number of requests sent.

    Raises:
        SystemFailed: it does not split by user.
    """
    model_of = {answers["a"]: "a", answers["b"]: "b"}
    seen: dict[str, set[str]] = {}
    with connected(port, 2) as connections:
        for number in range(REPEATS):
            for user in (f"user-{index:04d}" for index in range(USERS)):
                answer = ask(connections[number % 2], user, target, load.BODY)
                if answer not in model_of:
                    raise SystemFailed(f"the answer is not byte for byte what a model server said: {answer[:200]!r}")
                seen.setdefault(user, set()).add(model_of[answer])
    torn = sorted(user for user, models in seen.items() if len(models) > 1)
    if torn:
        raise SystemFailed(f"{len(torn)} of {USERS} users met both models, {torn[0]} among them")
    if len(set().union(*seen.values())) < 2:
        raise SystemFailed(f"all {USERS} users met the same model")
    return REPEATS * USERS


def verify_mirror(port: int, status_port: int) -> int:
    """Check that every request is answered by the primary and mirrored once; returns the number of requests sent.

    Raises:
        SystemFailed: an answer is wrong, or the mirror saw another number of requests.
    """
    since = mirror_baseline(status_port)
    sent = REPEATS * USERS
    with connected(port) as (connection,):
        for number in range(sent):
            answer = ask(connection, f"user-{number % USERS:04d}", load.TARGET, load.BODY)
            if answer != load.ANSWERS["a"]:
                raise SystemFailed(f"the answer is not byte for byte the primary's: {answer[:200]!r}")
    mirrored = settled_mirror(status_port, sent, since)
    if mirrored != sent:
        raise SystemFailed(f"the mirror got {mirrored} requests, sent were {sent}")
    return sent


def verify_bytes(port: int) -> int:
    """Check that bodies of any bytes pass unchanged both ways; returns the number of requests sent.

    Raises:
        SystemFailed: a body came back changed.
    """
    source = random.Random(load.SEED)
    with connected(port) as (connection,):
        for size in ECHO_SIZES:
            body = source.randbytes(size)
            answer = ask(connection, "user-0001", "/v2/models/echo/infer", body)
            if answer != body:
                raise SystemFailed(f"a body of {size} bytes came back as {len(answer)} bytes that differ")
    return len(ECHO_SIZES)
