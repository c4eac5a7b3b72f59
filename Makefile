# The commands of the README. Each is a script of the same name, so that it also runs without make.
#
#   make test                       format, lints, unit, end-to-end and doc tests
#   make test-long                  hundreds of kills, power cuts and readers, of which `make test` runs a sample
#   make demo                       a tour: publish, serve, verify, sync, update
#   make bench                      the comparison with other programs, into docs/performance.md
#   make bench WORKLOAD=publish     one workload of it; QUICK=1 for a small smoke test
#   make fuzz                       every fuzz target for one minute; FUZZ_SECONDS=600 for longer

.PHONY: test test-long demo bench fuzz

test:
	@scripts/test

test-long:
	@scripts/test-long

demo:
	@scripts/demo

bench:
	@WORKLOAD='$(WORKLOAD)' QUICK='$(QUICK)' RUNS='$(RUNS)' scripts/bench

fuzz:
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' scripts/fuzz
