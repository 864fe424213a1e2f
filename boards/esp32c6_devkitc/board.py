"""ESP32-C6-DevKitC-1 (ESP32-C6-WROOM-1, 8 MB): a node on a serial line, without a radio.

The wiring beside the kit is ours and stands in this file. Sources:
  [kit]   Espressif, "ESP32-C6-DevKitC-1" user guide (esp-dev-kits): headers, USB-UART bridge, RGB LED on GPIO8
  [chip]  Espressif, ESP-IDF for ESP32-C6, "GPIO & RTC GPIO": LP pins 0 to 7, ADC1 on 0 to 6, strapping 4, 5, 8, 9, 15
  [mpy]   MicroPython, ports/esp32: partitions-8MiB.csv; board ESP32_GENERIC_C6 with its console on UART0
  [wake]  MicroPython pull request 18627: the wake pins of this chip
"""

NAME = "esp32c6_devkitc"
CHIP = "esp32c6"
MICROPYTHON_BUILD = "ESP32_GENERIC_C6"
# The first that takes this chip's LP pins for esp32.wake_on_ext1, and not those of an ESP32 [wake].
MICROPYTHON_MIN = (1, 28, 0)

BLOCK_SIZE = 4096
FLASH_SIZE = 8 * 1024 * 1024
# The stock table gives MicroPython 10000h to 200000h and its file system `vfs` the rest [mpy]; ours cuts that in two.
PARTITIONS = {
    "app": (0x200000, 1536 * 1024),
    "state": (0x380000, 512 * 1024),
}
# MicroPython mounts the partition of this label at / and runs its main.py.
APP_LABEL = "vfs"
# A second place for MicroPython, so that one that runs can be replaced; the first is below 2 MiB.
SPARE_MICROPYTHON = (0x400000, 0x1F0000)

# USB-UART bridge on UART0, GPIO16 and GPIO17 [kit, mpy].
CONSOLE = "uart0"
CONSOLE_BAUD = 115200

# Our wiring, as all below: a transceiver that switches direction by itself.
RS485_UART = 1
RS485_TX_PIN = 18
RS485_RX_PIN = 19
RS485_DE_PIN = None

# Both UARTs of the main processor are taken.
ULTRASONIC_UART = None
ULTRASONIC_TX_PIN = None
ULTRASONIC_RX_PIN = None

SENSORS_I2C = 0
SENSORS_SCL_PIN = 22
SENSORS_SDA_PIN = 23
SENSORS_POWER_PIN = None
SENSORS_POWER_ON = 1

INPUT_PINS = {"motion": 2, "float": 3, "door": 20, "presence": 21}

LOOP_ADC_PIN = 1
LOOP_SHUNT_OHM = 120
# 40 kOhm over 10 kOhm, for a 12 V battery.
SUPPLY_ADC_PIN = 0
SUPPLY_DIVIDER_MILLI = 5000
SUPPLY_SWITCH_PIN = None
SUPPLY_SWITCH_ON = 1

# [chip], less the strapping pins.
WAKE_PINS = (0, 1, 2, 3, 6, 7)
# An RGB LED that wants a protocol, on a strapping pin: left dark.
LED_PIN = None
LED_ON = 1

RADIO_CHIP = None

STRAPPING: "dict[int, str]" = {}  # none is used

# Taken to be at most that of an ESP32-S3: nothing was found. Nor about bridge, regulator and LED in deep sleep: this
# kit is for mains.
ACTIVE_MA = 45
DEEP_SLEEP_UA = None

UNCONFIRMED = ("ACTIVE_MA", "DEEP_SLEEP_UA")
