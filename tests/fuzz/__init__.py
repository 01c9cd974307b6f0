"""Input of strangers, made by the ten thousand, against everything that reads some: `make fuzz`."""
