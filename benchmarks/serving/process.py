"""Resident memory and processor time of a process and all it has started, from /proc."""

import os
from pathlib import Path

PROC = Path("/proc")
RESET_PEAK = "5"  # proc(5), clear_refs


def family(pid: int) -> list[int]:
    """`pid` and every process below it that still lives."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            # the name may hold spaces and brackets; the parent is the second field behind it
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def resident_mib(pid: int) -> float:
    """What the family holds in memory now; pages that several share count for each."""
    return _sum_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """The most each member has held since `reset_peak`, added up."""
    return _sum_mib(pid, "VmHWM")


def cpu_s(pid: int) -> float:
    """Seconds that the family has computed so far."""
    ticks = 0
    for member in family(pid):
        try:
            fields = (PROC / str(member) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])  # proc(5): utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    for member in family(pid):
        (PROC / str(member) / "clear_refs").write_text(RESET_PEAK)


def _sum_mib(pid: int, field: str) -> float:
    return sum(_field_kib(member, field) for member in family(pid)) / 1024


def _field_kib(pid: int, field: str) -> int:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
