import pytest

from ekiben.guards.principal import Principal


@pytest.mark.parametrize(
    ("scopes", "scope", "model", "may"),
    [
        (["predict"], "predict", "a", True),
        (["predict"], "predict", None, True),
        (["predict"], "truth", "a", False),
        (["predict:a"], "predict", "a", True),
        (["predict:a"], "predict", "b", False),
        (["predict:a"], "predict", None, False),
        (["predict:a"], "truth", "a", False),
        (["admin"], "predict", "a", True),
        (["admin"], "read", None, True),
        (["read"], "admin", None, False),
        ([], "predict", "a", False),
    ],
)
def test_what_a_principal_may(scopes, scope, model, may):
    assert Principal("key:x", frozenset(scopes)).may(scope, model) is may


def test_the_anonymous_is_told_apart():
    assert Principal("anonymous", frozenset()).is_anonymous
    assert not Principal("key:anonymous", frozenset()).is_anonymous
