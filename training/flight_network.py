"""A network with embeddings on a flight's features: another kind of model for the same signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.exports import save_torch, torch_to_onnx
from training.job import Trained
from training.reproducible import reproducible

Array = npt.NDArray[Any]

_EMBEDDED: Final = (8, 4, 16)
_SMALLEST_SCALE: Final = 1e-6


class FlightNetwork(nn.Module):
    """Embeddings of the codes beside standardized numbers, two hidden layers, the probabilities of both labels.

    Args:
        mean: ``[numbers]`` means of the numeric features where they are there.
        scale: ``[numbers]`` their standard deviations.
        sizes: How many codes each embedded feature has, in the order of the matrix' first columns.
        hidden: Width of the first hidden layer.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor, sizes: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.tables = nn.ModuleList(_at_the_origin(size + 1, width) for size, width in zip(sizes, _EMBEDDED, strict=True))
        width = sum(_EMBEDDED) + 2 * len(mean)
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 2)
        )  # fmt: skip

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, 2]`` unnormalized scores for ``[n, codes + numbers]`` features."""
        # Code -1, an unknown category, is row 0 of its table.
        codes = features[:, : len(self.tables)].to(torch.int64) + 1
        numbers = features[:, len(self.tables) :]
        missing = torch.isnan(numbers)
        standard = torch.where(missing, torch.zeros_like(numbers), (numbers - self.mean) / self.scale)
        embedded = [table(codes[:, position]) for position, table in enumerate(self.tables)]
        return self.layers(torch.cat([*embedded, standard, missing.to(torch.float32)], dim=1))  # type: ignore[no-any-return]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, 2]`` probabilities."""
        return torch.softmax(self.logits(features), dim=1)


def _at_the_origin(size: int, width: int) -> nn.Embedding:
    """A table of zeros: a category that training never meets stays there, and says nothing."""
    table = nn.Embedding(size, width)
    nn.init.zeros_(table.weight)
    return table


def fit_network(
    features: Array, late: Array, *, sizes: tuple[int, ...], parameters: Mapping[str, Any], seed: int, advance: Callable[[int], None]
) -> Trained:
    """Trains the network on one thread.

    Args:
        features: float32 ``[n, features]``, the codes first; NaN where a number is missing.
        late: ``[n]`` 0 or 1.
        sizes: How many codes each embedded feature has.
        parameters: epochs, batch_rows, learning_rate, weight_decay, hidden.
        seed: Equal seeds, equal networks.
        advance: Told after each epoch.
    """
    numbers = features[:, len(sizes) :].astype(np.float64)
    mean, scale = np.nanmean(numbers, axis=0), np.maximum(np.nanstd(numbers, axis=0), _SMALLEST_SCALE)
    rows, target = torch.from_numpy(features), torch.from_numpy(late)
    with reproducible(seed):
        network = FlightNetwork(torch.from_numpy(mean).float(), torch.from_numpy(scale).float(), sizes, parameters["hidden"])
        optimizer = torch.optim.AdamW(network.parameters(), lr=parameters["learning_rate"], weight_decay=parameters["weight_decay"])
        for _ in range(parameters["epochs"]):
            for chosen in torch.split(torch.randperm(len(rows)), parameters["batch_rows"]):
                loss = nn.functional.cross_entropy(network.logits(rows[chosen]), target[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            advance(1)
    example = rows[:2]
    return Trained(
        save=lambda folder: save_torch(network, folder, example=example),
        export=lambda folder: torch_to_onnx(network, folder, example=example, name="features", output="probabilities"),
    )
