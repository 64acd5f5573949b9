"""Scores of policies are the same bits on two ranks as on one."""

from score_policies import results
from test_two_processes import run_two


def test_scores_on_two_ranks_are_those_of_one_process_to_the_bit(tmp_path):
    ranks, _ = run_two("score_policies.py", tmp_path)
    alone = results()
    assert len({tuple(row) for row in alone["kl"]}) == 5
    for report in ranks:
        assert report.pop("ranks") == 2
        assert report == alone
