"""The log where pyarrow is not installed: who asks it is told so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from ekiben.errors import LogError

if TYPE_CHECKING:
    import pyarrow as pa


class UnreadLog:
    """Has no rows to give; see `ekiben.monitoring.drift_check.LogRows` for what asks it."""

    def read(
        self,
        model: str,
        *,
        since: float,  # noqa: ARG002  whatever is asked, it has none
        until: float,  # noqa: ARG002  as above
        columns: Sequence[str] | None = None,  # noqa: ARG002
        version: str | None = None,  # noqa: ARG002
        shadows: bool = False,  # noqa: ARG002
    ) -> pa.Table:
        """Raises.

        Raises:
            LogError: Always.
        """
        self._refuse(model)

    def count(self, model: str, *, since: float, until: float) -> int:  # noqa: ARG002  as above
        """Raises.

        Raises:
            LogError: Always.
        """
        self._refuse(model)

    @staticmethod
    def _refuse(model: str) -> NoReturn:
        raise LogError(
            f"the inference log of {model} cannot be read here: pyarrow is not installed; ask where 'ekiben[monitor]' is, "
            "over the same EKIBEN_LOG_URI"
        )
