"""The node. node.py tells the whole story top to bottom; only hal/ touches the hardware."""
