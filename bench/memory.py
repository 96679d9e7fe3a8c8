"""Peak private memory of all processes together, as the catalogue grows tenfold."""

from __future__ import annotations

from bench.measure import report
from bench.overhead import measure_case

SMALL, LARGE = 5_000, 50_000


def main() -> None:
    """Measure and print."""
    small, large = (measure_case("segue", files, jobs=1).peak_mib for files in (SMALL, LARGE))
    report(
        benchmark="memory",
        files=[SMALL, LARGE],
        peak_mib=[round(small), round(large)],
        ratio=round(large / small, 3),
    )


if __name__ == "__main__":
    main()
