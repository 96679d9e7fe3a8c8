"""``segue demo``: a tour of the main job on a small catalogue that it makes itself."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import Annotated

import typer

from segue.errors import ConfigurationError
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.views.table import table

MARK = ".segue-demo"
TEMPO_TOLERANCE = 0.04  # librosa's tempo comes in steps of 3 % here


@command(examples=("segue demo", "segue demo --folder /tmp/tour"))
def demo(
    context: Context,
    folder: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="Where to work. What an earlier tour left is removed."),
    ] = ".segue/demo",
) -> ExitCode:
    """Make a small catalogue of music, and show on it what Segue does: a tour of a minute.

    Every line that starts with $ is a command that you can type in the folder of the tour, and that
    is run as it stands.
    """
    return _Tour(context, os.path.abspath(folder)).go()


class _Tour:
    """The steps, in order; the first that does not end as it should ends the tour."""

    def __init__(self, context: Context, folder: str) -> None:
        self._out = context.output
        self._folder = folder
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}

    def go(self) -> ExitCode:
        """Walk through."""
        self._prepare()
        self._say(
            "Segue computes features over a catalogue of media: only what is missing, parents "
            "first, never a sibling. "
            "These are the jobs that ship with it, and what each reads from."
        )
        self._run("graph")
        self._say("What would it take to know the energy of each beat, for all files?")
        self._run("plan", "--prefix", "catalogue", "--job", "energy")
        self._say(
            "Compute it. The first beat tracking on a machine compiles for half a minute; three "
            "of the files are broken, "
            "so some failures are tolerated."
        )
        self._run("backfill", "--prefix", "catalogue", "--job", "energy", "--tolerate", "30%")
        self._say(
            "Downsample and beats ran, because energy needs them. Loudness and spectrogram did "
            "not: nobody asked."
        )
        self._run("status")
        self._say(
            "Is it right? The tempo that each piece was made with, and the one that was found:"
        )
        if not self._compare_tempi():
            return ExitCode.FAILURES
        self._say("What failed did not stop the rest, and is recorded with its kind.")
        self._run("failures")
        self._say("Ask again: there is nothing left to do.")
        self._run("backfill", "--prefix", "catalogue", "--job", "energy")
        self._say(
            "Change a parameter of beats in a copy of the graph. Beats and energy are stale, "
            "downsample is not; and as "
            "their cost is known by now, so is the cost of the change."
        )
        self._write_changed_graph()
        self._run("plan", "--graph", "jobs.yaml", "--prefix", "catalogue", "--job", "energy")
        self._say("Everything about one file:")
        self._run("explain", "catalogue/night bus/01 Terminal.ogg")
        self._say("And a picture, of one file only:")
        prefix = "catalogue/night bus/01 Terminal.ogg"
        self._run("backfill", "--prefix", prefix, "--job", "spectrogram")
        self._out.print(f"  {os.path.relpath(self._find('spectrogram', '01 Terminal.ogg'))}")
        self._watch_folder()
        self._say(
            f"All of this is in {os.path.relpath(self._folder)}. On your own music: "
            "segue backfill --prefix ~/Music --job beats, or segue up ~/Music"
        )
        return ExitCode.OK

    def _watch_folder(self) -> None:
        self._say(
            "Nobody has to ask. Now the whole system runs on this folder, in the parts that it has "
            "in the cloud; meanwhile two files are copied in. They get all their features."
        )
        self._run_line(
            "(sleep 1; cp encore/* 'catalogue/night bus/') & segue up catalogue --until-idle 2"
        )
        self._run("explain", "catalogue/night bus/Rappel.flac")
        self._say(
            "Overwrite one and delete the other while nobody watches: the next start finds both. "
            "The features of the old version are never taken for those of the new one."
        )
        self._run_line("mv 'catalogue/night bus/Bis.flac' 'catalogue/night bus/Rappel.flac'")
        self._run_line("segue up catalogue --until-idle 1")
        self._run("status", "--prefix", "catalogue/night bus/")
        self._run("explain", "catalogue/night bus/Bis.flac")

    def _prepare(self) -> None:
        from segue_cli.demo_catalogue import SONGS, make, make_encore

        mark = os.path.join(self._folder, MARK)
        if os.path.isdir(self._folder) and os.listdir(self._folder) and not os.path.exists(mark):
            raise ConfigurationError(
                f"{self._folder!r} is not empty, and not from a tour; name another with --folder"
            )
        shutil.rmtree(self._folder, ignore_errors=True)
        os.makedirs(self._folder)
        with open(mark, "w", encoding="ascii"):
            pass
        make(os.path.join(self._folder, "catalogue"))
        make_encore(os.path.join(self._folder, "encore"))
        self._say("A small catalogue, with known truth:")
        rows = table("file", "what it is")
        for song in SONGS:
            what = f"music at {song.bpm:g} bpm" if song.bpm else "a tone"
            what = f"a tone at {song.lufs:g} LUFS" if song.lufs else what
            rows.add_row(song.name, f"broken: {song.broken}" if song.broken else what)
        self._out.print(rows)

    def _say(self, text: str) -> None:
        from rich.padding import Padding
        from rich.text import Text

        self._out.print(Padding(Text(text, style="bold"), (1, 0, 1, 0)))

    def _run(self, *arguments: str) -> None:
        self._run_line("segue " + " ".join(shlex.quote(a) for a in arguments))

    def _run_line(self, line: str) -> None:
        """Run a line of the shell, with this very Segue as its ``segue``."""
        from rich.text import Text

        self._out.print(Text(f"$ {line}", style="cyan"))
        sys.stdout.flush()
        call = "import sys; from segue_cli.main import main; sys.exit(main())"
        this = f'segue() {{ {shlex.quote(sys.executable)} -c {shlex.quote(call)} "$@"; }}'
        done = subprocess.run(
            ["/bin/sh", "-c", f"{this}\n{line}"], cwd=self._folder, env=self._environ, check=False
        )
        if done.returncode != 0:
            raise SystemExit(done.returncode)

    def _compare_tempi(self) -> bool:
        from segue_cli.demo_catalogue import SONGS

        rows = table("file", ">made with", ">found")
        right = True
        for song in SONGS:
            if song.bpm is None:
                continue
            with open(self._find("beats", os.path.basename(song.name)), "rb") as file:
                found = float(json.load(file)["tempo_bpm"])
            right = right and abs(found - song.bpm) <= TEMPO_TOLERANCE * song.bpm
            rows.add_row(song.name, f"{song.bpm:.0f} bpm", f"{found:.1f} bpm")
        self._out.print(rows)
        return right

    def _find(self, job: str, file_name: str) -> str:
        """The artifact of a job for a file of the catalogue."""
        top = os.path.join(self._folder, ".segue/artifacts", job)
        for at, _, names in os.walk(top):
            if os.path.basename(at) == file_name and names:
                return os.path.join(at, names[0])
        raise ConfigurationError(f"{job} wrote nothing for {file_name!r}; run the tour again")

    def _write_changed_graph(self) -> None:
        from segue.stack import SHIPPED

        with open(SHIPPED, encoding="utf-8") as file:
            text = file.read()
        old = "run: segue.features.rhythm:beats\n"
        new = f"{old}    params: {{start_bpm: 100.0}}\n"
        with open(os.path.join(self._folder, "jobs.yaml"), "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))
