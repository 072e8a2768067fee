"""A stand-in for torchvision in tests: the few names that timm imports, most of which no network uses.

timm requires torchvision, whose build must be that of torch, and not every index has one for the CPU.
"""
