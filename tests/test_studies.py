"""A wrong annotation is told at once and whole: nobody trains for a day on a study that is in two splits."""

import json

import pytest

from xpronet.data.studies import Study, read_annotation, section, write_annotation


def record(id="a", report="The heart is normal.", image_path=("a/0.png",), **more):
    return {"id": id, "report": report, "image_path": image_path, **more}


def write(path, train=(), val=(), test=()):
    path.write_text(json.dumps({"train": list(train), "val": list(val), "test": list(test)}))
    return path


def test_reads_the_r2gen_form_and_our_own_fields(tmp_path):
    path = write(
        tmp_path / "a.json", [record(split="train", subject_id=7)], test=[record("b", impression="No change.")]
    )
    studies = read_annotation(path)
    assert studies[0] == Study("a", "train", "The heart is normal.", ("a/0.png",), subject_id="7")
    assert (studies[1].split, section(studies[1], "impression")) == ("test", "No change.")
    write_annotation(tmp_path / "b.json", studies)
    assert read_annotation(tmp_path / "b.json") == studies


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"report": "  "}, "report is empty"),
        ({"id": ""}, "id must be a text"),
        ({"image_path": []}, "needs at least one view"),
        ({"image_path": ["../secret.png"]}, "leaves the image folder"),
        ({"image_path": ["/etc/passwd"]}, "leaves the image folder"),
        ({"image_path": "a.png"}, "list of relative paths"),
        ({"image_path": ["a\0.png"]}, "image_path holds the character 0"),
        ({"state": "drawn"}, "state must be an object whose observations are a list"),
        ({"state": {}}, "state must be an object"),
        ({"state": {"observations": 5}}, "state must be an object"),
        ({"state": {"observations": [["Edema"]]}}, "state must be an object"),
        ({"split": "test"}, "says 'test' but it stands in train"),
    ],
)
def test_a_broken_study_is_named_with_the_rule(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        read_annotation(write(tmp_path / "a.json", [record(**wrong)]))


def test_all_problems_come_at_once(tmp_path):
    path = write(tmp_path / "a.json", [record("x"), record("x"), record("y"), record("z", report="")], [record("y")])
    with pytest.raises(ValueError) as error:
        read_annotation(path)
    text = str(error.value)
    assert "3 problems" in text
    assert "id 'x' stands 2 times in train" in text
    assert "id 'y' is in train and val" in text
    assert "(z): report is empty" in text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"train": []}', "\xff"])
def test_what_is_no_annotation_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="a.json") as error:
        read_annotation(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="none.json: no such file"):
        read_annotation(tmp_path / "none.json")
