"""The demo from the first line to the last: set up, show, end.

The first Ctrl-C or SIGTERM ends the show early and goes on to the report; the second ends everything
at once. Every child is ended on the way out, whatever that way is.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

from rich.console import Console

from loadtests.demo import ending
from loadtests.demo.children import ChildDied, Children
from loadtests.demo.folder import FolderError, OutputFolder
from loadtests.demo.show import show
from loadtests.demo.stage import NotReady, Options, Stage, Stopped, set_up


async def run(options: Options, console: Console) -> int:
    """Run the demo; the exit code."""
    stopped = asyncio.Event()
    main = asyncio.current_task()
    interrupts = 0
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        nonlocal interrupts
        interrupts += 1
        stopped.set()
        if interrupts == 2 and main is not None:  # once: a third must not disturb the ending of children
            main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    try:
        with OutputFolder(options.output):
            async with contextlib.AsyncExitStack() as stack:
                children = await stack.enter_async_context(Children(options.output))
                stage = await set_up(options, console, children, stack, stopped)
                await show(options, console, children, stage, stopped)
                await _end(options, console, children, stage)
    except Stopped:
        console.print("stopped during the set-up; nothing is left running")
    except (FolderError, ChildDied, NotReady) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except asyncio.CancelledError:
        console.print("stopped; nothing is left running")
        return 130
    return 0


async def _end(options: Options, console: Console, children: Children, stage: Stage) -> None:
    console.print("\n[bold cyan]traffic has ended; waiting for the analyst to finish[/]")
    loop = asyncio.get_running_loop()
    status = await ending.settle(stage.steering, now_s=loop.time)
    if status is None or not status.settled:
        console.print(
            f"the analyst is still behind after {ending.SETTLE_S:.0f} s; the report covers what it has read",
            style="yellow",
        )
    children.check()
    await children.end_one(stage.parallax)  # what it still holds is written before it goes
    state, page = options.output / "state", options.output / "report.html"
    await ending.run_command(console, ["report", "--state", str(state)])
    html = await ending.run_command(
        console, ["report", "--state", str(state), "--format", "html", "--output", str(page)]
    )
    console.print()
    ending.show_slices(console, state / "data")
    console.print()
    ending.point(console, options.output, html=html)
