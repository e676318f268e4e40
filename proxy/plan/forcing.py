"""An arm asked for by one request: who may, and what a signature says.

    x-parallax-force: ranker=b, layout=dense
    x-parallax-force-signature: 1764003600.<hex>
    cookie: parallax_force=ranker=b&layout=dense:1764003600.<hex>

The header alone is believed from a caller inside the trusted ranges: the caller itself, not merely the proxy
that speaks for it, or everybody behind that proxy could force arms. Everybody else needs a signature, which
names the arms and ends. A forced arm is an override: it is logged as such and never analysed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from proxy.http.caller import Caller
from proxy.http.head import Head
from proxy.plan.link import LinkedPlan

HEADER: Final = "x-parallax-force"
SIGNATURE: Final = "x-parallax-force-signature"
COOKIE: Final = "parallax_force"
_MAX_CHARS: Final = 4096
_MAX_ARMS: Final = 32
_PAIR: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,63})=([A-Za-z0-9_][A-Za-z0-9._-]{0,63})", re.ASCII)
_SEALED: Final = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII)
_NONE: Final[dict[str, int]] = {}

# What became of a request's wish, as it is counted.
RESULTS: Final = {
    "believed": "it is believed",
    "unknown_arm": "there is no such experiment or arm",
    "unsigned": "the caller is not trusted, and there is no signature, or no key to verify it with",
    "bad_signature": "the signature is not of our key, or not for these arms",
    "expired": "the signature has expired",
    "malformed": "it is not written experiment=arm[, ...]",
}


class Forced(NamedTuple):
    """The index of the forced arm by experiment, and what is counted: one or more of `RESULTS`."""

    arms: Mapping[str, int]
    results: tuple[str, ...]


def sign(arms: Mapping[str, str], expires: int, key: bytes) -> str:
    """The signature of arms by experiment until `expires` (Unix seconds)."""
    text = f"parallax-force\n{expires}\n{_canonical(arms)}"
    return f"{expires}.{hmac.digest(key, text.encode(), 'sha256').hex()}"


def cookie_value(arms: Mapping[str, str], signature: str) -> str:
    """The same as a cookie, in characters that a cookie may have (RFC 6265 section 4.1.1)."""
    return f"{_canonical(arms)}:{signature}"


def asks(head: Head, plan: LinkedPlan) -> bool:
    """Whether a request may ask for an arm: by the header, or by a cookie where a key could have signed it."""
    if head.forces:
        return True
    mark = COOKIE.encode() + b"="
    return bool(plan.trust.force_key) and any(name == b"cookie" and mark in value for name, value, _, _ in head.fields)


def read_forced(plan: LinkedPlan, head: Head, caller: Caller, now_s: float) -> Forced:
    """What a request that asks for arms gets.

    Args:
        plan: the linked plan, with the key and the trusted ranges.
        head: a head that has been weighed, so that `head.peer` is the caller itself.
        caller: whose connection it came on.
        now_s: Unix seconds, against which signatures expire.
    """
    results: list[str] = []
    asked = head.header(HEADER.encode())
    if asked is not None:
        arms = _read(asked.replace(" ", "").replace("\t", "").replace(",", "&"))
        signature = head.header(SIGNATURE.encode())
        if arms is None:
            results.append("malformed")
        elif caller.trusted and plan.trust.trusts(head.peer):
            return _look_up(plan, arms)
        else:
            result = _verify(arms, signature, plan.trust.force_key, now_s)
            if result == "believed":
                return _look_up(plan, arms)
            results.append(result)
    cookie = head.cookie(COOKIE) if plan.trust.force_key else None
    if cookie is not None:
        written, _, signature = cookie.partition(":")
        arms = _read(written)
        result = "malformed" if arms is None else _verify(arms, signature, plan.trust.force_key, now_s)
        if arms is not None and result == "believed":
            return _look_up(plan, arms)
        results.append(result)
    return Forced(_NONE, tuple(results) or ("malformed",))


def _canonical(arms: Mapping[str, str]) -> str:
    return "&".join(f"{experiment}={arm}" for experiment, arm in sorted(arms.items()))


def _read(text: str) -> dict[str, str] | None:
    """`experiment=arm&...` as a mapping; None where it is anything else."""
    if len(text) > _MAX_CHARS:
        return None
    found = [_PAIR.fullmatch(pair) for pair in text.split("&")]
    arms = {pair[1]: pair[2] for pair in found if pair is not None}
    return arms if len(arms) == len(found) <= _MAX_ARMS else None


def _verify(arms: Mapping[str, str], signature: str | None, key: bytes, now_s: float) -> str:
    if signature is None or not key:
        return "unsigned"
    sealed = _SEALED.fullmatch(signature.strip())
    if sealed is None or not hmac.compare_digest(sign(arms, int(sealed[1]), key), f"{int(sealed[1])}.{sealed[2]}"):
        return "bad_signature"
    return "believed" if now_s < int(sealed[1]) else "expired"


def _look_up(plan: LinkedPlan, arms: Mapping[str, str]) -> Forced:
    """The arms that there are; what there is not is counted, and the rest holds."""
    found: dict[str, int] = {}
    results: set[str] = set()
    for name, arm in arms.items():
        experiment = plan.experiments.get(name)
        if experiment is not None and arm in experiment.names:
            found[name] = experiment.names.index(arm)
            results.add("believed")
        else:
            results.add("unknown_arm")
    return Forced(found, tuple(sorted(results)))
