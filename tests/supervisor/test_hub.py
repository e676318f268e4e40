"""The supervisor's end of the control socket: who hangs up, and on whom."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.control.channel import encode_message, read_message
from proxy.control.messages import Hello, Lease
from proxy.supervisor.hub import Hub


def hello(pid: int) -> bytes:
    return encode_message(Hello("analyst", 0, pid, "1"))


async def test_a_closed_hub_hangs_up_on_those_that_never_said_who_they_are(tmp_path: Path) -> None:
    """Else a child would talk for ever to nobody, and never come to the hub that follows."""
    path = tmp_path / "control.sock"
    heard: list[int] = []
    first = Hub(lambda peer: heard.append(peer.pid), lambda *_: None)
    await first.start(path)
    silent, known = [await asyncio.open_unix_connection(str(path)) for _ in range(2)]
    known[1].write(hello(7))
    async with asyncio.timeout(10):
        while heard != [7]:
            await asyncio.sleep(0)
        await first.close()
        silent[1].write(hello(8))  # too late: read by nobody
        assert await silent[0].read() == b""
        assert await known[0].read() == b""
    assert heard == [7]
    assert not first.peers
    for _, writer in (silent, known):
        writer.close()


async def test_the_hub_that_follows_hears_whom_the_first_cut_off(tmp_path: Path) -> None:
    """On the same path, at once."""
    path = tmp_path / "control.sock"
    for pid in (1, 2):
        hub = Hub(lambda peer: peer.send(Lease()), lambda *_: None)
        await hub.start(path)
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(hello(pid))
        async with asyncio.timeout(10):
            assert isinstance(await read_message(reader), Lease)
            await hub.close()
        writer.close()
