"""The set-up: models trained and served, Parallax in front of them, each step told as it is done."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

from loadtests.demo.children import Child, Children, free_ports, listen
from loadtests.demo.deployment import Ports, write_config
from loadtests.demo.ending import PARALLAX
from loadtests.demo.models import Digits, Model, accuracy, load, save, train
from loadtests.demo.steering import Live, answers

READY_S: Final = 30.0
VERSIONS: Final = ("a", "b", "c")


class Stopped(Exception):
    """Ctrl-C during the set-up, when there is nothing to report yet."""


class NotReady(Exception):
    """Something did not become ready in time; the text says what and where to look."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    duration_s: float = 60.0
    rate: float = 150.0
    users: int = 800
    seed: int = 1
    output: Path = Path("demo-output")
    plain: bool = False


@dataclass(slots=True)
class Stage:
    """What the set-up built: everything that the show needs."""

    data: Digits
    ports: Ports
    parallax: Child
    steering: Live

    @property
    def address(self) -> str:
        """Where callers go."""
        return f"http://127.0.0.1:{self.ports.traffic}"


async def set_up(
    options: Options,
    console: Console,
    children: Children,
    stack: contextlib.AsyncExitStack,
    stopped: asyncio.Event,
) -> Stage:
    def step(number: int, text: str) -> None:
        if stopped.is_set():
            raise Stopped
        console.print(f"[bold cyan]\\[{number}/4][/] {escape(text)}", highlight=False, soft_wrap=True)

    step(1, "three models learn from half of 1,797 real digits; the rest is traffic")
    data = await asyncio.to_thread(load)
    models: list[Model] = []
    for version in VERSIONS:
        model = await asyncio.to_thread(train, version, data)
        models.append(model)
        right = await asyncio.to_thread(accuracy, model, data)
        console.print(
            f"      model-{version}: {model.title}, {right:.1%} right on held-out rows",
            highlight=False,
            soft_wrap=True,
        )
    step(2, "each model gets a process of its own and speaks Open Inference V2")
    listeners = {model.version: listen() for model in models}
    with contextlib.ExitStack() as held:
        for listener in listeners.values():
            held.enter_context(listener)
        for model in models:
            await _start_model(model, listeners[model.version].fileno(), options.output, children)
        model_ports = {version: listener.getsockname()[1] for version, listener in listeners.items()}
    for version, port in model_ports.items():
        ready = functools.partial(answers, f"http://127.0.0.1:{port}/v2/health/ready")
        await _until_ready(ready, children, f"model-{version}", options.output / f"model-{version}.log", stopped)
    traffic, metrics = free_ports(2)
    ports = Ports(traffic, metrics, model_ports)
    config, state = options.output / "demo.yaml", options.output / "state"
    config.write_text(write_config(ports, duration_s=options.duration_s))
    step(3, f"parallax serve {config} --state {state}")
    parallax = await children.start("parallax", [*PARALLAX, "serve", str(config), "--state", str(state)])
    steering = await stack.enter_async_context(Live(f"127.0.0.1:{metrics}", state / "admin.sock"))
    await _until_ready(
        functools.partial(answers, f"http://127.0.0.1:{metrics}/readyz"),
        children,
        "parallax",
        options.output / "parallax.log",
        stopped,
    )
    step(4, f"{options.users} users start to ask, {options.rate:g} requests/s for {options.duration_s:g} s")
    return Stage(data, ports, parallax, steering)


async def _start_model(model: Model, descriptor: int, folder: Path, children: Children) -> None:
    path = folder / f"model-{model.version}.pickle"
    await asyncio.to_thread(save, model, path)
    command = [PARALLAX[0], "-m", "loadtests.demo.server", "--model", str(path), "--fd", str(descriptor)]
    await children.start(f"model-{model.version}", command, pass_fds=[descriptor])


async def _until_ready(
    ready: Callable[[], Awaitable[bool]], children: Children, name: str, log: Path, stopped: asyncio.Event
) -> None:
    deadline_s = asyncio.get_running_loop().time() + READY_S
    while not await ready():
        children.check()
        if stopped.is_set():
            raise Stopped
        if asyncio.get_running_loop().time() > deadline_s:
            raise NotReady(f"{name}: not ready within {READY_S:.0f} s, see {log}")
        await asyncio.sleep(0.1)
