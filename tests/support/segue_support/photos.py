"""Photographs that come with the packages that Segue needs: matplotlib's and scikit-learn's."""

from __future__ import annotations

import os
from importlib.util import find_spec

HOPPER = ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")  # an admiral, 512 x 600
CHINA = ("sklearn", "datasets/images/china.jpg")  # a palace, 640 x 427
FLOWER = ("sklearn", "datasets/images/flower.jpg")  # a dahlia, 640 x 427


def find_photo(photo: tuple[str, str]) -> str:
    """Return the path of a photograph; its package is not imported."""
    package, name = photo
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return os.path.join(os.path.dirname(spec.origin), name)
