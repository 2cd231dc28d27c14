"""Commands that belong to no node, one file each."""
