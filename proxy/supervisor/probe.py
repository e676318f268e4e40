"""A short TCP connect to each new endpoint, to warn about those that nobody answers at.

Only a warning: a model server may well come up after its proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from typing import Final

from proxy.plan.data import Plan
from proxy.supervisor.sockets import split_address
from proxy.supervisor.unix_sockets import is_unix, path_of

CONNECT_TIMEOUT_S: Final = 2.0
AT_ONCE: Final = 16


def endpoints_of(plan: Plan) -> dict[str, list[str]]:
    """Each endpoint with the upstreams that use it."""
    result: dict[str, list[str]] = {}
    for upstream in plan.upstreams.values():
        for endpoint in upstream.endpoints:
            result.setdefault(endpoint, []).append(upstream.name)
    return result


async def find_unreachable(endpoints: Iterable[str]) -> dict[str, str]:
    """The endpoints that do not accept a connection, with the reason."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(endpoint: str) -> tuple[str, str]:
        async with gate:
            return endpoint, await _try_connect(endpoint)

    results = await asyncio.gather(*(ask(endpoint) for endpoint in endpoints))
    return {endpoint: reason for endpoint, reason in results if reason}


async def _try_connect(endpoint: str) -> str:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if is_unix(endpoint):
                _, writer = await asyncio.open_unix_connection(path_of(endpoint))
            else:
                host, port = split_address(endpoint)
                _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        # asyncio words it "Connect call failed (...)"; of several addresses tried, none has an errno
        return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error).lower()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""
