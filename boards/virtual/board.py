"""The virtual board: an ESP32 class chip whose MicroPython is the unix port and whose pins end in a supervisor.

Constants only; read by the node, the image builder, the flasher and the supervisor alike.
"""

NAME = "virtual"
CHIP = "virtual"
# The first release whose littlefs, `.mpy` version 6.3 and asyncio the firmware was tested with.
MICROPYTHON_MIN = (1, 25, 0)
MICROPYTHON_BUILD = "the unix port"

# Erase size of the flash, and the block size of both littlefs file systems on it.
BLOCK_SIZE = 4096
FLASH_SIZE = 8 * 1024 * 1024
# label: (offset, size). `app` is written by the flasher and holds both slots; `state` is the node's own.
PARTITIONS = {
    "app": (0x200000, 1536 * 1024),
    "state": (0x380000, 512 * 1024),
}
APP_LABEL = "app"
# A second place for MicroPython, so that one that runs can be replaced; the first is below 2 MiB.
SPARE_MICROPYTHON = (0x400000, 0x1F0000)

# The link to the gateway is the console: stdin and stdout of MicroPython, a USB serial port seen from outside.
CONSOLE = "stdio"
CONSOLE_BAUD = 115200

# RS-485 bus to the probes. The transceiver of this board switches direction by itself.
RS485_UART = 1
RS485_TX_PIN = 17
RS485_RX_PIN = 16
RS485_DE_PIN = None

# UART level sensor.
ULTRASONIC_UART = 2
ULTRASONIC_TX_PIN = 19
ULTRASONIC_RX_PIN = 18

# I2C bus to the accelerometer and the barometer.
SENSORS_I2C = 0
SENSORS_SCL_PIN = 22
SENSORS_SDA_PIN = 21
# What switches the supply of the sensors on a UART, and the level that is on: nothing does here.
SENSORS_POWER_PIN = None
SENSORS_POWER_ON = 1

# Inputs, high when active: contacts close to 3.3 V against a pull-down, an interrupt output drives both ways.
INPUT_PINS = {"motion": 33, "float": 32, "door": 27, "presence": 26, "service": 25}

# A 4-20 mA loop over its shunt.
LOOP_ADC_PIN = 34
LOOP_SHUNT_OHM = 120

# Supply voltage behind a divider: supply = pin voltage * SUPPLY_DIVIDER_MILLI / 1000.
SUPPLY_ADC_PIN = 35
SUPPLY_DIVIDER_MILLI = 5000
SUPPLY_SWITCH_PIN = None
SUPPLY_SWITCH_ON = 1

# Pins that can end a deep sleep (RTC domain of an ESP32).
WAKE_PINS = (0, 2, 4, 12, 13, 14, 15, 25, 26, 27, 32, 33, 34, 35, 36, 39)
LED_PIN = 2
LED_ON = 1

# A chip of boards/virtual/chips/, where somebody attached one: VirtualBoard.attach_radio().
RADIO_CHIP = "sx1262"
RADIO_SPI = 1
RADIO_SCK_PIN = 14
RADIO_MOSI_PIN = 13
RADIO_MISO_PIN = 12
RADIO_NSS_PIN = 15
RADIO_RST_PIN = 23
RADIO_BUSY_PIN = 36
RADIO_DIO1_PIN = 39
RADIO_RXEN_PIN = None
RADIO_TCXO_MV = 1800
RADIO_DIO2_RF_SWITCH = True
RADIO_TX_DBM_MAX = 22

STRAPPING = {2: "nothing is strapped here", 12: "nothing is strapped here", 15: "nothing is strapped here"}
UNCONFIRMED = ()

# Currents for the power model: a Heltec WiFi LoRa 32 V3, whose board.py names the sources.
ACTIVE_MA = 45
DEEP_SLEEP_UA = 25
RADIO_TX_MA = 118
RADIO_RX_MA = 6
RADIO_SLEEP_UA = 2
