"""What the hardware is: chip, flash, pins. One folder per board, constants only; virtual/ is one in software."""
