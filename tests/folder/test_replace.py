"""A port's folder is replaced whole: the old one or the new one, and the user's own files."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ivyport.core.errors import InputError, IvyportError
from ivyport.folder import replace
from ivyport.folder.replace import replacing, settled
from ivyport.folder.steady import steady
from tests.folder.killing import Killed, killed_at, read_version, version_of, write

WRITER = """
import sys
from pathlib import Path
from tests.folder.killing import write
version = int(sys.argv[2])
while True:
    version += 1
    write(Path(sys.argv[1]), version)
    print(version, flush=True)
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """No waiting for the disk: what order operations are in, not when they last."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(params=["exchange", "two steps"])
def swap(request, monkeypatch):
    """Both ways in which a folder comes to its place."""
    if request.param == "two steps":
        monkeypatch.setattr(replace, "exchange", lambda one, other: False)
    return request.param


def old(parent: Path) -> Path:
    """A port with files of the user's own."""
    folder = parent / "out"
    write(folder, 1)
    (folder / "modeling_head.py").write_text("mine")
    (folder / "model_step1000.safetensors").write_text("mine")
    (folder / "logs/deep").mkdir(parents=True)
    (folder / "logs/deep/log").write_text("mine")
    (folder / "link").symlink_to("logs")
    return folder


def demand_own(folder: Path) -> None:
    for name in (
        "modeling_head.py",
        "model_step1000.safetensors",
        "logs/deep/log",
        "link/deep/log",
    ):
        assert (folder / name).read_text() == "mine", name
    assert (folder / "link").is_symlink()


def test_a_kill_at_every_file_operation_leaves_the_old_or_the_new(tmp_path, swap):
    found = set()
    for limit in range(10_000):
        parent = tmp_path / str(limit)
        parent.mkdir()
        folder = old(parent)
        try:
            with killed_at(limit):
                write(folder, 2)
        except Killed:
            assert settled(folder)
            found.add(version_of(folder))
            demand_own(folder)
        else:
            assert version_of(folder) == 2
            break
        write(folder, 3)
        assert version_of(folder) == 3
        demand_own(folder)
        assert os.listdir(parent) == ["out"], "what the killed run left is removed"
    assert limit > 40
    assert found == {1, 2}


def test_a_kill_while_the_first_port_is_written(tmp_path, swap):
    for limit in range(10_000):
        folder = tmp_path / f"{limit}/deep/out"
        try:
            with killed_at(limit):
                write(folder, 1)
        except Killed:
            if folder.exists():
                assert version_of(folder) == 1
            write(folder, 2)
        else:
            break
        assert version_of(folder) == 2
        assert os.listdir(folder.parent) == ["out"]
    assert limit > 20


def kill_at_random(folder: Path, times: int, seed: int) -> int:
    """Kill a process that writes without a pause; the rounds it wrote at least once in."""
    rng, held, wrote = random.Random(seed), version_of(folder), 0
    for _ in range(times):
        command = [sys.executable, "-c", WRITER, str(folder), str(held)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            last = [int(line) for line in writer.stdout.read().split()]
        assert settled(folder)
        found = version_of(folder)
        assert found >= max([held, *last])
        demand_own(folder)
        wrote += found > held
        held = found
    return wrote


def test_killed_processes(tmp_path):
    folder = old(tmp_path)
    assert kill_at_random(folder, 2, 0) == 2
    write(folder, 1)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
def test_a_hundred_killed_processes(tmp_path):
    folder = old(tmp_path)
    assert kill_at_random(folder, 100, 1) == 100


def race(folder: Path, rounds: int) -> set[int]:
    """Two writers and a reader at once; the versions that the reader met."""
    met, wrong, done = set(), [], threading.Event()

    def writer(first: int) -> None:
        try:
            for i in range(rounds):
                write(folder, first + 2 * i)
        except BaseException as error:
            wrong.append(error)
            raise

    def reader() -> None:
        while not done.is_set():
            try:
                met.add(steady(folder, lambda: read_version(folder)))
            except (IvyportError, OSError) as error:
                wrong.append(error)

    threads = [threading.Thread(target=writer, args=(first,)) for first in (10, 11)]
    watching = threading.Thread(target=reader)
    watching.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watching.join()
    assert not wrong, wrong[:3]
    return met


def test_two_writers_and_a_reader(tmp_path):
    folder = old(tmp_path)
    met = race(folder, 10)
    assert met
    assert version_of(folder) in (28, 29)
    demand_own(folder)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
def test_a_hundred_races(tmp_path, swap):
    for i in range(100):
        folder = old(tmp_path / str(i))
        race(folder, 3)
        assert version_of(folder) in (14, 15)
        demand_own(folder)
        assert os.listdir(folder.parent) == ["out"]


@pytest.mark.parametrize("name", ["README.md", "config.json", "modeling_x.py"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(InputError, match=f"ivyport did not write: {name}"):
        write(folder, 1)
    assert [p.read_text() for p in folder.iterdir()] == ["mine"]
    write(folder, 1, overwrite=True)
    assert version_of(folder) == 1


def test_files_that_were_changed_are_not_replaced(tmp_path):
    folder = old(tmp_path)
    (folder / "modeling_x.py").write_text("edited")
    with pytest.raises(InputError, match=r"changed since: modeling_x\.py"):
        write(folder, 2)
    assert (folder / "modeling_x.py").read_text() == "edited"
    write(folder, 2, overwrite=True)
    assert version_of(folder) == 2
    demand_own(folder)


def test_files_of_an_earlier_port_go(tmp_path):
    folder = old(tmp_path)
    with replacing(folder) as draft:
        (draft.stage / "modeling_y.py").write_text("2")
        draft.describe({"file": "modeling_y.py"})
        draft.commit()
    demand_own(folder)
    own = {p.name for p in folder.iterdir()}
    assert own >= {"modeling_y.py", "port.json"}
    assert not own & {"modeling_x.py", "model.safetensors", "config.json"}


def test_a_file_that_comes_at_the_last_moment_is_kept(tmp_path, monkeypatch):
    folder, swapped = old(tmp_path), replace.exchange

    def late(one: Path, other: Path) -> bool:
        (other / "late").write_text("mine")
        return swapped(one, other)

    monkeypatch.setattr(replace, "exchange", late)
    write(folder, 2)
    assert (folder / "late").read_text() == "mine"


def _stopped(folder: Path, error: type[BaseException]) -> None:
    with replacing(folder) as draft:
        (draft.stage / "config.json").write_text("2")
        raise error


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = old(tmp_path)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            _stopped(folder, error)
        assert version_of(folder) == 1
        assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(ValueError), replacing(tmp_path / "a/b/c"):  # noqa: PT011
        raise ValueError
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_respected(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "out", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~mask
    for path in (tmp_path / "out").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask, path.name


def test_outputs_that_cannot_be_written_are_found_before_any_work(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    wrong = {
        "file": "a file of that name",
        "file/out": "cannot be written",
        "dangling": "link to nothing",
        "x" * 300: "cannot be written",
        "here": "works in it",
        ".": "works in it",
    }
    for name, message in wrong.items():
        with pytest.raises(InputError, match=message), replacing(tmp_path / name):
            raise AssertionError("work was done")
    with pytest.raises(InputError, match="mounted"), replacing(Path("/proc")):
        raise AssertionError("work was done")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"), replacing(tmp_path / "out"):
        raise AssertionError("work was done")
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "here"]


def test_a_disk_without_room_is_found_before_any_work(tmp_path):
    with replacing(tmp_path / "out") as draft:
        draft.demand_space(1000)
        with pytest.raises(InputError, match="bytes and its disk has"):
            draft.demand_space(10**18)


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    old(tmp_path)
    (tmp_path / "link").symlink_to("out")
    write(tmp_path / "link", 2)
    assert (tmp_path / "link").is_symlink()
    assert version_of(tmp_path / "out") == 2
