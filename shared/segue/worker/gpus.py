"""The GPUs of this machine, and which job's children are on them.

They are found without CUDA, which must not be loaded before children are forked.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.errors import ConfigurationError
from segue.model.graph import GPU_MEMORY_GIB, NO_GPU, Graph, Resources

VARIABLE = "SEGUE_GPUS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Where Dataflow mounts the driver, which is on no path.
NVIDIA_SMI = ("nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi")
QUERY = ("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
DEVICES = "/dev/nvidia[0-9]*"
QUERY_S = 30.0
ROUNDING = 1e-9
NUMBER = re.compile(r"\d+")
ID = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU that children may use."""

    id: str  # as CUDA_VISIBLE_DEVICES names it
    memory_gib: float | None = None  # None: what GPUs of its kind have


def find_gpus(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Return the GPUs that may be used.

    ``SEGUE_GPUS`` is their number, or a list of them, such as ``0,1``; without it, all are used
    that ``CUDA_VISIBLE_DEVICES`` names, or, if that is not set, all that the driver reports.

    Raises
    ------
    ConfigurationError
        If ``SEGUE_GPUS`` is neither, or names more than the driver reports.
    """
    found = _query_driver()
    wanted = environ.get(VARIABLE, "").strip()
    known = environ[VISIBLE].split(",") if VISIBLE in environ else filter(NUMBER.fullmatch, found)
    ids = [gpu.strip() for gpu in known if ID.fullmatch(gpu.strip())]
    if NUMBER.fullmatch(wanted):
        if found and int(wanted) > len(ids):
            raise _explain_missing(f"is {wanted}", ids)
        ids = [*dict.fromkeys([*ids, *map(str, range(int(wanted)))])][: int(wanted)]
    elif wanted:
        ids = [part.strip() for part in wanted.split(",") if part.strip()]
        if unknown := [gpu for gpu in ids if not ID.fullmatch(gpu)]:
            raise ConfigurationError(
                f"{VARIABLE} names {unknown[0]!r}; write how many GPUs to use, such as 2, or "
                "which, such as 0,1"
            )
        # CUDA takes the beginning of an id, too, which the driver does not list.
        if found and (absent := [n for n in ids if NUMBER.fullmatch(n) and n not in found]):
            raise _explain_missing(f"names {absent[0]}", [*filter(NUMBER.fullmatch, found)])
    return tuple(Gpu(id=gpu, memory_gib=found.get(gpu)) for gpu in dict.fromkeys(ids))


def _explain_missing(what: str, ids: Sequence[str]) -> ConfigurationError:
    known = f"the GPUs here are {', '.join(ids)}" if ids else "there are no GPUs here"
    return ConfigurationError(f"{VARIABLE} {what}, and {known}; ask for no others")


def _query_driver() -> dict[str, float | None]:
    """Return the memory of each GPU in GiB, as far as it is known, by its number and by its id."""
    for program in NVIDIA_SMI:
        try:
            done = subprocess.run(
                [program, *QUERY], capture_output=True, text=True, timeout=QUERY_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        found: dict[str, float | None] = {}
        for line in done.stdout.splitlines():
            fields = [field.strip() for field in line.split(",")]
            if len(fields) == 3:
                memory_gib = float(fields[2]) / 1024 if NUMBER.fullmatch(fields[2]) else None
                found |= dict.fromkeys(fields[:2], memory_gib)
        return found
    numbers = sorted(int(path.rpartition("nvidia")[2]) for path in glob.glob(DEVICES))
    return {str(number): None for number in numbers}


def list_gpu_jobs(graph: Graph) -> dict[str, Resources]:
    """Return what the jobs of a graph that need a GPU need."""
    needed = {name: job.resources for name, job in graph.jobs.items()}
    return {name: resources for name, resources in needed.items() if resources.gpu != NO_GPU}


def check_gpus(needs: Mapping[str, Resources], gpus: Sequence[Gpu]) -> None:
    """Raise ``ConfigurationError`` if some jobs need a GPU, and there is none."""
    if needs and not gpus:
        name, resources = next(iter(needs.items()))
        raise ConfigurationError(
            f"job {name!r} needs a GPU ({resources.gpu}), and this worker has none; start the "
            "pipeline with --dataflow_service_options="
            f"worker_accelerator=type:{resources.gpu};count:1;install-nvidia-driver and a "
            "--machine_type that can have it"
        )


class GpuShares:
    """Says on which GPU a job's next child fits: at most one of each job, beside those of others
    as long as the memory that they declare does.
    """

    def __init__(self, gpus: Sequence[Gpu], needs: Mapping[str, Resources]) -> None:
        self._gpus = {gpu.id: gpu for gpu in gpus}
        self._needs = needs if gpus else {}

    def count_children(self) -> dict[str, int]:
        """Return how many children each job may have."""
        return dict.fromkeys(self._needs, len(self._gpus))

    def find_gpu(self, job: str, children: Sequence[tuple[str, str]]) -> str | None:
        """Return the GPU with the fewest children on which one of a job fits, or None.

        ``children`` has the GPU and the job of each child.
        """
        counts = Counter(gpu for gpu, _ in children)
        for gpu in sorted(self._gpus, key=lambda one: counts[one]):
            if self.has_room(gpu, job, [other for its_gpu, other in children if its_gpu == gpu]):
                return gpu
        return None

    def has_room(self, gpu: str, job: str, others: Sequence[str]) -> bool:
        """Return whether a job's child fits on a GPU beside those of other jobs.

        A job that declares more than the GPU has gets it for itself.
        """
        if job in others:
            return False
        shares = [self._find_share(gpu, name) for name in (*others, job)]
        return not others or sum(shares) <= 1.0 + ROUNDING

    def _find_share(self, gpu: str, job: str) -> float:
        resources = self._needs[job]
        if resources.gpu_memory_gib is None:
            return 1.0
        memory_gib = self._gpus[gpu].memory_gib or GPU_MEMORY_GIB[resources.gpu]
        return resources.gpu_memory_gib / memory_gib


def build_gpu_environment(gpu: str) -> dict[str, str]:
    """Return the variables by which CUDA sees one GPU, as nvidia-smi numbers them."""
    return {VISIBLE: gpu, "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}
