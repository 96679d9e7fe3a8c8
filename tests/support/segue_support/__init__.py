"""Support for Segue's own tests: fakes, emulators, real processes, and the simulator."""
