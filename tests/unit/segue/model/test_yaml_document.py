"""A YAML document is read into plain values and their lines, in bounded time and memory."""

from __future__ import annotations

import pytest
import yaml

from segue.model import yaml_document
from segue.model.yaml_document import MAX_CHARACTERS, MAX_DEPTH, MAX_KEY, YamlError, parse_yaml


@pytest.fixture(params=["libyaml", "python"])
def read(request, monkeypatch):
    """Read a value, with each of the two parsers."""
    loader = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(yaml_document, "PARSER", loader)
    return lambda text: parse_yaml(text).value


def find_fault(read, text: str) -> tuple[int, str, str]:
    with pytest.raises(YamlError) as caught:
        read(text)
    (fault,) = caught.value.faults
    return fault.line, fault.place, fault.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-12", -12),
        ("0", 0),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("-1.5e-3", -1.5e-3),
        ("1.", 1.0),
        (".5", 0.5),
        ("'no'", "no"),
        ('"010"', "010"),
        ("|\n  1:30", "1:30"),
        ("! 12", "12"),
        ("musicnn@1", "musicnn@1"),
        ("1.0.0", "1.0.0"),
        ("y", "y"),
        ("None", "None"),
        ("[1, [a, ~], {b: c}]", [1, ["a", None], {"b": "c"}]),
        ("a: 1\nb:\n- x\n- {c: d}\n", {"a": 1, "b": ["x", {"c": "d"}]}),
        ("\ufeffa: 1", {"a": 1}),
        ("--- a\n...\n", "a"),
    ],
)
def test_plain_values_are_read(read, text, value):
    found = read(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.INF", "1.0e+999"])
def test_an_infinite_number_is_read_for_the_caller_to_refuse(read, text):
    assert abs(read(text)) == float("inf")


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "No", "on", "OFF", "010", "08", "0o17", "0b11", "0x1_F", "1_000", "1e3", "1.5e3"),
        *("-.5", "1:30", "190:20:30.15", "2020-01-02", "2020-13-45", "2020-01-02 03:04:05", "="),
        "<<",
    ],
)
def test_a_value_that_the_versions_of_yaml_read_differently_is_refused(read, text):
    line, place, message = find_fault(read, f"a: 1\nb: [0, {text}]")
    assert (line, place) == (2, "b[1]")
    assert message.startswith(f"{text!r} is read differently by YAML 1.1 and 1.2; put it in quotes")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("no", "to make it text, or write true or false"),
        ("0755", "to make it text, or write a number in digits, the first not 0, such as 90"),
        ("1:30", "such as 90"),
        ("1e-5", "such as 0.5 or 1.0e-5"),
        ("-.5", "such as 0.5 or 1.0e-5"),
        ("2020-01-02", "put it in quotes"),
        ("{no: 1}", "put it in quotes"),
    ],
)
def test_the_remedy_fits_what_a_value_was_meant_to_be(read, text, remedy):
    assert find_fault(read, f"a: {text}")[2].endswith(remedy)


@pytest.mark.parametrize(
    ("text", "line", "place", "fragment"),
    [
        ("a:\n  b: !!timestamp soon", 2, "a.b", "timestamp"),
        ("a: !!binary aGk=", 1, "a", "binary"),
        ("a: !!set {x, y}", 1, "a", "set"),
        ("a: !!python/object:os.system {}", 1, "a", "python/object"),
        ("a: !mine [1]", 1, "a", "!mine"),
        ("!!int x", 1, "", "int"),
    ],
)
def test_a_tag_is_refused(read, text, line, place, fragment):
    found = find_fault(read, text)
    assert found[:2] == (line, place)
    assert fragment in found[2]
    assert found[2].endswith("leave it out, and put text in quotes")


@pytest.mark.parametrize(
    ("text", "line", "place", "fragment"),
    [
        ("a: 1\nb: 2\na: 3", 3, "", "'a' is written twice"),
        ("x: [{y: 1,\n 'y': 2}]", 2, "x[0]", "'y' is written twice"),
        ("a: {<<: {b: 1}, <<: {b: 2}}", 1, "a", "'<<' is written twice"),
        ("a: {1: b}", 1, "a.1", "the key 1 is not text"),
        ("a: {~: b}", 1, "a.None", "the key None is not text"),
        ("a: {true: b}", 1, "a.True", "the key True is not text"),
        ("a: {on: b}", 1, "a.on", "read differently"),
        ("a: {[b]: c}", 1, "a", "mapping or list as a key"),
        ("a: {? {b: c} : d}", 1, "a", "mapping or list as a key"),
        (f"a: {{{'b' * (MAX_KEY + 1)}: c}}", 1, "a", f"more than {MAX_KEY} characters"),
    ],
)
def test_keys_are_distinct_text(read, text, line, place, fragment):
    found = find_fault(read, text)
    assert found[:2] == (line, place)
    assert fragment in found[2]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "a: b: c",
        "\tx",
        "a: [",
        '"\\x4"',
        "a: 'b",
        "%YAML 9\n--- a",
        "@",
        "- a\nb: c",
        "a: \0",
        "a: \x1b",
        "a: \ud800",
        "a: \x9b",
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(read, text):
    line, _, message = find_fault(read, f"# first\n\n{text}")
    assert line >= 3
    assert message.startswith("is not valid YAML")


def test_a_second_document_is_refused(read):
    assert find_fault(read, "a: 1\n---\nb: 1")[0] in (2, 3)


@pytest.mark.parametrize("text", ['"\\ud83d"', '"\\U00110000"'])
def test_what_is_no_character_is_refused(read, text):
    assert find_fault(read, text)[0] == 1


def test_aliases_and_merge_keys_work(read):
    text = """
base: &base {x: 1, y: &list [2]}
more: &more {y: 3, z: 4}
same: *base
both: {<<: [*base, *more], x: 5}
one: {<<: *more, w: *list}
quoted: {"<<": *more}
"""
    found = read(text)
    assert found["same"] == {"x": 1, "y": [2]}
    assert found["both"] == {"x": 5, "y": [2], "z": 4}
    assert found["one"] == {"y": 3, "z": 4, "w": [2]}
    assert found["quoted"] == {"<<": {"y": 3, "z": 4}}


@pytest.mark.parametrize(
    ("text", "place", "fragment"),
    [
        ("x: &a [*a]", "x[0]", "within its own anchor"),
        ("x: &a {b: {c: *a}}", "x.b.c", "within its own anchor"),
        ("x: &a {<<: *a}", "x.<<", "within its own anchor"),
        ("x: *nowhere", "x", "has no anchor above it"),
        ("x: {<<: 5}", "x.<<", "not a mapping"),
        ("x: {<<: [{}, 5]}", "x.<<", "not a mapping"),
    ],
)
def test_an_alias_without_a_value_is_refused(read, text, place, fragment):
    found = find_fault(read, f"\n{text}")
    assert found[:2] == (2, place)
    assert fragment in found[2]


ALIASES = "with its aliases written out, "


def nest(item: str, levels: int) -> str:
    """Return lines of which each holds the line before it nine times."""
    above = (f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, levels))
    return "\n".join([f"x0: &x0 {item}", *above])


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        pytest.param(nest("[lol]", 25), ALIASES, id="lists of lists"),
        pytest.param(nest("lol", 25), ALIASES, id="lists of text"),
        pytest.param(nest(f"[{'y' * 100_000}]", 3), ALIASES, id="long text"),
        pytest.param(
            "x0: &x0 {}\n"
            + "".join(f"x{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}]}}\n" for n in range(1, 40)),
            ALIASES,
            id="merge keys",
        ),
        pytest.param(
            "x0: &x0 []\n" + "".join(f"x{n}: &x{n} [*x{n - 1}]\n" for n in range(1, 100)),
            "32 levels deep",
            id="a chain of aliases",
        ),
        pytest.param("[" * 100_000, "more than 32 levels deep", id="lists in lists"),
        pytest.param("{a: " * 100_000, "more than 32 levels deep", id="mappings in mappings"),
        pytest.param("- " * 100_000, "more than 32 levels deep", id="items in items"),
        pytest.param("? " * 100_000, "mapping or list as a key", id="keys in keys"),
        pytest.param("[" + "1," * 100_001 + "]", "more than 100,000 values", id="many values"),
        pytest.param(
            "x" * (MAX_CHARACTERS + 1), "1,048,577 characters; write at most 1,048,576", id="long"
        ),
    ],
)
def test_a_document_beyond_the_limits_is_refused_with_a_line(text, fragment):
    line, _, message = find_fault(parse_yaml, text)
    assert line >= 1
    assert fragment in message


def test_a_document_within_the_limits_is_read():
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH).value
    assert len(parse_yaml("[" + "1," * 10_000 + "]").value) == 10_000


def test_all_faults_are_reported_until_there_are_enough(read):
    with pytest.raises(YamlError) as caught:
        read("a: no\nb: !x 1\nc: 010\n1: 2\n")
    assert [(f.line, f.place) for f in caught.value.faults] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "1"),
    ]
    assert str(caught.value).startswith("line 1, a: 'no' is read differently")
    with pytest.raises(YamlError) as caught:
        read("- no\n" * 1000)
    assert len(caught.value.faults) == yaml_document.MAX_FAULTS


def test_lines_are_found_by_place():
    text = """\
a:
  b.c:
    - x
    -
      - y
      - d: z
  e: &e
    f: 1
g:
  <<: *e
  h: 2
"""
    document = parse_yaml(text)
    places = ("a", "a.b.c", "a.b.c[0]", "a.b.c[1]", "a.b.c[1][1].d", "a.e.f", "g.f", "g.h")
    assert [document.find_line(place) for place in places] == [1, 2, 3, 5, 6, 8, 8, 11]
    assert document.find_line("a.missing") == 1
    assert document.find_line("a.b.c[7].d") == 2
    assert document.find_line("missing") == 1
    assert document.find_line("") == 1
