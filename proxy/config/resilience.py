"""What an operator may write about failing endpoints: checks, ejection, retries, fallbacks.

Like `schema`, whose upstreams, routes and arms hold these: names, types, defaults and the bounds of single
values. How they go together is in `check_resilience`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from proxy.config.kinds_of_text import PATH, TEXT
from proxy.config.nearest import listed, suggest
from proxy.config.scalars import Unfit, as_number
from proxy.config.shapes import ONE_OR_MORE, Model
from proxy.config.values import Reads, choice, count, duration, fraction, number

EVENTS: Final[tuple[Literal["connect", "reset", "timeout", "overload"], ...]] = (
    "connect",
    "reset",
    "timeout",
    "overload",
)
# Sets of statuses by a name. A caller may send the same request again after these of the 4xx (RFC 9110, 15.5.9;
# RFC 8470, 5.2; RFC 6585, 4); the others are about the request itself.
CLASSES: Final = {"5xx": tuple(range(500, 600)), "retriable-4xx": (408, 425, 429)}
_WORDS: Final = (*EVENTS, *CLASSES)
FRACTION = fraction()


def _failure(value: object) -> str | int:
    """One kind of failure: an event, a class of statuses, or a status."""
    value = as_number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 400 <= value <= 599:
            raise Unfit("must be a status from 400 to 599")
        return value
    if isinstance(value, str) and value in _WORDS:
        return str(value)
    hint = suggest(value, _WORDS) if isinstance(value, str) else ""
    raise Unfit(f"must be {listed((*_WORDS, 'a status such as 503'))}{hint}")


FAILURE: Final = Reads(
    _failure,
    {"anyOf": [{"enum": list(_WORDS)}, {"type": "integer", "minimum": 400, "maximum": 599}, {"type": "string", "pattern": r"\$\{"}]},
)  # fmt: skip
FailureList = Annotated[list[Annotated[str | int, FAILURE]], ONE_OR_MORE]


class Health(Model):
    """Active checks of each endpoint; the name of a protocol alone will do."""

    wanted: ClassVar[str] = "v1, v2, ping, or a mapping"
    short_form: ClassVar[str] = "protocol"

    protocol: Annotated[
        Literal["v1", "v2", "ping", "custom"] | None, choice("v1", "v2", "ping", "custom")
    ] = Field(
        default=None, description="v2: GET /v2/health/ready, v1: GET /, ping: GET /ping, custom: GET the path"
    )  # fmt: skip
    path: Annotated[str | None, PATH] = Field(default=None, description="the path that is asked, for custom")
    interval: Annotated[float, duration(least="100ms", most="1h")] = Field(
        default=5.0, description="from one check to the next, give or take a tenth"
    )
    timeout: Annotated[float, duration(above="0s", most="10m")] = Field(
        default=2.0, description="a check that takes longer has failed"
    )
    healthy: Annotated[int, count(1, 100)] = Field(
        default=2, description="passed checks in a row until requests go there again"
    )
    unhealthy: Annotated[int, count(1, 100)] = Field(
        default=3, description="failed checks in a row until none go there"
    )
    port: Annotated[int | None, count(1, 65_535)] = Field(
        default=None, description="where it is asked; by default the endpoint's own port"
    )
    expect: Annotated[list[Annotated[int, count(200, 599)]], ONE_OR_MORE] = Field(
        default=[200], min_length=1, description="statuses that pass"
    )


class Ejection(Model):
    """Endpoints that fail requests in a row are left out for a while; `on` alone will do."""

    wanted: ClassVar[str] = "on, or a mapping"
    short_schema: ClassVar[dict[str, Any]] = {"enum": [True, "on"]}

    on: FailureList = Field(
        default=["connect", "reset", "timeout", "5xx"], min_length=1, description="what counts as a failure"
    )
    consecutive: Annotated[int, count(1, 1000)] = Field(default=5, description="failures in a row")
    base: Annotated[float, duration(above="0s", most="1h")] = Field(
        default=10.0, description="how long the first time; twice as long each time after"
    )
    max: Annotated[float, duration(above="0s", most="1d")] = Field(default=300.0, description="but no longer")
    max_fraction: Annotated[float, fraction(zero=False)] = Field(
        default=0.5, description="most of the endpoints that are left out at a time; of several always one"
    )

    @model_validator(mode="before")
    @classmethod
    def _switched_on(cls, data: object) -> object:
        return {} if data is True or data == "on" else data


class Backoff(Model):
    """How long a retry waits: a draw from nothing to `base`, doubled with each, at most `max`."""

    base: Annotated[float, duration(most="1m")] = Field(default=0.025, description="the longest first wait")
    max: Annotated[float, duration(most="10m")] = Field(default=0.25, description="the longest wait of all")


class Budget(Model):
    """How many retries an upstream gets, per worker."""

    fraction: Annotated[float, FRACTION] = Field(default=0.2, description="of the requests within the window")
    min_per_s: Annotated[float, number(least=0)] = Field(
        default=1.0, description="besides these, for each second of the window"
    )
    window: Annotated[float, duration(least="1s", most="10m")] = Field(
        default=10.0, description="the time that is looked at"
    )


class Retries(Model):
    """When a failed request is sent again; a number of attempts alone will do."""

    wanted: ClassVar[str] = "a number of attempts, or a mapping"
    short_schema: ClassVar[dict[str, Any]] = {"type": "integer", "minimum": 1, "maximum": 10}

    attempts: Annotated[int, count(1, 10)] = Field(default=1, description="retries after the first try")
    on: FailureList = Field(
        default=["connect", "reset", 502, 503, 504], min_length=1, description="what is worth another try"
    )
    per_try_timeout: Annotated[float | None, duration(above="0s")] = Field(
        default=None, description="of each try: until it has a connection, and from there to the first byte"
    )
    backoff: Backoff = Field(default=Backoff(), description="the wait before a retry")
    retry_after: Annotated[float, duration(most="10m")] = Field(
        default=1.0, description="longest Retry-After that is waited for; an answer that asks for more is passed on"
    )
    budget: Budget = Field(default=Budget(), description="the bound on retries")

    @model_validator(mode="before")
    @classmethod
    def _number_alone(cls, data: object) -> object:
        data = as_number(data)
        return {"attempts": data} if isinstance(data, int) and not isinstance(data, bool) else data


class Fallback(Model):
    """The upstream that answers where the one that was chosen fails; its name alone will do."""

    wanted: ClassVar[str] = "the name of an upstream, or a mapping"
    short_form: ClassVar[str] = "upstream"

    upstream: Annotated[str, TEXT] = Field(description="who answers instead")
    on: FailureList = Field(
        default=["connect", "reset", "timeout", "overload", "5xx"],
        min_length=1,
        description="for which failures, once no retry is left",
    )
