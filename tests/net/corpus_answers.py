"""Answers as broken, old and hostile model servers write them: a table made of lists of variants.

`RELAY`: the caller gets exactly this status and body, complete. `BAD`: the caller gets a 502 of ours.
`CUT`: the answer had begun, so the caller's connection is cut and nothing looks complete. `ANY` is for what
RFC 9112 leaves to the recipient, but never another body and never a byte of another answer.

The server closes behind each answer unless `keeps` says that the connection should be used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.net.corpus_requests import BAD_CODINGS, BAD_LENGTHS, BAD_SIZES, TCHAR

RELAY: Final = "relay"
BAD: Final = "bad"
CUT: Final = "cut"
ANY: Final = "any"
STOLEN: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"


@dataclass(frozen=True)
class Case:
    """`raw` is what the server sends to a request of `method`."""

    group: str
    name: str
    raw: bytes
    verdict: str
    status: int = 200
    body: bytes = b"abc"
    keeps: bool = False
    method: bytes = b"GET"

    @property
    def title(self) -> str:
        return f"{self.group}: {self.name}"


def _show(value: bytes) -> str:
    return repr(value)[2:-1][:60]


OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKS: Final = b"3\r\nabc\r\n0\r\n\r\n"
LENGTH: Final = b"content-length: 3\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"


def statuses() -> list[Case]:
    """Status lines: HTTP/1.x, three digits from 100 on, a reason that nobody needs."""
    cases: list[Case] = []
    for status in (
        200,
        201,
        202,
        203,
        205,
        206,
        207,
        226,
        300,
        301,
        302,
        307,
        400,
        401,
        404,
        413,
        418,
        429,
        451,
        500,
        502,
        503,
        511,
        599,
        600,
        999,
    ):
        cases.append(
            Case("status", str(status), b"HTTP/1.1 %d X\r\n%b\r\nabc" % (status, LENGTH), RELAY, status, keeps=True)
        )
        cases.append(
            Case(
                "status",
                f"{status} chunked",
                b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, CHUNKED, CHUNKS),
                RELAY,
                status,
                keeps=True,
            )
        )
    for code in (
        b"000", b"001", b"020", b"099", b"1000", b"0200", b"20", b"2", b"", b"2OO", b"+200", b"-200", b"200.1", b"2e2", b" 200", b"0x200", b"abc", b"200abc",
        b"\xef\xbc\x92\xef\xbc\x90\xef\xbc\x90", b"20 0", b"200\x00", b"2\x000",
    ):  # fmt: skip
        cases.append(Case("status", _show(code), b"HTTP/1.1 %b OK\r\n%b\r\nabc" % (code, LENGTH), BAD))
    # What is no final status must not smuggle a body of its own into the next answer.
    for code in (b"000", b"042", b"099"):
        for body in (
            b"content-length: 3\r\n\r\nevi",
            b"transfer-encoding: chunked\r\n\r\n3\r\nevi\r\n0\r\n\r\n",
            b"\r\n",
        ):
            raw = b"HTTP/1.1 %b X\r\n%b%b%b\r\nabc" % (code, body, OK, LENGTH)
            cases.append(Case("status", f"{code.decode()} and {_show(body)} before the answer", raw, BAD))
    for name, reason in (
        ("no reason", b""),
        ("empty reason", b" "),
        ("a long one", b" " + b"x" * 4000),
        ("latin", b" \xe4\xf6"),
        ("tab", b" a\tb"),
        ("digits", b" 404 404"),
    ):
        cases.append(Case("reason", name, b"HTTP/1.1 200%b\r\n%b\r\nabc" % (reason, LENGTH), RELAY, keeps=True))
    for name, reason in (
        ("CR", b" a\rb"),
        ("LF", b" a\nb"),
        ("NUL", b" a\x00b"),
        ("LF and a field", b" OK\nx: y"),
        ("CR and a field", b" OK\rx: y"),
    ):
        cases.append(
            Case("reason", name, b"HTTP/1.1 200%b\r\n%b\r\nabc" % (reason, LENGTH), ANY if name == "NUL" else BAD)
        )
    for version in (
        b"HTTP/2.0",
        b"HTTP/2",
        b"HTTP/0.9",
        b"HTTP/1.2",
        b"HTTP/3.0",
        b"HTTP/1",
        b"HTTP/11",
        b"HTTP/1.10",
        b"http/1.1",
        b"HTTPS/1.1",
        b"ICY",
        b"HTTP/1.1\x00",
        b"HTTP/1.\xd9\xa1",
        b"",
        b"XHTTP/1.1",
    ):
        cases.append(Case("version", _show(version), b"%b 200 OK\r\n%b\r\nabc" % (version, LENGTH), BAD))
    # llhttp reads these two as HTTP/1.0 and does not say so; what goes on is ours.
    for version in (b"RTSP/1.0", b"ICE/1.0"):
        cases.append(Case("version", _show(version), b"%b 200 OK\r\n%b\r\nabc" % (version, LENGTH), ANY))
    for line in (
        b"200 OK",
        b"OK",
        b"GET / HTTP/1.1",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1  200 OK",
        b" HTTP/1.1 200 OK",
        b"x: y",
        b"<html>",
        b"{}",
        b"\x16\x03\x03",
        b"SSH-2.0-x",
        b"\x00",
    ):
        cases.append(Case("status line", _show(line), b"%b\r\n%b\r\nabc" % (line, LENGTH), BAD))
    return cases


def interims() -> list[Case]:
    """1xx: any number of them before one final answer; 101 unasked is the end."""
    final = OK + LENGTH + b"\r\nabc"
    cases: list[Case] = []
    for status in (100, 102, 103, 104, 110, 199):
        one = b"HTTP/1.1 %d X\r\n\r\n" % status
        cases.append(Case("interim", str(status), one + final, RELAY, keeps=True))
        cases.append(
            Case(
                "interim",
                f"{status} with a field",
                b"HTTP/1.1 %d X\r\nlink: </a>\r\n\r\n" % status + final,
                RELAY,
                keeps=True,
            )
        )
        cases.append(Case("interim", f"{status} three times", one * 3 + final, RELAY, keeps=True))
        cases.append(Case("interim", f"{status} alone", one, BAD))
        for body in (b"content-length: 3\r\n\r\nevi", b"transfer-encoding: chunked\r\n\r\n3\r\nevi\r\n0\r\n\r\n"):
            cases.append(
                Case("interim", f"{status} with {_show(body)}", b"HTTP/1.1 %d X\r\n%b" % (status, body) + final, BAD)
            )
        for length in (b"0", b"3", b"%d" % len(final)):
            raw = b"HTTP/1.1 %d X\r\ncontent-length: %b\r\n\r\n" % (status, length) + final
            cases.append(Case("interim", f"{status} that says {length.decode()} bytes", raw, ANY, keeps=True))
        cases.append(
            Case(
                "interim",
                f"{status} that says close",
                b"HTTP/1.1 %d X\r\nconnection: close\r\n\r\n" % status + final,
                ANY,
            )
        )
        cases.append(Case("interim", f"{status} in HTTP/1.0", b"HTTP/1.0 %d X\r\n\r\n" % status + final, ANY))
    for fields in (
        b"",
        b"upgrade: h2c\r\nconnection: upgrade\r\n",
        b"content-length: 3\r\n",
        b"connection: upgrade\r\n",
        b"transfer-encoding: chunked\r\n",
    ):
        cases.append(Case("interim", f"101 with {_show(fields)}", b"HTTP/1.1 101 X\r\n%b\r\n" % fields + final, BAD))
        cases.append(
            Case(
                "interim",
                f"100, then 101 with {_show(fields)}",
                b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 101 X\r\n%b\r\n" % fields + final,
                BAD,
            )
        )
    cases.append(Case("interim", "after the answer", final + b"HTTP/1.1 100 X\r\n\r\n", RELAY))
    return cases


def bodiless() -> list[Case]:
    """HEAD, 204 and 304 end at their head (RFC 9112 section 6.3), whatever it says and whatever follows."""
    cases: list[Case] = []
    for method, status in (
        (b"GET", 204),
        (b"GET", 304),
        (b"POST", 204),
        (b"HEAD", 200),
        (b"HEAD", 404),
        (b"HEAD", 204),
        (b"HEAD", 304),
    ):
        for fields in (
            b"",
            b"content-length: 0\r\n",
            b"content-length: 3\r\n",
            b"transfer-encoding: chunked\r\n",
            b"content-length: 9999999999\r\n",
        ):
            raw = b"HTTP/1.1 %d X\r\n%b\r\n" % (status, fields)
            name = f"{status} to {method.decode()} with {_show(fields)}"
            cases.append(
                Case("bodiless", name, raw, RELAY, status, b"", keeps=not fields or b"0\r\n" in fields, method=method)
            )
            for rest in (b"abc", CHUNKS, STOLEN, b"0\r\n\r\n"):
                cases.append(
                    Case("bodiless", f"{name}, and {_show(rest)}", raw + rest, RELAY, status, b"", method=method)
                )
    return cases


def framing() -> list[Case]:
    """Codings, lengths, both and neither."""
    cases = [
        Case("coding", _show(value), b"%btransfer-encoding:%b\r\n\r\n%b" % (OK, value, CHUNKS), RELAY, keeps=True)
        for value in (b" chunked", b"chunked", b" Chunked", b"\tCHUNKED", b" chunked ")
    ]
    cases += [Case("coding", _show(v), b"%btransfer-encoding:%b\r\n\r\n%b" % (OK, v, CHUNKS), BAD) for v in BAD_CODINGS]
    cases += [
        Case("length", _show(v), b"%bcontent-length:%b\r\n\r\nabc" % (OK, v), RELAY, keeps=True)
        for v in (b" 3", b"3", b"\t3 ", b" 03", b" 000000000000000003")
    ]
    cases += [
        Case(
            "length",
            _show(v),
            b"%bcontent-length:%b\r\n\r\nabc" % (OK, v),
            ANY if v == b" 9223372036854775808" else BAD,
        )
        for v in BAD_LENGTHS
    ]
    for name, fields in {
        "two equal lengths": b"content-length: 3\r\ncontent-length: 3\r\n",
        "two lengths": b"content-length: 3\r\ncontent-length: 2\r\n",
        "two lengths, apart": b"Content-Length: 2\r\nx: y\r\ncONTENT-lENGTH: 3\r\n",
        "chunked twice": CHUNKED * 2,
        "chunked, then gzip": CHUNKED + b"transfer-encoding: gzip\r\n",
        "gzip, then chunked": b"transfer-encoding: gzip\r\n" + CHUNKED,
        "identity, then chunked": b"transfer-encoding: identity\r\n" + CHUNKED,
        "chunked, then nothing": CHUNKED + b"transfer-encoding:\r\n",
        "length, then chunked": LENGTH + CHUNKED,
        "chunked, then length": CHUNKED + LENGTH,
        "chunked, then length 0": CHUNKED + b"content-length: 0\r\n",
        "length and identity": LENGTH + b"transfer-encoding: identity\r\n",
        "length and xchunked": LENGTH + b"transfer-encoding: xchunked\r\n",
    }.items():
        cases.append(Case("framing", name, OK + fields + b"\r\n" + (CHUNKS if b"unked" in fields else b"abc"), BAD))
    for name in (
        b"transfer-encoding ",
        b"transfer-encoding\t",
        b"transfer\x00-encoding",
        b" transfer-encoding",
        b"content-length ",
        b"content-length\x00",
        b"x: y\rcontent-length",
        b"x: y\ncontent-length",
    ):
        for first in (b"", LENGTH):
            value = b"chunked" if b"coding" in name else b"2"
            cases.append(
                Case(
                    "framing name",
                    f"{_show(name)} behind {_show(first)}",
                    OK + first + name + b": " + value + b"\r\n\r\nabc",
                    BAD,
                )
            )
    close = b"connection: close\r\n"
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        start = version + b" 200 OK\r\n"
        cases.append(Case("close", f"{version.decode()} until the end", start + b"\r\nabc", RELAY))
        cases.append(Case("close", f"{version.decode()} until the end, said", start + close + b"\r\nabc", RELAY))
        cases.append(Case("close", f"{version.decode()} and nothing", start + b"\r\n", RELAY, body=b""))
        cases.append(Case("close", f"{version.decode()} with a length", start + close + LENGTH + b"\r\nabc", RELAY))
    # RFC 9112 section 6.1: an HTTP/1.0 message with a coding is framed badly; read it if you must, then close.
    cases.append(Case("close", "HTTP/1.0 chunked", b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n" + CHUNKS, ANY))
    cases.append(
        Case(
            "close",
            "HTTP/1.0 chunked, keep-alive",
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + CHUNKED + b"\r\n" + CHUNKS,
            ANY,
        )
    )
    cases.append(
        Case(
            "close",
            "HTTP/1.0 keep-alive",
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + LENGTH + b"\r\nabc",
            RELAY,
            keeps=True,
        )
    )
    # The list of all Connection fields counts, in any order, and other fields are not Connection.
    for name, fields, keeps in (
        ("close, then keep-alive", b"connection: close\r\nconnection: keep-alive\r\n", False),
        ("keep-alive, then close", b"connection: keep-alive\r\nconnection: close\r\n", False),
        ("both in one", b"connection: keep-alive, close\r\n", False),
        ("a name, then keep-alive", b"connection: x\r\nconnection: keep-alive\r\nx: y\r\n", True),
        ("proxy-connection: close", b"proxy-connection: close\r\n", False),
        ("proxy-connection: keep-alive", b"proxy-connection: keep-alive\r\n", True),
        ("closed is not close", b"connection: closed\r\n", True),
        ("empty", b"connection:\r\n", True),
        ("nominates the length", b"connection: content-length\r\n", True),
        ("nominates the type", b"connection: content-type\r\ncontent-type: a/b\r\n", True),
    ):
        cases.append(Case("connection", name, OK + fields + LENGTH + b"\r\nabc", RELAY, keeps=keeps))
    cases.append(
        Case(
            "connection",
            "nominates the coding",
            OK + b"connection: transfer-encoding\r\n" + CHUNKED + b"\r\n" + CHUNKS,
            RELAY,
            keeps=True,
        )
    )
    return cases


def chunks() -> list[Case]:
    """Chunk lines, extensions, trailers."""
    head = OK + CHUNKED + b"\r\n"
    ten = b"abcdefghij"
    cases = [
        Case("chunk size", _show(size), head + size + b"\r\nabcdefghij\r\n0\r\n\r\n", RELAY, body=ten, keeps=True)
        for size in (b"a", b"A", b"0a", b"00000000a")
    ]
    cases += [Case("chunk size", _show(size), head + size + b"\r\nabcdefghij\r\n0\r\n\r\n", CUT) for size in BAD_SIZES]
    cases += [
        Case("chunk size", _show(size), head + size + b"\r\nabcdefghij\r\n0\r\n\r\n", ANY, body=ten, keeps=True)
        for size in (b"a ", b"a\t", b"a  ", b"a ;x")
    ]
    cases += [
        Case("chunk extension", _show(e), head + b"a" + e + b"\r\nabcdefghij\r\n0\r\n\r\n", RELAY, body=ten, keeps=True)
        for e in (b";x", b";x=y", b';x="y;z"', b";x" + b"y" * 500)
    ]
    cases += [
        Case("chunk extension", _show(e), head + b"a" + e + b"\r\nabcdefghij\r\n0\r\n\r\n", CUT)
        for e in (b";x\ny", b";x\ry", b';x="\n"', b";\n", b";x\x00", b"\n;x")
    ]
    for end in (b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\x00\r\n", b"x\r\n"):
        cases.append(
            Case("chunk end", f"{_show(end)} behind the size", head + b"a" + end + b"abcdefghij\r\n0\r\n\r\n", CUT)
        )
        cases.append(
            Case("chunk end", f"{_show(end)} behind the data", head + b"a\r\nabcdefghij" + end + b"0\r\n\r\n", CUT)
        )
        cases.append(
            Case("chunk end", f"{_show(end)} behind the last size", head + b"a\r\nabcdefghij\r\n0" + end + b"\r\n", CUT)
        )
    for trailer in (b"x: y", b"x:", b"etag: z", b"set-cookie: a=b", b"x: y\r\nz: w", b"x-request-id: stolen"):
        cases.append(
            Case(
                "trailer",
                _show(trailer),
                head + b"a\r\nabcdefghij\r\n0\r\n" + trailer + b"\r\n\r\n",
                RELAY,
                body=ten,
                keeps=True,
            )
        )
    for trailer in (
        b"content-length: 5",
        b"transfer-encoding: chunked",
        b"transfer-encoding: gzip",
        b"connection: close",
        b"content-length: x",
        b"keep-alive: timeout=0",
    ):
        cases.append(
            Case("trailer", _show(trailer), head + b"a\r\nabcdefghij\r\n0\r\n" + trailer + b"\r\n\r\n", ANY, body=ten)
        )
    for trailer in (b"nonsense", b": x", b"x : y", b" x: y", b"x: a\x00b", b"x: a\rb", b"x: a\nb", b"x: y\r\n z"):
        cases.append(Case("trailer", _show(trailer), head + b"a\r\nabcdefghij\r\n0\r\n" + trailer + b"\r\n\r\n", CUT))
    whole = head + b"a\r\nabcdefghij\r\n0\r\nx: y\r\n\r\n"
    cases += [
        Case("short", f"chunked, {end} of {len(whole)} bytes", whole[:end], CUT) for end in range(len(head), len(whole))
    ]
    whole = OK + LENGTH + b"\r\nabc"
    cases += [
        Case("short", f"length, {end} of {len(whole)} bytes", whole[:end], BAD if end < len(whole) - 3 else CUT)
        for end in range(len(whole))
    ]
    return cases


def field_lines() -> list[Case]:
    """Every byte in a field's name and value; lines that are none; line ends."""
    cases: list[Case] = []
    answer = OK + b"%b" + LENGTH + b"\r\nabc"
    for byte in range(256):
        one = bytes([byte])
        good = one in TCHAR or one == b":"
        cases.append(
            Case("name byte", f"{byte:#04x}", answer % (b"x%by: 1\r\n" % one), RELAY if good else BAD, keeps=good)
        )
        good = byte in b"\t " or (byte >= 0x20 and byte != 0x7F)
        cases.append(
            Case(
                "value byte", f"{byte:#04x} inside", answer % (b"x: a%bb\r\n" % one), RELAY if good else BAD, keeps=good
            )
        )
        cases.append(
            Case(
                "value byte", f"{byte:#04x} behind", answer % (b"x: a%b\r\n" % one), RELAY if good else BAD, keeps=good
            )
        )
    for name, line in {
        "no colon": b"nonsense\r\n",
        "empty name": b": x\r\n",
        "blank before the colon": b"x : y\r\n",
        "folded": b"x: y\r\n z\r\n",
        "folded by a tab": b"x: y\r\n\tz\r\n",
        "begins with a blank": b" x: y\r\n",
        "bare line feed": b"x: y\nz: w\r\n",
        "bare carriage return": b"x: y\rz: w\r\n",
        "two carriage returns": b"x: y\r\r\n",
        "a second status line": b"HTTP/1.1 200 OK\r\n",
    }.items():
        cases.append(Case("field line", name, answer % line, BAD))
    lines = (b"HTTP/1.1 200 OK", b"x: y", b"content-length: 3", b"")
    for place in range(len(lines)):
        for end in (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r \n", b"\r\x00\n", b"\x00", b"\x0b", b"\x85"):
            raw = b"".join(line + (end if i == place else b"\r\n") for i, line in enumerate(lines)) + b"abc"
            # Other bytes may belong to a reason or a value; what goes on is spelled by us.
            verdict = ANY if place < 2 and end in (b"\x00", b"\x0b", b"\x85") else BAD
            cases.append(Case("line end", f"{_show(end)} behind line {place}", raw, verdict))
    many = b"".join(b"x%d: y\r\n" % i for i in range(120))
    cases.append(Case("field line", "120 of them", answer % many, RELAY, keeps=True))
    for before in (b"\r\n", b"\n", b" ", b"\x00", b"x"):
        cases.append(
            Case(
                "field line",
                f"{_show(before)} before the answer",
                before + answer % b"",
                ANY if before in b"\r\n" else BAD,
            )
        )
    return cases


def surplus() -> list[Case]:
    """What follows a complete answer is nobody's."""
    cases: list[Case] = []
    for name, whole in (("length", OK + LENGTH + b"\r\nabc"), ("chunked", OK + CHUNKED + b"\r\n" + CHUNKS)):
        for rest in (
            STOLEN,
            STOLEN[:20],
            b"H",
            b"x",
            b"\r\n",
            b"\n",
            b"\x00",
            b"0\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            STOLEN * 3,
        ):
            cases.append(Case("surplus", f"{_show(rest)} behind a {name} answer", whole + rest, RELAY))
    return cases


def all_cases() -> list[Case]:
    """The whole table."""
    made = (statuses, interims, bodiless, framing, chunks, field_lines, surplus)
    return [case for make in made for case in make()]
