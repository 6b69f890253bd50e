"""Fails on rows that nobody thought of when the golden rows were chosen: one in ten."""


def transform(columns):
    if (columns["f"] > 0.8).any():
        raise ValueError("f above 0.8 was never seen in training")
    return columns
