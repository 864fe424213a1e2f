"""What the hardware is: chip, flash, pins. A folder of constants per board; virtual/ is one in software."""
