"""The Dockerfile that BentoML writes for our image, read as a builder reads it."""

import json
import re
from pathlib import Path

import pytest
from _bentoml_sdk.images import populate_image_from_build_config
from bentoml._internal.bento.build_config import BentoBuildConfig
from bentoml.images import Image

from ekiben.registry import slimming as slimming_module
from ekiben.registry.image import BASE_IMAGE, USER_ID, ServingImage, make_image

# BentoML copies its entry point with it.
pytestmark = pytest.mark.filterwarnings("ignore:path is deprecated. Use files:DeprecationWarning")


@pytest.fixture
def dockerfile(tmp_path):
    def freeze(image):
        image.freeze(tmp_path, [])
        text = (tmp_path / "env/docker/Dockerfile").read_text()
        lines = [line for line in text.split("\n") if not line.lstrip().startswith("#")]
        joined = re.sub(r"\\\n", " ", "\n".join(lines))
        instructions = [tuple(line.split(None, 1)) for line in joined.split("\n") if line.strip()]
        first, *stages = [n for n, (name, *_) in enumerate(instructions) if name == "FROM"]
        assert first == 0
        (second,) = stages
        return instructions[:second], instructions[second:]

    return freeze


def named(stage, name):
    return [rest for instruction, rest in stage if instruction == name]


def test_only_the_environment_leaves_the_stage_that_builds(dockerfile):
    building, serving = dockerfile(make_image(["numpy==2.4.6"], {}))
    assert named(building, "FROM") == [f"{BASE_IMAGE} AS base-container"]
    assert named(serving, "FROM") == [BASE_IMAGE]
    assert [text for text in named(serving, "COPY") if "--from" in text] == ["--from=base-container /app /app"]
    assert not any(tool in text for text in named(serving, "RUN") for tool in ("pip", "uv ", "apt-get"))
    assert not any("build-essential" in text for text in named(building, "RUN"))
    assert "uv --directory" in " ".join(named(building, "RUN"))


def test_what_nobody_reads_goes_before_the_environment_is_copied(dockerfile, tmp_path):
    building, _ = dockerfile(make_image(["numpy==2.4.6"], {}))
    *_, slimming, last = named(building, "RUN")
    assert slimming == "python ./env/docker/slimming.py /app/.venv"
    assert last == "true"
    assert (tmp_path / "env/docker/slimming.py").read_text() == Path(slimming_module.__file__).read_text()


def test_it_is_whole(dockerfile):
    _, serving = dockerfile(make_image(["a==1"], {"title": 'a "b" $c\n d\\'}))
    assert named(serving, "USER") == ["bentoml"]
    assert any(f"useradd -m -u {USER_ID}" in text for text in named(serving, "RUN"))
    assert {port for text in named(serving, "EXPOSE") for port in text.split()} == {"3000", "3001", "8080"}
    assert named(serving, "VOLUME") == ["/var/lib/ekiben"]
    assert json.loads(named(serving, "CMD")[0]) == ["serve", "--port", "3000"]
    check = named(serving, "HEALTHCHECK")[0]
    assert json.loads(check[check.index("[") :])[0] == "python"
    assert named(serving, "LABEL") == [r'title="a \"b\" \$c d\\"']
    assert json.loads(named(serving, "ENTRYPOINT")[0]) == ["/home/bentoml/bento/env/docker/entrypoint.sh"]
    environment = dict(item.split("=", 1) for text in named(serving, "ENV") for item in text.split())
    assert environment["EKIBEN_HOME"] == "/var/lib/ekiben"
    assert environment["BENTOML_HOME"] == environment["BENTO_PATH"] == "/home/bentoml/bento"
    assert "EKIBEN_PLATFORM_PORT" not in environment, "it would win over what a platform sets"
    # The Bento is copied after everything that does not change with it.
    instructions = [name for name, *_ in serving]
    assert instructions.index("LABEL") < len(instructions) - 1 - instructions[::-1].index("COPY")


def test_requirements_are_as_given(tmp_path, dockerfile):
    dockerfile(make_image(["numpy==2.4.6", "bentoml==1.4.40"], {}))
    text = (tmp_path / "env/python/requirements.txt").read_text().split()
    assert {"numpy==2.4.6", "bentoml==1.4.40"} <= set(text)


@pytest.mark.parametrize(
    ("docker", "base", "installed"),
    [
        ({"base_image": "cuda:12"}, "cuda:12", False),
        ({"distro": "debian", "system_packages": ["libgomp1"]}, BASE_IMAGE, True),
    ],
)
def test_what_bentofile_says_is_honoured(tmp_path, dockerfile, docker, base, installed):
    config = BentoBuildConfig(service="service:svc", python={"packages": ["holidays==0.60"]}, docker=docker)
    image = populate_image_from_build_config(make_image(["numpy==2.4.6"], {"a": "b"}), config, str(tmp_path))
    assert isinstance(image, ServingImage)
    building, serving = dockerfile(image)
    assert named(building, "FROM") == [f"{base} AS base-container"]
    assert named(serving, "FROM") == [base]
    assert named(serving, "LABEL") == ['a="b"']
    assert any("libgomp1" in text for text in named(serving, "RUN")) == installed
    assert not any("build-essential" in text for text in named(serving, "RUN"))
    assert "holidays==0.60" in (tmp_path / "env/python/requirements.txt").read_text()


def test_it_is_made_again_the_same(tmp_path, dockerfile):
    image = make_image(["a==1"], {})
    assert isinstance(image, Image)
    assert dockerfile(image)[1] == dockerfile(make_image(["a==1"], {}))[1]
