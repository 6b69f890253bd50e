"""HTTP: thin transports that hand over to the data plane."""
