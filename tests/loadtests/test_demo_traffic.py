"""The demo's users are heavy-tailed, repeatable, and sent on time or counted."""

import asyncio
import itertools
from collections import Counter

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtests.demo import models
from loadtests.demo.server import Pace, build
from loadtests.demo.tally import Answer, Tally
from loadtests.demo.traffic import PATH, Arrival, Bodies, Sender, activity, arrivals, population, read_reply

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> models.Digits:
    return models.load()


def schedule(seed: int, count: int = 6000) -> list[Arrival]:
    return list(itertools.islice(arrivals(population(800), rows=898, rate=150, seed=seed), count))


def test_the_same_seed_gives_the_same_requests():
    """A run can be repeated, and another seed is another run."""
    assert schedule(1, 500) == schedule(1, 500)
    assert schedule(1, 500) != schedule(2, 500)


def test_activity_is_heavy_tailed_without_one_user_who_is_everything():
    """A tenth of the users make more than half of the requests, the first one 2 to 5 %."""
    shares = activity(800)
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert sum(shares[:80]) > 0.5
    assert 0.02 < shares[0] < 0.05
    counts = Counter(arrival.user for arrival in schedule(1) if arrival.user)
    assert sum(count for _, count in counts.most_common(80)) > 0.5 * sum(counts.values())


def test_arrivals_keep_the_rate_and_their_order():
    """6,000 arrivals at 150 per second take about 40 seconds."""
    times = [arrival.at_s for arrival in schedule(1)]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(40, rel=0.05)


def test_few_requests_have_no_user_and_a_device_stays_with_its_user():
    """About 2 % are anonymous; tablets are a slice of about a seventh."""
    sent = schedule(1)
    assert 0.01 < sum(arrival.user is None for arrival in sent) / len(sent) < 0.03
    assert 0.08 < sum(arrival.device == "tablet" for arrival in sent) / len(sent) < 0.2
    devices = {(arrival.user, arrival.device) for arrival in sent if arrival.user}
    assert len(devices) == len({user for user, _ in devices})


def test_a_body_is_what_the_device_sends(data):
    """Tablets send the opposite ink, and say that they are tablets."""
    bodies = Bodies(data)
    phone = msgspec.json.decode(bodies.body(Arrival(0, "u", "phone", 5)))
    tablet = msgspec.json.decode(bodies.body(Arrival(0, "u", "tablet", 5)))
    pairs = zip(phone["inputs"][0]["data"], tablet["inputs"][0]["data"], strict=True)
    assert all(ink + opposite == 16 for ink, opposite in pairs)
    assert tablet["parameters"] == {"device": "tablet"}
    assert bodies.headers(Arrival(0, "u", "tablet", 5))["x-user-id"] == "u"
    assert "x-user-id" not in bodies.headers(Arrival(0, None, "phone", 5))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"outputs":[]}', b'{"model_version":"a","outputs":[{"name":"label","data":[]}]}']
)
def test_nonsense_is_not_an_answer(body):
    """Whatever comes back, the simulator only counts it."""
    assert read_reply(body) == ("", None)


async def test_the_sender_counts_right_answers_of_a_real_model(data):
    """What the tally says is what the model does."""
    server = TestServer(build(models.train("b", data), Pace("b", 0.0)))
    tally = Tally()
    async with server:
        sender = Sender(str(server.make_url(PATH)), Bodies(data), tally, now_s=lambda: 1e9)
        requests = itertools.islice(arrivals(population(50), rows=898, rate=150, seed=1), 100)
        await sender.run(iter(requests), until_s=10.0, stopped=asyncio.Event())
    assert (tally.total, tally.failed, tally.skipped) == (100, 0, 0)
    assert tally.whole["b"].accuracy > 0.9
    assert tally.strayed == 0


async def test_the_sender_is_bounded_and_counts_what_it_did_not_send(data):
    """Open-loop, but never more than 128 in flight: the rest is skipped, not queued."""
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response(status=503)

    app = web.Application()
    app.router.add_post(PATH, slow)
    tally = Tally()
    stopped = asyncio.Event()

    def requests():
        yield from itertools.islice(arrivals(population(50), rows=898, rate=150, seed=1), 200)
        release.set()

    async with TestServer(app) as server:
        sender = Sender(str(server.make_url(PATH)), Bodies(data), tally, now_s=lambda: 1e9)
        await sender.run(requests(), until_s=10.0, stopped=stopped)
    assert (tally.total, tally.failed, tally.skipped) == (128, 128, 72)


async def test_a_stopped_sender_sends_nothing_more(data):
    """Ctrl-C ends the wait for the next arrival at once."""
    stopped = asyncio.Event()
    stopped.set()
    tally = Tally()
    sender = Sender("http://127.0.0.1:9/", Bodies(data), tally, now_s=lambda: 0.0)
    await sender.run(arrivals(population(5), rows=10, rate=1, seed=1), until_s=1e6, stopped=stopped)
    assert tally.total == 0


def answer(**changes) -> Answer:
    base = {"at_s": 1.0, "user": "u", "version": "a", "ok": True, "latency_s": 0.01, "right": True}
    return Answer(**(base | changes))


def test_a_user_in_two_arms_is_noticed():
    """The stickiness check can fail."""
    tally = Tally()
    tally.add(answer())
    tally.add(answer(user="v", version="b"))
    assert (tally.known_users, tally.strayed) == (2, 0)
    tally.add(answer(version="b"))
    assert tally.strayed == 1


def test_recent_numbers_forget_and_whole_numbers_do_not():
    """The window is what shows a fault going on and off."""
    tally = Tally(window_s=5.0)
    for second in range(10):
        tally.add(answer(at_s=float(second), right=second < 5))
    assert tally.recent("a", 9.5).accuracy == 0.0
    assert tally.whole["a"].accuracy == 0.5


def test_requests_without_a_user_belong_to_no_share():
    """Anonymous and failed answers are counted apart."""
    tally = Tally()
    tally.add(answer(user=None))
    tally.add(answer(ok=False))
    assert (tally.anonymous, tally.failed, dict(tally.requests), tally.known_users) == (1, 1, {}, 0)
