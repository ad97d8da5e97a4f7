.PHONY: test test-long test-majors demo bench update

# Formatting, lints, unit and integration tests, on servers that the tests start themselves. Some of them wait most of the time: one
# more than there are processors keeps these busy.
test:
	scripts/install lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUST_TEST_THREADS=$$(($$(nproc) + 1)) cargo test --locked

# The same tests to their full extent: every fault at every step, every seed, the large data. Takes hours.
test-long:
	scripts/install
	PGDETOUR_TEST_EXTENT=long cargo test --locked --test main

# The journeys between PostgreSQL's other majors, fetched into target/majors. PAIRS="14:18 16:16" runs these alone.
test-majors:
	scripts/install
	scripts/majors $(PAIRS)

# The whole trip on two throwaway servers and a PgBouncer, under load; ends with a report.
demo:
	scripts/install
	cargo build --locked --bin pgdetour --example demo
	cargo run --locked --quiet --example demo

# Speed as ratios to other ways, measured in the same run; one JSON line each.
bench:
	scripts/install
	cargo bench --locked

# Writes the man pages, the completions and the snapshots again from the code.
update:
	UPDATE=1 cargo test --locked
