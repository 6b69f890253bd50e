from load_tests.bench.machine import describe


def test_the_machine_is_described(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nmodel name\t: other\n")
    (tmp_path / "meminfo").write_text("MemTotal:        1024 kB\nMemFree: 1 kB\n")

    found = describe(tmp_path)

    assert (found["processor"], found["memory"]) == ("Some CPU @ 2.0GHz", "1024 kB")
    assert found["cores"] >= 1
    assert "onnxruntime" in found["packages"]


def test_a_system_without_these_files_is_described_as_far_as_it_goes(tmp_path):
    assert describe(tmp_path)["memory"] is None
