"""The built-in jobs write the same bytes on processors that can do less than this one.

Libraries choose their code by what the processor can do, and other code may add in another order,
or round once where two roundings are usual. Here variables forbid what this processor can do. They
do not reach the code of soxr, libFLAC and ffmpeg.

numba's code for any processor is kept in pytest's cache: the first run compiles.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from segue.testing import sound
from segue_support.built_in_jobs import compute_artifacts

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the masks are for x86-64"
)

NUMPY = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
MASKS = {
    "Haswell": {
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in NUMPY if name != "X86_V3"),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F",
    },
    "Nehalem": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": " ".join(NUMPY),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-FMA4",
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
    },
}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Path:
    """A folder of music at the rate of CDs, and at another one."""
    folder = tmp_path_factory.mktemp("catalogue")
    sound.write(sound.music(1, bpm=96, duration_s=20.0), str(folder / "stereo.mp3"))
    sound.write(sound.music(2, bpm=128, duration_s=12.0, sr=48_000), str(folder / "48.flac"))
    return folder


@pytest.fixture(scope="module")
def expected(catalogue, tmp_path_factory) -> dict[str, bytes]:
    """The artifacts that this processor writes with all that it can do."""
    return compute_artifacts(sys.executable, catalogue, tmp_path_factory.mktemp("artifacts"), {})


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_artifacts_are_the_same_bytes_on_a(mask, catalogue, expected, tmp_path, pytestconfig):
    if "NUMBA_CPU_NAME" in mask:
        mask = {**mask, "XDG_CACHE_HOME": str(pytestconfig.cache.mkdir("processors"))}
    artifacts = compute_artifacts(sys.executable, catalogue, tmp_path, mask)
    assert artifacts.keys() == expected.keys()
    differing = {name.partition("/")[0] for name in expected if artifacts[name] != expected[name]}
    assert differing == set()
