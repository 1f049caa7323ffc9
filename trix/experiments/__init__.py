"""What is compared: arms, and the table of experiments."""
