"""The chaos harness: a whole system on the paper terminal, disturbed by a seeded schedule, then audited.

`schedule` says what happens when (pure), `actions` does it, `trader` is the strategy that trades meanwhile, `watch`
follows the system, `audit` compares the broker's records with ours (pure), `evidence` collects both, `harness` runs
it all. Only `mt5bus chaos` and tests use it; no node imports it.
"""
