import json

from unit.load_tests.demo.told import answers

from load_tests.demo.report import write_report


def test_it_writes_charts_a_page_and_the_figures(told, tmp_path):
    folder = tmp_path / "some" / "report"
    write_report(told, answers(), folder)
    write_report(told, answers(), folder)
    assert {f.name for f in folder.iterdir()} == {"activity.png", "quality.png", "drift.png", "demo.json", "answers.json", "index.html"}
    assert json.loads((folder / "demo.json").read_text())["champion"] == "v1"
    assert len(json.loads((folder / "answers.json").read_text())) == 20
