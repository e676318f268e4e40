"""What is believed of a chain of proxies, and what goes on of it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.caller import Caller
from proxy.http.forwarding import UNKNOWN, find_client, forwarding_lines, read_node, weigh
from proxy.http.head import Head, read_head

INNER = ipaddress.ip_network("10.0.0.0/8")


def trusts(address: str) -> bool:
    return ipaddress.ip_address(address) in INNER if address else True


def head_of(*pairs: tuple[str, str]) -> Head:
    lines = [(b"host", b"api.example.com"), *((name.encode(), value.encode("latin-1")) for name, value in pairs)]
    head = read_head("GET", b"/", "1.1", lines, peer="10.0.0.1")
    assert isinstance(head, Head)
    return head


def lines_of(head: Head, caller: Caller) -> dict[str, str]:
    said = forwarding_lines(head, caller).decode("latin-1")
    assert said.endswith("\r\n")
    pairs = [line.split(": ", 1) for line in said[:-2].split("\r\n")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("10.9.9.9, 203.0.113.7,10.0.0.2", "203.0.113.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("::ffff:10.0.0.2", "10.0.0.2"),
        ("203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7"),
        ("203.0.113.7, unknown", UNKNOWN),
        ("203.0.113.7, _hidden, 10.0.0.2", UNKNOWN),
        ("garbage\xff", UNKNOWN),
        (",", UNKNOWN),
    ],
)
def test_the_caller_is_the_rightmost_address_that_is_no_proxys(chain: str, client: str) -> None:
    """What lies further left was written by somebody whom nobody trusts."""
    assert find_client(head_of(("x-forwarded-for", chain)), "10.0.0.1", trusts) == client


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("for=203.0.113.7;proto=https, for=10.0.0.2", "203.0.113.7"),
        ('For="[2001:db8::7]:4711"', "2001:db8::7"),
        ("by=10.0.0.9;for=203.0.113.7", "203.0.113.7"),
        ("for=unknown", UNKNOWN),
        ('for="_a,b"', UNKNOWN),
        ("proto=https", "10.0.0.1"),
    ],
)
def test_forwarded_is_read_where_there_is_no_x_forwarded_for(said: str, client: str) -> None:
    """RFC 7239; where both are there, X-Forwarded-For counts."""
    assert find_client(head_of(("forwarded", said)), "10.0.0.1", trusts) == client
    both = head_of(("forwarded", said), ("x-forwarded-for", "198.51.100.1"))
    assert find_client(both, "10.0.0.1", trusts) == "198.51.100.1"


@given(st.lists(st.ip_addresses(), min_size=1), st.lists(st.ip_addresses(network="10.0.0.0/8"), max_size=20))
def test_nothing_that_a_caller_writes_changes_its_address(forged: list[object], inner: list[object]) -> None:
    """The proxies append on the right; whatever the caller sent stands left of its own address."""
    chain = ", ".join(str(address) for address in [*forged, "203.0.113.7", *inner])
    assert find_client(head_of(("x-forwarded-for", chain)), "10.0.0.1", trusts) == "203.0.113.7"


def test_a_chain_is_walked_only_so_far() -> None:
    """A caller cannot make a long walk of it, nor hide behind one."""
    inner = ", ".join(["10.0.0.2"] * 20_000)
    assert find_client(head_of(("x-forwarded-for", f"203.0.113.7, {inner}")), "10.0.0.1", trusts) == "10.0.0.2"


@given(st.binary(max_size=60))
def test_any_bytes_are_an_address_or_unknown(node: bytes) -> None:
    """Never an error, and never a text that could be taken for something else."""
    found = read_node(node)
    assert found == UNKNOWN or ipaddress.ip_address(found)


def test_what_a_stranger_says_is_gone_before_anything_reads_it() -> None:
    """Neither a route nor a unit nor the upstream sees it; the request is like one without a word about others."""
    head = head_of(
        ("x-forwarded-for", "10.0.0.5"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("X-Forwarded-Prefix".lower(), "/admin"),
        ("x-real-ip", "10.0.0.5"),
        ("forwarded", "for=10.0.0.5"),
        ("x_forwarded_for", "10.0.0.5"),
        ("x_forwarded-prefix", "/admin"),
        ("x_parallax_force", "ranker=b"),
        ("x-kept", "yes"),
    )
    weigh(head, Caller("203.0.113.7", b"parallax"), trusts)
    assert {field.name for field in head.fields if b"-" in field.name} == {b"x-kept", b"x_forwarded-prefix"}
    assert head.lines == [b"x-kept: yes\r\n"]
    assert head.is_first_hop
    assert head.header(b"x-forwarded-proto") is None


def test_what_a_trusted_proxy_says_goes_on_with_its_own_address_behind() -> None:
    """The chain grows by one, the scheme and host of the first hop stay, other words pass."""
    head = head_of(
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "HTTPS, http"),
        ("x-forwarded-host", "shop.example.com"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=203.0.113.7;proto=https"),
    )
    caller = Caller("10.0.0.1", b"parallax", trusted=True)
    weigh(head, caller, trusts)
    assert head.peer == "203.0.113.7"
    assert lines_of(head, caller) == {
        "x-forwarded-for": "203.0.113.7, 10.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "shop.example.com",
        "x-forwarded-port": "443",
        "forwarded": "for=203.0.113.7;proto=https, for=10.0.0.1",
    }


def test_nonsense_from_a_trusted_proxy_is_replaced() -> None:
    """A scheme that is none, a host that cannot be one."""
    head = head_of(("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b"))
    caller = Caller("::1", b"parallax", secure=True, trusted=True)
    weigh(head, caller, trusts)
    assert lines_of(head, caller) == {
        "x-forwarded-for": "::1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "api.example.com",
    }


def test_a_header_that_connection_nominates_does_not_pass_even_if_it_is_believed() -> None:
    """It was for one hop."""
    head = head_of(("x-forwarded-port", "443"), ("connection", "x-forwarded-port"), ("forwarded", "for=1.2.3.4"))
    caller = Caller("2001:db8::1", b"parallax", trusted=True)
    weigh(head, caller, trusts)
    lines = lines_of(head, caller)
    assert "x-forwarded-port" not in lines
    assert lines["forwarded"] == 'for=1.2.3.4, for="[2001:db8::1]"'


def test_a_caller_on_a_unix_socket_has_no_address_to_append() -> None:
    """The chain of a trusted one goes on as it is, and there is none to begin."""
    caller = Caller("", b"parallax", trusted=True)
    head = head_of(("x-forwarded-for", "203.0.113.7"))
    weigh(head, caller, trusts)
    assert lines_of(head, caller)["x-forwarded-for"] == "203.0.113.7"
    assert b"x-forwarded-for" not in Caller("", b"parallax").behind(b"h")
    assert lines_of(head_of(("forwarded", "for=1.2.3.4")), caller)["forwarded"] == "for=1.2.3.4, for=unknown"
