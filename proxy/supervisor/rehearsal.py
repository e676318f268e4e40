"""`python -m proxy.supervisor.rehearsal`: would this program start here? Asked before an upgrade, changes nothing.

A request comes on stdin and a reply goes to stdout, both JSON, because they travel between versions; the
listening sockets of the running supervisor are inherited. Everything that can be refused at a start is tried:
the imports, the file, the addresses that are new, and a worker that links the plan, with a control socket of its
own and no listener. What this process opened is closed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy import __version__
from proxy.control.messages import Drain, Message, NewPlan, PlanTaken
from proxy.errors import ParallaxError
from proxy.plan.data import encode_plan
from proxy.supervisor import handover
from proxy.supervisor.children import child_environment, describe_exit
from proxy.supervisor.crew import WORKER
from proxy.supervisor.hub import Hub, Peer
from proxy.supervisor.parse import read_file
from proxy.supervisor.plans import advance_epochs, seal
from proxy.supervisor.settings import UNIX, Parsed, Refused, Rehearsal, RehearsalRequest
from proxy.supervisor.sockets import claim, find_orphans, open_single
from proxy.supervisor.state_dir import StateDir

WORKER_TIMEOUT_S: Final = 30.0
NEEDED: Final = ("proxy.supervisor.run", "proxy.net.worker")
NEEDED_BY_ANALYST: Final = "proxy.analyst.process"


async def rehearse(request: RehearsalRequest) -> Rehearsal:
    """Try everything that a start tries."""
    for module in NEEDED:
        importlib.import_module(module)
    reply = read_file(Path(request.config), os.environ)
    if not isinstance(reply, Parsed):
        return Rehearsal(__version__, reply.problems if isinstance(reply, Refused) else ["no configuration"])
    if reply.settings.analyst:
        importlib.import_module(NEEDED_BY_ANALYST)
    state = StateDir(Path(request.state))
    try:
        _try_addresses(request, reply, state)
        epochs = advance_epochs(state.epochs(), reply.allocations)
        plan = seal(reply, epochs, state.unit_key())
    except (ParallaxError, OSError) as error:
        return Rehearsal(__version__, [str(error)])
    problem = await try_worker(NewPlan(plan.version, encode_plan(plan)))
    return Rehearsal(__version__, [problem] if problem else [], reply.warnings)


def _try_addresses(request: RehearsalRequest, parsed: Parsed, state: StateDir) -> None:
    """Bind what is new and let go of it; never listen, for callers might come in that moment."""
    settings = parsed.settings
    ready = handover.copies_of(request.listeners)
    find_orphans([address for address in settings.listeners if not claim(address, ready)], state.control_socket)
    for address, inherited in ((settings.admin, request.admin), (settings.metrics, request.metrics)):
        if address is None or address == UNIX:
            continue
        if inherited is None or not claim(address, [handover.copy_of(inherited)]):
            open_single(address).close()


async def try_worker(plan: NewPlan) -> str:
    """Start a worker without listeners and let it take the plan; why it does not, or nothing."""
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_hello(peer: Peer) -> None:
        peer.send(plan)

    def on_message(peer: Peer, message: Message) -> None:
        if isinstance(message, PlanTaken) and not outcome.done():
            outcome.set_result(f"a worker refuses the plan: {message.error}" if message.error else "")
            peer.send(Drain(0.0))

    with tempfile.TemporaryDirectory(prefix="parallax-") as folder:
        control = Path(folder) / "control.sock"
        hub = Hub(on_hello, on_message)
        await hub.start(control)
        process = await asyncio.create_subprocess_exec(
            *WORKER, "--control", str(control),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env=child_environment(), start_new_session=True,
        )  # fmt: skip
        ended = asyncio.ensure_future(process.communicate())
        either: set[asyncio.Future[Any]] = {outcome, ended}
        try:
            await asyncio.wait(either, timeout=WORKER_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if outcome.done():
                return outcome.result()
            if not ended.done():
                return f"a worker does not take the plan within {WORKER_TIMEOUT_S:g} s"
            last = ended.result()[1].decode("utf-8", "replace").strip().rpartition("\n")[2]
            return f"a worker cannot be started: it {describe_exit(process.returncode or 0)}: {last}"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await ended
            await hub.close()


def main() -> None:
    """Answer the one request on stdin."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=RehearsalRequest)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(rehearse(request))))


if __name__ == "__main__":
    main()
