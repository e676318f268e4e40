"""Certificates, Unix sockets, the admin API over TLS and forced arms, with processes as a user starts them."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.tree import with_tree
from proxy.supervisor.client import ask
from tests.e2e.conftest import Parallax, World, free_port, one_request, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROUTES = """
routes:
  - {name: predict, unit: {header: x-user-id}, experiments: [ranker]}
experiments:
  ranker: {arms: {a: {weight: 50%, upstream: a}, b: {weight: 50%, upstream: b}}}
"""


def build(world: World, listener: str, *, admin: str = "", more: str = "", workers: int = 2) -> Parallax:
    """A proxy whose listener and admin API are as a test has them."""
    proxy = world.parallax(ROUTES)
    text = f"workers: {workers}\nlisteners: [{listener}]\n".replace("PORT", str(proxy.port))
    text += f"admin: {{metrics: '127.0.0.1:{proxy.metrics_port}'{admin}}}\nlimits: {{drain: 2s}}\n"
    proxy.config.write_text(text + world.upstreams() + ROUTES + more, encoding="utf-8")
    return proxy


def run(proxy: Parallax, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=proxy.folder,
        env=with_tree(),
    )


def metric(proxy: Parallax, line: str) -> float:
    page = httpx.get(f"http://127.0.0.1:{proxy.metrics_port}/metrics", timeout=5).text
    return sum(float(found.rpartition(" ")[2]) for found in page.splitlines() if found.startswith(line))


async def fetch(proxy: Parallax, headers: dict[str, str]) -> httpx.Response:
    """In a thread: the models answer on this loop."""
    return await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{proxy.port}/", headers=headers, timeout=10)


async def serial(proxy: Parallax, context: ssl.SSLContext) -> str:
    """Of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context, server_hostname="localhost")
    number: str = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    return number


async def test_a_certificate_is_replaced_under_load_and_a_broken_one_refused(world: World, authority: Any) -> None:
    """No request fails; every worker shows the new one; a broken file and a reload with it leave what is."""
    first = authority.issue()
    tls = f"tls: {{certificate: {first.certificate}, key: {first.key}}}"
    proxy = build(world, f"{{address: '127.0.0.1:PORT', {tls}}}")
    proxy.start()
    await proxy.all_ready()
    context = authority.client()

    def connect() -> Any:
        return asyncio.open_connection("127.0.0.1", proxy.port, ssl=context, server_hostname="localhost")

    callers = world.callers(proxy, connect=connect)
    await callers.send(200)
    old = await serial(proxy, context)
    authority.issue()
    renewed = 'parallax_certificate_reloads_total{result="renewed"}'
    await until(lambda: metric(proxy, renewed) == 3, "both workers and the spare to take the new certificate")
    assert old not in {await serial(proxy, context) for _ in range(8)}
    await callers.send(200)
    Path(first.key).write_text("garbage", encoding="ascii")
    refused = 'parallax_certificate_reloads_total{result="refused"}'
    await until(lambda: metric(proxy, refused) == 3, "both workers and the spare to refuse the broken key")
    answer = run(proxy, "status", "--state", str(proxy.state))
    assert answer.returncode == 0
    transport = httpx.HTTPTransport(uds=str(proxy.state / "admin.sock"))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=20) as client:
        reload = await asyncio.to_thread(client.post, "/reload")
    assert reload.status_code == 422
    assert f"listeners[0].tls: {first.key}: holds no private key" in reload.text
    await callers.send(200)
    assert old not in {await serial(proxy, context) for _ in range(4)}
    await callers.stop()
    await proxy.stop()
    assert callers.failures == []
    assert callers.statuses.keys() == {200}


def test_a_key_that_does_not_fit_is_told_before_anything_starts(world: World, authority: Any, stranger: Any) -> None:
    """By `check` and by `serve`, with place and file; a file that is not there is an error to `serve` alone."""
    certificate, key = authority.issue().certificate, stranger.issue().key
    proxy = build(world, f"{{address: '127.0.0.1:PORT', tls: {{certificate: {certificate}, key: {key}}}}}")
    expected = f"listeners[0].tls: {key}: the private key does not belong to {certificate}"
    for words in (("check",), ("serve", "--state", str(proxy.state))):
        result = run(proxy, *words, str(proxy.config))
        assert result.returncode == 1
        assert expected in result.stdout + result.stderr
    Path(key).unlink()
    checked = run(proxy, "check", str(proxy.config))
    assert (checked.returncode, f"warning: {key}: no such file" in checked.stdout) == (0, True)
    assert run(proxy, "serve", str(proxy.config), "--state", str(proxy.state)).returncode == 1


async def test_a_unix_socket_is_shared_by_the_workers_and_outlives_their_supervisor(world: World) -> None:
    """Both accept; a worker and then the supervisor are killed and no request fails; the end removes the file."""
    path = world.folder / "traffic.sock"
    proxy = build(world, f"{{address: 'unix:{path}', mode: \"0600\"}}")
    first = proxy.start()
    await proxy.ready()
    assert path.stat().st_mode & 0o777 == 0o600
    callers = world.callers(proxy, connect=lambda: asyncio.open_unix_connection(path))
    await callers.send(300)

    def each_worker_serves() -> bool:
        return len({w["index"] for w in (proxy.status() or {"workers": []})["workers"] if w["connections"]}) == 2

    await until(each_worker_serves, "connections on both workers")
    first.kill()
    first.wait()
    await callers.send(200)
    proxy.start()
    await proxy.ready()
    await callers.send(300)
    await until(lambda: len(proxy.pids()) == 5, "the orphans to end: supervisor, two workers, spare, analyst")
    await callers.send(100)
    await callers.stop()
    assert callers.failures == []
    victim = proxy.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    await until(lambda: victim not in proxy.worker_pids() and len(proxy.worker_pids()) == 2, "a new worker")
    await proxy.ready()
    reader, writer = await asyncio.open_unix_connection(path)
    status, _, _ = await one_request(reader, writer, "/v2/models/m/infer", "u", "r")
    assert status == 200
    writer.close()
    await proxy.stop()
    assert not path.exists()


async def test_a_socket_that_somebody_listens_on_is_not_taken(world: World) -> None:
    """The holder is named; a stale file is replaced, a file that is no socket is left alone."""
    path = world.folder / "traffic.sock"
    proxy = build(world, f"'unix:{path}'", workers=1)
    server = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path)
    result = await asyncio.to_thread(run, proxy, "serve", str(proxy.config), "--state", str(proxy.state))
    assert result.returncode == 1
    assert f"listen on unix:{path}: the socket is in use by" in result.stderr
    assert f"(pid {os.getpid()})" in result.stderr
    server.close()
    path.unlink(missing_ok=True)
    path.write_text("precious", encoding="ascii")
    result = await asyncio.to_thread(run, proxy, "serve", str(proxy.config), "--state", str(proxy.state))
    assert "there is a file that is no socket" in result.stderr
    assert path.read_text(encoding="ascii") == "precious"


@pytest.mark.parametrize("proof", ["token", "certificate"])
async def test_the_admin_api_beyond_loopback_wants_tls_and_a_proof(world: World, authority: Any, proof: str) -> None:
    """A bearer token, or a client certificate of the named authority; nobody else changes or sees anything."""
    port = free_port()
    issued, operator = authority.issue("localhost", "127.0.0.1"), authority.issue("ops", stem="ops")
    client_ca = f", client_ca: {authority.file}" if proof == "certificate" else ""
    tls = f"tls: {{certificate: {issued.certificate}, key: {issued.key}{client_ca}}}"
    proxy = build(world, "'127.0.0.1:PORT'", admin=f", address: '0.0.0.0:{port}', {tls}", workers=1)
    proxy.start()
    await proxy.ready()
    base = f"https://127.0.0.1:{port}"

    def call(context: ssl.SSLContext, **headers: str) -> int:
        with httpx.Client(verify=context, base_url=base, timeout=10) as client:
            return client.post("/faults/kill", headers=headers).status_code

    bare, shown = authority.client(), authority.client(operator)
    if proof == "token":
        token = (proxy.state / "admin.token").read_text(encoding="ascii")
        bearer = {"authorization": f"Bearer {token}"}
        assert await asyncio.to_thread(call, bare) == 401
        assert await asyncio.to_thread(lambda: call(bare, **bearer, origin="https://example.com")) == 403
        assert not (proxy.state / "faults.killed").exists()
        assert await asyncio.to_thread(lambda: call(bare, **bearer)) == 200
    else:
        with pytest.raises(httpx.TransportError):
            await asyncio.to_thread(call, bare)
        assert await asyncio.to_thread(lambda: call(shown, origin="https://example.com")) == 403
        assert not (proxy.state / "faults.killed").exists()
        assert await asyncio.to_thread(call, shown) == 200
    with pytest.raises(httpx.TransportError):
        await asyncio.to_thread(lambda: httpx.get(f"http://127.0.0.1:{port}/status", timeout=5))
    assert (proxy.state / "faults.killed").exists()
    # The command line goes by the socket, so it needs neither.
    assert await asyncio.to_thread(ask, proxy.state, "GET", "/status")
    await proxy.stop()


async def test_what_parallax_force_prints_forces_the_arm(world: World) -> None:
    """Headers and cookie alike, from the same configuration; explain says so; the log has an override."""
    key = world.folder / "force.key"
    key.write_text("k" * 40 + "\n", encoding="ascii")
    key.chmod(0o600)
    more = f"trust: {{force_key_file: {key}}}\n"
    proxy = build(world, "'127.0.0.1:PORT'", more=more, workers=1)
    proxy.start()
    await proxy.ready()
    for arm in ("a", "b"):
        printed = run(proxy, "force", str(proxy.config), "--experiment", "ranker", "--arm", arm)
        assert printed.returncode == 0, printed.stderr
        header, signature, cookie = printed.stdout.splitlines()
        for lines in ([header, signature], [cookie]):
            headers = dict(line.split(": ", 1) for line in lines)
            answer = await fetch(proxy, headers)
            assert answer.json()["outputs"][0]["data"] == [{"a": 0.25, "b": 0.75}[arm]]
            words = [word for line in lines for word in ("-H", line)]
            told = run(proxy, "explain", str(proxy.config), "--method", "GET", "--path", "/", *words)
            assert f"arm {arm}, override" in told.stdout
    answer = await fetch(proxy, {"x-parallax-force": "ranker=b"})
    assert answer.json()["outputs"][0]["data"] == [0.25]
    await until(lambda: metric(proxy, 'parallax_forced_arms_total{result="unsigned"}') == 1, "the last to be counted")
    assert metric(proxy, 'parallax_forced_arms_total{result="believed"}') == 4
    await proxy.stop()
    reasons = proxy.rows("SELECT assignments[1].arm, assignments[1].reason FROM exchanges ORDER BY ts")
    assert reasons == [("a", "override")] * 2 + [("b", "override")] * 2 + [("a", "no_unit")]
