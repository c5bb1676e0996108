//! Durations by what they are of, and their table.

use std::collections::BTreeMap;
use std::time::Duration;

/// Durations under names.
#[derive(Debug)]
pub struct Times<K>(BTreeMap<K, Vec<Duration>>);

impl<K: Ord> Default for Times<K> {
    fn default() -> Self {
        Times(BTreeMap::new())
    }
}

impl<K: Ord + AsRef<str>> Times<K> {
    pub fn add(&mut self, name: K, took: Duration) {
        self.0.entry(name).or_default().push(took);
    }

    /// Count, median and worst under each name.
    pub fn print(&self, title: &str) {
        println!(
            "{title:<36}{:>6}{:>10}{:>10}",
            "times", "median s", "worst s"
        );
        for (name, times) in &self.0 {
            let (median, worst) = median_and_worst(times);
            println!(
                "  {:<34}{:>6}{:>10.2}{:>10.2}",
                name.as_ref(),
                times.len(),
                median.as_secs_f64(),
                worst.as_secs_f64()
            );
        }
    }
}

/// The middle one and the longest; of two middle ones the longer.
pub fn median_and_worst(times: &[Duration]) -> (Duration, Duration) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median, times.last().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_worst() {
        let times = [5, 1, 3].map(Duration::from_secs);
        let found = median_and_worst(&times);
        assert_eq!(found, (Duration::from_secs(3), Duration::from_secs(5)));
        assert_eq!(median_and_worst(&[]), (Duration::ZERO, Duration::ZERO));
    }
}
