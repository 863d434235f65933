"""What is installed, reachable and switched on; each module looks at one part of it."""
