"""Adapters of a made-up company."""
