"""Progress of pieces of work as progress of the whole work."""

from morphot_jax.system.reporting import part_of, silent, split


def test_equal_parts_add_up_to_the_whole():
    heard = []
    for index in range(3):
        part_of(lambda done, total: heard.append(done / total), index, 3)(2, 4)
    assert heard == [1 / 6, 3 / 6, 5 / 6]


def test_shares_begin_where_those_before_end():
    heard = []
    parts = split(lambda done, total: heard.append((done, total)), 1, 0, 3)
    for report in parts:
        report(0, 5)
        report(5, 5)
    assert heard == [(0, 20), (5, 20), (5, 20), (5, 20), (5, 20), (20, 20)]


def test_silence_takes_any_report():
    assert silent() is silent(1, 2) is None
