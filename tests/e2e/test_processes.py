"""The processes as a whole: what was sent is in the log, whatever is killed, reloaded or full."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from pathlib import Path

import pytest

from proxy.supervisor.client import ask
from tests.e2e.conftest import Parallax, World, one_request, until

pytestmark = pytest.mark.e2e

ROUTES = """
routes:
  - {name: predict, match: {path_prefix: /v2/}, unit: {header: x-user-id}, experiments: [ranker], shadows: [cand], reveal: true}
experiments:
  ranker: {arms: {a: {weight: 50%, upstream: a}, b: {weight: 50%, upstream: b}}}
shadows:
  cand: {upstream: c}
"""


def counted_once(proxy: Parallax) -> set[str]:
    """The request ids of the log, after seeing that no exchange, leg or pair stands there twice."""
    doubled = "SELECT count(*), count(DISTINCT (exchange_id, leg, shadow)) FROM exchanges"
    ((rows, distinct),) = proxy.rows(doubled)
    assert rows == distinct
    ((pairs, distinct_pairs),) = proxy.rows("SELECT count(*), count(DISTINCT (exchange_id, shadow)) FROM pairs")
    assert pairs == distinct_pairs
    ((primaries,),) = proxy.rows("SELECT count(*) FROM exchanges WHERE leg = 'primary'")
    assert pairs == primaries, "every exchange was sampled, so every one has its pair, compared or not"
    return {name for (name,) in proxy.rows("SELECT request_id FROM exchanges WHERE leg = 'primary'")}


async def test_everything_that_was_sent_is_in_the_log_exactly_once(world: World):
    """The Parquet, counted against what was sent: exchanges, legs, pairs, arms and comparisons."""
    proxy = world.parallax("workers: 2\n" + ROUTES)
    proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    await callers.send(2000)
    await callers.stop()
    await proxy.stop()
    assert callers.failures == []
    assert counted_once(proxy) == set(callers.answered)
    comparisons = dict(proxy.rows("SELECT comparison, count(*) FROM pairs GROUP BY 1"))
    arms = dict(proxy.rows("SELECT assignments[1].arm, count(*) FROM exchanges WHERE leg = 'primary' GROUP BY 1"))
    # The candidate answers as model a does and model b does not, so arms and comparisons mirror each other.
    assert comparisons == {"match": arms["a"], "mismatch": arms["b"]}
    moved = proxy.rows(
        "SELECT unit_hash FROM exchanges WHERE leg = 'primary' GROUP BY 1 HAVING count(DISTINCT assignments[1].arm) > 1"
    )
    assert moved == []
    assert not list((proxy.state / "spool").glob("*.seg")), "what was read is deleted"


async def test_a_killed_worker_loses_no_acknowledged_record_and_traffic_goes_on(world: World):
    """kill -9 of a worker: its open requests fail, everybody else's do not, nothing logged is lost or doubled."""
    proxy = world.parallax("workers: 2\n" + ROUTES)
    proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    await callers.send(500)
    victim = proxy.worker_pids()[0]
    killed_at = asyncio.get_running_loop().time()
    os.kill(victim, signal.SIGKILL)
    await callers.send(1000)
    await until(lambda: len(set(proxy.worker_pids()) - {victim}) == 2, "a new worker")
    await callers.send(500)
    await callers.stop()
    await proxy.stop()
    assert len(callers.failures) <= callers.callers, callers.failures[:20]
    assert not any("CROSSED" in failure for failure in callers.failures)
    logged = counted_once(proxy)
    # A record is acknowledged once it is written, at most a flush (100 ms) after the answer; a second is generous.
    settled = {name for name, at in callers.answered.items() if at < killed_at - 1.0 or at > killed_at + 1.0}
    assert settled <= logged


async def test_a_killed_analyst_resumes_at_its_offset(world: World):
    """kill -9 of the analyst, three times: it comes back, and every record is in the Parquet exactly once."""
    proxy = world.parallax(ROUTES)
    proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    for _ in range(3):
        await callers.send(400)
        pid = (await until(proxy.status, "status"))["analyst"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await until(
            lambda pid=pid: (proxy.status() or {"analyst": {"pid": pid}})["analyst"]["pid"] not in (pid, None),
            "a new analyst",
        )
    await callers.send(300)
    await callers.stop()
    await proxy.stop()
    assert callers.failures == []
    assert not list((proxy.state / "spool").glob("*.seg")), proxy.tail()
    assert counted_once(proxy) == set(callers.answered)


async def test_without_its_supervisor_traffic_goes_on_faults_end_and_a_new_one_takes_over(world: World):
    """kill -9 of the supervisor: no request fails, the fault's lease runs out, nothing is lost or doubled."""
    faults = """
limits: {drain: 2s}
faults:
  max_dose: 100%
  definitions:
    mark: {kind: delay, value: 1ms, dose: 100%, max_duration: 10m, washout: 0s, reveal: true}
"""
    proxy = world.parallax(ROUTES + faults)
    first = proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    await callers.send(200)
    await asyncio.to_thread(ask, proxy.state, "POST", "/faults", {"name": "mark"})

    async def is_faulted() -> bool:
        reader, writer = await world.connect(proxy)
        _, headers, _ = await one_request(reader, writer, "/v2/models/m/infer", "probe", "probe")
        return headers.get("x-parallax-fault") == "mark"

    async def wait_for(wanted: bool) -> None:
        async with asyncio.timeout(30):
            while await is_faulted() is not wanted:
                await asyncio.sleep(0.05)  # between two looks

    await wait_for(True)
    first.kill()
    first.wait()
    await wait_for(False)
    await callers.send(300)
    assert callers.failures == []
    proxy.start()
    await proxy.ready()
    await callers.send(300)
    assert not await is_faulted(), "a new supervisor does not arm again what was running"
    await callers.stop()
    await until(lambda: len(proxy.pids()) == 4, "the orphans to end: supervisor, worker, spare and analyst are left")
    await proxy.stop()
    assert not any("CROSSED" in failure for failure in callers.failures)
    assert callers.failures == []
    logged = counted_once(proxy)
    assert set(callers.answered) <= logged
    await until(lambda: not proxy.pids(), "no process is left")


async def test_a_reload_under_load_fails_no_request_and_opens_an_epoch(world: World):
    """A changed file is taken, a broken one refused with its errors; both under load."""
    proxy = world.parallax(ROUTES)
    proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    for weight in (60, 70, 80):
        await callers.send(200)
        before = (await until(proxy.status, "status"))["plan_version"]
        changed = ROUTES.replace("a: {weight: 50%", f"a: {{weight: {100 - weight}%").replace(
            "b: {weight: 50%", f"b: {{weight: {weight}%"
        )
        proxy.write(world.upstreams() + changed)
        await until(
            lambda before=before: (proxy.status() or {"plan_version": before})["plan_version"] != before, "the new plan"
        )
    good = (await until(proxy.status, "status"))["plan_version"]
    proxy.write(world.upstreams() + ROUTES.replace("upstream: c", "upstream: nowhere"))
    await until(lambda: "nowhere" in json.dumps(proxy.status() or {}), "the refusal in the status")
    await callers.send(300)
    assert (await until(proxy.status, "status"))["plan_version"] == good
    await callers.stop()
    await proxy.stop()
    assert callers.failures == []
    assert callers.statuses.keys() == {200}
    assert counted_once(proxy) == set(callers.answered)
    epochs = [
        e for (e,) in proxy.rows("SELECT DISTINCT assignments[1].epoch FROM exchanges WHERE leg='primary' ORDER BY 1")
    ]
    assert epochs == [1, 2, 3, 4]
    left = proxy.rows(
        "WITH e AS (SELECT unit_hash, assignments[1].epoch AS epoch, assignments[1].arm AS arm FROM exchanges "
        "WHERE leg = 'primary') SELECT * FROM e x JOIN e y USING (unit_hash) "
        "WHERE x.epoch < y.epoch AND x.arm = 'b' AND y.arm = 'a'"
    )
    assert left == [], "a growing arm loses nobody"


async def test_a_drain_finishes_what_is_open_and_says_close(world: World):
    """SIGTERM: the open exchange gets its whole answer, with `Connection: close`; then the process ends with 0."""
    proxy = world.parallax(ROUTES)
    process = proxy.start()
    await proxy.ready()
    gate = world.gates["slow"] = asyncio.get_running_loop().create_future()
    reader, writer = await world.connect(proxy)
    idle_reader, idle_writer = await world.connect(proxy)
    await one_request(idle_reader, idle_writer, "/v2/models/m/infer", "idle", "idle-1")
    pending = asyncio.ensure_future(one_request(reader, writer, "/v2/models/m/infer", "slow", "slow-1"))
    await until(lambda: "requests_in_flight" in (proxy.get("/metrics") or "") and in_flight(proxy) == 1, "in flight")
    process.send_signal(signal.SIGTERM)
    await until(
        lambda: (proxy.status() or {"workers": [{"state": "draining"}]})["workers"][0]["state"] == "draining", "drain"
    )
    # An idle connection may still send: it is answered, and told to close.
    status, headers, _ = await one_request(idle_reader, idle_writer, "/v2/models/m/infer", "idle", "idle-2")
    assert (status, headers["connection"]) == (200, "close")
    assert not pending.done()
    gate.set_result(None)
    status, headers, _ = await pending
    assert (status, headers["connection"], headers["x-request-id"]) == (200, "close", "slow-1")
    writer.close()
    idle_writer.close()
    await until(lambda: process.poll() is not None, "the end")
    assert process.returncode == 0
    assert counted_once(proxy) == {"idle-1", "idle-2", "slow-1"}


def in_flight(proxy: Parallax) -> float:
    lines = [line for line in proxy.get("/metrics").splitlines() if line.startswith("parallax_requests_in_flight")]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


def log_count(proxy: Parallax, result: str) -> float:
    for line in (proxy.get("/metrics") or "").splitlines():
        if line.startswith("parallax_log_records_total") and f'result="{result}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0


async def test_a_full_disk_drops_records_counts_them_and_traffic_goes_on(world: World):
    """The worker may write no more bytes: every request is still answered, every lost record is counted."""
    proxy = world.parallax("log: {bodies: 100%}\n" + ROUTES)
    proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    await callers.send(300)
    (pid,) = proxy.worker_pids()
    # A limit on the size of files is what a full disk looks like to a writer: a short write, then an error.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    await until(lambda: log_count(proxy, "dropped") > 0, "dropped records")
    await callers.send(300)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    written = log_count(proxy, "written")
    await until(lambda: log_count(proxy, "written") > written, "writing again")
    await callers.stop()
    expected = 2 * len(callers.answered)
    await until(lambda: log_count(proxy, "written") + log_count(proxy, "dropped") >= expected, "all accounted for")
    written = log_count(proxy, "written")
    await proxy.stop()
    assert callers.failures == []
    assert callers.statuses.keys() == {200}
    ((rows,),) = proxy.rows("SELECT count(*) FROM exchanges WHERE outcome IS DISTINCT FROM 'worker_lost'")
    assert rows >= written - 2 * len(callers.answered)
    ((legs, distinct),) = proxy.rows("SELECT count(*), count(DISTINCT (exchange_id, leg, shadow)) FROM exchanges")
    assert legs == distinct


async def test_a_live_worker_has_loaded_nothing_heavy(world: World):
    """The worker never loads numpy, scipy, pydantic, aiohttp or DuckDB; the supervisor no numbers either."""
    proxy = world.parallax(ROUTES)
    process = proxy.start()
    await proxy.ready()
    (pid,) = proxy.worker_pids()
    mapped = Path(f"/proc/{pid}/maps").read_text()
    for name in ("numpy", "scipy", "pydantic", "aiohttp", "duckdb"):
        assert f"/{name}" not in mapped
    assert "/uvloop/" in mapped
    supervisor = Path(f"/proc/{process.pid}/maps").read_text()
    for name in ("numpy", "scipy", "duckdb"):
        assert f"/{name}" not in supervisor


async def test_a_second_sigterm_ends_a_worker_that_still_drains(world: World):
    """The first lets open connections finish, however long that takes; the second does not wait for them."""
    proxy = world.parallax("limits: {drain: 5m}\n" + ROUTES)
    proxy.start()
    await proxy.ready()
    reader, writer = await world.connect(proxy)
    await one_request(reader, writer, "/v2/models/m/infer", "idle", "idle-1")
    (pid,) = proxy.worker_pids()
    os.kill(pid, signal.SIGTERM)
    await until(
        lambda: (proxy.status() or {"workers": [{"health": {}}]})["workers"][0]["health"].get("draining"), "drain"
    )
    assert proxy.worker_pids() == [pid]
    os.kill(pid, signal.SIGTERM)
    await until(lambda: proxy.worker_pids() not in ([], [pid], [None]), "another worker in its place")
    await proxy.ready()
