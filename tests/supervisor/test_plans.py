"""Epochs, sealing and loose faults: from the file's plan to the one that workers get."""

from __future__ import annotations

from pathlib import Path

import msgspec

from proxy.plan.data import Arm, Experiment, Listener, ListenerTls
from proxy.supervisor.plans import advance_epochs, seal, with_loose_faults
from proxy.supervisor.settings import Settings, listeners_needing_restart, needing_restart
from proxy.supervisor.state_dir import StateDir, key_id
from proxy.supervisor.steering import Steering
from tests.supervisor.conftest import make_fault, make_parsed


def test_an_epoch_advances_when_the_allocation_changes_and_only_then() -> None:
    """A new experiment begins with 1; one that left comes back where it was."""
    first = advance_epochs({}, {"e": "x"})
    assert first == {"e": {"allocation": "x", "epoch": 1}}
    assert advance_epochs(first, {"e": "x"}) == first
    assert advance_epochs(first, {}) == first
    assert advance_epochs(first, {"e": "y", "f": "z"}) == {
        "e": {"allocation": "y", "epoch": 2},
        "f": {"allocation": "z", "epoch": 1},
    }


def test_going_back_to_an_old_allocation_is_a_new_epoch() -> None:
    """The units have been elsewhere in between."""
    epochs = advance_epochs(advance_epochs({}, {"e": "x"}), {"e": "y"})
    assert advance_epochs(epochs, {"e": "x"})["e"]["epoch"] == 3


def test_a_sealed_plan_has_epochs_and_key_and_the_same_version() -> None:
    """Equal files make equal versions, whatever the state directory holds."""
    parsed = make_parsed()
    experiment = Experiment("e", "e", [Arm("a", 1.0)], "a")
    parsed.plan = parsed.plan.__class__(
        upstreams=parsed.plan.upstreams, routes=parsed.plan.routes, experiments={"e": experiment}, version="v"
    )
    plan = seal(parsed, {"e": {"allocation": "x", "epoch": 4}}, b"k" * 32)
    assert plan.experiments["e"].epoch == 4
    assert (plan.unit_key, plan.unit_key_id, plan.version) == (b"k" * 32, key_id(b"k" * 32), "v")


def test_loose_faults_are_added_under_a_version_that_says_so() -> None:
    """The file's own definitions win, and without loose faults the plan is the file's."""
    plan = make_parsed(slow=make_fault()).plan
    assert with_loose_faults(plan, {}) is plan
    assert with_loose_faults(plan, {"slow": make_fault(dose=0.01)}) is plan
    extended = with_loose_faults(plan, {"x": make_fault("x")})
    assert set(extended.faults) == {"slow", "x"}
    assert extended.version.startswith("p1+")
    assert with_loose_faults(plan, {"x": make_fault("x", dose=0.01)}).version != extended.version


def test_changes_that_need_a_restart_are_named() -> None:
    """Each with what is and what the file says; a new cap needs none."""
    running = Settings("state", 1, ["127.0.0.1:1"], True, "unix", None, None, 0.1)
    wanted = Settings("state", 2, ["127.0.0.1:2"], True, "unix", None, None, 0.2)
    assert needing_restart(running, wanted) == [
        "workers: is 1, the file says 2; ignored until an upgrade or a restart",
        "listeners: is ['127.0.0.1:1'], the file says ['127.0.0.1:2']; ignored until an upgrade or a restart",
    ]


def test_a_listener_whose_tls_or_mode_changed_is_named() -> None:
    """A new address is told by the settings; the contents of files need no restart at all."""
    running = [Listener("127.0.0.1:1"), Listener("unix:/a", 0o600), Listener("127.0.0.1:2", tls=ListenerTls("c"))]
    wanted = [
        Listener("127.0.0.1:1", tls=ListenerTls("c")),
        Listener("unix:/a", 0o660),
        running[2],
        Listener("[::1]:3"),
    ]
    assert listeners_needing_restart(running, wanted) == [
        "listeners: tls or mode of 127.0.0.1:1 has changed; ignored until an upgrade or a restart",
        "listeners: tls or mode of unix:/a has changed; ignored until an upgrade or a restart",
    ]
    assert listeners_needing_restart(running, running) == []


def test_a_reload_leaves_listeners_as_they_stand(tmp_path: Path) -> None:
    """The plan of a worker names what is on its sockets, and nothing that waits for a restart."""
    state = StateDir(tmp_path / "state")
    state.prepare()
    parsed = make_parsed()
    stands = [Listener("127.0.0.1:1", tls=ListenerTls("c"))]
    parsed.plan = msgspec.structs.replace(parsed.plan, listeners=stands)
    steering = Steering(state, parsed, lambda _: None)
    parsed.plan = msgspec.structs.replace(parsed.plan, listeners=[Listener("127.0.0.1:1")], version="p2")
    steering.accept(parsed)
    assert (steering.plan.version, steering.plan.listeners) == ("p2", stands)
