//! What holds for every value: a law is tried with many values that a machine made, and the
//! smallest one that breaks it is shown. For tests only. `PROPTEST_CASES` says how many (256),
//! `PROPTEST_RNG_SEED` which.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// `law` panics where it does not hold.
pub(crate) fn for_all<S: Strategy>(values: S, law: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&values, |value| {
        law(value);
        Ok(())
    });
    outcome.unwrap_or_else(|broken| panic!("{broken}"));
}
