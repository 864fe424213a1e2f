"""What the hardware is: chip, flash, pins. One folder of constants per board; virtual/ is a board in software."""
