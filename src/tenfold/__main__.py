"""`python -m tenfold` is `tenfold`."""

from __future__ import annotations

from tenfold.cli.main import main

if __name__ == "__main__":
    main()
