"""V2 answers and requests whose tensors are bytes, as Triton and KServe send them."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions.compare import Answer, compare
from proxy.predictions.decode import Undecodable
from proxy.predictions.degrade import Degraded, Skipped, degrade
from proxy.predictions.protocols import adapter
from proxy.predictions.rules import Bias, Compare, Constant, Flip, Noise, Stale

V2 = "/v2/models/iris/infer"
OCTETS = "application/octet-stream"
BRAIN_ONE_AND_A_HALF = b"\xc0\x3f"


def item(name, datatype, shape, raw=None, **more):
    """A tensor as it stands in the JSON part."""
    size = {} if raw is None else {"parameters": {"binary_data_size": len(raw)}}
    return {"name": name, "datatype": datatype, "shape": shape, **size, **more}


def message(items, *raws, key="outputs", **envelope):
    head = json.dumps({"model_name": "iris", "model_version": "1", **envelope, key: items}).encode()
    return head + b"".join(raws)


def texts(*values):
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def read(body):
    reading = adapter("v2").read(body, OCTETS)
    places = adapter("v2").places(reading.document)
    return [(p.output.name, p.output.datatype, p.output.shape, p.output.values) for p in places]


@pytest.mark.parametrize(
    ("datatype", "raw", "values"),
    [
        ("BOOL", b"\x01\x00", [True, False]),
        ("INT8", b"\xff\x02", [-1, 2]),
        ("INT16", struct.pack("<2h", -300, 5), [-300, 5]),
        ("INT32", struct.pack("<2i", -300, 5), [-300, 5]),
        ("INT64", struct.pack("<2q", -(2**63), 5), [-(2**63), 5]),
        ("UINT8", b"\xff\x02", [255, 2]),
        ("UINT16", struct.pack("<2H", 65535, 5), [65535, 5]),
        ("UINT32", struct.pack("<2I", 2**32 - 1, 5), [2**32 - 1, 5]),
        ("UINT64", struct.pack("<2Q", 2**64 - 1, 5), [2**64 - 1, 5]),
        ("FP16", struct.pack("<2e", 0.5, -2.0), [0.5, -2.0]),
        ("BF16", BRAIN_ONE_AND_A_HALF + b"\x00\xc0", [1.5, -2.0]),
        ("FP32", struct.pack("<2f", 0.5, math.inf), [0.5, math.inf]),
        ("FP64", struct.pack("<2d", 0.1, -2.0), [0.1, -2.0]),
        ("BYTES", texts(b"cat", "größe".encode()), ["cat", "größe"]),
    ],
)
def test_every_datatype_is_read_and_written(datatype, raw, values):
    """Little-endian; changed elements are written, the others keep their bytes, and so does the JSON part."""
    body = message([item("y", datatype, [1, 2], raw)], raw)
    assert read(body) == [("y", datatype, (1, 2), values)]
    reading = adapter("v2").read(body, OCTETS)
    assert reading.encode() == (body, ())
    (place,) = adapter("v2").places(reading.document)
    place.write([values[1], values[1]])
    written = reading.encode()
    assert read(written.body) == [("y", datatype, (1, 2), [values[1], values[1]])]
    assert written.body[: body.index(raw)] == body[: body.index(raw)] or datatype == "BYTES"


def test_outputs_in_json_and_in_binary_stand_side_by_side():
    """A client may ask for each output as it likes; bytes come in the order of the outputs that have them."""
    a, c = struct.pack("<2f", 0.25, 0.75), texts(b"dog")
    body = message([item("a", "FP32", [1, 2], a), item("b", "INT64", [1], data=[7]), item("c", "BYTES", [1], c)], a, c)
    assert read(body) == [
        ("a", "FP32", (1, 2), [0.25, 0.75]),
        ("b", "INT64", (1,), [7]),
        ("c", "BYTES", (1,), ["dog"]),
    ]


def test_a_number_is_degraded_in_place():
    """Nothing but its bytes changes: the length, the JSON part and the other tensor stay, and no header follows."""
    a, b = struct.pack("<2f", 0.25, 0.75), struct.pack("<q", 3)
    body = message([item("a", "FP32", [1, 2], a), item("b", "INT64", [1], b)], a, b, id="7")
    result = degrade(V2, body, OCTETS, Bias(delta=0.5, outputs=["a"]), seed=1, previous=None)
    assert result == Degraded(body.replace(a, struct.pack("<2f", 0.75, 1.25)))


def test_a_text_of_another_length_changes_its_size():
    """In the JSON part, whose own length a header says."""
    raw = texts(b"cat", b"dog")
    body = message([item("y", "BYTES", [2], raw)], raw)
    result = degrade(V2, body, OCTETS, Constant(value="hippopotamus" * 9), seed=1, previous=None)
    new = texts(*[b"hippopotamus" * 9] * 2)
    head = body[: -len(raw)].replace(b'"binary_data_size": 14', b'"binary_data_size": 224')
    assert result == Degraded(head + new, ((b"inference-header-content-length", b"%d" % len(head)),))


def test_bytes_that_are_no_text_stay_themselves():
    """An image in a BYTES output is shown with escapes, and passes a degradation of its neighbours unchanged."""
    raw, other = texts(b"\x89PNG\xff"), struct.pack("<f", 0.5)
    body = message([item("img", "BYTES", [1], raw), item("s", "FP32", [1], other)], raw, other)
    assert read(body)[0][3] == ["\\x89PNG\\xff"]
    result = degrade(V2, body, OCTETS, Constant(value=1.0), seed=1, previous=None)
    assert result == Degraded(body.removesuffix(other) + struct.pack("<f", 1.0))


def test_the_payload_of_a_nan_stays():
    """Bytes that nobody changed are not normalised."""
    raw = b"\x01\x00\xa0\x7f" + struct.pack("<f", 0.5)
    body = message([item("y", "FP32", [2], raw)], raw)
    result = degrade(V2, body, OCTETS, Bias(delta=1.0), seed=1, previous=None)
    assert result == Degraded(body.removesuffix(raw) + b"\x01\x00\xa0\x7f" + struct.pack("<f", 1.5))


def test_brain_floats_are_rounded_to_the_nearest():
    """Ties go to even, as hardware does it."""
    raw = BRAIN_ONE_AND_A_HALF
    body = message([item("y", "BF16", [1], raw)], raw)
    for number, bits in ((1.00390625, 0x3F80), (1.01171875, 0x3F82), (math.nan, 0x7FC0), (-math.inf, 0xFF80)):
        reading = adapter("v2").read(body, OCTETS)
        adapter("v2").places(reading.document)[0].write([number])
        assert reading.encode().body[-2:] == bits.to_bytes(2, "little")


def test_binary_and_json_answers_of_one_model_match():
    """One leg was asked for bytes, the other answers in JSON; FP32 on either side."""
    raw = struct.pack("<2f", 0.1, 0.9)
    binary = Answer(200, OCTETS, None, message([item("y", "FP32", [1, 2], raw)], raw), None)
    plain = Answer(200, "application/json", None, message([item("y", "FP32", [1, 2], data=[0.1, 0.9])]), None)
    other = Answer(200, "application/json", None, message([item("y", "FP32", [1, 2], data=[0.2, 0.8])]), None)
    assert compare(V2, binary, plain, Compare()).outcome == "match"
    result = compare(V2, other, binary, Compare())
    assert (result.outcome, result.reason, result.comparator) == ("mismatch", "values", "v2")
    assert result.metrics["y.max_abs"] == pytest.approx(0.1)


def test_requests_are_read_as_answers_are():
    """Inputs in binary, and outputs that are only asked for."""
    raw = struct.pack("<4f", 5.1, 3.5, 1.5, 0.25)
    asked = [{"name": "label", "parameters": {"binary_data": True}}]
    body = message([item("x", "FP32", [1, 4], raw)], raw, key="inputs", outputs=asked)
    reading = adapter("v2").read(body, OCTETS)
    (place,) = adapter("v2").inputs(reading.document)
    assert (place.output.name, place.output.shape) == ("x", (1, 4))
    place.write([*place.output.values[:3], 0.5])
    assert reading.encode().body == body[:-4] + struct.pack("<f", 0.5)


def test_a_stale_answer_in_binary_carries_the_id_of_its_request():
    """Tensors are the old ones, the id is new, and the header says how long the JSON part is."""
    old, new = struct.pack("<f", 0.25), struct.pack("<f", 0.75)
    previous = message([item("y", "FP32", [1], old)], old, id="1")
    body = message([item("y", "FP32", [1], new)], new, id="1000")
    result = degrade(V2, body, OCTETS, Stale(), seed=1, previous=previous)
    head = previous[:-4].replace(b'"1", "outputs"', b'"1000", "outputs"')
    assert result == Degraded(head + old, ((b"inference-header-content-length", b"%d" % len(head)),))


def test_blanks_between_the_json_part_and_the_tensors_are_no_tensor():
    """Some servers end the JSON part with a line break."""
    raw = struct.pack("<f", 0.5)
    body = message([item("y", "FP32", [1], raw)]) + b"\n" + raw
    assert read(body) == [("y", "FP32", (1,), [0.5])]


@pytest.mark.parametrize("size", [-4, 0, 3, 5, 8, 2**31, 2**63, 2**64, 10**400, 4.0, "4", True, [], None])
def test_a_size_that_lies_is_no_answer(size):
    """Negative, too large, beyond any integer, no number: a word at once, and no memory taken."""
    raw = struct.pack("<f", 0.5)
    body = json.dumps({"outputs": [item("y", "FP32", [1], parameters={"binary_data_size": size})]}).encode() + raw
    with pytest.raises(Undecodable, match=r"binary_size|not_json"):
        adapter("v2").read(body, OCTETS)
    whole = Answer(200, OCTETS, None, message([item("y", "FP32", [1], raw)], raw), None)
    result = compare(V2, whole, Answer(200, OCTETS, None, body, None), Compare())
    assert result.reason in ("binary_size", "not_json")


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "reason"),
    [
        ("FP32", [2], struct.pack("<f", 0.5), "binary_size"),
        ("FP32", [-1], struct.pack("<f", 0.5), "binary_size"),
        ("FP32", [2**62, 2**62], b"", "binary_size"),
        ("FP32", [1] * 33, struct.pack("<f", 0.5), "binary_size"),
        ("FP32", None, struct.pack("<f", 0.5), "binary_size"),
        ("FP32", [1], b"\0\0\0", "binary_size"),
        ("BF16", [1], b"\0\0\0", "binary_size"),
        ("BYTES", [1], b"\0\0", "binary_size"),
        ("BYTES", [1], b"\xff\xff\xff\xff", "binary_size"),
        ("BYTES", [1], b"\x04\0\0\0abc", "binary_size"),
        ("BYTES", [2], texts(b"a"), "binary_size"),
        ("FP8", [1], b"\0", "binary_datatype"),
        (None, [1], b"\0", "binary_datatype"),
        ([], [1], b"\0", "binary_datatype"),
    ],
)
def test_a_tensor_that_does_not_fit_its_bytes_is_no_answer(datatype, shape, raw, reason):
    """Such a pair is incomparable with that word, and such an answer passes a degradation unchanged."""
    body = message([item("y", datatype, shape, raw)], raw)
    whole = message([item("y", "UINT8", [1], b"\0")], b"\0")
    answers = [Answer(200, OCTETS, None, one, None) for one in (whole, body)]
    for pair in (answers, answers[::-1]):
        result = compare(V2, *pair, Compare())
        assert (result.outcome, result.reason) == ("incomparable", reason)
    assert degrade(V2, body, OCTETS, Noise(), seed=1, previous=None) == Skipped("not_json")


def test_a_value_without_a_place_in_the_datatype_passes_unchanged():
    """Only the reading knows the bytes; what it cannot write is not sent."""
    raw = struct.pack("<f", 0.5)
    for value in (1e300, "x", None):
        reading = adapter("v2").read(message([item("y", "FP32", [1], raw)], raw), OCTETS)
        adapter("v2").places(reading.document)[0].write([value])
        with pytest.raises(Undecodable, match="binary_value"):
            reading.encode()


formats = {"FP32": "f", "FP64": "d", "FP16": "e", "INT8": "b", "UINT64": "Q", "BOOL": "?", "BF16": "H"}


@st.composite
def messages(draw):
    items, raws = [], []
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True)):
        datatype = draw(st.sampled_from([*formats, "BYTES"]))
        count = draw(st.integers(0, 4))
        if datatype == "BYTES":
            raw = texts(*draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count)))
        else:
            width = struct.calcsize("<" + formats[datatype])
            raw = draw(st.binary(min_size=count * width, max_size=count * width))
            if datatype == "BOOL":
                raw = bytes(byte & 1 for byte in raw)
        items.append(item(name, datatype, [count], raw))
        raws.append(raw)
    return message(items, *raws, id=draw(st.text(max_size=3)))


@given(messages())
def test_what_was_read_is_written_as_it_was(body):
    """Any bytes in any datatype, NaN with any payload, texts that are none."""
    reading = adapter("v2").read(body, OCTETS)
    assert adapter("v2").places(reading.document) is not None
    assert reading.encode() == (body, ())


@given(messages(), st.sampled_from([Noise(), Noise(outputs=["a"]), Flip(), Constant(value=1), Constant(value="xyz")]))
def test_a_degraded_answer_is_read_again(body, rule):
    """Same names, datatypes and shapes; only a text may change the length."""
    result = degrade(V2, body, OCTETS, rule, seed=3, previous=None)
    if isinstance(result, Degraded):
        assert [found[:3] for found in read(result.body)] == [found[:3] for found in read(body)]
        assert len(result.body) == len(body) or rule == Constant(value="xyz")


@given(messages(), st.data())
def test_a_damaged_message_never_raises_anything_else(body, data):
    """A cut anywhere, a byte changed anywhere: a reading or a word, and comparing goes on."""
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = body[:at] if data.draw(st.booleans()) else body[:at] + data.draw(st.binary(max_size=2)) + body[at + 1 :]
    answers = [Answer(200, OCTETS, None, one, None) for one in (body, damaged)]
    assert compare(V2, *answers, Compare()).outcome in {"match", "mismatch", "incomparable", "ignored"}
    degrade(V2, damaged, OCTETS, Noise(), seed=1, previous=body)
