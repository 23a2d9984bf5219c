"""What is known about speed: records of measurements, a cost model over them, and their search."""
