"""From rows to a prepared folder: `preparation` is the story, pass one in `label_pass`, pass two in `partitions`."""
