"""The supervisor: a process that forks children, gives them tasks, and enforces their limits.

It has imported what the children need, but runs no job. It starts no thread: a process with threads
must not fork. When a child exits, all processes that it started are killed; when the supervisor or
the pool's process exits, all children are killed.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import selectors
import shutil
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from segue.errors import ConfigurationError, Kind, SegueError
from segue.model.job_code import Batching, make_importable
from segue.model.media_file import parse_location
from segue.worker import numba_cache
from segue.worker.child import run_child
from segue.worker.gpus import (
    GpuShares,
    build_gpu_environment,
    check_gpus,
    find_gpus,
    list_gpu_jobs,
)
from segue.worker.job_output import (
    CallLabel,
    ChildPipe,
    build_mark,
    flush_streams,
    prepare_streams,
)
from segue.worker.preload import preload, read_batching, watch_parent
from segue.worker.process import (
    FEW_BYTES,
    adopt_orphans,
    find_full_disk,
    kill_group,
    kill_orphans,
    measure_free_gib,
)
from segue.worker.protocol import (
    Aborted,
    Channel,
    Frame,
    Line,
    Phase,
    PoolConfig,
    Printed,
    RunningCall,
    Started,
    Update,
    decode_frames,
    decode_submission,
)
from segue.worker.scheduler import ChildState, FreeSpace, Scheduler
from segue.worker.secrets import mask, use_secrets

GRACE_S = 5.0  # for children to finish their current files when the pool closes
CHECK_S = 0.05  # between checks of the children's deadlines
REPORT_S = 0.005  # between updates to the pool
KILL_S = 1.0
LOOK_S = 0.5  # between looks at what has been running for at least so long, and how far it is
MAX_LINES = 1000  # that children have printed and that wait for the pool; others are dropped
MAX_READS = 64  # of a pipe into which a process that nobody can find may go on to print


def main(fd: int, config: PoolConfig, parent: int, excluded: Sequence[str]) -> None:
    """Run the supervisor in a new process.

    ``excluded`` are modules that started threads when they were imported here.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    prepare_streams()
    adopt_orphans()
    make_importable(config.graph)
    cache = numba_cache.use_private_cache(config.folder)
    with watch_parent(parent):
        preload(config.graph, config.artifacts, config.jobs, excluded)
        batching = read_batching(config.graph, config.jobs, excluded)
        if config.saves_numba_cache:
            numba_cache.save([cache])
    flush_streams()
    os.set_inheritable(fd, False)
    gc.collect()
    gc.freeze()  # else the collector writes to, and so copies, every shared page
    ChildSupervisor(config, Channel(socket.socket(fileno=fd)), batching).run()


class ChildHandle(ChildState):
    """A child process."""

    def __init__(
        self,
        process: int,
        channel: Channel,
        output: ChildPipe,
        job: str | None = None,
        gpu: str | None = None,
    ) -> None:
        super().__init__(job)
        self.process = process
        self.channel = channel
        self.output = output
        self.gpu = gpu  # on which it runs its job
        self.is_closed = False  # nothing more can be received
        self.is_leaving = False  # it exits, so that another one gets its GPU

    @property
    def is_free(self) -> bool:
        """Whether it has nothing to do."""
        return not (self.tasks or self.progress or self.kill or self.is_closed or self.is_leaving)

    def close(self) -> None:
        """Let it exit after its current file."""
        with contextlib.suppress(OSError):
            self.channel.socket.shutdown(socket.SHUT_WR)


def _open_gpus(config: PoolConfig) -> tuple[GpuShares, Aborted | None]:
    """Find the GPUs, if the jobs need some; return the error if they cannot have them."""
    needs = {n: r for n, r in list_gpu_jobs(config.graph).items() if n in config.jobs}
    if not needs:
        return GpuShares((), {}), None
    try:
        gpus = find_gpus(os.environ)
        if config.requires_gpus:
            check_gpus(needs, gpus)
    except ConfigurationError as error:
        return GpuShares((), {}), Aborted(str(error))
    return GpuShares(gpus, needs), None


class ChildSupervisor:
    """Forks, feeds, watches, kills and reaps children."""

    def __init__(
        self, config: PoolConfig, pool: Channel, batching: Mapping[str, Batching] | None = None
    ) -> None:
        self._config = config
        self._pool = pool
        self._gpus, error = _open_gpus(config)
        self._scheduler = Scheduler(
            config.graph,
            processes=config.processes,
            setup_s=config.setup_s,
            warmup_s=config.warmup_s,
            batching=batching,
            gpu_children=self._gpus.count_children(),
        )
        self._scheduler.error = error
        self._children: dict[int, ChildHandle] = {}
        self._close_by_s = math.inf  # no more children are started once it is set
        self._has_reported_error = False
        # Where children write: their temporary files and, unless in a bucket, their artifacts.
        self._disks = [os.path.dirname(config.folder)]
        with contextlib.suppress(SegueError):
            location = parse_location(config.artifacts)
            if location.startswith("file://"):
                self._disks.append(location.removeprefix("file://"))
        self._reported_s = self._checked_s = self._looked_s = 0.0
        self._mark = build_mark()
        self._lines: list[Line] = []  # that the pool has not been sent
        self._lost_lines = 0
        self._running: list[RunningCall] = []  # as the pool knows it
        self._new_running: list[RunningCall] | None = None
        self._selector = selectors.DefaultSelector()
        self._alarm, self._ring = socket.socketpair()
        self._alarm.setblocking(False)
        self._ring.setblocking(False)

    def run(self) -> None:
        """Work until the pool has closed and all children have exited, or its process is gone."""
        self._selector.register(self._pool.socket, selectors.EVENT_READ)
        self._selector.register(self._alarm, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        scheduler = self._scheduler
        files, jobs = scheduler.count_batch_files(), scheduler.list_batch_jobs()
        self._pool.send(Update(batch_files=files, batch_jobs=jobs))
        try:
            self._work()
        finally:
            self._kill_all()
            self._report_last_lines()

    def _work(self) -> None:
        while self._children or self._close_by_s == math.inf:
            if time.monotonic() > self._close_by_s:
                break
            self._dispatch()
            self._report()
            self._wait(self._find_wait_s())
            self._check_children(time.monotonic())
        if self._config.saves_numba_cache and not self._children and self._close_by_s > 0:
            with os.scandir(self._config.folder) as entries:
                numba_cache.save([os.path.join(e.path, numba_cache.NAME) for e in entries])

    def _wait(self, timeout_s: float | None) -> None:
        """Wait until something happens, and handle it."""
        events = self._selector.select(timeout_s)
        self._scheduler.now_s = time.monotonic()
        for key, _ in events:
            if key.data is not None and key.fd == key.data.output.fd:
                self._read_output(key.data)
            elif key.data is not None:
                self._receive(key.data)
            elif key.fileobj is self._alarm:
                self._reap()
            else:
                self._receive_submissions()

    def _find_wait_s(self) -> float | None:
        children = self._children.values()
        if self._scheduler.unreported or any(c.has_unsent for c in self._list_channels()):
            return REPORT_S
        if self._lines or self._new_running is not None:
            return REPORT_S
        wait_s = self._scheduler.find_due_s() - self._scheduler.now_s
        if self._close_by_s < math.inf or self._running or any(c.progress for c in children):
            return min(wait_s, CHECK_S)
        return wait_s if wait_s < math.inf else None

    def _list_channels(self) -> list[Channel]:
        return [self._pool, *(child.channel for child in self._children.values())]

    # The pool.

    def _receive_submissions(self) -> None:
        messages = self._pool.receive()
        if messages is None:
            self._close_by_s = 0.0  # the pool's process has gone
        for submission in map(decode_submission, messages or ()):
            if submission.secrets:
                use_secrets(submission.secrets)
            self._scheduler.add(submission.tasks)
            if submission.flush:
                self._scheduler.flush()
            if submission.close:
                self._close_by_s = time.monotonic() + GRACE_S
                for child in self._children.values():
                    child.close()

    def _report(self) -> None:
        """Send the pool what is new; few large updates cost less than many small ones."""
        now_s, scheduler = time.monotonic(), self._scheduler
        error = None if self._has_reported_error else scheduler.error
        has_news = scheduler.unreported or self._lines or self._new_running is not None
        if error or (has_news and now_s - self._reported_s >= REPORT_S):
            self._reported_s = now_s
            self._has_reported_error = scheduler.error is not None
            self._send_update(Update(scheduler.take_reports(), error))

    def _send_update(self, update: Update) -> None:
        """Send an update with the lines that wait, and with what runs if that has changed."""
        self._count_lost_lines()
        update.lines, self._lines = self._lines, []
        update.running, self._new_running = self._new_running, None
        self._pool.send(update)

    # Children.

    def _dispatch(self) -> None:
        """Send queued tasks to children that have nothing to do; start more if all are busy."""
        for channel in self._list_channels():
            channel.flush()
        scheduler = self._scheduler
        for place in scheduler.list_places():
            while self._close_by_s == math.inf and scheduler.may_assign(
                place, is_any_busy=self._is_any_busy
            ):
                child = self._find_child(place)
                if child is None:
                    break
                child.channel.send(scheduler.assign(child))

    def _find_child(self, job: str | None) -> ChildHandle | None:
        """Return a free child of a job, or an ordinary one; start one if there is room."""
        peers = [child for child in self._children.values() if child.job == job]
        for child in peers:
            if child.is_free:
                return child
        if job is not None:
            return self._start_on_gpu(job)
        return self._start_child() if len(peers) < self._config.processes else None

    def _start_on_gpu(self, job: str) -> ChildHandle | None:
        """Start a job's child on a GPU with room, or make room, for which others have to exit."""
        on_gpus = [child for child in self._children.values() if child.gpu is not None]
        gpu = self._gpus.find_gpu(job, [(str(child.gpu), str(child.job)) for child in on_gpus])
        if gpu is not None:
            return self._start_child(job, gpu)
        if not any(child.is_leaving for child in on_gpus):
            self._make_room(job, on_gpus)
        return None

    def _make_room(self, job: str, on_gpus: Sequence[ChildHandle]) -> None:
        """Let children that have nothing to do leave a GPU, if another job's child then fits.

        A job keeps a child while it has tasks for it, unless it has others and this one has none.
        """
        counts = Counter(child.job for child in on_gpus)

        def is_spare(child: ChildHandle) -> bool:
            has_tasks = child.job is not None and self._scheduler.is_due(child.job)
            return child.is_free and not (has_tasks and counts[child.job] <= counts[job] + 1)

        for gpu in dict.fromkeys(str(child.gpu) for child in on_gpus):
            there = [child for child in on_gpus if child.gpu == gpu]
            leaving: list[ChildHandle] = []
            for child in filter(is_spare, there):
                leaving.append(child)
                staying = [str(other.job) for other in there if other not in leaving]
                if self._gpus.has_room(gpu, job, staying):
                    for one in leaving:
                        one.is_leaving = True
                        one.close()
                    return

    @property
    def _is_any_busy(self) -> bool:
        return any(not child.is_free for child in self._children.values())

    def _start_child(self, job: str | None = None, gpu: str | None = None) -> ChildHandle | None:
        """Fork a child; return None if the system has no room for one now."""
        if folder := find_full_disk(self._disks[:1]):
            if not self._children:  # otherwise these may free some
                message = f"no space is left for temporary files in {folder}; free some"
                self._scheduler.error = Aborted(message, Kind.DISK_FULL)
            return None
        ends: tuple[socket.socket, ...] = ()
        supervisor = os.getpid()
        output: ChildPipe | None = None
        try:
            our_end, child_end = ends = socket.socketpair()
            output = ChildPipe(self._mark)
            process = os.fork()
        except OSError as error:
            for end in ends:
                end.close()
            if output is not None:
                output.close_child_end()
                output.close()
            if not self._children:  # otherwise these go on
                message = f"cannot start a child process: {error}"
                self._scheduler.error = Aborted(message, Kind.UNAVAILABLE)
            return None
        if process == 0:
            if gpu is not None:
                os.environ.update(build_gpu_environment(gpu))
            self._become_child(child_end, our_end, supervisor, output)
        child_end.close()
        output.close_child_end()
        child = ChildHandle(process, Channel(our_end), output, job, gpu)
        self._children[process] = child
        self._selector.register(our_end, selectors.EVENT_READ, child)
        self._selector.register(output.fd, selectors.EVENT_READ, child)
        return child

    def _become_child(
        self, end: socket.socket, other_end: socket.socket, supervisor: int, pipe: ChildPipe
    ) -> None:
        """Run a child in a process that was just forked, and end that process."""
        status = os.EX_SOFTWARE
        try:
            os.setsid()
            output = pipe.build_child_output()
            output.redirect()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            channels = [channel.socket for channel in self._list_channels()]
            for sock in (self._alarm, self._ring, other_end, *channels):
                sock.close()
            for child in self._children.values():
                child.output.close()
            status = run_child(self._config, Channel(end), supervisor, output)
        except BaseException:  # noqa: BLE001 - it must not get into the supervisor's loop
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(status)

    def _receive(self, child: ChildHandle) -> bool:
        """Receive messages of a child; return whether there were any."""
        if child.is_closed:
            return False
        try:
            messages = child.channel.receive()
            for message in messages or ():
                self._accept(child, decode_frames(message))
        except msgspec.MsgspecError:
            self._scheduler.record_corrupt(child)
            messages = None
        if messages is None:
            child.is_closed = True
            self._selector.unregister(child.channel.socket)
            # Unless the child exits, a job has closed the channel; it may run until its deadline.
            if child.process in self._children and (child.kill or child.progress is None):
                self._kill(child)
        return bool(messages)

    def _accept(self, child: ChildHandle, frames: list[Frame]) -> None:
        """Record a child's message, and which call the lines after it are of."""
        is_marked = bool(frames) and isinstance(frames[0], Printed)
        self._scheduler.receive(child, frames[1:] if is_marked else frames)
        label = None
        if (started := child.progress) is not None:
            child.output.page.call += 1
            entry = child.tasks.get(started.serial) if started.phase is not Phase.SETUP else None
            uri = entry.task.media.uri if entry is not None else ""
            label = CallLabel(started.job, uri, started.files)
        child.output.reader.follow(label, is_marked=is_marked)

    # What children print, and how far they are.

    def _read_output(self, child: ChildHandle) -> bool:
        """Read once what a child prints; return whether there was anything."""
        if not child.output.is_open:
            return False
        data = child.output.read()
        self._receive(child)  # what it had told before it printed that
        if data is None:
            self._close_output(child)
        else:
            child.output.reader.add(data, time.monotonic())
        self._take_lines(child)
        return bool(data)

    def _take_lines(self, child: ChildHandle) -> None:
        lines = child.output.reader.take_lines()
        room = 0 if self._pool.has_unsent else max(0, MAX_LINES - len(self._lines))
        if room:
            self._count_lost_lines()
        self._lines += lines[:room]
        self._lost_lines += len(lines[room:])

    def _count_lost_lines(self) -> None:
        if self._lost_lines:
            note = f"[{self._lost_lines:,} lines are left out here]"
            self._lines.append(Line("", "", 0, note))
            self._lost_lines = 0

    def _close_output(self, child: ChildHandle) -> None:
        if child.output.is_open:
            self._selector.unregister(child.output.fd)
            child.output.close()
        child.output.reader.end()

    def _read_last_output(self, child: ChildHandle) -> None:
        """Read all that a child has left; what holds its pipe open is not waited for."""
        for _ in range(MAX_READS):
            if not self._read_output(child):
                break
        self._close_output(child)
        self._take_lines(child)
        child.output.page.close()

    def _look(self, now_s: float) -> None:
        """Find out what has been running for a while, and how far it is."""
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        running = []
        for child in self._children.values():
            if child.output.reader.has_unfinished:
                child.output.reader.renew(now_s)
                self._take_lines(child)
            call = child.progress
            if call is not None and now_s - call.since_s >= LOOK_S:
                uris = _list_uris(child, call)
                fraction, text = child.output.page.read_report() or (None, "")
                text = mask(text, is_cut=True)
                running.append(RunningCall(call.job, uris, call.since_s, fraction, text))
        if running != self._running and not self._pool.has_unsent:
            self._running = self._new_running = running

    def _report_last_lines(self) -> None:
        """Send what the last children have printed, unless the pool does not read any more."""
        for child in self._children.values():
            self._read_last_output(child)
        if self._lines or self._lost_lines:
            self._send_update(Update())
            self._pool.drain(KILL_S)

    def _check_children(self, now_s: float) -> None:
        """Kill children past their deadline; give others the tasks that wait behind a late one."""
        if now_s - self._checked_s < CHECK_S:
            return
        self._checked_s = now_s
        self._look(now_s)
        scheduler = self._scheduler
        for child in self._children.values():
            if min(scheduler.find_deadline_s(child), scheduler.find_late_s(child)) > now_s:
                continue
            while self._receive(child):  # it may have gone on
                pass
            if scheduler.find_deadline_s(child) <= now_s:
                scheduler.record_timeout(child, now_s)
                self._kill(child)
            elif scheduler.find_late_s(child) <= now_s:
                scheduler.take_back(child)
                child.channel.send([])

    def _kill(self, child: ChildHandle) -> None:
        kill_group(child.process)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.process, signal.SIGKILL)  # just forked, it has no group yet

    def _reap(self) -> None:
        """Reap the processes that have exited, and kill those that they have left."""
        self._alarm.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while (exited := os.waitpid(-1, os.WNOHANG))[0]:
                process, status = exited
                child = self._children.pop(process, None)
                if child is not None:
                    kill_group(process)
                kill_orphans(self._children)
                if child is not None:
                    self._handle_exit(child, os.waitstatus_to_exitcode(status))

    def _handle_exit(self, child: ChildHandle, status: int) -> None:
        while self._receive(child):  # what it sent before it exited
            pass
        self._read_last_output(child)
        if not child.is_closed:  # another process has inherited its end
            child.is_closed = True
            self._selector.unregister(child.channel.socket)
        child.channel.socket.close()
        was_full = find_full_disk(self._disks) is not None
        if self._close_by_s == math.inf:
            folder = os.path.join(self._config.folder, str(child.process))
            shutil.rmtree(folder, ignore_errors=True)
        self._scheduler.handle_exit(child, status, self._measure_space(was_full=was_full))

    def _measure_space(self, *, was_full: bool) -> FreeSpace:
        if full := find_full_disk(self._disks, bytes_left=FEW_BYTES):
            return FreeSpace(was_full, True, f"the disk of {full} is full")
        free = [f"{measure_free_gib(f):.3g} GiB in {f}" for f in self._disks if os.path.exists(f)]
        return FreeSpace(was_full, False, ", ".join(free))

    def _kill_all(self) -> None:
        """Kill all children and all that they have started."""
        for child in self._children.values():
            self._kill(child)
        end_s = time.monotonic() + KILL_S
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < end_s:
                kill_orphans(())
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(0.001)


def _list_uris(child: ChildHandle, call: Started) -> tuple[str, ...]:
    """Return the files of a call; none while a job is being set up."""
    if call.phase is Phase.SETUP:
        return ()
    serials = range(call.serial, max(call.serial, call.last_serial) + 1) if call.files > 1 else ()
    entries = [child.tasks.get(serial) for serial in serials or (call.serial,)]
    uris = [
        entry.task.media.uri
        for entry in entries
        if entry is not None and call.job in entry.task.run and call.job not in entry.results
    ]
    return tuple(uris[: call.files])
