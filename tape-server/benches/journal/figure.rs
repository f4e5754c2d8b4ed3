//! Figures and how they are printed.

use std::time::Duration;

/// Prints the requested figures.
pub(crate) struct Figures {
    only: Option<String>,
}

impl Figures {
    pub(crate) fn new(only: Option<String>) -> Self {
        println!("# name value unit baseline ratio");
        Self { only }
    }

    /// Whether a figure is requested.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Prints a figure beside its baseline; where there is none, its place and the ratio are `NaN`.
    pub(crate) fn say(&mut self, name: &str, value: f64, unit: &str, baseline: f64) {
        println!("{name} {value:.3} {unit} {baseline:.3} {:.3}", value / baseline);
    }
}

/// The rate of `count` events in a time, by the second.
pub(crate) fn rate(count: usize, span: Duration) -> f64 {
    f64::from(u32::try_from(count).expect("no bench runs that long")) / span.as_secs_f64()
}

/// The median, in milliseconds.
pub(crate) fn p50_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}
