"""Operation without loss: whatever an operator does or a kernel kills, under load, every request and record counted.

Two kinds of callers are at work everywhere: those that keep their connections, and those that take a new one
for each request, which find out if a listening socket is closed even for a moment.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sysconfig
from pathlib import Path

import pytest

from loadtests.tree import VARIABLE
from proxy.supervisor.client import AdminRefused, ask
from tests.e2e.conftest import Caller, Parallax, World, connections_of, one_request, until
from tests.e2e.test_processes import ROUTES, counted_once

pytestmark = pytest.mark.e2e

# A thousand requests a second or so; more would be taken from the processes that start meanwhile.
PACE_S = 0.01


async def books_balance(proxy: Parallax, callers: Caller) -> None:
    """End everything; what was sent was answered once, with success, and is in the log once."""
    await callers.stop()
    await proxy.stop()
    assert callers.failures == []
    assert callers.statuses.keys() == {200}
    assert callers.sent == len(callers.answered)
    assert counted_once(proxy) == set(callers.answered)


@pytest.mark.skipif(VARIABLE not in os.environ, reason="the sources are under test: `make test` installs them")
async def test_an_installed_parallax_runs_compiled(world: World):
    """Where there is a compiler and Python's headers; else it says that it does not."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    form = "compiled" if shutil.which("cc") and headers.exists() else "interpreted"
    proxy = world.parallax(ROUTES)
    proxy.start()
    await proxy.ready()
    await until(lambda: f", {form}" in proxy.tail(), f"'{form}' in the log")
    (worker,) = proxy.worker_pids()
    maps = Path(f"/proc/{worker}/maps").read_text()
    assert ("parallax__mypyc" in maps) == (form == "compiled")
    await proxy.stop()


async def test_a_spare_answers_what_waits_for_a_dead_worker(world: World):
    """Connections in the queue of a worker that is stopped, then killed, are answered by the spare on its socket."""
    proxy = world.parallax("limits: {drain: 1s}\n" + ROUTES)
    proxy.start()
    await proxy.all_ready()
    (victim,) = proxy.worker_pids()
    spare = (await until(proxy.status, "status"))["spare"]["pid"]
    os.kill(victim, signal.SIGSTOP)
    waiting = []
    for number in range(20):
        reader, writer = await world.connect(proxy)
        request = one_request(reader, writer, "/v2/models/m/infer", "unit", f"queued-{number}")
        waiting.append(asyncio.ensure_future(request))
    await asyncio.sleep(0)
    os.kill(victim, signal.SIGKILL)
    answers = await asyncio.gather(*waiting)
    assert [status for status, _, _ in answers] == [200] * 20
    await until(lambda: proxy.worker_pids() == [spare], "the spare in the place of the dead worker")
    await until(
        lambda: (s := proxy.status()) and s["spare"]["state"] == "ready" and s["spare"]["pid"] != spare, "a new spare"
    )
    assert proxy.metric("takeovers_total") == 1
    await proxy.stop()
    assert counted_once(proxy) == {f"queued-{number}" for number in range(20)}


async def test_a_dead_worker_costs_what_was_open_on_it_and_nothing_else(world: World):
    """kill -9 under load, four times: every failure was a connection of the victim, everything else is answered."""
    proxy = world.parallax("workers: 2\n" + ROUTES)
    proxy.start()
    await proxy.all_ready()
    callers = world.callers(proxy, callers=8, fresh=4, pace_s=PACE_S)
    lost: list[int] = []
    for _ in range(4):
        await callers.send(200)
        victim = proxy.worker_pids()[0]
        os.kill(victim, signal.SIGSTOP)  # so that nobody comes or goes between the look and the end
        lost += await asyncio.to_thread(lambda pid=victim: sorted(connections_of(pid, proxy.port)))
        os.kill(victim, signal.SIGKILL)
        await until(lambda pid=victim: pid not in proxy.worker_pids(), "another in its place")
        await proxy.all_ready()
    await callers.send(200)
    await callers.stop()
    await proxy.stop()
    assert set(callers.failed_ports) <= set(lost)
    assert not any("CROSSED" in failure for failure in callers.failures)
    assert callers.sent == len(callers.answered) + len(callers.failures)
    assert callers.statuses.keys() == {200}


async def test_an_upgrade_loses_nothing_and_keeps_the_process(world: World):
    """Under load to more workers, then to fewer: no failure, the same supervisor process, all workers new."""
    proxy = world.parallax("workers: 2\n" + ROUTES)
    unix = str(world.folder / "callers.sock")
    listeners = "listeners: ["

    def write(workers: int) -> None:
        proxy.write(world.upstreams() + f"workers: {workers}\n" + ROUTES)
        text = proxy.config.read_text()
        proxy.config.write_text(text.replace(listeners, f"{listeners}{{address: 'unix:{unix}'}}, "))

    write(2)
    process = proxy.start()
    await proxy.all_ready()
    callers = world.callers(proxy, callers=6, fresh=6, pace_s=PACE_S)
    await callers.send(300)
    for workers, how in ((3, "command"), (1, "SIGUSR2")):
        old = proxy.pids() - {process.pid}
        answered = await asyncio.to_thread(proxy.metric, "requests_total")
        write(workers)
        if how == "command":
            status, said = await proxy.run("upgrade")
            assert status == 0, f"{said}\n{proxy.tail()}"
            assert "upgraded to version" in said
        else:
            process.send_signal(signal.SIGUSR2)
        await until(lambda n=workers, old=old: len(set(proxy.worker_pids()) - old - {None}) == n, "new workers")
        await callers.send(300)
        assert not old & set(proxy.worker_pids())
        reader, writer = await asyncio.open_unix_connection(unix)
        status, _, _ = await one_request(reader, writer, callers.path, "u", how)
        writer.close()
        callers.answered[how] = 0.0
        assert status == 200
        await until(lambda old=old: not old & proxy.pids(), "the old workers and their analyst to end")
        assert await asyncio.to_thread(proxy.metric, "requests_total") >= answered
    assert process.poll() is None
    callers.sent += 2
    assert proxy.metric('upgrades_total{result="ok"}') == 2
    await books_balance(proxy, callers)


async def test_an_upgrade_lets_open_requests_finish_and_closes_idle_connections_last(world: World):
    """Promise 5: a request under way is answered by the old worker, an idle connection stays until the deadline."""
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    world.gates["slow"] = gate
    proxy = world.parallax("limits: {drain: 3s}\n" + ROUTES)
    proxy.start()
    await proxy.all_ready()
    old = set(proxy.worker_pids())
    reader, writer = await world.connect(proxy)
    pending = asyncio.ensure_future(one_request(reader, writer, "/v2/models/m/infer", "slow", "slow-1"))
    kept = [await world.connect(proxy) for _ in range(3)]
    for number, (idle_reader, idle_writer) in enumerate(kept):
        await one_request(idle_reader, idle_writer, "/v2/models/m/infer", "idle", f"idle-{number}")
    status, said = await proxy.run("upgrade")
    assert status == 0, f"{said}\n{proxy.tail()}"
    # One idle connection speaks again: the old worker answers, and, once it was told to drain, that it closes.
    headers = {}
    while "connection" not in headers:
        status, headers, _ = await one_request(*kept[0], "/v2/models/m/infer", "idle", "idle-again")
        assert status == 200
    assert headers["connection"] == "close"
    assert not pending.done()
    gate.set_result(None)
    status, headers, _ = await pending
    assert (status, headers["connection"]) == (200, "close")
    for idle_reader, _ in kept[1:]:
        assert await idle_reader.read() == b"", "closed, and nothing said"
    await until(lambda: not old & proxy.pids(), "the old worker to end")
    assert await asyncio.to_thread(proxy.metric, 'closed_connections_total{reason="drain_idle"}') == 2
    assert await asyncio.to_thread(proxy.metric, 'closed_connections_total{reason="drain_open"}') == 0
    await proxy.stop()


async def test_an_upgrade_that_cannot_work_is_refused_and_changes_nothing(world: World):
    """A broken file, a port of somebody else, a program that is none: each is named, and traffic goes on."""
    proxy = world.parallax(ROUTES)
    process = proxy.start()
    await proxy.all_ready()
    workers = proxy.worker_pids()
    callers = world.callers(proxy, callers=4, fresh=4, pace_s=PACE_S)
    good = proxy.config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as other:
        more = f"listeners: [{{address: '127.0.0.1:{other.getsockname()[1]}'}}, "
        for text, problem in (
            (good + "nonsense: 1\n", "nonsense"),
            (good.replace("listeners: [", more), "the port is in use"),
        ):
            proxy.config.write_text(text)
            status, said = await proxy.run("upgrade")
            assert status == 1
            assert problem in said
            await callers.send(50)
    proxy.config.write_text(good)
    answer = await asyncio.to_thread(refusal, proxy, {"python": "/nonexistent/python"})
    assert "/nonexistent/python: no such file or directory" in answer
    assert proxy.metric('upgrades_total{result="refused"}') == 3
    assert proxy.worker_pids() == workers
    assert process.poll() is None
    await callers.send(50)
    await books_balance(proxy, callers)


def refusal(proxy: Parallax, program: dict[str, str]) -> str:
    """What the admin API says to an upgrade to a program that is none."""
    with pytest.raises(AdminRefused) as refused:
        ask(proxy.state, "POST", "/upgrade", program)
    return str(refused.value)


async def test_a_new_supervisor_takes_the_sockets_of_the_orphans(world: World):
    """kill -9 of the supervisor under load: the next one serves on the same sockets, and nobody was refused."""
    proxy = world.parallax("workers: 2\nlimits: {drain: 3s}\n" + ROUTES)
    first = proxy.start()
    await proxy.all_ready()
    callers = world.callers(proxy, callers=6, fresh=6, pace_s=PACE_S)
    await callers.send(300)
    orphans = set(proxy.worker_pids())
    first.kill()
    first.wait()
    await callers.send(300)
    proxy.start()
    await until(lambda: orphans.isdisjoint(proxy.worker_pids()) and proxy.worker_pids(), "new workers")
    await until(lambda: not orphans & proxy.pids(), "the orphans to end")
    await callers.send(300)
    await books_balance(proxy, callers)
    await until(lambda: not proxy.pids(), "no process is left")


async def test_an_overfull_worker_sheds_connections_to_the_others(world: World):
    """All connections are on one worker: it closes some with their answers, they come back elsewhere, none fails."""
    proxy = world.parallax("workers: 2\nlimits: {drain: 1s}\n" + ROUTES)
    proxy.start()
    await proxy.all_ready()
    full, empty = proxy.worker_pids()
    kept = []
    while len(kept) < 40:  # the kernel chooses the worker by a hash of the ports
        reader, writer = await world.connect(proxy)
        await one_request(reader, writer, "/v2/models/m/infer", "unit", "first")
        port = writer.get_extra_info("sockname")[1]
        if port in await asyncio.to_thread(connections_of, full, proxy.port):
            kept.append((reader, writer))
        else:
            writer.close()
    await until(lambda: not connections_of(empty, proxy.port), "an empty worker")
    closed = 0
    while closed < 5:
        for index, (reader, writer) in enumerate(kept):
            status, headers, _ = await one_request(reader, writer, "/v2/models/m/infer", "unit", "again")
            assert status == 200
            if headers.get("connection") == "close":
                closed += 1
                writer.close()
                kept[index] = await world.connect(proxy)
    await until(lambda: connections_of(empty, proxy.port), "connections of the other worker")
    await until(lambda: proxy.metric('closed_connections_total{reason="rebalance"}') >= closed, "the count")
    await proxy.stop()


@pytest.mark.parametrize("how", ["SIGHUP", "admin API", "command"])
async def test_each_way_to_reload_fails_no_request(world: World, how: str):
    """Reloads that change an upstream and the arms, under load."""
    proxy = world.parallax("workers: 2\n" + ROUTES)
    process = proxy.start()
    await proxy.ready()
    callers = world.callers(proxy, callers=6, fresh=2, pace_s=PACE_S)
    for number in (1, 2):
        await callers.send(100)
        before = (await until(proxy.status, "status"))["plan_version"]
        changed = ROUTES.replace("weight: 50%, upstream: a", f"weight: {50 + number}%, upstream: a").replace(
            "weight: 50%, upstream: b", f"weight: {50 - number}%, upstream: b"
        )
        upstreams = world.upstreams().replace(
            f"  b: 127.0.0.1:{world.ports['b']}",
            f"  b: {{endpoints: 127.0.0.1:{world.ports['b']}, keepalive: {number}s}}",
        )
        proxy.write(upstreams + "workers: 2\n" + changed)
        if how == "SIGHUP":
            process.send_signal(signal.SIGHUP)
        elif how == "admin API":
            answer = await asyncio.to_thread(ask, proxy.state, "POST", "/reload")
            assert answer["result"] == "ok"
        elif how == "command":
            status, said = await proxy.run("reload")
            assert status == 0
            assert "reloaded, plan" in said
        await until(lambda before=before: (s := proxy.status()) and s["plan_version"] != before and s["ready"], "it")
    await callers.send(100)
    await books_balance(proxy, callers)
