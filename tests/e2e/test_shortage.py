"""Short of disk or memory: what was not written is counted, the analyst goes first, and traffic goes on."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from loadtests.tree import TREE
from tests.e2e.conftest import Parallax, World, until
from tests.e2e.test_processes import ROUTES, counted_once

pytestmark = pytest.mark.e2e

BODIES = "log: {bodies: 100%}\n"


def namespace() -> list[str]:
    """A command that runs another where it may mount, and where nothing is left mounted after it."""
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    if subprocess.run([*own, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    return own


def logged(proxy: Parallax, result: str) -> float:
    return proxy.metric(f'log_records_total{{result="{result}"')


async def test_a_full_file_system_costs_records_and_nothing_else(world: World):
    """State on a file system of 4 MiB that fills up: every answer comes, every record is written or counted."""
    own = namespace()
    proxy = world.parallax(BODIES + ROUTES)
    proxy.state.mkdir(mode=0o700)
    mount = f'mount -t tmpfs -o size=4m,mode=700 none "{proxy.state}" && exec "$@"'
    process = proxy.start(*own, "sh", "-c", mount, "sh")
    await proxy.ready()
    inside = Path(f"/proc/{process.pid}/root{proxy.state}")
    callers = world.callers(proxy, callers=6, fresh=2)
    await callers.send(200)
    filler = inside / "filler"

    def fill() -> None:
        with filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    async def keep_full() -> None:  # what the analyst deletes is filled up again
        while True:
            await asyncio.to_thread(fill)
            await asyncio.sleep(0.02)

    filling = asyncio.ensure_future(keep_full())
    await until(lambda: logged(proxy, "dropped") > 0, "dropped records")
    status, said = await asyncio.to_thread(lambda: (proxy.status() or {}, proxy.tail()))
    assert "No space left on device" in status["workers"][0]["health"]["log_error"], said
    await callers.send(200)
    filling.cancel()
    await asyncio.wait({filling})
    filler.unlink()
    written = logged(proxy, "written")
    await callers.send(200)
    await until(lambda: logged(proxy, "written") > written, "writing again")
    await callers.stop()
    both = 2 * len(callers.answered)  # the exchange and its shadow leg
    await until(lambda: logged(proxy, "written") + logged(proxy, "dropped") >= both, "every record accounted for")
    assert logged(proxy, "written") + logged(proxy, "dropped") == both
    assert callers.failures == []
    assert callers.statuses.keys() == {200}
    await proxy.stop()


async def test_a_slow_disk_costs_records_and_no_time(world: World):
    """The disk takes a megabyte a second and gets far more: answers go on, what does not fit is counted."""
    proxy = world.parallax(BODIES + ROUTES)
    slow = str(Path(__file__).parent / "slow_disk")
    proxy.start(PYTHONPATH=os.pathsep.join([str(TREE), slow]))
    await proxy.ready()
    (proxy.state / "slow").touch()
    callers = world.callers(proxy, callers=6, fresh=2, padding=200_000)
    await until(lambda: logged(proxy, "dropped") > 0, "dropped records")
    await callers.send(100)
    await callers.stop()
    (proxy.state / "slow").unlink()
    both = 2 * len(callers.answered)
    await until(lambda: logged(proxy, "written") + logged(proxy, "dropped") >= both, "every record accounted for")
    assert logged(proxy, "written") + logged(proxy, "dropped") == both
    assert callers.failures == []
    assert callers.statuses.keys() == {200}
    await proxy.stop()


async def test_the_analyst_is_the_first_that_the_kernel_kills(world: World):
    """By the kernel's own score, whatever the others hold; so is the next one, and nothing is lost."""
    proxy = world.parallax(ROUTES)
    process = proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    await callers.send(100)
    analyst = (await until(proxy.status, "status"))["analyst"]["pid"]
    await until(lambda: oom(analyst, "score_adj") > 0, "an analyst that has made itself humble")
    others = proxy.pids() - {analyst}
    assert process.pid in others
    assert len(others) >= 3, "supervisor, worker and spare"
    assert all(oom(pid, "score_adj") == 0 for pid in others)
    assert oom(analyst, "score") > max(oom(pid, "score") for pid in others)
    os.kill(analyst, signal.SIGKILL)
    fresh = await until(lambda: (s := proxy.status()) and s["analyst"]["pid"] not in (None, analyst) and s, "another")
    await until(lambda: oom(fresh["analyst"]["pid"], "score_adj") > 0, "its humbleness")
    soft, _ = resource.prlimit(fresh["analyst"]["pid"], resource.RLIMIT_AS)
    assert 0 < soft <= 4 * 1024**3
    await callers.send(200)
    await callers.stop()
    await proxy.stop()
    assert callers.failures == []
    assert counted_once(proxy) == set(callers.answered)


def oom(pid: int, what: str) -> int:
    return int(Path(f"/proc/{pid}/oom_{what}").read_text())
