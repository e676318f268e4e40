"""From the file to the plan that workers get: parse elsewhere, then add what the state directory keeps.

Parsing happens in a process of its own that lives for one parse. Read in this process, a long file
would hold up the loop that renews leases (the YAML library is pure Python), and
what it and pydantic load would stay for good in the one process that must stay small.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.control.channel import report_failure
from proxy.plan.data import Fault, Plan
from proxy.supervisor.children import child_environment
from proxy.supervisor.errand import ask
from proxy.supervisor.settings import Parsed, ParseRequest, Refused, Reply
from proxy.supervisor.state_dir import key_id

PARSE_TIMEOUT_S: Final = 60.0

_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


async def parse(request: ParseRequest) -> Reply:
    """Parse in a child process; a parser that dies or hangs is a refusal too."""
    # The parser needs the whole environment, because the file may take `${VAR}` from anywhere in it.
    environment = {**os.environ, **child_environment()}
    question = msgspec.msgpack.encode(request)
    try:
        answer = await ask(
            sys.executable, "proxy.supervisor.parse", question, environment=environment, timeout_s=PARSE_TIMEOUT_S
        )
    except TimeoutError:
        return Refused([f"{request.path}: not read within {PARSE_TIMEOUT_S:g} s"])
    except OSError as error:
        return Refused([f"{request.path}: the parser cannot be started: {(error.strerror or str(error)).lower()}"])
    try:
        return _decoder.decode(answer.output)
    except msgspec.MsgspecError as error:
        report_failure("reading the parser's answer", error)
        return Refused([f"{request.path}: the parser failed: {answer.last_words}"])


def advance_epochs(
    epochs: Mapping[str, Mapping[str, Any]], allocations: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The epoch of every experiment ever seen; one whose allocation changed gets the next.

    An experiment that left the file keeps its entry, so that it does not come back in an old epoch.
    """
    result = {name: dict(entry) for name, entry in epochs.items()}
    for name, allocation in allocations.items():
        known = result.get(name)
        if known is None:
            result[name] = {"allocation": allocation, "epoch": 1}
        elif known["allocation"] != allocation:
            result[name] = {"allocation": allocation, "epoch": int(known["epoch"]) + 1}
    return result


def seal(parsed: Parsed, epochs: Mapping[str, Mapping[str, Any]], unit_key: bytes) -> Plan:
    """The plan with the epochs and the unit key of this state directory."""
    experiments = {
        name: msgspec.structs.replace(experiment, epoch=int(epochs[name]["epoch"]))
        for name, experiment in parsed.plan.experiments.items()
    }
    return msgspec.structs.replace(
        parsed.plan, experiments=experiments, unit_key=unit_key, unit_key_id=key_id(unit_key)
    )


def with_loose_faults(plan: Plan, loose: Mapping[str, Fault]) -> Plan:
    """The plan plus faults that the file does not define, under a version that says so."""
    extra = {name: fault for name, fault in loose.items() if name not in plan.faults}
    if not extra:
        return plan
    mark = blake2b(msgspec.msgpack.encode(sorted(extra.items())), digest_size=3).hexdigest()
    return msgspec.structs.replace(plan, faults={**plan.faults, **extra}, version=f"{plan.version}+{mark}")


def absolute(path: str, base: Path) -> Path:
    """`path` seen from `base`, without symlinks, so that every process names it alike."""
    return (base / path).resolve()
