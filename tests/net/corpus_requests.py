"""Requests as attackers, old software and mistakes write them: a table made of lists of variants.

Each case says what may become of it. `PASS`: the model server gets exactly `expected`, and what follows on
the connection is the next request. `REFUSE`: an answer of our own with one of `statuses`, a closed
connection, and no whole request at the model server. `LAST`: the model server gets exactly `expected`, and what
follows is no request, since the caller asked for another protocol. `EITHER` is for what RFC 9112 leaves to the
recipient: refused, or exactly `expected`, but always the same.

The variants are those that RFC 9110 and 9112 forbid or leave open and those that two servers have been
known to read in two ways (lengths beside codings, blanks and control bytes around both, line ends, chunk
lines, hosts, targets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PASS: Final = "pass"
REFUSE: Final = "refuse"
EITHER: Final = "either"
LAST: Final = "last"
NEXT: Final = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n"
TCHAR: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Got:
    """A request as a model server should see it."""

    method: bytes
    target: bytes
    body: bytes = b""
    host: bytes = b"a"


@dataclass(frozen=True)
class Case:
    """`raw` is one request, or what looks like one; `group` names the list that it comes from."""

    group: str
    name: str
    raw: bytes
    verdict: str
    expected: tuple[Got, ...] = ()
    statuses: tuple[int, ...] = (400,)

    @property
    def title(self) -> str:
        return f"{self.group}: {self.name}"


def _show(value: bytes) -> str:
    return repr(value)[2:-1]


def _post(fields: bytes, body: bytes, *, target: bytes = b"/p") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: a\r\n%b\r\n%b" % (target, fields, body)


CHUNKS: Final = b"3\r\nabc\r\n0\r\n\r\n"
ABC: Final = (Got(b"POST", b"/p", b"abc"),)

# Values of Transfer-Encoding that are not exactly `chunked`.
BAD_CODINGS: Final = (
    b"", b" ", b" identity", b" gzip", b" deflate", b" compress", b" xchunked", b" chunkedx", b" chunked,",
    b" ,chunked", b" , chunked", b" chunked,identity", b" identity, chunked", b" chunked, identity", b" chunked, chunked",
    b" gzip, chunked", b" chunked, gzip", b" chunked;q=1", b" chunked; a=b", b" chunked ;", b' "chunked"', b" 'chunked'",
    b" chunked\x0b", b" \x0bchunked", b" \x0cchunked", b" chunked\x0c", b" chunked\x00", b" \x00chunked", b" chunked\x7f",
    b" \xa0chunked", b" chunked\xa0", b" \xef\xbb\xbfchunked", b" chun ked", b" chunke", b" chunked chunked", b" chunked\tx",
    b" chunked\rx", b" chunked\r", b" \rchunked", b" chunked\n", b" \nchunked", b" cHuNkEd,", b" ch\xc3\xbcnked", b" trailers",
    b" x-chunked", b" chunked\r\n identity", b"\r\n chunked", b"\r\n\tchunked", b" c\r\n hunked", b" 0", b" null", b" chunk",
    b" chunked\\", b" chunked:", b" :chunked", b":chunked", b" \\tchunked", b" %63hunked", b" chunked%0d%0a", b" {chunked}",
)  # fmt: skip
# Values of Content-Length that are not digits, or too many.
BAD_LENGTHS: Final = (
    b"", b" ", b" +3", b" -3", b" -0", b" 3.0", b" 3e0", b" 0x3", b" 3h", b" 3,", b" ,3", b" 3,3", b" 3, 3", b" 3, 4",
    b" 4, 3", b" 3 3", b" 3 4", b" 3\t4", b" 3;", b" 3;a=b", b' "3"', b" '3'", b" 3\x00", b" \x003", b" 3\x0b", b" \x0b3",
    b" 3\x0c", b" \x0c3", b" 3\xa0", b" \xa03", b" 3\r", b" \r3", b" 3\rx", b" 3\n", b" \n3", b" \xd9\xa3", b" \xef\xbc\x93",
    b" 1_0", b" 1'0", b" three", b" NaN", b" null", b" 0b11", b" 18446744073709551616", b" 18446744073709551619",
    b" 99999999999999999999999999", b" 9223372036854775808", b" 4294967299000000000000", b" 3\r\n 3", b"\r\n 3", b" 3\r\n\t",
    b" %33", b" 3%00", b" (3)", b" [3]", b" 3:", b":3", b" =3", b" 3 chunked",
)  # fmt: skip
# Chunk sizes that are not hexadecimal digits, or too many; an `a` would be ten.
BAD_SIZES: Final = (
    b"", b" ", b"+a", b"-a", b"-1", b"0xa", b"0Xa", b"xa", b"a.", b"a,", b"a h", b"ah", b"g", b"1g", b" a", b"\ta", b"a\x00", b"\x00a",
    b"a\x0b", b"a\x0c", b"\x0ba", b"a\r", b"a\n", b"\ra", b"\na", b"\r\na", b"a_", b"1_0", b"10000000000000000",
    b"1000000000000000a", b"fffffffffffffffff", b"\xef\xbc\xa1", b"\xa0a", b"a\xa0", b'"a"', b"{a}", b"%61", b"a\\",
    b"a=b", b"a:b", b"0a g", b"a 0",
)  # fmt: skip


def codings() -> list[Case]:
    """Transfer-Encoding: only `chunked` and nothing else, in any case, with blanks around it."""
    cases = [
        Case("coding", _show(value), _post(b"transfer-encoding:%b\r\n" % value, CHUNKS), PASS, ABC)
        for value in (b" chunked", b"chunked", b" Chunked", b" CHUNKED", b"\tchunked", b" \t chunked", b" chunked ")
    ]
    cases += [
        Case("coding", _show(value), _post(b"transfer-encoding:%b\r\n" % value, CHUNKS), REFUSE)
        for value in BAD_CODINGS
    ]
    for name, lines in {
        "chunked twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "identity then chunked": b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "chunked then identity": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "chunked then nothing": b"transfer-encoding: chunked\r\ntransfer-encoding:\r\n",
        "nothing then chunked": b"transfer-encoding:\r\ntransfer-encoding: chunked\r\n",
        "chunked then gzip, apart": b"transfer-encoding: chunked\r\nx: y\r\ntransfer-encoding: gzip\r\n",
        "gzip then chunked": b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "in two cases": b"Transfer-Encoding: chunked\r\ntRANSFER-eNCODING: chunked\r\n",
        "with a length": b"transfer-encoding: chunked\r\ncontent-length: 3\r\n",
    }.items():
        cases.append(Case("coding", name, _post(lines, CHUNKS), REFUSE))
    return cases


def coding_names() -> list[Case]:
    """Names that are almost Transfer-Encoding: another field (no body then), or no field name at all."""
    cases = [
        Case("coding name", _show(name), _post(b"%b: chunked\r\n" % name, CHUNKS), PASS, ABC)
        for name in (b"Transfer-Encoding", b"TRANSFER-ENCODING", b"tRANSFER-eNCODING")
    ]
    for name in (
        b"transfer-encoding ", b"transfer-encoding\t", b" transfer-encoding", b"\ttransfer-encoding", b"transfer-encoding\x00",
        b"transfer\x00-encoding", b"transfer-encoding\x0b", b"transfer-encoding\r", b"transfer encoding", b"transfer-enc\xc3\xb6ding",
        b"transfer-encoding\xa0", b"\xef\xbb\xbftransfer-encoding", b"transfer-encoding\x7f", b"x: y\rtransfer-encoding",
        b"x: y\ntransfer-encoding", b"x\ntransfer-encoding", b"(transfer-encoding)", b'"transfer-encoding"', b"transfer-encoding;",
    ):  # fmt: skip
        cases.append(Case("coding name", _show(name), _post(b"%b: chunked\r\n" % name, CHUNKS), REFUSE))
        both = b"content-length: 3\r\n%b: chunked\r\n" % name
        cases.append(Case("coding name", f"{_show(name)} with a length", _post(both, b"abc"), REFUSE))
    # A field of another name is just a field: the length counts, and the coding must not go on in any spelling
    # that the next server could take for the real one.
    for name in (
        b"transfer_encoding",
        b"Transfer_Encoding",
        b"xtransfer-encoding",
        b"transfer-encodingx",
        b"transfer-coding",
    ):
        both = b"content-length: 3\r\n%b: chunked\r\n" % name
        cases.append(Case("coding name", f"{_show(name)} with a length", _post(both, b"abc"), PASS, ABC))
    return cases


def lengths() -> list[Case]:
    """Content-Length: digits once, and nothing else."""
    cases = [
        Case("length", _show(value), _post(b"content-length:%b\r\n" % value, b"abc"), PASS, ABC)
        for value in (b" 3", b"3", b"\t3", b" 3 ", b" 3\t", b" 03", b" 003", b" 0000000000000003")
    ]
    cases += [
        Case("length", _show(value), _post(b"content-length:%b\r\n" % value, b"abc"), REFUSE) for value in BAD_LENGTHS
    ]
    for name, lines in {
        "twice the same": b"content-length: 3\r\ncontent-length: 3\r\n",
        "twice the same, apart": b"content-length: 3\r\nx: y\r\nContent-Length: 3\r\n",
        "small then large": b"content-length: 3\r\ncontent-length: 30\r\n",
        "large then small": b"content-length: 30\r\ncontent-length: 3\r\n",
        "zero then three": b"content-length: 0\r\ncontent-length: 3\r\n",
        "three then zero": b"content-length: 3\r\ncontent-length: 0\r\n",
        "three times": b"content-length: 3\r\n" * 3,
        "three then nothing": b"content-length: 3\r\ncontent-length:\r\n",
        "nothing then three": b"content-length:\r\ncontent-length: 3\r\n",
        "three and 03": b"content-length: 3\r\ncontent-length: 03\r\n",
        "in two cases": b"Content-Length: 3\r\ncONTENT-lENGTH: 3\r\n",
    }.items():
        cases.append(Case("length", name, _post(lines, b"abc"), REFUSE))
    for name in (
        b"content-length ", b"content-length\t", b" content-length", b"content-length\x00", b"content-length\x0b", b"content length",
        b"content-length\r", b"x: y\rcontent-length", b"x: y\ncontent-length", b"content-length\xa0", b"\x00content-length",
    ):  # fmt: skip
        cases.append(Case("length name", _show(name), _post(b"%b: 3\r\n" % name, b"abc"), REFUSE))
        cases.append(
            Case(
                "length name",
                f"{_show(name)} beside one",
                _post(b"content-length: 3\r\n%b: 30\r\n" % name, b"abc"),
                REFUSE,
            )
        )
    for name in (b"content_length", b"Content_Length", b"xcontent-length", b"content-lengthx"):
        fields = b"content-length: 3\r\n%b: 30\r\n" % name
        cases.append(Case("length name", f"{_show(name)} beside one", _post(fields, b"abc"), PASS, ABC))
    return cases


def lengths_with_codings() -> list[Case]:
    """Both kinds of framing in one head: refused in every order, spelling and mixture."""
    cases: list[Case] = []
    for coding in (
        b" chunked",
        b"chunked",
        b" Chunked",
        b" identity",
        b" xchunked",
        b" gzip, chunked",
        b"",
        b" chunked, ",
    ):
        for length in (b" 3", b" 13", b" 0", b" 5", b" 1000"):
            for order, template in (
                ("length first", b"content-length:%(l)b\r\ntransfer-encoding:%(c)b\r\n"),
                ("coding first", b"transfer-encoding:%(c)b\r\ncontent-length:%(l)b\r\n"),
            ):
                raw = _post(template % {b"l": length, b"c": coding}, CHUNKS)
                cases.append(Case("both", f"{order},{_show(length)},{_show(coding)}", raw, REFUSE))
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT"):
        raw = b"%b /p HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n%b" % (
            method,
            CHUNKS,
        )
        cases.append(Case("both", f"with {method.decode()}", raw, REFUSE))
    return cases


def field_lines() -> list[Case]:
    """Every byte in a field's name and in its value; lines that are none."""
    cases: list[Case] = []
    get = b"GET /p HTTP/1.1\r\nhost: a\r\n%b\r\n"
    plain = (Got(b"GET", b"/p"),)
    for byte in range(256):
        one = bytes([byte])
        for place, line in (("inside", b"x%by: 1\r\n"), ("before", b"%bx: 1\r\n"), ("behind", b"x%b: 1\r\n")):
            good = one in TCHAR or (one == b":" and place != "before")
            cases.append(
                Case(
                    "name byte",
                    f"{byte:#04x} {place}",
                    get % (line % one),
                    PASS if good else REFUSE,
                    plain if good else (),
                )
            )
        for place, line in (("inside", b"x: a%bb\r\n"), ("before", b"x: %ba\r\n"), ("behind", b"x: a%b\r\n")):
            good = byte in b"\t " or (byte >= 0x20 and byte != 0x7F)
            cases.append(
                Case(
                    "value byte",
                    f"{byte:#04x} {place}",
                    get % (line % one),
                    PASS if good else REFUSE,
                    plain if good else (),
                )
            )
    for name, line in {
        "no colon": b"nonsense\r\n",
        "only a colon": b":\r\n",
        "empty name": b": x\r\n",
        "empty name without blank": b":x\r\n",
        "blank before the colon": b"x : y\r\n",
        "tab before the colon": b"x\t: y\r\n",
        "folded by a blank": b"x: y\r\n z\r\n",
        "folded by a tab": b"x: y\r\n\tz\r\n",
        "folded, empty": b"x: y\r\n \r\n",
        "folded length": b"content-length: 0\r\n 5\r\n",
        "begins with a blank": b" x: y\r\n",
        "bare line feed": b"x: y\nz: w\r\n",
        "bare carriage return": b"x: y\rz: w\r\n",
        "two carriage returns": b"x: y\r\r\n",
        "line feed before carriage return": b"x: y\n\r",
        "carriage return and NUL": b"x: y\r\x00\n",
        "only NUL": b"\x00\r\n",
        "a second request line": b"GET /smuggled HTTP/1.1\r\n",
        "a status line": b"HTTP/1.1 200 OK\r\n",
        "unicode line separator": b"x\xe2\x80\xa8: y\r\n",
    }.items():
        cases.append(Case("field line", name, get % line, REFUSE))
    for name, line in {
        "empty value": b"x:\r\n",
        "blank value": b"x: \t \r\n",
        "long value": b"x: " + b"y" * 8000 + b"\r\n",
    }.items():
        cases.append(Case("field line", name, get % line, PASS, plain))
    return cases


def line_ends() -> list[Case]:
    """Each line end of a request replaced by each thing that some server takes for one."""
    cases: list[Case] = []
    lines = (b"POST /p HTTP/1.1", b"host: a", b"content-length: 3", b"x: y", b"")
    for place in range(len(lines)):
        for end in (
            b"\n",
            b"\r",
            b"\r\r\n",
            b"\n\r",
            b"\n\n",
            b"\r\n\n",
            b"\r \n",
            b"\r\x00\n",
            b"\x00",
            b"\x0b",
            b"\x0c",
            b"\x85",
            b"\\r\\n",
        ):
            raw = b"".join(line + (end if i == place else b"\r\n") for i, line in enumerate(lines)) + b"abc"
            if place == len(lines) - 1 and end in (b"\r\n\n", b"\n\n", b"\n\r"):
                continue  # an empty line and then a body that begins otherwise: below
            verdict = EITHER if place == 3 and end == b"\r\n\n" else REFUSE
            cases.append(
                Case("line end", f"{_show(end)} behind line {place}", raw, REFUSE if verdict == REFUSE else EITHER)
            )
    return cases


def chunk_lines() -> list[Case]:
    """Chunk sizes, extensions, line ends and trailers."""
    cases: list[Case] = []
    head = b"POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    ten = (Got(b"POST", b"/p", b"abcdefghij"),)
    for size in (b"a", b"A", b"0a", b"000000000000000a", b"0" * 200 + b"a"):
        cases.append(
            Case(
                "chunk size",
                _show(size)[:40],
                head + size + b"\r\nabcdefghij\r\n0\r\n\r\n",
                EITHER if len(size) > 16 else PASS,
                ten,
            )
        )
    for size in BAD_SIZES:
        cases.append(Case("chunk size", _show(size), head + size + b"\r\nabcdefghij\r\n0\r\n\r\n", REFUSE))
    # RFC 9112 section 7.1.1 lets a recipient pass over blanks here; most smuggling of chunks lives on them.
    for size in (b"a ", b"a\t", b"a  ", b"a \t;x=y", b"a ; x"):
        cases.append(Case("chunk size", _show(size), head + size + b"\r\nabcdefghij\r\n0\r\n\r\n", EITHER, ten))
    for extension in (b";x", b";x=y", b';x="y"', b';x="a;b"', b';x="a\\"b"', b";x=y;z=w", b";x" + b"y" * 500):
        raw = head + b"a" + extension + b"\r\nabcdefghij\r\n0" + extension + b"\r\n\r\n"
        cases.append(Case("chunk extension", _show(extension)[:40], raw, PASS, ten))
    for extension in (b";", b";;", b";=", b"; x=y", b";x =y", b";x= y", b";x=", b";=y", b';x="', b';x="y', b";x\ty"):
        cases.append(
            Case(
                "chunk extension",
                _show(extension),
                head + b"a" + extension + b"\r\nabcdefghij\r\n0\r\n\r\n",
                EITHER,
                ten,
            )
        )
    for extension in (
        b";x\ny", b";x\ry", b";x\x00y", b';x="a\nb"', b';x="a\rb"', b';x="a\r\n5"', b";\n", b";\r", b";x\x0by", b";x\x7fy", b"\n;x", b"\r;x",
    ):  # fmt: skip
        cases.append(
            Case("chunk extension", _show(extension), head + b"a" + extension + b"\r\nabcdefghij\r\n0\r\n\r\n", REFUSE)
        )
    for end in (b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b" \r\n", b"\r\n\r\n", b"\x00\r\n", b"x\r\n"):
        cases.append(
            Case(
                "chunk end",
                f"{_show(end)} behind the size",
                head + b"a" + end + b"abcdefghij\r\n0\r\n\r\n",
                EITHER if end == b" \r\n" else REFUSE,
                ten,
            )
        )
        cases.append(
            Case("chunk end", f"{_show(end)} behind the data", head + b"a\r\nabcdefghij" + end + b"0\r\n\r\n", REFUSE)
        )
        cases.append(
            Case(
                "chunk end",
                f"{_show(end)} behind the last size",
                head + b"a\r\nabcdefghij\r\n0" + end + b"\r\n",
                EITHER if end in (b" \r\n", b"\r\n\r\n") else REFUSE,
                ten,
            )
        )
    for end in (b"\n", b"\r\r\n", b"\x00\r\n", b"x\r\n", b"0\r\n\r\n"):
        cases.append(
            Case("chunk end", f"{_show(end)} at the very end", head + b"a\r\nabcdefghij\r\n0\r\n" + end, REFUSE)
        )
    for trailer in (
        b"x: y", b"x:", b"trailer: x", b"x-user-id: other", b"etag: z", b"expires: 0\r\nx: y", b"cookie: a=b", b"x-forwarded-for: 6.6.6.6",
    ):  # fmt: skip
        cases.append(
            Case("trailer", _show(trailer), head + b"a\r\nabcdefghij\r\n0\r\n" + trailer + b"\r\n\r\n", PASS, ten)
        )
    # RFC 9110 section 6.5.1: fields of framing and routing must not be taken from there.
    for trailer in (
        b"content-length: 5", b"content-length: 0", b"transfer-encoding: chunked", b"transfer-encoding: gzip", b"host: other",
        b"upgrade: h2c\r\nconnection: upgrade", b"content-length: x", b"expect: 100-continue",
    ):  # fmt: skip
        cases.append(
            Case("trailer", _show(trailer), head + b"a\r\nabcdefghij\r\n0\r\n" + trailer + b"\r\n\r\n", EITHER, ten)
        )
    for trailer in (
        b"nonsense",
        b": x",
        b"x : y",
        b" x: y",
        b"x: a\x00b",
        b"x: a\rb",
        b"x: a\nb",
        b"x\x00: y",
        b"x: y\r\n z",
    ):
        cases.append(
            Case("trailer", _show(trailer), head + b"a\r\nabcdefghij\r\n0\r\n" + trailer + b"\r\n\r\n", REFUSE)
        )
    many = b"".join(b"%x\r\n%b\r\n" % (size, b"z" * size) for size in range(1, 60))
    cases.append(
        Case(
            "chunk size",
            "sixty chunks",
            head + many + b"0\r\n\r\n",
            PASS,
            (Got(b"POST", b"/p", b"z" * sum(range(60))),),
        )
    )
    return cases


def hosts() -> list[Case]:
    """Host: exactly one in HTTP/1.1, and it names a host (RFC 9110 section 7.2)."""
    cases: list[Case] = []
    for host in (
        b"a",
        b"example.com",
        b"a:80",
        b"a:65535",
        b"127.0.0.1",
        b"127.0.0.1:8080",
        b"[::1]",
        b"[::1]:80",
        b"a-b.c",
        b"a_b",
        b"EXAMPLE.com",
        b"a.",
    ):
        cases.append(
            Case(
                "host",
                _show(host),
                b"GET /p HTTP/1.1\r\nhost: %b\r\n\r\n" % host,
                PASS,
                (Got(b"GET", b"/p", b"", host),),
            )
        )
    for host in (
        b"a:",
        b"xn--bcher-kva.example",
        b"%61",
        b"a!b",
        b"a$b",
        b"[v1.x]",
        b"a~b",
        b"a:080",
        b"(a)",
        b"a=b",
        b"a'b",
        b"*",
        b"a,b",
        b"a;b",
        b"a:0",
        b"a:00000",
    ):
        cases.append(
            Case(
                "host",
                _show(host),
                b"GET /p HTTP/1.1\r\nhost: %b\r\n\r\n" % host,
                EITHER,
                (Got(b"GET", b"/p", b"", host),),
            )
        )
    for host in (
        b"", b" ", b"a b", b"a, b", b"a/b", b"a?b", b"a#b", b"a\\b", b"me@a", b"me:pw@a", b"http://a", b"//a", b"a:b", b"a:80:80",
        b"a:+80", b"a:-1", b"a:65536", b"a:99999999999", b"a:8 0", b":80", b":", b"[::1", b"::1]", b"[::1]x", b"[a]", b"[]", b"a\x00", b"a\x0b", b"a\xff",
        b"\xc3\xa4", b"a\"b", b"a<b", b"a|b", b"a%", b"a%zz", b"a{b}", b"[::1]:b", b"a[", b"a\tb", b"a@",
    ):  # fmt: skip
        cases.append(Case("host", _show(host), b"GET /p HTTP/1.1\r\nhost: %b\r\n\r\n" % host, REFUSE))
    for name, lines in {
        "none": b"x: y\r\n",
        "twice the same": b"host: a\r\nhost: a\r\n",
        "twice": b"host: a\r\nhost: b\r\n",
        "twice, apart, in two cases": b"Host: a\r\nx: y\r\nhOST: b\r\n",
        "thrice": b"host: a\r\nhost: b\r\nhost: c\r\n",
        "one and an empty one": b"host: a\r\nhost:\r\n",
        "an empty one and one": b"host:\r\nhost: a\r\n",
        "folded": b"host: a\r\n b\r\n",
        "blank before the colon": b"host : a\r\n",
        "after a blank": b" host: a\r\n",
        "only host_": b"host_: a\r\n",
    }.items():
        cases.append(Case("hosts", name, b"GET /p HTTP/1.1\r\n%b\r\n" % lines, REFUSE))
        cases.append(Case("hosts", f"{name}, with a URL", b"GET http://a/p HTTP/1.1\r\n%b\r\n" % lines, REFUSE))
    cases.append(
        Case(
            "hosts",
            "x-host too",
            b"GET /p HTTP/1.1\r\nhost: a\r\nx-host: b\r\nx-forwarded-host: c\r\n\r\n",
            PASS,
            (Got(b"GET", b"/p"),),
        )
    )
    cases.append(
        Case(
            "hosts",
            "none in HTTP/1.0",
            b"GET /p HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            EITHER,
            (Got(b"GET", b"/p", b"", b"127.0.0.1:1"),),
        )
    )
    cases.append(
        Case(
            "hosts",
            "two in HTTP/1.0",
            b"GET /p HTTP/1.0\r\nhost: a\r\nhost: b\r\nconnection: keep-alive\r\n\r\n",
            REFUSE,
        )
    )
    return cases


def targets() -> list[Case]:
    """The four forms of a target, and every byte in a path."""
    cases: list[Case] = []
    get = b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n"
    for target, sent, host in (
        (b"/p", b"/p", b"a"), (b"/", b"/", b"a"), (b"/p?q", b"/p?q", b"a"), (b"/p?", b"/p", b"a"), (b"//p", b"//p", b"a"), (b"/p//q", b"/p//q", b"a"),
        (b"/../p", b"/../p", b"a"), (b"/./p", b"/./p", b"a"), (b"/%2e%2e/p", b"/%2e%2e/p", b"a"), (b"/p%00", b"/p%00", b"a"), (b"/p%0d%0aX:y", b"/p%0d%0aX:y", b"a"),
        (b"/p;x=y", b"/p;x=y", b"a"), (b"/http://b/p", b"/http://b/p", b"a"), (b"/?http://b/", b"/?http://b/", b"a"), (b"/p?a=b?c", b"/p?a=b?c", b"a"),
        (b"http://b/p", b"/p", b"b"), (b"HTTP://b/p", b"/p", b"b"), (b"https://b/p", b"/p", b"b"), (b"http://b", b"/", b"b"), (b"http://b?q", b"/?q", b"b"),
        (b"http://b:81/p?q", b"/p?q", b"b:81"), (b"http://[::1]:81/p", b"/p", b"[::1]:81"), (b"http://b//p", b"//p", b"b"),
    ):  # fmt: skip
        cases.append(Case("target", _show(target), get % target, PASS, (Got(b"GET", sent, b"", host),)))
    for target in (b"/p#f", b"/p?q#f", b"#f", b"http://b/#f", b"http://b#f"):
        sent = target.replace(b"http://b", b"").partition(b"#")[0] or b"/"
        cases.append(
            Case(
                "target",
                _show(target),
                get % target,
                EITHER,
                (Got(b"GET", sent, b"", b"b" if b"//" in target else b"a"),),
            )
        )
    for target in (
        b"", b"p", b"*", b"?q", b"a:80", b"a", b"a/p", b"http:/p", b"http:p", b"http:///p", b"http://", b"http://me@b/p", b"http://me:pw@b/p", b"ftp://b/p",
        b"file:///p", b"javascript:x", b"http://b c/p", b"http://b\\p", b"ws://b/p", b"://b/p", b"\\p", b"http://b:x/p", b"http://:80/p",
        b"http://[::1/p", b"http://%/p", b"/p q", b"/p HTTP/1.1\rx", b"/p\tq", b"\t/p", b"/p\x00", b"/p\x0b", b"http\t://b/p", b"http://b\x00/p",
    ):  # fmt: skip
        cases.append(Case("target", _show(target), get % target, REFUSE))
    cases.append(Case("target", "OPTIONS *", b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", PASS, (Got(b"OPTIONS", b"*"),)))
    for method in (b"POST", b"HEAD", b"PUT"):
        cases.append(Case("target", f"{method.decode()} *", b"%b * HTTP/1.1\r\nhost: a\r\n\r\n" % method, REFUSE))
    for target in (b"a:80", b"a", b"/p", b"http://a/", b"*"):
        cases.append(
            Case("target", f"CONNECT {_show(target)}", b"CONNECT %b HTTP/1.1\r\nhost: a\r\n\r\n" % target, REFUSE)
        )
    for byte in range(256):
        one = bytes([byte])
        if one in b"?#":
            continue
        good = 0x21 <= byte < 0x7F
        # Bytes that no URI may hold but that browsers send as they are.
        verdict = REFUSE if not good else EITHER if one in b'"<>\\^`{|}' else PASS
        cases.append(
            Case(
                "target byte",
                f"{byte:#04x}",
                get % (b"/p" + one + b"q"),
                verdict,
                (Got(b"GET", b"/p" + one + b"q"),) if good else (),
            )
        )
    return cases


def first_lines() -> list[Case]:
    """Methods, versions and the blanks between the parts of a request line."""
    cases: list[Case] = []
    for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"REPORT", b"PROPFIND"):
        cases.append(
            Case(
                "method",
                method.decode(),
                b"%b /p HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n" % method,
                PASS,
                (Got(method, b"/p"),),
            )
        )
    for method in (
        b"", b"get", b"Get", b"GeT", b"GET\x00", b"G ET", b"FETCH", b"GETT", b"XGET", b"GE", b"G", b"A" * 200, b"A" * 20000, b"G\xcbT", b"GET:", b"(GET)",
        b"PRI", b"\xef\xbb\xbfGET", b"DESCRIBE", b"PLAY", b"HTTP/1.1", b"-", b"1", b"\x16\x03\x01", b"\x80", b"GET\x0b", b"\x0bGET",
    ):  # fmt: skip
        cases.append(
            Case(
                "method", _show(method)[:30], b"%b /p HTTP/1.1\r\nhost: a\r\n\r\n" % method, REFUSE, (), (400, 431, 414)
            )
        )
    for version in (
        b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/0.9", b"HTTP/0.0", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/11", b"HTTP/1.10",
        b"HTTP/1.01", b"HTTP/01.1", b"HTTP/+1.1", b"HTTP/1.1x", b"HTTP/1.1 x", b"HTTP/1.1\x00", b"http/1.1", b"Http/1.1", b"HTTPS/1.1", b"HTTP 1.1", b"HTTP\\1.1",
        b"ICE/1.0", b"HTTP/1,1", b"HTTP/1.1;", b"HTTP/A.B", b"HTTP/1.\xd9\xa1", b"HTTP/-1.1", b"", b"x", b"HTTP/", b"HTTP/1.1\t", b"HTTP/1.1 ", b"HTTP/1.1\x0b",
    ):  # fmt: skip
        cases.append(Case("version", _show(version), b"GET /p %b\r\nhost: a\r\n\r\n" % version, REFUSE, (), (400, 505)))
    for name, line in {
        "two blanks behind the method": b"GET  /p HTTP/1.1",
        "two blanks before the version": b"GET /p  HTTP/1.1",
        "tab behind the method": b"GET\t/p HTTP/1.1",
        "tab before the version": b"GET /p\tHTTP/1.1",
        "blank at the end": b"GET /p HTTP/1.1 ",
        "form feed behind the method": b"GET\x0c/p HTTP/1.1",
        "carriage return behind the method": b"GET\r/p HTTP/1.1",
        "no-break space": b"GET\xa0/p HTTP/1.1",
        "two targets": b"GET /p /q HTTP/1.1",
        "HTTP/0.9": b"GET /p",
        "HTTP/0.9 with a blank": b"GET /p ",
        "only a method": b"GET",
        "only a blank": b" ",
        "two versions": b"GET /p HTTP/1.1 HTTP/1.1",
        "a request in the target": b"GET /p HTTP/1.1 GET /q HTTP/1.1",
        "a blank before": b" GET /p HTTP/1.1",
        "a tab before": b"\tGET /p HTTP/1.1",
        "NUL before": b"\x00GET /p HTTP/1.1",
        "a field before": b"x: y\r\nGET /p HTTP/1.1",
        "a status line": b"HTTP/1.1 200 OK",
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "PROXY protocol": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET /p HTTP/1.1",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "gRPC frame": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        "SSH": b"SSH-2.0-OpenSSH_9.2",
    }.items():
        two = name in ("two blanks behind the method", "two blanks before the version", "blank at the end")
        cases.append(
            Case(
                "request line",
                name,
                line + b"\r\nhost: a\r\n\r\n",
                EITHER if two else REFUSE,
                (Got(b"GET", b"/p"),) if two else (),
                (400, 505),
            )
        )
    # RFC 9112 section 2.2: at least one empty line before a request is to be passed over.
    for before in (b"\r\n", b"\r\n\r\n"):
        cases.append(
            Case(
                "request line",
                f"{_show(before)} before",
                before + b"GET /p HTTP/1.1\r\nhost: a\r\n\r\n",
                PASS,
                (Got(b"GET", b"/p"),),
            )
        )
    for before in (b"\n", b"\r", b"\n\r\n", b"\r\r\n", b"\r\n" * 50):
        cases.append(
            Case(
                "request line",
                f"{_show(before)[:20]} before",
                before + b"GET /p HTTP/1.1\r\nhost: a\r\n\r\n",
                EITHER,
                (Got(b"GET", b"/p"),),
            )
        )
    return cases


def hops() -> list[Case]:
    """HTTP/1.0, Connection, Expect, Upgrade: what is for one hop must not change what reaches the next."""
    cases: list[Case] = []
    for name in (b"content-length", b"host", b"transfer-encoding", b"x-request-id", b"connection", b"via", b"te"):
        cases.append(
            Case(
                "connection",
                f"nominates {name.decode()}",
                _post(b"connection: %b\r\ncontent-length: 3\r\n" % name, b"abc"),
                PASS,
                ABC,
            )
        )
    cases.append(
        Case(
            "connection",
            "nominates the coding",
            _post(b"connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n", CHUNKS),
            PASS,
            ABC,
        )
    )
    for value in (
        b"",
        b",",
        b"keep-alive",
        b"Keep-Alive, x",
        b"x\ty",
        b'"close"',
        b"clo\xc5\xbfe",
        b"closed",
        b"keep-alive,keep-alive",
    ):
        cases.append(
            Case(
                "connection", _show(value), _post(b"connection: %b\r\ncontent-length: 3\r\n" % value, b"abc"), PASS, ABC
            )
        )
    for lines in (
        b"upgrade: h2c\r\nconnection: upgrade\r\n",
        b"upgrade: websocket\r\nconnection: x, Upgrade\r\n",
        b"connection: upgrade\r\n",
        b"upgrade: h2c\r\n",
    ):
        for name, fields, body in (
            ("length", b"content-length: 3\r\n", b"abc"),
            ("chunked", b"transfer-encoding: chunked\r\n", CHUNKS),
        ):
            cases.append(Case("upgrade", f"{_show(lines)} {name}", _post(lines + fields, body), PASS, ABC))
        cases.append(
            Case(
                "upgrade",
                f"{_show(lines)} both",
                _post(lines + b"content-length: 3\r\ntransfer-encoding: chunked\r\n", CHUNKS),
                REFUSE,
            )
        )
        cases.append(
            Case(
                "upgrade",
                f"{_show(lines)} no body",
                b"GET /p HTTP/1.1\r\nhost: a\r\n%b\r\n" % lines,
                LAST if b"websocket" in lines else PASS,
                (Got(b"GET", b"/p"),),
            )
        )
    for coding in (b"chunked", b"identity", b"gzip, chunked"):
        raw = b"POST /p HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ntransfer-encoding: %b\r\n\r\n%b" % (
            coding,
            CHUNKS,
        )
        cases.append(Case("HTTP/1.0", f"with {coding.decode()}", raw, REFUSE))
    raw = b"POST /p HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc"
    cases.append(Case("HTTP/1.0", "keeps alive with a length", raw, PASS, ABC))
    for method in (b"GET", b"HEAD", b"DELETE"):
        raw = b"%b /p HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc" % method
        cases.append(Case("body", f"of {method.decode()}, with a length", raw, PASS, (Got(method, b"/p", b"abc"),)))
        raw = b"%b /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n%b" % (method, CHUNKS)
        cases.append(Case("body", f"of {method.decode()}, chunked", raw, PASS, (Got(method, b"/p", b"abc"),)))
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    cases.append(
        Case(
            "body",
            "that looks like a request",
            _post(b"content-length: %d\r\n" % len(smuggled), smuggled),
            PASS,
            (Got(b"POST", b"/p", smuggled),),
        )
    )
    raw = _post(b"transfer-encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled))
    cases.append(Case("body", "that looks like a request, chunked", raw, PASS, (Got(b"POST", b"/p", smuggled),)))
    return cases


def all_cases() -> list[Case]:
    """The whole table."""
    made = (
        codings,
        coding_names,
        lengths,
        lengths_with_codings,
        field_lines,
        line_ends,
        chunk_lines,
        hosts,
        targets,
        first_lines,
        hops,
    )
    return [case for make in made for case in make()]
