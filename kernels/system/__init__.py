"""What the project asks of the operating system: command lines, files that are never half-written, caches."""
