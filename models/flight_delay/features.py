"""Features of a flight, from what is known three hours before its scheduled departure.

One matrix ``features``, float32, ``[n, 20]``, its columns in the order of `FEATURES`. The first three are codes:
the position of a category in its list, or -1 for a category that is not in it. Missing weather stays NaN; both
the trees and the network know what to do with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
ORIGINS = ("EWR", "JFK", "LGA")
DESTINATIONS = (
    "ABQ", "ACK", "ALB", "ANC", "ATL", "AUS", "AVL", "BDL", "BGR", "BHM", "BNA", "BOS", "BQN", "BTV", "BUF", "BUR", "BWI", "BZN",
    "CAE", "CAK", "CHO", "CHS", "CLE", "CLT", "CMH", "CRW", "CVG", "DAY", "DCA", "DEN", "DFW", "DSM", "DTW", "EGE", "EYW", "FLL",
    "GRR", "GSO", "GSP", "HDN", "HNL", "HOU", "IAD", "IAH", "ILM", "IND", "JAC", "JAX", "LAS", "LAX", "LEX", "LGA", "LGB", "MCI",
    "MCO", "MDW", "MEM", "MHT", "MIA", "MKE", "MSN", "MSP", "MSY", "MTJ", "MVY", "MYR", "OAK", "OKC", "OMA", "ORD", "ORF", "PBI",
    "PDX", "PHL", "PHX", "PIT", "PSE", "PSP", "PVD", "PWM", "RDU", "RIC", "ROC", "RSW", "SAN", "SAT", "SAV", "SBN", "SDF", "SEA",
    "SFO", "SJC", "SJU", "SLC", "SMF", "SNA", "SRQ", "STL", "STT", "SYR", "TPA", "TUL", "TVC", "TYS", "XNA",
)  # fmt: skip
FEATURES = (
    "carrier", "origin", "dest", "day_of_week", "departure_hour", "departure_sin", "departure_cos", "arrival_hour", "block_hours",
    "distance", "temp", "dewp", "humid", "wind_east", "wind_north", "wind_speed", "wind_gust", "precip", "pressure", "visib",
)  # fmt: skip

_DAY_MIN = 1440
_HOUR_MIN = 60
_CODES = tuple(
    (name, {category: float(code) for code, category in enumerate(categories)})
    for name, categories in (("carrier", CARRIERS), ("origin", ORIGINS), ("dest", DESTINATIONS))
)
_AS_THEY_ARE = tuple((FEATURES.index(n), n) for n in FEATURES[FEATURES.index("distance") :] if not n.startswith("wind_"))


def transform(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Makes the model's one input.

    Args:
        columns: The signature's arrays, ``[n]`` each.

    Returns:
        ``features``: float32 ``[n, 20]``.
    """
    departure, arrival = columns["departure_minute"], columns["arrival_minute"]
    made = np.empty((len(departure), len(FEATURES)), np.float32)
    for position, (name, codes) in enumerate(_CODES):
        made[:, position] = [codes.get(value, -1.0) for value in columns[name].tolist()]
    made[:, 3] = columns["day_of_week"]
    made[:, 4] = departure / _HOUR_MIN
    angle = departure * (2 * np.pi / _DAY_MIN)
    made[:, 5] = np.sin(angle)
    made[:, 6] = np.cos(angle)
    made[:, 7] = arrival / _HOUR_MIN
    # By the clocks of two airports: flying time plus the difference between their time zones.
    made[:, 8] = (arrival - departure) % _DAY_MIN / _HOUR_MIN
    for position, name in _AS_THEY_ARE:
        made[:, position] = columns[name]
    # Direction is where the wind comes from, in degrees from north.
    bearing, speed = np.deg2rad(columns["wind_dir"]), columns["wind_speed"]
    made[:, 13] = speed * np.sin(bearing)
    made[:, 14] = speed * np.cos(bearing)
    made[:, 15] = speed
    made[:, 16] = columns["wind_gust"]
    return {"features": made}
