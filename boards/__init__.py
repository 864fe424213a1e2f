"""What the hardware is: chip, flash, pins. A folder of constants per board; virtual/ is a board in software."""
