"""The ``segue`` script: without the extra that the commands need, it says how to install that."""

import atexit
import os
import signal
import sys

from segue.extras import MissingExtra, find_extra
from segue_cli.exit_code import ExitCode


def main() -> int:
    """Run the command line, and return its exit code.

    Ctrl-C may be pressed again while the first one is reported, or while the interpreter ends. It
    must then neither print a traceback nor, once Python's handler is gone, kill the process.
    """
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        return _run()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, lambda *_: os._exit(ExitCode.INTERRUPTED))


def _run() -> int:
    try:
        from segue_cli.main import main as run
    except ModuleNotFoundError as error:
        extra = find_extra(error.name)
        if extra is None:
            raise
        sys.stderr.write(f"segue: {MissingExtra('this command', extra)}\n")
        return ExitCode.USAGE
    return run()
