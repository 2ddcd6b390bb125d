"""Runs the command line of ivyport from a checkout: ``python cli.py hf ...``."""

from ivyport.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
