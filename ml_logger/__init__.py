"""The ML logger: records signals with features, orders, deals and bars, and joins them into data sets."""
