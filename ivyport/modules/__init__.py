"""Scopes become classes: the module tree of a graph, and its printing for each target."""
