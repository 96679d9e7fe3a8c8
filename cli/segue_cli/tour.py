"""What tours share: their folder, and commands that are run exactly as they are shown."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from segue.errors import ConfigurationError
from segue_cli.views.output import render_plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue_cli.views.output import Output

MARK = ".segue-demo"
GRACE_S = 30.0


class TourShell:
    """Shows headings, and runs command lines in the folder of a tour.

    With ``--json``, all that people read goes to standard error. A context manager: what still runs
    at the end is stopped. SIGTERM and the end of the terminal interrupt a tour as Ctrl-C does.
    """

    def __init__(self, output: Output, folder: str) -> None:
        self.folder = folder
        self._output = output
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as with nohup
                signal.signal(number, signal.default_int_handler)
        return self

    def __exit__(self, *_error: object) -> None:
        while self._started:
            self.stop(self._started[-1])

    def create_folder(self) -> None:
        """Create an empty folder in place of that of an earlier tour; refuse any other."""
        mark = os.path.join(self.folder, MARK)
        if os.path.isdir(self.folder) and os.listdir(self.folder) and not os.path.exists(mark):
            raise ConfigurationError(
                f"{self.folder!r} is not empty and was not created by a tour; choose another "
                "folder with --folder"
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            os.makedirs(self.folder)
            with open(mark, "w", encoding="ascii"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"{self.folder!r} cannot be created ({error.strerror}); choose another folder "
                "with --folder"
            ) from error

    def print(self, *parts: RenderableType) -> None:
        """Print something for people."""
        if not self._output.as_json:
            self._output.print(*parts)
            return
        for part in parts:
            self._output.stderr.file.write(render_plain(part))

    def show(self, heading: str, *lines: str) -> None:
        """Print a heading and run command lines; the first that fails ends the tour."""
        from rich.padding import Padding
        from rich.text import Text

        self.print(Padding(Text(heading, style="bold"), (1, 0, 1, 0)))
        for line in lines:
            process = self._run(line, shown=line)
            code = process.wait()
            self._started.remove(process)
            if code != 0:
                raise SystemExit(code)

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """Start a command line that goes on while others are run."""
        return self._run(line, shown=f"{line} &")

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop what was started as Ctrl-C does; kill it if that takes too long, or on another."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._started.remove(process)

    def _run(self, line: str, *, shown: str) -> subprocess.Popen[bytes]:
        """Start the shell with a command line, and with this installation as ``segue``."""
        from rich.text import Text

        self.print(Text(f"$ {shown}", style="cyan"))
        sys.stdout.flush()
        call = "import sys; from segue_cli.main import main; sys.exit(main())"
        this = f'segue() {{ {shlex.quote(sys.executable)} -P -c {shlex.quote(call)} "$@"; }}'
        # In a session of its own: it and what it starts are stopped together, by this process.
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"{this}\n{line}"],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if self._output.as_json else None,
            start_new_session=True,
        )
        self._started.append(process)
        return process
