"""Writes ``phash.json``: the hashes that imagehash computes of photographs.

It needs imagehash (4.3.2 was used), which is not a dependency of Segue::

    python tests/golden/make_phash.py
"""

from __future__ import annotations

import json
from pathlib import Path

import imagehash
from PIL import Image

from segue_support.photos import CHINA, FLOWER, HOPPER, find_photo


def main() -> None:
    """Hash the photographs, upright and turned by 90 degrees."""
    found = {}
    for photo in (HOPPER, CHINA, FLOWER):
        image = Image.open(find_photo(photo)).convert("RGB")
        for name, turned in (("", image), (" turned", image.transpose(Image.Transpose.ROTATE_90))):
            found[photo[1].rpartition("/")[2] + name] = [
                str(imagehash.phash(turned)),
                str(imagehash.dhash(turned)),
            ]
    (Path(__file__).parent / "phash.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
