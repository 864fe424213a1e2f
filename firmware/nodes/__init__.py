"""One data file per node type: which sensors, how often, which limits raise which alarm."""
