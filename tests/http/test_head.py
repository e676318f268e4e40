"""The head of a request as a value: targets, look-ups, judgement, and the fast way against the ordinary one."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.http.fields import connection_tokens, text, valid_host
from proxy.http.head import Head, read_head, split_target
from proxy.http.plain import split_plain

HOST = (b"host", b"a")


def head(*headers: tuple[bytes, bytes], target: bytes = b"/", version: str = "1.1", method: str = "GET") -> Head | str:
    return read_head(method, target, version, list(headers))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", (b"", "/", "")),
        (b"/a/b?c=d?e", (b"", "/a/b", "c=d?e")),
        (b"/a?", (b"", "/a", "")),
        (b"/a#b", (b"", "/a", "")),
        (b"*", (b"", "*", "")),
        (b"http://h", (b"h", "/", "")),
        (b"http://h:1/p?q", (b"h:1", "/p", "q")),
        (b"HTTPS://h?q=/x", (b"h", "/", "q=/x")),
        (b"//h/p", (b"", "//h/p", "")),
        (b"h:80", None),
        (b"ftp://h/", None),
        (b"http://", None),
        (b"http:///p", None),
        (b"http://u@h/", None),
        (b"a/b", None),
        (b"/\xff", None),
        (b"", None),
    ],
)
def test_targets_split_into_authority_path_and_query(target: bytes, expected: object) -> None:
    """RFC 9112 section 3.2: origin, absolute and asterisk form; nothing else is forwarded."""
    assert split_target(target) == expected


def test_look_ups_take_the_first_value() -> None:
    """Headers, cookies and query parameters: the first one counts, absence is None."""
    value = head(
        HOST,
        (b"x", b"1"),
        (b"x", b"2"),
        (b"cookie", b'a=1; uid="u 1" ;empty=; broken'),
        (b"cookie", b"uid=second"),
        target=b"/p?user=a%20b&user=c&plus=a+b&n%61me=x&empty=&flag",
    )
    assert isinstance(value, Head)
    assert (value.header(b"x"), value.header(b"y")) == ("1", None)
    assert (value.cookie("uid"), value.cookie("empty"), value.cookie("broken"), value.cookie("id")) == (
        "u 1",
        "",
        None,
        None,
    )
    assert [value.query_value(name) for name in ("user", "plus", "name", "empty", "flag", "none")] == [
        "a b",
        "a b",
        "x",
        "",
        "",
        None,
    ]
    assert value.target == "/p?user=a%20b&user=c&plus=a+b&n%61me=x&empty=&flag"


def test_header_values_are_text_whatever_their_bytes() -> None:
    """UTF-8 where valid, ISO-8859-1 otherwise."""
    assert text("ü".encode()) == "ü"
    assert text(b"\xfc") == "ü"


@given(st.lists(st.sampled_from([b"keep-alive", b"close", b"x-a", b"x-b", b"host", b"content-length"]), max_size=5))
def test_nominated_fields_go_and_framing_stays(tokens: list[bytes]) -> None:
    """Whatever `Connection` names goes from the lines; Host and lengths are ours and never in them."""
    value = head(HOST, (b"connection", b" , ".join(tokens)), (b"x-a", b"1"), (b"x-b", b"2"), (b"content-length", b"3"))
    assert isinstance(value, Head)
    names = {line.partition(b":")[0] for line in value.lines}
    assert names == {b"x-a", b"x-b"} - set(tokens)
    assert (value.host, value.length) == (b"a", 3)
    assert value.keep_alive is (b"close" not in tokens)


def test_connection_tokens_are_trimmed() -> None:
    """Blanks and empty members are allowed in a list (RFC 9110 section 5.6.1)."""
    assert connection_tokens(b" a ,b,, c") == {b"a", b"b", b"", b"c"}


@pytest.mark.parametrize("value", [b"a", b"a.b:80", b"[::1]:80", b"xn--a", b"a_b", b"a:", b"%61"])
def test_hosts_that_pass(value: bytes) -> None:
    """Names, ports, IPv6."""
    assert valid_host(value)


@pytest.mark.parametrize(
    "value",
    [
        b"a b",
        b"a/b",
        b"a@b",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"a\tb",
        b"\xff",
        b'a"',
        b"a<b>",
        b"",
        b":80",
        b"a:b",
        b"a:65536",
        b"a:1:2",
        b"[::1",
        b"[a]",
        b"a%zz",
    ],
)
def test_hosts_that_do_not(value: bytes) -> None:
    """What could be read as a path, a user or another line is refused, and what names no host (RFC 9110 section 4.2.1)."""
    assert not valid_host(value)


@pytest.mark.parametrize(
    "coding", [b",chunked", b"chunked,", b"chunked, chunked", b"gzip, chunked", b"identity", b"x", b""]
)
def test_any_transfer_coding_but_chunked_is_refused(coding: bytes) -> None:
    """Exactly `chunked`, in any case, once."""
    assert isinstance(head(HOST, (b"transfer-encoding", coding)), str)
    accepted = head(HOST, (b"transfer-encoding", b"Chunked"))
    assert isinstance(accepted, Head)
    assert accepted.chunked


@pytest.mark.parametrize("length", [b"", b"+1", b"-1", b"1,1", b"0x1", b"1 1", b"9" * 30, b"\xd9\xa1"])
def test_a_length_that_is_not_a_plain_number_is_refused(length: bytes) -> None:
    """The second line of defence behind the parser."""
    assert isinstance(head(HOST, (b"content-length", length)), str)


class Collector:
    """The ordinary way: what llhttp reports, field by field."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.body = b""
        self.complete = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


_names = st.sampled_from(
    [
        b"Host",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"X",
        b"x-User",
        b"Expect",
        b"Upgrade",
        b"Via",
        b"x ",
        b"",
        b"X\x00",
        b" y",
    ]
)
_values = st.one_of(
    st.sampled_from(
        [
            b"a",
            b"0",
            b"3",
            b"03",
            b"3 ",
            b"\t3",
            b"chunked",
            b"close",
            b"keep-alive, x",
            b"a\r\n b",
            b"a\nb",
            b"\x0b3",
            b"\xa03",
            b"",
        ]
    ),
    st.binary(max_size=8),
)
_lines = st.lists(st.tuples(_names, st.sampled_from([b": ", b":", b" : ", b":\t"]), _values), max_size=6)


@given(
    st.sampled_from([b"GET", b"POST", b"get", b"PUT", b"PURGE"]),
    st.sampled_from([b"/", b"/a?b", b"http://h/p", b"*", b"/\x7f", b"/ x", b""]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 "]),
    _lines,
    st.sampled_from([b"", b"abc", b"abcd", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"]),
)
@example(b"POST", b"/", b"HTTP/1.1", [(b"Host", b": ", b"a"), (b"Content-Length", b": ", b"3")], b"abc")
def test_the_fast_way_reads_what_the_parser_reads(
    method: bytes, target: bytes, version: bytes, lines: list[tuple[bytes, bytes, bytes]], body: bytes
) -> None:
    """Where llhttp finds one whole message and the fast way takes it, every field and the body agree."""
    block = b"".join(b"%b%b%b\r\n" % line for line in [*lines, (b"host", b": ", b"a")])
    data = b"%b %b %b\r\n%b\r\n%b" % (method, target, version, block, body)
    end = data.find(b"\r\n\r\n")
    fast = split_plain(data, end, peer="p")
    if fast is None:
        return
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        return
    if collector.complete != 1:
        return
    ordinary = read_head(
        parser.get_method().decode(), collector.url, parser.get_http_version(), collector.headers, peer="p"
    )
    assert isinstance(ordinary, Head)
    assert collector.body == data[end + 4 :]
    for name in getattr(Head, "__slots__", ()) or Head.__mypyc_attrs__:  # type: ignore[attr-defined]
        assert getattr(fast, name) == getattr(ordinary, name), name
