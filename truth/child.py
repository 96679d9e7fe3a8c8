"""Runs in another Python: calls a function on files, one line of JSON for each.

A line names a function, as ``package.module:function``, and a sound file, picture or film. A
class is made once, with the parameters, and then called; if it has a method ``prepare``, that gets
the sound, and the call what it returns, so that the time it takes does not count. Functions of
Segue are called as their graph calls them: with `segue.media.audio.Audio`, or, if ``media`` is
true, with an opened media file. All others get the samples and the sampling rate, or the path alone
if ``file`` is true. Nothing of this module's own package is imported, so that any checkout's Python
can run it.
"""

from __future__ import annotations

import functools
import importlib
import json
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any


def open_sound(request: dict[str, Any], folder: str) -> tuple[Any, ...]:
    """Return the arguments of a call."""
    if request.get("file"):
        return (request["path"],)
    if request.get("media"):
        from segue.media.decode import LocalMedia

        path = request["path"]
        return (LocalMedia(uri=f"file://{path}", version="1", path=path, folder=folder),)
    import soundfile

    y, sr = soundfile.read(request["path"], dtype="float32")
    y = y.T.copy()
    if request["call"].startswith("segue."):
        from segue.media.audio import Audio

        return (Audio(y=y, sr=sr),)
    return (y, sr)


def read_cpu_s() -> float:
    """Return the CPU time of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@functools.cache
def find_function(call: str, parameters: str) -> Callable[..., Any]:
    """Return what is to be called with a sound; parameters are in JSON."""
    module, _, name = call.partition(":")
    found = getattr(importlib.import_module(module), name)
    given = json.loads(parameters)
    if not isinstance(found, type):
        return functools.partial(found, **given)
    made = found(**given)
    made.setup()
    return made


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Make a call; return its value, or its error, and the CPU time that it took."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            function = find_function(request["call"], json.dumps(request.get("parameters", {})))
            arguments = open_sound(request, folder)
            if hasattr(function, "prepare"):
                arguments = function.prepare(*arguments)
            started = read_cpu_s()
            value = function(*arguments)
        except Exception as error:  # noqa: BLE001  # a row of the table says so
            return {"error": f"{type(error).__name__}: {error}"}
        return {"value": value, "cpu_s": read_cpu_s() - started}


def main() -> None:
    """Answer the lines of the standard input until it ends."""
    warnings.simplefilter("ignore")
    sys.path.append(sys.argv[1])
    out = sys.stdout
    sys.stdout = sys.stderr  # what a package prints is no answer
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
