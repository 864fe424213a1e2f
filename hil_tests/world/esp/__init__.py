"""ESP chips in software that the real esptool takes for chips; the README of this folder has the parts."""
