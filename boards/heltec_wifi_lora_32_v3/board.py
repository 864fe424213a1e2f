"""Heltec WiFi LoRa 32 V3 (HTIT-WB32LA): ESP32-S3FN8 (8 MB, no PSRAM), SX1262 with TCXO, OLED, USB-UART bridge.

Sources:
  [ard]   Espressif arduino-esp32, variants/heltec_wifi_lora_32_V3/pins_arduino.h
  [mesh]  Meshtastic firmware, variants/esp32s3/heltec_v3/variant.h
  [sch]   Heltec, HTIT-WB32LA(F) V3.1 schematic, as two public board definitions cite it
  [chip]  Espressif, ESP32-S3 datasheet: RTC pins 0 to 21, strapping pins 0, 3, 45, 46
  [mpy]   MicroPython, ports/esp32: partitions-8MiB.csv; board ESP32_GENERIC_S3, which has its console on UART0 as well
  [meas]  Heltec-Aaron-Lee/WiFi_Kit_series issue 6, measured on the battery connector, 2023-03-24
  [s3]    ComNets Bremen, MoleNet V6 power consumption: an ESP32-S3 awake behind its regulator takes 36 to 45 mA
  [sx]    Semtech, SX1261/2 datasheet, section 3.5: currents
"""

NAME = "heltec_wifi_lora_32_v3"
CHIP = "esp32s3"
MICROPYTHON_BUILD = "ESP32_GENERIC_S3"
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

# A CP2102 on GPIO43 and GPIO44 [ard].
CONSOLE = "uart0"
CONSOLE_BAUD = 115200

# Our wiring, as all of the header below: a transceiver that switches direction by itself.
RS485_UART = 1
RS485_TX_PIN = 47
RS485_RX_PIN = 48
RS485_DE_PIN = None

ULTRASONIC_UART = 2
ULTRASONIC_TX_PIN = 33
ULTRASONIC_RX_PIN = 34

# The second bus of the header [ard]; the first is the OLED's, whose supply we keep off.
SENSORS_I2C = 0
SENSORS_SCL_PIN = 42
SENSORS_SDA_PIN = 41
# Vext, low is on [mesh]: a header pin, and the OLED's supply. It goes off in deep sleep, so the accelerometer, which
# must stay awake then, hangs on 3V3.
SENSORS_POWER_PIN = 36
SENSORS_POWER_ON = 0

INPUT_PINS = {"motion": 7, "float": 6, "door": 5, "presence": 4}

LOOP_ADC_PIN = 2
LOOP_SHUNT_OHM = 120
# 390 kOhm over 100 kOhm, behind a switch [mesh, sch]. Low closes it on V3.0 and V3.1; on V3.2 it is said to be high.
SUPPLY_ADC_PIN = 1
SUPPLY_DIVIDER_MILLI = 4900
SUPPLY_SWITCH_PIN = 37
SUPPLY_SWITCH_ON = 0

# RTC pins [chip] that the header has and the board leaves free.
WAKE_PINS = (2, 4, 5, 6, 7)
LED_PIN = 35
LED_ON = 1

# [ard, mesh]
RADIO_CHIP = "sx1262"
RADIO_SPI = 1
RADIO_SCK_PIN = 9
RADIO_MOSI_PIN = 10
RADIO_MISO_PIN = 11
RADIO_NSS_PIN = 8
RADIO_RST_PIN = 12
RADIO_BUSY_PIN = 13
RADIO_DIO1_PIN = 14
RADIO_RXEN_PIN = None
RADIO_TCXO_MV = 1800
RADIO_DIO2_RF_SWITCH = True
RADIO_TX_DBM_MAX = 22

STRAPPING: "dict[int, str]" = {}  # none is used

# The upper end of what an ESP32-S3 takes awake [s3]; on the battery connector, radio and OLED asleep, Vext off [meas].
ACTIVE_MA = 45
DEEP_SLEEP_UA = 25
# +22 dBm at 868 MHz; boosted receive, rounded up; asleep with its settings kept, rounded up [sx].
RADIO_TX_MA = 118
RADIO_RX_MA = 6
RADIO_SLEEP_UA = 2

# The switch of the divider differs between revisions; the current awake was measured on another board with this chip.
UNCONFIRMED = ("SUPPLY_SWITCH_ON", "ACTIVE_MA")
