"""Child processes that make a file of another one and end: quantizing and converting. Each is a program of its own."""
