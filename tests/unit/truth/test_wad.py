"""Music in WAD archives."""

from __future__ import annotations

import pytest
from truth.wad import ENTRY, HEADER, read_music


def build(lumps):
    data = b"".join(lumps.values())
    directory, start = b"", HEADER.size
    for name, lump in lumps.items():
        directory += ENTRY.pack(start, len(lump), name.encode())
        start += len(lump)
    return HEADER.pack(b"IWAD", len(lumps), HEADER.size + len(data)) + data + directory


def test_midi_files_among_the_music_are_found_by_name():
    wad = build(
        {"D_E1M1": b"MThd 1", "PLAYPAL": b"MThd 2", "D_INTRO": b"MUS\x1a", "D_E1M2": b"MThd"}
    )
    assert read_music(wad) == {"E1M1": b"MThd 1", "E1M2": b"MThd"}


def test_anything_else_is_no_wad():
    with pytest.raises(ValueError, match="begins with b'RIFF'"):
        read_music(b"RIFF" + bytes(20))
