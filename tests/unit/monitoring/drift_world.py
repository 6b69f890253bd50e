"""Rows of a made-up model with every kind of column, as a table of the log and as the batch its profile is made of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ekiben.model.outputs import Outputs
from ekiben.model.profile import profile_of
from ekiben.model.signature import Batch
from ekiben.model.spec import CardSpec, InputSpec, ModelSpec

CITIES = np.array(["Kyoto", "Osaka", "Nara", "Kobe", "Otsu"], object)
LABELS = ("no", "yes")
SPEC = ModelSpec(
    name="mixed",
    task="binary_classification",
    labels=LABELS,
    card=CardSpec(owner="tests"),
    inputs=(
        *(InputSpec(name=f"normal{i}", type="float") for i in range(6)),
        *(InputSpec(name=f"gap{i}", type="float", nullable=True) for i in range(3)),
        InputSpec(name="skewed", type="float"),
        *(InputSpec(name=f"few{i}", type="int") for i in range(3)),
        *(InputSpec(name=f"city{i}", type="string", nullable=True) for i in range(3)),
        InputSpec(name="place", type="string"),
        InputSpec(name="flag", type="bool"),
    ),
)
"""18 inputs; with score and class 20 columns."""


def draw(rng, n):
    """Columns as a batch has them; missing strings are empty, missing floats NaN. Last the probability of yes."""
    columns = {f"normal{i}": rng.normal(i, i + 1, n).astype(np.float32) for i in range(6)}
    for i, share in enumerate((0.02, 0.1, 0.3)):
        values = rng.gamma(2, 1, n).astype(np.float32)
        values[rng.random(n) < share] = np.nan
        columns[f"gap{i}"] = values
    columns["skewed"] = rng.lognormal(0, 1.5, n).astype(np.float32)
    columns |= {f"few{i}": rng.integers(0, (2, 7, 20)[i], n) for i in range(3)}
    for i in range(3):
        values = rng.choice(CITIES, n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
        values[rng.random(n) < i * 0.05] = ""
        columns[f"city{i}"] = values
    rarity = 1 / np.arange(1, 301)
    columns["place"] = rng.choice(np.array([f"p{i}" for i in range(300)], object), n, p=rarity / rarity.sum())
    columns["flag"] = rng.random(n) < 0.03
    return columns, rng.beta(2, 5, n).astype(np.float32)


def table_of(columns, score, spec=SPEC, missing_text=""):
    fields = {}
    for item in spec.inputs:
        values = columns[item.name]
        if values.dtype == object:
            fields[item.name] = pa.array(values, pa.string(), mask=values == missing_text if item.nullable else None)
        else:
            fields[item.name] = pa.array(values, mask=np.isnan(values) if values.dtype.kind == "f" else None)
    labels = np.array(LABELS, object)[(score >= 0.5).astype(int)]
    outputs = {"prediction": pa.array(labels, pa.string()), "score": pa.array(score)}
    return pa.table({"features": struct_of(fields), "outputs": struct_of(outputs)})


def struct_of(fields):
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def profile(columns, score, spec=SPEC):
    probabilities = np.stack([1 - score, score], axis=1)
    outputs = Outputs(len(score), {"probabilities": probabilities}, LABELS, (score >= 0.5).astype(np.intp), 0.5)
    return profile_of(spec, Batch(len(score), columns), outputs)
