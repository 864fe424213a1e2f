"""The registry as a node needs it. Generated from measurands.toml and schemas.toml by build_registry.py: do not edit."""

# id: (name, decimals, centre, order). SPEC-readings.md says what centre and order are.
MEASURANDS = {
    1: ("water_temperature", 2, 1500, 11),
    2: ("ph", 2, 780, 7),
    3: ("dissolved_oxygen", 2, 850, 9),
    4: ("conductivity", 0, 600, 11),
    5: ("turbidity", 1, 300, 9),
    6: ("orp", 0, 0, 9),
    7: ("ammonia_nitrogen", 2, 100, 8),
    8: ("level", 1, 1000, 10),
    9: ("supply_voltage", 2, 1220, 7),
    10: ("permanganate_index", 2, 400, 9),
    11: ("chemical_oxygen_demand", 1, 200, 8),
    12: ("biochemical_oxygen_demand", 1, 40, 6),
    13: ("total_phosphorus", 3, 150, 8),
    14: ("total_nitrogen", 2, 250, 9),
    15: ("chlorophyll_a", 1, 120, 8),
    16: ("transparency", 1, 400, 9),
    17: ("flow", 3, 2000, 12),
    18: ("velocity", 3, 400, 9),
}

# id: (name, ids of the measurands of a set, in order)
SCHEMAS = {
    1: ("river8", (1, 2, 3, 4, 5, 6, 7, 8)),
    2: ("river6", (1, 4, 2, 3, 5, 8)),
    3: ("river9", (1, 2, 3, 4, 5, 6, 7, 8, 9)),
    4: ("river_nutrients", (10, 7, 13, 14)),
    5: ("hydrometry", (8, 17, 18, 9)),
}
