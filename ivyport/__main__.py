"""`python -m ivyport` is the `ivyport` command."""

from __future__ import annotations

from ivyport.cli import main

if __name__ == "__main__":
    main()
