"""From a configuration to the plan and the deployment."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.parse import load, parse
from proxy.config.schema import Config
from proxy.plan import data, shaping
from proxy.plan.compile import Address, Deployment, allocation_fingerprint, compile_deployment, compile_plan
from proxy.plan.resilience import Ejection, Failures, Health, Retries
from proxy.predictions import request_rules, rules

EXAMPLES = Path(__file__).parents[2] / "config"
MINIMAL = """\
upstreams: {a: "127.0.0.1:1", b: {endpoints: ["h:2", "h:3"], timeouts: {total: 10s, connect: 1s}}}
routes: [{name: all, unit: [{header: X-User}, {body: /u}, client_address], experiments: [layout, ranker]}]
experiments:
  layout: {arms: {plain: {weight: 2}, dense: {weight: 1}}}
  ranker: {control: y, arms: {x: {weight: 25%, upstream: a}, y: {weight: 75%, upstream: b}}}
"""


def read(text: str) -> Config:
    return parse(text, file="f.yaml", env={})


def test_a_plan_has_every_value_in_the_units_of_the_program() -> None:
    """The largest example, value by value."""
    plan = compile_plan(load(EXAMPLES / "gateway.yaml", {}))
    assert plan.limits == data.Limits()
    assert plan.log == data.LogSettings(
        headers=["user-agent", "x-country"],
        segments=[data.Segment("country", header="x-country"), data.Segment("plan", pointer="/parameters/plan")],
    )
    assert plan.upstreams["model-b"] == data.Upstream(
        name="model-b",
        endpoints=["127.0.0.1:9002", "127.0.0.1:9012"],
        idempotent=True,
        max_inflight=1280,
        health=Health("/v2/health/ready", port=9005),
        ejection=Ejection(Failures(["connect", "reset", "timeout"], list(range(500, 600)))),
        retries=Retries(Failures(["connect", "reset"], [502, 503, 504]), per_try_s=5.0),
    )
    route = plan.routes[0]
    assert route.match == data.Match(
        hosts=["api.example.com", "*.models.example.com"],
        path_prefix="/v2/",
        methods=["GET", "POST"],
        headers={"x-tier": "gold", "x-tenant": None},
    )
    assert [(source.kind, source.name) for source in route.unit] == [
        ("header", "x-user-id"), ("cookie", "uid"), ("query", "user"), ("body", "/parameters/user"), ("client_address", ""),
    ]  # fmt: skip
    assert (route.upstream, route.reveal, route.max_body_bytes) == ("model-a", True, 10 * 2**20)
    shadow = plan.shadows["candidate"]
    assert (shadow.fraction, shadow.headers, shadow.shares_primary) == (0.1, {"x-shadow": "1"}, False)
    assert shadow.compare == rules.Compare(
        ignore=["/id", "/outputs/score", "/meta/*"],
        outputs={
            "embedding": rules.Judged("cosine", at_least=0.99),
            "class_probabilities": rules.Judged("total_variation", at_most=0.01),
            "top_*": rules.Judged("rbo", at_least=0.9),
            "count": rules.Judged("tolerance", absolute=2.0),
        },
        content_types={"text/*": rules.Judged("edit", at_least=0.95)},
    )
    assert plan.faults["slow"] == data.Fault(
        name="slow",
        kind=data.Delay(distribution="lognormal", median_s=0.2, sigma=0.5),
        dose=0.05,
        max_duration_s=300.0,
        target=data.Target(["predict"], ["model-b"], ["ranker/b"], ["POST"], {"x-tier": "gold"}),
        exclude_units=["ceo"],
        salt="slow-1",
        washout_s=60.0,
        start_at=4_099_802_400.0,
        reveal=True,
    )
    assert [fault.kind for fault in list(plan.faults.values())[1:]] == [
        data.Abort(503, '{"error": "injected"}'), data.Reset(), rules.Noise(sd=0.05, outputs=["score"]), rules.Bias(delta=0.2, low=0.0, high=1.0),
        rules.Flip(probability=0.5, labels=["cat", "dog"]), rules.Constant(value=0.5), rules.Stale(age_s=300.0, max_age_s=3600.0),
        rules.Noise(
            sd=0.1, relative=True,
            segment=[rules.Segment("x-tenant", ["gold"]), rules.Segment("/parameters/plan", ["free", "trial"])],
        ),
        rules.Bias(temperature=2.0), rules.Flip(from_label="cat", to_label="dog"), rules.Permute(k=3),
        rules.Drop(fields=["explanation"]), rules.Nan(probability=0.1), rules.Quantize(dtype="int8"),
        rules.TextTruncate(tokens=20), rules.TextRepeat(probability=0.5, times=3), rules.TextGarble(probability=0.02),
        shaping.SlowFirstToken("normal", mean_s=2.0, sd_s=0.5), shaping.SlowTokens(value_s=0.2), shaping.Stall(None, 5, 3.0),
        shaping.Cut(None, 5), shaping.Truncate(None, 0.5), shaping.Throttle(10_240, 2048), shaping.Corrupt(0.001),
        request_rules.FeatureDrop(("age", "income"), 0.3), request_rules.FeatureNoise(("age",), 0.05, relative=True),
        data.Swap("model-a", "small"),
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_plan_survives_the_socket(path: Path) -> None:
    """Encoded and decoded, it is the same plan."""
    plan = compile_plan(load(path, {}), epochs={"ranker": 4}, unit_key=b"k" * 32)
    assert data.decode_plan(data.encode_plan(plan)) == plan


def test_weights_sum_to_one() -> None:
    """However they are written."""
    plan = compile_plan(read(MINIMAL))
    assert [arm.weight for arm in plan.experiments["layout"].arms] == [2 / 3, 1 / 3]
    assert [arm.weight for arm in plan.experiments["ranker"].arms] == [0.25, 0.75]


def test_defaults_come_from_the_file() -> None:
    """The salt is the name, the control the first arm, the route's upstream where the control arm goes."""
    plan = compile_plan(read(MINIMAL))
    assert (plan.experiments["layout"].salt, plan.experiments["layout"].control) == ("layout", "plain")
    assert plan.routes[0].upstream == "b"


def test_default_deadlines_are_cut_to_the_total() -> None:
    """A first byte that may come after the end would be no deadline."""
    assert compile_plan(read(MINIMAL)).upstreams["b"].timeouts == data.Timeouts(1.0, 10.0, 10.0, 10.0)


def test_a_small_spool_holds_several_segments() -> None:
    """Otherwise one segment would fill it before it can be read."""
    assert compile_plan(read(MINIMAL + "log: {spool: 4MiB}\n")).log.segment_bytes == 2**20


def test_the_version_is_of_the_file_alone() -> None:
    """Comments, epochs and keys do not change it; any value does."""
    version = compile_plan(read(MINIMAL)).version
    assert len(version) == 12
    assert compile_plan(read("# a comment\n" + MINIMAL), epochs={"ranker": 7}, unit_key=b"x").version == version
    assert compile_plan(read(MINIMAL.replace("2}", "3}"))).version != version


def test_epochs_and_the_key_come_from_the_state_directory() -> None:
    """An experiment without an epoch is in its first; the key's id tells keys apart without telling the key."""
    plan = compile_plan(read(MINIMAL), epochs={"ranker": 7}, unit_key=b"k" * 32)
    assert (plan.experiments["ranker"].epoch, plan.experiments["layout"].epoch) == (7, 1)
    assert (plan.unit_key, plan.unit_key_id) == (b"k" * 32, "7e789ffd")
    assert compile_plan(read(MINIMAL)).unit_key_id == ""


@pytest.mark.parametrize(
    "change",
    [
        {"salt": "other"},
        {"traffic": 0.5},
        {"arms": [data.Arm("x", 0.3, "a"), data.Arm("y", 0.7, "b")]},
        {"arms": [data.Arm("x", 0.25, "c"), data.Arm("y", 0.75, "b")]},
        {"arms": [data.Arm("x", 0.25, "a"), data.Arm("z", 0.75, "b")]},
    ],
)
def test_a_new_allocation_has_a_new_fingerprint(change: dict[str, object]) -> None:
    """Whatever moves units, or sends an arm's units elsewhere."""
    experiment = compile_plan(read(MINIMAL)).experiments["ranker"]
    assert allocation_fingerprint(msgspec.structs.replace(experiment, **change)) != allocation_fingerprint(experiment)


@pytest.mark.parametrize(
    "change",
    [
        {"enabled": False},
        {"control": "x"},
        {"overrides": {"u": "x"}},
        {"opt_out": ["u"]},
        {"epoch": 9},
        {"arms": [data.Arm("y", 0.75, "b"), data.Arm("x", 0.25, "a")]},
    ],
)
def test_the_same_allocation_keeps_its_fingerprint(change: dict[str, object]) -> None:
    """What moves no randomised unit begins no new epoch."""
    experiment = compile_plan(read(MINIMAL)).experiments["ranker"]
    assert allocation_fingerprint(msgspec.structs.replace(experiment, **change)) == allocation_fingerprint(experiment)


@given(parts=st.lists(st.integers(1, 1000), min_size=2, max_size=6), scale=st.integers(2, 50))
@settings(max_examples=20)
def test_weights_in_another_scale_are_the_same_allocation(parts: list[int], scale: int) -> None:
    """1:2 and 10:20 split alike."""

    def split(factor: int) -> data.Experiment:
        arms = ", ".join(f"a{i}: {{weight: {part * factor}}}" for i, part in enumerate(parts))
        return compile_plan(read(MINIMAL + f"  third: {{arms: {{{arms}}}}}\n")).experiments["third"]

    assert allocation_fingerprint(split(1)) == allocation_fingerprint(split(scale))


def test_a_shadow_on_a_server_that_serves_callers_is_marked() -> None:
    """By any route, also through an arm, whatever the upstream is called."""
    text = MINIMAL + "shadows: {s: {upstream: c}}\n"
    text = text.replace("upstreams: {", 'upstreams: {c: ["h:9", "h:3"], ').replace("ranker]", "ranker], shadows: [s]")
    assert compile_plan(read(text)).shadows["s"].shares_primary
    assert not compile_plan(read(text.replace('"h:9", "h:3"', '"h:9"'))).shadows["s"].shares_primary


def test_a_deployment_tells_the_other_processes_how_to_run() -> None:
    """And travels as JSON."""
    config = read(
        MINIMAL
        + "workers: auto\nanalyst: off\nlisteners: ['[::]:80']\nadmin: {address: 127.0.0.1:9901, token_file: t, metrics: off}\n"
        + "log: {redact: /user/email, retention: {age: 1d, size: 1GB}}\nlimits: {drain: 5s}\nfaults: {max_dose: 3%}\n"
    )
    deployment = compile_deployment(config)
    assert deployment.listeners == [Address("::", 80)]
    assert (deployment.workers, deployment.analyst, deployment.drain_s, deployment.max_dose) == (None, False, 5.0, 0.03)
    assert (deployment.admin, deployment.token_file, deployment.metrics) == (Address("127.0.0.1", 9901), "t", None)
    assert (deployment.redact, deployment.retention.age_s, deployment.retention.size_bytes) == (
        ["/user/email"],
        86_400.0,
        10**9,
    )
    assert deployment.controls == {"layout": "plain", "ranker": "y"}
    assert msgspec.json.decode(msgspec.json.encode(deployment), type=Deployment) == deployment


def test_a_deployment_names_the_rules_of_every_shadow() -> None:
    """The analyst compares by them and waits for a leg no longer than its deadline."""
    deployment = compile_deployment(load(EXAMPLES / "shadow.yaml", {}))
    assert deployment.compare == {"candidate": rules.Compare(0.001, 0.001, "auto", ["/id", "/model_version"])}
    assert deployment.deadlines_s == {"candidate": 5.0, "repeat:model-a": 5.0}
    assert json.loads(msgspec.json.encode(deployment))["metrics"] == {"host": "127.0.0.1", "port": 9900}
