"""Content codings and JSON, bounded."""

from __future__ import annotations

import gzip
import math
import tracemalloc
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions import codings
from proxy.predictions.decode import Undecodable, decode_json, decode_json_leniently, decompress, encode_json

BODY = b'{"predictions":[0.25,0.75]}' * 20


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


def reason_of(call) -> str:
    with pytest.raises(Undecodable) as caught:
        call()
    return caught.value.reason


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (None, BODY),
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        (" GZIP ", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("gzip", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
        ("gzip", gzip.compress(BODY, mtime=0) + b"\0\0\0"),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("br", brotli.compress(BODY)),
        ("BR", brotli.compress(BODY)),
        ("br", b""),
        ("zstd", zstandard.compress(BODY)),
        ("zstd", zstandard.compress(BODY[:100]) + zstandard.compress(BODY[100:])),
    ],
)
def test_a_coded_body_comes_out_whole(encoding, body):
    """Every coding that servers send is undone, deflate with and without its wrapper."""
    assert decompress(body, encoding, limit=len(BODY)) == (BODY if body else b"")


@pytest.mark.parametrize("encoding", ["br, gzip", "gzip, gzip", "gzip, identity", "compress", "gz\xff"])
def test_unknown_and_stacked_codings_are_refused(encoding):
    """What we cannot undo is named, not guessed."""
    assert reason_of(lambda: decompress(gzip.compress(BODY, mtime=0), encoding, limit=9999)) == "encoding_unknown"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (None, BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("gzip", gzip.compress(BODY[:-9], mtime=0) + gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("br", brotli.compress(BODY)),
        ("zstd", zstandard.compress(BODY)),
        ("zstd", zstandard.compress(BODY[:9]) + zstandard.compress(BODY[9:])),
    ],
    ids=["plain", "gzip", "two members", "zlib", "raw", "brotli", "zstd", "two frames"],
)
def test_output_is_bounded(encoding, body):
    """One byte over the limit is too large, however well it was packed and in however many members."""
    assert reason_of(lambda: decompress(body, encoding, limit=len(BODY) - 1)) == "too_large"


def test_a_bomb_is_not_unpacked():
    """Sixteen megabytes of zeros in a few kilobytes stop at the limit, and never lie in memory."""
    stream = zlib.compressobj(9, wbits=31)
    bomb = b"".join(stream.compress(bytes(1 << 20)) for _ in range(16)) + stream.flush()
    tracemalloc.start()
    try:
        assert reason_of(lambda: decompress(bomb, "gzip", limit=1000)) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [1, 9, 12, 30])
def test_a_cut_stream_is_truncated(cut):
    """Half an answer is never compared as a whole one."""
    assert reason_of(lambda: decompress(gzip.compress(BODY, mtime=0)[:cut], "gzip", limit=9999)) == "truncated"


@pytest.mark.parametrize(("coding", "pack"), [("br", brotli.compress), ("zstd", zstandard.compress)])
def test_brotli_and_zstd_say_what_is_wrong_too(coding, pack):
    """Cut anywhere they are truncated, scrambled they are corrupt, and a bomb stops at the limit."""
    whole = pack(BODY)
    for cut in (1, 9, len(whole) - 1):
        assert reason_of(lambda cut=cut: decompress(whole[:cut], coding, limit=9999)) == "truncated"
    assert reason_of(lambda: decompress(b"\xff" * 40, coding, limit=9999)) == "corrupt"
    assert reason_of(lambda: decompress(whole + b"tail", coding, limit=9999)) == "corrupt"
    bomb = pack(bytes(8 << 20))
    tracemalloc.start()
    try:
        assert reason_of(lambda: decompress(bomb, coding, limit=1000)) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_window_beyond_what_http_allows_is_not_allocated():
    """A frame that asks for 128 MB to be read is refused by its header."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, source_size=0)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = stream.compress(BODY) + stream.flush()
    assert reason_of(lambda: decompress(body, "zstd", limit=9999)) == "corrupt"


def test_without_its_library_a_coding_is_unknown(monkeypatch):
    """Nothing fails where a platform has no build of it."""
    monkeypatch.setattr(codings, "_library", lambda name: None)
    assert reason_of(lambda: decompress(brotli.compress(BODY), "br", limit=9999)) == "encoding_unknown"


def test_garbage_after_a_member_is_corrupt():
    """Only padding may follow."""
    assert reason_of(lambda: decompress(gzip.compress(BODY, mtime=0) + b"tail", "gzip", limit=9999)) == "corrupt"


def test_an_empty_body_may_name_a_coding():
    """HEAD and 304 answers carry the header and no content."""
    assert decompress(b"", "gzip", limit=0) == b""


@given(
    st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "identity", "br", "zstd", None]), st.integers(0, 300)
)
def test_any_bytes_decode_or_say_why(body, encoding, limit):
    """The only exception is Undecodable, and the limit holds."""
    reason = None
    try:
        assert len(decompress(body, encoding, limit=limit)) <= limit
    except Undecodable as error:
        reason = error.reason
    assert reason in {None, "encoding_unknown", "too_large", "truncated", "corrupt"}


def test_bare_nan_and_infinities_are_survived():
    """TensorFlow Serving and MLflow emit them; they are written back as they came."""
    document, lenient = decode_json_leniently(b'{"predictions":[NaN,Infinity,-Infinity,1]}')
    assert lenient
    nan, high, low, one = document["predictions"]
    assert math.isnan(nan)
    assert (high, low, one) == (math.inf, -math.inf, 1)
    assert encode_json(document, lenient=True) == b'{"predictions":[NaN,Infinity,-Infinity,1]}'


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_deep_nesting_is_survived(body):
    """The interpreter's limit becomes a reason."""
    assert reason_of(lambda: decode_json(body)) in {"too_deep", "not_json"}


@pytest.mark.parametrize("body", [b"", b"{", b"1" * 5000, b"\xff", b"{}x", b"Traceback (most recent call last):"])
def test_what_is_not_json_says_so(body):
    """Also digits beyond what Python converts."""
    assert reason_of(lambda: decode_json(body)) == "not_json"


def test_half_a_surrogate_pair_can_be_written_back():
    """Text that UTF-8 cannot hold is escaped."""
    document, lenient = decode_json_leniently(b'{"a":"\\ud800"}')
    assert encode_json(document, lenient=lenient) == b'{"a":"\\ud800"}'
    assert encode_json(document, lenient=False) == b'{"a":"\\ud800"}'


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_say_why(body):
    """decode_json raises nothing but Undecodable."""
    reason = None
    try:
        decode_json(body)
    except Undecodable as error:
        reason = error.reason
    assert reason in {None, "not_json", "too_deep"}
