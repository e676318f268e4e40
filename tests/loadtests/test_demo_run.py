"""The demo's surroundings: its folder, its children, its configuration and its ending."""

import io
import sys

import duckdb
import pytest
from rich.console import Console
from ruamel.yaml import YAML

from loadtests.demo import ending
from loadtests.demo.children import ChildDied, Children, free_ports
from loadtests.demo.deployment import Ports, write_config
from loadtests.demo.folder import MARKER, FolderError, OutputFolder
from loadtests.demo.steering import Status, SteeringError


def test_a_second_run_starts_with_an_empty_folder(tmp_path):
    """What the last run wrote is removed; the marker stays."""
    folder = tmp_path / "out"
    with OutputFolder(folder):
        (folder / "state" / "data").mkdir(parents=True)
        (folder / "report.html").write_text("old")
    with OutputFolder(folder):
        assert [entry.name for entry in folder.iterdir()] == [MARKER]


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path):
    """A wrong --output must not cost anyone their files."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FolderError, match="left alone"), OutputFolder(tmp_path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_link_in_the_folder_is_removed_and_not_followed(tmp_path):
    """Cleaning stays inside the folder."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("mine")
    with OutputFolder(tmp_path / "out"):
        (tmp_path / "out" / "link").symlink_to(kept)
    with OutputFolder(tmp_path / "out"):
        pass
    assert (kept / "file").read_text() == "mine"


def test_two_demos_do_not_share_a_folder(tmp_path):
    """The second is told, and the first loses nothing."""
    with OutputFolder(tmp_path / "out"):
        (tmp_path / "out" / "demo.yaml").write_text("first")
        with pytest.raises(FolderError, match="another demo is writing there"), OutputFolder(tmp_path / "out"):
            pass
        assert (tmp_path / "out" / "demo.yaml").read_text() == "first"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_impossible_folder_is_named(tmp_path, place):
    """A file in the way is an error with a remedy, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="name another with --output"), OutputFolder(tmp_path / place):
        pass


@pytest.mark.e2e
async def test_a_child_that_dies_is_reported_with_the_end_of_its_log(tmp_path):
    """The reader sees why without opening a file."""
    async with Children(tmp_path) as children:
        child = await children.start("model-a", [sys.executable, "-c", "print('first'); raise SystemExit('no memory')"])
        await child.process.wait()
        with pytest.raises(ChildDied, match=r"(?s)model-a ended with code 1.*first.*no memory"):
            children.check()


@pytest.mark.e2e
async def test_leaving_ends_every_child_and_what_it_started(tmp_path):
    """No exit path leaves a process, not even a grandchild that ignores the signal."""
    grandchild = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    script = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {grandchild!r}], stdout=subprocess.PIPE);"
        "p.stdout.readline(); print(p.pid, flush=True); p.wait()"
    )
    async with Children(tmp_path) as children:
        child = await children.start("parallax", [sys.executable, "-c", script])
        while not child.log.read_text().strip():
            assert child.process.returncode is None
            await _breathe()
        pid = int(child.log.read_text())
    assert child.process.returncode is not None
    while _alive(pid):
        await _breathe()


async def _breathe() -> None:
    import asyncio

    await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    from pathlib import Path

    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_free_ports_differ():
    """Traffic and metrics never get the same port."""
    assert len(set(free_ports(5))) == 5


def test_the_configuration_is_the_story_in_yaml():
    """Two arms, a shadow of everything, two faults under the cap, each bounded in time."""
    config = YAML(typ="safe").load(write_config(Ports(8080, 9900, {"a": 1, "b": 2, "c": 3}), duration_s=60.0))
    assert config["shadows"]["candidate"]["fraction"] == "100%"
    assert set(config["experiments"]["ranker"]["arms"]) == {"control", "treatment"}
    assert config["upstreams"] == {
        f"model-{version}": f"127.0.0.1:{port}" for version, port in zip("abc", (1, 2, 3), strict=True)
    }
    cap = int(config["faults"]["max_dose"].rstrip("%"))
    for fault in config["faults"]["definitions"].values():
        assert int(fault["dose"].rstrip("%")) <= cap
        assert fault["max_duration"] == "30s"


class Lagging:
    """A Parallax whose analyst needs some looks to catch up; `looks` of None means never."""

    def __init__(self, looks: int | None) -> None:
        self.looks = looks
        self.asked = 0

    async def status(self) -> Status:
        self.asked += 1
        if self.asked == 1:
            raise SteeringError("metrics: no usable answer")
        return Status(lag_bytes=0 if self.looks is not None and self.asked >= self.looks else 7)

    async def start_fault(self, name: str) -> None: ...

    async def end_fault(self, name: str) -> None: ...


async def test_the_ending_waits_until_the_lag_is_zero():
    """A failed look is no reason to stop waiting."""
    parallax = Lagging(4)
    status = await ending.settle(parallax, now_s=lambda: 0.0, every_s=0.0)
    assert status is not None
    assert status.settled
    assert parallax.asked == 4


async def test_the_ending_does_not_wait_for_ever():
    """The last status says that the analyst is behind."""
    clock = iter(range(0, 1000, 5))
    status = await ending.settle(Lagging(None), now_s=lambda: float(next(clock)), every_s=0.0)
    assert status is not None
    assert not status.settled


def write_pairs(data) -> None:
    """100 pairs: phones agree in 48 of 50, tablets in none; one more under a fault."""
    place = "date=2026-01-01/hour=00"
    with duckdb.connect() as connection:
        for table, columns in (
            (
                "exchanges",
                """'primary' AS leg,
                MAP {'user-agent': 'digits-' || CASE WHEN i % 2 = 0 THEN 'phone' ELSE 'tablet' END || '/1.0'} AS headers""",
            ),
            (
                "pairs",
                """'model-b' AS primary_upstream,
                CASE WHEN i % 2 = 0 AND i NOT IN (0, 50) THEN 'match' ELSE 'mismatch' END AS comparison,
                CASE WHEN i = 100 THEN ['wrong-labels'] ELSE []::VARCHAR[] END AS faults""",
            ),
        ):
            folder = data / table / place
            folder.mkdir(parents=True)
            connection.execute(
                f"COPY (SELECT i::VARCHAR AS exchange_id, {columns} FROM range(101) t(i)) "
                f"TO '{folder}/part.parquet' (FORMAT parquet)"
            )


def test_the_flaw_is_found_in_the_parquet_alone(tmp_path):
    """Agreement by device shows it; faulted pairs are left out."""
    write_pairs(tmp_path)
    assert ending.agreement_by_slice(tmp_path) == [("model-b", "phone", 50, 0.96), ("model-b", "tablet", 50, 0.0)]
    console = Console(file=io.StringIO(), width=200)
    ending.show_slices(console, tmp_path)
    assert "broken: model-c agrees in 0% of the pairs on tablets, in 96% on phones" in console.file.getvalue()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("model-b", "phone", 500, 0.97)],
        [("model-b", "phone", 500, 0.97), ("model-b", "tablet", 19, 0.0)],
        [("model-b", "phone", 500, 0.97), ("model-b", "tablet", 100, 0.9)],
    ],
)
def test_no_flaw_is_claimed_without_the_pairs_for_it(rows):
    """Too few pairs, nothing to compare with, or agreement: silence."""
    assert ending.flaw(rows) == ""


def test_no_parquet_is_said_and_not_raised(tmp_path):
    """A run of a second may have no pairs."""
    console = Console(file=io.StringIO(), width=200)
    ending.show_slices(console, tmp_path)
    assert "no pairs to slice" in console.file.getvalue()


def test_the_commands_that_are_pointed_out_can_be_called(tmp_path, monkeypatch):
    """By name where it is on PATH, else by where the demo's own environment has it."""
    home = tmp_path / ".venv" / "bin"
    home.mkdir(parents=True)
    (home / "parallax").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ending.sys, "executable", str(home / "python"))
    monkeypatch.setenv("PATH", "")
    assert ending.command() == ".venv/bin/parallax"
    monkeypatch.setenv("PATH", str(home))
    assert ending.command() == "parallax"
