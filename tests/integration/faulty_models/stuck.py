"""Quick, so that it runs in the event loop; hangs where `f` is 3."""

import time


def transform(columns):
    if 3 in columns["f"].tolist():
        time.sleep(60)
    return columns
