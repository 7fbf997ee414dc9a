"""Where bytes lie: addresses and their faults, what the page cache holds, how fast a store is."""
