"""The admin API: the one way to change what a running deployment does, for programs only.

GET    /status              everything at a glance
GET    /totals              every metric, as `/metrics` has it, in JSON, with the status of the same moment
GET    /faults              definitions, what runs, the kill switch
POST   /faults              {"name": "slow"} or a whole definition; "duration": "2m" shortens it
DELETE /faults/{name}       end one
POST   /faults/kill         end all, and let none begin
POST   /faults/kill/reset   {"armed": true}
POST   /reload              read the file again
POST   /upgrade             become another installation of this program, or this one anew; see `upgrade.py`
"""

from __future__ import annotations

import dataclasses

import msgspec
from aiohttp import web

from proxy.config.scalars import parse_duration
from proxy.supervisor.audit import to_line
from proxy.supervisor.faults import Effect, Refusal
from proxy.supervisor.guards import MAX_BODY_BYTES, answer_errors, guard, read_json_object, refuse, reply
from proxy.supervisor.settings import UNIX
from proxy.supervisor.status import build_status, describe_faults
from proxy.supervisor.supervisor import Supervisor
from proxy.supervisor.upgrade import Program

WHO = "admin"


def make_admin_app(supervisor: Supervisor, token: str | None, *, anywhere: bool = False) -> web.Application:
    """The application; `token` and `anywhere` are as `guard` has them."""
    api = AdminApi(supervisor)
    app = web.Application(middlewares=[answer_errors, guard(token, anywhere=anywhere)], client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/status", api.status)
    app.router.add_get("/totals", api.totals)
    app.router.add_get("/faults", api.list_faults)
    app.router.add_post("/faults", api.start_fault)
    app.router.add_post("/faults/kill", api.kill)
    app.router.add_post("/faults/kill/reset", api.reset)
    app.router.add_delete("/faults/{name}", api.stop_fault)
    app.router.add_post("/reload", api.reload)
    app.router.add_post("/upgrade", api.upgrade)
    return app


class AdminApi:
    """The handlers; each reads its request, asks the supervisor and tells the outcome."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def status(self, _: web.Request) -> web.Response:
        """Everything at a glance."""
        return reply(build_status(self._supervisor))

    async def totals(self, _: web.Request) -> web.Response:
        """Every metric and the status, of one moment; `parallax top` makes rates of it."""
        totals = self._supervisor.totals()
        return reply(
            {
                "status": build_status(self._supervisor),
                "values": {
                    name: [[*labels, value] for labels, value in samples.items()]
                    for name, samples in totals.values.items()
                },
                "histograms": {
                    name: [[*labels, one.counts] for labels, one in samples.items()]
                    for name, samples in totals.histograms.items()
                },
            }
        )

    async def list_faults(self, _: web.Request) -> web.Response:
        """Definitions, what runs, the kill switch."""
        return reply(describe_faults(self._supervisor))

    async def start_fault(self, request: web.Request) -> web.Response:
        """Start a fault by name, or one given whole."""
        try:
            body = await read_json_object(request)
            name = _read_name(body.pop("name", None))
            duration_s = _read_duration(body.pop("duration", None))
        except ValueError as error:
            return refuse(400, str(error))
        if not body:
            return _tell(self._supervisor.steering.start(name, duration_s, WHO), 201)
        if body.get("start_at") is not None:
            return refuse(400, "start_at: a fault given here starts now; write it in the file to start it later")
        definition = msgspec.json.encode(body)
        return _tell(await self._supervisor.start_inline_fault(name, definition, duration_s, WHO), 201)

    async def stop_fault(self, request: web.Request) -> web.Response:
        """End one fault."""
        return _tell(self._supervisor.steering.stop(request.match_info["name"], WHO))

    async def kill(self, _: web.Request) -> web.Response:
        """End all faults and let none begin."""
        return _tell(self._supervisor.steering.kill(WHO))

    async def reset(self, request: web.Request) -> web.Response:
        """Let faults begin again; asks for a word more than a bare POST, so that nobody does it by accident."""
        try:
            body = await read_json_object(request)
        except ValueError as error:
            return refuse(400, str(error))
        if body != {"armed": True}:
            return refuse(400, 'body: must be {"armed": true}')
        return _tell(self._supervisor.steering.reset(WHO))

    async def reload(self, _: web.Request) -> web.Response:
        """Read the file again."""
        outcome = await self._supervisor.reload("admin API")
        result = {**dataclasses.asdict(outcome), "plan_version": self._supervisor.steering.plan.version}
        if outcome.problems:
            return reply({"error": "the file is refused, the running plan stays", **result}, 422)
        return reply(result)

    async def upgrade(self, request: web.Request) -> web.StreamResponse:
        """Rehearse, answer, and become the new program."""
        try:
            body = await read_json_object(request)
            program = Program(**{key: str(value) for key, value in body.items() if key in ("python", "source")})
        except ValueError as error:
            return refuse(400, str(error))
        if body and self._supervisor.settings.admin != UNIX:
            return refuse(403, "python: only the owner of the admin socket may name a program; send SIGUSR2 or no body")
        outcome = await self._supervisor.prepare_upgrade("admin API", program)
        if outcome.result != "starting":
            return reply({"error": "the upgrade is refused, nothing has changed", **dataclasses.asdict(outcome)}, 409)
        response = reply(dataclasses.asdict(outcome), 202)
        await response.prepare(request)
        await response.write_eof()  # in the kernel's hands before this program is no more
        self._supervisor.carry_out_upgrade(program)
        return response


def _read_name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError('name: got none, give {"name": "..."} of a defined fault, or a whole definition')
    return value


def _read_duration(value: object) -> float | None:
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise ValueError(f"duration: got {value!r}, {error}") from error


def _tell(result: list[Effect] | Refusal, status: int = 200) -> web.Response:
    if isinstance(result, Refusal):
        return refuse(result.status, result.message)
    return reply({"done": [to_line(effect) for effect in result]}, status)
