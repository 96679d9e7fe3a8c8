"""A short sound in every container that Segue reads, images, and films in the usual codecs.

They are whole files to test with, and to mutate.

Most are written by the ffmpeg that is a dependency; those that it cannot write are built here.
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable

import imageio_ffmpeg

RATE_HZ = 22_050
SOUND = ("-f", "lavfi", "-i", "sine=440:d={duration_s}:r=22050", "-af", "volume=4")
FILM = ("-f", "lavfi", "-i", "testsrc=d={duration_s}:s=32x32:r=10")
PICTURE = ("-f", "lavfi", "-i", "testsrc=d={duration_s}:s=64x64:r=10")
STILL = ("-frames:v", "1")
BITEXACT = ("-fflags", "+bitexact", "-flags:a", "+bitexact", "-flags:v", "+bitexact")
# MPEG video knows few frame rates.
TV = ("-r", "25", "-c:v", "mpeg2video")

# The name of a file → the options to write it with.
ENCODED: dict[str, tuple[str, ...]] = {
    "pcm16.wav": (),
    "pcm24.wav": ("-c:a", "pcm_s24le"),
    "float.wav": ("-c:a", "pcm_f32le"),
    "adpcm.wav": ("-c:a", "adpcm_ms"),
    "rf64.wav": ("-rf64", "always"),
    "sound.w64": (),
    "sound.aiff": (),
    "sound.caf": (),
    "sound.au": (),
    "sound.voc": (),
    "sound.flac": (),
    "sound.mp3": ("-c:a", "libmp3lame"),
    "vorbis.ogg": ("-c:a", "libvorbis"),
    "opus.ogg": ("-c:a", "libopus"),
    "flac.ogg": ("-c:a", "flac"),
    "aac.m4a": ("-c:a", "aac"),
    "faststart.m4a": ("-c:a", "aac", "-movflags", "+faststart"),
    "fragmented.m4a": ("-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov"),
    "alac.m4a": ("-c:a", "alac"),
    "sound.mov": ("-c:a", "pcm_s16be"),
    "sound.aac": ("-c:a", "aac", "-f", "adts"),
    "sound.mka": ("-c:a", "flac"),
    "sound.webm": ("-c:a", "libopus"),
    "sound.wma": ("-c:a", "wmav2"),
    "sound.avi": ("-c:a", "libmp3lame"),
    "sound.flv": ("-c:a", "libmp3lame"),
    "aac.flv": ("-c:a", "aac"),
    "sound.ts": ("-c:a", "mp2", "-f", "mpegts"),
    "sound.mpg": ("-c:a", "mp2", "-f", "mpeg"),
    "sound.wv": ("-c:a", "wavpack"),
    "sound.tta": (),
    "sound.ac3": ("-ar", "44100"),
    "sound.eac3": ("-ar", "44100"),
    "sound.dts": ("-strict", "-2", "-ar", "44100", "-ac", "2"),
    "sound.amr": ("-c:a", "libopencore_amrnb", "-ar", "8000"),
}
FILMS: dict[str, tuple[str, ...]] = {
    "film.mp4": ("-c:v", "mpeg4", "-c:a", "aac"),
    "film.mkv": ("-c:v", "mpeg4", "-c:a", "libvorbis"),
    "film.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "film.flv": ("-c:v", "flv1", "-c:a", "libmp3lame"),
    "film.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "film.ts": (*TV, "-c:a", "mp2", "-f", "mpegts"),
    "film.mpg": (*TV, "-c:a", "mp2", "-f", "mpeg"),
}
BUILT = ("rifx.wav", "sound.gsm", "sound.dsf", "sound.dff")
NAMES = (*ENCODED, *FILMS, *BUILT)
# Images, and films without sound.
PICTURES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((f"image.{suffix}" for suffix in ("png", "jpg", "webp", "bmp")), STILL),
    **dict.fromkeys(("image.gif", "image.tiff"), STILL),
    "h264.mp4": ("-c:v", "libx264"),
    "fragmented.mp4": ("-c:v", "libx264", "-movflags", "+frag_keyframe+empty_moov"),
    "hevc.mkv": ("-c:v", "libx265"),
    "vp9.webm": ("-c:v", "libvpx-vp9"),
    "av1.mkv": ("-c:v", "libsvtav1"),
    "theora.ogv": ("-c:v", "libtheora"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "prores.mov": ("-c:v", "prores", "-pix_fmt", "yuv422p10le"),
    "h264.ts": ("-c:v", "libx264", "-f", "mpegts"),
}
# A part of these is a whole file: nothing in them says how long they are.
UNDECLARED = (
    *("sound.aac", "sound.ts", "sound.mpg", "film.ts", "film.mpg"),
    *("sound.ac3", "sound.eac3", "sound.dts", "sound.amr", "sound.gsm"),
)

# GSM 06.10: a frame of 20 ms of near silence, which begins with the bits 1101.
GSM_FRAME = bytes.fromhex("d820a2e15a500049249249245000492492492450004924924924500049249249" + "24")
DSD_RATE_HZ = 2_822_400  # the lowest, 64 times that of a CD
DSD_BLOCK_BYTES = 4096


def write_seed(name: str, folder: str, *, duration_s: float = 0.4) -> str:
    """Write one of `NAMES` or `PICTURES` into a folder; return its path."""
    path = os.path.join(folder, name)
    if name in BUILT:
        with open(path, "wb") as file:
            file.write(_build(name, duration_s))
        return path
    sources = [*FILM, *SOUND] if name in FILMS else [*PICTURE] if name in PICTURES else [*SOUND]
    inputs = [each.format(duration_s=duration_s) for each in sources]
    options = (*(ENCODED | FILMS | PICTURES)[name], *BITEXACT)
    run_bundled_ffmpeg(*inputs, *options, path)
    return path


def run_bundled_ffmpeg(*arguments: str) -> None:
    """Run the ffmpeg that is a dependency, which can write more formats than others."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def read_seeds(names: Iterable[str] = NAMES, *, duration_s: float = 0.4) -> dict[str, bytes]:
    """Return the bytes of seeds by name; by default, of all that have sound."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name in names:
            with open(write_seed(name, folder, duration_s=duration_s), "rb") as file:
                found[name] = file.read()
        return found


def _build(name: str, duration_s: float) -> bytes:
    if name == "rifx.wav":
        return _build_rifx(duration_s)
    if name == "sound.gsm":
        return GSM_FRAME * round(duration_s * 50)
    # 0x69 is silence: as many ones as zeros.
    blocks = max(1, round(duration_s * DSD_RATE_HZ / 8 / DSD_BLOCK_BYTES))
    sound = b"\x69" * (blocks * DSD_BLOCK_BYTES)
    return _build_dsf(sound) if name == "sound.dsf" else _build_dff(sound)


def _build_rifx(duration_s: float) -> bytes:
    import numpy as np

    t = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    sound = (0.5 * 32768 * np.sin(2 * np.pi * 440 * t)).astype(">i2").tobytes()
    form = struct.pack(">HHIIHH", 1, 1, RATE_HZ, RATE_HZ * 2, 2, 16)
    body = b"WAVE" + _chunk(b"fmt ", form) + _chunk(b"data", sound)
    return _chunk(b"RIFX", body)


def _chunk(name: bytes, body: bytes, size: str = ">I") -> bytes:
    return name + struct.pack(size, len(body)) + body


def _build_dsf(sound: bytes) -> bytes:
    form = struct.pack("<IIIIIIQII", 1, 0, 1, 1, DSD_RATE_HZ, 1, len(sound) * 8, 4096, 0)
    parts = b"fmt " + struct.pack("<Q", 52) + form
    parts += b"data" + struct.pack("<Q", 12 + len(sound)) + sound
    return b"DSD " + struct.pack("<QQQ", 28, 28 + len(parts), 0) + parts


def _build_dff(sound: bytes) -> bytes:
    wide = ">Q"
    properties = b"SND " + _chunk(b"FS  ", struct.pack(">I", DSD_RATE_HZ), wide)
    properties += _chunk(b"CHNL", struct.pack(">H4s", 1, b"C   "), wide)
    properties += _chunk(b"CMPR", b"DSD \x0enot compressed\x00", wide)
    body = b"DSD " + _chunk(b"FVER", bytes.fromhex("01050000"), wide)
    body += _chunk(b"PROP", properties, wide) + _chunk(b"DSD ", sound, wide)
    return _chunk(b"FRM8", body, wide)
