import pytest

from benchmarks.kept_rows import KeptRows
from harness.errors import RunError
from harness.problem.policy import Policy

LOW, HIGH = Policy([(8, 8), (2, 3)]), Policy([(8, 8), (12, 32)])
SETTINGS = {"weights": "0123", "images": 500}


def the_file(folder):
    (path,) = folder.iterdir()
    return path


def test_rows_outlive_the_process(tmp_path):
    kept = KeptRows(tmp_path / "new", "scores", SETTINGS)
    kept.add({LOW: [0.1, 1e-300], HIGH: "ff"})
    again = KeptRows(tmp_path / "new", "scores", dict(SETTINGS))
    assert again[LOW] == [0.1, 1e-300]
    assert again[HIGH] == "ff"
    assert len(again) == 2
    assert Policy([(8, 8), (3, 3)]) not in again


@pytest.mark.parametrize("change", [{"weights": "4567"}, {"images": 1000}])
def test_rows_of_other_settings_are_not_seen(tmp_path, change):
    KeptRows(tmp_path, "scores", SETTINGS).add({LOW: 1})
    assert LOW not in KeptRows(tmp_path, "scores", SETTINGS | change)
    assert LOW in KeptRows(tmp_path, "scores", SETTINGS)


def test_a_torn_last_line_is_measured_again_at_every_byte(tmp_path):
    KeptRows(tmp_path, "scores", SETTINGS).add({LOW: [0.5, 0.25]})
    path = the_file(tmp_path)
    before = path.read_bytes()
    KeptRows(tmp_path, "scores", SETTINGS).add({HIGH: [0.75, 1.5]})
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        kept = KeptRows(tmp_path, "scores", SETTINGS)
        assert HIGH not in kept
        assert (LOW in kept) == (end >= len(before))
        kept.add({LOW: [0.5, 0.25], HIGH: [0.75, 1.5]})
        again = KeptRows(tmp_path, "scores", SETTINGS)
        assert (again[LOW], again[HIGH]) == ([0.5, 0.25], [0.75, 1.5])


@pytest.mark.parametrize(
    "damage", [(b'"0123"', b'"0124"'), (b"[0.5]", b"[0.5"), (b"[0.5]", b"\xff")]
)
def test_a_damaged_line_is_refused(tmp_path, damage):
    KeptRows(tmp_path, "scores", SETTINGS).add({LOW: [0.5]})
    path = the_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(*damage))
    with pytest.raises(RunError, match="is damaged; remove it to measure again"):
        KeptRows(tmp_path, "scores", SETTINGS)
