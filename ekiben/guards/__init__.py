"""Whether a request may pass."""
