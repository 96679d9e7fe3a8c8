"""What jobs do, as anybody would call libraries for it: for `bench.light` and `bench.jobs`.

Models run with onnxruntime's own settings, with one thread, on the whole file where that is
possible; how a model's input is made is part of the call. Three packages are needed for some of it
that Segue does without: faster-whisper, imagehash and rapidocr. What is not in `PLAIN` has no
library of such a licence that could be compared: `danceability`, `instrumentalness`. The beats of
the graph ``rhythm`` are compared with BeatNet in ``make truth``.
"""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

SOURCE = "source"
WAV = ("-c:a", "pcm_f32le", "-f", "wav")


@dataclass(slots=True, kw_only=True)
class Given:
    """What a plain call gets: a media file, and the values of jobs up to the one compared."""

    path: str
    values: Mapping[str, Any]  # by job, or job.output
    folder: str  # for files
    models: Mapping[str, str]  # the paths of the job's models, by parameter


# Sound


def decode(given: Given) -> None:
    """Decode with ffmpeg."""
    _run_ffmpeg(given.path, "-vn", *WAV, f"{given.folder}/plain.wav")


def downsample(given: Given, job: str = "downsample") -> None:
    """Mix and resample."""
    import librosa
    import soxr

    audio, target = given.values[SOURCE].audio(), given.values[job]
    y = librosa.to_mono(audio.y) if target.channels == 1 else audio.y.T
    soxr.resample(y, audio.sr, target.sr, quality="HQ")


def downsample_for_speech(given: Given) -> None:
    """Mix and resample to 16 kHz."""
    downsample(given, "downsample_16khz")


def resample_stereo(given: Given) -> None:
    """Resample both channels to 44.1 kHz; of what has this rate, copy it."""
    downsample(given, "stereo_44khz")


def measure_loudness(given: Given) -> None:
    """Measure with ffmpeg's filter."""
    wav = given.values[SOURCE].decode_to_wav()
    _run_ffmpeg(wav, "-af", "ebur128=peak=true:framelog=verbose", "-f", "null", "-")


def track_beats(given: Given) -> None:
    """Track beats with librosa."""
    import librosa
    import numpy as np

    y, sr = given.values["downsample"].y, given.values["downsample"].sr
    envelope = librosa.onset.onset_strength(y=y, sr=sr, aggregate=np.median)
    librosa.beat.beat_track(onset_envelope=envelope, sr=sr)


def draw_spectrogram(given: Given) -> None:
    """Draw with librosa and matplotlib, of the size that the job has."""
    import librosa
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    y, sr = given.values["downsample"].y, given.values["downsample"].sr
    height_px, width_px, _ = given.values["spectrogram"].shape
    hop_length = len(y) // (2 * width_px)
    S = librosa.feature.melspectrogram(y=y, sr=sr, hop_length=hop_length, n_mels=224, fmin=27.5)
    figure = Figure(figsize=(width_px / 160, height_px / 160), dpi=160)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    levels = librosa.power_to_db(S, ref=np.max)
    picture = axes.imshow(levels, origin="lower", aspect="auto", cmap="magma")
    figure.colorbar(picture)
    canvas.draw()
    np.array(np.asarray(canvas.buffer_rgba())[..., :3])


def measure_energy(given: Given) -> None:
    """Compute the RMS of each beat in double precision."""
    import numpy as np

    y, sr = given.values["downsample"].y, given.values["downsample"].sr
    times_s = given.values["beats"]["beat_times_s"]
    edges = [0, *(round(time_s * sr) for time_s in times_s), len(y)]
    for start, end in pairwise(edges):
        if end > start:
            np.sqrt(np.mean(np.square(y[start:end], dtype=np.float64)))


def probe(given: Given) -> None:
    """Read a file's headers with PyAV."""
    import av

    with av.open(given.path) as container:
        for stream in container.streams:
            _ = (stream.type, stream.codec_context.codec.name, stream.duration, stream.metadata)
        _ = (container.format.name, container.duration, container.metadata)


def find_key(given: Given) -> None:
    """Fold a constant-Q transform to pitch classes, in the tuning that librosa estimates."""
    import librosa

    audio = given.values["downsample"]
    librosa.feature.chroma_cqt(y=audio.y, sr=audio.sr)


def take_fingerprint(given: Given) -> None:
    """Take ffmpeg's fingerprint of what AcoustID looks at."""
    chromaprint = ("-ac", "1", "-ar", "11025", "-f", "chromaprint", "-")
    _run_ffmpeg(given.values[SOURCE].decode_to_wav(), "-t", "120", *chromaprint)


# Sound, with models


def find_speech(given: Given) -> None:
    """Call the network once, for the whole file."""
    from segue.features.filter_bank import compute_log_mel

    features = compute_log_mel(given.values["downsample_16khz"].y)
    _open(given.models["model"]).run(None, {"features": features})


def detect_language(given: Given) -> None:
    """Detect the language of the first three windows with faster-whisper."""
    y = given.values["downsample_16khz"].y
    whisper = _open_whisper(*_sort_whisper(given.models))
    whisper.detect_language(y, language_detection_segments=3, language_detection_threshold=1.0)


def transcribe(given: Given) -> None:
    """Transcribe with faster-whisper."""
    segments, _ = _open_whisper(*_sort_whisper(given.models)).transcribe(
        given.values["downsample_16khz"].y,
        language=given.values["language"]["language"] or "en",
        temperature=0.0,
        condition_on_previous_text=False,
    )
    for _ in segments:  # it transcribes while they are read
        pass


def find_pitch(given: Given) -> None:
    """Call the network once, for the whole file."""
    import numpy as np

    y = given.values["downsample_16khz"].y[np.newaxis]
    bounds = {"fmin": np.float32(46.875), "fmax": np.float32(2093.75)}
    session = _open(given.models["model"])
    session.run(None, {"audio": y, **{name: np.array(hz) for name, hz in bounds.items()}})


def find_notes(given: Given) -> None:
    """Call the network for windows that overlap by 30 frames; make no notes."""
    import numpy as np

    size, hop = 43_844, 43_844 - 30 * 256
    session = _open(given.models["model"])
    name = session.get_inputs()[0].name
    y = np.pad(given.values["downsample"].y, (15 * 256, size))
    for start in range(0, len(y) - size, hop):
        session.run(None, {name: y[np.newaxis, start : start + size, np.newaxis]})


def tag(given: Given) -> None:
    """Compute mel energies with librosa, and call the network once, for the whole file."""
    import librosa
    import numpy as np

    audio = given.values["downsample_16khz"]
    S = librosa.feature.melspectrogram(y=audio.y, sr=audio.sr, n_fft=512, hop_length=256, n_mels=96)
    x = np.log10(10_000 * S.T + 1).astype(np.float32)
    x = x[: len(x) // 187 * 187].reshape(-1, 187, 96)
    _open(given.models["model"]).run(["tags", "embedding"], {"x": x})


def separate(given: Given) -> None:
    """Transform with librosa, mask windows that do not overlap, and transform back."""
    import librosa
    import numpy as np

    y, seen, frames = given.values["stereo_44khz"].y, 1024, 512
    session = _open(given.models["model"])
    D = np.moveaxis(librosa.stft(y, n_fft=4096, hop_length=1024), 1, 2)
    for start in range(0, D.shape[1], frames):
        part = D[:, start : start + frames]
        spectra = np.zeros((1, 2, frames, seen), np.float32)
        spectra[0, :, : part.shape[1]] = np.abs(part[..., :seen])
        vocals, rest = (
            claim[0, :, : part.shape[1]] ** 2 for claim in session.run(None, {"spectra": spectra})
        )
        part[..., :seen] *= vocals / (vocals + rest + np.float32(1e-10))
        part[..., seen:] = 0
    voice = librosa.istft(np.moveaxis(D, 1, 2), n_fft=4096, hop_length=1024, length=y.shape[1])
    y - voice


def measure_vocals(given: Given) -> None:
    """Compute the RMS of each 100 ms of the vocals with librosa."""
    import librosa

    audio = given.values["separation.vocals"]
    hop = audio.sr // 10
    librosa.feature.rms(y=audio.y, frame_length=hop, hop_length=hop)


# Pictures and films


def list_key_frames(given: Given) -> None:
    """List the key frames with PyAV, and decode the first one."""
    import av

    with av.open(given.path) as container:
        [(p.pts, p.size) for p in container.demux(video=0) if p.is_keyframe]
    with av.open(given.path) as container:
        next(container.decode(video=0)).to_ndarray(format="rgb24")


def find_cuts(given: Given) -> None:
    """Find cuts with ffmpeg's filter."""
    _run_ffmpeg(given.path, "-an", "-vf", "format=yuv420p,scdet=threshold=10", "-f", "null", "-")


def make_thumbnail(given: Given) -> None:
    """Scale an image with Pillow; choose a key frame with ffmpeg's filter, and scale it."""
    import numpy as np
    from PIL import Image

    if not _is_film(given.path):
        image = Image.open(given.path)
        image.thumbnail((320, 320), Image.Resampling.LANCZOS)
        np.asarray(image.convert("RGB"))
        return
    chosen = (
        "-vf",
        "thumbnail=n=30,scale=320:-2:flags=lanczos",
        "-frames:v",
        "1",
        "-fps_mode",
        "passthrough",
    )
    _run_ffmpeg(
        given.path, "-an", *chosen, f"{given.folder}/plain.png", before=("-skip_frame", "nokey")
    )


def hash_pictures(given: Given) -> None:
    """Hash with imagehash."""
    import imagehash

    for image in _iterate_pictures(given.path):
        imagehash.phash(image)
        imagehash.dhash(image)


def find_objects(given: Given) -> None:
    """Scale with Pillow, and call the network; choose nothing of what it says."""
    import numpy as np
    from PIL import Image

    session = _open(given.models["model"])
    for image in _iterate_pictures(given.path):
        square = Image.new("RGB", (512, 512))
        image.thumbnail((512, 512), Image.Resampling.BILINEAR, reducing_gap=None)
        square.paste(image, ((512 - image.width) // 2, (512 - image.height) // 2))
        pixels = np.asarray(square, np.float32).transpose(2, 0, 1)[np.newaxis]
        session.run(None, {"images": np.ascontiguousarray(pixels)})


def rate_pictures(given: Given) -> None:
    """Scale and compress with Pillow, as the model's authors do, and call the network."""
    import numpy as np
    from PIL import Image

    session = _open(given.models["model"])
    name = session.get_inputs()[0].name
    for image in _iterate_pictures(given.path):
        seen = image.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
        seen.save(file := io.BytesIO(), "JPEG")
        pixels = np.asarray(Image.open(file), np.float32)[..., ::-1]
        pixels = pixels - np.float32([104, 117, 123])
        session.run(None, {name: pixels[np.newaxis]})


def read_text(given: Given) -> None:
    """Read with rapidocr."""
    import numpy as np

    reader = _open_rapidocr(given.models["model"])
    for image in _iterate_pictures(given.path):
        reader(np.asarray(image)[..., ::-1], use_cls=False)


PLAIN: Mapping[str, Callable[[Given], None]] = {
    "decode": decode,
    "downsample": downsample,
    "loudness": measure_loudness,
    "beats": track_beats,
    "energy": measure_energy,
    "key": find_key,
    "fingerprint": take_fingerprint,
    "spectrogram": draw_spectrogram,
    "probe": probe,
    "downsample_16khz": downsample_for_speech,
    "stereo_44khz": resample_stereo,
    "speech": find_speech,
    "language": detect_language,
    "transcript": transcribe,
    "pitch": find_pitch,
    "notes": find_notes,
    "tags": tag,
    "separation": separate,
    "instrumentalness_by_vocals": measure_vocals,
    "frames": list_key_frames,
    "cuts": find_cuts,
    "thumbnail": make_thumbnail,
    "phash": hash_pictures,
    "objects": find_objects,
    "moderation": rate_pictures,
    "text": read_text,
}


def _run_ffmpeg(source: str, *arguments: str, before: tuple[str, ...] = ()) -> None:
    from segue.media.ffmpeg import find_ffmpeg

    quiet = [find_ffmpeg(), "-nostdin", "-v", "error", "-y", "-threads", "1", *before]
    one = ("-filter_threads", "1", "-threads", "1")
    subprocess.run([*quiet, "-i", source, *one, *arguments], check=True, stdout=subprocess.DEVNULL)


def _is_film(path: str) -> bool:
    return path.endswith((".mp4", ".mkv", ".mov", ".webm"))


def _iterate_pictures(path: str) -> Iterator[Any]:
    """Yield an image, or the key frames of a film, as Pillow's images."""
    import av
    from PIL import Image

    if not _is_film(path):
        yield Image.open(path).convert("RGB")
        return
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            yield Image.fromarray(frame.to_ndarray(format="rgb24", threads=1))


@cache
def _open(path: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _sort_whisper(models: Mapping[str, str]) -> tuple[str, str, str]:
    return models["model"], models["config"], models["vocabulary"]


@cache
def _open_whisper(model: str, config: str, vocabulary: str) -> Any:
    """Open a Whisper with faster-whisper, whose tokenizer is made of the vocabulary."""
    import faster_whisper
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = Path(vocabulary).read_text("utf-8").split("\n")
    numbers = {word: number for number, word in enumerate(words) if word}
    tokenizer = Tokenizer(models.BPE(numbers, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([word for word in numbers if re.fullmatch(r"<\|.*\|>", word)])
    files = {
        "model.bin": Path(model).read_bytes(),
        "config.json": Path(config).read_bytes(),
        "vocabulary.txt": Path(vocabulary).read_bytes(),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    return faster_whisper.WhisperModel(
        "whisper", device="cpu", compute_type="int8", cpu_threads=1, files=files
    )


@cache
def _open_rapidocr(folder: str) -> Any:
    import logging

    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return RapidOCR(
        params={
            "Det.model_path": f"{folder}/PP-OCRv6_det_small.onnx",
            "Rec.model_path": f"{folder}/PP-OCRv6_rec_small.onnx",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
