"""``segue demo``: a tour of Segue on a small generated catalogue, and one of several teams."""

from __future__ import annotations

import json
import os

import click

from segue.errors import ConfigurationError
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.tour import TourShell
from segue_cli.views.output import Output, build_table

TEMPO_TOLERANCE = 0.002
FOLDER, TEAMS_FOLDER = ".segue/demo", ".segue/demo-teams"


@command(
    requires=("functions", "pipelines"),
    examples=("segue demo", "segue demo --teams", "segue demo --folder /tmp/tour"),
)
@click.option("--teams", is_flag=True, help="Show several teams that share one job instead.")
@click.option(
    "--folder",
    metavar="FOLDER",
    help="The working folder. The files of an earlier tour are deleted.  [default: "
    f"{FOLDER}; with --teams, {TEAMS_FOLDER}]",
    shell_complete=complete_path,
)
def demo(context: Context, teams: bool, folder: str | None) -> ExitCode:
    """Generate a small music catalogue and show what Segue does with it, in about a minute.

    With --teams, four teams run their graphs side by side: the tour shows what runs when one of
    them requests a result, and what runs when a file arrives.

    Each line that starts with $ is a command that the tour runs exactly as shown. You can run it
    yourself in the folder of the tour.
    """
    if folder == "":
        raise ConfigurationError("--folder is empty; name a folder, or leave it out")
    path = os.path.realpath(folder or (TEAMS_FOLDER if teams else FOLDER))
    with TourShell(context.output, path) as shell:
        if teams:
            from segue_cli.teams_tour import TeamsTour

            return TeamsTour(context.output, shell).run()
        return _Tour(context.output, shell).run()


class _Tour:
    """The steps in order; the first failing command ends the tour."""

    def __init__(self, output: Output, shell: TourShell) -> None:
        self._output = output
        self._shell = shell
        self._folder = shell.folder
        self._tempi: dict[str, float] = {}  # that beats has found, by file

    def run(self) -> ExitCode:
        """Run the tour."""
        self._prepare()
        self._shell.show(
            "Segue computes features of a media catalogue: only missing results, and only the jobs "
            "they depend on. These are the jobs that ship with it, each below the job it reads "
            "from.",
            "segue graph",
        )
        self._shell.show(
            "What would it take to compute the energy of each beat, for all files?",
            "segue plan --prefix catalogue --job energy",
        )
        self._shell.show(
            "Compute it. Three of the files are broken, so some failures are tolerated.",
            "segue backfill --prefix catalogue --job energy --tolerate 30%",
        )
        self._shell.show(
            "Downsample and beats ran because energy depends on them. All other jobs did not: "
            "nothing requested them.",
            "segue status",
        )
        self._shell.show(
            "Are the results right? The true tempo of each piece, and the tempo that beats found:"
        )
        if not self._compare_tempi():
            return ExitCode.FAILURES
        self._shell.show(
            "The failures did not stop the rest. Each is recorded with its kind.", "segue failures"
        )
        self._shell.show(
            "Run it again: there is nothing left to do.",
            "segue backfill --prefix catalogue --job energy --tolerate 30%",
        )
        self._write_changed_graph()
        self._shell.show(
            "Change a parameter of beats in a copy of the graph. Now beats and energy are stale, "
            "but downsample is not. As the jobs have been measured, the cost of the change can be "
            "estimated.",
            "segue plan --graph jobs.yaml --prefix catalogue --job energy",
        )
        self._shell.show(
            "Everything about one file:", "segue explain 'catalogue/night bus/01 Terminal.ogg'"
        )
        self._shell.show(
            "A spectrogram image, of one file only:",
            "segue backfill --prefix 'catalogue/night bus/01 Terminal.ogg' --job spectrogram",
        )
        self._shell.print(f"  {os.path.relpath(self._find('spectrogram', '01 Terminal.ogg'))}")
        self._shell.show(
            "Segue can also watch for new files. The whole system now runs on this folder, with "
            "the same components as in the cloud, while two files are copied in. All of their "
            "features are computed; without --no-catch-up, so would be what the other files lack.",
            "(sleep 1; cp encore/* 'catalogue/night bus/') & "
            "segue up catalogue --no-catch-up --until-idle 2",
            "segue explain 'catalogue/night bus/Rappel.flac'",
        )
        self._shell.show(
            "Overwrite one file and delete the other while Segue is not running: the next start "
            "finds both changes. Features of the old version are never mistaken for features of "
            "the new one.",
            "mv 'catalogue/night bus/Bis.flac' 'catalogue/night bus/Rappel.flac'",
            "segue up catalogue --no-catch-up --until-idle 1",
            "segue status --prefix 'catalogue/night bus/'",
            "segue explain 'catalogue/night bus/Bis.flac'",
        )
        self._shell.show(
            f"All of this is in {os.path.relpath(self._folder)}; there, segue console lets you "
            "see and hear it. To try it on your own music: "
            "segue backfill --prefix ~/Music --job beats, or segue up ~/Music"
        )
        if self._output.as_json:
            self._output.write_json({"folder": self._folder, "tempi_bpm": self._tempi})
        return ExitCode.OK

    def _prepare(self) -> None:
        from segue_cli.demo_catalogue import SONGS, make_catalogue, make_encore

        self._shell.create_folder()
        make_catalogue(os.path.join(self._folder, "catalogue"))
        make_encore(os.path.join(self._folder, "encore"))
        self._shell.show("A small catalogue whose tempi and loudness are known:")
        rows = build_table("file", "content")
        for song in SONGS:
            what = f"music at {song.bpm:g} bpm" if song.bpm else "a tone"
            what = f"a tone at {song.lufs:g} LUFS" if song.lufs else what
            rows.add_row(song.name, f"broken: {song.broken}" if song.broken else what)
        self._shell.print(rows)

    def _compare_tempi(self) -> bool:
        from segue_cli.demo_catalogue import SONGS

        rows = build_table("file", ">true tempo", ">found")
        right = True
        for song in SONGS:
            if song.bpm is None:
                continue
            with open(self._find("beats", os.path.basename(song.name)), "rb") as file:
                found = self._tempi[song.name] = float(json.load(file)["tempo_bpm"])
            right = right and abs(found - song.bpm) <= TEMPO_TOLERANCE * song.bpm
            rows.add_row(song.name, f"{song.bpm:.0f} bpm", f"{found:.1f} bpm")
        self._shell.print(rows)
        return right

    def _find(self, job: str, file_name: str) -> str:
        """Return the path of a job's artifact for a file of the catalogue."""
        top = os.path.join(self._folder, ".segue/artifacts", job)
        for folder, _, names in os.walk(top):
            if os.path.basename(folder) == file_name and names:
                return os.path.join(folder, names[0])
        raise ConfigurationError(f"{job} wrote no result for {file_name!r}; run the tour again")

    def _write_changed_graph(self) -> None:
        from segue.model.shipped_graphs import DEFAULT_PATH

        with open(DEFAULT_PATH, encoding="utf-8") as file:
            text = file.read()
        old = "run: segue.features.rhythm:beats\n"
        new = f"{old}    params: {{start_bpm: 100.0}}\n"
        with open(os.path.join(self._folder, "jobs.yaml"), "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))
