"""What a node on the air is made with: its law, its radio, the carrier, two more settings; and how these are changed.

On the heap only for that.
"""

from firmware.lora import Lora
from firmware.modules import forget
from firmware.no_start import WrongFirmware
from firmware.radios.sx126x import Sx126x
from firmware.settings import RADIO_DBM, RADIO_SF
from firmware.spent import Spent
from protocols.wire import messages
from protocols.wire.airtime import AirRefused
from protocols.wire.law import Law
from protocols.wire.limits import MAX_DETAIL_TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.commands import CommandRunner
    from firmware.hal import Hal
    from firmware.session import Identity

# Until somebody says otherwise (SPEC.md section 2.4).
_SF = 10
_DBM = 17


def carrier(hal: "Hal", who: "Identity") -> "tuple[Lora, Any, dict[int, int]]":
    """The carrier, what paces the uplink, and the defaults of the settings that come with them."""
    from firmware.air_uplink import AirUplink

    made, _, defaults = radio(hal, who)
    return made, AirUplink, defaults


def radio(hal: "Hal", who: "Identity") -> "tuple[Lora, Sx126x, dict[int, int]]":
    """The carrier, its radio, and the defaults of the settings that come with them."""
    plan = who.radio
    assert plan is not None
    port = hal.radio()
    if port is None:
        raise WrongFirmware("this node was minted for the air, and board %s has no radio" % who.board)
    try:
        law = Law(plan[0], Spent(hal.state_fs))
        law.freq_hz(plan[1] + plan[2] - 1)
    except AirRefused as exc:
        raise WrongFirmware("the radio of the identity: %s; mint this node again" % exc)
    forget("protocols.wire.plans_table")
    dbm_max = min(law.dbm_max, port.dbm_max)
    chip = Sx126x(port, law, hal.clock)
    made = Lora(chip, law, hal.clock, hal.random, who.address, plan, dbm_max)
    defaults = {RADIO_SF: plan[3] or min(_SF, law.sf_max), RADIO_DBM: min(_DBM, dbm_max)}
    return made, chip, defaults


def begin(runner: "CommandRunner", args: "list[int]") -> None:
    """The command "set radio": both in one save. Its result goes out with them already: if that is too quiet, silence
    raises them again.
    """
    node = runner.node
    problem = node.carrier.problem(args[0], args[1])
    if problem:
        runner.end(messages.REFUSED, problem[:MAX_DETAIL_TEXT])
        return
    node.settings.change({RADIO_SF: args[0], RADIO_DBM: args[1]})
    node.carrier.apply(node.settings)
    runner.end(messages.DONE, args)
