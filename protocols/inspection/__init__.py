"""What our own bytes say, for people: messages, frames, packets, datagrams. Pure; `tidegate inspect` reads and prints.

Everything takes hostile input: what it can not say of bytes it says as a problem.
"""
