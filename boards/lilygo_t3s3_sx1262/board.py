"""LilyGO T3-S3 V1.2, SX1262 variant: ESP32-S3FH4R2 (4 MB flash, 2 MB PSRAM), SX1262 with TCXO, OLED, SD, native USB.

Sources:
  [ard]   Espressif arduino-esp32, variants/lilygo_t3_s3_sx1262/pins_arduino.h
  [mesh]  Meshtastic firmware, variants/esp32s3/tlora_t3s3_v1/variant.h
  [mpy]   MicroPython, ports/esp32: boards/LILYGO_T3_S3/pins.csv, partitions-4MiB.csv; ESP32_GENERIC_S3/board.md names
          the build for this chip
  [chip]  Espressif, ESP32-S3 datasheet: RTC pins 0 to 21, strapping pins 0, 3, 45, 46
  [meas]  Xinyuan-LilyGO/LilyGo-LoRa-Series issue 128: V1.2, 20 to 100 uA with OLED and SX1262 put to sleep
  [ldo]   the same, issue 273: GPIO35 can switch the radio's regulator off
  [s3]    ComNets Bremen, MoleNet V6 power consumption: an ESP32-S3 awake behind its regulator takes 36 to 45 mA
  [sx]    Semtech, SX1261/2 datasheet, section 3.5: currents
"""

NAME = "lilygo_t3s3_sx1262"
CHIP = "esp32s3"
MICROPYTHON_BUILD = "ESP32_GENERIC_S3, variant FLASH_4M"
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

# The chip's own USB.
CONSOLE = "usb"
CONSOLE_BAUD = 115200

# Our wiring, as all of the headers below: a transceiver that switches direction by itself. 43 and 44 are left to UART0.
RS485_UART = 1
RS485_TX_PIN = 40
RS485_RX_PIN = 41
RS485_DE_PIN = None

ULTRASONIC_UART = 2
ULTRASONIC_TX_PIN = 47
ULTRASONIC_RX_PIN = 48

# The QWIIC connector [ard]; the OLED's bus is 17 and 18. [mesh] has its second bus on 43 and 44.
SENSORS_I2C = 0
SENSORS_SCL_PIN = 21
SENSORS_SDA_PIN = 10
SENSORS_POWER_PIN = None
SENSORS_POWER_ON = 1

INPUT_PINS = {"motion": 15, "float": 16, "door": 39, "presence": 38}

# On ADC2, which is free as long as Wi-Fi is off; ADC1's pins are all taken by radio, SD and battery.
LOOP_ADC_PIN = 12
LOOP_SHUNT_OHM = 120
# 100 kOhm over 100 kOhm [mesh].
SUPPLY_ADC_PIN = 1
SUPPLY_DIVIDER_MILLI = 2000
SUPPLY_SWITCH_PIN = None
SUPPLY_SWITCH_ON = 1

# RTC pins [chip] on the headers and free.
WAKE_PINS = (12, 15, 16)
LED_PIN = 37
LED_ON = 1

# [ard, mesh, mpy]. GPIO35 [ldo] is left alone: the radio is on, and its own sleep is enough.
RADIO_CHIP = "sx1262"
RADIO_SPI = 1
RADIO_SCK_PIN = 5
RADIO_MOSI_PIN = 6
RADIO_MISO_PIN = 3
RADIO_NSS_PIN = 7
RADIO_RST_PIN = 8
RADIO_BUSY_PIN = 34
# Not an RTC pin: a frame can not wake this board from deep sleep.
RADIO_DIO1_PIN = 33
RADIO_RXEN_PIN = None
RADIO_TCXO_MV = 1800
RADIO_DIO2_RF_SWITCH = True
RADIO_TX_DBM_MAX = 22

STRAPPING = {
    3: "wired so by the board; a radio that is not selected does not drive MISO, and it only chooses the JTAG",
}

# The upper end of what an ESP32-S3 takes awake [s3]; the upper end of what was measured [meas].
ACTIVE_MA = 45
DEEP_SLEEP_UA = 100
# +22 dBm at 868 MHz; boosted receive, rounded up; asleep with its settings kept, rounded up [sx].
RADIO_TX_MA = 118
RADIO_RX_MA = 6
RADIO_SLEEP_UA = 2

# Sources differ about the second I2C bus; the current awake was measured on another board with this chip.
UNCONFIRMED = ("SENSORS_SCL_PIN", "SENSORS_SDA_PIN", "ACTIVE_MA", "DEEP_SLEEP_UA")
