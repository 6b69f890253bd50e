from load_tests.drift_speed import main, timed


def test_all_columns_are_compared():
    took_s, report = timed(2000, 5)
    assert took_s > 0
    assert [(c.name, c.test) for c in report.columns] == [
        ("x0", "ks"),
        ("x1", "chi2"),
        ("x2", "ks"),
        ("x3", "chi2"),
        ("x4", "ks"),
        ("prediction", "ks"),
    ]
    assert report.outcome == "ok"


def test_it_prints_a_line(capsys):
    main(["--rows", "500", "--columns", "2"])
    assert capsys.readouterr().out.startswith("500 rows of 2 inputs and a score: ")
