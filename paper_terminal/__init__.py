"""A stand-in MetaTrader 5 terminal with the broker behind it, and a client module with MetaTrader5's API.

`python -m paper_terminal --path DIR` is the terminal; `paper_terminal.client` is the module programs import
in the place of `MetaTrader5`.
"""
