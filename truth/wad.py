"""WAD archives of games for the Doom engine: their music."""

from __future__ import annotations

import struct

# The file: a magic, the number of lumps, and where their directory is; an entry of the directory:
# where the lump is, its size and its name.
HEADER = struct.Struct("<4sii")
ENTRY = struct.Struct("<ii8s")


def read_music(wad: bytes) -> dict[str, bytes]:
    """Return the MIDI files among the lumps of music, by name without its ``D_``.

    Raises
    ------
    ValueError
        If these are not the bytes of a WAD.
    """
    if wad[:4] not in {b"IWAD", b"PWAD"}:
        raise ValueError(f"not a WAD: it begins with {wad[:4]!r}, not with IWAD or PWAD")
    _, count, directory = HEADER.unpack_from(wad)
    music = {}
    for index in range(count):
        start, size, padded = ENTRY.unpack_from(wad, directory + index * ENTRY.size)
        name = padded.rstrip(b"\0").decode("ascii", "replace")
        lump = wad[start : start + size]
        if name.startswith("D_") and lump.startswith(b"MThd"):
            music[name.removeprefix("D_")] = lump
    return music
