"""A version of an Ekiben model as MLflow's pyfunc; MLflow runs this file where it loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from ekiben.model import Predictor


class EkibenModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow is not installed where types are checked
    """Predicts with Ekiben's predictor, as the server, the batch job and the device do."""

    def load_context(self, context: Any) -> None:
        """Opens the version: its checksums and golden rows are checked first."""
        self._predictor = Predictor.open(Path(context.artifacts["version"]))

    # NOTE: without a type for the rows, which MLflow would take for their schema.
    def predict(self, context: Any, model_input, params: Any = None) -> list[dict[str, Any]]:  # type: ignore[no-untyped-def]  # noqa: ANN001, ARG002
        """One element a row, as ``POST /invocations`` of the server answers it.

        Args:
            context: MLflow's.
            model_input: A data frame with a column an input, or for a model whose only input is a tensor ``[n, *shape]``, bare
                or by its name. Missing values are null.
            params: MLflow's; models take none.
        """
        if isinstance(model_input, dict):
            (model_input,) = model_input.values()
        if isinstance(model_input, np.ndarray):
            return self._predictor.predict(model_input.tolist())
        frame = model_input.astype(object)
        return self._predictor.predict(frame.where(frame.notna(), None).to_dict("records"))


mlflow.models.set_model(EkibenModel())
