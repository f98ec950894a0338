import json

import pytest

from fer.artifact.metadata import Metadata, git_commit
from fer.errors import ArtifactError


def changed(meta, **changes):
    return json.dumps(json.loads(meta.to_json()) | changes)


def test_metadata_survives_json(meta):
    assert Metadata.from_json(meta.to_json()) == meta


def test_unknown_keys_are_ignored_and_missing_ones_get_their_default(meta):
    values = json.loads(changed(meta, new_key={"a": 1}, schema_version=2))
    for name in ("crop_margin", "flip", "metrics", "created"):
        del values[name]
    read = Metadata.from_json(json.dumps(values))
    assert (read.crop_margin, read.flip, read.metrics, read.created) == (0.0, False, {}, "")
    assert (read.classes, read.temperature) == (meta.classes, meta.temperature)


@pytest.mark.parametrize("name", ["classes", "channels", "input_size", "mean", "std"])
def test_a_missing_key_without_a_default_is_named(meta, name):
    values = json.loads(meta.to_json())
    del values[name]
    with pytest.raises(ArtifactError, match=f"metadata: .*missing.*{name}"):
        Metadata.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema_version", "new"),
        ("classes", ["a"]),
        ("classes", ["a", "a"]),
        ("classes", ["a", "b\nc"]),
        ("classes", ["a", "\ud800"]),
        ("classes", ["a", "../b"]),
        ("channels", 2),
        ("channels", 1.0),
        ("channels", True),
        ("macs", -1),
        ("mean", [1e300]),
        ("mean", [10**400]),
        ("mean", [0.5, 0.5]),
        ("std", [0]),
        ("input_size", "24"),
        ("input_size", 0),
        ("temperature", 0),
        ("temperature", float("nan")),
        ("flip", 1),
        ("precision", "int4"),
        ("crop_margin", None),
    ],
)
def test_wrong_values_are_one_line_that_names_the_key(meta, name, value):
    with pytest.raises(ArtifactError, match=f"metadata: {name}") as error:
        Metadata.from_json(changed(meta, **{name: value}))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("text", [b"\xff", "null", "[]", "{", '{"a":' * 100_000])
def test_text_that_is_no_json_object_is_one_line(text):
    with pytest.raises(ArtifactError, match="metadata: "):
        Metadata.from_json(text)


def test_the_commit_is_of_this_source_tree():
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
