"""What a node on the air is made with: its law, its radio's driver, the carrier, and two more settings.

On the heap only while a Node is made.
"""

from firmware.air_uplink import AirUplink
from firmware.errors import WrongFirmware
from firmware.lora import Lora
from firmware.modules import forget
from firmware.radios.sx126x import Sx126x
from firmware.settings import RADIO_DBM, RADIO_SF
from firmware.spent import Spent
from protocols.wire.airtime import AirRefused
from protocols.wire.law import Law

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal
    from firmware.session import Identity

# Until somebody says otherwise (SPEC.md section 2.4).
_SF = 10
_DBM = 17


def carrier(hal: "Hal", who: "Identity") -> "tuple[Lora, Any, dict[int, int]]":
    """The carrier, what paces the uplink, and the defaults of the settings that come with them."""
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
    made = Lora(Sx126x(port, law, hal.clock), law, hal.clock, hal.random, who.address, plan, dbm_max)
    defaults = {RADIO_SF: plan[3] or min(_SF, law.sf_max), RADIO_DBM: min(_DBM, dbm_max)}
    return made, AirUplink, defaults
