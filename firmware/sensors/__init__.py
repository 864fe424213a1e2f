"""One file per probe or chip."""
