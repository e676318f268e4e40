"""A changed file is noticed once, whole, and however it was replaced."""

from __future__ import annotations

from pathlib import Path

from proxy.supervisor.watch import FileWatch, take_signature

OLD, NEW, NEWER = (1, 1, 1, 1), (2, 2, 1, 1), (3, 3, 1, 1)


def test_a_change_counts_once_it_has_stood_still() -> None:
    """A file that is being written is left alone, and one that was read is not read again."""
    watch = FileWatch(OLD)
    looks = [watch.look(signature) for signature in (OLD, OLD, NEW, NEWER, NEWER, NEWER)]
    assert looks == [False, False, False, False, True, False]


def test_a_missing_file_is_waited_for() -> None:
    """Editors remove before they rename; the running plan needs no file."""
    watch = FileWatch(OLD)
    assert not any(watch.look(signature) for signature in (None, None, OLD, OLD))
    assert [watch.look(signature) for signature in (None, NEW, NEW)] == [False, False, True]


def test_every_way_of_replacing_a_file_changes_its_signature(tmp_path: Path) -> None:
    """In place, by rename with the same size, and by flipping the directory behind a symlink (ConfigMap)."""
    file = tmp_path / "config.yaml"
    assert take_signature(file) is None
    file.write_text("one")
    first = take_signature(file)
    file.write_text("longer")
    second = take_signature(file)
    (tmp_path / "other").write_text("sticky")
    (tmp_path / "other").replace(file)
    third = take_signature(file)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("same")
    (tmp_path / "data").symlink_to("a")
    link = tmp_path / "link.yaml"
    link.symlink_to("data/config.yaml")
    fourth = take_signature(link)
    (tmp_path / "fresh").symlink_to("b")
    (tmp_path / "fresh").replace(tmp_path / "data")
    fifth = take_signature(link)
    assert len({first, second, third, fourth, fifth}) == 5
