"""What the program promises in seconds, bytes and ratios, measured side by side in one run."""
