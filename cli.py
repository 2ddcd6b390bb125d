"""The command line from a checkout: `python cli.py hf MODEL --to jax`."""

from __future__ import annotations

from ivyport.cli import main

if __name__ == "__main__":
    main()
