"""The image that ``bentoml containerize`` makes of a Bento: small, without build tools, for any platform that runs containers.

BentoML 1.4 writes the Dockerfile itself and takes commands from the service, each behind a ``RUN``; it has no fields for a
second stage, a health check, labels, ports or a volume. A ``RUN`` ends with its line, so the last command here is one that
does nothing, followed by the stage that becomes the image. BentoML's own part before it, with uv, its cache and whatever a
package needed to be built, is left behind; BentoML's own part after it copies the Bento, sets the user and the entry point.
What of the packages nobody reads who serves is left behind too: `ekiben.registry.slimming` says what and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from bentoml._internal.container.frontend.dockerfile import CONTAINER_METADATA
from bentoml.images import Image

from ekiben.registry import slimming

PYTHON_VERSION: Final = "3.11"
BASE_IMAGE: Final = f"python:{PYTHON_VERSION}-slim"
USER_ID: Final = 1034
"""BentoML's own; given as a number where an orchestrator must see that it is not root's."""

_SLIMMING: Final = "./env/docker/slimming.py"

_STAGE: Final = r"""true

FROM {base_image}
ENV LANG=C.UTF-8 LC_ALL=C.UTF-8 PYTHONIOENCODING=UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV VIRTUAL_ENV=/app/.venv PATH=/app/.venv/bin:$PATH PYTHONPATH=/home/bentoml/bento/src
# BentoML's home is the Bento, so that its commands see the models that are packed.
ENV BENTO_PATH=/home/bentoml/bento BENTOML_HOME=/home/bentoml/bento BENTOML_CONTAINERIZED=true
# A server in production reports to nobody it was not told to.
ENV BENTOML_DO_NOT_TRACK=1 ORT_DISABLE_TELEMETRY=1
ENV EKIBEN_HOME=/var/lib/ekiben PROMETHEUS_MULTIPROC_DIR=/tmp/prometheus
# The port that SageMaker, Vertex AI, KServe and Cloud Run ask by default. Of the variables that can name it this is the one
# looked at last, so that whatever a platform sets wins.
ENV SAGEMAKER_BIND_TO_PORT=8080
RUN groupadd -g {user_id} bentoml && useradd -m -u {user_id} -g {user_id} bentoml && \
    mkdir -p /var/lib/ekiben /home/bentoml/bento/bentos /home/bentoml/bento/envs /home/bentoml/bento/tmp && \
    chown -R bentoml:bentoml /var/lib/ekiben /home/bentoml
WORKDIR /home/bentoml/bento
{system}COPY --from=base-container /app /app
{labels}EXPOSE 3000 3001 8080
VOLUME /var/lib/ekiben
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
# The port is given, as BentoML's entry point would take PORT, which names the platform's port, for its own.
CMD ["serve", "--port", "3000"]"""


# NOTE: mypy's own idea of attrs knows nothing of the fields that come from BentoML, which ships no types.
_define: Any = attrs.define


@_define
class ServingImage(Image):  # type: ignore[misc]  # as above
    """A BentoML image whose last stage has the environment, and not what built it.

    What ``bentofile.yaml`` says of ``python.packages``, ``docker.base_image`` and, with ``docker.distro``,
    ``docker.system_packages`` is honoured.

    Attributes:
        image_labels: Labels of the image.
    """

    image_labels: dict[str, str] = attrs.field(factory=dict)

    def freeze(self, bento_fs: Path, envs: list[Any], platform_: str | None = None) -> Any:
        """What BentoML calls once all it knows of the image is said."""
        self.scripts[slimming.__file__] = _SLIMMING
        self.post_commands += [f"python {_SLIMMING} /app/.venv", self._stage()]
        return super().freeze(bento_fs, envs, platform_)

    def _stage(self) -> str:
        build_tools = {metadata["default_install_command"] for metadata in CONTAINER_METADATA.values()}
        system = [command for command in self.commands if command not in build_tools]
        copied = ["COPY ./env/docker ./env/docker/"] if system else []
        labels = " ".join(f'{name}="{_quoted(value)}"' for name, value in sorted(self.image_labels.items()))
        return _STAGE.format(
            base_image=self.base_image,
            user_id=USER_ID,
            system="".join(f"{line}\n" for line in [*copied, *(f"RUN {command}" for command in system)]),
            labels=f"LABEL {labels}\n" if labels else "",
        )


def make_image(requirements: Sequence[str], labels: Mapping[str, str], *, base_image: str = BASE_IMAGE) -> ServingImage:
    """The image of a Bento.

    Args:
        requirements: Each package as ``name==version``.
        labels: Labels of the image.
        base_image: An image of Debian or the like with Python 3.11, pip and bash.
    """
    # distro "none": with one that BentoML knows, it installs compilers and git first.
    image = ServingImage(
        base_image=base_image, distro="none", python_version=PYTHON_VERSION, lock_python_packages=False, image_labels=dict(labels)
    )
    image.python_packages(*requirements)
    return image


def _quoted(text: str) -> str:
    for special in ("\\", '"', "$"):
        text = text.replace(special, "\\" + special)
    return " ".join(text.split())
