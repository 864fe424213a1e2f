"""ESP32-DevKitC V4 (ESP32-WROOM-32E, 4 MB) with a Waveshare Core1262 radio module and an RS-485 transceiver.

The wiring beside the kit is ours and stands in this file. Sources:
  [kit]   Espressif, "ESP32-DevKitC V4 Getting Started Guide" (ESP-IDF Programming Guide): header, USB-UART bridge
  [chip]  Espressif, ESP32 datasheet: RTC pins, strapping pins, input-only pins 34 to 39
  [mpy]   MicroPython, ports/esp32: partitions-4MiB.csv; board ESP32_GENERIC
  [mesh]  Meshtastic firmware, variants/ai-c3/variant.h: the Core1262's TCXO and antenna switch
  [meas]  lucidar.me, "ESP32-DevKitC V4 real current consumption in deep sleep mode"
  [sx]    Semtech, SX1261/2 datasheet, section 3.5: currents
"""

NAME = "esp32_devkitc_sx1262"
CHIP = "esp32"
MICROPYTHON_BUILD = "ESP32_GENERIC"
# Our oldest: littlefs, `.mpy` version 6.3 and asyncio the firmware was tested with.
MICROPYTHON_MIN = (1, 25, 0)

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

# USB-UART bridge on UART0, GPIO1 and GPIO3 [kit].
CONSOLE = "uart0"
CONSOLE_BAUD = 115200

# Our wiring: a transceiver that switches direction by itself. 16 and 17 are free on WROOM modules, not on WROVER [kit].
RS485_UART = 1
RS485_TX_PIN = 17
RS485_RX_PIN = 16
RS485_DE_PIN = None

# Our wiring. 39 can only be an input, which a receiver is.
ULTRASONIC_UART = 2
ULTRASONIC_TX_PIN = 25
ULTRASONIC_RX_PIN = 39

# Our wiring, on the pins that examples use for I2C.
SENSORS_I2C = 0
SENSORS_SCL_PIN = 22
SENSORS_SDA_PIN = 21
SENSORS_POWER_PIN = None
SENSORS_POWER_ON = 1

# Our wiring: high when active, on pins with a pull-down of their own.
INPUT_PINS = {"motion": 33, "float": 32, "door": 27, "presence": 26}

# Our wiring, on ADC1.
LOOP_ADC_PIN = 34
LOOP_SHUNT_OHM = 120
# 40 kOhm over 10 kOhm, for a 12 V battery.
SUPPLY_ADC_PIN = 35
SUPPLY_DIVIDER_MILLI = 5000
SUPPLY_SWITCH_PIN = None
SUPPLY_SWITCH_ON = 1

# RTC pins [chip] on the header.
WAKE_PINS = (0, 2, 4, 12, 13, 14, 15, 25, 26, 27, 32, 33, 34, 35, 36, 39)
# The kit has no LED but that of the supply: ours, to ground, so that it holds strapping pin 2 low as it must be.
LED_PIN = 2
LED_ON = 1

# Our wiring, on the native pins of SPI 2 (VSPI); DIO1 on an RTC pin, so that a frame can wake the node.
RADIO_CHIP = "sx1262"
RADIO_SPI = 2
RADIO_SCK_PIN = 18
RADIO_MOSI_PIN = 23
RADIO_MISO_PIN = 19
RADIO_NSS_PIN = 5
RADIO_RST_PIN = 14
RADIO_BUSY_PIN = 13
RADIO_DIO1_PIN = 4
RADIO_RXEN_PIN = None
RADIO_TCXO_MV = 1800
RADIO_DIO2_RF_SWITCH = True
RADIO_TX_DBM_MAX = 22

# Strapping pins [chip] that are used, each with the reason why that does no harm.
STRAPPING = {
    2: "an LED to ground holds it low at a start, as a download needs",
    5: "a chip select idles high, as its pull-up has it; it only sets the timing of SDIO",
}

# Awake, and asleep with the regulator, the bridge and the power LED of the kit, which outweigh the chip's 10 uA [meas].
ACTIVE_MA = 43
DEEP_SLEEP_UA = 3800
# +22 dBm at 868 MHz; boosted receive, rounded up; asleep with its settings kept, rounded up [sx].
RADIO_TX_MA = 118
RADIO_RX_MA = 6
RADIO_SLEEP_UA = 2

# Stated by [mesh] alone; another driver for this module switches its antenna by RXEN and TXEN instead.
UNCONFIRMED = ("RADIO_TCXO_MV", "RADIO_DIO2_RF_SWITCH")
