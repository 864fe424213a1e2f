"""Seeed Studio XIAO ESP32S3 with the Wio-SX1262 of the kit, board to board: ESP32-S3, 8 MB of flash, native USB.

The Wio-SX1262 that is sold alone, for the pin headers, is wired otherwise and is not this board. Sources:
  [mesh]  Meshtastic firmware, variants/esp32s3/seeed_xiao_s3/variant.h
  [mpy]   MicroPython, ports/esp32: boards/SEEED_XIAO_ESP32S3 (pins.csv, sdkconfig.board), partitions-8MiB.csv
  [chip]  Espressif, ESP32-S3 datasheet: RTC pins 0 to 21, strapping pins 0, 3, 45, 46
  [meas]  forum.seeedstudio.com thread 292361, at the battery pads: 15.9 uA without the radio module, 2.2 mA with
          one that was not put to sleep
  [radio] forum.seeedstudio.com thread 294956: the module asleep takes 1.2 uA, and 55 uA more with RXEN high
  [s3]    ComNets Bremen, MoleNet V6 power consumption: an ESP32-S3 awake behind its regulator takes 36 to 45 mA
  [sx]    Semtech, SX1261/2 datasheet, section 3.5: currents
"""

NAME = "xiao_esp32s3_wio_sx1262"
CHIP = "esp32s3"
MICROPYTHON_BUILD = "SEEED_XIAO_ESP32S3"
# The stock build for this board; ESP32_GENERIC_S3 does as well.
MICROPYTHON_MIN = (1, 25, 0)

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

# The chip's own USB.
CONSOLE = "usb"
CONSOLE_BAUD = 115200

# Our wiring, as all of the header below: D6 and D7 [mpy], a transceiver that switches direction by itself. The chip's
# ROM says a few lines there at a start, which no Modbus device takes for a request.
RS485_UART = 1
RS485_TX_PIN = 43
RS485_RX_PIN = 44
RS485_DE_PIN = None

# The header has no pins left for a second UART, a door and a presence input: no lift monitor on this board.
ULTRASONIC_UART = None
ULTRASONIC_TX_PIN = None
ULTRASONIC_RX_PIN = None

# D4 and D5, as the stock build has it [mpy].
SENSORS_I2C = 0
SENSORS_SCL_PIN = 6
SENSORS_SDA_PIN = 5
SENSORS_POWER_PIN = None
SENSORS_POWER_ON = 1

INPUT_PINS = {"motion": 1, "float": 2}

# D3.
LOOP_ADC_PIN = 4
LOOP_SHUNT_OHM = 120
# The board measures no battery [mesh]: our divider, 1 MOhm over 1 MOhm with 100 nF at D2.
SUPPLY_ADC_PIN = 3
SUPPLY_DIVIDER_MILLI = 2000
SUPPLY_SWITCH_PIN = None
SUPPLY_SWITCH_ON = 1

# RTC pins [chip] on the header, but for those of the radio's SPI.
WAKE_PINS = (1, 2, 3, 4, 5, 6)
# [mpy]. That it is on when low is what Seeed's examples do.
LED_PIN = 21
LED_ON = 0

# [mesh]
RADIO_CHIP = "sx1262"
RADIO_SPI = 1
RADIO_SCK_PIN = 7
RADIO_MOSI_PIN = 9
RADIO_MISO_PIN = 8
RADIO_NSS_PIN = 41
RADIO_RST_PIN = 42
RADIO_BUSY_PIN = 40
# Not an RTC pin: a frame can not wake this board from deep sleep.
RADIO_DIO1_PIN = 39
# High while the radio is awake, low while it sleeps [radio].
RADIO_RXEN_PIN = 38
RADIO_TCXO_MV = 1800
RADIO_DIO2_RF_SWITCH = True
RADIO_TX_DBM_MAX = 22

STRAPPING = {
    3: "a divider of 1 MOhm decides nothing but which JTAG is used, and only with a fuse that nobody has burnt",
}

# The upper end of what an ESP32-S3 takes awake [s3]; 15.9 uA and 1.2 uA for the module, rounded up [meas, radio].
ACTIVE_MA = 45
DEEP_SLEEP_UA = 18
# +22 dBm at 868 MHz; boosted receive, rounded up; asleep with its settings kept, rounded up [sx].
RADIO_TX_MA = 118
RADIO_RX_MA = 6
RADIO_SLEEP_UA = 2

# The sum of two measurements on two boards; the current awake was measured on another board with this chip.
UNCONFIRMED = ("LED_ON", "ACTIVE_MA", "DEEP_SLEEP_UA")
