"""Other programs that compute what Segue's jobs compute, called alike.

Each runs in the environment that has it: librosa, pyloudnorm and ffmpeg in Segue's own, BeatNet in
the one of ``locks/truth.txt``.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def librosa_beats(y: NDArray[np.float32], sr: int) -> dict[str, Any]:
    """Return the beats of `librosa.beat.beat_track` with its defaults."""
    import librosa
    import numpy as np

    tempo, beats = librosa.beat.beat_track(y=y, sr=sr, units="time")
    return {"tempo_bpm": float(np.ravel(tempo)[0]), "beat_times_s": list(map(float, beats))}


@lru_cache(maxsize=1)
def load_beatnet() -> tuple[Any, Any]:
    """Return BeatNet's network and the decoder that its offline mode uses."""
    from madmom_infer.features.downbeats import DBNDownBeatTrackingProcessor

    from truth.beatnet import FRAMES_PER_SECOND, Network

    decoder = DBNDownBeatTrackingProcessor(beats_per_bar=[2, 3, 4], fps=FRAMES_PER_SECOND)
    return Network(), decoder


def fit_tempo(times: NDArray[np.float64]) -> float:
    """Return the slope of a line through beats, in beats a minute; a gap counts as its beats."""
    import numpy as np

    distances = np.diff(times)
    index = np.concatenate([[0], np.cumsum(np.rint(distances / np.median(distances)))])
    return float(60 / np.polyfit(index, times, 1)[0])


def beatnet_beats(y: NDArray[np.float32], sr: int) -> dict[str, Any]:
    """Return the beats and first beats of BeatNet 1.1.3 in its offline mode."""
    from truth.beatnet import compute_features

    network, decoder = load_beatnet()
    found = decoder(network.activate(compute_features(y, sr)))
    if len(found) < 2:
        return {
            "tempo_bpm": None,
            "beat_times_s": [],
            "downbeat_times_s": [],
            "beats_per_bar": None,
        }
    times, position = found.T
    return {
        "tempo_bpm": fit_tempo(times),
        "beat_times_s": times.tolist(),
        "downbeat_times_s": times[position == 1].tolist(),
        "beats_per_bar": int(position.max()),
    }


def pyloudnorm_loudness(y: NDArray[np.float32], sr: int) -> dict[str, Any]:
    """Return the integrated loudness and the loudness range by pyloudnorm."""
    import numpy as np
    import pyloudnorm

    samples = y.T.astype(np.float64)
    meter = pyloudnorm.Meter(sr)
    return {
        "integrated_lufs": float(meter.integrated_loudness(samples)),
        "range_lu": float(meter.loudness_range(samples)) if len(samples) > 3 * sr else None,
    }


def ffmpeg_loudness(y: NDArray[np.float32], sr: int) -> dict[str, Any]:
    """Return what the filter ``ebur128`` of ffmpeg measures; the true peak is rounded to 0.1."""
    import imageio_ffmpeg
    import soundfile

    # The summary is rounded; the running values are not, and the last is that of the whole file.
    filters = ["ebur128=metadata=1:peak=true:framelog=verbose"]
    # One filter prints all values: several would write into each other's lines.
    filters.append("ametadata=mode=print:file=-")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, y.T, sr, "FLOAT")
        program = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostats", "-threads", "1", "-i", file.name]
        done = subprocess.run(
            [*program, "-af", ",".join(filters), "-f", "null", "/dev/null"],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.findall(r"lavfi\.r128\.(\w+)=(\S+)", done.stdout)
    values = dict(found)
    (peak,) = re.findall(r"True peak:\s+Peak:\s+(-?inf|-?[\d.]+)", done.stderr)
    return {
        "integrated_lufs": float(values["I"]),
        "range_lu": float(values["LRA"]),
        "momentary_max_lufs": max(float(value) for key, value in found if key == "M"),
        "short_term_max_lufs": max(float(value) for key, value in found if key == "S"),
        "true_peak_dbtp": float(peak),
    }
