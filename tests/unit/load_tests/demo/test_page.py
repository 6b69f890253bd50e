from unit.load_tests.demo.told import counts, record

from load_tests.demo.page import page


def test_it_says_what_was_promised_and_escapes_what_it_was_told(told):
    text = page(told)
    assert "every promise held" in text
    assert "quality Failed: &lt;worse&gt;" in text
    assert "<worse>" not in text
    assert '<td class="n">0.7000</td>' in text
    assert "pause-over" not in text
    told.promises[0].holds = False
    assert "a promise did not hold" in page(told)
    assert '<td class="broken">broken</td>' in page(told)


def test_a_page_without_a_month_can_be_made():
    assert "no month" in page(record(months=[], counts=counts(asked=0)))
