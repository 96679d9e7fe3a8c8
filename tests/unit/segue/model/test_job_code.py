"""A job's code is found, checked against the graph, and given its parameters."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import Graph, GraphError, parse_graph
from segue.model.job_code import Batching, build, check_code, find_batching, make_importable

CODE = """
from __future__ import annotations
from typing import TYPE_CHECKING, Annotated, Literal
import msgspec
if TYPE_CHECKING:
    from numpy import ndarray
    from segue.media.audio import Audio

def scale(audio: Audio, *, factor: float = 1.0, mode: Literal["up", "down"] = "up",
          times: int | None = None, band_hz: tuple[float, float] = (20.0, 20e3),
          least: Annotated[int, msgspec.Meta(ge=3)] = 3, window: ndarray = None):
    return [audio, factor, mode, times, list(band_hz)]

def wants_more(audio, more): ...
def takes_anything(**everything): return sorted(everything)
def by_position(audio, /): ...
number = 7

class Model:
    def __init__(self, *, layers: int = 1):
        self.layers = layers
    def setup(self):
        self.ready = True
    def __call__(self, audio):
        return [audio, self.layers]

class Many(Model):
    batch_size = 4
    def batch(self, inputs):
        return [[i["audio"], self.layers, len(inputs)] for i in inputs]

class Short(Many):
    def batch(self, inputs):
        return []

class Mute:
    pass

class Asks:
    def setup(self, path): ...
    def __call__(self, audio): ...

class Odd:
    batch_size = 0
    def batch(self, inputs): ...

class Eternal(Many):
    batch_wait_s = 3600

class Wordy(Many):
    batch_size = "16"
    batch_wait_s = "1 s"

class Patient(Many):
    batch_wait_s = 30

class Grown(Many):
    batch_size = property(lambda self: 8)

class Late(Model):
    def __init__(self):
        self.layers, self.batch = 1, list
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[str]:
    """The name of a module that stands beside the graph."""
    name = f"code_{tmp_path.name.replace('-', '_')}"
    Path(tmp_path, f"{name}.py").write_text(CODE)
    before = list(sys.path)
    yield name
    sys.path[:] = before
    sys.modules.pop(name, None)


def graph_of(folder: Path, run: str, params: str = "{}", needs: str = "{audio: source}") -> Graph:
    job = f"{{run: '{run}', needs: {needs}, writes: application/json, params: {params}}}"
    return parse_graph(f"jobs: {{job: {job}}}", path=str(folder / "jobs.yaml"))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("scale", "{factor: 2, mode: down, times: null, band_hz: [1, 2], least: 3}"),
        ("scale", "{window: hann}"),  # an annotation that exists for type checkers only
        ("takes_anything", "{whatever: 1}"),
        ("Model", "{layers: 3}"),
        ("Many", "{}"),
        ("Patient", "{}"),
    ],
)
def test_code_that_fits_has_no_fault(tmp_path: Path, module: str, name: str, params: str) -> None:
    check_code(graph_of(tmp_path, f"{module}:{name}", params))


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("scael", "{}", "has no callable 'scael'; did you mean 'scale'?"),
        ("number", "{}", "is of type int, which cannot be called"),
        ("scale", "{faktor: 2}", "jobs.job.params.faktor: .* did you mean 'factor'?"),
        ("scale", "{factor: loud}", r"'loud' is not what .* \(expected float, got str\); write fl"),
        ("scale", "{mode: left}", "'left' is not what"),
        ("scale", "{times: 1.5}", r"expected int \| null, got float"),
        ("scale", "{least: 2}", "expected int >= 3"),
        ("scale", "{band_hz: [1]}", "jobs.job.params.band_hz: .*length 2"),
        ("wants_more", "{}", "requires 'more', which is not given"),
        ("by_position", "{}", "takes 'audio' only by position"),
        ("Model", "{layer: 2}", "takes no parameter 'layer'; did you mean 'layers'?"),
        ("Mute", "{}", "has no __call__; write one that takes the inputs"),
        ("Asks", "{}", "setup requires 'path', but is called without arguments"),
        ("Odd", "{}", "batch_size is 0; it must be a whole number from 1"),
        ("Wordy", "{}", "batch_size is '16'; it must be a whole number from 1"),
        ("Wordy", "{}", "batch_wait_s is '1 s'; it must be a number of seconds from 0 to 600"),
        ("Eternal", "{}", "batch_wait_s is 3600; it must be a number of seconds from 0 to 600"),
        ("Grown", "{}", "batch_size is <property .*as an attribute of the class"),
    ],
)
def test_a_fault_gives_the_place_the_rule_and_the_remedy(
    tmp_path: Path, module: str, name: str, params: str, said: str
) -> None:
    with pytest.raises(GraphError, match=said):
        check_code(graph_of(tmp_path, f"{module}:{name}", params))


def test_an_input_that_the_code_does_not_take_is_a_fault(tmp_path: Path, module: str) -> None:
    graph = graph_of(tmp_path, f"{module}:Model", needs="{audoi: source}")
    with pytest.raises(GraphError) as caught:
        check_code(graph)
    assert [f.place for f in caught.value.faults] == ["jobs.job.needs.audoi", "jobs.job.run"]
    assert "did you mean 'audio'?" in str(caught.value)


def test_all_faults_are_reported_at_once(tmp_path: Path, module: str) -> None:
    Path(tmp_path, "broken_module.py").write_text("import no_such_package")
    lines = [
        "a: {run: 'no_such_module:x', needs: {audio: source}, writes: application/json}",
        "b: {run: 'broken_module:x', needs: {audio: source}, writes: application/json}",
        f"c: {{run: '{module}:wants_more', needs: {{sound: source}}, writes: application/json}}",
    ]
    graph = parse_graph("jobs: {" + ", ".join(lines) + "}", path=str(tmp_path / "jobs.yaml"))
    with pytest.raises(GraphError) as caught:
        check_code(graph)
    faults = [str(f) for f in caught.value.faults]
    assert len(faults) == 5
    assert "no module 'no_such_module'; install its package, or put" in faults[0]
    assert "No module named 'no_such_package'" in faults[1]


def test_what_is_built_has_its_parameters_as_they_are_declared(tmp_path: Path, module: str) -> None:
    graph = graph_of(tmp_path, f"{module}:scale", "{factor: 2, band_hz: [1, 2]}")
    make_importable(graph)
    found = build(graph.jobs["job"]).call({"audio": "a"})
    assert found == ["a", 2.0, "up", None, [1.0, 2.0]]
    assert isinstance(found[1], float)


def test_a_class_is_constructed_and_set_up_once(tmp_path: Path, module: str) -> None:
    graph = graph_of(tmp_path, f"{module}:Model", "{layers: 3}")
    make_importable(graph)
    runner = build(graph.jobs["job"])
    assert runner.setup is not None
    runner.setup()
    assert runner.call({"audio": "a"}) == ["a", 3]
    assert runner.batch is None


def test_one_file_goes_through_a_batch_like_many(tmp_path: Path, module: str) -> None:
    graph = graph_of(tmp_path, f"{module}:Many")
    make_importable(graph)
    runner = build(graph.jobs["job"])
    assert runner.batch is not None
    assert runner.batch_size == 4
    assert runner.batch([{"audio": "a"}, {"audio": "b"}]) == [["a", 1, 2], ["b", 1, 2]]
    assert runner.call({"audio": "a"}) == ["a", 1, 1]


def test_a_batch_that_only_an_instance_has_is_not_used(tmp_path: Path, module: str) -> None:
    graph = graph_of(tmp_path, f"{module}:Late")
    make_importable(graph)
    runner = build(graph.jobs["job"])
    assert runner.batch is None
    assert runner.call({"audio": "a"}) == ["a", 1]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Many", Batching(size=4, wait_s=1.0)),
        ("Patient", Batching(size=4, wait_s=30)),
        ("Wordy", Batching(size=16, wait_s=1.0)),  # which the check of the code refuses
        ("Model", None),
        ("scale", None),
        ("number", None),
    ],
)
def test_a_class_says_how_batches_are_collected(
    tmp_path: Path, module: str, name: str, found: Batching | None
) -> None:
    make_importable(graph_of(tmp_path, f"{module}:{name}"))
    assert find_batching(getattr(importlib.import_module(module), name)) == found


def test_a_batch_that_returns_too_little_says_so(tmp_path: Path, module: str) -> None:
    graph = graph_of(tmp_path, f"{module}:Short")
    make_importable(graph)
    with pytest.raises(TypeError, match="return one value per input"):
        build(graph.jobs["job"]).call({"audio": "a"})


def test_a_job_that_is_not_there_cannot_be_built(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, "no_such_module:x")
    with pytest.raises(ConfigurationError, match="there is no module 'no_such_module'"):
        build(graph.jobs["job"])


def test_a_folder_that_is_a_package_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path(tmp_path, "__init__.py").touch()
    make_importable(graph_of(tmp_path, "x:y"))
    assert str(tmp_path) not in sys.path


MODEL_CODE = """
from pathlib import Path


def takes_path(media, *, model: Path): return model
def takes_text(media, *, model: str): return model
def takes_either(media, *, model: Path | str | None = None): return model
def takes_text_or_none(media, *, model: str | None = None): return model
def takes_whatever(media, *, model): return model
def takes_number(media, *, model: int): return model
class Takes:
    def __init__(self, *, model: Path): self.model = model
    def __call__(self, media): return self.model
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("takes_path", Path),
        ("takes_text", str),
        ("takes_either", Path),
        ("takes_text_or_none", str),
        ("takes_whatever", Path),
        ("Takes", Path),
    ],
)
def test_a_model_comes_as_a_path_or_as_text_if_that_is_what_the_code_takes(tmp_path, name, kind):
    module = f"models_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(MODEL_CODE)
    graph = graph_of(tmp_path, f"{module}:{name}", "{model: silero_vad@1}", "{media: source}")
    check_code(graph)  # without the model
    value = build(graph.jobs["job"], {"model": "/models/m.onnx"}).call({"media": None})
    assert type(value) in (kind, type(Path()))
    assert isinstance(value, kind)
    assert str(value) == "/models/m.onnx"


def test_a_parameter_that_takes_no_path_is_a_fault(tmp_path):
    module = f"models_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(MODEL_CODE)
    graph = graph_of(tmp_path, f"{module}:takes_number", "{model: silero_vad@1}", "{media: source}")
    with pytest.raises(GraphError, match="expected int, got str"):
        check_code(graph)


@pytest.mark.parametrize("default", ["'silero_vad@1'", "Path('silero_vad@1')"])
def test_a_model_that_is_only_the_default_of_a_parameter_is_a_fault(tmp_path, default):
    module = f"defaults_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(
        "from pathlib import Path\n"
        f"def takes(media, *, model: Path = {default}, text: str = 'a@b', n: int = 1): pass\n"
    )
    with pytest.raises(GraphError, match=r"params\.model.*write {model: silero_vad@1} here"):
        check_code(graph_of(tmp_path, f"{module}:takes", "{}", "{media: source}"))
    check_code(graph_of(tmp_path, f"{module}:takes", "{model: silero_vad@1}", "{media: source}"))


TYPED = """
from __future__ import annotations
from segue import Audio, Media

def of_audio(value: Audio): ...
def of_media(value: Media): ...
def of_either(value: Audio | Media): ...
def of_anything(value): ...

class OfAudio:
    def __call__(self, value: Audio): ...
"""
PARENTS = """
  wave: {run: "segue.features.resampling:downsample", needs: {media: source}, writes: audio/wav}
  stems: {run: "segue_support.jobs:split", needs: {media: source}, writes: {a: audio/flac}}
  level: {run: "segue.features.ebu_r128:loudness", needs: {media: source}, writes: application/json}
"""


@pytest.mark.parametrize(
    ("name", "need", "gets"),
    [
        ("of_audio", "source", "takes 'value' as Audio, and gets the media file"),
        ("of_audio", "level", "as Audio, and gets what is read from application/json"),
        ("OfAudio", "level", "as Audio, and gets what is read from application/json"),
        ("of_media", "wave", "takes 'value' as Media, and gets what is read from audio/wav"),
        ("of_audio", "wave", ""),
        ("OfAudio", "stems.a", ""),
        ("of_media", "source", ""),
        ("of_either", "level", ""),
        ("of_anything", "level", ""),
    ],
)
def test_an_input_has_the_type_that_it_is_annotated_as(tmp_path, module, name, need, gets):
    Path(tmp_path, f"{module}.py").write_text(TYPED)
    job = f"{{run: '{module}:{name}', needs: {{value: {need}}}, writes: application/json}}"
    graph = parse_graph(f"jobs:{PARENTS}  job: {job}", path=str(tmp_path / "jobs.yaml"))
    if not gets:
        check_code(graph)
        return
    with pytest.raises(GraphError, match=r"jobs\.job\.needs\.value: ") as raised:
        check_code(graph)
    assert gets in str(raised.value)
