"""The owner of a lease, and whether that process can still be alive.

An owner's name contains machine, boot and process, so that on the same machine a lease whose
process was killed is known to be lost at once, before it expires.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket

from segue.model.record import Lease

UNKNOWN = 0  # start time of a process that cannot be inspected


def build_owner(run: str | None = None) -> str:
    """Return a name for this process as an owner of leases: a new one, or that for a run."""
    return f"{_identify_process()}/{run or secrets.token_hex(4)}"


def is_of_run(lease: Lease, run: str) -> bool:
    """Return whether a lease's owner was built for a run, in any process."""
    return lease.owner.rpartition("/")[2] == run


def is_of_this_process(lease: Lease) -> bool:
    """Return whether a lease's owner was built in this process."""
    return lease.owner.rpartition("/")[0] == _identify_process()


def is_of_this_machine(owner: str) -> bool:
    """Return whether an owner was built on this machine and in this process namespace."""
    return owner.rsplit("/", 3)[0].partition("@")[0] == _identify_machine().partition("@")[0]


def _identify_process() -> str:
    return _name_process(os.getpid())  # a fork has another number


@functools.lru_cache(maxsize=1)  # there is an owner for each file
def _name_process(pid: int) -> str:
    return f"{_identify_machine()}/{pid}/{_find_start(pid) or UNKNOWN}"


def is_lost(lease: Lease) -> bool:
    """Return whether a lease's owner ran on this machine and is gone; others count as alive."""
    parts = lease.owner.rsplit("/", 3)
    if len(parts) != 4 or not parts[1].isdecimal() or not parts[2].isdecimal():
        return False
    place, pid, started, _ = parts
    here = _identify_machine()
    if place.partition("@")[0] != here.partition("@")[0]:
        return False
    if place != here:
        return True
    found = _find_start(int(pid))
    return found is None or (found != int(started) and UNKNOWN not in (found, int(started)))


@functools.cache
def _identify_machine() -> str:
    """Return host, process namespace (containers may share the host's name) and boot."""
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()[:8]
    except OSError:  # not Linux
        namespace, boot = "0", "0"
    return f"{socket.gethostname()}:{namespace}@{boot}"


def _find_start(pid: int) -> int | None:
    """Return a process's start in ticks since boot; None if it does not run, or is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, PermissionError):  # gone, hidden from this user, or not Linux
        return UNKNOWN if _is_running(pid) else None
    except ProcessLookupError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
