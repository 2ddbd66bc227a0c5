from pathlib import Path

import pytest

from raytes.runner.cgroup import Cgroup, Usage


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_is_read(tmp_path: Path) -> None:
    write(tmp_path / "proc/7/cgroup", "0::/libpod-c0ffee\n")
    group = tmp_path / "cgroup/libpod-c0ffee"
    write(group / "memory.events", "low 0\noom 3\noom_kill 2\n")
    write(group / "memory.peak", "4096\n")
    write(group / "cpu.stat", "usage_usec 1500000\nuser_usec 1\n")
    usage = Cgroup("c0ffee", 7, tmp_path / "proc", tmp_path / "cgroup").usage()
    assert usage == Usage(memory_kills=2, peak_memory=4096, cpu_seconds=1.5)


def test_version_1_and_hybrid_are_read(tmp_path: Path) -> None:
    write(tmp_path / "proc/7/cgroup", "4:memory:/c0ffee\n2:cpu,cpuacct:/c0ffee\n0::/\n")
    write(tmp_path / "cgroup/memory/c0ffee/memory.oom_control", "under_oom 0\noom_kill 1\n")
    write(tmp_path / "cgroup/memory/c0ffee/memory.max_usage_in_bytes", "8192\n")
    write(tmp_path / "cgroup/cpuacct/c0ffee/cpuacct.usage", "250000000\n")
    usage = Cgroup("c0ffee", 7, tmp_path / "proc", tmp_path / "cgroup").usage()
    assert usage == Usage(memory_kills=1, peak_memory=8192, cpu_seconds=0.25)


@pytest.mark.parametrize("lines", ["0::/user.slice\n", "4:memory:/\n2:cpu,cpuacct:/\n0::/\n"])
def test_what_others_have_used_is_not_taken_for_the_containers(tmp_path: Path, lines: str) -> None:
    write(tmp_path / "proc/7/cgroup", lines)
    for group in ("user.slice", "memory", "cpuacct"):
        for file in ("memory.peak", "memory.max_usage_in_bytes", "cpuacct.usage"):
            write(tmp_path / "cgroup" / group / file, "8192\n")
    assert Cgroup("c0ffee", 7, tmp_path / "proc", tmp_path / "cgroup").usage() == Usage()


def test_what_is_gone_is_not_known(tmp_path: Path) -> None:
    assert Cgroup("c0ffee", 7, tmp_path / "proc", tmp_path / "cgroup").usage() == Usage()


def test_what_is_gone_is_as_it_was_last_seen(tmp_path: Path) -> None:
    write(tmp_path / "proc/7/cgroup", "0::/libpod-c0ffee\n")
    group = tmp_path / "cgroup/libpod-c0ffee"
    write(group / "memory.events", "oom_kill 0\n")
    write(group / "memory.peak", "4096\n")
    cgroup = Cgroup("c0ffee", 7, tmp_path / "proc", tmp_path / "cgroup")
    assert cgroup.usage() == Usage(memory_kills=0, peak_memory=4096)
    write(group / "memory.events", "oom_kill 1\n")
    (group / "memory.peak").unlink()
    assert cgroup.usage() == Usage(memory_kills=1, peak_memory=4096)
