"""`python -m mt5bus` is `mt5bus`."""

from mt5bus.cli import main

if __name__ == "__main__":
    main()
