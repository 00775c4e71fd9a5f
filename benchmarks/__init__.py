"""What waiting costs, measured beside what people use today: `make bench`."""
