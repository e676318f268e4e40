"""Two answers to one request: what a caller got, and what a shadow said.

Compared in this order: status; whether there are bodies at all; the bytes; then, if the path is a
prediction's, the prediction; then JSON by path; then bytes again. Total: no two answers raise, and
what cannot be compared is an outcome with its reason. Agreement in failure is no agreement: when
both legs fail alike the outcome is "ignored", so that shared client mistakes do not flatter a shadow.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from proxy.predictions import protocols, stream_chunks, v2
from proxy.predictions.adapters import Adapter
from proxy.predictions.comparators.choosing import FAILED, said
from proxy.predictions.comparison import Answer, Comparison, Difference
from proxy.predictions.decode import Undecodable, decompress
from proxy.predictions.findings import Findings, shown
from proxy.predictions.judge import judge
from proxy.predictions.outputs import Output
from proxy.predictions.reading import media_type, read_json
from proxy.predictions.rules import Compare, Dialect
from proxy.predictions.structure import compare_documents

__all__ = ["Answer", "Comparison", "Difference", "compare"]

MIB: Final = 1 << 20
_MISSING: Final = {"response_incomplete": "truncated", "incomplete": "truncated"}


def compare(
    path: str,
    primary: Answer,
    shadow: Answer,
    rules: Compare,
    *,
    dialect: Dialect | None = None,
    limit: int = 4 * MIB,
) -> Comparison:
    """Compare the answers of two legs to the same request. Never raises, whatever the bodies hold.

    Args:
        path: the request's path, which tells the protocol.
        primary: the answer that the caller got.
        shadow: the answer of the shadow.
        rules: the operator's tolerance, labels and ignored paths.
        dialect: what the route says of its predictions.
        limit: largest body that is decoded, in bytes after decompression.
    """
    status = primary.status
    if status != shadow.status:
        difference = Difference("status", "primitive", str(status), str(shadow.status))
        return Comparison("mismatch", "status", "status", {}, [difference], 1)
    ours, theirs = primary.body, shadow.body
    if ours is None or theirs is None or primary.missing or shadow.missing:
        if status >= 400:
            return Comparison("ignored", "both_failed", "status")
        return Comparison("incomparable", _why_missing(primary, shadow), "status")
    protocol = protocols.spoken(path, dialect)
    if ours == theirs and primary.encoding == shadow.encoding:
        if status >= 400 or _fails(protocol, ours, primary.content_type):
            return Comparison("ignored", "both_failed", "bytes")
        return Comparison("match", "identical", "bytes")
    try:
        if protocol == "v2" and status < 400 and not primary.encoding and not shadow.encoding:
            if len(ours) > limit or len(theirs) > limit:
                return Comparison("incomparable", "too_large", "v2")
            outputs = v2.decode(ours)
            if outputs is not None and (others := v2.decode(theirs)) is not None:
                findings = Findings()
                judge(outputs, others, rules, findings, batched=v2.BATCHED)
                return _concluded("v2", findings)
        result = _by_content(protocol, primary, shadow, rules, dialect, limit)
    except Undecodable as error:
        result = Comparison("incomparable", error.reason, _comparator(protocol))
    except RecursionError:
        result = Comparison("incomparable", "too_deep", _comparator(protocol))
    if status >= 400:
        result.outcome, result.reason = "ignored", "both_failed"
    return result


def _fails(protocol: str | None, body: bytes, content_type: str | None) -> bool:
    """Tell whether an answer that both legs gave reports a failure, perhaps in the middle of a stream."""
    if protocol is None or b"error" not in body:
        return False
    if body.startswith(b'{"error"'):
        return True
    adapter, media = protocols.adapter(protocol), media_type(content_type)
    if adapter is None or not stream_chunks.is_stream(body, media):
        return False
    try:
        return adapter.answers_error(adapter.read(body, media).document)
    except (Undecodable, RecursionError):
        return False


def _why_missing(primary: Answer, shadow: Answer) -> str:
    lacking = primary if primary.body is None or primary.missing else shadow
    word = lacking.missing or "not_captured"
    return _MISSING.get(word) or word.removeprefix("response_")


def _comparator(protocol: str | None) -> str:
    return protocol if protocol and (protocol == "free" or protocols.adapter(protocol)) else "json"


def _by_content(
    protocol: str | None, primary: Answer, shadow: Answer, rules: Compare, dialect: Dialect | None, limit: int
) -> Comparison:
    ours = decompress(primary.body or b"", primary.encoding, limit=limit)
    theirs = decompress(shadow.body or b"", shadow.encoding, limit=limit)
    if ours == theirs:
        if _fails(protocol, ours, primary.content_type):
            return Comparison("ignored", "both_failed", "bytes")
        return Comparison("match", "identical", "bytes")
    adapter = protocols.adapter(protocol, dialect)
    eager = protocol is not None
    a, a_is_json = _document(ours, primary.content_type, adapter, eager=eager)
    b, b_is_json = _document(theirs, shadow.content_type, adapter, eager=eager)
    if a_is_json and b_is_json:
        if adapter is not None and primary.status < 400:
            found = _as_predictions(adapter, a, b, rules)
            if found is not None:
                return found
        findings = Findings()
        compare_documents(a, b, rules, findings)
        return _concluded("json", findings)
    if rules.content_types and not (a_is_json or b_is_json):
        found = _by_content_type(primary.content_type, ours, theirs, rules)
        if found is not None:
            return found
    kinds = ("json" if a_is_json else _described(ours), "json" if b_is_json else _described(theirs))
    if a_is_json or b_is_json:
        return Comparison("mismatch", "not_json", "json", {}, [Difference("/", "type", *kinds)], 1)
    return Comparison("mismatch", "bytes", "bytes", {}, [Difference("/", "primitive", *kinds)], 1)


def _by_content_type(content_type: str | None, ours: bytes, theirs: bytes, rules: Compare) -> Comparison | None:
    """Judge two bodies as texts by what the operator says of their media type; None where nothing is said."""
    media = media_type(content_type)
    judged = said(rules.content_types, media)
    if not judged.by or judged.by == "exact":
        return None
    texts = [Output(name="body", values=[body.decode(errors="replace")], shape=(1,)) for body in (ours, theirs)]
    findings = Findings()
    judge(texts[:1], texts[1:], replace(rules, outputs={"body": judged}), findings, batched=False)
    return _concluded("text", findings)


def _document(body: bytes, content_type: str | None, adapter: Adapter | None, *, eager: bool) -> tuple[object, bool]:
    """Read a body as its protocol does, or as JSON if it is declared so, looks like it, or answers a predict call."""
    media = media_type(content_type)
    declared = media == "application/json" or media.endswith("+json") or media in stream_chunks.LISTS
    if not (eager or declared or body.lstrip(b" \t\r\n")[:1] in (b"{", b"[")):
        return None, False
    try:
        return _document_of(body, media, adapter), True
    except Undecodable as error:
        if error.reason != "not_json":
            raise
        return None, False


def _document_of(body: bytes, media: str, adapter: Adapter | None) -> object:
    if adapter is not None:
        return adapter.read(body, media).document
    # Of an unknown protocol, the documents of a stream are compared in their order.
    return stream_chunks.listed(body, media) if media in stream_chunks.LISTS else read_json(body, media).document


def _as_predictions(adapter: Adapter, a: object, b: object, rules: Compare) -> Comparison | None:
    failed = adapter.answers_error(a), adapter.answers_error(b)
    ours, theirs = adapter.places(a), adapter.places(b)
    # An error in the middle of a stream leaves outputs behind it, which are no answer.
    if not any(failed) and ours is not None and theirs is not None:
        findings = Findings()
        outputs = [place.output for place in ours], [place.output for place in theirs]
        judge(*outputs, rules, findings, batched=adapter.batched)
        return _concluded(adapter.name, findings)
    if all(failed):
        return Comparison("ignored", "both_failed", adapter.name)
    if any(failed):
        words = ["error" if leg else "prediction" for leg in failed]
        return Comparison("mismatch", "error", adapter.name, {}, [Difference("/error", "type", *words)], 1)
    spoken = protocols.speaks(a), protocols.speaks(b)
    if None not in spoken and spoken[0] != spoken[1]:
        return Comparison("incomparable", "different_protocols", adapter.name)
    return None


def _concluded(comparator: str, findings: Findings) -> Comparison:
    if findings.count:
        return Comparison(
            "mismatch", findings.reason, comparator, findings.metrics, findings.differences, findings.count
        )
    if findings.failed:
        why = [Difference("", "failed", shown(findings.failed), "")]
        return Comparison("incomparable", FAILED, comparator, findings.metrics, why)
    if findings.ignored:
        return Comparison("ignored", "ignored_paths", comparator, findings.metrics)
    return Comparison("match", "equal", comparator, findings.metrics)


def _described(body: bytes) -> str:
    return f"{len(body)} bytes"
