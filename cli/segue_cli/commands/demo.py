"""``segue demo``: a tour of Segue on a small generated catalogue."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys

import click

from segue.errors import ConfigurationError
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.views.output import build_table

MARK = ".segue-demo"
TEMPO_TOLERANCE = 0.04  # librosa estimates the tempo in steps of 3 % here


@command(
    requires=("functions", "pipelines"), examples=("segue demo", "segue demo --folder /tmp/tour")
)
@click.option(
    "--folder",
    default=".segue/demo",
    metavar="FOLDER",
    help="The working folder. The files of an earlier tour are deleted.",
    shell_complete=complete_path,
)
def demo(context: Context, folder: str) -> ExitCode:
    """Generate a small music catalogue and show what Segue does with it, in about a minute.

    Each line that starts with $ is a command that the tour runs exactly as shown. You can run it
    yourself in the folder of the tour.
    """
    return _Tour(context, os.path.abspath(folder)).run()


class _Tour:
    """The steps in order; the first failing command ends the tour."""

    def __init__(self, context: Context, folder: str) -> None:
        self._out = context.output
        self._folder = folder
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}

    def run(self) -> ExitCode:
        """Run the tour."""
        self._prepare()
        self._show(
            "Segue computes features of a media catalogue: only missing results, and only the jobs "
            "they depend on. These are the jobs that ship with it, each below the job it reads "
            "from.",
            "segue graph",
        )
        self._show(
            "What would it take to compute the energy of each beat, for all files?",
            "segue plan --prefix catalogue --job energy",
        )
        self._show(
            "Compute it. The first beat tracking on a machine compiles for half a minute. Three of "
            "the files are broken, so some failures are tolerated.",
            "segue backfill --prefix catalogue --job energy --tolerate 30%",
        )
        self._show(
            "Downsample and beats ran because energy depends on them. Loudness and spectrogram did "
            "not: nothing requested them.",
            "segue status",
        )
        self._show(
            "Are the results right? The true tempo of each piece, and the tempo that beats found:"
        )
        if not self._compare_tempi():
            return ExitCode.FAILURES
        self._show(
            "The failures did not stop the rest. Each is recorded with its kind.", "segue failures"
        )
        self._show(
            "Run it again: there is nothing left to do.",
            "segue backfill --prefix catalogue --job energy --tolerate 30%",
        )
        self._write_changed_graph()
        self._show(
            "Change a parameter of beats in a copy of the graph. Now beats and energy are stale, "
            "but downsample is not. As the jobs have been measured, the cost of the change can be "
            "estimated.",
            "segue plan --graph jobs.yaml --prefix catalogue --job energy",
        )
        self._show(
            "Everything about one file:", "segue explain 'catalogue/night bus/01 Terminal.ogg'"
        )
        self._show(
            "A spectrogram image, of one file only:",
            "segue backfill --prefix 'catalogue/night bus/01 Terminal.ogg' --job spectrogram",
        )
        self._out.print(f"  {os.path.relpath(self._find('spectrogram', '01 Terminal.ogg'))}")
        self._show(
            "Segue can also watch for new files. The whole system now runs on this folder, with "
            "the same components as in the cloud, while two files are copied in. All of their "
            "features are computed.",
            "(sleep 1; cp encore/* 'catalogue/night bus/') & segue up catalogue --until-idle 2",
            "segue explain 'catalogue/night bus/Rappel.flac'",
        )
        self._show(
            "Overwrite one file and delete the other while Segue is not running: the next start "
            "finds both changes. Features of the old version are never mistaken for features of "
            "the new one.",
            "mv 'catalogue/night bus/Bis.flac' 'catalogue/night bus/Rappel.flac'",
            "segue up catalogue --until-idle 1",
            "segue status --prefix 'catalogue/night bus/'",
            "segue explain 'catalogue/night bus/Bis.flac'",
        )
        self._show(
            f"All of this is in {os.path.relpath(self._folder)}. To try it on your own music: "
            "segue backfill --prefix ~/Music --job beats, or segue up ~/Music"
        )
        return ExitCode.OK

    def _prepare(self) -> None:
        from segue_cli.demo_catalogue import SONGS, make_catalogue, make_encore

        mark = os.path.join(self._folder, MARK)
        if os.path.isdir(self._folder) and os.listdir(self._folder) and not os.path.exists(mark):
            raise ConfigurationError(
                f"{self._folder!r} is not empty and was not created by a tour; choose another "
                "folder with --folder"
            )
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            os.makedirs(self._folder)
            with open(mark, "w", encoding="ascii"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder!r} cannot be created ({error.strerror}); choose another folder "
                "with --folder"
            ) from error
        make_catalogue(os.path.join(self._folder, "catalogue"))
        make_encore(os.path.join(self._folder, "encore"))
        self._show("A small catalogue whose tempi and loudness are known:")
        rows = build_table("file", "content")
        for song in SONGS:
            what = f"music at {song.bpm:g} bpm" if song.bpm else "a tone"
            what = f"a tone at {song.lufs:g} LUFS" if song.lufs else what
            rows.add_row(song.name, f"broken: {song.broken}" if song.broken else what)
        self._out.print(rows)

    def _show(self, heading: str, *lines: str) -> None:
        """Print a heading and run shell command lines, with this installation as ``segue``."""
        from rich.padding import Padding
        from rich.text import Text

        self._out.print(Padding(Text(heading, style="bold"), (1, 0, 1, 0)))
        call = "import sys; from segue_cli.main import main; sys.exit(main())"
        this = f'segue() {{ {shlex.quote(sys.executable)} -P -c {shlex.quote(call)} "$@"; }}'
        for line in lines:
            self._out.print(Text(f"$ {line}", style="cyan"))
            sys.stdout.flush()
            script = f"{this}\n{line}"
            done = subprocess.run(
                ["/bin/sh", "-c", script], cwd=self._folder, env=self._environ, check=False
            )
            if done.returncode != 0:
                raise SystemExit(done.returncode)

    def _compare_tempi(self) -> bool:
        from segue_cli.demo_catalogue import SONGS

        rows = build_table("file", ">true tempo", ">found")
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
        """Return the path of a job's artifact for a file of the catalogue."""
        top = os.path.join(self._folder, ".segue/artifacts", job)
        for folder, _, names in os.walk(top):
            if os.path.basename(folder) == file_name and names:
                return os.path.join(folder, names[0])
        raise ConfigurationError(f"{job} wrote no result for {file_name!r}; run the tour again")

    def _write_changed_graph(self) -> None:
        from segue.stack import SHIPPED_GRAPH

        with open(SHIPPED_GRAPH, encoding="utf-8") as file:
            text = file.read()
        old = "run: segue.features.rhythm:beats\n"
        new = f"{old}    params: {{start_bpm: 100.0}}\n"
        with open(os.path.join(self._folder, "jobs.yaml"), "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))
