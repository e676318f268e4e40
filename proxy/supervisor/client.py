"""Talks to the admin API of the supervisor on a state directory; for the command line."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from proxy.errors import ParallaxError, StateError

# A reload or an inline fault is parsed in a process of its own first.
TIMEOUT_S: Final = 70.0
CONNECT_TIMEOUT_S: Final = 2.0


class AdminRefused(ParallaxError):
    """The supervisor understood and refused; the message says why and what to do."""


def ask(state: Path, method: str, path: str, body: object = None, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """One request to the supervisor, and its answer.

    Raises:
        StateError: no supervisor can be reached on this state directory.
        AdminRefused: it refused.
    """
    address, headers = _find(state)
    uds = str(state / "admin.sock") if address == "unix" else None
    if uds:
        _knock(state, uds)
    base = "http://localhost" if uds else f"http://{address}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=uds), base_url=base, timeout=timeout_s) as client:
            response = client.request(method, path, headers=headers, json=body)
    except httpx.TimeoutException as error:
        raise StateError(f"state {state}: the supervisor does not answer; look at its log") from error
    except (httpx.TransportError, OSError) as error:
        raise _nobody(state) from error
    try:
        answer: dict[str, Any] = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise AdminRefused(
            f"{path}: got status {response.status_code} without JSON; is it Parallax that listens there?"
        ) from error
    if response.is_error:
        problems = [str(problem) for problem in answer.get("problems", [])]
        raise AdminRefused("\n".join([str(answer.get("error", f"status {response.status_code}")), *problems]))
    return answer


def _knock(state: Path, path: str) -> None:
    """Whether anybody listens; httpcore leaks the socket when a Unix socket refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(path)
        except PermissionError as error:
            raise StateError(f"{path}: permission denied; ask as the user who runs the supervisor") from error
        except OSError as error:
            raise _nobody(state) from error


def _nobody(state: Path) -> StateError:
    return StateError(
        f"state {state}: no supervisor runs there; start one with parallax serve, or name its directory with --state"
    )


def _find(state: Path) -> tuple[str, dict[str, str]]:
    """Where the admin API listens, and what it wants to see."""
    try:
        where = msgspec.json.decode((state / "admin.json").read_bytes(), type=dict[str, str | None])
        token_file = where.get("token_file")
        token = Path(token_file).read_text("utf-8").strip() if token_file else None
    except FileNotFoundError:
        return "unix", {}
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise StateError(f"state {state}: cannot be read: {error}") from error
    return where.get("address") or "unix", {"authorization": f"Bearer {token}"} if token else {}
