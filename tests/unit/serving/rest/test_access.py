import pytest

from ekiben.serving.rest.access import scope_of_page, scope_of_path


@pytest.mark.parametrize(
    ("path", "closed", "opened"),
    [
        ("/readyz", None, None),
        ("/v2/health/live", None, None),
        ("/v2/health/ready/", None, None),
        ("/v2/models/m/ready", None, None),
        ("/v2/models/m/versions/1/ready", None, None),
        ("/v1/models", ("read", None), ("read", None)),
        ("/v2/models/ready/config", ("read", None), ("read", None)),
        ("/v2", ("read", None), ("read", None)),
        ("/v2/repository/index", ("read", None), ("read", None)),
        ("/v2/repository/models/m/load", ("admin", None), None),
        ("/v2/repository/models/m/unload/", ("admin", None), None),
    ],
)
def test_what_a_path_of_the_data_plane_needs(path, closed, opened):
    assert scope_of_path(path, is_open=False) == closed
    assert scope_of_path(path, is_open=True) == opened


@pytest.mark.parametrize(
    ("path", "method", "needed"),
    [
        ("/livez", "GET", None),
        ("/healthz", "HEAD", None),
        ("/metrics", "GET", "read"),
        ("/docs.json", "GET", "read"),
        ("/", "GET", "read"),
        ("/livez", "POST", "predict"),
        ("/tiny/", "POST", "predict"),
        ("/tiny", "DELETE", "predict"),
    ],
)
def test_what_a_page_needs(path, method, needed):
    assert scope_of_page(path, method) == needed
