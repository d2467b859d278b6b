"""The servers that `make bench` compares with: constants, do-nothings, and the obvious gateway."""
