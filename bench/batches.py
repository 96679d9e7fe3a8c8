"""A model that takes batches, against the same model that is called for each file.

The model is a small network in ONNX with fixed weights: two convolutions and a layer that is as
wide as that of many taggers, which reads its weights once for a whole batch. First both are called
directly. Then backfills run them on one core, with all that Segue does besides; their rates are
slopes between a small and a large catalogue, which exclude the start.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.catalogue import create_memory_folder, write_empty_files
from bench.measure import measure_usage, report

SIZE = 16
SMALL, LARGE = 5 * SIZE, 30 * SIZE
ROUNDS = 3
MELS, FRAMES, CHANNELS, WIDTH = 64, 96, 16, 1024
SIZES = "BENCH_BATCH_SIZES"  # names a file for the sizes of the batches


def make_model() -> bytes:
    """Return a network that gives 50 tags for a mel spectrogram."""
    import numpy as np

    from segue.models.onnx_writer import OnnxGraph

    rng = np.random.default_rng(0)

    def draw(graph: OnnxGraph, *shape: int) -> str:
        return graph.add_weight(rng.normal(0, 0.05, shape).astype(np.float32))

    graph = OnnxGraph("tagger")
    value = graph.add_input("mel", ["n", 1, MELS, FRAMES])
    for channels in (1, CHANNELS):
        filters = draw(graph, CHANNELS, channels, 3, 3)
        value = graph.add_node("Conv", value, filters, strides=[2, 2], pads=[1, 1, 1, 1])
        value = graph.add_node("Relu", value)
    value = graph.add_node("Flatten", value)
    units = CHANNELS * MELS * FRAMES // 16
    value = graph.add_node("Relu", graph.add_node("MatMul", value, draw(graph, units, WIDTH)))
    tags = graph.add_node("Sigmoid", graph.add_node("MatMul", value, draw(graph, WIDTH, 50)))
    graph.add_output("tags", tags, ["n", 50])
    return graph.encode()


class Tagger:
    """Tags of a file."""

    batch_size = SIZE

    def __init__(self, *, path: str) -> None:
        self._path = path

    def setup(self) -> None:
        """Load the model."""
        from segue.models import open_onnx

        self._session = open_onnx(self._path)

    def __call__(self, media: Any) -> list[float]:
        """Return the tags of one file."""
        return self.batch([{"media": media}])[0]

    def batch(self, inputs: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """Return the tags of several files."""
        import numpy as np

        mel = np.stack([make_mel(int(i["media"].path[-11:-4])) for i in inputs])
        with open(os.environ[SIZES], "a") as file:
            file.write(f"{len(inputs)}\n")
        tags: list[list[float]] = self.run(mel).tolist()
        return tags

    def run(self, mel: Any) -> Any:
        """Return the tags of spectrograms [shape=(n, 1, MELS, FRAMES)]."""
        return self._session.run(None, {"mel": mel})[0]


class SingleTagger(Tagger):
    """The same, one file at a time."""

    batch_size = 1


def make_mel(seed: int) -> Any:
    """Return the spectrogram of a file."""
    import numpy as np

    return np.random.default_rng(seed).random((1, MELS, FRAMES), np.float32)


def measure_calls(path: str) -> float:
    """Return the time of calls with one file each, against that of one call with all."""
    import numpy as np

    tagger = Tagger(path=path)
    tagger.setup()
    mels = np.stack([make_mel(seed) for seed in range(SIZE)])

    def measure(size: int) -> float:
        started = time.process_time()
        for start in range(0, SIZE, size):
            tagger.run(mels[start : start + size])
        return time.process_time() - started

    measure(1), measure(SIZE)
    # In turn, several times: other load on the machine then affects both alike.
    times = [(measure(1), measure(SIZE)) for _ in range(10 * ROUNDS)]
    return min(one for one, _ in times) / min(many for _, many in times)


def run_case(name: str, folder: str) -> None:
    """Run a backfill with one of the classes, in a separate process."""
    from bench.run import run_segue

    graph = f"{folder}/jobs.yaml"
    with open(graph, "w") as file:
        file.write(
            f'jobs: {{tags: {{run: "bench.batches:{name}", needs: {{media: source}}, '
            f"writes: application/json, params: {{path: {folder}/model.onnx}}}}}}\n"
        )
    totals = run_segue(graph, f"{folder}/catalogue", f"{folder}/work", ["tags"])
    assert totals.total("done") == totals.files, totals


def measure_case(name: str, files: int, model: bytes) -> tuple[float, float]:
    """Return the CPU of a backfill, and the mean size of its batches."""
    with create_memory_folder() as folder:
        with open(f"{folder}/model.onnx", "wb") as file:
            file.write(model)
        write_empty_files(f"{folder}/catalogue", files)
        os.environ[SIZES] = f"{folder}/sizes"
        used = measure_usage(["-m", "bench.batches", "case", name, folder])
        with open(f"{folder}/sizes") as file:
            sizes = [int(line) for line in file]
    return used.cpu_s, sum(sizes) / len(sizes)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["case"]:
        run_case(*sys.argv[2:4])
        return
    model = make_model()
    with create_memory_folder() as folder:
        with open(f"{folder}/model.onnx", "wb") as file:
            file.write(model)
        ratio = measure_calls(f"{folder}/model.onnx")
    report(benchmark="batches", calls=f"1 of {SIZE} against {SIZE} of 1", ratio=round(ratio, 2))
    cpu_s: dict[tuple[str, int], float] = {}
    means: dict[str, float] = {}
    for _ in range(ROUNDS):
        for count in (SMALL, LARGE):
            for name in (Tagger.__name__, SingleTagger.__name__):
                used_s, means[name] = measure_case(name, count, model)
                cpu_s[name, count] = min(used_s, cpu_s.get((name, count), used_s))
    spent = {
        name: (cpu_s[name, LARGE] - cpu_s[name, SMALL]) / (LARGE - SMALL) * 1e3 for name in means
    }
    report(
        benchmark="batches",
        mean_size=round(means[Tagger.__name__], 1),
        batch_ms_per_file=round(spent[Tagger.__name__], 2),
        single_ms_per_file=round(spent[SingleTagger.__name__], 2),
        ratio=round(spent[SingleTagger.__name__] / spent[Tagger.__name__], 2),
    )


if __name__ == "__main__":
    main()
