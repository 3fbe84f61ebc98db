"""`millrace try`: one partition through both gates in seconds, with no trace of it afterwards."""

from __future__ import annotations

DATA = "data/visits/2024-01-05.csv"


def test_a_partition_is_tried_and_leaves_no_trace(millrace, shop):
    before = sorted(shop.rglob("*"))
    code, out, err = millrace("try", "visits", "2024-01-05", "--rows", 1)
    assert code == 0, err
    for words in ("visits 2024-01-05: 400 rows landed", "gate raw.visits 2024-01-05: passed",
                  "transform.sql: 400 rows", "gate features 2024-01-05: passed"):  # fmt: skip
        assert words in out
    # values of public columns only, unless all are asked for
    assert "  visit_id: (internal)" in out and "  ordered: " in out and "20240105-0" not in out
    assert "20240105-0" in millrace("try", "visits", "2024-01-05", "--show").out
    assert sorted(shop.rglob("*")) == before


def test_a_gate_that_fails_says_why(millrace, shop):
    (shop / DATA).write_text((shop / DATA).read_text().replace("north", "nowhere"))
    code, out, _ = millrace("try", "visits", "2024-01-05")
    assert code == 1
    assert "gate raw.visits 2024-01-05: FAILED" in out and "region" in out and "transform.sql was not run" in out


def test_what_cannot_be_landed_is_said_in_words(millrace, shop):
    (shop / DATA).write_text("a,b\n1,2\n")
    code, _, err = millrace("try", "visits", "2024-01-05")
    assert code == 1 and "2024-01-05.csv" in err and "Traceback" not in err
    said = millrace("try", "visits", "2030-01-05")
    assert said.code == 1 and "2030-01-05" in said.err and "Traceback" not in said.err
    assert "not a day partition" in millrace("try", "visits", "2024-01").err


def test_check_data_lands_the_newest_file_of_each_source(millrace, shop):
    said = millrace("check", "--data")
    assert said.code == 0 and "visits: source 'visits', 2024-01-20: 400 rows land" in said.out
    newest = shop / "data/visits/2024-01-20.csv"
    newest.write_text(newest.read_text().replace("minutes", "minuts", 1))
    said = millrace("check", "--data")
    assert said.code == 1 and "visits: source 'visits': land: " in said.err and "minuts" in said.err
    newest.unlink()
    assert "2024-01-19: 400 rows land" in millrace("check", "--data").out
    for path in (shop / "data/visits").iterdir():
        path.unlink()
    assert "no file was delivered" in millrace("check", "--data").err
