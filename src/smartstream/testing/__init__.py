"""What tests, the demo and the benchmarks stand on."""
