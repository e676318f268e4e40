"""Chats, completions, embeddings and responses: whole, in pieces, and broken."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions import openai_chat, openai_completions, openai_embeddings, openai_responses
from proxy.predictions.compare import Answer, compare
from proxy.predictions.decode import Undecodable
from proxy.predictions.reading import READ_ONLY
from proxy.predictions.rules import Compare

SSE = "text/event-stream"
CHAT = "/v1/chat/completions"


def stream(*documents, done=True, end="\n"):
    lines = [f"data: {json.dumps(document)}{end}{end}" for document in documents]
    return "".join([*lines, f"data: [DONE]{end}{end}" if done else ""]).encode()


def delta(index=0, finish=None, **said):
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": index, "delta": said, "finish_reason": finish}],
    }


def chat(content="Hello", finish="stop", **more):
    message = {"role": "assistant", "content": content, **more}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "system_fingerprint": "fp",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def answer(body, media="application/json"):
    return Answer(200, media, None, body if isinstance(body, bytes) else json.dumps(body).encode(), None)


def outputs(module, document):
    return [(output.name, output.kind, output.values) for output in module.prediction(document).outputs]


def test_a_whole_chat_says_everything():
    """Text, model, fingerprint, id, tokens and why it ended."""
    said = openai_chat.prediction(chat())
    assert outputs(openai_chat, chat()) == [("choices/0/text", "text", ["Hello"])]
    assert (said.model, said.version, said.request_id, said.finish, said.error) == (
        "m",
        "fp",
        "chatcmpl-1",
        ["stop"],
        None,
    )
    assert said.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


CALL = {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TOOLS = [
    delta(
        role="assistant",
        content=None,
        tool_calls=[{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}],
    ),
    delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
    delta(tool_calls=[{"index": 1, "id": "u", "type": "function", "function": {"name": "g", "arguments": "{}"}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
    delta(finish="tool_calls"),
]


def test_tool_calls_come_in_pieces_by_index():
    """Pieces of one call may stand between those of another; the calls come whole, in order of index."""
    document = openai_chat.read(stream(*TOOLS), SSE).document
    second = {"id": "u", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    assert outputs(openai_chat, document) == [("choices/0/tool_calls", "tool_calls", [CALL, second])]
    assert openai_chat.finishes(document) == ["tool_calls"]


def test_tool_calls_without_an_index_are_told_apart():
    """Some servers send whole calls, one after another, and number none of them."""
    pieces = [delta(tool_calls=[{"function": {"name": name, "arguments": "{}"}}]) for name in ("f", "g")]
    document = openai_chat.read(stream(*pieces), SSE).document
    assert [call["function"]["name"] for call in document["choices"][0]["message"]["tool_calls"]] == ["f", "g"]


@pytest.mark.parametrize(
    ("body", "text", "finish", "error"),
    [
        (stream(delta(content="He"), delta(content="llo"), delta(finish="stop")), "Hello", "stop", None),
        (stream(delta(content="He"), delta(content="llo", finish="stop"), done=False), "Hello", "stop", None),
        (stream(delta(content="He"), delta(content="llo", finish="stop"), end="\r\n"), "Hello", "stop", None),
        (stream(delta(content="He"), delta(content="llo", finish="stop"), end="\r"), "Hello", "stop", None),
        (
            b": beat\n\n" + stream(delta(content="Hello", finish="stop")).replace(b"data", b": x\ndata"),
            "Hello",
            "stop",
            None,
        ),
        (
            stream({**delta(content="He"), "id": "1"}, {**delta(content="llo", finish="stop"), "id": "2"}),
            "Hello",
            "stop",
            None,
        ),
        (stream(delta(content="Hello", finish="stop"))[:-2], "Hello", "stop", None),
        (stream(delta(content="He"), done=False), "He", "", None),
        (stream(delta(content="He"), {"error": {"message": "boom"}}), "He", "", "boom"),
        (stream(delta(content="He"), done=False) + b"event: error\ndata: boom\n\n", "He", "", "boom"),
        (stream(delta(content="He"), done=False) + b'event: error\ndata: {"message":"boom"}\n\n', "He", "", "boom"),
        (stream(delta(content="Hé"), done=False).replace(b"\\u00e9", b"\xc3\xa9"), "Hé", "", None),
        (b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"Hello"}}]}\n\n', "Hello", "", None),
    ],
    ids=[
        "usual",
        "no DONE",
        "CRLF",
        "CR",
        "comments",
        "changing ids",
        "no last line",
        "ends early",
        "error",
        "error event",
        "error event in JSON",
        "UTF-8",
        "data in lines",
    ],
)
def test_a_stream_is_read_as_a_caller_saw_it(body, text, finish, error):
    """What came before an end or an error is kept."""
    said = openai_chat.prediction(openai_chat.read(body, SSE).document)
    assert (said.outputs[0].values, said.finish, said.error) == ([text], [finish], error)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (stream(delta(content="He"))[:-40], "truncated"),
        (b"data: {}\n\ndata: hello\n\n", "not_json"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "too_deep"),
    ],
)
def test_what_is_no_stream_of_documents_says_so(body, reason):
    """A stream that breaks off inside an event is told from one that ends early."""
    with pytest.raises(Undecodable) as caught:
        openai_chat.read(body, SSE)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "usage",
    [
        [{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}],
        [{**delta(finish="stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 2}}],
        [{**delta(content=""), "usage": None}, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}],
        [],
    ],
    ids=["asked", "unasked", "null before", "absent"],
)
def test_tokens_are_counted_wherever_they_stand(usage):
    """In a last chunk without choices, in the chunk that finishes, or nowhere."""
    said = openai_chat.prediction(openai_chat.read(stream(delta(content="a"), *usage), SSE).document)
    assert said.usage == ({"prompt_tokens": 3, "completion_tokens": 2} if usage else {})
    assert said.outputs[0].values == ["a"]


def test_a_stream_cannot_be_written_back():
    """Nobody holds a stream until it is whole."""
    with pytest.raises(Undecodable) as caught:
        openai_chat.read(stream(delta(content="a")), SSE).encode()
    assert caught.value.reason == READ_ONLY


TEXTS = st.text(max_size=30)


@st.composite
def wholes(draw):
    """A whole answer with a few choices."""
    choices = []
    for index in range(draw(st.integers(1, 3))):
        message = {"role": "assistant", "content": draw(st.none() | TEXTS)}
        calls = draw(st.lists(st.tuples(TEXTS, TEXTS), max_size=3))
        if calls:
            message["tool_calls"] = [
                {"id": f"t{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
                for at, (name, arguments) in enumerate(calls)
            ]
        if draw(st.booleans()):
            message["refusal"] = draw(TEXTS)
        logprobs = draw(st.none() | st.lists(st.floats(-9, 0), min_size=1, max_size=5))
        choices.append(
            {
                "index": index,
                "message": message,
                "finish_reason": draw(st.sampled_from(["stop", "length"])),
                "logprobs": logprobs and {"content": [{"token": "x", "logprob": value} for value in logprobs]},
            }
        )
    return {**chat(), "choices": choices}


def cut(draw, text):
    """Cut a text into pieces, some of them empty."""
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def split(draw):
    """A whole answer and a stream that says the same: deltas in any interleaving of choices, members and calls."""
    whole = draw(wholes())
    lanes = []
    for choice in whole["choices"]:
        index, message = choice["index"], choice["message"]
        first = [delta(index, role="assistant", content=None if message["content"] is None else "")]
        for name in ("content", "refusal"):
            first += [delta(index, **{name: piece}) for piece in cut(draw, message.get(name) or "")]
        for at, call in enumerate(message.get("tool_calls", ())):
            head = {"index": at, "id": call["id"], "type": "function", "function": {"name": call["function"]["name"]}}
            first.append(delta(index, tool_calls=[head]))
            for piece in cut(draw, call["function"]["arguments"]):
                first.append(delta(index, tool_calls=[{"index": at, "function": {"arguments": piece}}]))
        for token in (choice["logprobs"] or {}).get("content", ()):
            chunk = delta(index)
            chunk["choices"][0]["logprobs"] = {"content": [token]}
            first.append(chunk)
        lanes.append([*first, delta(index, finish=choice["finish_reason"])])
    chunks = []
    while lanes:
        lane = draw(st.sampled_from(lanes))
        chunks.append(lane.pop(0))
        lanes = [lane for lane in lanes if lane]
    chunks.append({"choices": [], "usage": whole["usage"]})
    return whole, chunks


@given(split(), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_any_splitting_assembles_into_the_whole(pair, end, done):
    """However an answer is cut into deltas, the stream means what the whole answer means."""
    whole, chunks = pair
    said = openai_chat.prediction(openai_chat.read(stream(*chunks, done=done, end=end), SSE).document)
    expected = openai_chat.prediction(whole)
    assert said.outputs == expected.outputs
    assert (said.usage, said.finish, said.model) == (expected.usage, expected.finish, expected.model)
    result = compare(CHAT, answer(whole), answer(stream(*chunks, end=end), SSE), Compare())
    assert (result.outcome, result.comparator) == ("match", "openai_chat")


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "message",
                    "content",
                    "text",
                    "tool_calls",
                    "function",
                    "id",
                    "type",
                    "logprobs",
                    "error",
                    "data",
                    "embedding",
                    "output",
                    "item",
                    "response",
                    "usage",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("module", [openai_chat, openai_completions, openai_embeddings, openai_responses])
@given(st.lists(JSONS, min_size=1, max_size=4), st.booleans())
def test_hostile_answers_are_read_or_refused(module, documents, streamed):
    """Whatever stands where, nothing but Undecodable is raised."""
    body = stream(*documents) if streamed else json.dumps(documents[0]).encode()
    try:
        document = getattr(module, "read", openai_chat.read)(body, SSE if streamed else "")
    except Undecodable:
        return
    module.prediction(document.document)


def test_a_choice_is_matched_by_its_index():
    """The order in which choices come is no difference; another text in one of them is."""
    two = chat()
    two["choices"] = [
        {**two["choices"][0], "index": at, "message": {"content": text}} for at, text in ((1, "b"), (0, "a"))
    ]
    turned = {**two, "choices": two["choices"][::-1], "id": "other"}
    assert compare(CHAT, answer(two), answer(turned), Compare()).outcome == "match"
    turned["choices"] = [turned["choices"][0], {"index": 1, "message": {"content": "c"}}]
    result = compare(CHAT, answer(two), answer(turned), Compare())
    assert (result.outcome, result.reason, result.differences[0].path) == (
        "mismatch",
        "text",
        "/outputs/choices~11~1text",
    )


@pytest.mark.parametrize("body", [{"error": {"message": "no"}}, {"object": "error", "message": "no", "code": 400}])
def test_an_error_inside_a_200_is_a_failure(body):
    """Beside an answer it differs, beside another error nothing is learned."""
    assert compare(CHAT, answer(chat()), answer(body), Compare()).reason == "error"
    assert compare(CHAT, answer({"error": "other"}), answer(body), Compare()).reason == "both_failed"
    assert openai_chat.prediction(body).error == "no"


def test_an_error_in_mid_stream_is_no_answer():
    """Also where all of the text came before it."""
    broken = stream(delta(content="Hello"), {"error": {"message": "boom"}})
    assert compare(CHAT, answer(chat()), answer(broken, SSE), Compare()).reason == "error"
    assert compare(CHAT, answer(broken, SSE), answer(broken, SSE), Compare()).reason == "both_failed"


def test_texts_can_be_written():
    """A changed text stands in the answer's own bytes, and everything else stays."""
    body = json.dumps(chat(), indent=1).encode()
    reading = openai_chat.read(body, "application/json")
    openai_chat.places(reading.document)[0].write(["Bye"])
    assert reading.encode().body == body.replace(b'"Hello"', b'"Bye"')


def test_completions_are_read_whole_and_in_pieces():
    """Texts and logprobs by index."""
    whole = {
        "object": "text_completion",
        "choices": [
            {"index": 0, "text": "ab", "finish_reason": "length", "logprobs": {"token_logprobs": [None, -0.5]}}
        ],
    }
    pieces = [
        {"choices": [{"index": 0, "text": text, "logprobs": {"token_logprobs": [value]}}]}
        for text, value in (("a", None), ("b", -0.5))
    ]
    streamed = openai_completions.read(stream(*pieces), SSE).document
    for document in (whole, streamed):
        assert outputs(openai_completions, document) == [
            ("choices/0/text", "text", ["ab"]),
            ("choices/0/logprobs", "scores", [None, -0.5]),
        ]


def packed(vector):
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def embeddings(*vectors):
    return {
        "object": "list",
        "data": [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)],
        "model": "e",
    }


def test_embeddings_are_one_output_in_either_form():
    """Numbers and base64 are the same vectors, in order of index."""
    plain, coded = embeddings([0.5, 1.0], [0.25, 2.0]), embeddings(packed([0.5, 1.0]), packed([0.25, 2.0]))
    coded["data"].reverse()
    for document in (plain, coded):
        said = openai_embeddings.prediction(document)
        assert [(o.name, o.shape, o.values) for o in said.outputs] == [("embedding", (2, 2), [0.5, 1.0, 0.25, 2.0])]
        assert said.rows == 2
    result = compare("/v1/embeddings", answer(plain), answer(coded), Compare())
    assert (result.outcome, result.metrics["embedding.cosine"]) == ("match", 1.0)


def test_embeddings_are_written_in_the_form_that_they_had():
    """What was base64 stays base64."""
    document = embeddings(packed([0.5, 1.0]), [0.25, 2.0])
    openai_embeddings.places(document)[0].write([1.5, 1e300, 3.5, 4.5])
    assert document["data"][1]["embedding"] == [3.5, 4.5]
    first, largest = struct.unpack("<2f", base64.b64decode(document["data"][0]["embedding"]))
    assert (first, largest > 3e38) == (1.5, True)


@pytest.mark.parametrize("vectors", [[[1.0], [1.0, 2.0]], ["AAA"], ["!!!!"], [["a"]], [[]], [None]])
def test_what_is_no_vector_is_not_read_as_one(vectors):
    """Ragged, cut and scrambled ones are compared by path."""
    assert openai_embeddings.places(embeddings(*vectors)) is None


RESPONSE = {
    "id": "r",
    "object": "response",
    "status": "completed",
    "model": "m",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Hel"}, {"type": "output_text", "text": "lo"}]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}},
}
EVENTS = [
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": [], "usage": None}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": []}},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hel"},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "lo"},
    {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {"type": "function_call", "name": "f", "arguments": ""},
    },
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
]


@pytest.mark.parametrize(
    "last", [[{"type": "response.completed", "response": RESPONSE}], []], ids=["completed", "cut off"]
)
def test_responses_are_read_whole_and_from_their_events(last):
    """The last event carries everything; without it deltas do."""
    streamed = openai_responses.read(stream(*EVENTS, *last, done=False), SSE).document
    for document in (RESPONSE, streamed):
        found = {output.name: output.values for output in openai_responses.prediction(document).outputs}
        assert found["output/text"] == ["Hello"]
        assert [(call["name"], call["arguments"]) for call in found["output/tool_calls"]] == [("f", "{}")]
    assert openai_responses.prediction(streamed).finish == ["completed" if last else "in_progress"]
    assert openai_responses.prediction(RESPONSE).usage["output_tokens_details.reasoning_tokens"] == 1


def test_a_failed_response_is_a_failure():
    """By its status, its error, or an error event."""
    assert openai_responses.answers_error({**RESPONSE, "status": "failed"})
    broken = openai_responses.read(stream(*EVENTS, {"type": "error", "message": "boom"}, done=False), SSE).document
    assert openai_responses.prediction(broken).error == "boom"


def test_the_model_is_renamed_in_place():
    """All other bytes of the request stay; where the name is the same, nothing is to be done."""
    body = b'{ "model" : "a", "messages": [{"role": "user", "content": "my model: \\u00e9"}], "temperature": 1.50 }'
    assert openai_chat.renamed(CHAT, body, "", "b") == (CHAT, body.replace(b'"a"', b'"b"', 1))
    assert openai_chat.renamed(CHAT, body, "", "a") is None
