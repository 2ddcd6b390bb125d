"""One package a target framework, and the building of Python syntax trees."""
