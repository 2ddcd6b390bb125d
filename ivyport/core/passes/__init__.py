"""Passes: each takes a graph and leaves a better one that computes the same."""
