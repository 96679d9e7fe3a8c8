"""K weighting, the filter that precedes every measurement of loudness, at any sampling rate.

The standard gives two filters at 48 kHz: a shelf that models the head, and a high pass [1]_. Meters
take them to other rates by the bilinear transform, which bends the shelf: by 0.03 dB at 22.05 kHz,
0.3 dB at 8 kHz and 4 dB at 1 kHz. Here the poles keep their time constants, and the zeros are those
whose power response is the standard's at three frequencies: 0 Hz, the corner of the shelf, and the
upper end [2]_. At 48 kHz that yields the standard's own coefficients. At other rates, the response
deviates from that at 48 kHz by less than 0.0001 dB from 44.1 kHz on, 0.003 dB from 16 kHz, 0.04 dB
from 8 kHz, and 0.35 dB below; for white noise, by less than 0.05 dB at any rate.

Above 48 kHz, a low pass comes first, so that nothing counts which a file of 48 kHz could not hold:
ultrasound, or the noise of one-bit audio. It is flat to 0.01 dB up to 23 kHz, and 80 dB down from
28.5 kHz on.

.. [1] ITU-R BS.1770-5, "Algorithms to measure audio programme loudness and true-peak audio level,"
   annex 1, tables 1 and 2.
.. [2] Vicanek, M. "Matched Second Order Digital Filters." 2016.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REFERENCE_HZ = 48_000

# The coefficients b0, b1, b2, a1 and a2 of a filter of second order; a0 is 1.
Section = tuple[float, float, float, float, float]

SHELF: Section = (
    *(1.53512485958697, -2.69169618940638, 1.19839281085285),
    *(-1.69065929318241, 0.73248077421585),
)
HIGH_PASS: Section = (1.0, -2.0, 1.0, -1.99004745483398, 0.99007225036621)
CORNER_HZ = 1_682.0
# At low rates, the response is matched here instead; a part of the sampling rate.
LARGEST_CORNER = 0.3

# The low pass: an analogue elliptic filter of order 10 with 0.01 dB of ripple and 80 dB of
# attenuation, whose edge is 1 rad/s. For each pair of poles: the frequency of its zeros, the
# distance of the poles from the imaginary axis, and the square of their distance from 0.
EDGE_HZ = 23_000.0
LOW_PASS = (
    (6.236875113301332, 0.48941143016182337, 0.2968753828467913),
    (2.258570102871057, 0.36329630619301967, 0.5333204815727093),
    (1.5629667773467368, 0.21561466815248206, 0.8028103379308962),
    (1.3291169701439787, 0.10573299908528126, 0.984225442519236),
    (1.2481157702052696, 0.031062562468979843, 1.0674975651501653),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KWeighting:
    """The filters for one sampling rate; they follow one another."""

    low_pass: tuple[Section, ...]
    shelf: Section
    high_pass: Section


def design_filters(sr: int) -> KWeighting:
    """Return the filters for a sampling rate in Hz."""
    return KWeighting(
        low_pass=tuple(_design_low_pass(sr)) if sr > REFERENCE_HZ else (),
        shelf=_design_shelf(sr),
        high_pass=_design_high_pass(sr),
    )


def find_power(section: Section, frequency_hz: float, sr: int) -> float:
    """Return the power gain of a filter at a frequency."""
    b0, b1, b2, a1, a2 = section
    low, high, between = _split(frequency_hz, sr)
    numerator = (b0 + b1 + b2) ** 2 * low + (b0 - b1 + b2) ** 2 * high - 4 * b0 * b2 * between
    return numerator / ((1 + a1 + a2) ** 2 * low + (1 - a1 + a2) ** 2 * high - 4 * a2 * between)


def _split(frequency_hz: float, sr: int) -> tuple[float, float, float]:
    """Return the parts of which the power of any polynomial of second order in 1/z is a sum."""
    upper = math.sin(math.pi * frequency_hz / sr) ** 2
    return 1 - upper, upper, 4 * upper * (1 - upper)


def _move_poles(section: Section, sr: int) -> tuple[float, float]:
    """Return a1 and a2 for another rate, with the same decay and frequency in seconds."""
    *_, a1, a2 = section
    ratio = REFERENCE_HZ / sr
    angle = math.atan2(math.sqrt(4 * a2 - a1 * a1), -a1) * ratio
    radius = math.sqrt(a2) ** ratio
    return -2 * radius * math.cos(angle), radius * radius


def _design_shelf(sr: int) -> Section:
    a1, a2 = _move_poles(SHELF, sr)

    def find_numerator(frequency_hz: float) -> float:
        wanted = find_power(SHELF, frequency_hz, REFERENCE_HZ)
        return wanted / find_power((1.0, 0.0, 0.0, a1, a2), frequency_hz, sr)

    corner_hz, end_hz = min(CORNER_HZ, LARGEST_CORNER * sr), min(sr, REFERENCE_HZ) / 2
    lowest = find_numerator(0.0)
    # Two equations for the numerator's power at the Nyquist frequency and between.
    low, p, q = _split(corner_hz, sr)
    u = find_numerator(corner_hz) - lowest * low
    low, r, s = _split(end_hz, sr)
    v = find_numerator(end_hz) - lowest * low
    determinant = p * s - q * r
    highest, between = (u * s - q * v) / determinant, (p * v - u * r) / determinant
    mean = (math.sqrt(lowest) + math.sqrt(highest)) / 2
    b0 = (mean + math.sqrt(mean * mean + between)) / 2
    return b0, (math.sqrt(lowest) - math.sqrt(highest)) / 2, -between / (4 * b0), a1, a2


def _design_high_pass(sr: int) -> Section:
    a1, a2 = _move_poles(HIGH_PASS, sr)
    end_hz = min(sr, REFERENCE_HZ) / 2
    wanted = find_power(HIGH_PASS, end_hz, REFERENCE_HZ)
    gain = math.sqrt(wanted / find_power((1.0, -2.0, 1.0, a1, a2), end_hz, sr))
    return gain, -2 * gain, gain, a1, a2


def _design_low_pass(sr: int) -> list[Section]:
    """Apply the bilinear transform to the analogue filter, exactly at its edge."""
    sections = []
    c = 1 / math.tan(math.pi * EDGE_HZ / sr)
    for zero, distance, square in LOW_PASS:
        a0 = c * c + 2 * distance * c + square
        gain = square / (zero * zero * a0)  # 1 at 0 Hz
        outer, middle = gain * (c * c + zero * zero), 2 * gain * (zero * zero - c * c)
        a1, a2 = 2 * (square - c * c) / a0, (c * c - 2 * distance * c + square) / a0
        sections.append((outer, middle, outer, a1, a2))
    return sections
