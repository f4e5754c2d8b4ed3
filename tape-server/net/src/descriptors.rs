//! Bounds connections by the open descriptors that the process may have.

/// The least number of descriptors that connections leave to the rest of the process: its store, its files, its outgoing calls.
const HEADROOM_MIN: usize = 32;
/// One in this many descriptors is left to the rest of the process.
const HEADROOM_PART: usize = 8;
/// The assumed limit where the system reports none.
const ASSUMED: usize = 1_024;

/// The most connections for a process that wants `wanted`: as many as leave descriptors for the rest of the process.
#[must_use]
pub fn connections_max(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    within(wanted, open_files_max(&limits).unwrap_or(ASSUMED))
}

fn within(wanted: usize, descriptors: usize) -> usize {
    let headroom = HEADROOM_MIN.max(descriptors / HEADROOM_PART);
    wanted.min(descriptors.saturating_sub(headroom)).max(1)
}

/// The soft limit of open files, as Linux writes it.
fn open_files_max(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{open_files_max, within};

    #[test]
    fn connections_leave_descriptors_to_the_rest_of_the_process() {
        assert_eq!(within(4_096, 96), 64);
        assert_eq!(within(4_096, 1_024), 896);
        assert_eq!(within(4_096, 1 << 20), 4_096);
        assert_eq!(within(4_096, 16), 1);
    }

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            96                   524288               files     \n";
        assert_eq!(open_files_max(limits), Some(96));
        assert_eq!(
            open_files_max("Max open files  unlimited unlimited files"),
            Some(usize::MAX)
        );
        assert_eq!(open_files_max(""), None);
    }
}
