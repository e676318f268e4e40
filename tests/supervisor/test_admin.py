"""The admin API: who may talk to it, and what it says to whom."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from proxy.supervisor.admin import make_admin_app
from proxy.supervisor.guards import MAX_BODY_BYTES, is_loopback_host
from proxy.supervisor.public import make_public_app
from proxy.supervisor.supervisor import Supervisor

READ = [("GET", "/status"), ("GET", "/totals"), ("GET", "/faults")]
CHANGE = [
    ("POST", "/faults"),
    ("DELETE", "/faults/slow"),
    ("POST", "/faults/kill"),
    ("POST", "/faults/kill/reset"),
    ("POST", "/reload"),
]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:9901", True),
        ("127.0.0.1:9901", True),
        ("127.8.8.8", True),
        ("[::1]:9901", True),
        ("LOCALHOST", True),
        ("", False),
        ("example.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("127.0.0.1:80@example.com", False),
        ("10.0.0.1:9901", False),
        ("[::2]", False),
        ("0.0.0.0", False),
        ("localhost:", True),
    ],
)
def test_only_names_of_this_machine_are_loopback_hosts(host: str, expected: bool) -> None:
    """A page of example.com that resolves to 127.0.0.1 still sends its own name."""
    assert is_loopback_host(host) is expected


@pytest.mark.parametrize(("method", "path"), READ + CHANGE)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "example.com"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret-token"}, 401),
        ({"Authorization": "Bearer secret-token", "Origin": "http://localhost"}, 403),
        ({"Authorization": "Bearer secret-token", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Authorization": "Bearer secret-token", "Sec-Fetch-Site": "same-origin"}, 403),
    ],
)
async def test_strangers_are_refused_on_every_path(
    aiohttp_client: Any, supervisor: Supervisor, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Reading is guarded like changing, and nothing happens."""
    client = await aiohttp_client(make_admin_app(supervisor, "secret-token"))
    answer = await client.request(method, path, headers=headers)
    assert answer.status == status
    assert "error" in await answer.json()
    assert supervisor.steering.desk.armed


async def test_the_token_opens_it(aiohttp_client: Any, supervisor: Supervisor) -> None:
    """The scheme is case-insensitive (RFC 9110, 11.1), the token is not."""
    client = await aiohttp_client(make_admin_app(supervisor, "secret-token"))
    for value, status in (("Bearer secret-token", 200), ("bearer secret-token", 200), ("Bearer SECRET-TOKEN", 401)):
        assert (await client.get("/faults", headers={"Authorization": value})).status == status


async def test_behind_tls_other_names_are_right_and_the_rest_is_guarded_as_ever(
    aiohttp_client: Any, supervisor: Supervisor
) -> None:
    """The certificate sees to rebinding; pages and strangers are refused all the same."""
    client = await aiohttp_client(make_admin_app(supervisor, "secret-token", anywhere=True))
    host, bearer = {"Host": "proxy.example.com"}, {"Authorization": "Bearer secret-token"}
    for headers, status in (
        (host | bearer, 200),
        (host, 401),
        (host | bearer | {"Origin": "https://proxy.example.com"}, 403),
        (host | bearer | {"Sec-Fetch-Site": "none"}, 200),
    ):
        assert (await client.get("/faults", headers=headers)).status == status


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("PUT", "/faults", "GET, HEAD, POST"), ("POST", "/status", "GET, HEAD"), ("GET", "/reload", "POST")],
)
async def test_other_methods_are_refused_with_those_that_work(
    aiohttp_client: Any, supervisor: Supervisor, method: str, path: str, allow: str
) -> None:
    """405 with Allow."""
    client = await aiohttp_client(make_admin_app(supervisor, None))
    answer = await client.request(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allow)


async def test_an_unknown_path_gets_the_known_ones(aiohttp_client: Any, supervisor: Supervisor) -> None:
    """A remedy beside the error."""
    client = await aiohttp_client(make_admin_app(supervisor, None))
    answer = await client.get("/fault")
    assert answer.status == 404
    assert "/faults/kill" in (await answer.json())["error"]


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"", 400, "name: got none"),
        (b"[1]", 400, "body: must be a JSON object"),
        (b"{", 400, "body: must be a JSON object"),
        (b'{"name": 1}', 400, "name: got none"),
        (b'{"name": "slow", "duration": "soon"}', 400, "duration: got 'soon', must be a duration such as"),
        (b'{"name": "slow", "duration": "61s"}', 400, "must be > 0 and"),
        (b'{"name": "slwo"}', 404, "no fault named 'slwo' is defined; known: slow"),
        (b'{"name": "x", "kind": "reset", "start_at": "2030-01-01T00:00:00Z"}', 400, "start_at"),
        (b'{"name": "' + b"x" * MAX_BODY_BYTES + b'"}', 413, "body: must be"),
        (b'{"name": "slow", "duration": "30s"}', 201, ""),
    ],
)
async def test_starting_a_fault_says_what_is_wrong(
    aiohttp_client: Any, supervisor: Supervisor, body: bytes, status: int, part: str
) -> None:
    """Each refusal has its status, the place, and a remedy."""
    client = await aiohttp_client(make_admin_app(supervisor, None))
    answer = await client.post("/faults", data=body)
    said = await answer.json()
    assert (answer.status, part in said.get("error", "")) == (status, True), said


async def test_a_fault_is_started_listed_and_ended(aiohttp_client: Any, supervisor: Supervisor) -> None:
    """The whole life through the API, and its audit."""
    client = await aiohttp_client(make_admin_app(supervisor, None))
    started = await (await client.post("/faults", json={"name": "slow"})).json()
    assert started["done"][0]["what"] == "started"
    listed = await (await client.get("/faults")).json()
    assert listed["running_dose"] == 0.05
    assert listed["faults"][0]["phase"] == "running"
    assert [fault.name for fault in supervisor.steering.lease().faults] == ["slow"]
    assert (await client.delete("/faults/slow")).status == 200
    assert (await client.delete("/faults/slow")).status == 409
    assert supervisor.steering.lease().faults == []
    assert len(supervisor.state.fault_audit.read_text().splitlines()) == 2


async def test_a_reset_wants_to_be_meant(aiohttp_client: Any, supervisor: Supervisor) -> None:
    """A bare POST does not arm the faults again."""
    client = await aiohttp_client(make_admin_app(supervisor, None))
    assert (await client.post("/faults/kill")).status == 200
    assert (await client.post("/faults/kill/reset")).status == 400
    assert (await client.post("/faults/kill/reset", json={"armed": True})).status == 200
    assert supervisor.steering.desk.armed


async def test_the_read_only_listener_changes_nothing(aiohttp_client: Any, supervisor: Supervisor) -> None:
    """GET and HEAD of four pages; no other method, no other path."""
    app: web.Application = make_public_app(supervisor)
    client = await aiohttp_client(app)
    for path, status in (("/metrics", 200), ("/healthz", 200), ("/status", 200), ("/faults", 404)):
        assert (await client.get(path)).status == status
        assert (await client.head(path)).status == status
        assert (await client.post(path, data=b"x")).status in (404, 405)
    page = await (await client.get("/metrics")).text()
    assert 'parallax_plan_info{version="p1"} 1.0' in page
    assert 'parallax_fault_active{fault="slow"} 0.0' in page


async def test_ready_means_that_nothing_is_in_the_way(aiohttp_client: Any, supervisor: Supervisor) -> None:
    """While it drains it is alive and not ready, with the reason."""
    client = await aiohttp_client(make_public_app(supervisor))
    supervisor.draining = True
    answer = await client.get("/readyz")
    assert (answer.status, (await answer.json())["reason"]) == (503, "draining")
    assert (await client.get("/healthz")).status == 200
