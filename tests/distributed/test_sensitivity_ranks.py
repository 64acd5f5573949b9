"""Sensitivities from gradients are the same bits on two ranks as on one."""

from sensitivity_ranks import results
from test_two_processes import run_two


def test_sensitivities_on_two_ranks_are_those_of_one_process_to_the_bit(tmp_path):
    ranks, _ = run_two("sensitivity_ranks.py", tmp_path)
    alone = results()["sensitivities"]
    assert len({*alone}) > 60
    assert [report["ranks"] for report in ranks] == [2, 2]
    assert all(report["sensitivities"] == alone for report in ranks)
