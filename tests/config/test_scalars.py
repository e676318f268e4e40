"""The little languages inside a value."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import scalars
from proxy.config.scalars import Expanded, Unfit

UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
UNITS_BYTES = {"": 1, "B": 1, "KB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers()),
    st.builds(Expanded, st.text()),
)
PARSERS = [
    scalars.parse_duration,
    scalars.parse_size,
    scalars.parse_fraction,
    scalars.parse_weight,
    scalars.parse_flag,
    scalars.parse_endpoint,
    scalars.parse_listener,
    scalars.parse_instant,
]


@given(number=st.integers(0, 10**6), unit=st.sampled_from(sorted(UNITS_S)), space=st.sampled_from(["", " "]))
def test_a_duration_is_a_number_and_a_unit(number: int, unit: str, space: str) -> None:
    """Seconds come out, exactly rounded."""
    assert scalars.parse_duration(f"{number}{space}{unit}") == pytest.approx(number * UNITS_S[unit], rel=1e-15)


@given(number=st.integers(0, 10**6), unit=st.sampled_from(sorted(UNITS_BYTES)))
def test_a_size_is_a_number_and_a_unit(number: int, unit: str) -> None:
    """Bytes come out; KiB is 1024 and KB is 1000."""
    assert scalars.parse_size(f"{number}{unit}") == number * UNITS_BYTES[unit]


@given(percent=st.integers(0, 10_000))
def test_a_fraction_in_percent_is_the_number(percent: int) -> None:
    """`12.5%` and `0.125` are the same."""
    text = f"{percent / 100}%"
    assert scalars.parse_fraction(text) == pytest.approx(percent / 10_000, rel=1e-15)
    assert scalars.parse_fraction(percent / 10_000) == percent / 10_000


@pytest.mark.parametrize("parse", PARSERS)
@given(value=anything)
def test_a_parser_raises_nothing_but_unfit(parse, value: object) -> None:
    """Whatever YAML gives, the outcome is a value or a message that does not repeat the input."""
    message = "must "
    try:
        parse(value)
    except Unfit as error:
        message = str(error)
    assert message.startswith("must ")


@pytest.mark.parametrize("text", ["5", "5 x", "-1s", "1h30m", "s", "1,5s", "1s ", "٣s", ""])
def test_other_durations_are_refused(text: str) -> None:
    """One number, one unit; text without a unit is no duration."""
    with pytest.raises(Unfit, match="must be a duration such as 250ms, 2s, 5m, 1h or 30d"):
        scalars.parse_duration(text)


@pytest.mark.parametrize("text", ["1.5", "0.1KiB", "1kb", "-1", "MiB"])
def test_sizes_that_are_no_whole_bytes_are_refused(text: str) -> None:
    """Half a byte is a slip."""
    with pytest.raises(Unfit, match="must be a size in whole bytes"):
        scalars.parse_size(text)


def test_bare_numbers_are_seconds_bytes_and_fractions() -> None:
    """Units may be left out where the base unit is meant."""
    assert (scalars.parse_duration(1.5), scalars.parse_size(100), scalars.parse_fraction(0.25)) == (1.5, 100, 0.25)


def test_only_text_from_a_variable_is_read_as_a_number() -> None:
    """A quoted number in the file is text; a variable can hold nothing else."""
    assert scalars.parse_duration(Expanded("2.5")) == 2.5
    assert scalars.parse_flag(Expanded("true")) is True
    with pytest.raises(Unfit):
        scalars.parse_fraction("0.5")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, 10**400])
def test_what_is_no_finite_number_is_no_weight(value: object) -> None:
    """NaN would make every comparison false."""
    with pytest.raises(Unfit):
        scalars.parse_weight(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("Model-A.example.com:65535", ("model-a.example.com", 65_535)),
        ("tf_serving:8501", ("tf_serving", 8501)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    """Names, IPv4 and bracketed IPv6; `join_address` is the inverse."""
    assert scalars.split_address(text) == expected
    assert scalars.join_address(*expected) == text.lower()


@pytest.mark.parametrize(
    "text", ["", ":80", "a", "a:", "a:0", "a:70000", "a:8x", "::1:80", "[x]:80", "a b:80", "-a:80", "a:٨٠"]
)
def test_other_addresses_are_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(Unfit):
        scalars.parse_endpoint(text)


def test_localhost_is_bound_as_an_address() -> None:
    """A listener needs an address of this machine; `localhost` is the only name that surely is one."""
    assert scalars.parse_listener("localhost:80") == "127.0.0.1:80"
    with pytest.raises(Unfit, match="must be an IP address of this machine and a port"):
        scalars.parse_listener("example.com:80")


def test_an_instant_is_the_same_in_every_zone() -> None:
    """Unix seconds come out; without a zone nothing does."""
    assert (
        scalars.parse_instant("2026-12-01T10:00:00Z")
        == scalars.parse_instant("2026-12-01T11:00:00+01:00")
        == 1_796_119_200
    )
    with pytest.raises(Unfit, match="must be a timestamp with a zone"):
        scalars.parse_instant("2026-12-01T10:00:00")
