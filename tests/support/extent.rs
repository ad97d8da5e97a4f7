//! How much of a test is run: a part that fits every run, or all of it.

/// `short` in an ordinary run; `long` where `PGDETOUR_TEST_EXTENT=long` asks for all, as `make test-long` does.
pub fn pick<T>(short: T, long: T) -> T {
    match std::env::var("PGDETOUR_TEST_EXTENT") {
        Ok(extent) if extent == "long" => long,
        _ => short,
    }
}
