"""Who holds a lease, and whether that process can still be alive.

An owner is named by machine, boot and process, so that on the same machine a lease whose process
was killed is known to be lost at once, without waiting for it to expire.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket

from segue.model.record import Lease

UNKNOWN = 0  # when a process started that cannot be looked at


def new_owner() -> str:
    """Return a name for this process as the holder of leases; each call gives another."""
    return f"{_place()}/{_itself(os.getpid())}/{secrets.token_hex(4)}"


def is_lost(lease: Lease) -> bool:
    """Whether a lease's owner ran on this machine and is gone; others are believed to live."""
    parts = lease.owner.rsplit("/", 3)
    if len(parts) != 4 or not parts[1].isdecimal() or not parts[2].isdecimal():
        return False
    place, pid, started, _ = parts
    here = _place()
    if place.partition("@")[0] != here.partition("@")[0]:
        return False
    if place != here:
        return True
    found = _started(int(pid))
    return found is None or (found != int(started) and UNKNOWN not in (found, int(started)))


@functools.cache
def _place() -> str:
    """Host, process namespace (a container may share the host's name alone) and boot."""
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()[:8]
    except OSError:  # not Linux
        namespace, boot = "0", "0"
    return f"{socket.gethostname()}:{namespace}@{boot}"


@functools.lru_cache(maxsize=1)  # by its number, as a fork is another
def _itself(pid: int) -> str:
    """This process and when it started; reading that costs as much as a write to the ledger."""
    return f"{pid}/{_started(pid) or UNKNOWN}"


def _started(pid: int) -> int | None:
    """When a process started, in ticks since boot; None if it does not run, as zombies do not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, PermissionError):  # gone, hidden from this user, or not Linux
        return UNKNOWN if _runs(pid) else None
    except ProcessLookupError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
