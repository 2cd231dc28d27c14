"""The one owner of the terminal: links, connection, market data, trade events, orders.

See docs/architecture.md. No MetaTrader 5 call is ever made in this process: link processes make them.
"""
