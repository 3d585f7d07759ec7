"""Protocols of other servers: the Open Inference Protocol V2, and TensorFlow Serving's REST API."""
