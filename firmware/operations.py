"""What a gateway may ask of a node: new settings, and one function per operation (SPEC.md section 2.2), which
commands.py begins when it is its turn.

A function gets the runner and the args, which codes.command_problem() has found right, and either ends the command at
once (`runner.end`) or notes in the runner or the node what will end it. A node is seldom asked anything: this module is
on the heap only while a command is begun, so nothing may be kept here from one command to the next.
"""

from firmware import records
from firmware.errors import SettingsError
from firmware.modules import forget
from firmware.settings import INTERVAL_S
from protocols.wire import codes, messages
from protocols.wire.limits import MAX_DETAIL_TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from firmware.commands import CommandRunner
    from firmware.node import Node
    from protocols.wire.messages import Command, Settings

# Time for the result of a reboot to reach the gateway before the reboot.
REBOOT_AFTER_S = 5


def receive(node: "Node", message: "Settings") -> None:
    """A document from the gateway, taken or refused as a whole; either way it hears what is in force."""
    try:
        node.settings.replace(message.version, message.document)
        _apply_settings(node)
    except SettingsError as exc:
        node.hal.log(str(exc))
    _tell_settings(node)


def _apply_settings(node: "Node") -> None:
    """What depends on settings and is no look-up of one."""
    from firmware import assembly

    if node.safe is None:
        node.alarms.rules = assembly.rules_of(node.identity.node_type, node.settings)
    forget("firmware.assembly")
    if node.identity.radio is not None:
        node.carrier.apply(node.settings)
    node.schedule.replan(node.interval_s())


def _tell_settings(node: "Node") -> None:
    node.uplink.send_aside(messages.SettingsReport(node.settings.version, node.settings.document()))


def begin(runner: "CommandRunner", command: "Command", waited_s: int) -> None:
    """Carry out a command whose id is durable by now, or end it with the reason why not."""
    problem = codes.command_problem(command.op, command.args)
    if waited_s > command.ttl_s:
        runner.end(messages.EXPIRED, waited_s)
    elif command.op not in _OPERATIONS:
        runner.end(messages.UNKNOWN_OPERATION, command.op)
    elif problem:
        runner.end(messages.REFUSED, problem[:MAX_DETAIL_TEXT])
    elif runner.node.safe is not None and command.op not in _IN_SAFE_MODE:
        runner.end(messages.REFUSED, "this node is in safe mode: reboot it, or ask its console")
    else:
        _OPERATIONS[command.op](runner, command.args)


def _identify(runner: "CommandRunner", seconds: int) -> None:
    runner.node.hal.identify(seconds > 0)
    runner.dark_at_s = runner.node.hal.clock.uptime_s() + seconds
    runner.end(messages.DONE, None)


def _reboot(runner: "CommandRunner", _: None) -> None:
    if runner.node.safe is not None:
        runner.node.safe.try_again()
    runner.reboot_at_s = runner.node.hal.clock.uptime_s() + REBOOT_AFTER_S
    runner.end(messages.DONE, None)


def _read_now(runner: "CommandRunner", _: None) -> None:
    runner.is_reading = True
    runner.node.begin_measurement()


def _set_interval(runner: "CommandRunner", seconds: int) -> None:
    node = runner.node
    node.settings.change({INTERVAL_S: seconds})
    node.schedule.replan(node.interval_s())
    runner.end(messages.DONE, seconds)


def _report_settings(runner: "CommandRunner", _: None) -> None:
    _tell_settings(runner.node)
    runner.end(messages.DONE, None)


def _console(runner: "CommandRunner", number: int) -> None:
    lines = runner.node.hal.lines
    text = lines.line(number)
    if text is None:
        runner.end(messages.REFUSED, "line %d: the console has lines 0 to %d" % (number, lines.count - 1))
    else:
        runner.end(messages.DONE, text)


def _maintenance(runner: "CommandRunner", seconds: int) -> None:
    runner.node.maintain(seconds)
    runner.end(messages.DONE, seconds)


def _calibrate(runner: "CommandRunner", args: "list[int]") -> None:
    from firmware import calibration  # on the heap for this moment only

    calibration.begin(runner, args)
    forget("firmware.calibration")


def _learn(runner: "CommandRunner", _: None) -> None:
    watch = runner.node.watch
    problem = "this node type has nothing to learn" if watch is None else watch.learn()
    if problem:
        runner.end(messages.REFUSED, problem[:MAX_DETAIL_TEXT])
    else:
        runner.end(messages.DONE, None)


def _test_alarm(runner: "CommandRunner", _: None) -> None:
    """What an alarm does, without a state that a reset could leave behind."""
    node = runner.node
    time, tq = node.record_time()
    node.outbox.keep(records.EVENT, records.pack_event(time, tq, codes.ALARM_TEST, messages.NOTE, None))
    node.uplink.hurry()
    runner.end(messages.DONE, None)


def _set_radio(runner: "CommandRunner", args: "list[int]") -> None:
    if runner.node.identity.radio is None:
        runner.end(messages.REFUSED, "this node is not on the air")
        return
    from firmware import on_air  # on the heap for this moment only

    on_air.begin(runner, args)
    forget("firmware.on_air")
    _tell_settings(runner.node)


_OPERATIONS: "dict[int, Callable[[CommandRunner, Any], None]]" = {
    codes.IDENTIFY: _identify,
    codes.REBOOT: _reboot,
    codes.READ_NOW: _read_now,
    codes.SET_INTERVAL: _set_interval,
    codes.REPORT_SETTINGS: _report_settings,
    codes.CONSOLE: _console,
    codes.MAINTENANCE: _maintenance,
    codes.CALIBRATE: _calibrate,
    codes.LEARN: _learn,
    codes.TEST_ALARM: _test_alarm,
    codes.SET_RADIO: _set_radio,
}
# What needs nothing that a node in safe mode lacks.
_IN_SAFE_MODE = (codes.IDENTIFY, codes.REBOOT, codes.REPORT_SETTINGS, codes.CONSOLE)
