"""The mel spectrogram, against librosa's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from segue.features import mel
from segue.testing import sound

pytestmark = pytest.mark.slow

# Two single-precision FFTs of the same frames, relative to the loudest point.
TOLERANCE = 1e-6


@pytest.mark.parametrize("frames", [1, 511, 512, 2048, 22050, 300_000])
def test_it_is_librosas_whatever_the_length(frames):
    y = sound.noise(0, frames / 22050, sr=22050).y
    ours = mel.compute_mel_power(y, 22050)
    padded = np.pad(y, 1024)  # librosa warns of what is shorter than its window
    theirs = librosa.feature.melspectrogram(y=padded, sr=22050, center=False)
    assert ours.shape == theirs.shape == (128, 1 + frames // 512)
    assert np.abs(ours - theirs).max() <= TOLERANCE * theirs.max()


def test_parameters_mean_what_they_mean_to_librosa():
    audio = sound.music(0, duration_s=3.0, sr=16000, channels=1)
    how = {"n_fft": 1024, "hop_length": 160, "n_mels": 64, "fmin": 50.0, "fmax": 7000.0}
    ours = mel.compute_mel_power(audio.y, audio.sr, **how)
    theirs = librosa.feature.melspectrogram(y=audio.y, sr=audio.sr, **how)
    assert np.abs(ours - theirs).max() <= TOLERANCE * theirs.max()
