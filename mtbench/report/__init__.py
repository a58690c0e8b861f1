"""From a store to claims: selection by validation, statistics, tables. Needs no torch, no plugins and no data."""
