"""Runs ffmpeg: finds the binary, limits what it logs, and translates its failures."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError, DiskFull, JobCrashed, JobKilled, OutOfMemory

if TYPE_CHECKING:
    from typing import IO, Any

# A damaged file can make ffmpeg log an error for every packet: keep the start, which describes the
# file, and the end.
LOG_HEAD_BYTES = 256 * 1024
LOG_TAIL_BYTES = 16 * 1024

# Indented lines hold the file's own tags, which must not decide anything.
_DISK_FULL = re.compile(
    r"^(?!\s).*(No space left on device|Disk quota exceeded)[ .]*$", re.MULTILINE
)
_NO_MEMORY = re.compile(r"^(?!\s).*Cannot allocate memory[ .]*$", re.MULTILINE)
# An old or reduced build of ffmpeg must not turn a whole catalogue into corrupt media.
_UNSUITABLE_BUILD = re.compile(
    r"^(?:\[[^\]]*\] )*"
    r"((?:Unrecognized option|Option \S+ not found|Unknown encoder|No such filter).*)$",
    re.MULTILINE,
)
_LOG_PREFIX = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] )+")
# Descriptions of streams, statistics, and the lines after the one that gives the cause.
_UNINFORMATIVE = re.compile(
    r"^(\s|$|file:|Error opening (in|out)put|Conversion failed|Last message repeated"
    r"|Output file is empty|size=|video:|Stream mapping:|(In|Out)put #)"
)


@dataclass(frozen=True, slots=True)
class FfmpegResult:
    """The result of a run of ffmpeg."""

    returncode: int
    log: str  # the beginning and the end of its standard error

    @property
    def reason(self) -> str:
        """The line of the log that says most about a failure, without addresses."""
        lines = [_LOG_PREFIX.sub("", line) for line in self.log.splitlines()]
        informative = [line for line in lines if not _UNINFORMATIVE.search(line)]
        return (
            informative[-1][:200].rstrip(" .") if informative else "ffmpeg recognises nothing in it"
        )


def find_ffmpeg() -> str:
    """Return the path of ffmpeg: ``SEGUE_FFMPEG``, else from PATH, else imageio-ffmpeg's.

    Raises
    ------
    ConfigurationError
        If there is none, or the setting is not an executable program.
    """
    setting = os.environ.get("SEGUE_FFMPEG")
    if setting:
        chosen = shutil.which(setting)
        if chosen is None:
            raise ConfigurationError(
                f"SEGUE_FFMPEG is {setting!r}, which is not an executable program: "
                "set it to the path of ffmpeg, or unset it"
            )
        return chosen
    on_path = shutil.which("ffmpeg")
    if on_path is not None:
        return on_path
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise ConfigurationError(
            "there is no ffmpeg on PATH, nor one from imageio-ffmpeg: install it "
            "(apt-get install ffmpeg, brew install ffmpeg, or pip install imageio-ffmpeg), "
            "or set SEGUE_FFMPEG to its path"
        ) from error


def run_ffmpeg(stream: Any) -> FfmpegResult:
    """Run ffmpeg on a stream of ffmpeg-python, in the caller's process group.

    Killing that process group also kills ffmpeg.

    Raises
    ------
    DiskFull
        If the output's device is full.
    ConfigurationError
        If there is no ffmpeg, or it lacks something that Segue needs.
    OutOfMemory
        If ffmpeg could not allocate memory.
    JobCrashed
        If a signal killed it.
    """
    import ffmpeg

    arguments = ffmpeg.get_args(
        ffmpeg.overwrite_output(stream.global_args("-nostdin", "-hide_banner", "-nostats"))
    )
    with subprocess.Popen(
        [find_ffmpeg(), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        try:
            log = _read_head_and_tail(process.stderr)
        except BaseException:
            process.kill()
            raise
    # Names must not decide anything either, and they can contain line breaks.
    for name in [argument for argument in arguments if argument.startswith("file:")]:
        log = log.replace(name, "file:")
    return _check_result(FfmpegResult(process.returncode, log))


def _check_result(report: FfmpegResult) -> FfmpegResult:
    # Check the log first: some versions return 0 although the last bytes could not be written.
    full = _DISK_FULL.search(report.log)
    if full is not None:
        raise DiskFull(f"ffmpeg could not write decoded audio: {full[1]}; free space there")
    if report.returncode < 0:
        raise (JobKilled if report.returncode == -signal.SIGKILL else JobCrashed)(
            f"ffmpeg was killed by signal {-report.returncode}; if it is 9, out of memory is likely"
        )
    unsuitable = _UNSUITABLE_BUILD.search(report.log) if report.returncode > 0 else None
    if unsuitable is not None:
        raise ConfigurationError(
            f"{find_ffmpeg()} cannot do what Segue needs ({unsuitable[1]}): install ffmpeg 5.1 or "
            "later, or set SEGUE_FFMPEG to one"
        )
    if report.returncode > 0 and _NO_MEMORY.search(report.log):
        raise OutOfMemory(f"ffmpeg ran out of memory: {report.reason}; raise the job's memory_gib")
    return report


def _read_head_and_tail(pipe: IO[bytes]) -> str:
    head, tail, cut = b"", b"", False
    while block := os.read(pipe.fileno(), 65536):
        if len(head) < LOG_HEAD_BYTES:
            head += block
            continue
        cut = cut or len(tail) + len(block) > LOG_TAIL_BYTES
        tail = (tail + block)[-LOG_TAIL_BYTES:]
    return (head + (b"\n...\n" if cut else b"") + tail).decode("utf-8", "replace")
