"""The ``segue`` script: without the extra that the commands need, it says how to install that."""

import sys

from segue.extras import MissingExtra, find_extra
from segue_cli.exit_code import ExitCode


def main() -> int:
    """Run the command line, and return its exit code."""
    try:
        from segue_cli.main import main as run
    except ModuleNotFoundError as error:
        extra = find_extra(error.name)
        if extra is None:
            raise
        sys.stderr.write(f"segue: {MissingExtra('this command', extra)}\n")
        return ExitCode.USAGE
    return run()
