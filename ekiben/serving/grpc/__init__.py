"""gRPC: the Open Inference Protocol's service, as an ASGI app that hands over to the data plane."""
