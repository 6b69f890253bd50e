import pytest

from ekiben.shown_url import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://prometheus:9090/path", "http://prometheus:9090/path"),
        ("https://ann:secret@host:1/path", "https://…@host:1/path"),
        ("https://token@host", "https://…@host"),
        ("https://ann:se@cret@host/a@b", "https://…@host/a@b"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host/query?token=secret#x", "https://host/query?…"),
        ("https://host/page#secret", "https://host/page#…"),
        ("postgresql+psycopg://ann:secret@/db?password=secret", "postgresql+psycopg://…@/db?…"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("", ""),
    ],
)
def test_what_may_be_secret_is_not_shown(url, shown):
    assert shown_url(url) == shown
