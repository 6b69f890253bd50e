"""A model's life from its training to its successor, in minutes: a year of flights is replayed against a real server."""
