"""What a node is in safe mode, whatever its type: something on a line that says how it is and can be asked.

No sensor, no rule, no watch: one of them may be what keeps it from starting. It is not minted, so it has no line in the
list of node types; its hello names the type that the node has.
"""

from firmware.nodes import NodeType
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S

NODE_TYPE = NodeType(
    name="safe mode",
    schema_id=0,
    sensors=lambda hal, watch: (),
    limits=(),
    rules=(),
    derive=None,
    # Its status more often than usual: somebody is looking for what is wrong.
    settings={INTERVAL_S: 900, REPORT_S: 3600, STATUS_S: 3600},
    watch=None,
    sleeps=None,
)
