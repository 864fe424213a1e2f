"""ESP32-C3-DevKitM-1 (ESP32-C3-MINI-1, 4 MB): a node on a serial line, without a radio.

The wiring beside the kit is ours and stands in this file. Sources:
  [kit]   Espressif, "ESP32-C3-DevKitM-1" user guide (esp-dev-kits): headers, USB-UART bridge, RGB LED on GPIO8
  [chip]  Espressif, ESP32-C3 datasheet: RTC pins 0 to 5, strapping pins 2, 8 and 9, ADC1 on 0 to 4, two UARTs, one I2C
  [mpy]   MicroPython, ports/esp32: partitions-4MiB.csv; board ESP32_GENERIC_C3
  [wake]  MicroPython pull request 17518 and its documentation of esp32.wake_on_gpio
  [at]    Espressif, ESP-AT, "Sleep AT Examples": an ESP32-C3 at 160 MHz takes about 20 mA in modem sleep
"""

NAME = "esp32c3_devkitm"
CHIP = "esp32c3"
MICROPYTHON_BUILD = "ESP32_GENERIC_C3"
# The first with esp32.wake_on_gpio [wake]: this chip has neither ext0 nor ext1, and no older release wakes it by a pin.
MICROPYTHON_MIN = (1, 27, 0)

BLOCK_SIZE = 4096
FLASH_SIZE = 4 * 1024 * 1024
# The stock table gives MicroPython 10000h to 200000h and its file system `vfs` the rest [mpy]; ours cuts that in two.
PARTITIONS = {
    "app": (0x200000, 1536 * 1024),
    "state": (0x380000, 512 * 1024),
}
# MicroPython mounts the partition of this label at / and runs its main.py.
APP_LABEL = "vfs"
# 4 MiB of flash have no second place for MicroPython: it is replaced by cable alone.
SPARE_MICROPYTHON = None

# USB-UART bridge on UART0, GPIO20 and GPIO21 [kit].
CONSOLE = "uart0"
CONSOLE_BAUD = 115200

# Our wiring, as all below: a transceiver that switches direction by itself.
RS485_UART = 1
RS485_TX_PIN = 6
RS485_RX_PIN = 7
RS485_DE_PIN = None

# Both UARTs of the chip are taken.
ULTRASONIC_UART = None
ULTRASONIC_TX_PIN = None
ULTRASONIC_RX_PIN = None

SENSORS_I2C = 0
SENSORS_SCL_PIN = 10
SENSORS_SDA_PIN = 5
SENSORS_POWER_PIN = None
SENSORS_POWER_ON = 1

# 18 and 19 are the chip's USB, which this kit does not bring to its connector [kit].
INPUT_PINS = {"motion": 3, "float": 1, "door": 19, "presence": 18}

LOOP_ADC_PIN = 4
LOOP_SHUNT_OHM = 120
# 40 kOhm over 10 kOhm, for a 12 V battery.
SUPPLY_ADC_PIN = 0
SUPPLY_DIVIDER_MILLI = 5000
SUPPLY_SWITCH_PIN = None
SUPPLY_SWITCH_ON = 1

# [chip]
WAKE_PINS = (0, 1, 2, 3, 4, 5)
# An RGB LED that wants a protocol, on a strapping pin: left dark.
LED_PIN = None
LED_ON = 1

RADIO_CHIP = None

STRAPPING: "dict[int, str]" = {}  # none is used

# Of the chip alone [at]. Nothing was found about bridge, regulator and RGB LED in deep sleep: this kit is for mains.
ACTIVE_MA = 20
DEEP_SLEEP_UA = None

UNCONFIRMED = ("ACTIVE_MA", "DEEP_SLEEP_UA")
