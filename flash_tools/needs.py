"""What of a board a node type's program asks the hal for, and whether the board has it.

Buses, inputs and channels are named by texts in the program: hal.uart("rs485"), hal.read_pin("door").
"""

import ast
from pathlib import Path
from types import ModuleType

from flash_tools.images import board_constants, node_sources
from flash_tools.node_types import ROLES

# Method of the hal -> what the board's constant for such a name ends with; an input is an entry of INPUT_PINS.
_ENDINGS = {"uart": "_UART", "i2c": "_I2C", "read_mv": "_ADC_PIN"}
_INPUT = "read_pin"


def asked_for(root: Path, board: str, node_type: str) -> dict[tuple[str, str], str]:
    """(method of the hal, name) -> the module that asks for it."""
    found: dict[tuple[str, str], str] = {}
    for path, text in node_sources(root, board, node_type).items():
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Call(func=ast.Attribute(attr=method), args=[ast.Constant(value=str(name)), *_]):
                    if method in _ENDINGS or method == _INPUT:
                        found.setdefault((method, name), path.as_posix())
    return found


def missing(root: Path, board: str, node_type: str) -> list[str]:
    """A sentence for each thing that the program may ask for and this board has not."""
    constants = board_constants(board)
    if node_type in ROLES and constants.RADIO_CHIP is None:
        return [f"board {board} has no radio, and a {node_type} is nothing without one"]
    return [
        f"board {board} has no {name} for hal.{method}(), which {module} may ask for"
        for (method, name), module in sorted(asked_for(root, board, node_type).items())
        if not _has(constants, method, name)
    ]


def _has(constants: ModuleType, method: str, name: str) -> bool:
    if method == _INPUT:
        return name in constants.INPUT_PINS
    return getattr(constants, name.upper() + _ENDINGS[method], None) is not None
