"""Two real processes under RandAugment and mixup: resumed equals uninterrupted, bit for bit."""

from test_two_processes import run_two


def test_two_ranks_that_go_on_equal_two_that_were_not_stopped(tmp_path):
    (first, second), _ = run_two("augmented_ranks.py", tmp_path)
    assert first["stopped"].startswith("stopped by a signal at step 3 of 8")
    assert first["resumed"] == first["whole"] == second["whole"] == second["resumed"]
    for rank in (first, second):
        assert rank["images again"] == rank["images"]
        assert len(set(rank["images"])) == 8
    assert not set(first["images"]) & set(second["images"])
